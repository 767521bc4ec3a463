//! Hooks with the keys that requests to them are signed with: made, replaced, removed.
//!
//! A hook whose key is replaced counts as changed, so that whoever runs it begins anew with the new key.

use std::time::Duration;

use mairust_core::{HookId, TenantId, Timestamp};

use super::{HOOK_SECRET, HookBinding, HookChange, NewHookBinding};
use crate::backend::StorageBackend;
use crate::error::StoreError;
use crate::owner::Owner;
use crate::seal::{SealedPlace, Sealer};
use crate::signing_keys::{self, SigningKey, SigningKeys};

/// Binds a hook and makes its key: the key is kept first, so that a hook that is there can be called.
///
/// # Errors
/// As [`HookStore::create`](super::HookStore::create), and when the master key can't be used.
pub async fn create(
    storage: &dyn StorageBackend,
    sealer: &Sealer,
    tenant: TenantId,
    new: NewHookBinding,
) -> Result<(HookBinding, SigningKey), StoreError> {
    let name = new.id.to_string();
    let place = place(tenant, &name);
    let key = signing_keys::make(storage, sealer, place).await?;
    let made = storage.hooks().create(tenant, new).await;
    // After a temporary error the hook may be there all the same, and only the answer be lost.
    if made.as_ref().is_err_and(|error| !error.is_temporary()) {
        // What is left behind if this fails, too, is of no use to anybody.
        let _ = signing_keys::remove(storage, place).await;
    }
    Ok((made?, key))
}

/// The keys of a hook.
///
/// # Errors
/// `NotFound` if there are none, or the master key that they are sealed under is not there; `Corrupt` if they don't
/// open.
pub async fn keys(
    storage: &dyn StorageBackend,
    sealer: &Sealer,
    tenant: TenantId,
    id: HookId,
) -> Result<SigningKeys, StoreError> {
    signing_keys::read(storage, sealer, place(tenant, &id.to_string())).await
}

/// Makes a new key for a hook. For as long as `grace` says, requests are signed with the one before it, too; with zero,
/// only with the new one.
///
/// # Errors
/// `Conflict` if there are two keys already and there would be a third, or somebody else replaced the key meanwhile;
/// otherwise as [`keys`].
pub async fn rotate(
    storage: &dyn StorageBackend,
    sealer: &Sealer,
    (tenant, id): (TenantId, HookId),
    grace: Duration,
    now: Timestamp,
) -> Result<SigningKey, StoreError> {
    let key = signing_keys::rotate(storage, sealer, place(tenant, &id.to_string()), grace, now).await?;
    storage.hooks().change(tenant, id, &HookChange::default()).await?;
    Ok(key)
}

/// Ends the key before the current one at once; whether there was one.
///
/// # Errors
/// `Conflict` if somebody else replaced the key meanwhile; otherwise as [`keys`].
pub async fn revoke_previous(
    storage: &dyn StorageBackend,
    sealer: &Sealer,
    (tenant, id): (TenantId, HookId),
) -> Result<bool, StoreError> {
    let had_one = signing_keys::revoke_previous(storage, sealer, place(tenant, &id.to_string())).await?;
    if had_one {
        storage.hooks().change(tenant, id, &HookChange::default()).await?;
    }
    Ok(had_one)
}

/// Removes a hook, and then its keys if it has some.
///
/// # Errors
/// As [`HookStore::delete`](super::HookStore::delete).
pub async fn remove(
    storage: &dyn StorageBackend,
    (tenant, id): (TenantId, HookId),
    expected: Option<u64>,
) -> Result<(), StoreError> {
    storage.hooks().delete(tenant, id, expected).await?;
    signing_keys::remove(storage, place(tenant, &id.to_string())).await
}

fn place(tenant: TenantId, name: &str) -> SealedPlace<'_> {
    SealedPlace { owner: Owner::Tenant(tenant), kind: HOOK_SECRET, name }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mairust_core::{ManualClock, Secret};

    use super::*;
    use crate::StoreErrorKind;
    use crate::conformance::hook::new;
    use crate::conformance::sample::{NOW, Storage, alice, kind};
    use crate::memory::MemoryStorage;
    use crate::seal::LocalKeys;

    const DAY: Duration = Duration::from_secs(86_400);

    #[tokio::test]
    async fn who_replaces_a_key_changes_the_hook() {
        let storage: Storage = Arc::new(MemoryStorage::new(Arc::new(ManualClock::at(NOW))));
        let sealer = Sealer::new(Arc::new(LocalKeys::new(&Secret::new([1; 32]))));
        let tenant = alice(&storage, "a.example").await.tenant;
        let (hook, first) = create(&*storage, &sealer, tenant, new("echo")).await.unwrap();
        let id = (tenant, hook.id);
        let live = async || {
            let keys = keys(&*storage, &sealer, tenant, hook.id).await.unwrap();
            let generation = storage.hooks().get(tenant, hook.id).await.unwrap().unwrap().generation;
            (keys.live(NOW).copied().collect::<Vec<_>>(), generation)
        };
        assert_eq!(live().await, (vec![*first.expose()], 1));
        let second = rotate(&*storage, &sealer, id, DAY, NOW).await.unwrap();
        assert_eq!(live().await, (vec![*second.expose(), *first.expose()], 2));
        assert_eq!(kind(rotate(&*storage, &sealer, id, DAY, NOW).await), StoreErrorKind::Conflict);
        assert!(revoke_previous(&*storage, &sealer, id).await.unwrap());
        assert_eq!(live().await, (vec![*second.expose()], 3));
        assert!(!revoke_previous(&*storage, &sealer, id).await.unwrap());
        assert_eq!(live().await.1, 3);

        assert_eq!(kind(create(&*storage, &sealer, tenant, new("echo")).await), StoreErrorKind::AlreadyExists);
        assert_eq!(storage.registry().secrets(tenant.into(), HOOK_SECRET).await.unwrap().len(), 1);
        assert_eq!(kind(remove(&*storage, id, Some(1)).await), StoreErrorKind::Conflict);
        remove(&*storage, id, Some(3)).await.unwrap();
        assert_eq!(kind(keys(&*storage, &sealer, tenant, hook.id).await), StoreErrorKind::NotFound);
        assert_eq!(kind(remove(&*storage, id, None).await), StoreErrorKind::NotFound);
        // One without a key.
        let plain = storage.hooks().create(tenant, new("plain")).await.unwrap();
        remove(&*storage, (tenant, plain.id), None).await.unwrap();
    }
}
