//! Rows and bodies that do not fit together are found, and put right where they can be.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mairust_core::{MessageId, Secret};
use mairust_store::seal::Algorithm;
use mairust_store::{
    BodyEncryption, ConsistencyCheck, ConsistencyReport, Finding, LocalKeys, Observer, Sealer, SqlStorage,
    StorageBackend, User,
};
use sqlx::{AssertSqlSafe, PgConnection};
use tempfile::TempDir;

use crate::rich::{fill, later, messages};
use crate::sample::{alice, entry, id, job, open};
use crate::server::Database;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Seen(pub(crate) Vec<Finding>);

/// A database that somebody else changes.
enum Access {
    Postgres(PgConnection),
    Sqlite(rusqlite::Connection),
}

impl Observer for Seen {
    fn begins(&mut self, _step: &'static str, _total: Option<u64>) {}
    fn advances(&mut self, _units: u64) {}
    fn finds(&mut self, finding: &Finding) {
        self.0.push(finding.clone());
    }
}

impl Seen {
    /// Faults and messages, in order.
    pub(crate) fn faults(&self) -> Vec<(&'static str, Option<MessageId>)> {
        let mut faults: Vec<_> = self.0.iter().map(|finding| (finding.fault.as_str(), finding.message)).collect();
        faults.sort_unstable();
        faults
    }
}

impl Access {
    async fn run(&mut self, statement: &str) {
        let changed = match self {
            Self::Postgres(on) => {
                let statement = AssertSqlSafe(statement.to_owned());
                usize::try_from(sqlx::query(statement).execute(on).await.unwrap().rows_affected()).unwrap()
            }
            Self::Sqlite(on) => on.execute(statement, []).unwrap(),
        };
        assert!(changed > 0);
    }
}

#[tokio::test]
async fn faults_are_found_and_repaired_in_sqlite() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).await;
    let access = Access::Sqlite(crate::sqlite::connect(directory.path()));
    faults_are_found_and_repaired(&storage, &directory.path().join("mail"), access).await;
}

#[tokio::test]
async fn faults_are_found_and_repaired_in_postgresql() {
    let (database, directory) = (Database::new().await, TempDir::new().unwrap());
    let storage = SqlStorage::postgres(&database.url).fs_bodies(directory.path()).open().await.unwrap();
    let access = Access::Postgres(database.superuser().await);
    faults_are_found_and_repaired(&storage, directory.path(), access).await;
}

async fn faults_are_found_and_repaired(storage: &SqlStorage, mail: &Path, mut access: Access) {
    let alice = fill(storage).await;
    storage.move_bodies().await.unwrap();
    assert_eq!(seen(storage, &check()).await, ([].into(), 0));
    // A message for two mailboxes loses its body, another one is not what it was.
    let known = messages(storage, alice.tenant).await;
    let of = |subject: &str| -> Vec<_> { known.iter().filter(|row| row.subject.as_deref() == Some(subject)).collect() };
    let (both, large, out) = (of("both"), of("large")[0], of("out")[0]);
    fs::remove_file(mail.join(&both[0].object_key)).unwrap();
    flip(&mail.join(&large.object_key));
    cut(&mail.join(&out.object_key));
    let mut lost = vec![
        ("body_damaged", Some(large.id)),
        ("body_damaged", Some(out.id)),
        ("body_missing", Some(both[0].id)),
        ("body_missing", Some(both[1].id)),
    ];
    lost.sort_unstable();
    assert_eq!(seen(storage, &check()).await, (lost.clone(), 0));
    // No repair touches what can't be put right.
    assert_eq!(seen(storage, &check().repair(true)).await, (lost.clone(), 0));
    assert_eq!(messages(storage, alice.tenant).await.len(), 4);

    // Objects without a message, but for one that is young; and one that is nobody's.
    let orphan = mail.join(&large.object_key).with_file_name(format!("{}.eml", MessageId::new(later(0))));
    let young = orphan.with_file_name(format!("{}.eml", MessageId::new(later(7_000))));
    for file in [&orphan, &young, &mail.join("stray.eml")] {
        fs::write(file, "x").unwrap();
    }
    access.run("UPDATE mailboxes SET used = used + 7").await;
    access.run("UPDATE folders SET uidnext = 1, modseq = 0 WHERE name = 'INBOX'").await;
    access.run("UPDATE event_heads SET position = 0").await;
    let mut found = lost.clone();
    found.extend([("body_orphaned", None), ("body_orphaned", None)]);
    found.extend([("mailbox_use", None); 3]);
    found.extend([("folder_counters", None); 2]);
    found.push(("event_positions", None));
    found.sort_unstable();
    assert_eq!(seen(storage, &check()).await, (found.clone(), 0));
    assert!(orphan.exists(), "nothing is repaired without being asked to");
    assert_eq!(seen(storage, &check().repair(true)).await, (found, 7));
    assert!(!orphan.exists() && young.exists() && mail.join("stray.eml").exists());
    lost.push(("body_orphaned", None));
    lost.sort_unstable();
    assert_eq!(seen(storage, &check()).await, (lost, 0));
    // Numbers go on behind those that are there.
    let next = entry(&alice, "Subject: next\r\n\r\n");
    let next_id = id(&next);
    storage.messages().accept(vec![next]).await.remove(0).unwrap();
    let uid = storage.messages().get(alice.tenant, next_id).await.unwrap().unwrap().uid;
    let in_inbox = known.iter().filter(|row| row.mailbox == alice.mailbox && row.folder.as_str() == "INBOX");
    assert_eq!(uid, in_inbox.map(|row| row.uid).max().unwrap() + 1);
}

