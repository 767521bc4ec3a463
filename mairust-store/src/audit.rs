//! The audit log: who did what, in chains that can't be changed unseen.
//!
//! Each owner has a chain of its own. An entry has the number after the one before and a SHA-256
//! over its own fields and that of the entry before, so that changing, removing or moving an entry
//! breaks the chain at that place; anybody can check that, also on an export. The head of the chain
//! says where it ends and where, after old entries were dropped, it begins. It is signed by HMAC
//! under an [`AuditKey`], so that whoever can write to the database, but does not have the key, can
//! neither cut the end off nor make a whole chain anew.
//!
//! Deliberately absent: which events there are, and keeping secrets out of them, which is up to
//! whoever appends. What can't be found is a database that was put back as a whole to an earlier
//! state: for that, keep the head somewhere else, for example in the log stream.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::{AuditId, Secret, Timestamp};

use crate::error::StoreError;
use crate::message::Page;
use crate::owner::Owner;

pub(crate) mod chain;
mod verification;

pub use chain::AuditHead;
pub use verification::{AuditProblem, AuditVerification};

/// The type of the entry that is put into a chain when its head is not what was signed, so that
/// appending to it does not make good what somebody else wrote.
pub const AUDIT_BROKEN: &str = "audit.chain_broken";

/// The key under which heads of chains are signed. All nodes of an installation share it.
#[derive(Debug, Clone)]
pub struct AuditKey(Secret<[u8; 32]>);

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAuditEvent {
    /// When.
    pub at: Timestamp,
    /// What, for example `user.created`.
    pub event_type: String,
    /// Who did it.
    pub actor: Actor,
    /// To what it was done, if to anything.
    pub target: Option<Target>,
    /// What it was before, without secrets.
    pub before: Option<serde_json::Value>,
    /// What it is since then, without secrets.
    pub after: Option<serde_json::Value>,
    /// The request that asked for it.
    pub request_id: Option<String>,
}

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// What kind, for example `user`, `api_key`, `operator` or `system`.
    pub kind: String,
    /// Which one, as far as it is known.
    pub id: Option<String>,
    /// From where.
    pub ip: Option<IpAddr>,
}

/// To what something was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What kind, for example `domain`.
    pub kind: String,
    /// Which one.
    pub id: String,
}

/// An entry of a chain.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AuditEntry {
    /// Its id.
    pub id: AuditId,
    /// Whose chain it is in.
    pub owner: Owner,
    /// Its number in the chain, from 1 on.
    pub sequence: u64,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub event_type: String,
    /// Who did it.
    pub actor: Actor,
    /// To what it was done.
    pub target: Option<Target>,
    /// What it was before: JSON, octet for octet what the hash is over.
    pub before: Option<String>,
    /// What it is since then: JSON, octet for octet what the hash is over.
    pub after: Option<String>,
    /// The request that asked for it.
    pub request_id: Option<String>,
    /// SHA-256 of all this and of the entry before.
    pub hash: [u8; 32],
}

/// In which order entries are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuditOrder {
    /// The last one first.
    #[default]
    NewestFirst,
    /// As they were appended.
    OldestFirst,
}

/// Which entries to list. All conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Of this type.
    pub event_type: Option<String>,
    /// Done by this one: the id of the actor.
    pub actor: Option<String>,
    /// Done to this: the id of the target.
    pub target: Option<String>,
    /// At this time or later.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
    /// Only what stands behind the entry of this number, in the order of the list.
    pub after: Option<u64>,
    /// The order of the list.
    pub order: AuditOrder,
    /// At most this many; 0 means none.
    pub limit: u32,
}

/// Which entries to drop: from the oldest one on, up to the first that is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditDrop {
    /// What happened at this time or later is kept.
    pub before: Timestamp,
    /// At most this many.
    pub max: u32,
    /// What time it is.
    pub now: Timestamp,
}

