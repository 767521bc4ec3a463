//! Secrets at rest: envelope encryption.
//!
//! Each secret is encrypted under a data key of its own, which is wrapped by a master key and kept
//! beside it. Both are bound to the place of the record, so that one that is carried to another row
//! does not open. A master key is changed by wrapping the data keys anew: the secrets themselves
//! stay as they are.
//!
//! Deliberately absent: where sealed records are kept, which is the [`Registry`](crate::Registry),
//! and where master keys come from.
//!
//! A record is, one behind the other: the version (1), the number of the algorithm, the wrapped key
//! (length of the id in one octet, the id, length in two octets, the key), and the secret, a nonce
//! before it and a tag behind it.

use std::sync::Arc;

use mairust_core::Secret;

use crate::error::{StoreError, StoreErrorKind};
use crate::owner::Owner;

pub(crate) mod cipher;
mod keys;

pub use cipher::Algorithm;
pub use keys::{KeyId, LocalKeys, MAX_KEY_ID, MasterKeyService, WrappedKey};

use cipher::{Cipher, random};

/// The longest wrapped key in octets: what services answer is shorter.
const MAX_WRAPPED: usize = 2_048;
const VERSION: u8 = 1;

/// Where a sealed record is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedPlace<'a> {
    /// Whose it is.
    pub owner: Owner,
    /// What kind of secret, for example `dkim`.
    pub kind: &'a str,
    /// Its name among those of its kind.
    pub name: &'a str,
}

/// A secret as it is kept. Says nothing about the secret but its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedRecord(Vec<u8>);

/// Seals and opens secrets under the keys of a [`MasterKeyService`].
#[derive(Debug, Clone)]
pub struct Sealer {
    keys: Arc<dyn MasterKeyService>,
    algorithm: Algorithm,
}

/// A record, taken apart.
struct Parts<'a> {
    algorithm: Algorithm,
    wrapped: WrappedKey,
    sealed: &'a [u8],
}

/// A record that was opened.
struct Opened<'a> {
    parts: Parts<'a>,
    data_key: Secret<[u8; 32]>,
    secret: Secret<Vec<u8>>,
}

impl SealedPlace<'_> {
    /// Octets that no other place has.
    fn as_bytes(&self) -> Vec<u8> {
        let kind_length = u32::try_from(self.kind.len()).unwrap_or(u32::MAX).to_be_bytes();
        let (kind, name) = (self.kind.as_bytes(), self.name.as_bytes());
        [b"mairust sealed record: ", &self.owner.as_bytes()[..], &kind_length, kind, name].concat()
    }
}

impl SealedRecord {
    /// A record as it was kept. Whether it is one shows when it is opened.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The octets to keep.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The master key that it is sealed under; `None` if it is no record.
    pub fn key_id(&self) -> Option<KeyId> {
        self.parts().map(|parts| parts.wrapped.key)
    }

    fn new(algorithm: Algorithm, wrapped: &WrappedKey, sealed: &[u8]) -> Result<Self, StoreError> {
        let mut bytes = vec![VERSION, algorithm.number()];
        write_wrapped(wrapped, &mut bytes)?;
        bytes.extend_from_slice(sealed);
        Ok(Self(bytes))
    }

    fn parts(&self) -> Option<Parts<'_>> {
        let ([VERSION, algorithm], rest) = self.0.split_first_chunk::<2>()? else { return None };
        let (wrapped, sealed) = read_wrapped(rest)?;
        Some(Parts { algorithm: Algorithm::of_number(*algorithm)?, wrapped, sealed })
    }
}

impl Sealer {
    /// Seals with AES-256-GCM.
    pub fn new(keys: Arc<dyn MasterKeyService>) -> Self {
        Self { keys, algorithm: Algorithm::default() }
    }

    /// Seals with this algorithm; records of all algorithms are opened.
    #[must_use]
    pub fn with_algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// The master keys.
    pub fn keys(&self) -> &dyn MasterKeyService {
        &*self.keys
    }

