//! Bodies that are encrypted before they leave this process: whoever keeps them can't read them.
//!
//! Each object has a data key of its own, wrapped by a [`MasterKeyService`] for this object and kept
//! in front of it. The bytes follow in chunks of 64 KiB, each encrypted for itself with its number
//! and whether it is the last one, so that a part is read without the rest, and chunks that are
//! missing, moved or added are found.
//!
//! Objects are never changed, so their data keys are not wrapped anew: the service here should be
//! one whose keys stay, see [`RegistryExt::installation_key`](crate::RegistryExt::installation_key).
//!
//! An object is, one behind the other: eight octets that tell it from a message, the version (1),
//! the number of the algorithm, the wrapped key (length of the id in one octet, the id, length in
//! two octets, the key), and the chunks, a tag behind each. The nonce of a chunk is seven zeros, its
//! number in four octets, and 1 for the last chunk, 0 for all others.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_lc_rs::digest;
use bytes::Bytes;
use mairust_core::{Body, BodySource, Secret};
use tokio::task::spawn_blocking;

use super::{BodyStore, NewObject, StoredObject, io_error, to_array};
use crate::error::{StoreError, StoreErrorKind};
use crate::lifecycle::ARCHIVE;
use crate::seal::cipher::{Algorithm, Cipher, NONCE, TAG, random};
use crate::seal::{MasterKeyService, WrappedKey, read_wrapped, write_wrapped};

/// A [`BodyStore`] that encrypts what it gives to another one.
///
/// Sizes and checksums are those of the bytes as they were given. Objects that were kept without
/// encryption are read as they are.
#[derive(Debug)]
pub struct EncryptedBodies<B> {
    inner: B,
    keys: Arc<dyn MasterKeyService>,
    algorithm: Option<Algorithm>,
}

/// No message begins with these octets: NUL is not allowed in one.
pub(super) const MAGIC: &[u8; 8] = b"\0mairust";
const VERSION: u8 = 1;
/// Octets of a chunk before it is encrypted.
const CHUNK: u64 = 64 * 1024;
/// Octets of a chunk as it is kept.
const SEALED_CHUNK: u64 = CHUNK + TAG as u64;
/// More than any wrapped key and what stands before it needs.
const MAX_HEAD: usize = 4 * 1024;
/// Objects up to this size are encrypted in memory, so that they are written in one piece.
const IN_MEMORY: u64 = 1024 * 1024;

impl<B: BodyStore> EncryptedBodies<B> {
    /// Encrypts with AES-256-GCM what is given to `inner`.
    pub fn new(inner: B, keys: Arc<dyn MasterKeyService>) -> Self {
        Self { inner, keys, algorithm: Some(Algorithm::default()) }
    }

