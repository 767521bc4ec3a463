//! Where mail for an address goes, and how much fits there.

use mairust_core::{EmailAddress, MailboxId, TenantId, UserId};

/// Where mail for an address goes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resolution {
    /// To the targets of an alias.
    Alias(AliasRoute),
    /// Nobody has the address; the catch-all of its domain takes the mail.
    CatchAll(AliasRoute),
    /// It takes no mail: the tenant, the domain, the user or the alias is disabled.
    Disabled {
        /// Whose it is.
        tenant: TenantId,
    },
    /// The domain is nobody's here.
    ForeignDomain,
    /// Into a mailbox.
    Mailbox(MailboxRoute),
    /// The domain is ours, the address is not known.
    UnknownAddress {
        /// Whose domain it is.
        tenant: TenantId,
    },
}

/// A mailbox that takes mail for an address.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MailboxRoute {
    /// Whose it is.
    pub tenant: TenantId,
    /// Which.
    pub mailbox: MailboxId,
    /// Who owns it.
    pub user: UserId,
    /// The address as it was made: without a tag, and at the domain that is no alias.
    pub address: EmailAddress,
    /// How much it may hold, and holds.
    pub quota: Quota,
}

/// Addresses that mail goes on to. They are of the same tenant, or elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AliasRoute {
    /// Whose it is.
    pub tenant: TenantId,
    /// Where it leads, in the order given.
    pub targets: Vec<EmailAddress>,
    /// The mailbox for what is sent on to other servers.
    pub forwards: MailboxId,
}

/// How much a mailbox may hold, and holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quota {
    /// How much it may hold.
    pub limit: QuotaLimit,
    /// The size of all its messages in bytes, as stored. Changed with them in one step.
    pub used: u64,
}

/// How much a mailbox may hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum QuotaLimit {
    /// This many bytes.
    Bytes(u64),
    /// What the server allows who has no limit of their own.
    #[default]
    Default,
    /// All there is.
    Unlimited,
}

impl Resolution {
    /// Whose the address is; `None` if it is nobody's here.
    pub fn tenant(&self) -> Option<TenantId> {
        match self {
            Self::Alias(route) | Self::CatchAll(route) => Some(route.tenant),
            Self::Disabled { tenant } | Self::UnknownAddress { tenant } => Some(*tenant),
            Self::ForeignDomain => None,
            Self::Mailbox(route) => Some(route.tenant),
        }
    }
}

impl QuotaLimit {
    /// In bytes, where `default` holds for who has no limit of their own; `None` is no limit.
    pub fn bytes(self, default: Option<u64>) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Default => default,
            Self::Unlimited => None,
        }
    }
}
