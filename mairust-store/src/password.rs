//! What is kept of passwords: argon2id hashes (RFC 9106) and SCRAM-SHA-256 verifiers (RFC 7677).

use std::fmt;
use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use mairust_core::{ScramVerifier, Secret};
use tokio::sync::Semaphore;

use crate::error::{StoreError, StoreErrorKind};

/// What is kept of a password. Whoever steals it can guess passwords.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PasswordRecord {
    /// For [`PasswordHasher::verify`], in PHC string form.
    pub hash: String,
    /// For logging in by SCRAM-SHA-256. A record that was made before verifiers were kept, or
    /// [of a hash](Self::of_hash), has none until [`Directory::set_scram`](crate::Directory::set_scram) adds it.
    pub scram: Option<ScramVerifier>,
}

/// Makes and checks password hashes on blocking threads, a bounded number at a time: each takes
/// its memory and a core.
#[derive(Debug, Clone)]
pub struct PasswordHasher {
    cost: PasswordCost,
    slots: Arc<Semaphore>,
}

/// What a hash costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordCost {
    /// 8 MiB, 1 pass: for tests and for passwords that are no secret.
    Low,
    /// 64 MiB, 3 passes, 4 lanes.
    Standard,
}

impl PasswordRecord {
    /// What is kept of a password of which only the hash is known, in PHC string form: it came from
    /// elsewhere.
    pub fn of_hash(hash: impl Into<String>) -> Self {
        Self { hash: hash.into(), scram: None }
    }
}

impl fmt::Debug for PasswordRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordRecord(***)")
    }
}

impl PasswordHasher {
    /// A hasher whose new hashes cost this much. Checking costs what the hash says.
    pub fn new(cost: PasswordCost) -> Self {
        Self { cost, slots: Arc::new(Semaphore::new(2)) }
    }

    /// Makes what is kept of a password, hash and verifier.
    ///
    /// # Errors
    /// When the system has no randomness or no memory.
    pub async fn record(&self, password: &Secret<String>) -> Result<PasswordRecord, StoreError> {
        let (password, cost) = (password.clone(), self.cost);
        let make = move || {
            let scram = Some(ScramVerifier::derive(&password, rand::random()));
            Ok(PasswordRecord { hash: hash(cost, &password)?, scram })
        };
        self.run(make).await
    }

    /// Makes a verifier alone, for a password whose record has none.
    ///
    /// # Errors
    /// When the work can't be done.
    pub async fn scram(&self, password: &Secret<String>) -> Result<ScramVerifier, StoreError> {
        let password = password.clone();
        self.run(move || Ok(ScramVerifier::derive(&password, rand::random()))).await
    }

    /// Whether a password belongs to a hash.
    ///
    /// # Errors
    /// When `hash` is no PHC string.
    pub async fn verify(&self, hash: &str, password: &Secret<String>) -> Result<bool, StoreError> {
        let (hash, password) = (hash.to_owned(), password.clone());
        self.run(move || {
            let parsed = PasswordHash::new(&hash).map_err(|error| failed(&error))?;
            Ok(Argon2::default().verify_password(password.expose().as_bytes(), &parsed).is_ok())
        })
        .await
    }

    /// Takes as long as [`verify`](Self::verify) and says no: for names that nobody has, so that
    /// the time of an answer doesn't tell which names exist.
    ///
    /// # Errors
    /// As for [`record`](Self::record).
    pub async fn verify_nobody(&self, password: &Secret<String>) -> Result<bool, StoreError> {
        let (password, cost) = (password.clone(), self.cost);
        self.run(move || hash(cost, &password).map(|_| false)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|error| failed(&error))?;
        // The slot is taken as long as the work runs, even when nobody waits for it any more.
        let work = move || {
            let _slot = slot;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| failed(&error))?
    }
}

impl Default for PasswordHasher {
    fn default() -> Self {
        Self::new(PasswordCost::Standard)
    }
}

fn hash(cost: PasswordCost, password: &Secret<String>) -> Result<String, StoreError> {
    let hash = argon2(cost).hash_password(password.expose().as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|error| failed(&error))
}

fn argon2(cost: PasswordCost) -> Argon2<'static> {
    let params = match cost {
        PasswordCost::Low => Params::new(8 * 1024, 1, 1, None),
        PasswordCost::Standard => Params::new(64 * 1024, 3, 4, None),
    };
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params.expect("the parameters are within bounds"))
}

fn failed(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "hash password", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn knows_its_own_records() {
        let hasher = PasswordHasher::new(PasswordCost::Low);
        let (right, wrong) = (Secret::new("right".to_owned()), Secret::new("wrong".to_owned()));
        let record = hasher.record(&right).await.unwrap();
        let (hash, scram) = (&record.hash, record.scram.as_ref().unwrap());
        assert!(hasher.verify(hash, &right).await.unwrap());
        assert!(!hasher.verify(hash, &wrong).await.unwrap());
        assert!(!hasher.verify_nobody(&right).await.unwrap());
        assert!(hasher.verify("nonsense", &right).await.is_err());
        assert_eq!(*scram, ScramVerifier::derive(&right, scram.salt().try_into().unwrap()));
        assert_ne!(hasher.scram(&right).await.unwrap().salt(), scram.salt());
        assert_eq!(format!("{record:?}"), "PasswordRecord(***)");
    }
}
