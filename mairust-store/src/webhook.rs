//! Webhooks: addresses elsewhere that are told of events, and what became of each event that went there.
//!
//! The keys that sign requests are secrets of the [registry](crate::Registry), see [`keys`]; the work lies in the
//! [queue](crate::QueueBackend), see [`work`]. Deliberately absent: requests and what they look like.

use std::fmt;

use async_trait::async_trait;
use mairust_core::{EventId, TenantId, Timestamp, WebhookDeliveryId, WebhookId};

use crate::error::{StoreError, StoreErrorKind};
use crate::event::is_kind;
use crate::message::Page;
use crate::queue::NewJob;

mod attempt;
pub mod keys;
mod shared;
pub mod work;

pub use attempt::WebhookAttempt;

/// The kind of secret that the keys of webhooks are, each named by the id of its webhook.
pub const WEBHOOK_SECRET: &str = "webhook";

/// The longest URL in octets.
pub const MAX_WEBHOOK_URL: usize = 2_048;

/// The longest description in octets.
pub const MAX_WEBHOOK_DESCRIPTION: usize = 500;

/// The most kinds of events that a webhook names.
pub const MAX_WEBHOOK_KINDS: usize = 32;

/// The most webhooks of a tenant.
pub const MAX_WEBHOOKS: u32 = 50;

/// A webhook that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWebhook {
    /// Its id.
    pub id: WebhookId,
    /// Where requests go. The store takes any text.
    pub url: String,
    /// What it is for, for people.
    pub description: String,
    /// The kinds of events that it is told of; none for all.
    pub kinds: Vec<String>,
}

/// An address elsewhere that is told of events.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Webhook {
    /// Its id.
    pub id: WebhookId,
    /// Whose events it is told of.
    pub tenant: TenantId,
    /// Where requests go.
    pub url: String,
    /// What it is for, for people.
    pub description: String,
    /// The kinds of events that it is told of; none for all.
    pub kinds: Vec<String>,
    /// Whether it is told of events.
    pub state: WebhookState,
    /// The position of the last event that was looked at for it.
    pub position: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When somebody changed it last.
    pub updated_at: Timestamp,
}

/// Whether a webhook is told of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookState {
    /// It is not, for this reason.
    Disabled(String),
    /// It is told of those that happen from the moment on in which it was made or enabled.
    Enabled,
}

/// What is to be changed about a webhook; `None` leaves it as it is.
#[derive(Debug, Clone, Default)]
pub struct WebhookChange {
    /// Where requests go.
    pub url: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// The kinds of events that it is told of.
    pub kinds: Option<Vec<String>>,
    /// Whether it is told of events.
    pub state: Option<WebhookState>,
}

/// An event that is to be delivered to a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWebhookDelivery {
    /// Its id.
    pub id: WebhookDeliveryId,
    /// The event.
    pub event: EventId,
    /// The position of the event.
    pub position: u64,
    /// The kind of the event.
    pub kind: String,
}

/// One event on its way to one webhook.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct WebhookDelivery {
    /// Its id.
    pub id: WebhookDeliveryId,
    /// The tenant.
    pub tenant: TenantId,
    /// The webhook.
    pub webhook: WebhookId,
    /// The event.
    pub event: EventId,
    /// The position of the event.
    pub position: u64,
    /// The kind of the event.
    pub kind: String,
    /// What became of it so far.
    pub state: WebhookDeliveryState,
    /// Attempts since it was made, or begun again.
    pub tries: u32,
    /// The last attempts, oldest first, at most [`MAX_ATTEMPTS`](Self::MAX_ATTEMPTS).
    pub attempts: Vec<WebhookAttempt>,
    /// When it is tried next.
    pub next_attempt: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When something became of it last.
    pub updated_at: Timestamp,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WebhookDeliveryState {
    /// The webhook took it.
    Delivered,
    /// Given up.
    Failed,
    /// It is to be tried, perhaps again.
    Pending,
}

/// Which deliveries of a webhook to list.
#[derive(Debug, Clone, Default)]
pub struct WebhookDeliveryQuery {
    /// Only those of which this became.
    pub state: Option<WebhookDeliveryState>,
    /// Only older ones than this.
    pub before: Option<WebhookDeliveryId>,
    /// At most so many.
    pub limit: u32,
}

/// The events from one position to another, as they go to a webhook.
#[derive(Debug, Clone)]
pub struct WebhookAdvance {
    /// The webhook.
    pub webhook: WebhookId,
    /// Its position so far.
    pub from: u64,
    /// Its position from now on.
    pub to: u64,
    /// What is to be delivered of the events in between.
    pub deliveries: Vec<NewWebhookDelivery>,
    /// The work of doing it.
    pub jobs: Vec<NewJob>,
}

