//! What an installation knows beside the directory: settings, and secrets that were sealed.
//!
//! Deliberately absent: what the keys of settings and the kinds of secrets mean, which is up to
//! whoever writes them, and opening secrets: a backend sees sealed octets only, see
//! [`seal`](crate::seal).

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::{Secret, Timestamp};

use crate::error::{StoreError, StoreErrorKind};
use crate::owner::Owner;
use crate::seal::cipher::random;
use crate::seal::{SealedPlace, SealedRecord, Sealer};

/// The longest key of a setting, and the longest kind and name of a secret, in octets.
pub const MAX_REGISTRY_NAME: usize = 255;

/// The largest setting as JSON, and the largest sealed record, in octets.
pub const MAX_REGISTRY_VALUE: usize = 64 * 1024;

/// The kind of secret that [`RegistryExt::installation_key`] keeps.
pub const INSTALLATION_KEY: &str = "key";

/// A setting.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Setting {
    /// Its key, for example `retention`.
    pub key: String,
    /// What it is set to.
    pub value: serde_json::Value,
    /// Changes whenever the setting does.
    pub version: Version,
    /// When it was set.
    pub updated_at: Timestamp,
}

/// A secret, as far as a backend knows it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SecretRow {
    /// Whose it is.
    pub owner: Owner,
    /// What kind of secret.
    pub kind: String,
    /// Its name among those of its kind.
    pub name: String,
    /// The secret, sealed.
    pub sealed: SealedRecord,
    /// Changes whenever the record does.
    pub version: Version,
    /// When it was made.
    pub created_at: Timestamp,
    /// When the record was last written, also by a change of the master key.
    pub updated_at: Timestamp,
}

/// Tells one state of an entry from all others, for `If-Match` (RFC 9110 §13.1.1). A random
/// number: an entry that is made anew does not look like the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version(i64);

/// In which state an entry has to be for a change to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Not there yet.
    Absent,
    /// In any, also not there.
    Any,
    /// As it was when this version was read.
    Version(Version),
}

/// Settings and sealed secrets. Methods that change something are durable on return and safe to
/// drop: they happen whole or not at all. Times of change are taken from the backend's clock.
///
/// Names are 1 to [`MAX_REGISTRY_NAME`] octets without control characters; values have at most
/// [`MAX_REGISTRY_VALUE`]. Anything else is `Invalid`.
#[async_trait]
pub trait Registry: fmt::Debug + Send + Sync + 'static {
    /// A setting; `None` if the owner has none of this key.
    async fn setting(&self, owner: Owner, key: &str) -> Result<Option<Setting>, StoreError>;

    /// All settings of an owner, sorted by their keys.
    async fn settings(&self, owner: Owner) -> Result<Vec<Setting>, StoreError>;

    /// Sets a setting. May run twice where `expected` is `Any`.
    ///
    /// # Errors
    /// `AlreadyExists` if it should be absent; `Conflict` if it has another version; `NotFound` if
    /// there is no such tenant, or no setting to have a version.
    async fn put_setting(
        &self,
        owner: Owner,
        key: &str,
        value: &serde_json::Value,
        expected: Expected,
    ) -> Result<Setting, StoreError>;

    /// Removes a setting.
    ///
    /// # Errors
    /// `NotFound` if there is none, `Conflict` if it has another version.
    async fn delete_setting(&self, owner: Owner, key: &str, expected: Expected) -> Result<(), StoreError>;

    /// A secret; `None` if the owner has none of this kind and name.
    async fn secret(&self, owner: Owner, kind: &str, name: &str) -> Result<Option<SecretRow>, StoreError>;

    /// The secrets of an owner of one kind, sorted by their names.
    async fn secrets(&self, owner: Owner, kind: &str) -> Result<Vec<SecretRow>, StoreError>;

    /// Keeps a secret that was sealed for this place. May run twice where `expected` is `Any`.
    ///
    /// # Errors
    /// As for [`put_setting`](Self::put_setting).
    async fn put_secret(
        &self,
        place: SealedPlace<'_>,
        sealed: &SealedRecord,
        expected: Expected,
    ) -> Result<SecretRow, StoreError>;

    /// Removes a secret.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    async fn delete_secret(&self, place: SealedPlace<'_>) -> Result<(), StoreError>;

    /// Secrets of all owners, sorted by owner, kind and name, at most `limit`, behind `after`. Has
    /// no owner: it is for whoever seals all of them anew.
    async fn all_secrets(&self, after: Option<SealedPlace<'_>>, limit: u32) -> Result<Vec<SecretRow>, StoreError>;
}

