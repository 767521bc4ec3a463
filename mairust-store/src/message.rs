//! Messages: one row per message and mailbox, one immutable body.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use mairust_core::{
    Body, Content, EmailAddress, FolderId, MailboxId, MessageDsn, MessageId, NamedAddress, ReversePath, TenantId,
    Timestamp, TlsWish,
};

use crate::delivery::{Attempt, NewRecipient};
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::lifecycle::ARCHIVE;
use crate::mark::{Marks, Metadata, MetadataChange};
use crate::queue::{Lease, NewJob};
use crate::suppression::NewSuppression;

/// What one 250 promises: everything in it becomes durable and visible together, or not at all.
#[derive(Debug, Clone)]
pub struct Acceptance {
    /// Whose mail this is.
    pub tenant: TenantId,
    /// Messages to keep; may be empty when only attempts are recorded.
    pub messages: Vec<NewMessage>,
    /// Recipients outside, to whom one of the messages is to be delivered.
    pub recipients: Vec<NewRecipient>,
    /// Work that follows.
    pub jobs: Vec<NewJob>,
    /// Results of delivery attempts. A failed delivery and the notice about it are accepted in
    /// one step, so that neither is lost nor doubled.
    pub attempts: Vec<Attempt>,
    /// What there is to tell about all this.
    pub events: Vec<NewEvent>,
    /// The job that is done with all this: completed in the same step. If the lease was lost, the job stays as
    /// it is, and the rest is accepted all the same.
    pub completes: Option<Lease>,
    /// Addresses for the suppression list. Those that are on it stay there as they are.
    pub suppressions: Vec<NewSuppression>,
    /// What other tenants get in the same step, each once: all of it is accepted, or nothing. None of these has others
    /// of its own.
    pub others: Vec<Acceptance>,
}

/// One body and the mailboxes that it goes to.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// Header fields that MaiRust adds in front. Each line ends in CRLF.
    pub prefix: Bytes,
    /// The message as received, byte for byte.
    pub body: Body,
    /// What the message says about itself.
    pub content: Content,
    /// MAIL FROM.
    pub sender: ReversePath,
    /// When it came in.
    pub received_at: Timestamp,
    /// What its sender asks about notices.
    pub dsn: MessageDsn,
    /// What its sender wants of TLS on its further way.
    pub tls: TlsWish,
    /// What was found out about its sender, as JSON; opaque to the store.
    pub auth_results: Option<String>,
    /// Whether it is spam, if it was looked at.
    pub spam: Option<Spam>,
    /// How it came in, as JSON; opaque to the store.
    pub arrival: Option<String>,
    /// What tells the transaction that brought it from others, if whoever sent it may not have heard
    /// that it was accepted and send it again; see [`MessageStore::fingerprints`].
    pub fingerprint: Option<[u8; 32]>,
    /// What is put on it.
    pub marks: Marks,
    /// One row each; at least one.
    pub placements: Vec<Placement>,
}

/// Whether a message is spam.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Spam {
    /// The higher, the more likely; always a finite number.
    pub score: f64,
    /// What was concluded from it.
    pub verdict: SpamVerdict,
}

/// What was concluded from a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SpamVerdict {
    /// Mail that is wanted.
    Ham,
    /// Mail that is not.
    Spam,
}

/// A message's place in one mailbox.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The id of the row, made by the caller so that jobs can name it.
    pub id: MessageId,
    /// The mailbox.
    pub mailbox: MailboxId,
    /// The folder; it is created with the mailbox.
    pub folder: Folder,
    /// Inbound: the envelope recipient. Outbound: the sender; for a message that is sent on, the
    /// envelope recipient on whose behalf it is.
    pub address: EmailAddress,
    /// Which way the message went.
    pub direction: Direction,
    /// What became of it so far.
    pub status: MessageStatus,
}

