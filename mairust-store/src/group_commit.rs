//! Group commit: many who wait for the disk share one wait.
//!
//! There is no timer. While one group is committed, the next one gathers; a lone entry finds no
//! commit under way and is not delayed.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::FutureExt;
use mairust_core::{Body, MessageId, TenantId, Timestamp};
use tokio::sync::{mpsc, oneshot};

use crate::error::{StoreError, StoreErrorKind};
use crate::mark::Metadata;
use crate::message::{Acceptance, MessageChange, MessageQuery, MessageRow, MessageStore, Page};

/// A [`MessageStore`] that accepts for all who wait at once; everything else is passed on.
///
/// A caller that goes away does not stop the commit that its entries are in. The committer is a
/// task of the runtime in which `accept` is first called; it ends when the wrapper is dropped and
/// all that was handed over is done.
#[derive(Debug)]
pub struct GroupCommit<S> {
    shared: Arc<Shared<S>>,
    committer: Mutex<Option<mpsc::Sender<Waiting>>>,
}

#[derive(Debug)]
struct Shared<S> {
    inner: S,
    groups: AtomicU64,
    entries: AtomicU64,
}

/// What one caller handed over.
#[derive(Debug)]
struct Waiting {
    entries: Vec<Acceptance>,
    bytes: u64,
    answer: oneshot::Sender<Vec<Result<(), StoreError>>>,
}

/// A group takes no further caller beyond this many entries.
const GROUP_ENTRIES: usize = 256;
/// A group takes no further caller beyond this many bytes of bodies: 64 MiB.
const GROUP_BYTES: u64 = 64 * 1024 * 1024;

impl<S: MessageStore> GroupCommit<S> {
    /// Wraps a store.
    pub fn new(inner: S) -> Self {
        let shared = Shared { inner, groups: AtomicU64::new(0), entries: AtomicU64::new(0) };
        Self { shared: Arc::new(shared), committer: Mutex::new(None) }
    }

    /// The store inside.
    pub fn inner(&self) -> &S {
        &self.shared.inner
    }

    /// Number of groups committed so far, for metrics.
    pub fn groups(&self) -> u64 {
        self.shared.groups.load(Ordering::Relaxed)
    }

    /// Number of entries committed so far, for metrics.
    pub fn entries(&self) -> u64 {
        self.shared.entries.load(Ordering::Relaxed)
    }

    /// The way to the committer, which is started if there is none or its runtime has ended.
    fn committer(&self) -> mpsc::Sender<Waiting> {
        let mut committer = self.committer.lock().unwrap_or_else(PoisonError::into_inner);
        match &*committer {
            Some(running) if !running.is_closed() => running.clone(),
            _ => {
                let (sender, receiver) = mpsc::channel(GROUP_ENTRIES);
                tokio::spawn(commit_groups(Arc::clone(&self.shared), receiver));
                committer.insert(sender).clone()
            }
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: MessageStore> MessageStore for GroupCommit<S> {
    async fn accept(&self, batch: Vec<Acceptance>) -> Vec<Result<(), StoreError>> {
        if batch.is_empty() {
            return Vec::new();
        }
        let count = batch.len();
        let bytes = batch.iter().map(Acceptance::body_bytes).sum();
        let (answer, answered) = oneshot::channel();
        if self.committer().send(Waiting { entries: batch, bytes, answer }).await.is_err() {
            return lost(count);
        }
        answered.await.unwrap_or_else(|_| lost(count))
    }

    async fn fingerprints(&self, since: Timestamp) -> Result<Vec<([u8; 32], MessageId)>, StoreError> {
        self.inner().fingerprints(since).await
    }

    async fn list(&self, tenant: TenantId, query: &MessageQuery) -> Result<Page<MessageRow>, StoreError> {
        self.inner().list(tenant, query).await
    }

    async fn get(&self, tenant: TenantId, id: MessageId) -> Result<Option<MessageRow>, StoreError> {
        self.inner().get(tenant, id).await
    }

    async fn get_all(&self, tenant: TenantId, ids: &[MessageId]) -> Result<Vec<MessageRow>, StoreError> {
        self.inner().get_all(tenant, ids).await
    }

    async fn body(&self, tenant: TenantId, id: MessageId) -> Result<Body, StoreError> {
        self.inner().body(tenant, id).await
    }

    async fn change(&self, tenant: TenantId, id: MessageId, change: &MessageChange) -> Result<(), StoreError> {
        self.inner().change(tenant, id, change).await
    }

    async fn metadata(&self, tenant: TenantId, id: MessageId) -> Result<Vec<Metadata>, StoreError> {
        self.inner().metadata(tenant, id).await
    }

    fn version(&self, tenant: TenantId) -> u64 {
        self.inner().version(tenant)
    }

    async fn changed(&self, tenant: TenantId, seen: u64) -> u64 {
        self.inner().changed(tenant, seen).await
    }
}

async fn commit_groups<S: MessageStore>(shared: Arc<Shared<S>>, mut receiver: mpsc::Receiver<Waiting>) {
    let mut next = receiver.recv().await;
    while let Some(first) = next.take() {
        let (group, beyond) = gather(first, &mut receiver);
        commit(&shared, group).await;
        next = match beyond {
            Some(waiting) => Some(waiting),
            None => receiver.recv().await,
        };
    }
}

/// Takes all that wait, up to the bounds; also what was taken but has no room any more.
fn gather(first: Waiting, receiver: &mut mpsc::Receiver<Waiting>) -> (Vec<Waiting>, Option<Waiting>) {
    let (mut entries, mut bytes) = (first.entries.len(), first.bytes);
    let mut group = vec![first];
    while entries < GROUP_ENTRIES && bytes < GROUP_BYTES {
        let Ok(waiting) = receiver.try_recv() else { break };
        entries += waiting.entries.len();
        bytes = bytes.saturating_add(waiting.bytes);
        if entries > GROUP_ENTRIES || bytes > GROUP_BYTES {
            return (group, Some(waiting));
        }
        group.push(waiting);
    }
    (group, None)
}

async fn commit<S: MessageStore>(shared: &Shared<S>, group: Vec<Waiting>) {
    let (mut batch, mut callers) = (Vec::new(), Vec::with_capacity(group.len()));
    for waiting in group {
        callers.push((waiting.entries.len(), waiting.answer));
        batch.extend(waiting.entries);
    }
    let count = batch.len();
    // A fault in a store must not leave everybody waiting forever.
    let accepted = AssertUnwindSafe(async { shared.inner.accept(batch).await }).catch_unwind().await;
    let mut results = match accepted {
        Ok(results) if results.len() == count => results.into_iter(),
        _ => lost(count).into_iter(),
    };
    shared.groups.fetch_add(1, Ordering::Relaxed);
    shared.entries.fetch_add(count as u64, Ordering::Relaxed);
    for (count, answer) in callers {
        // A caller that went away needs no answer.
        drop(answer.send(results.by_ref().take(count).collect()));
    }
}

fn lost(count: usize) -> Vec<Result<(), StoreError>> {
    let lost = || StoreError::new(StoreErrorKind::Unavailable, "accept", "the committer was interrupted");
    (0..count).map(|_| Err(lost())).collect()
}