    /// Encrypts with this algorithm; with `None`, what is put from now on is not encrypted, and what
    /// was is still read.
    #[must_use]
    pub fn with_algorithm(mut self, algorithm: Option<Algorithm>) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// The store that keeps the objects.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    /// The objects as they are to be kept, and what will be known about them.
    async fn encrypt(
        &self,
        algorithm: Algorithm,
        objects: Vec<NewObject>,
    ) -> Vec<Result<(NewObject, StoredObject), StoreError>> {
        let count = objects.len();
        let mut ready = Vec::with_capacity(count);
        for object in objects {
            let data_key = Secret::new(random());
            let wrapped = self.keys.wrap(&data_key, &place(&object.key)).await;
            let head = wrapped.and_then(|wrapped| write_head(algorithm, &wrapped));
            ready.push(head.map(|head| (object, head, Cipher::new(algorithm, &data_key))));
        }
        let work = move || -> Vec<_> {
            ready
                .into_iter()
                .map(|ready| ready.and_then(|(object, head, cipher)| encrypt(object, head, cipher)))
                .collect()
        };
        spawn_blocking(work).await.unwrap_or_else(|_| {
            let lost = || StoreError::new(StoreErrorKind::Unavailable, "put body", "the work was interrupted");
            (0..count).map(|_| Err(lost())).collect()
        })
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: BodyStore> BodyStore for EncryptedBodies<B> {
    async fn put(&self, objects: Vec<NewObject>) -> Vec<Result<StoredObject, StoreError>> {
        let Some(algorithm) = self.algorithm else { return self.inner.put(objects).await };
        let mut answers = Vec::with_capacity(objects.len());
        let mut encrypted = Vec::with_capacity(objects.len());
        for object in self.encrypt(algorithm, objects).await {
            answers.push(object.map(|(object, stored)| {
                encrypted.push(object);
                stored
            }));
        }
        let kept = self.inner.put(encrypted).await;
        for (answer, kept) in answers.iter_mut().filter(|answer| answer.is_ok()).zip(kept) {
            if let Err(error) = kept {
                *answer = Err(error);
            }
        }
        answers
    }

    async fn open(&self, key: &str) -> Result<Body, StoreError> {
        let stored = self.inner.open(key).await?;
        let damaged = || StoreError::new(StoreErrorKind::Corrupt, "open body", format!("{key}: the object is damaged"));
        let (stored, head) = read_beginning(stored).await.map_err(|error| io_error("open body", &key, error))?;
        let Some(after_magic) = head.strip_prefix(MAGIC) else { return Ok(stored) };
        let ([VERSION, number], rest) = after_magic.split_first_chunk::<2>().ok_or_else(damaged)? else {
            return Err(damaged());
        };
        let algorithm = Algorithm::of_number(*number).ok_or_else(damaged)?;
        let (wrapped, rest) = read_wrapped(rest).ok_or_else(damaged)?;
        let data_key = self.keys.unwrap(&wrapped, &place(key)).await?;
        let start = (head.len() - rest.len()) as u64;
        let source = Decrypted::new(stored, start, algorithm, Cipher::new(algorithm, &data_key));
        Ok(Body::from_source(Arc::new(source.ok_or_else(damaged)?)))
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

/// An object and the bytes that it is kept as, made when they are read.
struct Encrypted {
    prefix: Bytes,
    body: Body,
    bound_to: [u8; MAGIC.len() + 2],
    cipher: Cipher,
    last: Recent,
}

/// An object that is kept encrypted, and its bytes, decrypted when they are read.
struct Decrypted {
    stored: Body,
    /// Where the chunks begin.
    start: u64,
    len: u64,
    bound_to: [u8; MAGIC.len() + 2],
    cipher: Cipher,
    last: Recent,
}

/// The chunk that was used last: whoever reads a chunk in pieces asks for it again.
#[derive(Default)]
struct Recent(Mutex<Option<(u64, Vec<u8>)>>);

impl Encrypted {
    fn plain_len(&self) -> u64 {
        self.prefix.len() as u64 + self.body.len()
    }

    fn chunk(&self, index: u64) -> io::Result<Vec<u8>> {
        let (start, len) = (index * CHUNK, self.plain_len());
        let size = usize::try_from((len - start).min(CHUNK)).map_err(io::Error::other)?;
        let mut chunk = Vec::with_capacity(size + TAG);
        chunk.resize(size, 0);
        read_full(|offset, buffer| self.read_plain(offset, buffer), start, &mut chunk)?;
        self.cipher.seal_with(nonce(index, start + CHUNK >= len)?, &self.bound_to, &mut chunk);
        Ok(chunk)
    }

    fn read_plain(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        match usize::try_from(offset).ok().and_then(|offset| self.prefix.get(offset..)) {
            Some(rest) if !rest.is_empty() => {
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                Ok(count)
            }
            _ => self.body.read_at(offset - self.prefix.len() as u64, buffer),
        }
    }

    /// What will be known about the object; reads all of it once.
    fn describe(&self) -> io::Result<StoredObject> {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.prefix);
        let mut reader = self.body.reader();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match io::Read::read(&mut reader, &mut buffer) {
                Ok(0) => break,
                Ok(count) => context.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(StoredObject { size: self.plain_len(), sha256: to_array(&context.finish()) })
    }
}

impl Decrypted {
    /// `None` if no object has this many octets.
    fn new(stored: Body, start: u64, algorithm: Algorithm, cipher: Cipher) -> Option<Self> {
        let sealed = stored.len().checked_sub(start)?;
        let (whole, rest) = (sealed / SEALED_CHUNK, sealed % SEALED_CHUNK);
        let len = match rest {
            0 => whole * CHUNK,
            rest => whole * CHUNK + rest.checked_sub(TAG as u64)?,
        };
        let last = Recent::default();
        (sealed > 0).then_some(Self { stored, start, len, bound_to: bound_to(algorithm), cipher, last })
    }

    fn chunk(&self, index: u64) -> io::Result<Vec<u8>> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the object is damaged");
        let size = (self.len - index * CHUNK).min(CHUNK) + TAG as u64;
        let mut chunk = vec![0; usize::try_from(size).map_err(io::Error::other)?];
        let from = self.start + index * SEALED_CHUNK;
        read_full(|offset, buffer| self.stored.read_at(offset, buffer), from, &mut chunk)?;
        let is_last = (index + 1) * CHUNK >= self.len;
        self.cipher.open_with(nonce(index, is_last)?, &self.bound_to, &mut chunk).ok_or_else(damaged)?;
        Ok(chunk)
    }
}

impl BodySource for Encrypted {
    fn len(&self) -> u64 {
        let len = self.plain_len();
        // An empty object has one chunk, too: that it is empty is not to be forged either.
        len + len.div_ceil(CHUNK).max(1) * TAG as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if offset >= self.len() {
            return Ok(0);
        }
        self.last.read(SEALED_CHUNK, offset, buffer, |index| self.chunk(index))
    }
}

impl BodySource for Decrypted {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        // What is empty is read once, too, so that one that was emptied is found.
        if offset >= self.len.max(1) {
            return Ok(0);
        }
        self.last.read(CHUNK, offset, buffer, |index| self.chunk(index))
    }
}

impl Recent {
    /// Copies from the chunk that holds `offset`.
    fn read(
        &self,
        chunk_size: u64,
        offset: u64,
        buffer: &mut [u8],
        make: impl FnOnce(u64) -> io::Result<Vec<u8>>,
    ) -> io::Result<usize> {
        let (index, within) = (offset / chunk_size, usize::try_from(offset % chunk_size).map_err(io::Error::other)?);
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.as_ref().is_none_or(|(found, _)| *found != index) {
            *recent = Some((index, make(index)?));
        }
        let rest = recent.as_ref().and_then(|(_, chunk)| chunk.get(within..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

impl fmt::Debug for Encrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encrypted").field("body", &self.body).finish_non_exhaustive()
    }
}

impl fmt::Debug for Decrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decrypted").field("stored", &self.stored).finish_non_exhaustive()
    }
}

fn encrypt(object: NewObject, head: Head, cipher: Cipher) -> Result<(NewObject, StoredObject), StoreError> {
    let NewObject { key, prefix, body } = object;
    let source = Encrypted { prefix, body, bound_to: head.bound_to, cipher, last: Recent::default() };
    let unreadable = |error| io_error("put body", &key, error);
    let stored = source.describe().map_err(unreadable)?;
    let source = Body::from_source(Arc::new(source));
    let body = if stored.size <= IN_MEMORY { source.read_all().map_err(unreadable)?.into() } else { source };
    Ok((NewObject { key, prefix: head.bytes, body }, stored))
}

/// What stands in front of the chunks.
struct Head {
    bytes: Bytes,
    bound_to: [u8; MAGIC.len() + 2],
}

fn write_head(algorithm: Algorithm, wrapped: &WrappedKey) -> Result<Head, StoreError> {
    let bound_to = bound_to(algorithm);
    let mut bytes = bound_to.to_vec();
    write_wrapped(wrapped, &mut bytes)?;
    Ok(Head { bytes: bytes.into(), bound_to })
}

/// What every chunk is bound to: the first octets of the object.
fn bound_to(algorithm: Algorithm) -> [u8; MAGIC.len() + 2] {
    let mut octets = [0; MAGIC.len() + 2];
    octets[..MAGIC.len()].copy_from_slice(MAGIC);
    octets[MAGIC.len()..].copy_from_slice(&[VERSION, algorithm.number()]);
    octets
}

/// What the data key of an object is bound to.
fn place(key: &str) -> Vec<u8> {
    // One that is put aside is still the same.
    let key = key.strip_prefix(ARCHIVE).unwrap_or(key);
    [b"mairust encrypted body: ", key.as_bytes()].concat()
}

fn nonce(index: u64, is_last: bool) -> io::Result<[u8; NONCE]> {
    let index = u32::try_from(index).map_err(|_| io::Error::other("the object is too large to be encrypted"))?;
    let mut nonce = [0; NONCE];
    nonce[7..11].copy_from_slice(&index.to_be_bytes());
    nonce[11] = u8::from(is_last);
    Ok(nonce)
}

/// An object and its first octets, as many as there are up to [`MAX_HEAD`].
async fn read_beginning(stored: Body) -> io::Result<(Body, Vec<u8>)> {
    if let Some(bytes) = stored.in_memory() {
        let head = bytes[..bytes.len().min(MAX_HEAD)].to_vec();
        return Ok((stored, head));
    }
    let work = move || {
        let mut head = vec![0; MAX_HEAD.min(usize::try_from(stored.len()).unwrap_or(MAX_HEAD))];
        read_full(|offset, buffer| stored.read_at(offset, buffer), 0, &mut head)?;
        Ok((stored, head))
    };
    spawn_blocking(work).await.map_err(io::Error::other)?
}

fn read_full(
    read: impl Fn(u64, &mut [u8]) -> io::Result<usize>,
    mut offset: u64,
    mut buffer: &mut [u8],
) -> io::Result<()> {
    while !buffer.is_empty() {
        match read(offset, buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                offset += count as u64;
                buffer = &mut buffer[count..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::MemoryBodies;
    use crate::seal::LocalKeys;

    const KEY: &str = "t/m/1.eml";

    fn keys(octet: u8) -> Arc<dyn MasterKeyService> {
        Arc::new(LocalKeys::new(&Secret::new([octet; 32])))
    }

    fn store() -> EncryptedBodies<MemoryBodies> {
        EncryptedBodies::new(MemoryBodies::default(), keys(1))
    }

    async fn put<B: BodyStore>(store: &B, key: &str, body: &[u8]) -> StoredObject {
        let object =
            NewObject { key: key.to_owned(), prefix: Bytes::from_static(b"prefix"), body: body.to_vec().into() };
        store.put(vec![object]).await.remove(0).unwrap()
    }

    async fn raw(store: &EncryptedBodies<MemoryBodies>) -> Vec<u8> {
        store.inner().open(KEY).await.unwrap().read_all().unwrap().to_vec()
    }

    /// A store that has only this object, as it is kept.
    async fn with_raw(bytes: Vec<u8>, key: &str) -> EncryptedBodies<MemoryBodies> {
        let store = store();
        let object = NewObject { key: key.to_owned(), prefix: Bytes::new(), body: bytes.into() };
        store.inner().put(vec![object]).await.remove(0).unwrap();
        store
    }

    fn text(length: usize) -> Vec<u8> {
        (0..length).map(|position| u8::try_from(position % 251).unwrap()).collect()
    }

    #[tokio::test]
    async fn every_size_and_every_part_comes_back() {
        let chunk = usize::try_from(CHUNK).unwrap();
        for algorithm in Algorithm::ALL {
            for length in [0, 1, chunk - 7, chunk - 6, chunk - 5, 2 * chunk - 6, 3 * chunk, 20 * chunk] {
                let store = store().with_algorithm(Some(algorithm));
                let body = text(length);
                let expected = [b"prefix", &body[..]].concat();
                let stored = put(&store, KEY, &body).await;
                assert_eq!(stored.sha256, digest::digest(&digest::SHA256, &expected).as_ref());
                let opened = store.open(KEY).await.unwrap();
                assert_eq!((opened.len(), stored.size), (expected.len() as u64, expected.len() as u64));
                assert_eq!(opened.read_all().unwrap(), expected);
                for offset in [0, 5, chunk - 1, chunk, chunk + 1, expected.len() - 1, expected.len(), 99 * chunk] {
                    let mut part = [0; 3];
                    let count = opened.read_at(offset as u64, &mut part).unwrap();
                    let rest = expected.get(offset..).unwrap_or_default();
                    assert_eq!(part[..count], rest[..count], "{length} at {offset}");
                    assert_eq!(count == 0, rest.is_empty(), "{length} at {offset}");
                }
                let kept = raw(&store).await;
                assert!(!kept.windows(6).any(|window| window == b"prefix"));
            }
        }
    }

    #[tokio::test]
    async fn nothing_is_something_too() {
        let store = store();
        let object = NewObject { key: KEY.to_owned(), prefix: Bytes::new(), body: Vec::new().into() };
        assert_eq!(store.put(vec![object]).await.remove(0).unwrap().size, 0);
        let opened = store.open(KEY).await.unwrap();
        assert_eq!((opened.len(), opened.read_all().unwrap().len()), (0, 0));
        assert_eq!(opened.read_at(99 * CHUNK, &mut [0; 3]).unwrap(), 0);
        let mut forged = raw(&store).await;
        *forged.last_mut().unwrap() ^= 1;
        assert!(with_raw(forged, KEY).await.open(KEY).await.unwrap().read_all().is_err());
    }

    #[tokio::test]
    async fn the_same_bytes_never_look_the_same() {
        let store = store();
        put(&store, KEY, b"x").await;
        let first = raw(&store).await;
        store.delete(KEY).await.unwrap();
        put(&store, KEY, b"x").await;
        assert_ne!(raw(&store).await, first);
    }

    #[tokio::test]
    async fn what_was_changed_is_not_read() {
        let store = store();
        let chunk = usize::try_from(SEALED_CHUNK).unwrap();
        put(&store, KEY, &text(3 * 64 * 1024 - 6)).await;
        let kept = raw(&store).await;
        let start = kept.len() - 3 * chunk;
        let (head, chunks) = kept.split_at(start);
        let (first, second, third) = (&chunks[..chunk], &chunks[chunk..2 * chunk], &chunks[2 * chunk..]);
        let flipped = |index: usize| {
            let mut bytes = kept.clone();
            bytes[index] ^= 1;
            bytes
        };
        let changed = [
            ("cut by a chunk", [head, first, second].concat()),
            ("cut by an octet", kept[..kept.len() - 1].to_vec()),
            ("cut to nothing", head.to_vec()),
            ("cut to a tag", kept[..start + TAG].to_vec()),
            ("exchanged", [head, second, first, third].concat()),
            ("longer", [head, first, second, third, third].concat()),
            ("without the first", [head, second, third].concat()),
            ("key", flipped(start - 1)),
            ("version", flipped(MAGIC.len())),
            ("algorithm", flipped(MAGIC.len() + 1)),
            ("text", flipped(start)),
            ("tag", flipped(kept.len() - 1)),
        ];
        for (what, bytes) in changed {
            let opened = with_raw(bytes, KEY).await.open(KEY).await;
            let error = match opened {
                Ok(body) => body.read_all().map_err(|error| io_error("read", &KEY, error)).unwrap_err(),
                Err(error) => error,
            };
            assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{what}: {error}");
        }
        let elsewhere = with_raw(kept.clone(), "t/m/2.eml").await.open("t/m/2.eml").await.unwrap_err();
        assert_eq!(elsewhere.kind(), StoreErrorKind::Corrupt);
        let archived = with_raw(kept, "archive/t/m/1.eml").await.open("archive/t/m/1.eml").await.unwrap();
        assert_eq!(archived.len(), 3 * 64 * 1024);
    }

    #[tokio::test]
    async fn turning_it_on_or_off_leaves_what_is_there() {
        let store = store().with_algorithm(None);
        put(&store, "t/m/plain.eml", b" text").await;
        assert_eq!(store.inner().open("t/m/plain.eml").await.unwrap().read_all().unwrap(), "prefix text");
        let store = store.with_algorithm(Some(Algorithm::Aes256Gcm));
        put(&store, KEY, b" text").await;
        let store = store.with_algorithm(None);
        for key in ["t/m/plain.eml", KEY] {
            assert_eq!(store.open(key).await.unwrap().read_all().unwrap(), "prefix text");
        }
        let stranger = EncryptedBodies { inner: store.inner, keys: keys(2), algorithm: None };
        assert_eq!(stranger.open(KEY).await.unwrap_err().kind(), StoreErrorKind::NotFound);
    }
}