/// The folders that every mailbox has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Folder {
    /// `INBOX`.
    Inbox,
    /// `Junk`.
    Junk,
    /// `Quarantine`.
    Quarantine,
    /// `Sent`.
    Sent,
    /// `Trash`.
    Trash,
}

/// Which way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To a mailbox here.
    Inbound,
    /// From a user here.
    Outbound,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MessageStatus {
    /// Outbound: every recipient is settled, nobody refused it, and an operator ended the delivery to at least one.
    Cancelled,
    /// Outbound: caught by the development server instead of being sent.
    Captured,
    /// Outbound: every recipient is settled, and at least one was not reached.
    Failed,
    /// Inbound: held back by a hook.
    Quarantined,
    /// Outbound: at least one recipient is waiting.
    Queued,
    /// Outbound: every recipient's server took it.
    Sent,
    /// Inbound: in its mailbox.
    Stored,
}

/// One message of one mailbox, without its body.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MessageRow {
    /// Its id.
    pub id: MessageId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its mailbox.
    pub mailbox: MailboxId,
    /// Its folder.
    pub folder: Folder,
    /// The folder's id.
    pub folder_id: FolderId,
    /// Unique and ascending within the folder (RFC 9051 §2.3.1.1).
    pub uid: u32,
    /// Grows with each change within the folder (RFC 7162).
    pub modseq: u64,
    /// Which way it went.
    pub direction: Direction,
    /// What became of it.
    pub status: MessageStatus,
    /// MAIL FROM.
    pub sender: ReversePath,
    /// As in [`Placement::address`].
    pub address: EmailAddress,
    /// Where the body is kept.
    pub object_key: String,
    /// Size of the stored object in bytes: prefix and body.
    pub size: u64,
    /// SHA-256 of the stored object.
    pub sha256: [u8; 32],
    /// Decoded Subject.
    pub subject: Option<String>,
    /// From.
    pub from: Vec<NamedAddress>,
    /// To.
    pub to: Vec<NamedAddress>,
    /// Cc.
    pub cc: Vec<NamedAddress>,
    /// Date.
    pub date: Option<Timestamp>,
    /// When MaiRust took it.
    pub received_at: Timestamp,
    /// Message-ID without angle brackets.
    pub message_id: Option<String>,
    /// The message that began the conversation; its own id if none is known.
    pub thread: MessageId,
    /// The beginning of the text.
    pub preview: String,
    /// Number of attachments.
    pub attachments: u32,
    /// Flags, for example `\Seen`.
    pub flags: Vec<String>,
    /// Tags, sorted.
    pub tags: Vec<String>,
    /// What its sender asks about notices.
    pub dsn: MessageDsn,
    /// What its sender wants of TLS on its further way.
    pub tls: TlsWish,
    /// What was found out about its sender, as JSON.
    pub auth_results: Option<String>,
    /// Whether it is spam, if it was looked at.
    pub spam: Option<Spam>,
    /// How it came in, as JSON.
    pub arrival: Option<String>,
    /// When it was deleted, if it is; see [`Lifecycle`](crate::Lifecycle).
    pub deleted_at: Option<Timestamp>,
    /// Whether it is on a legal hold of its own.
    pub legal_hold: bool,
}

/// Which messages to list. All conditions must hold; texts match anywhere, whatever the case.
#[derive(Debug, Clone, Default)]
pub struct MessageQuery {
    /// Only those that are deleted, instead of only those that are not.
    pub deleted: bool,
    /// In this mailbox.
    pub mailbox: Option<MailboxId>,
    /// In this folder.
    pub folder: Option<Folder>,
    /// Went this way.
    pub direction: Option<Direction>,
    /// Has this status.
    pub status: Option<MessageStatus>,
    /// From holds this text (name or address).
    pub from: Option<String>,
    /// To, Cc or the envelope recipient holds this text.
    pub to: Option<String>,
    /// Subject holds this text.
    pub subject: Option<String>,
    /// Received at or after.
    pub since: Option<Timestamp>,
    /// Received before.
    pub until: Option<Timestamp>,
    /// Only what stands behind this position, in list order.
    pub after: Option<MessagePosition>,
    /// At most this many; 0 means none.
    pub limit: u32,
}

