//! Whom a notice about deliveries goes to: the mailbox that the message was sent from, or, when it
//! was sent on for an alias, whoever wrote to that (RFC 5321 §3.9.1: the sender stays as it was).

use mairust_core::{
    Body, Content, EmailAddress, MessageDsn, MessageId, RecipientDsn, ReversePath, TenantId, Timestamp, TlsWish,
};
use mairust_store::{Acceptance, MessageRow, StoreError, StoreErrorKind};

use super::Workers;
use super::dsn::{Notice, Report};
use super::internal::Shown;
use crate::distribution::{Destination, Distribution, Keeping, LocalDestination, Original};
use crate::expansion::{Expansion, expand};
use crate::hooks::BoundHooks;
use crate::outbound::Outbound;
use crate::signing::Signing;

impl Workers {
    /// The notice about these recipients, ready to be accepted together with what it tells.
    pub(super) async fn notice(
        &self,
        row: &MessageRow,
        original: &Body,
        sender: &EmailAddress,
        reports: Vec<Report>,
        now: Timestamp,
    ) -> Result<Acceptance, StoreError> {
        let notice = Notice {
            hostname: self.hostname.clone(),
            id: MessageId::new(now),
            sender: sender.clone(),
            arrived: row.received_at,
            now,
            dsn: row.dsn.clone(),
            tls: row.tls,
            reports,
            original: original.clone(),
        };
        let destination = self.goes_to(row, sender).await?;
        let distribution = Distribution::of(&[destination], Keeping::inbox(Outbound::Deliver, now)).pop();
        let distribution = distribution.ok_or_else(|| unwritten(&"it goes nowhere"))?;
        let (original, shown) = notice.write(&self.signing, &self.hooks, row.tenant).await?;
        shown.note(&self.hooks, distribution.id());
        Ok(distribution.acceptance(&original, self.hooks.current().await?))
    }

    async fn goes_to(&self, row: &MessageRow, sender: &EmailAddress) -> Result<Destination, StoreError> {
        let (directory, tenant) = (self.storage.directory(), row.tenant);
        // Nobody is told about a notice.
        let dsn = RecipientDsn::default();
        let forwards = directory.tenant(tenant).await?.map(|tenant| tenant.forwards);
        if forwards != Some(row.mailbox) {
            let (address, mailboxes) = (sender.clone(), vec![row.mailbox]);
            return Ok(Destination::Local(LocalDestination { tenant, address, mailboxes, forwards: None, dsn }));
        }
        match expand(directory, sender).await? {
            Expansion::Places(places) if places.tenant == tenant => Ok(places.destination(sender.clone())),
            _ => {
                let (address, forwards) = (row.address.clone(), Some((row.mailbox, vec![sender.clone()])));
                Ok(Destination::Local(LocalDestination { tenant, address, mailboxes: Vec::new(), forwards, dsn }))
            }
        }
    }
}

impl Notice {
    /// The notice as a message that is to be kept, with what hooks want done with it, signed; written off the async
    /// threads.
    ///
    /// # Errors
    /// When the original message can't be read, or the store can't tell which hooks there are.
    pub(crate) async fn write(
        self,
        signing: &Signing,
        hooks: &BoundHooks,
        tenant: TenantId,
    ) -> Result<(Original, Shown), StoreError> {
        let (now, hostname, receiver) = (self.now, self.hostname.clone(), self.sender.clone());
        // RFC 8689 §5: what a notice tells of a message is as confidential as the message.
        let tls = if self.tls == TlsWish::Required { TlsWish::Required } else { TlsWish::AsDemanded };
        let written = tokio::task::spawn_blocking(move || self.render()).await.map_err(|error| unwritten(&error))?;
        let raw = written.map_err(|error| unwritten(&error))?;
        let (content, body) = (Content::parse(&raw), Body::from(raw));
        let shown = Shown::new(hooks, tenant, &receiver, &body, &content).await?;
        let (added, marks) = (&shown.wanted.fields, shown.wanted.marks.clone());
        let original = Original {
            prefix: signing.sign_notice(&hostname, tenant, receiver.domain(), added, &body).await + added,
            content,
            body,
            sender: ReversePath::Null,
            dsn: MessageDsn::default(),
            tls,
            auth_results: None,
            spam: None,
            arrival: None,
            fingerprint: None,
            received_at: now,
            marks,
        };
        Ok((original, shown))
    }
}

fn unwritten(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "write notice", error)
}
