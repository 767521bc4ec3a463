//! Search in databases: an index that is lost, damaged, or switched off for a while.

use std::fs;
use std::path::Path;

use mairust_store::search::feed::feed;
use mairust_store::{MessageQuery, Purge, SearchRequest, SqlStorage, StorageBackend, StoreError, StoreErrorKind, User};
use tempfile::TempDir;

use crate::sample::{NOW, alice, entry, open, open_with_search};
use crate::server::Database;

#[tokio::test]
async fn an_index_that_is_lost_is_made_again() {
    let directory = TempDir::new().unwrap();
    let storage = open_with_search(directory.path()).await;
    let alice = alice(&storage).await;
    keep(&storage, &alice, 3).await;
    refeed(&storage).await;
    assert_eq!(found(&storage, &alice).await.unwrap(), 3);
    storage.close().await;
    drop(storage);
    let storage = open_with_search(directory.path()).await;
    assert!(!storage.search_outbox().is_rebuilding().await.unwrap(), "nothing was lost");
    storage.close().await;
    drop(storage);
    remove_index(directory.path());
    let storage = open_with_search(directory.path()).await;
    assert!(storage.search_outbox().is_rebuilding().await.unwrap());
    assert_eq!(found(&storage, &alice).await.unwrap(), 0);
    refeed(&storage).await;
    assert_eq!(found(&storage, &alice).await.unwrap(), 3);
}

#[tokio::test]
async fn an_index_that_is_damaged_is_made_again() {
    let directory = TempDir::new().unwrap();
    let storage = open_with_search(directory.path()).await;
    let alice = alice(&storage).await;
    keep(&storage, &alice, 2).await;
    refeed(&storage).await;
    storage.close().await;
    drop(storage);
    remove_index(directory.path());
    fs::write(index(directory.path()), "no database at all, but long enough to have a header ".repeat(99)).unwrap();
    let storage = open_with_search(directory.path()).await;
    refeed(&storage).await;
    assert_eq!(found(&storage, &alice).await.unwrap(), 2);
}

#[tokio::test]
async fn an_index_that_can_not_be_opened_stops_nobody() {
    let directory = TempDir::new().unwrap();
    fs::create_dir(index(directory.path())).unwrap();
    let storage = open_with_search(directory.path()).await;
    let alice = alice(&storage).await;
    keep(&storage, &alice, 1).await;
    assert_eq!(found(&storage, &alice).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    assert!(feed(&storage, NOW, 10).await.is_err());
    assert_eq!(storage.search_outbox().pending().await.unwrap(), 1);
    fs::remove_dir(index(directory.path())).unwrap();
    refeed(&storage).await;
    assert_eq!(found(&storage, &alice).await.unwrap(), 1);
}

#[tokio::test]
async fn what_came_in_without_an_index_is_found_with_one() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).await;
    let alice = alice(&storage).await;
    keep(&storage, &alice, 2).await;
    assert_eq!(found(&storage, &alice).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    assert_eq!(feed(&storage, NOW, 10).await.unwrap(), 0);
    drop(storage);
    for expected in [3, 4] {
        let with = open_with_search(directory.path()).await;
        refeed(&with).await;
        assert_eq!(found(&with, &alice).await.unwrap(), expected - 1);
        with.close().await;
        drop(with);
        let without = open(directory.path()).await;
        keep(&without, &alice, 1).await;
    }
}

#[tokio::test]
async fn postgresql_finds_what_came_in_without_an_index() {
    let (database, directory) = (Database::new().await, TempDir::new().unwrap());
    let builder = || SqlStorage::postgres(&database.url).fs_bodies(directory.path()).max_connections(4);
    let storage = builder().open().await.unwrap();
    let alice = alice(&storage).await;
    keep(&storage, &alice, 2).await;
    assert_eq!(found(&storage, &alice).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    drop(storage);
    let storage = builder().with_search().open().await.unwrap();
    refeed(&storage).await;
    assert_eq!(found(&storage, &alice).await.unwrap(), 2);
    drop(storage);
    let storage = builder().with_search().open().await.unwrap();
    assert!(!storage.search_outbox().is_rebuilding().await.unwrap());
}

#[tokio::test]
async fn what_was_purged_without_an_index_is_in_none() {
    let (database, directory) = (Database::new().await, TempDir::new().unwrap());
    for postgres in [false, true] {
        let builder = || match postgres {
            true => SqlStorage::postgres(&database.url).fs_bodies(directory.path()).max_connections(4),
            false => SqlStorage::sqlite(directory.path().join("mail.db")).fs_bodies(directory.path().join("mail")),
        };
        let storage = builder().with_search().open().await.unwrap();
        let alice = alice(&storage).await;
        keep(&storage, &alice, 2).await;
        refeed(&storage).await;
        storage.close().await;
        drop(storage);
        let storage = builder().open().await.unwrap();
        let query = MessageQuery { limit: 1, ..MessageQuery::default() };
        let id = storage.messages().list(alice.tenant, &query).await.unwrap().items[0].id;
        assert_eq!(storage.lifecycle().purge(alice.tenant, id).await.unwrap(), Purge::Done);
        storage.close().await;
        drop(storage);
        let storage = builder().with_search().open().await.unwrap();
        refeed(&storage).await;
        assert_eq!(found(&storage, &alice).await.unwrap(), 1);
        let documents: i64 = match postgres {
            true => {
                let documents = sqlx::query_scalar("SELECT count(*) FROM search_documents");
                documents.fetch_one(&mut database.superuser().await).await.unwrap()
            }
            false => {
                let index = rusqlite::Connection::open(index(directory.path())).unwrap();
                index.query_row("SELECT count(*) FROM documents", [], |row| row.get(0)).unwrap()
            }
        };
        assert_eq!(documents, 1, "in PostgreSQL: {postgres}");
    }
}

async fn keep(storage: &SqlStorage, alice: &User, count: usize) {
    let entries = (0..count).map(|_| entry(alice, "Subject: Report\r\n\r\nreport\r\n")).collect();
    assert!(storage.messages().accept(entries).await.iter().all(Result::is_ok));
}

/// Indexes everything that the index does not know.
async fn refeed(storage: &SqlStorage) {
    while storage.search_outbox().refill(2).await.unwrap() > 0 {}
    while feed(storage, NOW.plus(std::time::Duration::from_secs(600)), 2).await.unwrap() > 0 {}
}

async fn found(storage: &SqlStorage, alice: &User) -> Result<usize, StoreError> {
    let request = SearchRequest::new("report".parse().unwrap(), NOW);
    storage.search_index().search(alice.tenant, &request).await.map(|page| page.items.len())
}

fn index(directory: &Path) -> std::path::PathBuf {
    directory.join("mail.db-search")
}

fn remove_index(directory: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        drop(fs::remove_file(directory.join(format!("mail.db-search{suffix}"))));
    }
}