/// A place in a list that is sorted by time of receipt, newest first, then by id, largest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessagePosition {
    /// Time of receipt.
    pub received_at: Timestamp,
    /// Id.
    pub id: MessageId,
}

/// A part of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// Whether there are more behind them.
    pub has_more: bool,
}

/// What to change about a message.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct MessageChange {
    /// Tags to add.
    pub add_tags: Vec<String>,
    /// Tags to remove.
    pub remove_tags: Vec<String>,
    /// Flags to add.
    pub add_flags: Vec<String>,
    /// Flags to remove.
    pub remove_flags: Vec<String>,
    /// The folder to move it into.
    pub folder: Option<Folder>,
    /// What became of it.
    pub status: Option<MessageStatus>,
    /// What to change about what is kept with it, in order.
    pub metadata: Vec<MetadataChange>,
}

impl MessageChange {
    /// Adds these tags.
    pub fn tags(tags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { add_tags: tags.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Whether nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        let Self { add_tags, remove_tags, add_flags, remove_flags, folder, status, metadata } = self;
        [add_tags, remove_tags, add_flags, remove_flags].iter().all(|list| list.is_empty())
            && folder.is_none()
            && status.is_none()
            && metadata.is_empty()
    }
}

/// Messages and the one atomic step that accepts them. A message that is deleted is not there, unless
/// something else is said.
#[async_trait]
pub trait MessageStore: fmt::Debug + Send + Sync + 'static {
    /// Accepts a batch; one answer for each entry, in order.
    ///
    /// On `Ok` for an entry, its bodies, rows, jobs and attempts are on disk at the backend's
    /// durability level; on `Err`, nothing of it is visible. A bad entry fails alone. Not
    /// idempotent: an entry with a known [`Placement::id`] is refused with `AlreadyExists`.
    /// If the future is dropped, each entry is accepted whole or not at all. What [others](Acceptance::others) get is
    /// part of its entry.
    ///
    /// The use of each mailbox grows with its messages in the same step. Its limit is not looked at:
    /// what is accepted is kept.
    ///
    /// An attempt moves its recipient to the attempt's state and, when all recipients of the
    /// message are settled, the message to [`MessageStatus::Sent`] or [`MessageStatus::Failed`]. One that
    /// [tells of a delay](Attempt::tells_of_delay) is refused with `Conflict`, and all of its entry with it, if
    /// the recipient is settled or its sender was told before.
    async fn accept(&self, batch: Vec<Acceptance>) -> Vec<Result<(), StoreError>>;

    /// The fingerprints of messages that were received at or after `since`, each with a
    /// message that it belongs to, the oldest first. Has no tenant argument: a server asks for all when it starts.
    async fn fingerprints(&self, since: Timestamp) -> Result<Vec<([u8; 32], MessageId)>, StoreError>;

    /// Lists messages, newest first.
    async fn list(&self, tenant: TenantId, query: &MessageQuery) -> Result<Page<MessageRow>, StoreError>;

    /// One message; `None` if the tenant has none of this id.
    async fn get(&self, tenant: TenantId, id: MessageId) -> Result<Option<MessageRow>, StoreError>;

    /// Those of these messages that the tenant has, in the order in which they are named. For a page of
    /// ids; a backend that can ask for all at once does so.
    async fn get_all(&self, tenant: TenantId, ids: &[MessageId]) -> Result<Vec<MessageRow>, StoreError> {
        let mut rows = Vec::with_capacity(ids.len());
        for id in ids {
            rows.extend(self.get(tenant, *id).await?);
        }
        Ok(rows)
    }

    /// The stored object of a message: prefix and body, its checksum verified.
    ///
    /// # Errors
    /// `NotFound` if the tenant has no such message or the object is gone, `Corrupt` if its
    /// checksum is wrong.
    async fn body(&self, tenant: TenantId, id: MessageId) -> Result<Body, StoreError>;

