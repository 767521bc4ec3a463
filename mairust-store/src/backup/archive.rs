//! Writing an archive: octets are counted and hashed on their way into the file.

use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use mairust_core::{Body, Timestamp};
use tokio::fs::File;
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::task::spawn_blocking;

use super::tar::{BLOCK, Header};
use crate::body::{interrupted, io_error};
use crate::error::StoreError;

/// Bodies up to this size are read at once, so that one that can't be read is known before its header
/// is written.
const READ_AT_ONCE: u64 = 8 << 20;
/// Octets that are read or written together.
pub(crate) const PIECE: usize = 1 << 20;

pub(crate) struct Writer {
    file: BufWriter<File>,
    path: PathBuf,
    hash: digest::Context,
    written: u64,
    time: u64,
}

/// What is known of a body once it is written.
pub(crate) struct Written {
    pub(crate) sha256: digest::Digest,
    pub(crate) is_encrypted: bool,
}

impl Writer {
    /// Writes into a file that is empty; `path` names it in errors.
    pub(crate) fn new(file: std::fs::File, path: &Path, now: Timestamp) -> Self {
        let file = BufWriter::with_capacity(PIECE, File::from_std(file));
        let hash = digest::Context::new(&digest::SHA256);
        Self { file, path: path.to_owned(), hash, written: 0, time: now.to_unix().0 }
    }

    /// The SHA-256 of what was written so far.
    pub(crate) fn sha256(&self) -> digest::Digest {
        self.hash.clone().finish()
    }

    /// A member whose octets are in memory.
    pub(crate) async fn add(&mut self, name: &str, content: &[u8]) -> Result<(), StoreError> {
        self.begin(name, content.len() as u64).await?;
        self.write(content).await?;
        self.fill(content.len() as u64).await
    }

    /// A member that is read piece by piece.
    pub(crate) async fn add_body(&mut self, name: &str, body: &Body) -> Result<Written, StoreError> {
        self.begin(name, body.len()).await?;
        let mut hash = digest::Context::new(&digest::SHA256);
        let (mut offset, mut is_encrypted) = (0, false);
        while offset < body.len() {
            let piece = piece(body, offset).await.map_err(|error| io_error("read body", &name, error))?;
            is_encrypted |= offset == 0 && crate::body::is_encrypted(&piece);
            hash.update(&piece);
            self.write(&piece).await?;
            offset += piece.len() as u64;
        }
        self.fill(body.len()).await?;
        Ok(Written { sha256: hash.finish(), is_encrypted })
    }

    /// Ends the archive and makes it durable.
    pub(crate) async fn finish(mut self) -> Result<u64, StoreError> {
        self.write(&[0; 2 * BLOCK]).await?;
        let synced = async {
            self.file.flush().await?;
            self.file.get_ref().sync_all().await
        };
        synced.await.map_err(|error| io_error("write backup", &self.path.display(), error))?;
        Ok(self.written)
    }

    async fn begin(&mut self, name: &str, size: u64) -> Result<(), StoreError> {
        let header = Header { name: name.to_owned(), size };
        let block = header.to_block(self.time).map_err(|error| io_error("write backup", &name, error))?;
        self.write(&block).await
    }

    /// Fills the last block of a member.
    async fn fill(&mut self, size: u64) -> Result<(), StoreError> {
        const ZEROS: [u8; BLOCK] = [0; BLOCK];
        let rest = usize::try_from(size.next_multiple_of(BLOCK as u64) - size).unwrap_or_default();
        self.write(&ZEROS[..rest]).await
    }

    async fn write(&mut self, octets: &[u8]) -> Result<(), StoreError> {
        self.hash.update(octets);
        self.written += octets.len() as u64;
        let written = self.file.write_all(octets).await;
        written.map_err(|error| io_error("write backup", &self.path.display(), error))
    }
}

/// The next octets of a body, at least one.
async fn piece(body: &Body, offset: u64) -> io::Result<Vec<u8>> {
    let body = body.clone();
    let read = move || {
        let size = usize::try_from(body.len() - offset).unwrap_or(PIECE).min(PIECE);
        let mut piece = vec![0; size];
        match body.read_at(offset, &mut piece)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                piece.truncate(count);
                Ok(piece)
            }
        }
    };
    spawn_blocking(read).await.map_err(io::Error::other)?
}

/// A body in memory, if it is small.
pub(crate) async fn taken(body: Body) -> Result<Body, StoreError> {
    if body.in_memory().is_some() || body.len() > READ_AT_ONCE {
        return Ok(body);
    }
    let read = spawn_blocking(move || body.read_all()).await.map_err(|error| interrupted("read body", error))?;
    read.map(Body::from).map_err(|error| io_error("read body", &"the object", error))
}
