//! The bytes of a message.

use std::fmt;
use std::io::{self, Read};
use std::ops::Range;
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

    /// The same bytes without those in `cuts`, which must be in order and must not overlap; what
    /// lies behind the end is left alone. Copies nothing that is not in memory.
    #[must_use]
    pub fn without(&self, cuts: impl IntoIterator<Item = Range<u64>>) -> Self {
        let mut kept = Vec::new();
        let mut start = 0;
        for cut in cuts {
            let (from, to) = (cut.start.clamp(start, self.len()), cut.end.clamp(start, self.len()));
            kept.push(start..from);
            start = to.max(from);
        }
        kept.push(start..self.len());
        kept.retain(|range| !range.is_empty());
        match &self.0 {
            Inner::Memory(bytes) => {
                let part = |range: &Range<u64>| &bytes[range.start as usize..range.end as usize];
                Self(Inner::Memory(kept.iter().map(part).collect::<Vec<_>>().concat().into()))
            }
            Inner::Source(source) => Self(Inner::Source(Arc::new(Kept { source: Arc::clone(source), kept }))),
        }
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

/// Parts of another source, one behind the other.
#[derive(Debug)]
struct Kept {
    source: Arc<dyn BodySource>,
    kept: Vec<Range<u64>>,
}

impl BodySource for Kept {
    fn len(&self) -> u64 {
        self.kept.iter().map(|range| range.end - range.start).sum()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut before = 0;
        for range in &self.kept {
            let length = range.end - range.start;
            if offset < before + length {
                let start = range.start + (offset - before);
                let count = usize::try_from(range.end - start).unwrap_or(usize::MAX).min(buffer.len());
                return self.source.read_at(start, &mut buffer[..count]);
            }
            before += length;
        }
        Ok(0)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that are elsewhere, handed out three at a time.
    #[derive(Debug)]
    struct Elsewhere(&'static [u8]);

    impl BodySource for Elsewhere {
        fn len(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(3);
            Body::from(self.0.to_vec()).read_at(offset, &mut buffer[..count])
        }
    }

    #[test]
    fn cuts_leave_the_rest_as_it_is() {
        for body in [Body::from(b"0123456789".to_vec()), Body::from_source(Arc::new(Elsewhere(b"0123456789")))] {
            for (cuts, left) in [
                (&[][..], "0123456789"),
                (&[(0, 2)], "23456789"),
                (&[(2, 4), (4, 6), (9, 20)], "01678"),
                (&[(0, 10)], ""),
                (&[(20, 30)], "0123456789"),
            ] {
                let cut = body.without(cuts.iter().map(|(start, end)| *start..*end));
                assert_eq!(cut.read_all().unwrap(), left, "{cuts:?}");
                assert_eq!(cut.len(), left.len() as u64);
            }
        }
    }
}
