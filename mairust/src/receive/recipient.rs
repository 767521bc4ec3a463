//! RCPT TO: where mail for an address goes, or why it is not taken.

use std::sync::Arc;

use mairust_core::{
    Domain, EmailAddress, EnhancedCode, ForwardPath, LocalPart, MailboxId, RecipientDsn, Rejection, TenantId,
};
use mairust_smtp::server::{Grant, Received};
use mairust_store::directory::DEFAULT_TENANT;
use mairust_store::{MailboxRoute, StorageBackend, StoreError};

use super::refuse_for_store;
use crate::distribution::{Destination, LocalDestination, RemoteDestination, ReturnedDestination};
use crate::expansion::{Broken, Expansion, Places, expand};
use crate::return_path::{Owner, ReturnPaths};

/// Answers RCPT TO from the directory.
#[derive(Debug, Clone)]
pub(crate) struct Recipients {
    pub(crate) storage: Arc<dyn StorageBackend>,
    pub(crate) hostname: Domain,
    pub(crate) catch_all: Option<CatchAll>,
    pub(crate) postmaster: Option<EmailAddress>,
    /// What a mailbox may hold that has no limit of its own.
    pub(crate) quota: Option<u64>,
    /// Where mail to other servers comes back; `None` if there are no such addresses.
    pub(crate) return_paths: Option<Arc<ReturnPaths>>,
}

/// A mailbox that takes mail from strangers to whatever address nobody has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatchAll {
    /// Whose mailbox it is.
    pub tenant: TenantId,
    /// The mailbox.
    pub mailbox: MailboxId,
}

/// What was found out about the recipients of a message when they were granted.
pub(crate) fn destinations(message: &Received) -> Result<Vec<Destination>, Rejection> {
    let granted = |grant: &Grant| grant.get::<Destination>().cloned();
    let found: Option<Vec<_>> = message.recipients.iter().map(|recipient| granted(&recipient.grant)).collect();
    found.ok_or_else(|| Rejection::unavailable("a recipient was granted by somebody else"))
}

impl Recipients {
    /// For mail from another server: only what is ours. This server relays for nobody, however
    /// the address is spelled. `size` is what the client has announced.
    pub(crate) async fn for_stranger(&self, to: &ForwardPath, size: Option<u64>) -> Result<Destination, Rejection> {
        let address = self.address(to);
        match (self.find(to, &address, size).await, self.catch_all) {
            (Ok(Destination::Remote(_)), None) => {
                Err(Rejection::new(550, EnhancedCode(5, 7, 1), "Relaying is not permitted"))
            }
            (Ok(Destination::Remote(_)), Some(catch_all)) => Ok(catch_all.destination(address)),
            (Err(rejection), Some(catch_all)) if rejection.reply().code() == 550 => Ok(catch_all.destination(address)),
            (found, _) => found,
        }
    }

    /// For mail from whoever may send anywhere: ours, or to be sent on. What they send to a return path reports
    /// nothing, and goes where mail for the sender goes.
    pub(crate) async fn for_author(&self, to: &ForwardPath, size: Option<u64>) -> Result<Destination, Rejection> {
        match self.find(to, &self.address(to), size).await? {
            Destination::Returned(returned) => returned.refused.map_or(Ok(Destination::Local(returned.local)), Err),
            found => Ok(found),
        }
    }

    /// Says in the log when nobody would get mail for the postmaster, which every server must take
    /// (RFC 5321 §4.5.1).
    pub(crate) async fn check_postmaster(&self) {
        match self.for_stranger(&ForwardPath::Postmaster, None).await {
            Ok(_) => {}
            Err(rejection) if rejection.reply().code() < 500 => {
                tracing::warn!(
                    component = "recipients",
                    reason = rejection.reason(),
                    "the postmaster is not known yet"
                );
            }
            Err(_) => tracing::warn!(
                component = "recipients",
                "mail for the postmaster leads nowhere and is refused: add a user, or set server.postmaster"
            ),
        }
    }

    async fn find(
        &self,
        to: &ForwardPath,
        address: &EmailAddress,
        size: Option<u64>,
    ) -> Result<Destination, Rejection> {
        let owner = match &self.return_paths {
            Some(paths) => paths.owner(address).await.map_err(|error| refuse_for_store(&error))?,
            None => None,
        };
        match owner {
            Some(owner) => Ok(Destination::Returned(self.returned(address, owner, size).await)),
            None => self.directed(to, address, size).await,
        }
    }

    /// Where mail goes that comes back: where mail for its sender does, or to where the message was sent from.
    async fn returned(&self, address: &EmailAddress, owner: Owner, size: Option<u64>) -> ReturnedDestination {
        let Owner { recipient, message } = owner;
        let tenant = message.tenant;
        let sender = message.sender.address().unwrap_or(&message.address).clone();
        let (local, refused) = match self.directed(&ForwardPath::Address(sender.clone()), &sender, size).await {
            Ok(Destination::Local(local)) if local.tenant == tenant => (Some(local), None),
            Ok(_) => (None, Some(refusal(&sender, &Expansion::Foreign))),
            Err(rejection) => (None, Some(rejection)),
        };
        let (mailboxes, dsn) = (vec![message.mailbox], RecipientDsn::default());
        let sent_from = LocalDestination { tenant, address: sender, mailboxes, forwards: None, dsn };
        ReturnedDestination {
            address: address.clone(),
            local: local.unwrap_or(sent_from),
            recipient: recipient.id,
            was_for: recipient.address,
            notify: recipient.dsn.notify,
            refused,
        }
    }