    /// Changes a message, also one that is deleted. May run twice. Durable on return.
    ///
    /// # Errors
    /// `NotFound` if the tenant has no such message.
    async fn change(&self, tenant: TenantId, id: MessageId, change: &MessageChange) -> Result<(), StoreError>;

    /// What is kept with a message, by owner and key; nothing if the tenant has no such message.
    async fn metadata(&self, tenant: TenantId, id: MessageId) -> Result<Vec<Metadata>, StoreError>;

    /// A number that grows whenever this tenant's messages change.
    fn version(&self, tenant: TenantId) -> u64;

    /// Waits until [`version`](Self::version) is above `seen`, and returns it. Safe to drop.
    async fn changed(&self, tenant: TenantId, seen: u64) -> u64;
}

impl MessageRow {
    /// Whether its object lies under `archive/`.
    pub fn is_archived(&self) -> bool {
        self.object_key.starts_with(ARCHIVE)
    }
}

impl Folder {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Inbox, Self::Junk, Self::Quarantine, Self::Sent, Self::Trash];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbox => "INBOX",
            Self::Junk => "Junk",
            Self::Quarantine => "Quarantine",
            Self::Sent => "Sent",
            Self::Trash => "Trash",
        }
    }

    /// The folder of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|folder| folder.as_str() == name)
    }
}

impl Direction {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Inbound, Self::Outbound];

    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }

    /// The direction of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|direction| direction.as_str() == name)
    }
}

impl Spam {
    /// A verdict and its score; a score that is no finite number becomes 0.
    pub fn new(score: f64, verdict: SpamVerdict) -> Self {
        Self { score: if score.is_finite() { score } else { 0.0 }, verdict }
    }
}

impl SpamVerdict {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Ham, Self::Spam];

    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ham => "ham",
            Self::Spam => "spam",
        }
    }

    /// The verdict of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.as_str() == name)
    }
}

impl MessageStatus {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Cancelled, Self::Captured, Self::Failed, Self::Quarantined, Self::Queued, Self::Sent, Self::Stored];

    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Captured => "captured",
            Self::Failed => "failed",
            Self::Quarantined => "quarantined",
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Stored => "stored",
        }
    }

    /// The status of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: MessageStore + ?Sized> MessageStore for Arc<T> {
    async fn accept(&self, batch: Vec<Acceptance>) -> Vec<Result<(), StoreError>> {
        (**self).accept(batch).await
    }
    async fn fingerprints(&self, since: Timestamp) -> Result<Vec<([u8; 32], MessageId)>, StoreError> {
        (**self).fingerprints(since).await
    }
    async fn list(&self, tenant: TenantId, query: &MessageQuery) -> Result<Page<MessageRow>, StoreError> {
        (**self).list(tenant, query).await
    }
    async fn get(&self, tenant: TenantId, id: MessageId) -> Result<Option<MessageRow>, StoreError> {
        (**self).get(tenant, id).await
    }
    async fn get_all(&self, tenant: TenantId, ids: &[MessageId]) -> Result<Vec<MessageRow>, StoreError> {
        (**self).get_all(tenant, ids).await
    }
    async fn body(&self, tenant: TenantId, id: MessageId) -> Result<Body, StoreError> {
        (**self).body(tenant, id).await
    }
    async fn change(&self, tenant: TenantId, id: MessageId, change: &MessageChange) -> Result<(), StoreError> {
        (**self).change(tenant, id, change).await
    }
    async fn metadata(&self, tenant: TenantId, id: MessageId) -> Result<Vec<Metadata>, StoreError> {
        (**self).metadata(tenant, id).await
    }
    fn version(&self, tenant: TenantId) -> u64 {
        (**self).version(tenant)
    }
    async fn changed(&self, tenant: TenantId, seen: u64) -> u64 {
        (**self).changed(tenant, seen).await
    }
}
