//! Mail to other servers, from the moment when it is taken.

use std::collections::BTreeSet;

use mairust_core::{Domain, MessageId, RecipientId, TenantId, Timestamp};
use mairust_store::{DeliveryState, MessageStatus, NewJob, NewRecipient};

use crate::distribution::RemoteDestination;
use crate::work::job::Job;

/// What becomes of mail to other servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outbound {
    /// It is kept and shown, and never leaves: for development.
    Capture,
    /// It is queued for delivery.
    Deliver,
}

impl Outbound {
    /// The status of a message that has recipients elsewhere.
    pub(crate) fn status(self) -> MessageStatus {
        match self {
            Self::Capture => MessageStatus::Captured,
            Self::Deliver => MessageStatus::Queued,
        }
    }

    /// The state of those recipients.
    pub(crate) fn state(self) -> DeliveryState {
        match self {
            Self::Capture => DeliveryState::Captured,
            Self::Deliver => DeliveryState::Pending,
        }
    }

    /// The recipients of a message as they are stored.
    pub(crate) fn recipients<'a>(
        self,
        message: MessageId,
        to: impl IntoIterator<Item = &'a RemoteDestination>,
        now: Timestamp,
    ) -> Vec<NewRecipient> {
        let recipient = |to: &RemoteDestination| NewRecipient {
            id: RecipientId::new(now),
            message,
            address: to.address.clone(),
            state: self.state(),
            dsn: to.dsn.clone(),
        };
        to.into_iter().map(recipient).collect()
    }

    /// The work of reaching them: one job for each domain, due at the second of these times.
    pub(crate) fn jobs<'a>(
        self,
        message: MessageId,
        to: impl IntoIterator<Item = &'a RemoteDestination>,
        tenant: TenantId,
        (now, due): (Timestamp, Timestamp),
    ) -> Vec<NewJob> {
        if self == Self::Capture {
            return Vec::new();
        }
        let domains: BTreeSet<&Domain> = to.into_iter().map(|to| to.address.domain()).collect();
        let job = |domain: &Domain| Job::Deliver { message, domain: domain.clone() }.queued(tenant, now);
        domains.into_iter().map(|domain| NewJob { not_before: due, ..job(domain) }).collect()
    }
}
