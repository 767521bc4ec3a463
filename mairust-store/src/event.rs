//! Events: what happened to mail, for each tenant in the order in which it became visible.
//!
//! An event becomes durable in the same step as what it tells of:
//! [`Acceptance::events`](crate::Acceptance::events) is the only way by which events come into being.
//! Deliberately absent: what kinds there are and what they tell, which is up to whoever writes them.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::{EventId, TenantId, Timestamp};

use crate::error::{StoreError, StoreErrorKind};

/// The longest kind of an event, in octets.
pub const MAX_EVENT_KIND: usize = 64;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Its id. One that is there already is refused with everything that comes with it.
    pub id: EventId,
    /// What kind of event, for example `message.received`.
    pub kind: String,
    /// When it happened.
    pub at: Timestamp,
    /// What there is to tell: opaque to the store.
    pub data: serde_json::Value,
}

/// An event of a tenant.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// Its place among the events of its tenant. They count from 1 without gaps, and an event becomes visible
    /// after all that have smaller ones: whoever has read up to a position has missed nothing before it.
    pub position: u64,
    /// Its id.
    pub id: EventId,
    /// What kind of event.
    pub kind: String,
    /// When it happened.
    pub at: Timestamp,
    /// What there is to tell.
    pub data: serde_json::Value,
}

/// Which events to read.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Those behind this position; 0 for all that are still there.
    pub after: u64,
    /// Of one of these kinds; none for all.
    pub kinds: Vec<String>,
    /// At most so many.
    pub limit: u32,
}

/// Events, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct EventPage {
    /// The events.
    pub items: Vec<Event>,
    /// Whether there are more of those that were asked for.
    pub has_more: bool,
}

/// From where to where the events of a tenant reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventSpan {
    /// The position of the last one that was removed because it is old; 0 if none was.
    pub dropped: u64,
    /// The position of the newest one; 0 if there never was one.
    pub newest: u64,
}

/// What happened, tenant by tenant.
#[async_trait]
pub trait EventLog: fmt::Debug + Send + Sync + 'static {
    /// Events of a tenant, oldest first.
    async fn list(&self, tenant: TenantId, query: &EventQuery) -> Result<EventPage, StoreError>;

    /// The event at a position; `None` if it was removed, or did not happen yet.
    async fn at(&self, tenant: TenantId, position: u64) -> Result<Option<Event>, StoreError>;

    /// From where to where the events of a tenant reach.
    async fn span(&self, tenant: TenantId) -> Result<EventSpan, StoreError>;

    /// Tenants that have events from before this moment.
    async fn tenants_to_purge(&self, before: Timestamp) -> Result<Vec<TenantId>, StoreError>;

    /// Removes events of a tenant from before this moment, at most `max`, and deliveries of events to webhooks that
    /// have ended and were last changed before it, at most as many; how much was removed.
    async fn purge(&self, tenant: TenantId, before: Timestamp, max: u32) -> Result<u32, StoreError>;

    /// A number that grows whenever there are new events of any tenant, and sometimes without.
    fn version(&self) -> u64;

    /// Waits until [`version`](Self::version) is above `seen`, and returns it. Safe to drop.
    async fn changed(&self, seen: u64) -> u64;

    /// A number that grows whenever there are new events of this tenant, and sometimes without.
    fn version_of(&self, tenant: TenantId) -> u64;

    /// Waits until [`version_of`](Self::version_of) is above `seen`, and returns it. Safe to drop.
    async fn changed_of(&self, tenant: TenantId, seen: u64) -> u64;
}

impl NewEvent {
    /// Refuses what makes no sense in any backend.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match is_kind(&self.kind) {
            true => Ok(()),
            false => Err(StoreError::new(StoreErrorKind::Invalid, "accept", "the kind of an event is empty or odd")),
        }
    }
}

/// Whether a text can be a kind of event: letters a to z, dots and underscores.
pub(crate) fn is_kind(text: &str) -> bool {
    (1..=MAX_EVENT_KIND).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'.' | b'_'))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: EventLog + ?Sized> EventLog for Arc<T> {
    async fn list(&self, tenant: TenantId, query: &EventQuery) -> Result<EventPage, StoreError> {
        (**self).list(tenant, query).await
    }
    async fn at(&self, tenant: TenantId, position: u64) -> Result<Option<Event>, StoreError> {
        (**self).at(tenant, position).await
    }
    async fn span(&self, tenant: TenantId) -> Result<EventSpan, StoreError> {
        (**self).span(tenant).await
    }
    async fn tenants_to_purge(&self, before: Timestamp) -> Result<Vec<TenantId>, StoreError> {
        (**self).tenants_to_purge(before).await
    }
    async fn purge(&self, tenant: TenantId, before: Timestamp, max: u32) -> Result<u32, StoreError> {
        (**self).purge(tenant, before, max).await
    }
    fn version(&self) -> u64 {
        (**self).version()
    }
    async fn changed(&self, seen: u64) -> u64 {
        (**self).changed(seen).await
    }
    fn version_of(&self, tenant: TenantId) -> u64 {
        (**self).version_of(tenant)
    }
    async fn changed_of(&self, tenant: TenantId, seen: u64) -> u64 {
        (**self).changed_of(tenant, seen).await
    }
}