/// Chains of entries. All times come from the caller.
#[async_trait]
pub trait AuditLog: fmt::Debug + Send + Sync + 'static {
    /// Puts events at the end of a chain, in order: all or none, durable on return. Whoever appends
    /// at the same time, in this process or another, comes before or behind. Must not run twice: the
    /// events would be there twice. Safe to drop: it happens whole or not at all.
    ///
    /// If the head of the chain is not what was signed, an entry of the type [`AUDIT_BROKEN`] comes
    /// first.
    ///
    /// # Errors
    /// `NotFound` if there is no such tenant.
    async fn append(
        &self,
        owner: Owner,
        key: &AuditKey,
        events: Vec<NewAuditEvent>,
    ) -> Result<Vec<AuditEntry>, StoreError>;

    /// An entry; `None` if the owner's chain has none of this id.
    async fn entry(&self, owner: Owner, id: AuditId) -> Result<Option<AuditEntry>, StoreError>;

    /// Lists entries of a chain.
    async fn list(&self, owner: Owner, query: &AuditQuery) -> Result<Page<AuditEntry>, StoreError>;

    /// Where a chain begins and ends, not verified; `None` if nothing was ever appended.
    async fn head(&self, owner: Owner) -> Result<Option<AuditHead>, StoreError>;

    /// Drops entries from the old end of a chain; returns how many. The chain begins behind them
    /// from then on. Durable on return, may run twice, safe to drop.
    ///
    /// If the head is not what was signed, or entries are missing among those to be dropped, an
    /// entry of the type [`AUDIT_BROKEN`] is appended.
    async fn drop_old(&self, owner: Owner, key: &AuditKey, drop: AuditDrop) -> Result<u64, StoreError>;

    /// Who has a chain, sorted. For whoever runs the server.
    async fn owners(&self) -> Result<Vec<Owner>, StoreError>;
}

/// Conveniences over an [`AuditLog`].
#[async_trait]
pub trait AuditLogExt {
    /// Reads a whole chain and says what is wrong with it. Entries that are appended meanwhile are
    /// not looked at.
    ///
    /// # Errors
    /// When the log can't be read.
    async fn verify(&self, owner: Owner, key: &AuditKey) -> Result<AuditVerification, StoreError>;
}

impl AuditKey {
    /// A key of these octets.
    pub fn new(bytes: Secret<[u8; 32]>) -> Self {
        Self(bytes)
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

impl Actor {
    /// The server itself.
    pub fn system() -> Self {
        Self { kind: "system".to_owned(), id: None, ip: None }
    }
}

impl AuditEntry {
    /// The entry as it is shown and exported.
    pub fn to_json(&self) -> serde_json::Value {
        let target = self.target.as_ref().map(|target| serde_json::json!({"type": target.kind, "id": target.id}));
        serde_json::json!({
            "id": self.id.to_string(),
            "sequence": self.sequence,
            "timestamp": self.at.to_rfc3339(),
            "event_type": self.event_type,
            "actor": {"type": self.actor.kind, "id": self.actor.id, "ip": self.actor.ip},
            "target": target,
            "before": self.before_value(),
            "after": self.after_value(),
            "request_id": self.request_id,
            "hash": hex(&self.hash),
        })
    }

    /// What it was before, parsed.
    pub fn before_value(&self) -> Option<serde_json::Value> {
        parsed(self.before.as_deref())
    }

    /// What it is since then, parsed.
    pub fn after_value(&self) -> Option<serde_json::Value> {
        parsed(self.after.as_deref())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parsed(text: Option<&str>) -> Option<serde_json::Value> {
    text.and_then(|text| serde_json::from_str(text).ok())
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: AuditLog + ?Sized> AuditLog for Arc<T> {
    async fn append(
        &self,
        owner: Owner,
        key: &AuditKey,
        events: Vec<NewAuditEvent>,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        (**self).append(owner, key, events).await
    }
    async fn entry(&self, owner: Owner, id: AuditId) -> Result<Option<AuditEntry>, StoreError> {
        (**self).entry(owner, id).await
    }
    async fn list(&self, owner: Owner, query: &AuditQuery) -> Result<Page<AuditEntry>, StoreError> {
        (**self).list(owner, query).await
    }
    async fn head(&self, owner: Owner) -> Result<Option<AuditHead>, StoreError> {
        (**self).head(owner).await
    }
    async fn drop_old(&self, owner: Owner, key: &AuditKey, drop: AuditDrop) -> Result<u64, StoreError> {
        (**self).drop_old(owner, key, drop).await
    }
    async fn owners(&self) -> Result<Vec<Owner>, StoreError> {
        (**self).owners().await
    }
}
