//! Writing an object: at once, or in parts.

use std::io;
use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;
use mairust_core::Body;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, ObjectStore, PutMode, PutOptions, PutPayload};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::Instant;

use super::client::{Call, Client, Overwriting};
use crate::body::{NewObject, StoredObject, interrupted, io_error, to_array};
use crate::error::StoreError;

/// Writes objects to a bucket, with a bound on what all of them together have in memory.
#[derive(Debug)]
pub(super) struct Uploader {
    client: Arc<Client>,
    memory: Arc<Semaphore>,
}

/// An object that is being read, and its checksum so far.
struct Reading {
    prefix: Bytes,
    body: Body,
    offset: u64,
    digest: digest::Context,
}

/// An upload in parts. Aborted when dropped before it is complete.
struct Upload {
    client: Arc<Client>,
    path: Path,
    id: MultipartId,
    parts: Vec<Option<PartId>>,
    under_way: JoinSet<Result<(usize, PartId), StoreError>>,
    state: UploadState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum UploadState {
    Complete,
    Unfinished,
}

/// Bytes that a permit stands for.
const UNIT: u64 = 64 << 10;
/// Bytes in memory for requests under way, in permits.
const MEMORY: u32 = (64 << 20) / UNIT as u32;
/// Parts of one object under way at the same time.
const PARTS_AT_ONCE: usize = 3;
/// Parts that S3 takes for one object.
const MOST_PARTS: u64 = 10_000;

impl Uploader {
    pub(super) fn new(client: Arc<Client>) -> Self {
        Self { client, memory: Arc::new(Semaphore::new(MEMORY as usize)) }
    }

    /// Writes an object that is not there yet. A small one is there, or has failed, by `until`.
    pub(super) async fn put(&self, object: NewObject, until: Instant) -> Result<StoredObject, StoreError> {
        let NewObject { key, prefix, body } = object;
        let call = Call { operation: "put body", what: &key };
        let size = prefix.len() as u64 + body.len();
        let reading = Reading { prefix, body, offset: 0, digest: digest::Context::new(&digest::SHA256) };
        if size <= self.client.settings.multipart_threshold.0 {
            return self.put_whole(call, reading, until).await;
        }
        let mut upload = Upload::begin(&self.client, call).await?;
        let reading = self.put_parts(call, &mut upload, reading).await?;
        upload.complete(call).await?;
        Ok(reading.finish())
    }

    async fn put_whole(&self, call: Call<'_>, reading: Reading, until: Instant) -> Result<StoredObject, StoreError> {
        let client = &self.client;
        let path = client.path(call.what);
        let _permit = self.permit(call, reading.size(), until).await?;
        let limit = reading.size();
        let (reading, payload) = reading.next(call, limit).await?;
        let mode = match client.overwriting(until).await? {
            Overwriting::RefusedByServer => PutMode::Create,
            Overwriting::CheckedByUs => {
                client.refuse_existing(&path, call, until).await?;
                PutMode::Overwrite
            }
        };
        let options = PutOptions { mode, ..PutOptions::default() };
        client.within(until, call, client.store.put_opts(&path, payload, options)).await?;
        Ok(reading.finish())
    }

    /// Writes all parts, a few at the same time.
    async fn put_parts(
        &self,
        call: Call<'_>,
        upload: &mut Upload,
        mut reading: Reading,
    ) -> Result<Reading, StoreError> {
        let size = reading.size();
        let chunk = self.client.settings.multipart_chunk.0.max(size.div_ceil(MOST_PARTS));
        for _ in 0..size.div_ceil(chunk) {
            if upload.under_way.len() == PARTS_AT_ONCE {
                upload.take_part().await?;
            }
            let permit = self.permit(call, chunk, self.client.deadline()).await?;
            let (rest, payload) = reading.next(call, chunk).await?;
            reading = rest;
            upload.put_part(call, payload, permit);
        }
        while !upload.under_way.is_empty() {
            upload.take_part().await?;
        }
        Ok(reading)
    }

    /// Room in memory for so many bytes.
    async fn permit(&self, call: Call<'_>, bytes: u64, until: Instant) -> Result<OwnedSemaphorePermit, StoreError> {
        let permits = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(MEMORY).min(MEMORY);
        let permit = Arc::clone(&self.memory).acquire_many_owned(permits);
        match tokio::time::timeout_at(until, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(self.client.late(call)),
        }
    }
}

impl Upload {
    /// Begins an upload, in a task of its own: if nobody waits for it any more when it has begun, it is
    /// dropped there, and so aborted.
    async fn begin(client: &Arc<Client>, call: Call<'_>) -> Result<Self, StoreError> {
        let (client, operation, key) = (Arc::clone(client), call.operation, call.what.to_owned());
        let begin = async move {
            let call = Call { operation, what: &key };
            let path = client.path(&key);
            let id = client.within(client.deadline(), call, client.store.create_multipart(&path)).await?;
            let (parts, under_way, state) = (Vec::new(), JoinSet::new(), UploadState::Unfinished);
            Ok(Self { client, path, id, parts, under_way, state })
        };
        tokio::spawn(begin).await.map_err(|error| interrupted(operation, error))?
    }

