//! Putting a backup into an empty storage.
//!
//! The backup is read to its end before anything is written. Bodies come first, for they are of no use
//! without rows; then all rows in one transaction. What a crash leaves is an empty database and some
//! bodies: it can be restored again, and finds them.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use mairust_core::{Body, BodySource};
use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::backup::BackupSummary;
use crate::backup::read::{Archive, Part, Verified, verified};
use crate::body::{NewObject, digest_of, interrupted, io_error};
use crate::error::{StoreError, StoreErrorKind};
use crate::observer::Observer;
use crate::sql::driver::{Scope, Transaction, failed};
use crate::sql::storage::{Parts, SqlStorage};
use crate::sql::transfer::{Line, TABLES, Table, insert};

/// How many bodies are put together, and about how many octets of them.
const BATCH: usize = 64;
const BATCH_BYTES: u64 = 32 << 20;

impl SqlStorage {
    /// Reads a backup to its end, and says whether it can come into this storage.
    ///
    /// # Errors
    /// Those of [`verify`](crate::backup::verify); `Invalid` if the backup was made by a version with other
    /// tables; `AlreadyExists` if the database is not empty.
    pub async fn check_backup(&self, path: &Path, observer: &mut dyn Observer) -> Result<BackupSummary, StoreError> {
        self.fits(path, observer).await.map(|verified| verified.summary)
    }

    /// Puts a backup into this storage, which must be empty and opened without encryption: bodies come
    /// back as they were kept. All rows are there when this returns, or none.
    ///
    /// # Errors
    /// Those of [`check_backup`](Self::check_backup), before anything is written; otherwise when the
    /// database or the body store does not answer. Restoring again goes on.
    pub async fn restore_backup(&self, path: &Path, observer: &mut dyn Observer) -> Result<BackupSummary, StoreError> {
        let Verified { summary, gone } = self.fits(path, observer).await?;
        self.parts.restore_bodies(path, summary.bodies, observer).await?;
        self.parts.restore_rows(path, summary.rows, &gone, observer).await?;
        if !gone.is_empty() {
            self.parts.correct_counters(observer).await?;
        }
        Ok(summary)
    }

    async fn fits(&self, path: &Path, observer: &mut dyn Observer) -> Result<Verified, StoreError> {
        let taken = self.parts.tables_with_rows().await?;
        if !taken.is_empty() {
            let context = format!("the database is not empty: there are rows in {}", taken.join(", "));
            return Err(StoreError::new(StoreErrorKind::AlreadyExists, "restore", context));
        }
        let verified = verified(path, observer).await?;
        let manifest = &verified.summary.manifest;
        let schema = self.migration_status().await?.applied.last().copied().unwrap_or_default();
        if manifest.schema != schema {
            let context = format!(
                "the backup was made by MaiRust {} with migration {}, and this database has {schema}: restore it with \
                 that version, then run mairust migrate with this one",
                manifest.mairust, manifest.schema
            );
            return Err(StoreError::new(StoreErrorKind::Invalid, "restore", context));
        }
        Ok(verified)
    }
}

impl Parts {
    async fn restore_bodies(&self, path: &Path, total: u64, observer: &mut dyn Observer) -> Result<(), StoreError> {
        observer.begins("bodies", Some(total));
        let file = File::open(path).map_err(|error| io_error("read backup", &path.display(), error))?;
        let file = Arc::new(file);
        let mut archive = Archive::open(path).await?;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(member) = archive.next().await? {
            archive.skip(&member).await?;
            let Part::Body(key) = &member.part else { continue };
            let section = Section { file: Arc::clone(&file), offset: member.offset, len: member.len() };
            batch.push((key.clone(), Body::from_source(Arc::new(section))));
            bytes += member.len();
            if batch.len() >= BATCH || bytes >= BATCH_BYTES {
                self.put_bodies(std::mem::take(&mut batch), observer).await?;
                bytes = 0;
            }
        }
        self.put_bodies(batch, observer).await
    }

