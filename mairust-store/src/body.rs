//! Bodies: immutable objects under keys.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::digest;
use bytes::Bytes;
use mairust_core::{Body, MailboxId, MessageId, TenantId};

use crate::error::{StoreError, StoreErrorKind};
use crate::lifecycle::ARCHIVE;

mod encrypted;
mod fs;
mod memory;
#[cfg(feature = "s3")]
mod s3;

pub use encrypted::EncryptedBodies;
pub use fs::FsBodies;
pub use memory::MemoryBodies;
#[cfg(feature = "s3")]
pub use s3::{S3Addressing, S3Bodies, S3Encryption, S3Settings, S3SettingsError};

/// An object to be kept: `prefix` and `body` in one piece.
#[derive(Debug, Clone)]
pub struct NewObject {
    /// Where: `<tenant_id>/<mailbox_id>/<message_id>.eml`, see [`object_key`].
    pub key: String,
    /// The first bytes.
    pub prefix: Bytes,
    /// The rest.
    pub body: Body,
}

impl NewObject {
    /// Size in bytes.
    pub fn len(&self) -> u64 {
        self.prefix.len() as u64 + self.body.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What is known about an object once it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredObject {
    /// Size in bytes.
    pub size: u64,
    /// SHA-256.
    pub sha256: [u8; 32],
}

/// Immutable objects under keys.
///
/// A key is made of segments of ASCII letters, digits and hyphens, divided by `/`; the last one
/// ends in `.eml`, and the first of several is not `tmp`. Any other key is `Invalid`.
#[async_trait]
pub trait BodyStore: fmt::Debug + Send + Sync + 'static {
    /// Keeps objects; one answer for each, in order. On `Ok` the object and its name are durable.
    /// An object that exists is never overwritten: `AlreadyExists`, and it is durable then. If the future is dropped, an
    /// object may exist that no row names; it does no harm.
    async fn put(&self, objects: Vec<NewObject>) -> Vec<Result<StoredObject, StoreError>>;

    /// The object under a key, not verified.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    async fn open(&self, key: &str) -> Result<Body, StoreError>;

    /// Removes an object; nothing happens if there is none.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Keys of objects behind `after`, or from the first one on, ascending in byte order: at most
    /// `limit`, fewer only where no more follow. No snapshot: an object that comes or goes meanwhile
    /// may be told or not. Files of the store's own are no objects.
    async fn list(&self, after: Option<&str>, limit: u32) -> Result<Vec<String>, StoreError>;

    /// Whether objects can be kept right now. May cost a request: call it now and then.
    async fn check(&self) -> Result<(), StoreError>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: BodyStore + ?Sized> BodyStore for Arc<T> {
    async fn put(&self, objects: Vec<NewObject>) -> Vec<Result<StoredObject, StoreError>> {
        (**self).put(objects).await
    }

    async fn open(&self, key: &str) -> Result<Body, StoreError> {
        (**self).open(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        (**self).delete(key).await
    }

    async fn list(&self, after: Option<&str>, limit: u32) -> Result<Vec<String>, StoreError> {
        (**self).list(after, limit).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        (**self).check().await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: BodyStore + ?Sized> BodyStore for Box<T> {
    async fn put(&self, objects: Vec<NewObject>) -> Vec<Result<StoredObject, StoreError>> {
        (**self).put(objects).await
    }

    async fn open(&self, key: &str) -> Result<Body, StoreError> {
        (**self).open(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        (**self).delete(key).await
    }

    async fn list(&self, after: Option<&str>, limit: u32) -> Result<Vec<String>, StoreError> {
        (**self).list(after, limit).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        (**self).check().await
    }
}

/// The key of a message's object.
pub fn object_key(tenant: TenantId, mailbox: MailboxId, message: MessageId) -> String {
    format!("{tenant}/{mailbox}/{message}.eml")
}

/// What the key of a message's object says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ObjectName {
    pub(crate) tenant: TenantId,
    pub(crate) message: MessageId,
}

impl ObjectName {
    /// Of a key that [`object_key`] made, wherever the object lies now.
    pub(crate) fn of(key: &str) -> Option<Self> {
        let key = key.strip_prefix(ARCHIVE).unwrap_or(key);
        let mut segments = key.strip_suffix(".eml")?.split('/');
        let tenant = segments.next()?.parse().ok()?;
        let _: MailboxId = segments.next()?.parse().ok()?;
        let message = segments.next()?.parse().ok()?;
        segments.next().is_none().then_some(Self { tenant, message })
    }
}

/// Where the object of this key lies if it was put aside, or where it lay before.
pub(crate) fn elsewhere(key: &str) -> String {
    key.strip_prefix(ARCHIVE).map_or_else(|| format!("{ARCHIVE}{key}"), str::to_owned)
}

/// Whether an object that begins with these octets is encrypted.
pub(crate) fn is_encrypted(beginning: &[u8]) -> bool {
    beginning.starts_with(encrypted::MAGIC)
}

/// Bodies up to this size are read into memory when they are verified, so that they are read once.
const VERIFY_IN_MEMORY: u64 = 1024 * 1024;

/// Refuses keys that are not of the documented form, so that no key leads out of the store.
fn check_key(operation: &'static str, key: &str) -> Result<(), StoreError> {
    if is_key(key) {
        return Ok(());
    }
    Err(StoreError::new(StoreErrorKind::Invalid, operation, format!("key {key:?}")))
}

pub(crate) fn is_key(key: &str) -> bool {
    let stem = key.strip_suffix(".eml").filter(|_| !key.starts_with("tmp/"));
    stem.is_some_and(|stem| stem.split('/').all(is_segment))
}

fn is_segment(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Checksums of more bytes than this are taken on a thread of their own.
pub(crate) const HASH_HERE: u64 = 256 * 1024;

/// Compares an object with its checksum; `what` names it in errors.
pub(crate) async fn verify(body: Body, sha256: [u8; 32], what: String) -> Result<Body, StoreError> {
    let is_quick = body.in_memory().is_some() && body.len() <= HASH_HERE;
    let work = move || {
        let unreadable = |error: io::Error| io_error("read body", &what, error);
        let (found, body) = if body.len() <= VERIFY_IN_MEMORY {
            let bytes = body.read_all().map_err(unreadable)?;
            (digest::digest(&digest::SHA256, &bytes), Body::from(bytes))
        } else {
            (digest_of(&mut body.reader()).map_err(unreadable)?, body)
        };
        if found.as_ref() == sha256 {
            return Ok(body);
        }
        Err(StoreError::new(StoreErrorKind::Corrupt, "read body", format!("{what}: the checksum is wrong")))
    };
    if is_quick {
        return work();
    }
    tokio::task::spawn_blocking(work).await.map_err(|error| interrupted("read body", error))?
}

/// The kind of an I/O error, as far as a caller can act on it.
pub(crate) fn io_error(operation: &'static str, what: &dyn fmt::Display, error: io::Error) -> StoreError {
    let kind = match error.kind() {
        io::ErrorKind::AlreadyExists => StoreErrorKind::AlreadyExists,
        io::ErrorKind::InvalidData => StoreErrorKind::Corrupt,
        io::ErrorKind::NotFound => StoreErrorKind::NotFound,
        io::ErrorKind::QuotaExceeded | io::ErrorKind::StorageFull => StoreErrorKind::Full,
        _ => StoreErrorKind::Unavailable,
    };
    StoreError::new(kind, operation, what).with_source(error)
}

/// A blocking thread did not come to its end.
pub(crate) fn interrupted(operation: &'static str, error: tokio::task::JoinError) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, operation, "the work was interrupted").with_source(error)
}

/// The SHA-256 of an object.
pub(crate) fn digest_of_all(bytes: &[u8]) -> [u8; 32] {
    to_array(&digest::digest(&digest::SHA256, bytes))
}

pub(crate) fn digest_of(reader: &mut impl Read) -> io::Result<digest::Digest> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(context.finish()),
            Ok(count) => context.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn to_array(digest: &digest::Digest) -> [u8; 32] {
    let mut array = [0; 32];
    array.copy_from_slice(digest.as_ref());
    array
}