    /// Begins to write the next part.
    fn put_part(&mut self, call: Call<'_>, payload: PutPayload, permit: OwnedSemaphorePermit) {
        let number = self.parts.len();
        self.parts.push(None);
        let (client, path, id) = (Arc::clone(&self.client), self.path.clone(), self.id.clone());
        let (operation, key) = (call.operation, call.what.to_owned());
        self.under_way.spawn(async move {
            let call = Call { operation, what: &key };
            let part = client.within(client.deadline(), call, client.store.put_part(&path, &id, number, payload)).await;
            drop(permit);
            part.map(|part| (number, part))
        });
    }

    /// Waits for one of the parts under way to be there.
    async fn take_part(&mut self) -> Result<(), StoreError> {
        if let Some(joined) = self.under_way.join_next().await {
            let (number, part) = joined.map_err(|error| interrupted("put body", error))??;
            self.parts[number] = Some(part);
        }
        Ok(())
    }

    /// Makes the object of the parts. The client adds a condition to the request; not every server
    /// that takes conditions takes this one, so we look, too.
    async fn complete(mut self, call: Call<'_>) -> Result<(), StoreError> {
        let client = Arc::clone(&self.client);
        client.refuse_existing(&self.path, call, client.deadline()).await?;
        let parts = self.parts.drain(..).flatten().collect();
        let completed = client.store.complete_multipart(&self.path, &self.id, parts);
        client.within(client.deadline(), call, completed).await?;
        self.state = UploadState::Complete;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.state == UploadState::Complete {
            return;
        }
        let (client, path, id) = (Arc::clone(&self.client), self.path.clone(), self.id.clone());
        let mut under_way = std::mem::take(&mut self.under_way);
        runtime.spawn(async move {
            // A part that comes after it would bring the upload back.
            while under_way.join_next().await.is_some() {}
            let call = Call { operation: "abort upload", what: path.as_ref() };
            if let Err(error) = client.within(client.deadline(), call, client.store.abort_multipart(&path, &id)).await {
                tracing::warn!(%error, "an unfinished upload stays until it is swept");
            }
        });
    }
}

impl Reading {
    fn size(&self) -> u64 {
        self.prefix.len() as u64 + self.body.len()
    }

    /// Reads the next bytes on a blocking thread: `limit`, or as many as there are.
    async fn next(mut self, call: Call<'_>, limit: u64) -> Result<(Self, PutPayload), StoreError> {
        let read = move || {
            let payload = self.take(limit);
            (self, payload)
        };
        let read = spawn_blocking(read).await.map_err(|error| interrupted(call.operation, error))?;
        let (reading, payload) = read;
        payload.map(|payload| (reading, payload)).map_err(|error| io_error(call.operation, &call.what, error))
    }

    fn take(&mut self, limit: u64) -> io::Result<PutPayload> {
        let end = self.size().min(self.offset + limit);
        let prefix = self.prefix.len() as u64;
        let mut pieces = Vec::new();
        if self.offset < prefix {
            let piece = self.prefix.slice(self.offset as usize..prefix.min(end) as usize);
            self.offset += piece.len() as u64;
            pieces.push(piece);
        }
        if self.offset < end {
            let (from, to) = (self.offset - prefix, end - prefix);
            pieces.push(match self.body.in_memory() {
                Some(bytes) => bytes.slice(from as usize..to as usize),
                None => read_range(&self.body, from, to)?,
            });
            self.offset = end;
        }
        for piece in &pieces {
            self.digest.update(piece);
        }
        Ok(pieces.into_iter().collect())
    }

    fn finish(self) -> StoredObject {
        StoredObject { size: self.size(), sha256: to_array(&self.digest.finish()) }
    }
}

/// All bytes of a range. The source says how many it has, so that fewer are an error.
fn read_range(body: &Body, from: u64, to: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(to - from).map_err(io::Error::other)?];
    let mut filled = 0;
    while filled < bytes.len() {
        match body.read_at(from + filled as u64, &mut bytes[filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes.into())
}
