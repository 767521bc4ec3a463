//! What becomes of files and objects when their messages are archived and purged.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{Body, ManualClock, MessageId};
use mairust_store::body::{NewObject, StoredObject, object_key};
use mairust_store::{
    BodyStore, FsBodies, MessageQuery, Placement, Purge, Retention, SqlStorage, StorageBackend, StoreError,
    StoreErrorKind, User,
};
use tempfile::TempDir;

use crate::sample::{NOW, alice, entry, id, open};

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn a_file_goes_with_the_last_message_that_has_it() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).await;
    let alice = alice(&storage).await;
    let mut twice = entry(&alice, "x");
    let second = Placement { id: MessageId::new(NOW), ..twice.messages[0].placements[0].clone() };
    twice.messages[0].placements.push(second.clone());
    let first = id(&twice);
    storage.messages().accept(vec![twice]).await.remove(0).unwrap();
    storage.move_bodies().await.unwrap();
    assert_eq!(files(directory.path()).len(), 1);
    assert_eq!(storage.lifecycle().purge(alice.tenant, first).await.unwrap(), Purge::Done);
    assert_eq!(files(directory.path()).len(), 1);
    storage.lifecycle().delete(alice.tenant, second.id, NOW).await.unwrap();
    assert_eq!(storage.lifecycle().purge(alice.tenant, second.id).await.unwrap(), Purge::Done);
    assert!(files(directory.path()).is_empty());
}

#[tokio::test]
async fn a_body_that_was_on_its_way_is_removed_when_it_arrives() {
    let directory = TempDir::new().unwrap();
    let bodies = Arc::new(Flaky::new(directory.path()));
    let (storage, clock) = open_at(directory.path(), bodies.clone()).await;
    let alice = alice(&storage).await;
    let id = keep(&storage, &alice).await;
    assert_eq!(storage.statistics().spool.bodies, 1);
    assert_eq!(storage.lifecycle().purge(alice.tenant, id).await.unwrap(), Purge::Done);
    storage.move_bodies().await.unwrap();
    assert_eq!((storage.statistics().spool.bodies, files(directory.path()).len()), (0, 0));
    // Another process had read it from the database, and writes it only now.
    bodies.put(vec![object(&key_of(&alice, id))]).await.remove(0).unwrap();
    assert_eq!(storage.lifecycle().remove_objects(alice.tenant, 9).await.unwrap(), 0);
    clock.advance(HOUR);
    assert_eq!(storage.lifecycle().remove_objects(alice.tenant, 9).await.unwrap(), 1);
    assert!(files(directory.path()).is_empty());
    clock.advance(24 * HOUR);
    assert_eq!(storage.lifecycle().remove_objects(alice.tenant, 9).await.unwrap(), 0);
}

#[tokio::test]
async fn an_object_that_can_not_be_removed_is_removed_later() {
    let directory = TempDir::new().unwrap();
    let bodies = Arc::new(Flaky::new(directory.path()));
    let (storage, clock) = open_at(directory.path(), bodies.clone()).await;
    let alice = alice(&storage).await;
    let (one, other) = (keep(&storage, &alice).await, keep(&storage, &alice).await);
    storage.move_bodies().await.unwrap();
    bodies.down.store(true, Ordering::Relaxed);
    let lifecycle = storage.lifecycle();
    assert_eq!(lifecycle.purge(alice.tenant, one).await.unwrap(), Purge::Done);
    lifecycle.delete(alice.tenant, other, NOW).await.unwrap();
    let retention = Retention { now: NOW, days: 0 };
    assert_eq!(lifecycle.purge_deleted(alice.tenant, retention, 9).await.unwrap(), 1);
    assert!(storage.messages().list(alice.tenant, &MessageQuery::default()).await.unwrap().items.is_empty());
    assert_eq!(lifecycle.tenants_to_clean(retention).await.unwrap(), [alice.tenant]);
    let error = lifecycle.remove_objects(alice.tenant, 9).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert_eq!(files(directory.path()).len(), 2);
    bodies.down.store(false, Ordering::Relaxed);
    // Not at once: a store that is down is not asked all the time.
    assert!(lifecycle.tenants_to_clean(retention).await.unwrap().is_empty());
    clock.advance(HOUR);
    assert_eq!(lifecycle.tenants_to_clean(retention).await.unwrap(), [alice.tenant]);
    assert_eq!(lifecycle.remove_objects(alice.tenant, 9).await.unwrap(), 2);
    assert!(files(directory.path()).is_empty());
    assert!(lifecycle.tenants_to_clean(retention).await.unwrap().is_empty());
}

#[tokio::test]
async fn archiving_moves_a_file() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).await;
    let alice = alice(&storage).await;
    let (settled, spooled) = (keep(&storage, &alice).await, keep(&storage, &alice).await);
    storage.move_bodies().await.unwrap();
    let fresh = keep(&storage, &alice).await;
    for id in [settled, spooled, fresh] {
        assert!(storage.lifecycle().archive(alice.tenant, id).await.unwrap());
        assert!(storage.messages().body(alice.tenant, id).await.is_ok());
    }
    storage.move_bodies().await.unwrap();
    let archive = directory.path().join("mail/archive");
    let expected = [settled, spooled, fresh].map(|id| archive.join(key_of(&alice, id)));
    assert_eq!(files(directory.path()), sorted(expected));
    assert_eq!(storage.lifecycle().purge(alice.tenant, settled).await.unwrap(), Purge::Done);
    assert_eq!(files(directory.path()).len(), 2);
}

