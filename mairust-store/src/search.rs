//! Search: what is asked, the index that answers, and the messages that it does not know yet.
//!
//! A message is searchable a moment after it was accepted, not at once: accepting only notes that the
//! index does not know it ([`SearchOutbox`]), in the same transaction. Somebody else, the indexer of
//! the platform, takes such notes, reads the bodies and hands documents to the [`SearchIndex`]. So
//! nothing is lost by a crash, and no search engine can hold up mail.
//!
//! In reading order: [`query`] and [`parse`] (what is asked), `words` (how texts are cut, the same for
//! what is searched and for what is looked for), [`document`] (what the index knows of a message),
//! `evaluate` (whether a message is what is looked for), [`feed`] (from the outbox into the index),
//! [`scan`] (searching without an index).
//!
//! Deliberately absent: relevance. Mail is looked for by time, so answers come newest first.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{MailboxId, MessageId, TenantId, Timestamp};

use crate::error::StoreError;
use crate::message::{MessagePosition, Page};

pub mod document;
mod evaluate;
pub mod feed;
pub mod parse;
pub mod query;
pub mod scan;
mod words;

pub use document::SearchDocument;
pub use parse::{QueryError, QueryErrorKind};
pub use query::{SearchFact, SearchField, SearchQuery, SearchTerm};

pub(crate) use document::{of_domain, of_fact, of_mailbox, of_message_id, of_tenant};
pub(crate) use evaluate::matches;
pub(crate) use words::Phrase;

/// What is asked of an index.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SearchRequest {
    /// What to look for.
    pub query: SearchQuery,
    /// Only in this mailbox.
    pub mailbox: Option<MailboxId>,
    /// What time it is: `newer:` and `older:` count from here.
    pub now: Timestamp,
    /// Only what stands behind this position, in the order of the answer.
    pub after: Option<MessagePosition>,
    /// At most this many; 0 means none.
    pub limit: u32,
}

/// Finds messages by what they say.
///
/// An index holds copies: it may be lost, and is then made again from the messages. It need not be
/// asked about what is right: a message that it finds may have been changed or removed since, so
/// whoever shows it reads its row.
///
/// An engine outside of the database implements this trait, too. It keeps the [`Words`](document) of a
/// document, and of its row what a query may ask for: mailbox, folder, status, tags, size, verdict,
/// Message-ID, time of receipt. Documents of one tenant must be found by this tenant only, whatever the
/// query says.
#[async_trait]
pub trait SearchIndex: fmt::Debug + Send + Sync + 'static {
    /// What answers, for people and programs: a word in lower case.
    fn name(&self) -> &'static str;

    /// Adds documents, each in place of an earlier one of the same message. They are found once this
    /// has returned, and on disk at the backend's durability level: after that, nobody hands them in
    /// again. May run twice. If the future is dropped, any of the documents may have been added.
    async fn index(&self, documents: Vec<SearchDocument>) -> Result<(), StoreError>;

    /// Removes messages; those that the tenant does not have in the index are no error. May run twice.
    async fn remove(&self, tenant: TenantId, messages: &[MessageId]) -> Result<(), StoreError>;

    /// Removes everything, of all tenants.
    async fn clear(&self) -> Result<(), StoreError>;

    /// The messages of a tenant that are what is looked for, newest first. Those that were received in
    /// the same microsecond come in an order that stays the same from page to page.
    ///
    /// # Errors
    /// `Unavailable` if the index does not answer or is switched off, `Corrupt` if it must be made again.
    async fn search(&self, tenant: TenantId, request: &SearchRequest) -> Result<Page<MessagePosition>, StoreError>;
}

/// A note that the index does not know a message, as claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnindexedMessage {
    /// The number of the note.
    pub number: i64,
    /// The message's tenant.
    pub tenant: TenantId,
    /// The message; it may be gone by now.
    pub message: MessageId,
}

/// Messages that the index does not know yet. Notes are written by
/// [`MessageStore::accept`](crate::MessageStore::accept), in its transaction.
#[async_trait]
pub trait SearchOutbox: fmt::Debug + Send + Sync + 'static {
    /// Claims up to `max` notes, oldest first, that nobody else has claimed. Each goes to one caller
    /// only until `now + ttl`. If the future is dropped, the claims end by themselves.
    async fn claim(&self, now: Timestamp, max: u32, ttl: Duration) -> Result<Vec<UnindexedMessage>, StoreError>;

    /// Removes notes whose messages are indexed. May run twice; a crash before it was durable means
    /// that the messages are indexed again.
    async fn settle(&self, notes: &[UnindexedMessage]) -> Result<(), StoreError>;

    /// Begins to make the index again: notes are to be written for all messages, by
    /// [`refill`](Self::refill). Begins anew if this is under way. Durable on return.
    async fn rebuild(&self) -> Result<(), StoreError>;

    /// While the index is being made again: writes notes for up to `max` further messages, and says
    /// how many; 0 ends it. Notes and progress are one step, so a crash leaves no message out.
    async fn refill(&self, max: u32) -> Result<u32, StoreError>;

    /// Whether the index is being made again: there may be messages that neither the index nor a note
    /// knows of.
    async fn is_rebuilding(&self) -> Result<bool, StoreError>;

    /// Number of notes that are not settled: how far the index is behind.
    async fn pending(&self) -> Result<u64, StoreError>;

    /// A number that grows whenever notes are added.
    fn version(&self) -> u64;

    /// Waits until [`version`](Self::version) is above `seen`, and returns it. Safe to drop.
    async fn changed(&self, seen: u64) -> u64;
}

impl SearchRequest {
    /// Looks for this in all mailboxes of a tenant: the newest 50.
    pub fn new(query: SearchQuery, now: Timestamp) -> Self {
        Self { query, mailbox: None, now, after: None, limit: 50 }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: SearchIndex + ?Sized> SearchIndex for Arc<T> {
    fn name(&self) -> &'static str {
        (**self).name()
    }
    async fn index(&self, documents: Vec<SearchDocument>) -> Result<(), StoreError> {
        (**self).index(documents).await
    }
    async fn remove(&self, tenant: TenantId, messages: &[MessageId]) -> Result<(), StoreError> {
        (**self).remove(tenant, messages).await
    }
    async fn clear(&self) -> Result<(), StoreError> {
        (**self).clear().await
    }
    async fn search(&self, tenant: TenantId, request: &SearchRequest) -> Result<Page<MessagePosition>, StoreError> {
        (**self).search(tenant, request).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: SearchOutbox + ?Sized> SearchOutbox for Arc<T> {
    async fn claim(&self, now: Timestamp, max: u32, ttl: Duration) -> Result<Vec<UnindexedMessage>, StoreError> {
        (**self).claim(now, max, ttl).await
    }
    async fn settle(&self, notes: &[UnindexedMessage]) -> Result<(), StoreError> {
        (**self).settle(notes).await
    }
    async fn rebuild(&self) -> Result<(), StoreError> {
        (**self).rebuild().await
    }
    async fn refill(&self, max: u32) -> Result<u32, StoreError> {
        (**self).refill(max).await
    }
    async fn is_rebuilding(&self) -> Result<bool, StoreError> {
        (**self).is_rebuilding().await
    }
    async fn pending(&self) -> Result<u64, StoreError> {
        (**self).pending().await
    }
    fn version(&self) -> u64 {
        (**self).version()
    }
    async fn changed(&self, seen: u64) -> u64 {
        (**self).changed(seen).await
    }
}
