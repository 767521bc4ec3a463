//! Destinations of a tenant to which nothing is delivered until they are resumed.
//!
//! What is paused is a setting of the tenant. Whoever takes a delivery asks [`paused`] first and, if it is,
//! [parks](crate::QueueBackend::park) it for that reason; when the pause ends, [`resume`] releases what was parked.

use std::collections::BTreeSet;

use mairust_core::{TenantId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::backend::StorageBackend;
use crate::error::{StoreError, StoreErrorKind};
use crate::queue::{HoldReason, QueueAction, QueueFilter, QueueTotal, change_all};
use crate::registry::{Expected, Setting};

/// The setting of a tenant.
const KEY: &str = "queue.paused";
/// How often a change is tried while others change the same.
const TRIES: usize = 10;

/// What is paused for a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Paused {
    /// All destinations.
    pub all: bool,
    /// These destinations: domains, as in [`QueueItem::destination`](crate::QueueItem::destination).
    pub destinations: BTreeSet<String>,
}

impl Paused {
    /// Whether nothing is to be delivered to a destination.
    pub fn covers(&self, destination: &str) -> bool {
        self.all || self.destinations.contains(destination)
    }

    /// Pauses one destination or all; whether that changed anything.
    fn add(&mut self, destination: Option<&str>) -> bool {
        match destination {
            Some(destination) => self.destinations.insert(destination.to_owned()),
            None => !std::mem::replace(&mut self.all, true),
        }
    }

    /// Ends the pause of one destination, or every pause; whether that changed anything.
    fn remove(&mut self, destination: Option<&str>) -> bool {
        match destination {
            Some(destination) => self.destinations.remove(destination),
            None => std::mem::take(self) != Self::default(),
        }
    }
}

/// What is paused for a tenant.
///
/// # Errors
/// When the store does not answer, or the setting is not what this module writes.
pub async fn paused(storage: &dyn StorageBackend, tenant: TenantId) -> Result<Paused, StoreError> {
    let setting = storage.registry().setting(tenant.into(), KEY).await?;
    setting.as_ref().map_or(Ok(Paused::default()), read)
}

/// Pauses a destination, or all with `None`; whether it was not paused before. From then on no delivery to it is
/// begun; what is under way goes on.
///
/// # Errors
/// `Invalid` if the list would become too long; when the store does not answer.
pub async fn pause(
    storage: &dyn StorageBackend,
    tenant: TenantId,
    destination: Option<&str>,
) -> Result<bool, StoreError> {
    change(storage, tenant, |paused| paused.add(destination)).await
}

/// Ends the pause of a destination, or every pause with `None`, and releases what was parked for it; the number
/// of those. What is still paused for another reason is parked again by whoever takes it. May be called again
/// after an error.
///
/// # Errors
/// When the store does not answer.
pub async fn resume(
    storage: &dyn StorageBackend,
    tenant: TenantId,
    destination: Option<&str>,
    now: Timestamp,
) -> Result<u64, StoreError> {
    change(storage, tenant, |paused| paused.remove(destination)).await?;
    let filter = QueueFilter {
        destination: destination.map(str::to_owned),
        held: Some(HoldReason::Paused),
        ..QueueFilter::default()
    };
    let mut total = QueueTotal::default();
    change_all(storage.queue(), tenant, (&filter, &QueueAction::Release), now, &mut total).await?;
    Ok(total.changed)
}

async fn change(
    storage: &dyn StorageBackend,
    tenant: TenantId,
    act: impl Fn(&mut Paused) -> bool,
) -> Result<bool, StoreError> {
    let registry = storage.registry();
    for _ in 0..TRIES {
        let setting = registry.setting(tenant.into(), KEY).await?;
        let mut paused = setting.as_ref().map_or(Ok(Paused::default()), read)?;
        if !act(&mut paused) {
            return Ok(false);
        }
        let expected = setting.map_or(Expected::Absent, |setting| Expected::Version(setting.version));
        let value = serde_json::json!(paused);
        match registry.put_setting(tenant.into(), KEY, &value, expected).await {
            Ok(_) => return Ok(true),
            // Somebody else was faster.
            Err(error) if matches!(error.kind(), StoreErrorKind::AlreadyExists | StoreErrorKind::Conflict) => {}
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::new(StoreErrorKind::Unavailable, "pause", "others change what is paused all the time"))
}

fn read(setting: &Setting) -> Result<Paused, StoreError> {
    let read = Paused::deserialize(&setting.value);
    read.map_err(|error| StoreError::new(StoreErrorKind::Corrupt, "read what is paused", KEY).with_source(error))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::conformance::sample::{NOW, Storage, alice};
    use crate::memory::MemoryStorage;

    use super::*;

    #[tokio::test]
    async fn pauses_one_or_all() {
        let storage: Storage = Arc::new(MemoryStorage::new(Arc::new(mairust_core::ManualClock::at(NOW))));
        let tenant = alice(&storage, "a.example").await.tenant;
        assert_eq!(paused(&*storage, tenant).await.unwrap(), Paused::default());
        assert!(pause(&*storage, tenant, Some("x.example")).await.unwrap());
        assert!(!pause(&*storage, tenant, Some("x.example")).await.unwrap());
        let now = paused(&*storage, tenant).await.unwrap();
        assert!(now.covers("x.example") && !now.covers("y.example"));
        assert!(pause(&*storage, tenant, None).await.unwrap());
        assert!(paused(&*storage, tenant).await.unwrap().covers("y.example"));
        let other = alice(&storage, "b.example").await.tenant;
        assert!(!paused(&*storage, other).await.unwrap().covers("x.example"));
        resume(&*storage, tenant, Some("x.example"), NOW).await.unwrap();
        assert!(paused(&*storage, tenant).await.unwrap().all);
        resume(&*storage, tenant, None, NOW).await.unwrap();
        assert_eq!(paused(&*storage, tenant).await.unwrap(), Paused::default());
    }

    #[tokio::test]
    async fn many_who_pause_do_not_undo_each_other() {
        let storage: Storage = Arc::new(MemoryStorage::new(Arc::new(mairust_core::ManualClock::at(NOW))));
        let tenant = alice(&storage, "a.example").await.tenant;
        let names: Vec<_> = (0..5).map(|number| format!("{number}.example")).collect();
        let pausing = names.iter().map(|name| pause(&*storage, tenant, Some(name)));
        assert!(futures::future::join_all(pausing).await.into_iter().all(Result::unwrap));
        assert_eq!(paused(&*storage, tenant).await.unwrap().destinations.len(), names.len());
    }
}