    /// Seals a secret for a place.
    ///
    /// # Errors
    /// When the master key can't be used.
    pub async fn seal(&self, place: SealedPlace<'_>, secret: &[u8]) -> Result<SealedRecord, StoreError> {
        let (data_key, place) = (Secret::new(random()), place.as_bytes());
        let wrapped = self.keys.wrap(&data_key, &place).await?;
        let sealed = Cipher::new(self.algorithm, &data_key).seal(&bound_to(self.algorithm, &place), secret);
        SealedRecord::new(self.algorithm, &wrapped, &sealed)
    }

    /// Opens a record at its place.
    ///
    /// # Errors
    /// `Corrupt` if it is not what was sealed for this place, `NotFound` if its master key is not
    /// there; when the master key can't be used.
    pub async fn open(&self, place: SealedPlace<'_>, record: &SealedRecord) -> Result<Secret<Vec<u8>>, StoreError> {
        self.open_parts(place, record).await.map(|opened| opened.secret)
    }

    /// The record under the current master key; `None` if it is already.
    ///
    /// # Errors
    /// As for [`open`](Self::open); a record that does not open is not wrapped anew.
    pub async fn rewrap(
        &self,
        place: SealedPlace<'_>,
        record: &SealedRecord,
    ) -> Result<Option<SealedRecord>, StoreError> {
        let Opened { parts, data_key, .. } = self.open_parts(place, record).await?;
        if parts.wrapped.key == self.keys.current() {
            return Ok(None);
        }
        let wrapped = self.keys.wrap(&data_key, &place.as_bytes()).await?;
        SealedRecord::new(parts.algorithm, &wrapped, parts.sealed).map(Some)
    }

    async fn open_parts<'a>(&self, place: SealedPlace<'_>, record: &'a SealedRecord) -> Result<Opened<'a>, StoreError> {
        let corrupt = || {
            let text = format!("{}/{} of {} is not what was sealed there", place.kind, place.name, place.owner);
            StoreError::new(StoreErrorKind::Corrupt, "open sealed record", text)
        };
        let parts = record.parts().ok_or_else(corrupt)?;
        let place = place.as_bytes();
        let data_key = self.keys.unwrap(&parts.wrapped, &place).await?;
        let cipher = Cipher::new(parts.algorithm, &data_key);
        let secret = cipher.open(&bound_to(parts.algorithm, &place), parts.sealed).ok_or_else(corrupt)?;
        Ok(Opened { parts, data_key, secret })
    }
}

/// What the secret itself is bound to: the place, and how it is encrypted. Not the master key,
/// which changes.
fn bound_to(algorithm: Algorithm, place: &[u8]) -> Vec<u8> {
    [&[VERSION, algorithm.number()], place].concat()
}

/// Writes a wrapped key so that its end is known.
pub(crate) fn write_wrapped(wrapped: &WrappedKey, to: &mut Vec<u8>) -> Result<(), StoreError> {
    let too_long = || StoreError::new(StoreErrorKind::Invalid, "wrap data key", "the wrapped key is too long");
    let id = wrapped.key.as_str().as_bytes();
    let length = u16::try_from(wrapped.bytes.len()).ok().filter(|length| usize::from(*length) <= MAX_WRAPPED);
    to.push(u8::try_from(id.len()).map_err(|_| too_long())?);
    to.extend_from_slice(id);
    to.extend(length.ok_or_else(too_long)?.to_be_bytes());
    to.extend_from_slice(&wrapped.bytes);
    Ok(())
}

/// What [`write_wrapped`] wrote, and what stands behind it.
pub(crate) fn read_wrapped(bytes: &[u8]) -> Option<(WrappedKey, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (id, rest) = rest.split_at_checked(usize::from(*length))?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (bytes, rest) = rest.split_at_checked(length).filter(|_| length <= MAX_WRAPPED)?;
    let key = KeyId::new(std::str::from_utf8(id).ok()?).ok()?;
    Some((WrappedKey { key, bytes: bytes.to_vec() }, rest))
}