#[tokio::test]
async fn archiving_may_stop_anywhere() {
    let directory = TempDir::new().unwrap();
    let bodies = Arc::new(Flaky::new(directory.path()));
    let (storage, clock) = open_at(directory.path(), bodies.clone()).await;
    let alice = alice(&storage).await;
    let id = keep(&storage, &alice).await;
    storage.move_bodies().await.unwrap();
    let copy = directory.path().join("mail/archive").join(key_of(&alice, id));
    // Before the copy was made.
    bodies.down.store(true, Ordering::Relaxed);
    assert_eq!(storage.lifecycle().archive(alice.tenant, id).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    bodies.down.store(false, Ordering::Relaxed);
    // After it was made, but before the message was given it.
    bodies.put(vec![object(&format!("archive/{}", key_of(&alice, id)))]).await.remove(0).unwrap();
    assert_eq!(files(directory.path()).len(), 2);
    assert!(storage.messages().body(alice.tenant, id).await.is_ok());
    clock.advance(HOUR);
    assert_eq!(storage.lifecycle().remove_objects(alice.tenant, 9).await.unwrap(), 1);
    assert!(!copy.exists() && storage.messages().body(alice.tenant, id).await.is_ok());
    // Another try finds what the first one has left.
    bodies.put(vec![object(&format!("archive/{}", key_of(&alice, id)))]).await.remove(0).unwrap();
    assert!(storage.lifecycle().archive(alice.tenant, id).await.unwrap());
    clock.advance(24 * HOUR);
    storage.lifecycle().remove_objects(alice.tenant, 9).await.unwrap();
    assert_eq!(files(directory.path()), [copy]);
    assert!(storage.messages().body(alice.tenant, id).await.is_ok());
}

#[tokio::test]
async fn a_copy_that_is_damaged_is_not_taken() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).await;
    let alice = alice(&storage).await;
    let id = keep(&storage, &alice).await;
    storage.move_bodies().await.unwrap();
    let copy = directory.path().join("mail/archive").join(key_of(&alice, id));
    std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
    std::fs::write(&copy, "something else").unwrap();
    assert_eq!(storage.lifecycle().archive(alice.tenant, id).await.unwrap_err().kind(), StoreErrorKind::Corrupt);
    assert!(storage.messages().body(alice.tenant, id).await.is_ok());
    std::fs::remove_file(&copy).unwrap();
    assert!(storage.lifecycle().archive(alice.tenant, id).await.unwrap());
}

#[tokio::test]
async fn a_message_can_be_read_while_it_is_archived() {
    let directory = TempDir::new().unwrap();
    let storage = Arc::new(open(directory.path()).await);
    let alice = alice(&*storage).await;
    for _ in 0..20 {
        let id = keep(&storage, &alice).await;
        storage.move_bodies().await.unwrap();
        let (reader, tenant, done) = (Arc::clone(&storage), alice.tenant, Arc::new(AtomicBool::new(false)));
        let stop = Arc::clone(&done);
        let reading = tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                reader.messages().body(tenant, id).await.unwrap();
            }
        });
        assert!(storage.lifecycle().archive(alice.tenant, id).await.unwrap());
        done.store(true, Ordering::Relaxed);
        reading.await.unwrap();
    }
}

/// Files that can be kept from being written and removed.
#[derive(Debug)]
struct Flaky {
    files: FsBodies,
    down: AtomicBool,
}

impl Flaky {
    fn new(directory: &Path) -> Self {
        Self { files: FsBodies::open(directory.join("mail")).unwrap(), down: AtomicBool::new(false) }
    }

    fn check_up(&self) -> Result<(), StoreError> {
        match self.down.load(Ordering::Relaxed) {
            true => Err(StoreError::new(StoreErrorKind::Unavailable, "bodies", "down")),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl BodyStore for Flaky {
    async fn put(&self, objects: Vec<NewObject>) -> Vec<Result<StoredObject, StoreError>> {
        match self.check_up() {
            Ok(()) => self.files.put(objects).await,
            Err(_) => objects.iter().map(|_| self.check_up().map(|()| unreachable!())).collect(),
        }
    }

    async fn open(&self, key: &str) -> Result<Body, StoreError> {
        self.files.open(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.check_up()?;
        self.files.delete(key).await
    }

    async fn list(&self, after: Option<&str>, limit: u32) -> Result<Vec<String>, StoreError> {
        self.files.list(after, limit).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.check_up()
    }
}

/// Storage with a clock of its own that moves bodies only when told to.
async fn open_at(directory: &Path, bodies: Arc<dyn BodyStore>) -> (SqlStorage, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(NOW));
    let builder = SqlStorage::sqlite(directory.join("mail.db")).bodies(bodies).clock(clock.clone());
    (builder.without_background_work().open().await.unwrap(), clock)
}

async fn keep(storage: &SqlStorage, to: &User) -> MessageId {
    let entry = entry(to, "x");
    let id = id(&entry);
    storage.messages().accept(vec![entry]).await.remove(0).unwrap();
    id
}

fn key_of(user: &User, id: MessageId) -> String {
    object_key(user.tenant, user.mailbox, id)
}

/// What [`keep`] has kept, under another key.
fn object(key: &str) -> NewObject {
    NewObject { key: key.to_owned(), prefix: bytes::Bytes::new(), body: Body::from(b"x".to_vec()) }
}

/// All messages that are files, sorted.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "eml") {
                found.push(path);
            }
        }
    }
    sorted(found)
}

fn sorted(paths: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut paths: Vec<_> = paths.into_iter().collect();
    paths.sort();
    paths
}
