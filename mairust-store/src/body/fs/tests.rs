//! Syncs that fail.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use mairust_core::Body;
use tempfile::TempDir;

use super::{FsBodies, SYNC_TOGETHER};
use crate::body::{BodyStore, NewObject};
use crate::error::StoreErrorKind;

/// Objects in folders of their own.
fn objects(count: usize) -> Vec<NewObject> {
    let object = |number| NewObject {
        key: format!("tenant/mailbox-{number}/message.eml"),
        prefix: Bytes::from_static(b"prefix "),
        body: Body::from(b"body".to_vec()),
    };
    (0..count).map(object).collect()
}

#[tokio::test]
async fn what_a_failed_sync_was_about_is_not_kept_and_can_be_put_again() {
    for count in [1, 3, SYNC_TOGETHER] {
        let mut broken = 1;
        loop {
            let directory = TempDir::new().unwrap();
            let store = FsBodies::open(directory.path()).unwrap();
            store.0.broken_sync.store(store.fsyncs() + broken, Ordering::Relaxed);
            let answers = store.put(objects(count)).await;
            if answers.iter().all(Result::is_ok) {
                break;
            }
            let mut again = Vec::new();
            for (object, answer) in objects(count).into_iter().zip(answers) {
                let opened = store.open(&object.key).await;
                match answer {
                    Ok(_) => drop(opened.unwrap()),
                    Err(error) => {
                        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
                        assert_eq!(opened.unwrap_err().kind(), StoreErrorKind::NotFound);
                        again.push(object);
                    }
                }
            }
            // It is written anew: what lay in the cache when the sync failed may never reach the disk.
            assert!(store.put(again).await.iter().all(Result::is_ok), "{count} objects, sync {broken}");
            broken += 1;
        }
        assert!(broken > 2, "syncs of files and of names were broken");
    }
}

#[tokio::test]
async fn a_name_that_is_taken_counts_only_when_it_is_synced() {
    let directory = TempDir::new().unwrap();
    let store = FsBodies::open(directory.path()).unwrap();
    store.put(objects(1)).await.remove(0).unwrap();
    // The file is synced first, then the folder with the name.
    store.0.broken_sync.store(store.fsyncs() + 2, Ordering::Relaxed);
    let error = store.put(objects(1)).await.remove(0).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    let error = store.put(objects(1)).await.remove(0).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::AlreadyExists);
}
