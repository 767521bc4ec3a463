//! Allowances and suppressions, in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use mairust_core::{EmailAddress, Rate, SuppressionId, TenantId, Timestamp};

use super::{MemoryStorage, State};
use crate::allowance::{Allowance, Allowances, BucketKey, Taken, by_bucket, spend_all, take_all};
use crate::error::{StoreError, StoreErrorKind};
use crate::message::Page;
use crate::suppression::{NewSuppression, Suppression, Suppressions};

#[async_trait]
impl Allowances for MemoryStorage {
    async fn take(
        &self,
        tenant: TenantId,
        wanted: &[Allowance],
        amount: u32,
        now: Timestamp,
    ) -> Result<Taken, StoreError> {
        let buckets = by_bucket(wanted)?;
        let mut state = self.state();
        state.check_tenant("take allowance", tenant)?;
        let mut full_at = state.full_at(tenant, &buckets);
        let taken = take_all(&buckets, &mut full_at, amount, now);
        if taken == Taken::All {
            state.allowances.extend(full_at.into_iter().map(|(key, at)| ((tenant, key), at)));
        }
        Ok(taken)
    }

    async fn spend(
        &self,
        tenant: TenantId,
        spent: &[(Allowance, u32)],
        now: Timestamp,
    ) -> Result<Vec<f64>, StoreError> {
        let buckets = by_bucket(spent.iter().map(|(allowance, _)| allowance))?;
        let mut state = self.state();
        state.check_tenant("take allowance", tenant)?;
        let mut full_at = state.full_at(tenant, &buckets);
        let missed = spend_all(spent, &mut full_at, now);
        state.allowances.extend(full_at.into_iter().map(|(key, at)| ((tenant, key), at)));
        Ok(missed)
    }

    async fn forget_full(&self, now: Timestamp, max: u32) -> Result<u32, StoreError> {
        let mut forgotten = 0;
        self.state().allowances.retain(|_, full_at| {
            let keep = *full_at > now || forgotten == max;
            forgotten += u32::from(!keep);
            keep
        });
        Ok(forgotten)
    }
}

impl State {
    /// When those of the buckets are full that are kept.
    fn full_at(&self, tenant: TenantId, buckets: &BTreeMap<BucketKey, Rate>) -> BTreeMap<BucketKey, Timestamp> {
        let kept = |key: &BucketKey| Some((key.clone(), *self.allowances.get(&(tenant, key.clone()))?));
        buckets.keys().filter_map(kept).collect()
    }
}

#[async_trait]
impl Suppressions for MemoryStorage {
    async fn add(&self, tenant: TenantId, new: NewSuppression) -> Result<Suppression, StoreError> {
        new.check()?;
        let mut state = self.state();
        state.check_tenant("add suppression", tenant)?;
        state.add_suppression(tenant, new)
    }

    async fn get(&self, tenant: TenantId, id: SuppressionId) -> Result<Option<Suppression>, StoreError> {
        Ok(self.state().suppressions.get(&(tenant, id)).cloned())
    }

    async fn which(
        &self,
        tenant: TenantId,
        addresses: &[EmailAddress],
        now: Timestamp,
    ) -> Result<Vec<Suppression>, StoreError> {
        let keys: Vec<_> = addresses.iter().map(EmailAddress::lookup_key).collect();
        let state = self.state();
        let entries = state.suppressions_of(tenant).filter(|entry| entry.holds(now));
        Ok(entries.filter(|entry| keys.contains(&entry.address.lookup_key())).cloned().collect())
    }

    async fn list(
        &self,
        tenant: TenantId,
        after: Option<SuppressionId>,
        limit: u32,
    ) -> Result<Page<Suppression>, StoreError> {
        let state = self.state();
        let mut behind = state.suppressions_of(tenant).filter(|entry| after.is_none_or(|after| entry.id > after));
        let items = behind.by_ref().take(limit as usize).cloned().collect();
        Ok(Page { items, has_more: behind.next().is_some() })
    }

    async fn remove(&self, tenant: TenantId, id: SuppressionId) -> Result<(), StoreError> {
        let removed = self.state().suppressions.remove(&(tenant, id));
        removed.map(drop).ok_or_else(|| StoreError::new(StoreErrorKind::NotFound, "remove suppression", id))
    }

    async fn forget_expired(&self, now: Timestamp, max: u32) -> Result<u32, StoreError> {
        let mut forgotten = 0;
        self.state().suppressions.retain(|_, entry| {
            let keep = entry.holds(now) || forgotten == max;
            forgotten += u32::from(!keep);
            keep
        });
        Ok(forgotten)
    }
}

impl State {
    /// Adds an entry; `AlreadyExists` if there is one that holds.
    pub(super) fn add_suppression(&mut self, tenant: TenantId, new: NewSuppression) -> Result<Suppression, StoreError> {
        let key = new.address.lookup_key();
        let old = self.suppressions_of(tenant).find(|entry| entry.address.lookup_key() == key);
        if let Some((id, holds)) = old.map(|old| (old.id, old.holds(new.created_at))) {
            if holds {
                return Err(StoreError::new(StoreErrorKind::AlreadyExists, "add suppression", &new.address));
            }
            self.suppressions.remove(&(tenant, id));
        }
        let entry = Suppression::from(new);
        self.suppressions.insert((tenant, entry.id), entry.clone());
        Ok(entry)
    }

    fn suppressions_of(&self, tenant: TenantId) -> impl Iterator<Item = &Suppression> {
        self.suppressions.iter().filter(move |((owner, _), _)| *owner == tenant).map(|(_, entry)| entry)
    }
}
