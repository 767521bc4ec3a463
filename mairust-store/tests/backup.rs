//! Backups: what comes back is what was there, in whichever database; what is no backup is refused.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use mairust_core::Body;
use mairust_store::body::{NewObject, StoredObject};
use mairust_store::{
    BodyStore, ConsistencyCheck, FsBodies, FurtherFile, SqlStorage, StorageBackend, StoreError, StoreErrorKind, backup,
};
use tempfile::TempDir;

use crate::rich::{audit_key, fill, later, messages};
use crate::sample::{alice, entry, id, open};
use crate::server::Database;

#[tokio::test]
async fn what_goes_from_sqlite_to_postgresql_and_back_is_the_same() {
    let (first, second) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (database, bodies) = (Database::new().await, TempDir::new().unwrap());
    let storage = open(first.path()).await;
    let alice = fill(&storage).await;
    write(&storage, &first.path().join("1.tar")).await.unwrap();
    let postgres = SqlStorage::postgres(&database.url).fs_bodies(bodies.path()).open().await.unwrap();
    postgres.restore_backup(&first.path().join("1.tar"), &mut ()).await.unwrap();
    assert!(postgres.check_consistency(&check(), &mut ()).await.unwrap().is_clean());
    let made = write(&postgres, &first.path().join("2.tar")).await.unwrap();
    assert_eq!((made.messages, made.bodies, made.manifest.database.as_str()), (4, 3, "postgres"));
    let back = open(second.path()).await;
    back.restore_backup(&first.path().join("2.tar"), &mut ()).await.unwrap();
    let report = back.check_consistency(&check(), &mut ()).await.unwrap();
    assert!(report.is_clean() && report.bodies == 3 && report.objects == 3, "{report:?}");
    // But for leases, whose workers are elsewhere.
    let end = "UPDATE jobs SET state = 'ready', lease_until = NULL WHERE state = 'leased'";
    assert_eq!(crate::sqlite::connect(first.path()).execute(end, []).unwrap(), 1);
    let (before, after) = (rows(first.path()), rows(second.path()));
    let mut empty: Vec<_> = before.iter().filter(|(_, rows)| rows.is_empty()).map(|(table, _)| table).collect();
    empty.retain(|table| !["object_removals", "spooled_bodies"].contains(&table.as_str()));
    assert_eq!(empty, ["search_pending", "search_state"], "the test fills every table");
    for (table, rows) in &before {
        if table != "spooled_bodies" {
            assert_eq!(after[table], *rows, "{table}");
        }
    }
    assert!(after["spooled_bodies"].is_empty(), "bodies are in their places");
    for message in messages(&storage, alice.tenant).await {
        let body = |body: Body| body.read_all().unwrap();
        let was = storage.messages().body(alice.tenant, message.id).await.map(body).unwrap();
        assert_eq!(back.messages().body(alice.tenant, message.id).await.map(body).unwrap(), was);
    }
    let verified = mairust_store::AuditLogExt::verify(back.audit(), alice.tenant.into(), &audit_key()).await.unwrap();
    assert!(verified.is_whole());
}

