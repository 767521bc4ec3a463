//! What is particular to SQLite and its files: migrations, reopening, damage.

use std::fs;
use std::path::{Path, PathBuf};

use mairust_core::{MailboxId, MessageId, Rate, TenantId};
use mairust_store::{Allowance, SqlStorage, StorageBackend, StoreErrorKind, Taken};
use tempfile::TempDir;

use crate::sample::{NOW, alice, entry, id, open};

#[tokio::test]
async fn the_schema_is_the_one_checked_in() {
    let directory = TempDir::new().unwrap();
    migrate(directory.path()).await;
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite/schema.sql");
    let schema = schema(directory.path());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&golden, &schema).unwrap();
    }
    let expected = fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(schema, expected, "run the test with UPDATE=1 if the change is wanted");
}

#[tokio::test]
async fn migrating_twice_changes_nothing() {
    let directory = TempDir::new().unwrap();
    let builder = SqlStorage::sqlite(directory.path().join("mail.db"));
    let untouched = builder.migration_status().await.unwrap();
    assert_eq!(untouched.pending(), untouched.known);
    assert!(!directory.path().join("mail.db").exists());
    let first = builder.migrate().await.unwrap();
    let before = schema(directory.path());
    assert_eq!(builder.migrate().await.unwrap(), first);
    assert_eq!(schema(directory.path()), before);
    assert_eq!(builder.migration_status().await.unwrap(), first);
    assert_eq!((first.applied.as_slice(), first.pending().len()), (first.known.as_slice(), 0));
    let storage = open(directory.path()).await;
    assert_eq!(storage.migration_status().await.unwrap(), first);
}

#[tokio::test]
async fn opening_at_the_same_time_migrates_once() {
    let directory = TempDir::new().unwrap();
    let (first, second) = futures::join!(open(directory.path()), open(directory.path()));
    assert_eq!(first.migration_status().await.unwrap(), second.migration_status().await.unwrap());
}

#[tokio::test]
async fn several_servers_share_what_may_be_sent_and_remember_it() {
    let directory = TempDir::new().unwrap();
    let wanted = ["user:1", "tenant"].map(|scope| {
        let rate = Rate::new(30, std::time::Duration::from_secs(3_600));
        Allowance { scope: scope.to_owned(), rate }
    });
    let (one, two) = (open(directory.path()).await, open(directory.path()).await);
    let tenant = alice(&one).await.tenant;
    let tries = (0..60).map(|number| {
        let storage = if number % 2 == 0 { &one } else { &two };
        storage.allowances().take(tenant, &wanted, 1, NOW)
    });
    let answers = futures::future::join_all(tries).await.into_iter().map(Result::unwrap);
    assert_eq!(answers.filter(|taken| *taken == Taken::All).count(), 30);
    for storage in [one, two] {
        storage.close().await;
    }
    let again = open(directory.path()).await;
    let taken = again.allowances().take(tenant, &wanted, 1, NOW).await.unwrap();
    assert!(matches!(taken, Taken::Nothing { .. }), "a restart fills no bucket: {taken:?}");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let directory = TempDir::new().unwrap();
    migrate(directory.path()).await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
        VALUES (9999, 'later', 1, x'00', 0)";
    connect(directory.path()).execute(newer, ()).unwrap();
    let builder = SqlStorage::sqlite(directory.path().join("mail.db")).fs_bodies(directory.path().join("mail"));
    let error = builder.open().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
    assert!(error.to_string().contains("newer version: migration 9999"), "{error}");
}

#[tokio::test]
async fn bodies_need_a_place() {
    let directory = TempDir::new().unwrap();
    let error = SqlStorage::sqlite(directory.path().join("mail.db")).open().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).await;
    let alice = alice(&storage).await;
    let entry = entry(&alice, "Subject: kept\r\n\r\nkept\r\n");
    let id = id(&entry);
    storage.messages().accept(vec![entry]).await.remove(0).unwrap();
    let row = storage.messages().get(alice.tenant, id).await.unwrap();
    assert!(row.is_some());
    storage.close().await;
    let gone = storage.messages().get(alice.tenant, id).await.unwrap_err();
    assert_eq!(gone.kind(), StoreErrorKind::Unavailable);
    drop(storage);
    let storage = open(directory.path()).await;
    assert_eq!(storage.messages().get(alice.tenant, id).await.unwrap(), row);
    let body = storage.messages().body(alice.tenant, id).await.unwrap();
    assert_eq!(body.read_all().unwrap(), "Subject: kept\r\n\r\nkept\r\n");
    let found = storage.directory().user_by_address(alice.tenant, &alice.address).await.unwrap().unwrap();
    assert_eq!((found.id, found.mailbox, found.quota.used), (alice.id, alice.mailbox, body.len()));
}

#[tokio::test]
async fn a_flipped_byte_is_corrupt_and_a_missing_file_is_not_found() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).await;
    let alice = alice(&storage).await;
    let (small, large) = (entry(&alice, "x"), entry(&alice, &"y".repeat(2 * 1024 * 1024)));
    for entry in [small, large] {
        let id = id(&entry);
        storage.messages().accept(vec![entry]).await.remove(0).unwrap();
        assert!(storage.messages().body(alice.tenant, id).await.is_ok());
        storage.move_bodies().await.unwrap();
        let file = object(directory.path(), &storage, alice.tenant, id).await;
        let mut bytes = fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&file, bytes).unwrap();
        let error = storage.messages().body(alice.tenant, id).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt);
        assert!(error.to_string().contains(&id.to_string()), "{error}");
        fs::remove_file(&file).unwrap();
        let error = storage.messages().body(alice.tenant, id).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::NotFound);
    }
}

