//! Recipients of outgoing mail, and what became of them.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::{EmailAddress, MessageId, RecipientDsn, RecipientId, TenantId, Timestamp};

use crate::error::StoreError;
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
    /// Given up; the sender was told.
    Bounced,
    /// Caught by the development server.
    Captured,
    /// An attempt failed for now.
    Deferred,
    /// The recipient's server took it.
    Delivered,
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
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttemptOutcome {
    /// To be tried again.
    Deferred,
    /// Taken.
    Delivered,
    /// Refused, or given up.
    Failed,
}

/// Recipients of outgoing mail. They are added and moved on by
/// [`MessageStore::accept`](crate::MessageStore::accept) only.
#[async_trait]
pub trait Deliveries: fmt::Debug + Send + Sync + 'static {
    /// The recipients of a message, in order of their ids; empty if the tenant has no such message.
    async fn recipients(&self, tenant: TenantId, message: MessageId) -> Result<Vec<DeliveryRow>, StoreError>;

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
    pub const ALL: [Self; 5] = [Self::Bounced, Self::Captured, Self::Deferred, Self::Delivered, Self::Pending];

    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bounced => "bounced",
            Self::Captured => "captured",
            Self::Deferred => "deferred",
            Self::Delivered => "delivered",
            Self::Pending => "pending",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether nothing more will happen.
    pub fn is_settled(self) -> bool {
        !matches!(self, Self::Deferred | Self::Pending)
    }
}

impl AttemptOutcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Deferred, Self::Delivered, Self::Failed];

    /// The recipient's state after it.
    pub fn state(self) -> DeliveryState {
        match self {
            Self::Deferred => DeliveryState::Deferred,
            Self::Delivered => DeliveryState::Delivered,
            Self::Failed => DeliveryState::Bounced,
        }
    }

    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deferred => "deferred",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
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
