//! Reading an object: a small one into memory, a large one into a file.
//!
//! A [`BodySource`] is read in small pieces, from threads that may block: a request for each would be
//! slow, and would fail in the middle of a message when the server goes away. So an object is fetched
//! as a whole before it is handed out.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use mairust_core::{Body, BodySource};
use object_store::{GetOptions, ObjectStore};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use super::client::{Call, Client};
use crate::body::{VERIFY_IN_MEMORY, interrupted, io_error};
use crate::error::{StoreError, StoreErrorKind};

/// Reads objects of a bucket, with a bound on what all of them together have on disk.
#[derive(Debug)]
pub(super) struct Downloader {
    client: Arc<Client>,
    disk: Arc<Semaphore>,
}

/// An object in a file that has no name.
#[derive(Debug)]
struct Spooled {
    file: File,
    len: u64,
    _permit: OwnedSemaphorePermit,
}

/// The bytes of an object as they come.
struct Arriving<'a> {
    client: &'a Client,
    call: Call<'a>,
    pieces: BoxStream<'static, object_store::Result<Bytes>>,
    /// How many are still to come.
    rest: u64,
}

/// Objects up to this size are handed out in memory.
const IN_MEMORY: u64 = VERIFY_IN_MEMORY;
/// Bytes that a permit stands for.
const UNIT: u64 = 64 << 10;
/// Bytes on disk, in permits.
const DISK: u32 = (1 << 30) / UNIT as u32;
/// How much is gathered before it is written to the file.
const BATCH: usize = 1 << 20;

impl Downloader {
    pub(super) fn new(client: Arc<Client>) -> Self {
        Self { client, disk: Arc::new(Semaphore::new(DISK as usize)) }
    }

    /// Fetches an object.
    pub(super) async fn open(&self, key: &str) -> Result<Body, StoreError> {
        let (client, call) = (&self.client, Call { operation: "open body", what: key });
        let path = client.path(key);
        let request = client.store.get_opts(&path, GetOptions::default());
        let result = client.within(client.deadline(), call, request).await?;
        let len = result.meta.size;
        let mut arriving = Arriving { client, call, pieces: result.into_stream(), rest: len };
        if len > IN_MEMORY {
            return self.spool(arriving, len).await;
        }
        let mut bytes = BytesMut::new();
        while let Some(piece) = arriving.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze().into())
    }

    async fn spool(&self, mut arriving: Arriving<'_>, len: u64) -> Result<Body, StoreError> {
        let call = arriving.call;
        let permit = self.permit(call, len).await?;
        let failed = |error: io::Error| io_error(call.operation, &call.what, error);
        let folder = self.client.settings.spool_dir.clone();
        let made = spawn_blocking(move || tempfile::tempfile_in(folder)).await;
        let mut file = made.map_err(|error| interrupted(call.operation, error))?.map_err(failed)?;
        let (mut batch, mut written) = (BytesMut::new(), 0);
        loop {
            let piece = arriving.next().await?;
            let is_last = piece.is_none();
            batch.extend_from_slice(&piece.unwrap_or_default());
            if batch.len() < BATCH && !is_last {
                continue;
            }
            let (bytes, offset) = (batch.split().freeze(), written);
            written += bytes.len() as u64;
            let write = move || file.write_all_at(&bytes, offset).map(|()| file);
            let wrote = spawn_blocking(write).await;
            file = wrote.map_err(|error| interrupted(call.operation, error))?.map_err(failed)?;
            if is_last {
                return Ok(Body::from_source(Arc::new(Spooled { file, len, _permit: permit })));
            }
        }
    }

    /// Room on disk for so many bytes, until the body is dropped.
    async fn permit(&self, call: Call<'_>, bytes: u64) -> Result<OwnedSemaphorePermit, StoreError> {
        let permits = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(DISK).min(DISK);
        let permit = Arc::clone(&self.disk).acquire_many_owned(permits);
        match tokio::time::timeout_at(self.client.deadline(), permit).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(call.failed(StoreErrorKind::Unavailable, "too many large objects are being read")),
        }
    }
}

impl Arriving<'_> {
    /// The next piece; none at the end of the object, and an error if that comes too early or late.
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let next = tokio::time::timeout_at(self.client.deadline(), self.pieces.next()).await;
        let piece = match next.map_err(|_| self.client.late(self.call))? {
            None if self.rest == 0 => return Ok(None),
            piece => piece.transpose().map_err(|error| self.client.explain(self.call, error))?.unwrap_or_default(),
        };
        let rest = self.rest.checked_sub(piece.len() as u64).filter(|_| !piece.is_empty());
        let wrong = || self.call.failed(StoreErrorKind::Unavailable, "the server sent another number of bytes");
        self.rest = rest.ok_or_else(wrong)?;
        Ok(Some(piece))
    }
}

impl BodySource for Spooled {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}