    /// Where the directory says that mail goes.
    async fn directed(
        &self,
        to: &ForwardPath,
        address: &EmailAddress,
        size: Option<u64>,
    ) -> Result<Destination, Rejection> {
        let expanded = expand(self.storage.directory(), address).await.map_err(|error| refuse_for_store(&error))?;
        let expansion = match expanded {
            Expansion::Places(places) => {
                if !is_postmaster(address) {
                    self.check_quota(&places, size.unwrap_or(0))?;
                }
                return Ok(places.destination(address.clone()));
            }
            // `<postmaster>` without a domain is ours, whosever domain our name is.
            Expansion::Foreign if *to != ForwardPath::Postmaster => {
                let (address, dsn) = (address.clone(), RecipientDsn::default());
                return Ok(Destination::Remote(RemoteDestination { address, dsn }));
            }
            other => other,
        };
        if is_postmaster(address) {
            let found = self.postmaster(expansion.tenant()).await.map_err(|error| refuse_for_store(&error))?;
            if let Some(places) = found {
                return Ok(places.destination(address.clone()));
            }
        }
        Err(refusal(address, &expansion))
    }

    /// Where mail for a postmaster goes whose address nobody has: to the postmaster of this server,
    /// the tenant's oldest user, or that of the default tenant.
    async fn postmaster(&self, tenant: Option<TenantId>) -> Result<Option<Places>, StoreError> {
        let directory = self.storage.directory();
        if let Some(address) = &self.postmaster {
            match expand(directory, address).await? {
                Expansion::Places(places) => return Ok(Some(places)),
                other => {
                    tracing::warn!(component = "recipients", %address, leads = ?other, "server.postmaster takes no mail")
                }
            }
        }
        let default = directory.tenant_by_name(DEFAULT_TENANT).await?.map(|tenant| tenant.id);
        for tenant in tenant.into_iter().chain(default) {
            if let Some(user) = directory.oldest_user(tenant).await?
                && let Expansion::Places(places) = expand(directory, &user.address).await?
            {
                return Ok(Some(places));
            }
        }
        Ok(None)
    }

    /// Refuses an address whose mailboxes are all full. One that is full among others, or beside
    /// what is sent on, takes the message all the same: nobody else is to miss it for that.
    fn check_quota(&self, places: &Places, size: u64) -> Result<(), Rejection> {
        let limit = |route: &MailboxRoute| route.quota.limit.bytes(self.quota).unwrap_or(u64::MAX);
        let fits = |route: &MailboxRoute| {
            route.quota.used < limit(route) && route.quota.used.saturating_add(size) <= limit(route)
        };
        if places.forwards.is_some() || places.mailboxes.iter().any(fits) {
            return Ok(());
        }
        if places.mailboxes.iter().all(|route| size > limit(route)) {
            return Err(Rejection::new(552, EnhancedCode(5, 2, 2), "The message is larger than the mailbox"));
        }
        // RFC 3463 §3.3: X.2.2 mailbox full. Temporary, for its owner may make room.
        Err(Rejection::new(452, EnhancedCode(4, 2, 2), "The mailbox is full, please try again later"))
    }

    /// The bare `<postmaster>` is the one of this host.
    fn address(&self, to: &ForwardPath) -> EmailAddress {
        match to {
            ForwardPath::Address(address) => address.clone(),
            ForwardPath::Postmaster => {
                let local = LocalPart::parse(POSTMASTER).expect("the name is a valid local part");
                EmailAddress::new(local, self.hostname.clone())
            }
        }
    }
}

impl CatchAll {
    fn destination(self, address: EmailAddress) -> Destination {
        let (tenant, mailboxes) = (self.tenant, vec![self.mailbox]);
        let dsn = RecipientDsn::default();
        Destination::Local(LocalDestination { tenant, address, mailboxes, forwards: None, dsn })
    }
}

impl Places {
    /// As the destination of mail for `address`.
    pub(crate) fn destination(self, address: EmailAddress) -> Destination {
        let Self { tenant, mailboxes, forwards } = self;
        let mailboxes = mailboxes.into_iter().map(|route| route.mailbox).collect();
        let dsn = RecipientDsn::default();
        Destination::Local(LocalDestination { tenant, address, mailboxes, forwards, dsn })
    }
}

/// RFC 5321 §4.5.1: in whatever case.
fn is_postmaster(address: &EmailAddress) -> bool {
    address.local().as_str().eq_ignore_ascii_case(POSTMASTER)
}

/// What is said about an address of ours that leads to no place.
fn refusal(address: &EmailAddress, expansion: &Expansion) -> Rejection {
    let (code, text) = match expansion {
        Expansion::Broken(_, Broken::Loop) => (EnhancedCode(5, 4, 6), "The address leads back to itself"),
        // RFC 3463 §3.3: X.2.4 mailing list expansion problem.
        Expansion::Broken(..) => (EnhancedCode(5, 2, 4), "The address can't be expanded"),
        Expansion::Disabled(_) => (EnhancedCode(5, 2, 1), "The address takes no mail"),
        _ => (EnhancedCode(5, 1, 1), "No such address here"),
    };
    if let Expansion::Broken(_, why) = expansion {
        tracing::warn!(component = "recipients", %address, ?why, "an alias can't be followed");
    }
    Rejection::new(550, code, text)
}

const POSTMASTER: &str = "postmaster";
