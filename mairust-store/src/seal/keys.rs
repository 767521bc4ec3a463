//! The keys that wrap data keys: the seam for a key management service, and keys of our own.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::Secret;

use super::cipher::{Algorithm, Cipher, derive};
use crate::error::{StoreError, StoreErrorKind};

/// The longest id of a key in octets: room for a name in a key management service.
pub const MAX_KEY_ID: usize = 255;

/// The name of a master key. It tells nothing about the key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(String);

/// A data key as it is kept: encrypted by a master key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// The master key.
    pub key: KeyId,
    /// The data key, encrypted; at most 2,048 octets.
    pub bytes: Vec<u8>,
}

/// Whoever holds master keys: they never leave it.
#[async_trait]
pub trait MasterKeyService: fmt::Debug + Send + Sync + 'static {
    /// The key that wraps from now on.
    fn current(&self) -> KeyId;

    /// All keys that unwrap, the current one first.
    fn key_ids(&self) -> Vec<KeyId>;

    /// Encrypts a data key under the current key, bound to `place`. Changes nothing.
    ///
    /// # Errors
    /// `Unavailable` when the service does not answer.
    async fn wrap(&self, data_key: &Secret<[u8; 32]>, place: &[u8]) -> Result<WrappedKey, StoreError>;

    /// Decrypts a data key. Changes nothing.
    ///
    /// # Errors
    /// `NotFound` if there is no such master key, `Corrupt` if it is not what was wrapped for this
    /// place, `Unavailable` when the service does not answer.
    async fn unwrap(&self, wrapped: &WrappedKey, place: &[u8]) -> Result<Secret<[u8; 32]>, StoreError>;
}

/// Master keys in memory: one that is used, and those that were.
///
/// A key is known by octets that are derived from it, so that no list of names has to be kept.
#[derive(Debug)]
pub struct LocalKeys {
    current: LocalKey,
    former: Vec<LocalKey>,
    algorithm: Algorithm,
}

#[derive(Debug)]
struct LocalKey {
    id: KeyId,
    wrapping: Secret<[u8; 32]>,
}

impl KeyId {
    /// A name of 1 to [`MAX_KEY_ID`] visible ASCII characters.
    ///
    /// # Errors
    /// `Invalid` if it is something else.
    pub fn new(name: impl Into<String>) -> Result<Self, StoreError> {
        let name = name.into();
        let fits = (1..=MAX_KEY_ID).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self(name)) } else { Err(StoreError::new(StoreErrorKind::Invalid, "key id", name.escape_debug())) }
    }

    /// The id that [`LocalKeys`] know this key by: 16 hexadecimal digits.
    pub fn of(key: &Secret<[u8; 32]>) -> Self {
        let derived = derive(key, "mairust id of a master key");
        Self(derived.expose()[..8].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl LocalKeys {
    /// Wraps under `current`.
    pub fn new(current: &Secret<[u8; 32]>) -> Self {
        Self { current: LocalKey::of(current), former: Vec::new(), algorithm: Algorithm::default() }
    }

    /// Unwraps what these keys have wrapped, too.
    #[must_use]
    pub fn with_former<'a>(mut self, keys: impl IntoIterator<Item = &'a Secret<[u8; 32]>>) -> Self {
        self.former.extend(keys.into_iter().map(LocalKey::of).filter(|key| key.id != self.current.id));
        self
    }

    /// Wraps with this algorithm.
    #[must_use]
    pub fn with_algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    fn all(&self) -> impl Iterator<Item = &LocalKey> {
        std::iter::once(&self.current).chain(&self.former)
    }
}

impl LocalKey {
    fn of(key: &Secret<[u8; 32]>) -> Self {
        Self { id: KeyId::of(key), wrapping: derive(key, "mairust wrapping of data keys") }
    }
}

#[async_trait]
impl MasterKeyService for LocalKeys {
    fn current(&self) -> KeyId {
        self.current.id.clone()
    }

    fn key_ids(&self) -> Vec<KeyId> {
        self.all().map(|key| key.id.clone()).collect()
    }

    async fn wrap(&self, data_key: &Secret<[u8; 32]>, place: &[u8]) -> Result<WrappedKey, StoreError> {
        let mut bytes = vec![self.algorithm.number()];
        bytes.extend(Cipher::new(self.algorithm, &self.current.wrapping).seal(place, data_key.expose()));
        Ok(WrappedKey { key: self.current(), bytes })
    }

    async fn unwrap(&self, wrapped: &WrappedKey, place: &[u8]) -> Result<Secret<[u8; 32]>, StoreError> {
        let missing = || {
            let text = format!("the master key {} is not among those that are configured", wrapped.key);
            StoreError::new(StoreErrorKind::NotFound, "unwrap data key", text)
        };
        let key = self.all().find(|key| key.id == wrapped.key).ok_or_else(missing)?;
        let opened = wrapped.bytes.split_first().and_then(|(number, sealed)| {
            let opened = Cipher::new(Algorithm::of_number(*number)?, &key.wrapping).open(place, sealed)?;
            opened.expose().as_slice().try_into().ok().map(Secret::new)
        });
        opened.ok_or_else(|| {
            let text = format!("this is not what the master key {} wrapped for this place", wrapped.key);
            StoreError::new(StoreErrorKind::Corrupt, "unwrap data key", text)
        })
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: MasterKeyService + ?Sized> MasterKeyService for Arc<T> {
    fn current(&self) -> KeyId {
        (**self).current()
    }
    fn key_ids(&self) -> Vec<KeyId> {
        (**self).key_ids()
    }
    async fn wrap(&self, data_key: &Secret<[u8; 32]>, place: &[u8]) -> Result<WrappedKey, StoreError> {
        (**self).wrap(data_key, place).await
    }
    async fn unwrap(&self, wrapped: &WrappedKey, place: &[u8]) -> Result<Secret<[u8; 32]>, StoreError> {
        (**self).unwrap(wrapped, place).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn former_keys_unwrap_and_the_current_one_wraps() {
        let (old, new) = (Secret::new([1; 32]), Secret::new([2; 32]));
        let data_key = Secret::new([9; 32]);
        let wrapped = LocalKeys::new(&old).wrap(&data_key, b"place").await.unwrap();
        let keys = LocalKeys::new(&new).with_former([&old, &new]).with_algorithm(Algorithm::ChaCha20Poly1305);
        assert_eq!(keys.key_ids(), [KeyId::of(&new), KeyId::of(&old)]);
        assert_eq!(keys.unwrap(&wrapped, b"place").await.unwrap(), data_key);
        let elsewhere = keys.unwrap(&wrapped, b"elsewhere").await.unwrap_err();
        assert_eq!(elsewhere.kind(), StoreErrorKind::Corrupt);
        let again = keys.wrap(&data_key, b"place").await.unwrap();
        assert_eq!(again.key, keys.current());
        let only_new = LocalKeys::new(&new);
        assert_eq!(only_new.unwrap(&again, b"place").await.unwrap(), data_key);
        assert_eq!(only_new.unwrap(&wrapped, b"place").await.unwrap_err().kind(), StoreErrorKind::NotFound);
    }

    #[test]
    fn an_id_is_a_short_name() {
        assert_eq!(KeyId::of(&Secret::new([1; 32])).as_str().len(), 16);
        assert!(KeyId::new("arn:aws:kms:eu-west-1:1:key/2").is_ok());
        for name in ["", "a b", "ü", &"x".repeat(256)] {
            assert_eq!(KeyId::new(name).unwrap_err().kind(), StoreErrorKind::Invalid, "{name}");
        }
    }
}
