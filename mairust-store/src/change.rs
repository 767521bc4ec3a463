//! Counters that can be waited for: how a change in a store wakes whoever waits for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mairust_core::TenantId;
use tokio::sync::watch;

/// A number that grows with each change. Nothing is lost between reading it and waiting.
#[derive(Debug)]
pub struct ChangeCounter(watch::Sender<u64>);

/// One [`ChangeCounter`] for each tenant.
#[derive(Debug, Default)]
pub struct TenantCounters(Mutex<HashMap<TenantId, Arc<ChangeCounter>>>);

impl ChangeCounter {
    /// The number now.
    pub fn version(&self) -> u64 {
        *self.0.borrow()
    }

    /// Counts a change and wakes all who wait.
    pub fn bump(&self) {
        self.0.send_modify(|version| *version += 1);
    }

    /// Waits until the number is above `seen`. Safe to drop.
    pub async fn changed(&self, seen: u64) -> u64 {
        let mut receiver = self.0.subscribe();
        // The sender lives as long as `self`, so waiting can't fail.
        receiver.wait_for(|version| *version > seen).await.map(|version| *version).unwrap_or(seen)
    }
}

impl Default for ChangeCounter {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl TenantCounters {
    /// The number of this tenant now.
    pub fn version(&self, tenant: TenantId) -> u64 {
        self.of(tenant).version()
    }

    /// Counts a change of this tenant and wakes all who wait for it.
    pub fn bump(&self, tenant: TenantId) {
        self.of(tenant).bump();
    }

    /// Counts a change of every tenant that was ever asked for.
    pub fn bump_all(&self) {
        let counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counters.values().for_each(|counter| counter.bump());
    }

    /// Waits until the number of this tenant is above `seen`. Safe to drop.
    pub async fn changed(&self, tenant: TenantId, seen: u64) -> u64 {
        let counter = self.of(tenant);
        counter.changed(seen).await
    }

    fn of(&self, tenant: TenantId) -> Arc<ChangeCounter> {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(counters.entry(tenant).or_default())
    }
}
