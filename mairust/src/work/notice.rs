//! Whom a failure notice goes to: the mailbox that the failed message was sent from, or, when it was
//! sent on for an alias, whoever wrote to that (RFC 5321 §3.9.1: the sender stays as it was).

use mairust_core::{Body, Content, EmailAddress, MessageDsn, MessageId, ReversePath, Timestamp};
use mairust_store::{Acceptance, MessageRow, StoreError, StoreErrorKind};

use super::Workers;
use super::dsn::{Failure, Notice};
use crate::distribution::{Destination, Distribution, Keeping, LocalDestination, Original};
use crate::expansion::{Expansion, expand};
use crate::outbound::Outbound;

impl Workers {
    /// The notice about failures, ready to be accepted together with them.
    pub(super) async fn notice(
        &self,
        row: &MessageRow,
        failed: &Body,
        sender: &EmailAddress,
        failures: &[Failure],
        now: Timestamp,
    ) -> Result<Acceptance, StoreError> {
        let raw = self.render(row, failed, sender, failures, now).await?;
        let notice = Original {
            prefix: String::new(),
            content: Content::parse(&raw),
            body: raw.into(),
            sender: ReversePath::Null,
            dsn: MessageDsn::default(),
            auth_results: None,
            spam: None,
            received_at: now,
        };
        let destination = self.goes_to(row, sender).await?;
        let distribution = Distribution::of(&[destination], Keeping::inbox(Outbound::Deliver, now)).pop();
        let distribution = distribution.ok_or_else(|| unwritten(&"it goes nowhere"))?;
        Ok(distribution.acceptance(&notice, &self.hooks))
    }

    async fn goes_to(&self, row: &MessageRow, sender: &EmailAddress) -> Result<Destination, StoreError> {
        let (directory, tenant) = (self.storage.directory(), row.tenant);
        let forwards = directory.tenant(tenant).await?.map(|tenant| tenant.forwards);
        if forwards != Some(row.mailbox) {
            let (address, mailboxes) = (sender.clone(), vec![row.mailbox]);
            return Ok(Destination::Local(LocalDestination { tenant, address, mailboxes, forwards: None }));
        }
        match expand(directory, sender).await? {
            Expansion::Places(places) if places.tenant == tenant => Ok(places.destination(sender.clone())),
            _ => {
                let (address, forwards) = (row.address.clone(), Some((row.mailbox, vec![sender.clone()])));
                Ok(Destination::Local(LocalDestination { tenant, address, mailboxes: Vec::new(), forwards }))
            }
        }
    }

    /// The notice as a message.
    async fn render(
        &self,
        row: &MessageRow,
        failed: &Body,
        sender: &EmailAddress,
        failures: &[Failure],
        now: Timestamp,
    ) -> Result<bytes::Bytes, StoreError> {
        let (hostname, sender, failures) = (self.hostname.clone(), sender.clone(), failures.to_vec());
        let (id, arrived, original) = (MessageId::new(now), row.received_at, failed.clone());
        let render = move || {
            let notice = Notice {
                hostname: &hostname,
                id,
                sender: &sender,
                arrived,
                now,
                failures: &failures,
                original: &original,
            };
            notice.render()
        };
        tokio::task::spawn_blocking(render).await.map_err(|error| unwritten(&error))?.map_err(|error| unwritten(&error))
    }
}

fn unwritten(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "write notice", error)
}
