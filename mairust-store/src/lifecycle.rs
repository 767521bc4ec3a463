//! What becomes of messages after they were accepted: they are deleted, restored, put on legal hold,
//! archived and, in the end, purged.
//!
//! A message that is deleted is hidden from [`MessageStore`](crate::MessageStore) and from searches, and
//! frees its share of the quota. It is kept, and can be restored, until it is purged. What is to be
//! removed from the body store is noted in the transaction that takes the last row which names it, and
//! removed afterwards, however often it takes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{Body, MessageId, TenantId, Timestamp};

use crate::error::StoreError;
use crate::message::MessageRow;

/// What objects of archived messages have in front of their keys.
pub(crate) const ARCHIVE: &str = "archive/";

/// For how many days deleted messages can be kept: a hundred years.
pub const MAX_RETENTION_DAYS: u32 = 36_500;

/// For how long deleted messages are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// What time it is.
    pub now: Timestamp,
    /// Days for tenants that have no number of their own, at most [`MAX_RETENTION_DAYS`]; 0 keeps them no
    /// longer than until somebody purges.
    pub days: u32,
}

/// What became of the wish to purge a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purge {
    /// It is gone.
    Done,
    /// It is still on its way to recipients or hooks; nothing was changed.
    InUse,
    /// It, its mailbox or its tenant is on legal hold; nothing was changed.
    OnHold,
}

/// What becomes of messages after they were accepted. Methods that change something are durable on
/// return and safe to drop: they happen whole or not at all. They answer whether they changed
/// anything, and may run twice. A message that the tenant does not have, or that is purged, is
/// `NotFound`.
#[async_trait]
pub trait Lifecycle: fmt::Debug + Send + Sync + 'static {
    /// A message, deleted or not; `None` if the tenant has none of this id. For whoever has to go on
    /// with a message that its user has deleted: deliveries, hooks.
    async fn kept(&self, tenant: TenantId, id: MessageId) -> Result<Option<MessageRow>, StoreError>;

    /// As [`MessageStore::body`](crate::MessageStore::body), of a message that is deleted or not.
    async fn kept_body(&self, tenant: TenantId, id: MessageId) -> Result<Body, StoreError>;

    /// Hides a message from `at` on, and takes it off the use of its mailbox. Recipients who wait for it
    /// get it all the same.
    async fn delete(&self, tenant: TenantId, id: MessageId, at: Timestamp) -> Result<bool, StoreError>;

    /// Brings a deleted message back into its folder, with a new UID: who saw that the old one was gone
    /// must not see it again (RFC 9051 §2.3.1.1). The limit of the mailbox is not looked at.
    async fn restore(&self, tenant: TenantId, id: MessageId) -> Result<bool, StoreError>;

    /// Puts a message on legal hold, or ends its own hold. What is on hold can be deleted, but not
    /// purged.
    async fn set_legal_hold(&self, tenant: TenantId, id: MessageId, on_hold: bool) -> Result<bool, StoreError>;

    /// Moves the object of a message under `archive/`, for all messages that share it. The message can
    /// be read all the while.
    ///
    /// # Errors
    /// `NotFound`, also if the object is gone; `Corrupt` if it is damaged; otherwise when the database or
    /// the body store does not answer.
    async fn archive(&self, tenant: TenantId, id: MessageId) -> Result<bool, StoreError>;

    /// Purges a message, whether it was deleted or not: its row, tags, recipients, attempts, jobs that
    /// were given up, and its body when no other message has the same.
    async fn purge(&self, tenant: TenantId, id: MessageId) -> Result<Purge, StoreError>;

    /// Purges messages that were deleted long enough ago, as [`purge`](Self::purge) does, those deleted
    /// first before others: `max` at most. Answers how many there were. Objects are left to
    /// [`remove_objects`](Self::remove_objects).
    async fn purge_deleted(&self, tenant: TenantId, retention: Retention, max: u32) -> Result<u32, StoreError>;

    /// Removes objects that no message names any more: `max` at most. Answers how many were tried.
    ///
    /// # Errors
    /// When one could not be removed. It is tried again by a later call, after a while.
    async fn remove_objects(&self, tenant: TenantId, max: u32) -> Result<u32, StoreError>;

    /// The tenants for which [`purge_deleted`](Self::purge_deleted) or
    /// [`remove_objects`](Self::remove_objects) may have something to do. Has no tenant argument: it is how
    /// they are found.
    async fn tenants_to_clean(&self, retention: Retention) -> Result<Vec<TenantId>, StoreError>;
}

impl Retention {
    /// Messages deleted at this time or before are purged, for a tenant that keeps them for so many days.
    pub(crate) fn until(&self, days: Option<u32>) -> Timestamp {
        let days = days.unwrap_or(self.days).min(MAX_RETENTION_DAYS);
        self.now.minus(Duration::from_secs(u64::from(days) * 86_400))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Lifecycle + ?Sized> Lifecycle for Arc<T> {
    async fn kept(&self, tenant: TenantId, id: MessageId) -> Result<Option<MessageRow>, StoreError> {
        (**self).kept(tenant, id).await
    }
    async fn kept_body(&self, tenant: TenantId, id: MessageId) -> Result<Body, StoreError> {
        (**self).kept_body(tenant, id).await
    }
    async fn delete(&self, tenant: TenantId, id: MessageId, at: Timestamp) -> Result<bool, StoreError> {
        (**self).delete(tenant, id, at).await
    }
    async fn restore(&self, tenant: TenantId, id: MessageId) -> Result<bool, StoreError> {
        (**self).restore(tenant, id).await
    }
    async fn set_legal_hold(&self, tenant: TenantId, id: MessageId, on_hold: bool) -> Result<bool, StoreError> {
        (**self).set_legal_hold(tenant, id, on_hold).await
    }
    async fn archive(&self, tenant: TenantId, id: MessageId) -> Result<bool, StoreError> {
        (**self).archive(tenant, id).await
    }
    async fn purge(&self, tenant: TenantId, id: MessageId) -> Result<Purge, StoreError> {
        (**self).purge(tenant, id).await
    }
    async fn purge_deleted(&self, tenant: TenantId, retention: Retention, max: u32) -> Result<u32, StoreError> {
        (**self).purge_deleted(tenant, retention, max).await
    }
    async fn remove_objects(&self, tenant: TenantId, max: u32) -> Result<u32, StoreError> {
        (**self).remove_objects(tenant, max).await
    }
    async fn tenants_to_clean(&self, retention: Retention) -> Result<Vec<TenantId>, StoreError> {
        (**self).tenants_to_clean(retention).await
    }
}
