//! Making a backup, while a server works.
//!
//! All rows are read in one transaction, so they fit together; a list of the bodies that they point to
//! goes into a temporary file. Bodies never change, so they are read afterwards, one by one: no
//! transaction stays open for as long as that takes. Where a body has gone meanwhile, its messages were
//! removed after the moment of the backup.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::path::Path;

use bytes::Bytes;
use futures::StreamExt;
use mairust_core::{Body, MessageId, TenantId, Timestamp};
use serde::Serialize;

use crate::backup::archive::{PIECE, Writer, taken};
use crate::backup::{BackupSummary, END, End, FurtherFile, MANIFEST, Manifest};
use crate::body::{elsewhere, io_error};
use crate::consistency::{Fault, Finding};
use crate::error::{StoreError, StoreErrorKind};
use crate::observer::Observer;
use crate::sql::driver::{Columns, Query, Scope, Transaction, failed};
use crate::sql::statement;
use crate::sql::storage::{Parts, SqlStorage};
use crate::sql::transfer::{Reader, TABLES, hex, unhex};

/// How many bodies are looked up together, and how many are read at the same time.
const PAGE: usize = 64;
const LANES: usize = 8;
/// How many rows of messages are looked at together for their bodies.
const ROWS: u32 = 1_000;

/// A body that belongs into the backup.
struct Wanted {
    tenant: TenantId,
    /// When its messages came in.
    received_at: Timestamp,
    sha256: Vec<u8>,
    key: String,
}

/// Where a body is.
enum Found {
    Body(Body),
    /// Its messages were removed meanwhile.
    Gone,
    Lost,
    Unreadable(StoreError),
}

/// A backup that is being made.
struct Making<'m> {
    parts: &'m Parts,
    writer: Writer,
    observer: &'m mut dyn Observer,
    /// What was written so far.
    end: End,
    /// Keys of bodies whose messages were removed meanwhile.
    gone: Vec<String>,
}

impl SqlStorage {
    /// Writes a backup into a file, which must be empty, and makes it durable: rows and bodies as they
    /// are at one moment, while servers work. `path` names the file in errors; temporary files are made
    /// in its folder.
    ///
    /// Bodies that are lost or damaged are told to the observer; the backup is made without them, or
    /// with what is left of them.
    ///
    /// # Errors
    /// When the database or the body store does not answer, or the file can't be written (`Full` if
    /// there is no room): the file is of no use then.
    pub async fn write_backup(
        &self,
        file: File,
        path: &Path,
        further: &[FurtherFile],
        observer: &mut dyn Observer,
    ) -> Result<BackupSummary, StoreError> {
        let parts = &*self.parts;
        let status = self.migration_status().await?;
        let schema = status.applied.last().copied().unwrap_or_default();
        let manifest = Manifest::new(parts.clock.now(), parts.database.dialect().pick("sqlite", "postgres"), schema);
        let writer = Writer::new(file, path, parts.clock.now());
        let mut making = Making { parts, writer, observer, end: End::default(), gone: Vec::new() };
        making.write_text(MANIFEST, &manifest).await?;
        for file in further {
            making.writer.add(&file.name, &file.content).await?;
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let mut list = BufWriter::new(tempfile::tempfile_in(folder).map_err(listing)?);
        let mut snapshot = parts.database.begin_snapshot().await.map_err(failed("read rows", "begin"))?;
        making.write_rows(&mut snapshot).await?;
        let count = list_bodies(&mut snapshot, &mut list).await?;
        snapshot.commit().await.map_err(failed("read rows", "end"))?;
        let mut list = list.into_inner().map_err(|error| listing(error.into_error()))?;
        list.rewind().map_err(listing)?;
        making.observer.begins("bodies", Some(count));
        making.write_all_bodies(list).await?;
        making.finish(manifest).await
    }
}

impl Making<'_> {
    async fn write_text(&mut self, name: &str, content: &impl Serialize) -> Result<(), StoreError> {
        let text = serde_json::to_vec_pretty(content).map_err(|error| io_error("write backup", &name, error.into()))?;
        self.writer.add(name, &text).await
    }