#[tokio::test]
async fn refused_entries_leave_no_files() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).await;
    let alice = alice(&storage).await;
    let mut astray = entry(&alice, "x");
    astray.messages[0].placements[0].mailbox = MailboxId::new(NOW);
    assert!(storage.messages().accept(vec![astray]).await.remove(0).is_err());
    assert_eq!(messages_in(&directory.path().join("mail")), 0);
    storage.messages().accept(vec![entry(&alice, "x")]).await.remove(0).unwrap();
    storage.move_bodies().await.unwrap();
    assert_eq!(messages_in(&directory.path().join("mail")), 1);
}

#[tokio::test]
async fn a_database_that_is_down_accepts_nothing_and_keeps_no_body() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).await;
    let alice = alice(&storage).await;
    assert!(storage.health().await.iter().all(|(_, state)| state.is_ok()));
    storage.close().await;
    let error = storage.messages().accept(vec![entry(&alice, "x")]).await.remove(0).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert_eq!(messages_in(&directory.path().join("mail")), 0);
    let health = storage.health().await;
    let down: Vec<_> = health.iter().filter(|(_, state)| state.is_err()).map(|(name, _)| *name).collect();
    assert_eq!(down, ["database"]);
}

#[tokio::test]
async fn counts_what_it_does() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).await;
    let alice = alice(&storage).await;
    let batch = vec![entry(&alice, "x"), entry(&alice, "y")];
    assert!(storage.messages().accept(batch).await.iter().all(Result::is_ok));
    storage.move_bodies().await.unwrap();
    let statistics = storage.statistics();
    // Two files, and three directories that are new; or one by one, and a directory twice.
    assert_eq!((statistics.groups, statistics.entries, statistics.spool.moved), (1, 2, 2));
    assert!((5..=6).contains(&statistics.body_fsyncs), "{statistics:?}");
}

async fn migrate(directory: &Path) {
    SqlStorage::sqlite(directory.join("mail.db")).migrate().await.unwrap();
}

/// All statements that would make the tables and indexes.
fn schema(directory: &Path) -> String {
    let statements = texts(
        &connect(directory),
        "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE '\\_sqlx%' ESCAPE '\\' \
        ORDER BY tbl_name, type DESC, name",
    );
    statements.iter().map(|statement| format!("{statement};\n\n")).collect::<String>().trim_end().to_owned() + "\n"
}

pub(crate) fn connect(directory: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(directory.join("mail.db")).unwrap()
}

/// The texts in the only column.
pub(crate) fn texts(connection: &rusqlite::Connection, statement: &str) -> Vec<String> {
    let mut statement = connection.prepare(statement).unwrap();
    statement.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

async fn object(directory: &Path, storage: &SqlStorage, tenant: TenantId, id: MessageId) -> PathBuf {
    let row = storage.messages().get(tenant, id).await.unwrap().unwrap();
    directory.join("mail").join(row.object_key)
}

fn messages_in(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { messages_in(&path) } else { usize::from(path.extension().is_some()) }).sum()
}

#[tokio::test]
async fn two_who_move_the_same_bodies_lose_none() {
    let directory = TempDir::new().unwrap();
    let (one, other) = (open(directory.path()).await, open(directory.path()).await);
    let alice = alice(&one).await;
    let entries: Vec<_> = (0..40).map(|number| entry(&alice, &format!("{number}"))).collect();
    let ids: Vec<_> = entries.iter().map(id).collect();
    assert!(one.messages().accept(entries).await.iter().all(Result::is_ok));
    let (first, second) = futures::join!(one.move_bodies(), other.move_bodies());
    first.and(second).unwrap();
    assert_eq!(messages_in(&directory.path().join("mail")), 40);
    for (number, id) in ids.into_iter().enumerate() {
        let body = other.messages().body(alice.tenant, id).await.unwrap();
        assert_eq!(body.read_all().unwrap(), number.to_string());
    }
    assert_eq!(one.statistics().spool.bodies, 0);
}

#[tokio::test]
async fn jobs_of_another_process_are_noticed() {
    let directory = TempDir::new().unwrap();
    let (server, tool) = (open(directory.path()).await, open(directory.path()).await);
    let alice = alice(&server).await;
    let ttl = std::time::Duration::from_secs(60);
    let waiting = async {
        loop {
            let seen = server.queue().version();
            if let Some(lease) = server.queue().lease(NOW, 1, ttl).await.unwrap().pop() {
                return lease.job;
            }
            server.queue().changed(seen).await;
        }
    };
    let job = crate::sample::job(alice.tenant);
    let (leased, added) = futures::join!(waiting, tool.queue().enqueue(vec![job.clone()]));
    added.unwrap();
    assert_eq!(leased, job.id);
}

#[tokio::test]
async fn a_damaged_payload_keeps_nobody_waiting() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).await;
    let alice = alice(&storage).await;
    let jobs: Vec<_> = (0..3).map(|_| crate::sample::job(alice.tenant)).collect();
    storage.queue().enqueue(jobs.clone()).await.unwrap();
    let damage = "UPDATE jobs SET payload = '{' WHERE id = ?1";
    connect(directory.path()).execute(damage, [&jobs[1].id.as_bytes()[..]]).unwrap();
    let leases = storage.queue().lease(NOW, 10, std::time::Duration::from_secs(60)).await.unwrap();
    let readable: Vec<_> = leases.iter().map(|lease| (lease.job, lease.payload.is_some())).collect();
    assert_eq!(readable.len(), 3);
    assert!(readable.iter().all(|(job, readable)| *readable == (*job != jobs[1].id)), "{readable:?}");
    let damaged = leases.iter().find(|lease| lease.payload.is_none()).unwrap();
    assert!(storage.queue().bury(damaged, "damaged").await.unwrap());
}