/// Conveniences over a [`Registry`].
#[async_trait]
pub trait RegistryExt {
    /// A key of 256 bits that all nodes of the installation share, by name; made at first use and
    /// kept sealed. Changing the master key does not change it.
    ///
    /// # Errors
    /// When the registry or the master key can't be used, or the record does not open.
    async fn installation_key(&self, sealer: &Sealer, name: &str) -> Result<Secret<[u8; 32]>, StoreError>;

    /// Wraps the data keys of all secrets under the current master key. May run twice, beside a
    /// server that runs, and after it was interrupted: what is done is left alone. A record that
    /// does not open is counted and stays as it is.
    ///
    /// # Errors
    /// When the registry or the master key can't be used.
    async fn rewrap_all(&self, sealer: &Sealer) -> Result<Rewrapped, StoreError>;
}

/// What became of secrets when they were wrapped anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rewrapped {
    /// Under the current master key since now.
    pub rewrapped: u64,
    /// Under it before, or changed or removed by somebody else meanwhile.
    pub unchanged: u64,
    /// Places of those that do not open, as `owner/kind/name`.
    pub failed: Vec<String>,
}

/// How many secrets are looked at together.
const PAGE: u32 = 100;

impl Version {
    /// A new one.
    pub(crate) fn random() -> Self {
        Self(i64::from_be_bytes(random()))
    }

    /// From [`as_number`](Self::as_number).
    pub fn from_number(number: i64) -> Self {
        Self(number)
    }

