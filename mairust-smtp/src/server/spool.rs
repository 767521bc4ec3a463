//! Where the octets of a message are until it is complete.
//!
//! A message stays in memory up to a threshold; a larger one goes to a file that has no name, so
//! that nothing is left behind however the session ends.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use mairust_core::{Body, BodySource};

/// How much is gathered before it is written to the file.
const BATCH: usize = 64 << 10;

/// Takes the octets of one message.
#[derive(Debug)]
pub(super) struct Spool {
    threshold: usize,
    folder: PathBuf,
    /// What is not in the file.
    memory: Vec<u8>,
    file: Option<Arc<File>>,
    written: u64,
}

/// A body in a file.
#[derive(Debug)]
struct FileSource {
    file: Arc<File>,
    length: u64,
}

impl Spool {
    pub(super) fn new(threshold: usize, folder: PathBuf) -> Self {
        Self { threshold, folder, memory: Vec::new(), file: None, written: 0 }
    }

    /// Appends a chunk.
    pub(super) async fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        let limit = if self.file.is_some() { BATCH } else { self.threshold };
        if self.memory.len() + chunk.len() > limit {
            self.flush().await?;
        }
        self.memory.extend_from_slice(chunk);
        Ok(())
    }

    /// Number of octets so far.
    pub(super) fn len(&self) -> u64 {
        self.written + self.memory.len() as u64
    }

    /// The whole message.
    pub(super) async fn finish(mut self) -> io::Result<Body> {
        if self.file.is_some() {
            self.flush().await?;
        }
        Ok(match self.file {
            None => Body::from(Bytes::from(self.memory)),
            Some(file) => Body::from_source(Arc::new(FileSource { file, length: self.written })),
        })
    }

    /// Moves what is in memory to the file, on a blocking thread.
    async fn flush(&mut self) -> io::Result<()> {
        let bytes = std::mem::replace(&mut self.memory, Vec::with_capacity(BATCH));
        let (length, offset) = (bytes.len() as u64, self.written);
        let (file, folder) = (self.file.clone(), self.folder.clone());
        let write = move || -> io::Result<Arc<File>> {
            let file = match file {
                Some(file) => file,
                None => Arc::new(tempfile::tempfile_in(folder)?),
            };
            file.write_all_at(&bytes, offset)?;
            Ok(file)
        };
        self.file = Some(tokio::task::spawn_blocking(write).await.map_err(io::Error::other)??);
        self.written += length;
        Ok(())
    }
}

impl BodySource for FileSource {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn small_messages_stay_in_memory_and_large_ones_do_not() {
        for (size, in_memory) in [(0, true), (1_000, true), (1_001, false), (300_000, false)] {
            let message: Vec<u8> = (0..size).map(|index: u32| index.to_le_bytes()[0]).collect();
            let mut spool = Spool::new(1_000, std::env::temp_dir());
            for chunk in message.chunks(999) {
                spool.write(chunk).await.unwrap();
            }
            assert_eq!(spool.len(), u64::from(size));
            let body = spool.finish().await.unwrap();
            assert_eq!(body.in_memory().is_some(), in_memory, "{size}");
            assert_eq!(body.read_all().unwrap(), message);
        }
    }

    #[tokio::test]
    async fn a_folder_that_is_gone_is_an_error() {
        let mut spool = Spool::new(1, PathBuf::from("/nonexistent/spool"));
        assert!(spool.write(b"a").await.is_ok());
        assert!(spool.write(b"b").await.is_err());
    }
}
