//! The keys of webhooks: made with them, replaced, and removed with them.

use std::time::Duration;

use mairust_core::{TenantId, Timestamp, WebhookId};

use super::{NewWebhook, WEBHOOK_SECRET, Webhook};
use crate::backend::StorageBackend;
use crate::error::StoreError;
use crate::owner::Owner;
use crate::seal::{SealedPlace, Sealer};
use crate::signing_keys::{self, SigningKey, SigningKeys};

/// Makes a webhook and its key: the key is kept first, so that a webhook that is there can be told of events.
///
/// # Errors
/// As [`Webhooks::create`](super::Webhooks::create), and when the master key can't be used.
pub async fn create(
    storage: &dyn StorageBackend,
    sealer: &Sealer,
    tenant: TenantId,
    new: NewWebhook,
) -> Result<(Webhook, SigningKey), StoreError> {
    let name = new.id.to_string();
    let place = place(tenant, &name);
    let key = signing_keys::make(storage, sealer, place).await?;
    let made = storage.webhooks().create(tenant, new).await;
    // After a temporary error the webhook may be there all the same, and only the answer be lost.
    if made.as_ref().is_err_and(|error| !error.is_temporary()) {
        // What is left behind if this fails, too, is of no use to anybody.
        let _ = signing_keys::remove(storage, place).await;
    }
    Ok((made?, key))
}

/// The keys of a webhook.
///
/// # Errors
/// `NotFound` if there are none, or the master key that they are sealed under is not there; `Corrupt` if they don't
/// open.
pub async fn keys(
    storage: &dyn StorageBackend,
    sealer: &Sealer,
    tenant: TenantId,
    id: WebhookId,
) -> Result<SigningKeys, StoreError> {
    signing_keys::read(storage, sealer, place(tenant, &id.to_string())).await
}

/// Makes a new key for a webhook. For as long as `grace` says, requests are signed with the one before it, too; with
/// zero, only with the new one.
///
/// # Errors
/// `Conflict` if there are two keys already and there would be a third, or somebody else replaced the key meanwhile;
/// otherwise as [`keys`].
pub async fn rotate(
    storage: &dyn StorageBackend,
    sealer: &Sealer,
    (tenant, id): (TenantId, WebhookId),
    grace: Duration,
    now: Timestamp,
) -> Result<SigningKey, StoreError> {
    signing_keys::rotate(storage, sealer, place(tenant, &id.to_string()), grace, now).await
}

/// Removes a webhook with its deliveries, and then its keys.
///
/// # Errors
/// As [`Webhooks::delete`](super::Webhooks::delete).
pub async fn remove(storage: &dyn StorageBackend, tenant: TenantId, id: WebhookId) -> Result<(), StoreError> {
    storage.webhooks().delete(tenant, id).await?;
    signing_keys::remove(storage, place(tenant, &id.to_string())).await
}

fn place(tenant: TenantId, name: &str) -> SealedPlace<'_> {
    SealedPlace { owner: Owner::Tenant(tenant), kind: WEBHOOK_SECRET, name }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mairust_core::{ManualClock, Secret};

    use super::*;
    use crate::StoreErrorKind;
    use crate::conformance::sample::{NOW, Storage, alice, kind};
    use crate::memory::MemoryStorage;
    use crate::seal::LocalKeys;
    use crate::webhook::MAX_WEBHOOKS;

    const DAY: Duration = Duration::from_secs(86_400);

    fn new() -> NewWebhook {
        let (url, description) = ("https://hooks.example/".to_owned(), String::new());
        NewWebhook { id: WebhookId::new(NOW), url, description, kinds: Vec::new() }
    }

    async fn world() -> (Storage, Sealer, TenantId) {
        let storage: Storage = Arc::new(MemoryStorage::new(Arc::new(ManualClock::at(NOW))));
        let tenant = alice(&storage, "a.example").await.tenant;
        (storage, Sealer::new(Arc::new(LocalKeys::new(&Secret::new([1; 32])))), tenant)
    }

    fn live(keys: &SigningKeys, now: Timestamp) -> Vec<[u8; 32]> {
        keys.live(now).copied().collect()
    }

    #[tokio::test]
    async fn two_keys_sign_while_one_takes_over() {
        let (storage, sealer, tenant) = world().await;
        let (webhook, first) = create(&*storage, &sealer, tenant, new()).await.unwrap();
        let id = (tenant, webhook.id);
        let read = async || keys(&*storage, &sealer, tenant, webhook.id).await.unwrap();
        assert_eq!(live(&read().await, NOW), [*first.expose()]);
        let second = rotate(&*storage, &sealer, id, DAY, NOW).await.unwrap();
        assert_eq!(live(&read().await, NOW), [*second.expose(), *first.expose()]);
        assert_eq!(live(&read().await, NOW.plus(DAY)), [*second.expose()]);
        let third = rotate(&*storage, &sealer, id, DAY, NOW).await;
        assert_eq!(kind(third), StoreErrorKind::Conflict, "two are enough");
        let third = rotate(&*storage, &sealer, id, DAY, NOW.plus(DAY)).await.unwrap();
        assert_eq!(live(&read().await, NOW.plus(DAY)), [*third.expose(), *second.expose()]);
        // A key that somebody else knows ends at once, whatever else there is.
        let fourth = rotate(&*storage, &sealer, id, Duration::ZERO, NOW.plus(DAY)).await.unwrap();
        assert_eq!(live(&read().await, NOW.plus(DAY)), [*fourth.expose()]);
        remove(&*storage, tenant, webhook.id).await.unwrap();
        assert_eq!(kind(keys(&*storage, &sealer, tenant, webhook.id).await), StoreErrorKind::NotFound);
        assert_eq!(kind(remove(&*storage, tenant, webhook.id).await), StoreErrorKind::NotFound);
    }

    #[tokio::test]
    async fn no_key_stays_without_its_webhook() {
        let (storage, sealer, tenant) = world().await;
        for _ in 0..MAX_WEBHOOKS {
            create(&*storage, &sealer, tenant, new()).await.unwrap();
        }
        assert_eq!(kind(create(&*storage, &sealer, tenant, new()).await), StoreErrorKind::Conflict);
        let kept = storage.registry().secrets(tenant.into(), WEBHOOK_SECRET).await.unwrap();
        assert_eq!(kept.len(), MAX_WEBHOOKS as usize);
    }
}