    /// As kept.
    pub fn as_number(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl SecretRow {
    /// Where it is kept.
    pub fn place(&self) -> SealedPlace<'_> {
        SealedPlace { owner: self.owner, kind: &self.kind, name: &self.name }
    }
}

impl Expected {
    /// Whether an entry of this version, or none, may be written.
    pub(crate) fn check(self, operation: &'static str, name: &str, found: Option<Version>) -> Result<(), StoreError> {
        let kind = match (self, found) {
            (Self::Absent, Some(_)) => StoreErrorKind::AlreadyExists,
            (Self::Version(_), None) => StoreErrorKind::NotFound,
            (Self::Version(wanted), Some(found)) if wanted != found => StoreErrorKind::Conflict,
            _ => return Ok(()),
        };
        Err(StoreError::new(kind, operation, name))
    }
}

#[async_trait]
impl<R: Registry + ?Sized> RegistryExt for R {
    async fn installation_key(&self, sealer: &Sealer, name: &str) -> Result<Secret<[u8; 32]>, StoreError> {
        let place = SealedPlace { owner: Owner::Installation, kind: INSTALLATION_KEY, name };
        let row = match self.secret(place.owner, place.kind, place.name).await? {
            Some(row) => row,
            None => {
                let key: Secret<[u8; 32]> = Secret::new(random());
                let sealed = sealer.seal(place, key.expose()).await?;
                match self.put_secret(place, &sealed, Expected::Absent).await {
                    Ok(_) => return Ok(key),
                    // Another node was faster: its key is the one.
                    Err(error) if error.kind() == StoreErrorKind::AlreadyExists => {
                        let vanished = || StoreError::new(StoreErrorKind::Unavailable, "installation key", name);
                        self.secret(place.owner, place.kind, place.name).await?.ok_or_else(vanished)?
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        let opened = sealer.open(place, &row.sealed).await?;
        let wrong = |_| StoreError::new(StoreErrorKind::Corrupt, "installation key", format!("{name}: no 32 octets"));
        opened.expose().as_slice().try_into().map(Secret::new).map_err(wrong)
    }

    async fn rewrap_all(&self, sealer: &Sealer) -> Result<Rewrapped, StoreError> {
        let mut counts = Rewrapped::default();
        let mut last: Option<SecretRow> = None;
        loop {
            let rows = self.all_secrets(last.as_ref().map(SecretRow::place), PAGE).await?;
            for row in &rows {
                rewrap(self, sealer, row, &mut counts).await?;
            }
            match rows.into_iter().next_back() {
                Some(row) => last = Some(row),
                None => return Ok(counts),
            }
        }
    }
}

async fn rewrap<R: Registry + ?Sized>(
    registry: &R,
    sealer: &Sealer,
    row: &SecretRow,
    counts: &mut Rewrapped,
) -> Result<(), StoreError> {
    let sealed = match sealer.rewrap(row.place(), &row.sealed).await {
        Ok(Some(sealed)) => sealed,
        Ok(None) => {
            counts.unchanged += 1;
            return Ok(());
        }
        Err(error) if error.is_temporary() => return Err(error),
        Err(_) => {
            counts.failed.push(format!("{}/{}/{}", row.owner, row.kind, row.name));
            return Ok(());
        }
    };
    match registry.put_secret(row.place(), &sealed, Expected::Version(row.version)).await {
        Ok(_) => counts.rewrapped += 1,
        Err(error) if matches!(error.kind(), StoreErrorKind::Conflict | StoreErrorKind::NotFound) => {
            counts.unchanged += 1;
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Refuses names that make no sense in any backend.
pub(crate) fn check_names(operation: &'static str, names: &[&str]) -> Result<(), StoreError> {
    let fits = |name: &&str| (1..=MAX_REGISTRY_NAME).contains(&name.len()) && !name.contains(char::is_control);
    match names.iter().find(|name| !fits(name)) {
        None => Ok(()),
        Some(name) => {
            let text = format!("a name has 1 to {MAX_REGISTRY_NAME} octets, no control characters: {name:?}");
            Err(StoreError::new(StoreErrorKind::Invalid, operation, text))
        }
    }
}

/// Refuses values that are too large.
pub(crate) fn check_size(operation: &'static str, size: usize) -> Result<(), StoreError> {
    if size <= MAX_REGISTRY_VALUE {
        return Ok(());
    }
    let text = format!("{size} octets are more than {MAX_REGISTRY_VALUE}");
    Err(StoreError::new(StoreErrorKind::Invalid, operation, text))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Registry + ?Sized> Registry for Arc<T> {
    async fn setting(&self, owner: Owner, key: &str) -> Result<Option<Setting>, StoreError> {
        (**self).setting(owner, key).await
    }
    async fn settings(&self, owner: Owner) -> Result<Vec<Setting>, StoreError> {
        (**self).settings(owner).await
    }
    async fn put_setting(
        &self,
        owner: Owner,
        key: &str,
        value: &serde_json::Value,
        expected: Expected,
    ) -> Result<Setting, StoreError> {
        (**self).put_setting(owner, key, value, expected).await
    }
    async fn delete_setting(&self, owner: Owner, key: &str, expected: Expected) -> Result<(), StoreError> {
        (**self).delete_setting(owner, key, expected).await
    }
    async fn secret(&self, owner: Owner, kind: &str, name: &str) -> Result<Option<SecretRow>, StoreError> {
        (**self).secret(owner, kind, name).await
    }
    async fn secrets(&self, owner: Owner, kind: &str) -> Result<Vec<SecretRow>, StoreError> {
        (**self).secrets(owner, kind).await
    }
    async fn put_secret(
        &self,
        place: SealedPlace<'_>,
        sealed: &SealedRecord,
        expected: Expected,
    ) -> Result<SecretRow, StoreError> {
        (**self).put_secret(place, sealed, expected).await
    }
    async fn delete_secret(&self, place: SealedPlace<'_>) -> Result<(), StoreError> {
        (**self).delete_secret(place).await
    }
    async fn all_secrets(&self, after: Option<SealedPlace<'_>>, limit: u32) -> Result<Vec<SecretRow>, StoreError> {
        (**self).all_secrets(after, limit).await
    }
}
