//! Too little room on the disk.

use std::path::Path;
use std::time::Duration;

use mairust_store::{DiskFloor, SqlStorage, StorageBackend, StoreErrorKind};
use tempfile::TempDir;

use crate::sample::{NOW, alice, entry, job};

async fn open(directory: &Path, floor: DiskFloor) -> SqlStorage {
    let builder = SqlStorage::sqlite(directory.join("mail.db")).fs_bodies(directory.join("mail"));
    builder.disk_floor(floor).open().await.unwrap()
}

#[tokio::test]
async fn below_the_floor_no_mail_is_taken_and_no_job_is_leased() {
    let directory = TempDir::new().unwrap();
    // No disk has that many bytes.
    let storage = open(directory.path(), DiskFloor::new(u64::MAX, 0)).await;
    let alice = alice(&storage).await;
    let error = storage.messages().accept(vec![entry(&alice, "x")]).await.remove(0).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Full);
    // What is under way may end: that needs next to nothing.
    let mut ending = entry(&alice, "x");
    ending.messages.clear();
    ending.jobs = vec![job(alice.tenant)];
    storage.messages().accept(vec![ending]).await.remove(0).unwrap();
    let error = storage.queue().lease(NOW, 1, Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Full);
    let health = storage.health().await;
    let (part, disk) = health.iter().find(|(_, state)| state.is_err()).unwrap();
    assert_eq!((*part, disk.as_ref().unwrap_err().kind()), ("disk", StoreErrorKind::Full));
    storage.close().await;

    let storage = open(directory.path(), DiskFloor::new(1, 0)).await;
    storage.messages().accept(vec![entry(&alice, "x")]).await.remove(0).unwrap();
    assert_eq!(storage.queue().lease(NOW, 1, Duration::from_secs(60)).await.unwrap().len(), 1);
    assert!(storage.health().await.iter().all(|(_, state)| state.is_ok()));
}
