//! Group commit over a store whose commits the test lets through.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::future::join_all;
use mairust_core::{Body, MessageId, SystemClock, TenantId, Timestamp};
use mairust_store::{
    Acceptance, GroupCommit, MemoryStorage, MessageChange, MessageQuery, MessageRow, MessageStore, Metadata, Page,
    StoreError, StoreErrorKind, User,
};
use tokio::sync::{Semaphore, watch};

use crate::sample::{alice, entry, id};

/// Passes everything on; `accept` takes a permit first.
#[derive(Debug)]
struct Gated {
    inner: MemoryStorage,
    gate: Semaphore,
    /// Sizes of the batches that came to the gate.
    batches: watch::Sender<Vec<usize>>,
    panics: AtomicBool,
}

#[tokio::test]
async fn who_waits_for_the_same_commit_shares_it() {
    let (store, alice) = gated(0).await;
    let calls: Vec<_> = (0..64).map(|_| tokio::spawn(accept(Arc::clone(&store), entry(&alice, "x")))).collect();
    reached(&store, 1).await;
    store.inner().gate.add_permits(64);
    for call in join_all(calls).await {
        call.unwrap().unwrap();
    }
    assert_eq!(store.entries(), 64);
    assert!(store.groups() < store.entries(), "{} groups", store.groups());
    assert_eq!(messages(&store, &alice).await, 64);
}

#[tokio::test]
async fn a_lone_entry_is_a_group_of_its_own() {
    let (store, alice) = gated(2).await;
    for _ in 0..2 {
        accept(Arc::clone(&store), entry(&alice, "x")).await.unwrap();
    }
    assert_eq!((store.groups(), store.entries()), (2, 2));
}

#[tokio::test]
async fn each_caller_gets_its_own_answers() {
    let (store, alice) = gated(0).await;
    let known = entry(&alice, "x");
    let first = tokio::spawn(accept(Arc::clone(&store), known.clone()));
    reached(&store, 1).await;
    let batch = vec![entry(&alice, "x"), known, entry(&alice, "x")];
    let second = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.accept(batch).await }
    });
    let third = tokio::spawn(accept(Arc::clone(&store), entry(&alice, "x")));
    store.inner().gate.add_permits(9);
    first.await.unwrap().unwrap();
    third.await.unwrap().unwrap();
    let answers: Vec<_> = second.await.unwrap().into_iter().map(|answer| answer.err().map(|e| e.kind())).collect();
    assert_eq!(answers, [None, Some(StoreErrorKind::AlreadyExists), None]);
    assert!(store.accept(Vec::new()).await.is_empty());
}

#[tokio::test]
async fn groups_are_bounded() {
    let (store, alice) = gated(0).await;
    let first = tokio::spawn(accept(Arc::clone(&store), entry(&alice, "x")));
    reached(&store, 1).await;
    let batches = (0..3).map(|_| (0..200).map(|_| entry(&alice, "x")).collect::<Vec<_>>());
    let calls: Vec<_> = batches
        .map(|batch| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.accept(batch).await })
        })
        .collect();
    store.inner().gate.add_permits(9);
    first.await.unwrap().unwrap();
    for answers in join_all(calls).await {
        assert!(answers.unwrap().iter().all(Result::is_ok));
    }
    assert_eq!(*store.inner().batches.borrow(), [1, 200, 200, 200]);
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_stop_the_commit() {
    let (store, alice) = gated(0).await;
    let entry = entry(&alice, "x");
    let id = id(&entry);
    let call = tokio::spawn(accept(Arc::clone(&store), entry));
    reached(&store, 1).await;
    let seen = store.version(alice.tenant);
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    store.inner().gate.add_permits(1);
    store.changed(alice.tenant, seen).await;
    assert!(store.get(alice.tenant, id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_panic_inside_is_an_answer_and_not_the_end() {
    let (store, alice) = gated(9).await;
    store.inner().panics.store(true, Ordering::SeqCst);
    let error = accept(Arc::clone(&store), entry(&alice, "x")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    store.inner().panics.store(false, Ordering::SeqCst);
    accept(Arc::clone(&store), entry(&alice, "x")).await.unwrap();
}

#[test]
fn outlives_the_runtime_that_it_was_first_used_in() {
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (store, alice) = runtime().block_on(gated(9));
    for _ in 0..2 {
        runtime().block_on(accept(Arc::clone(&store), entry(&alice, "x"))).unwrap();
    }
    assert_eq!(store.groups(), 2);
}

async fn gated(permits: usize) -> (Arc<GroupCommit<Gated>>, User) {
    let inner = MemoryStorage::new(Arc::new(SystemClock));
    let alice = alice(&inner).await;
    let (gate, batches, panics) = (Semaphore::new(permits), watch::Sender::new(Vec::new()), AtomicBool::new(false));
    (Arc::new(GroupCommit::new(Gated { inner, gate, batches, panics })), alice)
}

async fn accept(store: Arc<GroupCommit<Gated>>, entry: Acceptance) -> Result<(), StoreError> {
    store.accept(vec![entry]).await.remove(0)
}

/// Waits until this many batches have come to the gate.
async fn reached(store: &GroupCommit<Gated>, count: usize) {
    store.inner().batches.subscribe().wait_for(|batches| batches.len() >= count).await.unwrap();
}

async fn messages(store: &GroupCommit<Gated>, user: &User) -> usize {
    let query = MessageQuery { limit: 1000, ..MessageQuery::default() };
    store.list(user.tenant, &query).await.unwrap().items.len()
}

#[async_trait]
impl MessageStore for Gated {
    async fn accept(&self, batch: Vec<Acceptance>) -> Vec<Result<(), StoreError>> {
        self.batches.send_modify(|batches| batches.push(batch.len()));
        self.gate.acquire().await.unwrap().forget();
        assert!(!self.panics.load(Ordering::SeqCst), "as the test asked for");
        self.inner.accept(batch).await
    }

    async fn fingerprints(&self, since: Timestamp) -> Result<Vec<([u8; 32], MessageId)>, StoreError> {
        self.inner.fingerprints(since).await
    }

    async fn list(&self, tenant: TenantId, query: &MessageQuery) -> Result<Page<MessageRow>, StoreError> {
        self.inner.list(tenant, query).await
    }

    async fn get(&self, tenant: TenantId, id: MessageId) -> Result<Option<MessageRow>, StoreError> {
        self.inner.get(tenant, id).await
    }

    async fn body(&self, tenant: TenantId, id: MessageId) -> Result<Body, StoreError> {
        self.inner.body(tenant, id).await
    }

    async fn change(&self, tenant: TenantId, id: MessageId, change: &MessageChange) -> Result<(), StoreError> {
        self.inner.change(tenant, id, change).await
    }

    async fn metadata(&self, tenant: TenantId, id: MessageId) -> Result<Vec<Metadata>, StoreError> {
        self.inner.metadata(tenant, id).await
    }

    fn version(&self, tenant: TenantId) -> u64 {
        MessageStore::version(&self.inner, tenant)
    }

    async fn changed(&self, tenant: TenantId, seen: u64) -> u64 {
        MessageStore::changed(&self.inner, tenant, seen).await
    }
}