    async fn put_bodies(&self, batch: Vec<(String, Body)>, observer: &mut dyn Observer) -> Result<(), StoreError> {
        let object =
            |(key, body): &(String, Body)| NewObject { key: key.clone(), prefix: Bytes::new(), body: body.clone() };
        let count = batch.len() as u64;
        let answers = self.stored.put(batch.iter().map(object).collect()).await;
        for ((key, body), answer) in batch.into_iter().zip(answers) {
            match answer {
                Ok(_) => {}
                // Put by an attempt that was interrupted.
                Err(error) if error.kind() == StoreErrorKind::AlreadyExists => self.is_same(&key, body).await?,
                Err(error) => return Err(error),
            }
        }
        observer.advances(count);
        Ok(())
    }

    async fn is_same(&self, key: &str, body: Body) -> Result<(), StoreError> {
        let found = self.stored.open(key).await?;
        let compare = move || -> io::Result<bool> {
            let (ours, theirs) = (digest_of(&mut body.reader())?, digest_of(&mut found.reader())?);
            Ok(ours.as_ref() == theirs.as_ref())
        };
        let compared = spawn_blocking(compare).await.map_err(|error| interrupted("restore", error))?;
        match compared.map_err(|error| io_error("restore", &key, error))? {
            true => Ok(()),
            false => {
                let context = format!("the body store has another object {key}: it must be empty");
                Err(StoreError::new(StoreErrorKind::AlreadyExists, "restore", context))
            }
        }
    }

    async fn restore_rows(
        &self,
        path: &Path,
        total: u64,
        gone: &HashSet<String>,
        observer: &mut dyn Observer,
    ) -> Result<(), StoreError> {
        observer.begins("rows", Some(total));
        let mut archive = Archive::open(path).await?;
        let mut transaction = self.database.begin(Scope::All).await.map_err(failed("restore", "begin"))?;
        let mut removed = Removed { objects: gone, messages: HashSet::new() };
        while let Some(member) = archive.next().await? {
            let Part::Rows { table, .. } = member.part else {
                archive.skip(&member).await?;
                continue;
            };
            let lines = archive.lines(&member).await?;
            let count = lines.len() as u64;
            restore(&mut transaction, &TABLES[table], lines, &mut removed).await?;
            observer.advances(count);
        }
        transaction.commit().await.map_err(failed("restore", "commit"))
    }
}

/// What was removed while the backup was made.
struct Removed<'r> {
    objects: &'r HashSet<String>,
    /// Their messages, by tenant and id.
    messages: HashSet<(String, String)>,
}

impl Removed<'_> {
    /// Whether a row is, or is about, a message that was removed.
    fn has(&mut self, table: &Table, line: &Line) -> bool {
        if self.objects.is_empty() {
            return false;
        }
        let text = |column: &str| line.get(column).and_then(Value::as_str).unwrap_or_default().to_owned();
        if table.name != "messages" {
            return self.messages.contains(&(text("tenant_id"), text("message_id")));
        }
        let is_gone = self.objects.contains(&text("object_key"));
        if is_gone {
            self.messages.insert((text("tenant_id"), text("id")));
        }
        is_gone
    }
}

async fn restore(
    transaction: &mut Transaction,
    table: &'static Table,
    mut lines: Vec<Line>,
    removed: &mut Removed<'_>,
) -> Result<(), StoreError> {
    lines.retain(|line| !removed.has(table, line));
    if table.name == "jobs" {
        lines.iter_mut().for_each(end_lease);
    }
    insert(transaction, table, &lines).await
}

/// No worker of this storage has a lease of another one.
fn end_lease(job: &mut Line) {
    if job.get("state").and_then(Value::as_str) == Some("leased") {
        job.insert("state".to_owned(), "ready".into());
        job.insert("lease_until".to_owned(), Value::Null);
    }
}

/// A body in the file of a backup.
#[derive(Debug)]
struct Section {
    file: Arc<File>,
    offset: u64,
    len: u64,
}

impl BodySource for Section {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = buffer.len().min(left);
        self.file.read_at(&mut buffer[..count], self.offset + offset)
    }
}
