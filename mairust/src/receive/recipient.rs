//! RCPT TO: where mail for an address goes, or why it is not taken.

use std::sync::Arc;

use mairust_core::{Domain, EmailAddress, EnhancedCode, ForwardPath, LocalPart, MailboxId, Rejection, TenantId};
use mairust_smtp::server::{Grant, Received};
use mairust_store::{Resolution, StorageBackend};

use super::refuse_for_store;

/// Answers RCPT TO from the directory.
#[derive(Debug)]
pub(crate) struct Recipients {
    storage: Arc<dyn StorageBackend>,
    hostname: Domain,
    catch_all: Option<CatchAll>,
}

/// A mailbox that takes mail from strangers to whatever address nobody has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatchAll {
    /// Whose mailbox it is.
    pub tenant: TenantId,
    /// The mailbox.
    pub mailbox: MailboxId,
}

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Into a mailbox here.
    Mailbox { tenant: TenantId, mailbox: MailboxId, address: EmailAddress },
    /// To another server.
    Remote(EmailAddress),
}

impl Destination {
    /// The address as the sender wrote it.
    pub(crate) fn address(&self) -> &EmailAddress {
        match self {
            Self::Mailbox { address, .. } | Self::Remote(address) => address,
        }
    }

    /// Tenant and mailbox, if it is here.
    pub(crate) fn local(&self) -> Option<(TenantId, MailboxId)> {
        match self {
            Self::Mailbox { tenant, mailbox, .. } => Some((*tenant, *mailbox)),
            Self::Remote(_) => None,
        }
    }
}

/// What was found out about the recipients of a message when they were granted.
pub(crate) fn destinations(message: &Received) -> Result<Vec<Destination>, Rejection> {
    let granted = |grant: &Grant| grant.get::<Destination>().cloned();
    let found: Option<Vec<_>> = message.recipients.iter().map(|recipient| granted(&recipient.grant)).collect();
    found.ok_or_else(|| Rejection::unavailable("a recipient was granted by somebody else"))
}

impl Recipients {
    pub(crate) fn new(storage: Arc<dyn StorageBackend>, hostname: Domain, catch_all: Option<CatchAll>) -> Self {
        Self { storage, hostname, catch_all }
    }

    /// For mail from another server: only what is ours. This server relays for nobody, however
    /// the address is spelled.
    pub(crate) async fn for_stranger(&self, to: &ForwardPath) -> Result<Destination, Rejection> {
        let address = self.address(to);
        match (self.resolve(&address).await?, self.catch_all) {
            (Resolution::Mailbox { tenant, mailbox }, _) => Ok(Destination::Mailbox { tenant, mailbox, address }),
            (_, Some(CatchAll { tenant, mailbox })) => Ok(Destination::Mailbox { tenant, mailbox, address }),
            (Resolution::ForeignDomain, None) => {
                Err(Rejection::new(550, EnhancedCode(5, 7, 1), "Relaying is not permitted"))
            }
            (_, None) => Err(unknown_address()),
        }
    }

    /// For mail from a user who logged in: ours, or to be sent on.
    pub(crate) async fn for_user(&self, to: &ForwardPath) -> Result<Destination, Rejection> {
        let address = self.address(to);
        match self.resolve(&address).await? {
            Resolution::Mailbox { tenant, mailbox } => Ok(Destination::Mailbox { tenant, mailbox, address }),
            Resolution::ForeignDomain => Ok(Destination::Remote(address)),
            _ => Err(unknown_address()),
        }
    }

    async fn resolve(&self, address: &EmailAddress) -> Result<Resolution, Rejection> {
        self.storage.directory().resolve(address).await.map_err(|error| refuse_for_store(&error))
    }

    /// The bare `<postmaster>` is the one of this host.
    fn address(&self, to: &ForwardPath) -> EmailAddress {
        match to {
            ForwardPath::Address(address) => address.clone(),
            ForwardPath::Postmaster => {
                let local = LocalPart::parse("postmaster").expect("the name is a valid local part");
                EmailAddress::new(local, self.hostname.clone())
            }
        }
    }
}

fn unknown_address() -> Rejection {
    Rejection::new(550, EnhancedCode(5, 1, 1), "No such address here")
}