#[cfg(test)]
mod tests {
    use mairust_core::{TenantId, Timestamp};

    use super::*;

    fn sealer(keys: LocalKeys) -> Sealer {
        Sealer::new(Arc::new(keys))
    }

    fn place(name: &str) -> SealedPlace<'_> {
        SealedPlace { owner: Owner::Installation, kind: "test", name }
    }

    #[tokio::test]
    async fn a_record_opens_at_its_own_place_only() {
        let sealer = sealer(LocalKeys::new(&Secret::new([1; 32])));
        for algorithm in Algorithm::ALL {
            let sealer = sealer.clone().with_algorithm(algorithm);
            let record = sealer.seal(place("a"), b"secret").await.unwrap();
            assert_eq!(sealer.open(place("a"), &record).await.unwrap().expose(), b"secret");
            let tenant = Owner::Tenant(TenantId::new(Timestamp::from_unix(1_763_780_646)));
            for elsewhere in [
                place("b"),
                SealedPlace { kind: "tes", name: "ta", ..place("") },
                SealedPlace { kind: "other", ..place("a") },
                SealedPlace { owner: tenant, ..place("a") },
            ] {
                let error = sealer.open(elsewhere, &record).await.unwrap_err();
                assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{elsewhere:?}");
            }
        }
    }

    #[tokio::test]
    async fn no_changed_octet_goes_unnoticed() {
        let sealer = sealer(LocalKeys::new(&Secret::new([1; 32])));
        let record = sealer.seal(place("a"), b"secret").await.unwrap();
        for index in 0..record.as_bytes().len() {
            let mut changed = record.as_bytes().to_vec();
            changed[index] ^= 1;
            assert!(sealer.open(place("a"), &SealedRecord::from_bytes(changed)).await.is_err(), "octet {index}");
            let cut = SealedRecord::from_bytes(record.as_bytes()[..index].to_vec());
            assert!(sealer.open(place("a"), &cut).await.is_err(), "{index} octets");
        }
    }

    #[tokio::test]
    async fn rotation_wraps_the_data_key_and_leaves_the_secret() {
        let (old, new) = (Secret::new([1; 32]), Secret::new([2; 32]));
        let before = sealer(LocalKeys::new(&old)).seal(place("a"), b"secret").await.unwrap();
        let both = sealer(LocalKeys::new(&new).with_former([&old]));
        let after = both.rewrap(place("a"), &before).await.unwrap().unwrap();
        assert_eq!((before.key_id(), after.key_id()), (Some(KeyId::of(&old)), Some(KeyId::of(&new))));
        assert_eq!(both.rewrap(place("a"), &after).await.unwrap(), None);
        assert_eq!(before.parts().unwrap().sealed, after.parts().unwrap().sealed);
        let only_new = sealer(LocalKeys::new(&new));
        assert_eq!(only_new.open(place("a"), &after).await.unwrap().expose(), b"secret");
        assert_eq!(only_new.open(place("a"), &before).await.unwrap_err().kind(), StoreErrorKind::NotFound);
        assert!(both.rewrap(place("b"), &before).await.is_err());
    }

    #[test]
    fn the_form_of_a_record_does_not_change() {
        let wrapped = WrappedKey { key: KeyId::new("k1").unwrap(), bytes: vec![7, 8] };
        let record = SealedRecord::new(Algorithm::ChaCha20Poly1305, &wrapped, &[9]).unwrap();
        assert_eq!(record.as_bytes(), [1, 2, 2, b'k', b'1', 0, 2, 7, 8, 9]);
        let parts = record.parts().unwrap();
        assert_eq!((parts.wrapped, parts.sealed, parts.algorithm.as_str()), (wrapped, &[9][..], "chacha20-poly1305"));
        let long = WrappedKey { key: KeyId::new("k1").unwrap(), bytes: vec![0; 2_049] };
        assert!(SealedRecord::new(Algorithm::Aes256Gcm, &long, &[9]).is_err());
    }
}
