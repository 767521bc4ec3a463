//! Keys that sign outgoing mail, in memory.

use mairust_core::{DkimKeyId, Domain, TenantId, Timestamp};

use super::directory::not_found;
use super::{MemoryStorage, State};
use crate::directory::{DkimKey, DkimKeyState, NewDkimKey, check_dkim_key};
use crate::error::{StoreError, StoreErrorKind};

impl MemoryStorage {
    pub(super) fn add_dkim_key(
        &self,
        tenant: TenantId,
        domain: &Domain,
        new: NewDkimKey,
    ) -> Result<DkimKey, StoreError> {
        const CREATE: &str = "create DKIM key";
        check_dkim_key(&new)?;
        let mut state = self.state();
        if state.domains.get(domain).is_none_or(|row| row.tenant != tenant) {
            return Err(not_found(CREATE, domain));
        }
        let taken = state.dkim_keys(tenant, domain).any(|key| key.selector == new.selector);
        if taken || state.dkim_keys.contains_key(&(tenant, new.id)) {
            return Err(StoreError::new(StoreErrorKind::AlreadyExists, CREATE, new.selector));
        }
        let key = DkimKey::made(tenant, domain, new, self.clock.now());
        state.dkim_keys.insert((tenant, key.id), key.clone());
        Ok(key)
    }

    pub(super) fn dkim_keys_of(&self, tenant: TenantId, domain: &Domain) -> Vec<DkimKey> {
        self.state().dkim_keys(tenant, domain).cloned().collect()
    }

    pub(super) fn dkim_keys_retired_before(&self, before: Timestamp) -> Vec<DkimKey> {
        let state = self.state();
        let is_old = |key: &&DkimKey| {
            key.state == DkimKeyState::Retired && key.retired_at.is_some_and(|retired| retired < before)
        };
        state.dkim_keys.values().filter(is_old).take(1_000).cloned().collect()
    }

    pub(super) fn make_dkim_key_active(&self, tenant: TenantId, id: DkimKeyId) -> Result<(), StoreError> {
        let (mut state, now) = (self.state(), self.clock.now());
        let missing = || not_found("activate DKIM key", id);
        let chosen = state.dkim_keys.get(&(tenant, id)).cloned().ok_or_else(missing)?;
        for key in state.dkim_keys.values_mut().filter(|key| key.tenant == tenant && key.domain == chosen.domain) {
            if key.id == id {
                if key.state != DkimKeyState::Active {
                    key.activated_at = Some(now);
                }
                (key.state, key.retired_at) = (DkimKeyState::Active, None);
            } else if key.algorithm == chosen.algorithm && key.state == DkimKeyState::Active {
                (key.state, key.retired_at) = (DkimKeyState::Retired, Some(now));
            }
        }
        Ok(())
    }

    pub(super) fn make_dkim_key_retired(&self, tenant: TenantId, id: DkimKeyId) -> Result<(), StoreError> {
        let (mut state, now) = (self.state(), self.clock.now());
        let key = state.dkim_keys.get_mut(&(tenant, id)).ok_or_else(|| not_found("retire DKIM key", id))?;
        if key.state == DkimKeyState::Active {
            (key.state, key.retired_at) = (DkimKeyState::Retired, Some(now));
        }
        Ok(())
    }

    pub(super) fn remove_dkim_key(&self, tenant: TenantId, id: DkimKeyId) -> Result<(), StoreError> {
        const DELETE: &str = "delete DKIM key";
        let mut state = self.state();
        match state.dkim_keys.get(&(tenant, id)) {
            None => Err(not_found(DELETE, id)),
            Some(key) if key.state == DkimKeyState::Active => {
                Err(StoreError::new(StoreErrorKind::Conflict, DELETE, id))
            }
            Some(_) => {
                state.dkim_keys.remove(&(tenant, id));
                Ok(())
            }
        }
    }
}

impl State {
    fn dkim_keys<'a>(&'a self, tenant: TenantId, domain: &'a Domain) -> impl Iterator<Item = &'a DkimKey> {
        self.dkim_keys.values().filter(move |key| key.tenant == tenant && key.domain == *domain)
    }
}