#[tokio::test]
async fn a_backup_is_of_one_moment() {
    let (directory, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let storage = open(directory.path()).await;
    let alice = alice(&storage).await;
    let entries: Vec<_> = (0..100).map(|number| entry(&alice, &format!("Subject: {number}\r\n\r\n"))).collect();
    let ids: Vec<_> = entries.iter().map(id).collect();
    assert!(storage.messages().accept(entries).await.iter().all(Result::is_ok));
    let more = async {
        for number in 0..50 {
            storage
                .messages()
                .accept(vec![entry(&alice, &format!("Subject: later {number}\r\n\r\n"))])
                .await
                .remove(0)
                .unwrap();
            storage.move_bodies().await.unwrap();
        }
    };
    let path = directory.path().join("f.tar");
    let (made, ()) = futures::join!(write(&storage, &path), more);
    let made = made.unwrap();
    assert!(made.messages >= 100 && made.bodies == made.messages, "{made:?}");
    let restored = open(other.path()).await;
    restored.restore_backup(&path, &mut ()).await.unwrap();
    assert!(restored.check_consistency(&check(), &mut ()).await.unwrap().is_clean());
    for (number, id) in ids.into_iter().enumerate() {
        let body = restored.messages().body(alice.tenant, id).await.unwrap();
        assert_eq!(body.read_all().unwrap(), format!("Subject: {number}\r\n\r\n"));
    }
}

#[tokio::test]
async fn a_target_that_is_not_empty_is_left_alone() {
    let (directory, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let storage = open(directory.path()).await;
    fill(&storage).await;
    let path = directory.path().join("f.tar");
    write(&storage, &path).await.unwrap();
    let target = open(other.path()).await;
    alice(&target).await;
    let before = rows(other.path());
    let refused = target.restore_backup(&path, &mut ()).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::AlreadyExists);
    assert!(refused.to_string().contains("not empty: there are rows in tenants"), "{refused}");
    assert_eq!(rows(other.path()), before);
    assert!(fs::read_dir(other.path().join("mail")).unwrap().count() <= 2, "no bodies came");
}

#[tokio::test]
async fn what_an_interrupted_restore_left_is_no_hindrance() {
    let (directory, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let storage = open(directory.path()).await;
    let alice = fill(&storage).await;
    let path = directory.path().join("f.tar");
    write(&storage, &path).await.unwrap();
    storage.move_bodies().await.unwrap();
    // Bodies come before rows.
    copy(&directory.path().join("mail"), &other.path().join("mail"));
    let target = open(other.path()).await;
    target.restore_backup(&path, &mut ()).await.unwrap();
    assert!(target.check_consistency(&check(), &mut ()).await.unwrap().is_clean());
    assert_eq!(messages(&target, alice.tenant).await.len(), 4);
    // Another object under the same name is not taken for it.
    let foreign = TempDir::new().unwrap();
    copy(&directory.path().join("mail"), &foreign.path().join("mail"));
    let object = files(&foreign.path().join("mail")).remove(0);
    fs::write(object, "something else").unwrap();
    let target = open(foreign.path()).await;
    let refused = target.restore_backup(&path, &mut ()).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::AlreadyExists);
    assert!(rows(foreign.path())["tenants"].is_empty());
}

#[tokio::test]
async fn lost_and_damaged_bodies_do_not_keep_the_rest_from_its_backup() {
    let (directory, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let storage = open(directory.path()).await;
    let alice = alice(&storage).await;
    let entries: Vec<_> = (0..3).map(|number| entry(&alice, &format!("body {number}"))).collect();
    let ids: Vec<_> = entries.iter().map(id).collect();
    assert!(storage.messages().accept(entries).await.iter().all(Result::is_ok));
    storage.move_bodies().await.unwrap();
    let file = |number: usize| {
        let mut files = files(&directory.path().join("mail"));
        files.retain(|file| file.to_string_lossy().contains(&ids[number].to_string()));
        files.remove(0)
    };
    fs::remove_file(file(0)).unwrap();
    fs::write(file(1), "body X").unwrap();
    let (path, mut seen) = (directory.path().join("f.tar"), crate::consistency::Seen::default());
    let made = storage.write_backup(File::create(&path).unwrap(), &path, &[], &mut seen).await.unwrap();
    assert_eq!((made.messages, made.bodies), (3, 2));
    assert_eq!(seen.faults(), [("body_damaged", Some(ids[1])), ("body_missing", Some(ids[0]))]);
    let restored = open(other.path()).await;
    restored.restore_backup(&path, &mut ()).await.unwrap();
    let mut seen = crate::consistency::Seen::default();
    restored.check_consistency(&check(), &mut seen).await.unwrap();
    assert_eq!(seen.faults(), [("body_damaged", Some(ids[1])), ("body_missing", Some(ids[0]))]);
}

#[tokio::test]
async fn what_is_removed_meanwhile_does_not_come_back() {
    let (directory, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let bodies = FsBodies::open(directory.path().join("mail")).unwrap();
    let bodies = Arc::new(Purged { inner: bodies, database: directory.path().to_owned(), key: Mutex::default() });
    let storage = SqlStorage::sqlite(directory.path().join("mail.db")).bodies(Arc::clone(&bodies) as _);
    let storage = storage.open().await.unwrap();
    let alice = fill(&storage).await;
    storage.move_bodies().await.unwrap();
    let before = messages(&storage, alice.tenant).await;
    let out = before.iter().find(|row| row.subject.as_deref() == Some("out")).unwrap();
    *bodies.key.lock().unwrap() = Some(out.object_key.clone());
    let path = directory.path().join("f.tar");
    let made = write(&storage, &path).await.unwrap();
    assert_eq!((made.messages, made.bodies), (4, 2), "the message was there when the rows were read");
    let restored = open(other.path()).await;
    restored.restore_backup(&path, &mut ()).await.unwrap();
    let left: Vec<_> = messages(&restored, alice.tenant).await.into_iter().map(|row| row.id).collect();
    assert!(left.len() == 3 && !left.contains(&out.id));
    assert!(restored.check_consistency(&check(), &mut ()).await.unwrap().is_clean());
    let rows = rows(other.path());
    assert!(rows["delivery_recipients"].is_empty() && rows["delivery_attempts"].is_empty());
    assert_eq!(rows["jobs"].len(), 2, "those that are about other matters");
}

#[tokio::test]
async fn what_is_no_backup_is_refused() {
    let directory = TempDir::new().unwrap();
    let storage = open(directory.path()).await;
    fill(&storage).await;
    let path = directory.path().join("f.tar");
    let further = [FurtherFile { name: "mairust.yaml".to_owned(), content: b"server: {}\n".to_vec() }];
    storage.write_backup(File::create(&path).unwrap(), &path, &further, &mut ()).await.unwrap();
    let whole = fs::read(&path).unwrap();
    backup::verify(&path, &mut ()).await.unwrap();
    let members = members(&whole);
    let refused = |octets: Vec<u8>| {
        let path = directory.path().join("x.tar");
        async move {
            fs::write(&path, octets).unwrap();
            backup::verify(&path, &mut ()).await.expect_err("it is refused")
        }
    };
    for length in [0, 1, 511, 512, 1_000, 5_000, whole.len() / 2, whole.len() - 1_024, whole.len() - 1] {
        assert_eq!(refused(whole[..length].to_vec()).await.kind(), StoreErrorKind::Corrupt, "{length} octets");
    }
    for place in (0..whole.len()).step_by(whole.len() / 97) {
        let mut flipped = whole.clone();
        flipped[place] ^= 1;
        assert!(matches!(refused(flipped).await.kind(), StoreErrorKind::Corrupt | StoreErrorKind::Invalid), "{place}");
    }
    let mut longer = whole.clone();
    longer.extend_from_slice(&[0; 512]);
    assert!(refused(longer).await.to_string().contains("behind its end"));
    // Members that are there twice, are missing, or stand elsewhere.
    for (index, (start, end)) in members.iter().copied().enumerate() {
        let twice = [&whole[..end], &whole[start..]].concat();
        assert_eq!(refused(twice).await.kind(), StoreErrorKind::Corrupt, "member {index} twice");
        let without = [&whole[..start], &whole[end..]].concat();
        assert_eq!(refused(without).await.kind(), StoreErrorKind::Corrupt, "without member {index}");
    }
    // Names that lead elsewhere, and what the archives of others have.
    let first = &whole[members[0].0..members[0].1];
    for name in [
        "../../etc/passwd",
        "/etc/passwd",
        "bodies/../../x.eml",
        "bodies/x.eml",
        "rows/nothing/000001.jsonl",
        "etc/passwd",
    ] {
        let mut member = first.to_vec();
        rename(&mut member, name);
        let error = refused([&whole[..members[0].1], &member, &whole[members[0].1..]].concat()).await;
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{name}");
    }
    // What is held in memory has a bound.
    let mut huge = whole[members[2].0..members[2].0 + 512].to_vec();
    huge[124..136].copy_from_slice(format!("{:011o}\0", 65 << 20).as_bytes());
    fit(&mut huge);
    fs::write(&path, [&whole[..members[2].0], &huge].concat()).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(70 << 20).unwrap();
    let error = backup::verify(&path, &mut ()).await.unwrap_err();
    assert!(error.to_string().contains("is too large"), "{error}");
    let newer = str::from_utf8(&whole[512..1_024]).unwrap().replace("\"format\": 1", "\"format\": 2");
    let newer = [&whole[..512], newer.as_bytes(), &whole[1_024..]].concat();
    assert_eq!(refused(newer).await.kind(), StoreErrorKind::Invalid);
    let missing = backup::verify(&directory.path().join("nothing.tar"), &mut ()).await.unwrap_err();
    assert_eq!(missing.kind(), StoreErrorKind::NotFound);
}

/// A body store in which one object is purged, with its message, just before it is read.
#[derive(Debug)]
struct Purged {
    inner: FsBodies,
    database: PathBuf,
    key: Mutex<Option<String>>,
}

#[async_trait]
impl BodyStore for Purged {
    async fn put(&self, objects: Vec<NewObject>) -> Vec<Result<StoredObject, StoreError>> {
        self.inner.put(objects).await
    }

    async fn open(&self, key: &str) -> Result<Body, StoreError> {
        if self.key.lock().unwrap().take_if(|purged| purged == key).is_some() {
            let connection = crate::sqlite::connect(&self.database);
            let message = format!("(SELECT id FROM messages WHERE object_key = '{key}')");
            for statement in [
                format!("DELETE FROM delivery_attempts WHERE message_id = {message}"),
                format!("DELETE FROM delivery_recipients WHERE message_id = {message}"),
                format!("DELETE FROM jobs WHERE message_id = {message}"),
                format!("DELETE FROM messages WHERE object_key = '{key}'"),
            ] {
                connection.execute(&statement, []).unwrap();
            }
            self.inner.delete(key).await?;
        }
        self.inner.open(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }

    async fn list(&self, after: Option<&str>, limit: u32) -> Result<Vec<String>, StoreError> {
        self.inner.list(after, limit).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.inner.check().await
    }
}

fn check() -> ConsistencyCheck {
    ConsistencyCheck::new(later(60))
}

async fn write(storage: &SqlStorage, path: &Path) -> Result<backup::BackupSummary, StoreError> {
    let written = storage.write_backup(File::create(path).unwrap(), path, &[], &mut ()).await?;
    assert_eq!(backup::verify(path, &mut ()).await?, written);
    Ok(written)
}

/// All rows of all tables, in an order of their own.
fn rows(directory: &Path) -> BTreeMap<String, Vec<String>> {
    let connection = crate::sqlite::connect(directory);
    let columns = "SELECT m.name, group_concat('quote(\"' || c.name || '\")', ' || '' '' || ') FROM sqlite_schema m, \
        pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE '\\_sqlx%' ESCAPE '\\' \
        AND m.name NOT LIKE 'sqlite%' GROUP BY m.name";
    let mut tables = connection.prepare(columns).unwrap();
    let tables = tables.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).unwrap();
    let rows = |(name, columns): (String, String)| {
        let query = format!("SELECT {columns} AS line FROM {name} ORDER BY line");
        let mut lines = connection.prepare(&query).unwrap();
        let lines = lines.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        (name, lines)
    };
    tables.map(|table| rows(table.unwrap())).collect()
}

/// Where each member begins and ends.
fn members(archive: &[u8]) -> Vec<(usize, usize)> {
    let (mut members, mut start) = (Vec::new(), 0);
    while archive[start] != 0 {
        let size = std::str::from_utf8(&archive[start + 124..start + 135]).unwrap();
        let end = start + 512 + usize::from_str_radix(size, 8).unwrap().next_multiple_of(512);
        members.push((start, end));
        start = end;
    }
    members
}

/// Gives a member another name.
fn rename(member: &mut [u8], name: &str) {
    member[..100].fill(0);
    member[..name.len()].copy_from_slice(name.as_bytes());
    fit(member);
}

/// Gives a header a checksum that fits.
fn fit(member: &mut [u8]) {
    member[148..156].fill(b' ');
    let sum: u32 = member[..512].iter().map(|octet| u32::from(*octet)).sum();
    member[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|end| end == "eml"))
        .collect()
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(file, target).unwrap();
    }
}
