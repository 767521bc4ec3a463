//! Bodies that can't be kept, and that nothing is unreliable without a mishap.

use std::path::Path;
use std::sync::Arc;

use mairust_core::SystemClock;
use mairust_store::{
    MemoryBodies, MemoryStorage, Mishap, Mishaps, SqlStorage, StorageBackend, StoreErrorKind, UnreliableBodies,
    UnreliableStorage,
};
use tempfile::TempDir;

use crate::sample::{alice, entry, id};

mairust_store::conformance_tests!(storage);

mod bodies {
    use super::bodies;
    mairust_store::body_conformance_tests!(bodies);
}

async fn storage() -> (UnreliableStorage<MemoryStorage>, ()) {
    (UnreliableStorage::new(MemoryStorage::new(Arc::new(SystemClock)), Mishaps::new()), ())
}

async fn bodies() -> (UnreliableBodies<MemoryBodies>, ()) {
    (UnreliableBodies::new(MemoryBodies::default(), Mishaps::new()), ())
}

async fn open(directory: &Path, mishaps: &Mishaps) -> SqlStorage {
    let bodies = Arc::new(UnreliableBodies::new(MemoryBodies::default(), mishaps.clone()));
    SqlStorage::sqlite(directory.join("mail.db")).bodies(bodies).without_background_work().open().await.unwrap()
}

/// More than is accepted into the database.
fn large() -> String {
    "x".repeat(512 * 1024)
}

#[tokio::test]
async fn a_large_body_that_is_not_kept_is_not_accepted() {
    let (directory, mishaps) = (TempDir::new().unwrap(), Mishaps::new());
    let storage = open(directory.path(), &mishaps).await;
    let alice = alice(&storage).await;
    for mishap in [
        Mishap::Fail(StoreErrorKind::Unavailable),
        Mishap::Fail(StoreErrorKind::Full),
        Mishap::LoseAnswer(StoreErrorKind::Unavailable),
    ] {
        let entry = entry(&alice, &large());
        mishaps.once("bodies.put", mishap);
        let error = storage.messages().accept(vec![entry.clone()]).await.remove(0).unwrap_err();
        assert!(matches!(mishap, Mishap::Fail(kind) | Mishap::LoseAnswer(kind) if kind == error.kind()));
        assert!(storage.messages().get(alice.tenant, id(&entry)).await.unwrap().is_none());
    }
    let entry = entry(&alice, &large());
    let id = id(&entry);
    storage.messages().accept(vec![entry]).await.remove(0).unwrap();
    assert_eq!(storage.messages().body(alice.tenant, id).await.unwrap().len(), large().len() as u64);
}

#[tokio::test]
async fn a_body_waits_in_the_database_until_the_store_says_that_it_has_it() {
    let (directory, mishaps) = (TempDir::new().unwrap(), Mishaps::new());
    let storage = open(directory.path(), &mishaps).await;
    let alice = alice(&storage).await;
    let entry = entry(&alice, "x");
    let id = id(&entry);
    storage.messages().accept(vec![entry]).await.remove(0).unwrap();
    let lost = Mishap::LoseAnswer(StoreErrorKind::Unavailable);
    for mishap in [Mishap::Fail(StoreErrorKind::Unavailable), lost] {
        mishaps.once("bodies.put", mishap);
        storage.move_bodies().await.unwrap_err();
        let spool = storage.spool();
        assert_eq!((spool.bodies, spool.bytes, spool.oldest.is_some()), (1, 1, true));
        assert_eq!(storage.messages().body(alice.tenant, id).await.unwrap().len(), 1);
    }
    // The body is there since the answer was lost; that counts when it can be read.
    mishaps.once("bodies.open", Mishap::Fail(StoreErrorKind::Unavailable));
    storage.move_bodies().await.unwrap_err();
    assert_eq!(storage.statistics().spool.bodies, 1);
    storage.move_bodies().await.unwrap();
    let spool = storage.spool();
    assert_eq!((spool.bodies, spool.bytes, spool.oldest, spool.moved), (0, 0, None, 1));
    assert_eq!(storage.messages().body(alice.tenant, id).await.unwrap().len(), 1);
}
