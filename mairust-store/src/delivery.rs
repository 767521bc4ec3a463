//! Recipients of outgoing mail, and what became of them.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::{EmailAddress, MessageId, RecipientDsn, RecipientId, TenantId, Timestamp};

use crate::error::{StoreError, StoreErrorKind};
use crate::invariant::{Invariant, InvariantCheck, InvariantPage, InvariantPosition};

/// A recipient outside, as accepted.
#[derive(Debug, Clone)]
pub struct NewRecipient {
    /// Its id.
    pub id: RecipientId,
    /// The outbound message.
    pub message: MessageId,
    /// Where it goes.
    pub address: EmailAddress,
    /// `Pending`, or `Captured` where nothing is sent.
    pub state: DeliveryState,
    /// What the sender asks about notices.
    pub dsn: RecipientDsn,
}

/// The state of one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeliveryState {
    /// Given up, or taken by the recipient's server and [reported](AttemptOutcome::Reported) later; the sender was
    /// told.
    Bounced,
    /// An operator ended it; nobody was told.
    Cancelled,
    /// Caught by the development server.
    Captured,
    /// An attempt failed, and the next one may not.
    Deferred,
    /// The recipient's server took it.
    Delivered,
    /// It waits, and its delivery is held. Never stored: it follows from the [queue](crate::QueueBackend).
    Held,
    /// The recipient's server may have taken it: the attempt broke off between the end of the message and the
    /// answer to it.
    InDoubt,
    /// No attempt yet.
    Pending,
}

/// One recipient of an outbound message.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DeliveryRow {
    /// Its id.
    pub id: RecipientId,
    /// The outbound message.
    pub message: MessageId,
    /// Where it goes.
    pub address: EmailAddress,
    /// What became of it so far.
    pub state: DeliveryState,
    /// Number of attempts so far.
    pub attempts: u32,
    /// The last attempt's answer or error, for people.
    pub last_result: Option<String>,
    /// When the state was entered.
    pub updated_at: Timestamp,
    /// What the sender asks about notices.
    pub dsn: RecipientDsn,
    /// When the sender was told that the message is late, if that happened.
    pub delay_told_at: Option<Timestamp>,
}

/// The result of one attempt for one recipient.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// The recipient.
    pub recipient: RecipientId,
    /// When.
    pub at: Timestamp,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// The host that answered, if one was reached: a name or `address:port`.
    pub host: Option<String>,
    /// The reply or the error, for people.
    pub result: String,
    /// The notice that tells the sender of it, if there is one; accepted in the same step. After an attempt
    /// that is deferred it tells that the message is late, which a sender hears once for each recipient.
    pub notice: Option<MessageId>,
    /// What else was known about it, as JSON; opaque to the store.
    pub facts: Option<String>,
}

/// How an attempt ended.
///
/// At most one attempt of a recipient is [`Begun`](Self::Begun): the next one that is recorded takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttemptOutcome {
    /// Not yet: the end of the message is about to be sent, and what comes of it is not recorded. When nobody is
    /// working at it any more, it is in doubt.
    Begun,
    /// There was none: an operator ended the delivery.
    Cancelled,
    /// To be tried again.
    Deferred,
    /// Taken.
    Delivered,
    /// Refused, or given up.
    Failed,
    /// Not known: the recipient's server may have taken it.
    InDoubt,
    /// There was none: the recipient's server took the message before, or may have taken it, and a report came back
    /// that it could not be delivered (RFC 3464).
    ///
    /// It is recorded for recipients who are [delivered](DeliveryState::Delivered) or
    /// [in doubt](DeliveryState::InDoubt) and of whom no attempt is [begun](Self::Begun), and makes them bounced.
    /// For all others it is refused with `Conflict`, and all of its acceptance with it: that mail came back is told
    /// once.
    Reported,
}

