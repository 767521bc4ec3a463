//! The bytes of a message.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;

/// Where the bytes of a [`Body`] are when they are not in memory: a spool file, a stored object.
///
/// The bytes never change while the source lives. Reading blocks; async code calls it from a
/// blocking thread.
pub trait BodySource: fmt::Debug + Send + Sync + 'static {
    /// Number of bytes.
    fn len(&self) -> u64;

    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads up to `buffer.len()` bytes from `offset`; 0 at the end.
    ///
    /// # Errors
    /// When the bytes can't be read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

/// The message as received: immutable bytes, cheap to clone, in memory or in a [`BodySource`].
#[derive(Debug, Clone)]
pub struct Body(Inner);

#[derive(Clone)]
enum Inner {
    Memory(Bytes),
    Source(Arc<dyn BodySource>),
}

impl Body {
    /// A body whose bytes are elsewhere.
    pub fn from_source(source: Arc<dyn BodySource>) -> Self {
        Self(Inner::Source(source))
    }

    /// Number of bytes.
    pub fn len(&self) -> u64 {
        match &self.0 {
            Inner::Memory(bytes) => bytes.len() as u64,
            Inner::Source(source) => source.len(),
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, if they are in memory already.
    pub fn in_memory(&self) -> Option<&Bytes> {
        match &self.0 {
            Inner::Memory(bytes) => Some(bytes),
            Inner::Source(_) => None,
        }
    }

    /// All bytes; reads them into memory if they are elsewhere (blocking).
    ///
    /// # Errors
    /// When the source can't be read.
    pub fn read_all(&self) -> io::Result<Bytes> {
        match &self.0 {
            Inner::Memory(bytes) => Ok(bytes.clone()),
            Inner::Source(source) => {
                let mut all = Vec::with_capacity(usize::try_from(source.len()).map_err(io::Error::other)?);
                self.reader().read_to_end(&mut all)?;
                Ok(all.into())
            }
        }
    }

    /// Reads from the first byte on (blocking).
    pub fn reader(&self) -> BodyReader {
        BodyReader { body: self.clone(), offset: 0 }
    }

    /// Reads up to `buffer.len()` bytes from `offset`; 0 at the end (blocking for a source).
    ///
    /// # Errors
    /// When the source can't be read.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.0 {
            Inner::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let count = buffer.len().min(bytes.len() - start);
                buffer[..count].copy_from_slice(&bytes[start..start + count]);
                Ok(count)
            }
            Inner::Source(source) => source.read_at(offset, buffer),
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(bytes) => write!(f, "{} bytes in memory", bytes.len()),
            Self::Source(source) => write!(f, "{source:?}"),
        }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Inner::Memory(bytes.into()))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Inner::Memory(bytes))
    }
}

/// Reads a [`Body`] from its first byte on.
#[derive(Debug)]
pub struct BodyReader {
    body: Body,
    offset: u64,
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read_at(self.offset, buffer)?;
        self.offset += count as u64;
        Ok(count)
    }
}