#[tokio::test]
async fn bodies_that_wait_are_looked_at_where_they_are() {
    let directory = TempDir::new().unwrap();
    // Nothing moves them.
    let storage = SqlStorage::sqlite(directory.path().join("mail.db")).fs_bodies(directory.path().join("mail"));
    let storage = storage.without_background_work().open().await.unwrap();
    let alice = alice(&storage).await;
    let (kept, damaged) = (entry(&alice, "kept"), entry(&alice, "damaged"));
    let damaged_id = id(&damaged);
    assert!(storage.messages().accept(vec![kept, damaged]).await.iter().all(Result::is_ok));
    assert_eq!(seen(&storage, &check()).await, ([].into(), 0));
    let mut access = Access::Sqlite(crate::sqlite::connect(directory.path()));
    access.run(&format!("UPDATE spooled_bodies SET data = x'00' WHERE object_key LIKE '%{damaged_id}%'")).await;
    let key = mairust_store::body::object_key(alice.tenant, alice.mailbox, MessageId::new(later(0)));
    let insert = format!("SELECT id, '{key}', 0, x'00' FROM tenants");
    access.run(&format!("INSERT INTO spooled_bodies (tenant_id, object_key, spooled_at, data) {insert}")).await;
    let found = vec![("body_damaged", Some(damaged_id)), ("spooled_orphaned", None)];
    assert_eq!(seen(&storage, &check()).await, (found.clone(), 0));
    assert_eq!(seen(&storage, &check().repair(true)).await, (found, 1));
    assert_eq!(seen(&storage, &check()).await, (vec![("body_damaged", Some(damaged_id))], 0));
}

#[tokio::test]
async fn bodies_that_another_database_may_know_are_left_alone() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).await;
    let alice = alice(&storage).await;
    storage.messages().accept(vec![entry(&alice, "x")]).await.remove(0).unwrap();
    storage.move_bodies().await.unwrap();
    let mail = directory.path().join("mail");
    let key = |tenant, seconds| mairust_store::body::object_key(tenant, alice.mailbox, MessageId::new(later(seconds)));
    let foreign = mairust_core::TenantId::new(later(0));
    let (newer, other, old) = (key(alice.tenant, 5_000), key(foreign, 0), key(alice.tenant, 3_000));
    for key in [&newer, &other, &old] {
        fs::create_dir_all(mail.join(key).parent().unwrap()).unwrap();
        fs::write(mail.join(key), "x").unwrap();
    }
    let check = ConsistencyCheck::new(later(20_000)).rules(rules(60)).repair(true);
    assert_eq!(seen(&storage, &check).await, (vec![("body_orphaned", None); 3], 1));
    assert!(mail.join(&newer).exists() && mail.join(&other).exists() && !mail.join(&old).exists());
    let mut found = Seen::default();
    storage.check_consistency(&check, &mut found).await.unwrap();
    let told = |key: &str| &found.0.iter().find(|finding| finding.about.as_ref().unwrap().1 == key).unwrap().detail;
    assert!(told(&newer).contains("was an older database restored?"));
    assert!(told(&other).contains("is this the right database?"));
}

#[tokio::test]
async fn leases_that_nobody_has_are_ended() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).await;
    let alice = alice(&storage).await;
    storage.queue().enqueue(vec![job(alice.tenant)]).await.unwrap();
    let lease = storage.queue().lease(later(0), 1, Duration::from_secs(60)).await.unwrap().remove(0);
    let late = ConsistencyCheck::new(later(4_000)).rules(rules(4_000));
    assert_eq!(seen(&storage, &late).await, (vec![("lease_owner", None)], 0));
    let mut found = Seen::default();
    storage.check_consistency(&late.clone().repair(true), &mut found).await.unwrap();
    assert_eq!(found.0[0].about, Some(("job", lease.job.to_string())));
    assert_eq!(seen(&storage, &late).await, ([].into(), 0));
    let again = storage.queue().lease(later(4_000), 1, Duration::from_secs(60)).await.unwrap();
    assert_eq!(again[0].job, lease.job);
}