/// Recipients of outgoing mail. They are added and moved on by
/// [`MessageStore::accept`](crate::MessageStore::accept) only.
#[async_trait]
pub trait Deliveries: fmt::Debug + Send + Sync + 'static {
    /// The recipients of a message, in order of their ids; empty if the tenant has no such message.
    async fn recipients(&self, tenant: TenantId, message: MessageId) -> Result<Vec<DeliveryRow>, StoreError>;

    /// One recipient, whatever the message.
    async fn recipient(&self, tenant: TenantId, id: RecipientId) -> Result<Option<DeliveryRow>, StoreError>;

    /// All attempts for a message, oldest first.
    async fn attempts(&self, tenant: TenantId, message: MessageId) -> Result<Vec<Attempt>, StoreError>;

    /// Which rows break a rule: looks at up to `limit` rows behind `after`, of all tenants, and
    /// changes nothing. [`invariant::audit`](crate::invariant::audit) calls it for all of them.
    async fn check_invariant(
        &self,
        invariant: Invariant,
        check: &InvariantCheck,
        after: Option<InvariantPosition>,
        limit: u32,
    ) -> Result<InvariantPage, StoreError>;
}

impl DeliveryState {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Bounced,
        Self::Cancelled,
        Self::Captured,
        Self::Deferred,
        Self::Delivered,
        Self::Held,
        Self::InDoubt,
        Self::Pending,
    ];

    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bounced => "bounced",
            Self::Cancelled => "cancelled",
            Self::Captured => "captured",
            Self::Deferred => "deferred",
            Self::Delivered => "delivered",
            Self::Held => "held",
            Self::InDoubt => "in_doubt",
            Self::Pending => "pending",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether nothing more is done about it.
    pub fn is_settled(self) -> bool {
        !matches!(self, Self::Deferred | Self::Held | Self::InDoubt | Self::Pending)
    }
}

impl Attempt {
    /// Whether the sender hears with it that the message is late.
    pub fn tells_of_delay(&self) -> bool {
        self.outcome == AttemptOutcome::Deferred && self.notice.is_some()
    }

    /// The answer to one that [tells of a delay](Self::tells_of_delay) when the sender knows, or nothing is late
    /// any more.
    pub(crate) fn told_before(&self) -> StoreError {
        StoreError::new(StoreErrorKind::Conflict, "accept", self.recipient)
    }

    /// Whether it changes the number of attempts: an operator who ends a delivery, and a report that comes back, try
    /// nothing.
    pub(crate) fn is_a_try(&self) -> bool {
        !matches!(self.outcome, AttemptOutcome::Cancelled | AttemptOutcome::Reported)
    }
}

impl AttemptOutcome {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Begun, Self::Cancelled, Self::Deferred, Self::Delivered, Self::Failed, Self::InDoubt, Self::Reported];

    /// The recipient's state after it; `None` if it changes nothing yet.
    pub fn state(self) -> Option<DeliveryState> {
        match self {
            Self::Begun => None,
            Self::Cancelled => Some(DeliveryState::Cancelled),
            Self::Deferred => Some(DeliveryState::Deferred),
            Self::Delivered => Some(DeliveryState::Delivered),
            Self::Failed | Self::Reported => Some(DeliveryState::Bounced),
            Self::InDoubt => Some(DeliveryState::InDoubt),
        }
    }

    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Cancelled => "cancelled",
            Self::Deferred => "deferred",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::InDoubt => "in_doubt",
            Self::Reported => "reported",
        }
    }

    /// The outcome of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == name)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Deliveries + ?Sized> Deliveries for Arc<T> {
    async fn recipients(&self, tenant: TenantId, message: MessageId) -> Result<Vec<DeliveryRow>, StoreError> {
        (**self).recipients(tenant, message).await
    }
    async fn recipient(&self, tenant: TenantId, id: RecipientId) -> Result<Option<DeliveryRow>, StoreError> {
        (**self).recipient(tenant, id).await
    }
    async fn attempts(&self, tenant: TenantId, message: MessageId) -> Result<Vec<Attempt>, StoreError> {
        (**self).attempts(tenant, message).await
    }
    async fn check_invariant(
        &self,
        invariant: Invariant,
        check: &InvariantCheck,
        after: Option<InvariantPosition>,
        limit: u32,
    ) -> Result<InvariantPage, StoreError> {
        (**self).check_invariant(invariant, check, after, limit).await
    }
}