/// Webhooks and their deliveries. Methods that change something are durable on return and safe to drop: they
/// happen whole or not at all. Times of change are taken from the backend's clock.
#[async_trait]
pub trait Webhooks: fmt::Debug + Send + Sync + 'static {
    /// Makes a webhook. It is told of events that become visible after it.
    ///
    /// # Errors
    /// `NotFound` if there is no such tenant, `Conflict` if it has [`MAX_WEBHOOKS`] already, `Invalid` for what is
    /// too long.
    async fn create(&self, tenant: TenantId, new: NewWebhook) -> Result<Webhook, StoreError>;

    /// The webhooks of a tenant, oldest first.
    async fn list(&self, tenant: TenantId) -> Result<Vec<Webhook>, StoreError>;

    /// A webhook; `None` if the tenant has no such one.
    async fn get(&self, tenant: TenantId, id: WebhookId) -> Result<Option<Webhook>, StoreError>;

    /// Changes a webhook; what it is then. One that is enabled again is told of events that become visible after
    /// that.
    ///
    /// # Errors
    /// `NotFound` if the tenant has no such one, `Invalid` for what is too long.
    async fn change(&self, tenant: TenantId, id: WebhookId, change: &WebhookChange) -> Result<Webhook, StoreError>;

    /// Removes a webhook with its deliveries.
    ///
    /// # Errors
    /// `NotFound` if the tenant has no such one.
    async fn delete(&self, tenant: TenantId, id: WebhookId) -> Result<(), StoreError>;

    /// Webhooks of all tenants that are enabled and have not been told of all events, at most `limit`.
    async fn behind(&self, limit: u32) -> Result<Vec<Webhook>, StoreError>;

    /// Moves a webhook on from one position to another, and adds what is to be done for it; `false`, and nothing of
    /// it, if it is not enabled any more or somebody else has moved it.
    async fn advance(&self, tenant: TenantId, advance: WebhookAdvance) -> Result<bool, StoreError>;

    /// Adds one delivery and the work of doing it, whatever the position of the webhook is and whether it is
    /// enabled or not.
    ///
    /// # Errors
    /// `NotFound` if the tenant has no such webhook.
    async fn deliver(
        &self,
        tenant: TenantId,
        webhook: WebhookId,
        delivery: NewWebhookDelivery,
        job: NewJob,
    ) -> Result<(), StoreError>;

    /// The deliveries of a webhook, newest first.
    async fn list_deliveries(
        &self,
        tenant: TenantId,
        webhook: WebhookId,
        query: &WebhookDeliveryQuery,
    ) -> Result<Page<WebhookDelivery>, StoreError>;

    /// A delivery; `None` if the tenant has no such one.
    async fn delivery(&self, tenant: TenantId, id: WebhookDeliveryId) -> Result<Option<WebhookDelivery>, StoreError>;

    /// Writes down what became of a delivery that was pending: its state, tries, attempts and next attempt; `false`
    /// if it was not pending any more.
    async fn record(&self, delivery: &WebhookDelivery) -> Result<bool, StoreError>;

    /// Begins a delivery again that has ended, and adds the work of doing it.
    ///
    /// # Errors
    /// `NotFound` if the tenant has no such one, `Conflict` if it is pending.
    async fn replay(&self, tenant: TenantId, id: WebhookDeliveryId, job: NewJob) -> Result<(), StoreError>;
}

impl Webhook {
    /// A webhook that was just made.
    pub(crate) fn made(tenant: TenantId, new: NewWebhook, position: u64, now: Timestamp) -> Self {
        let NewWebhook { id, url, description, kinds } = new;
        let (state, created_at, updated_at) = (WebhookState::Enabled, now, now);
        Self { id, tenant, url, description, kinds, state, position, created_at, updated_at }
    }

    /// Whether it is told of events of this kind.
    pub fn wants(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|wanted| wanted == kind)
    }
}

impl WebhookDelivery {
    /// How many attempts are kept.
    pub const MAX_ATTEMPTS: usize = 24;

    /// A delivery that was just made.
    pub(crate) fn made(tenant: TenantId, webhook: WebhookId, new: NewWebhookDelivery, now: Timestamp) -> Self {
        let NewWebhookDelivery { id, event, position, kind } = new;
        Self {
            id,
            tenant,
            webhook,
            event,
            position,
            kind,
            state: WebhookDeliveryState::Pending,
            tries: 0,
            attempts: Vec::new(),
            next_attempt: Some(now),
            created_at: now,
            updated_at: now,
        }
    }

    /// The id of its requests, the same for each attempt: letters, digits, `_` and `-`.
    pub fn request_id(&self) -> String {
        format!("inv_{}", self.id)
    }

    /// Adds an attempt; the oldest gives way when there are too many.
    pub fn add_attempt(&mut self, attempt: WebhookAttempt) {
        self.tries = self.tries.saturating_add(1);
        self.attempts.push(attempt);
        let surplus = self.attempts.len().saturating_sub(Self::MAX_ATTEMPTS);
        self.attempts.drain(..surplus);
    }
}

impl WebhookState {
    /// Whether it is told of events.
    pub fn is_enabled(&self) -> bool {
        *self == Self::Enabled
    }

    /// Why it is not told of events.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Disabled(reason) => Some(reason),
            Self::Enabled => None,
        }
    }
}

impl WebhookDeliveryState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Delivered, Self::Failed, Self::Pending];

    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Pending => "pending",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

impl NewWebhook {
    /// Refuses what makes no sense in any backend.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        check("create webhook", Some(&self.url), Some(&self.description), Some(&self.kinds))
    }
}

impl WebhookChange {
    /// Refuses what makes no sense in any backend.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        check("change webhook", self.url.as_deref(), self.description.as_deref(), self.kinds.as_deref())
    }
}

fn check(
    operation: &'static str,
    url: Option<&str>,
    description: Option<&str>,
    kinds: Option<&[String]>,
) -> Result<(), StoreError> {
    let invalid = |why| Err(StoreError::new(StoreErrorKind::Invalid, operation, why));
    if url.is_some_and(|url| !(1..=MAX_WEBHOOK_URL).contains(&url.len())) {
        return invalid("the URL is empty or too long");
    }
    if description.is_some_and(|text| text.len() > MAX_WEBHOOK_DESCRIPTION) {
        return invalid("the description is too long");
    }
    if kinds.is_some_and(|kinds| kinds.len() > MAX_WEBHOOK_KINDS || !kinds.iter().all(|kind| is_kind(kind))) {
        return invalid("there are too many kinds of events, or odd ones");
    }
    Ok(())
}

/// The answer to one webhook too many.
pub(crate) fn too_many() -> StoreError {
    StoreError::new(StoreErrorKind::Conflict, "create webhook", format!("there are {MAX_WEBHOOKS} already"))
}