#[tokio::test]
async fn damage_to_what_is_encrypted_is_found() {
    let directory = TempDir::new().unwrap();
    let sealer = Sealer::new(Arc::new(LocalKeys::new(&Secret::new([1; 32]))));
    let encryption = BodyEncryption { sealer, algorithm: Some(Algorithm::default()) };
    let storage = SqlStorage::sqlite(directory.path().join("mail.db")).fs_bodies(directory.path().join("mail"));
    let storage = storage.encryption(encryption).open().await.unwrap();
    let alice: User = alice(&storage).await;
    let (kept, damaged) = (entry(&alice, "kept"), entry(&alice, "damaged"));
    let damaged_id = id(&damaged);
    assert!(storage.messages().accept(vec![kept, damaged]).await.iter().all(Result::is_ok));
    assert_eq!(seen(&storage, &check()).await, ([].into(), 0));
    let row = storage.messages().get(alice.tenant, damaged_id).await.unwrap().unwrap();
    flip(&directory.path().join("mail").join(row.object_key));
    assert_eq!(seen(&storage, &check()).await, (vec![("body_damaged", Some(damaged_id))], 0));
}

#[tokio::test]
async fn an_index_that_does_not_fit_is_made_anew() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).await;
    let alice = alice(&storage).await;
    let entries: Vec<_> = (0..10).map(|number| entry(&alice, &format!("{number}"))).collect();
    assert!(storage.messages().accept(entries).await.iter().all(Result::is_ok));
    assert_eq!(repaired(&storage).await, ([].into(), 0));
    storage.close().await;
    drop(storage);
    // The index is put aside while rows are changed, as a lost write would.
    let name = "'messages_by_time'";
    let first = crate::sqlite::connect(directory.path());
    let root = format!("SELECT rootpage FROM sqlite_schema WHERE name = {name}");
    let root: i64 = first.query_row(&root, [], |row| row.get(0)).unwrap();
    let hide = format!("PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = {name}");
    first.execute_batch(&hide).unwrap();
    drop(first);
    let second = crate::sqlite::connect(directory.path());
    second.execute_batch("UPDATE messages SET received_at = received_at + 1").unwrap();
    let show = format!(
        "PRAGMA writable_schema = ON; INSERT INTO sqlite_schema VALUES ('index', {name}, 'messages', {root}, \
        'CREATE INDEX messages_by_time ON messages (tenant_id, received_at, id)')"
    );
    second.execute_batch(&show).unwrap();
    drop(second);
    let storage = open(directory.path()).await;
    let (found, repaired_now) = repaired(&storage).await;
    assert!(!found.is_empty() && found.iter().all(|fault| fault.0 == "database"), "{found:?}");
    assert_eq!(repaired_now, found.len() as u64);
    assert_eq!(repaired(&storage).await, ([].into(), 0));
}

#[tokio::test]
async fn indexes_of_postgresql_are_made_anew() {
    let (database, directory) = (Database::new().await, TempDir::new().unwrap());
    let storage = SqlStorage::postgres(&database.url).fs_bodies(directory.path()).open().await.unwrap();
    fill(&storage).await;
    Access::Postgres(database.superuser().await).run("UPDATE mailboxes SET used = 1").await;
    let (found, repaired_now) = repaired(&storage).await;
    assert_eq!((found, repaired_now), (vec![("mailbox_use", None); 3], 3));
    assert_eq!(repaired(&storage).await, ([].into(), 0));
}

fn check() -> ConsistencyCheck {
    ConsistencyCheck::new(later(7_200)).rules(rules(60))
}

fn rules(seconds: u64) -> mairust_store::InvariantCheck {
    // The jobs of the cases are made by another clock.
    mairust_store::InvariantCheck::new(later(seconds)).max_age(Duration::from_secs(1_000_000_000))
}

/// What is found, and how much of it is put right.
async fn seen(storage: &SqlStorage, check: &ConsistencyCheck) -> (Vec<(&'static str, Option<MessageId>)>, u64) {
    let mut seen = Seen::default();
    let report = storage.check_consistency(check, &mut seen).await.unwrap();
    compared(&report, &seen)
}

async fn repaired(storage: &SqlStorage) -> (Vec<(&'static str, Option<MessageId>)>, u64) {
    let mut seen = Seen::default();
    let report = storage.repair_database(&check(), &mut seen).await.unwrap();
    compared(&report, &seen)
}

fn compared(report: &ConsistencyReport, seen: &Seen) -> (Vec<(&'static str, Option<MessageId>)>, u64) {
    assert_eq!(report.found.values().sum::<u64>(), seen.0.len() as u64);
    assert_eq!(report.is_clean(), seen.0.is_empty());
    let repaired = report.repaired.values().sum::<u64>();
    assert_eq!(repaired, seen.0.iter().filter(|finding| finding.repaired).count() as u64);
    assert_eq!(report.left().values().sum::<u64>() + repaired, seen.0.len() as u64);
    (seen.faults(), repaired)
}

fn flip(file: &PathBuf) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

fn cut(file: &PathBuf) {
    let bytes = fs::read(file).unwrap();
    fs::write(file, &bytes[..bytes.len() - 1]).unwrap();
}
