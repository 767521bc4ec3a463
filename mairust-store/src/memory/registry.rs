//! The registry, in memory.

use async_trait::async_trait;
use serde_json::Value;

use super::{MemoryStorage, State};
use crate::error::{StoreError, StoreErrorKind};
use crate::owner::Owner;
use crate::registry::{Expected, Registry, SecretRow, Setting, Version, check_names, check_size};
use crate::seal::{SealedPlace, SealedRecord};

/// Owner, kind and name of a secret, in the order of lists.
pub(super) type SecretKey = (Owner, String, String);

#[async_trait]
impl Registry for MemoryStorage {
    async fn setting(&self, owner: Owner, key: &str) -> Result<Option<Setting>, StoreError> {
        Ok(self.state().settings.get(&(owner, key.to_owned())).cloned())
    }

    async fn settings(&self, owner: Owner) -> Result<Vec<Setting>, StoreError> {
        let state = self.state();
        let of_owner = state.settings.iter().filter(|((found, _), _)| *found == owner);
        Ok(of_owner.map(|(_, setting)| setting.clone()).collect())
    }

    async fn put_setting(
        &self,
        owner: Owner,
        key: &str,
        value: &Value,
        expected: Expected,
    ) -> Result<Setting, StoreError> {
        const PUT: &str = "put setting";
        check_names(PUT, &[key])?;
        check_size(PUT, value.to_string().len())?;
        let updated_at = self.clock.now();
        let mut state = self.state();
        state.check_owner(PUT, owner)?;
        let place = (owner, key.to_owned());
        expected.check(PUT, key, state.settings.get(&place).map(|setting| setting.version))?;
        let setting = Setting { key: key.to_owned(), value: value.clone(), version: Version::random(), updated_at };
        state.settings.insert(place, setting.clone());
        Ok(setting)
    }

    async fn delete_setting(&self, owner: Owner, key: &str, expected: Expected) -> Result<(), StoreError> {
        const DELETE: &str = "delete setting";
        let (mut state, place) = (self.state(), (owner, key.to_owned()));
        let not_found = || StoreError::new(StoreErrorKind::NotFound, DELETE, key);
        let found = state.settings.get(&place).map(|setting| setting.version).ok_or_else(not_found)?;
        expected.check(DELETE, key, Some(found))?;
        state.settings.remove(&place);
        Ok(())
    }

    async fn secret(&self, owner: Owner, kind: &str, name: &str) -> Result<Option<SecretRow>, StoreError> {
        Ok(self.state().secrets.get(&(owner, kind.to_owned(), name.to_owned())).cloned())
    }

    async fn secrets(&self, owner: Owner, kind: &str) -> Result<Vec<SecretRow>, StoreError> {
        let state = self.state();
        Ok(state.secrets.values().filter(|row| row.owner == owner && row.kind == kind).cloned().collect())
    }

    async fn put_secret(
        &self,
        place: SealedPlace<'_>,
        sealed: &SealedRecord,
        expected: Expected,
    ) -> Result<SecretRow, StoreError> {
        const PUT: &str = "put secret";
        check_names(PUT, &[place.kind, place.name])?;
        check_size(PUT, sealed.as_bytes().len())?;
        let now = self.clock.now();
        let mut state = self.state();
        state.check_owner(PUT, place.owner)?;
        let key = secret_key(place);
        let found = state.secrets.get(&key);
        expected.check(PUT, place.name, found.map(|row| row.version))?;
        let row = SecretRow {
            owner: place.owner,
            kind: place.kind.to_owned(),
            name: place.name.to_owned(),
            sealed: sealed.clone(),
            version: Version::random(),
            created_at: found.map_or(now, |row| row.created_at),
            updated_at: now,
        };
        state.secrets.insert(key, row.clone());
        Ok(row)
    }

    async fn delete_secret(&self, place: SealedPlace<'_>) -> Result<(), StoreError> {
        let removed = self.state().secrets.remove(&secret_key(place));
        removed.map(drop).ok_or_else(|| StoreError::new(StoreErrorKind::NotFound, "delete secret", place.name))
    }

    async fn all_secrets(&self, after: Option<SealedPlace<'_>>, limit: u32) -> Result<Vec<SecretRow>, StoreError> {
        let after = after.map(secret_key);
        let state = self.state();
        let behind = state.secrets.iter().filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after));
        Ok(behind.take(limit as usize).map(|(_, row)| row.clone()).collect())
    }
}

impl State {
    /// Whether there is such an owner.
    pub(super) fn check_owner(&self, operation: &'static str, owner: Owner) -> Result<(), StoreError> {
        owner.check(operation)?;
        match owner.tenant() {
            Some(tenant) if !self.tenants.contains_key(&tenant) => {
                Err(StoreError::new(StoreErrorKind::NotFound, operation, tenant))
            }
            _ => Ok(()),
        }
    }
}

fn secret_key(place: SealedPlace<'_>) -> SecretKey {
    (place.owner, place.kind.to_owned(), place.name.to_owned())
}