    /// All rows, in members of about a megabyte.
    async fn write_rows(&mut self, snapshot: &mut Transaction) -> Result<(), StoreError> {
        for table in TABLES {
            self.observer.begins(table.name, None);
            let (mut reader, mut text, mut number) = (Reader::new(table), Vec::with_capacity(PIECE), 0);
            loop {
                let lines = reader.next(snapshot).await?;
                for line in &lines {
                    // Writing into memory does not fail, nor does a map of texts and numbers.
                    let _ = serde_json::to_writer(&mut text, line);
                    text.push(b'\n');
                }
                if text.len() >= PIECE || lines.is_empty() && !text.is_empty() {
                    number += 1;
                    self.writer.add(&format!("rows/{}/{number:06}.jsonl", table.name), &text).await?;
                    text.clear();
                }
                let count = lines.len() as u64;
                self.end.rows += count;
                self.end.messages += if table.name == "messages" { count } else { 0 };
                self.observer.advances(count);
                if lines.is_empty() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The bodies of a list, as [`list_bodies`] wrote it.
    async fn write_all_bodies(&mut self, list: File) -> Result<(), StoreError> {
        let mut lines = BufReader::new(list).lines();
        loop {
            let page = lines.by_ref().take(PAGE).map(|line| line.and_then(|line| wanted(&line)));
            let page: Vec<Wanted> = page.collect::<io::Result<_>>().map_err(listing)?;
            if page.is_empty() {
                return Ok(());
            }
            self.write_bodies(page).await?;
        }
    }

    async fn write_bodies(&mut self, page: Vec<Wanted>) -> Result<(), StoreError> {
        let (parts, count) = (self.parts, page.len() as u64);
        let spooled = spooled(parts, &page).await?;
        let look = page.into_iter().map(|wanted| {
            let spooled = spooled.get(&wanted.key).cloned();
            async move {
                let found = find(parts, &wanted, spooled).await;
                found.map(|found| (wanted, found))
            }
        });
        let mut looked = futures::stream::iter(look).buffered(LANES);
        while let Some(found) = looked.next().await {
            let (wanted, found) = found?;
            let fault = match found {
                Found::Body(body) => self.write_body(&wanted, &body).await?,
                Found::Gone => {
                    self.gone.push(wanted.key.clone());
                    None
                }
                Found::Lost => Some((Fault::BodyMissing, "the body is nowhere".to_owned())),
                Found::Unreadable(error) => Some((Fault::BodyDamaged, error.to_string())),
            };
            if let Some((fault, detail)) = fault {
                self.tell(&wanted, fault, &detail).await?;
            }
        }
        self.observer.advances(count);
        Ok(())
    }

    /// Also, what is wrong with the body.
    async fn write_body(&mut self, wanted: &Wanted, body: &Body) -> Result<Option<(Fault, String)>, StoreError> {
        let written = self.writer.add_body(&format!("bodies/{}", wanted.key), body).await?;
        self.end.bodies += 1;
        // What is encrypted is told by who can read it.
        let is_damaged = !written.is_encrypted && written.sha256.as_ref() != wanted.sha256;
        Ok(is_damaged.then(|| (Fault::BodyDamaged, "the body is not the one that was received".to_owned())))
    }

    async fn tell(&mut self, wanted: &Wanted, fault: Fault, detail: &str) -> Result<(), StoreError> {
        for message in self.parts.messages_of_object(wanted.tenant, wanted.received_at, &wanted.key).await? {
            let finding = Finding::new(fault, detail).of(wanted.tenant).message(message);
            self.observer.finds(&finding.about("object", &wanted.key));
        }
        Ok(())
    }

    async fn finish(mut self, manifest: Manifest) -> Result<BackupSummary, StoreError> {
        for (number, keys) in self.gone.chunks(ROWS as usize).enumerate() {
            let lines: String = keys.iter().map(|key| format!("{}\n", serde_json::json!({ "object": key }))).collect();
            self.writer.add(&format!("gone/{:06}.jsonl", number + 1), lines.as_bytes()).await?;
        }
        self.end.gone = self.gone.len() as u64;
        self.end.sha256 = hex(self.writer.sha256().as_ref());
        let end = std::mem::take(&mut self.end);
        self.write_text(END, &end).await?;
        let bytes = self.writer.finish().await?;
        Ok(BackupSummary { manifest, rows: end.rows, messages: end.messages, bodies: end.bodies, bytes })
    }
}

/// Writes the list of all bodies to which messages point, each once; how many they are.
async fn list_bodies(snapshot: &mut Transaction, list: &mut BufWriter<File>) -> Result<u64, StoreError> {
    let mut after = (TenantId::from_bytes([0; 16]), MessageId::from_bytes([0; 16]));
    let mut count = 0;
    loop {
        let query = Query::new(statement::consistency::OBJECTS);
        let query = query.bind(after.0.as_bytes()).bind(after.1.as_bytes()).bind(ROWS);
        let rows = snapshot.fetch_all(query).await.map_err(failed("read rows", "messages"))?;
        for row in &rows {
            let columns = Columns::new("read rows", row);
            after = (TenantId::from_bytes(columns.id("tenant_id")?), MessageId::from_bytes(columns.id("id")?));
            let (sha256, received_at) =
                (hex(&columns.bytes::<32>("sha256")?), columns.time("received_at")?.as_micros());
            let key: &str = columns.value("object_key")?;
            writeln!(list, "{} {received_at} {sha256} {key}", after.0).map_err(listing)?;
        }
        count += rows.len() as u64;
        if rows.is_empty() {
            return Ok(count);
        }
    }
}

fn listing(error: io::Error) -> StoreError {
    io_error("write backup", &"the list of bodies", error)
}

/// A line of the list.
fn wanted(line: &str) -> io::Result<Wanted> {
    let read = || {
        let mut words = line.splitn(4, ' ');
        Some(Wanted {
            tenant: words.next()?.parse().ok()?,
            received_at: Timestamp::from_micros(words.next()?.parse().ok()?),
            sha256: unhex(words.next()?)?,
            key: words.next()?.to_owned(),
        })
    };
    read().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Bodies of a page that wait in the database.
async fn spooled(parts: &Parts, page: &[Wanted]) -> Result<HashMap<String, Bytes>, StoreError> {
    let mut query = Query::new(statement::spool::BODIES);
    for (index, wanted) in page.iter().enumerate() {
        query.push(if index == 0 { "" } else { ", " }).push_bind(wanted.key.as_str());
    }
    query.push(")");
    let rows = parts.database.fetch_all(Scope::All, query).await.map_err(failed("read bodies", "read"))?;
    let body = |row| {
        let columns = Columns::new("read bodies", row);
        Ok((columns.value("object_key")?, columns.value::<&[u8]>("data")?.to_vec().into()))
    };
    rows.iter().map(body).collect()
}

/// Where a body is now: it may have been moved, put aside or removed since the rows were read.
async fn find(parts: &Parts, wanted: &Wanted, spooled: Option<Bytes>) -> Result<Found, StoreError> {
    if let Some(bytes) = spooled {
        return Ok(Found::Body(bytes.into()));
    }
    for key in [&wanted.key, &elsewhere(&wanted.key)] {
        match parts.stored.open(key).await {
            Ok(body) => return Ok(taken(body).await.map_or_else(Found::Unreadable, Found::Body)),
            Err(error) if error.kind() == StoreErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let left = parts.messages_of_object(wanted.tenant, wanted.received_at, &wanted.key).await?;
    Ok(if left.is_empty() { Found::Gone } else { Found::Lost })
}
