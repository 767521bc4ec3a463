//! Keys that requests to programs elsewhere are signed with: made, replaced, and kept as sealed secrets.
//!
//! A record is, one behind the other: the version (1), the current key, and while there is one the key before it with
//! the time, in microseconds since 1970, at which it ends.

use std::time::Duration;

use mairust_core::{Secret, Timestamp};

use crate::backend::StorageBackend;
use crate::error::{StoreError, StoreErrorKind};
use crate::registry::{Expected, Version};
use crate::seal::cipher::random;
use crate::seal::{SealedPlace, Sealer};

const VERSION: u8 = 1;

/// A key that requests are signed with.
pub type SigningKey = Secret<[u8; 32]>;

/// The keys that requests to one program are signed with.
#[derive(Debug)]
#[non_exhaustive]
pub struct SigningKeys {
    /// The one that was made last.
    pub current: SigningKey,
    /// The one before it, and until when requests are signed with it, too.
    pub previous: Option<(SigningKey, Timestamp)>,
}

impl SigningKeys {
    /// Those that sign at some time, the newest first.
    pub fn live(&self, now: Timestamp) -> impl Iterator<Item = &[u8; 32]> {
        let previous = self.previous.as_ref().filter(|(_, until)| now < *until);
        std::iter::once(&self.current).chain(previous.map(|(key, _)| key)).map(Secret::expose)
    }

    fn to_bytes(&self) -> Secret<Vec<u8>> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(self.current.expose());
        if let Some((key, until)) = &self.previous {
            bytes.extend_from_slice(key.expose());
            bytes.extend(until.as_micros().to_be_bytes());
        }
        Secret::new(bytes)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let ([VERSION], rest) = bytes.split_first_chunk()? else { return None };
        let (current, rest) = rest.split_first_chunk()?;
        let previous = match rest {
            [] => None,
            rest => {
                let (key, until) = rest.split_first_chunk()?;
                let until = Timestamp::from_micros(i64::from_be_bytes(until.try_into().ok()?));
                Some((Secret::new(*key), until))
            }
        };
        Some(Self { current: Secret::new(*current), previous })
    }
}

/// Makes the first key.
///
/// # Errors
/// `Conflict` if there is one already, and when the master key can't be used.
pub(crate) async fn make(
    storage: &dyn StorageBackend,
    sealer: &Sealer,
    place: SealedPlace<'_>,
) -> Result<SigningKey, StoreError> {
    let keys = SigningKeys { current: Secret::new(random()), previous: None };
    put(storage, sealer, place, &keys, Expected::Absent).await?;
    Ok(keys.current)
}

/// The keys that are kept there.
///
/// # Errors
/// `NotFound` if there are none, or the master key that they are sealed under is not there; `Corrupt` if they don't
/// open.
pub(crate) async fn read(
    storage: &dyn StorageBackend,
    sealer: &Sealer,
    place: SealedPlace<'_>,
) -> Result<SigningKeys, StoreError> {
    Ok(open(storage, sealer, place).await?.0)
}

/// Makes a new key. For as long as `grace` says, requests are signed with the one before it, too; with zero, only with
/// the new one.
///
/// # Errors
/// `Conflict` if there are two keys already and there would be a third, or somebody else replaced the key meanwhile;
/// otherwise as [`read`].
pub(crate) async fn rotate(
    storage: &dyn StorageBackend,
    sealer: &Sealer,
    place: SealedPlace<'_>,
    grace: Duration,
    now: Timestamp,
) -> Result<SigningKey, StoreError> {
    let (old, version) = open(storage, sealer, place).await?;
    if !grace.is_zero() && old.live(now).count() > 1 {
        return Err(StoreError::new(StoreErrorKind::Conflict, "rotate signing key", place.name));
    }
    let previous = (!grace.is_zero()).then(|| (old.current, now.plus(grace)));
    let keys = SigningKeys { current: Secret::new(random()), previous };
    put(storage, sealer, place, &keys, Expected::Version(version)).await?;
    Ok(keys.current)
}

/// Ends the key before the current one at once; whether there was one.
///
/// # Errors
/// `Conflict` if somebody else replaced the key meanwhile; otherwise as [`read`].
pub(crate) async fn revoke_previous(
    storage: &dyn StorageBackend,
    sealer: &Sealer,
    place: SealedPlace<'_>,
) -> Result<bool, StoreError> {
    let (old, version) = open(storage, sealer, place).await?;
    let had_one = old.previous.is_some();
    if had_one {
        let keys = SigningKeys { current: old.current, previous: None };
        put(storage, sealer, place, &keys, Expected::Version(version)).await?;
    }
    Ok(had_one)
}

/// Removes the keys, if there are some.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn remove(storage: &dyn StorageBackend, place: SealedPlace<'_>) -> Result<(), StoreError> {
    match storage.registry().delete_secret(place).await {
        Err(error) if error.kind() != StoreErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

async fn open(
    storage: &dyn StorageBackend,
    sealer: &Sealer,
    place: SealedPlace<'_>,
) -> Result<(SigningKeys, Version), StoreError> {
    const OPEN: &str = "open signing keys";
    let row = storage.registry().secret(place.owner, place.kind, place.name).await?;
    let row = row.ok_or_else(|| StoreError::new(StoreErrorKind::NotFound, OPEN, place.name))?;
    let opened = sealer.open(place, &row.sealed).await?;
    let keys = SigningKeys::from_bytes(opened.expose());
    let keys = keys.ok_or_else(|| StoreError::new(StoreErrorKind::Corrupt, OPEN, place.name))?;
    Ok((keys, row.version))
}

async fn put(
    storage: &dyn StorageBackend,
    sealer: &Sealer,
    place: SealedPlace<'_>,
    keys: &SigningKeys,
    expected: Expected,
) -> Result<(), StoreError> {
    let sealed = sealer.seal(place, keys.to_bytes().expose()).await?;
    storage.registry().put_secret(place, &sealed, expected).await.map(drop)
}
