//! The keys of webhooks: made, replaced, and kept as sealed secrets.
//!
//! A record is, one behind the other: the version (1), the current key, and while there is one the key before it with
//! the time, in microseconds since 1970, at which it ends.

use std::time::Duration;

use mairust_core::{Secret, TenantId, Timestamp, WebhookId};

use super::{NewWebhook, WEBHOOK_SECRET, Webhook};
use crate::backend::StorageBackend;
use crate::error::{StoreError, StoreErrorKind};
use crate::owner::Owner;
use crate::registry::{Expected, Version};
use crate::seal::cipher::random;
use crate::seal::{SealedPlace, Sealer};

const VERSION: u8 = 1;

/// A key that requests are signed with.
pub type WebhookKey = Secret<[u8; 32]>;

/// The keys of a webhook.
#[derive(Debug)]
#[non_exhaustive]
pub struct WebhookKeys {
    /// The one that was made last.
    pub current: WebhookKey,
    /// The one before it, and until when requests are signed with it, too.
    pub previous: Option<(WebhookKey, Timestamp)>,
}

impl WebhookKeys {
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

/// Makes a webhook and its key: the key is kept first, so that a webhook that is there can be told of events.
///
/// # Errors
/// As [`Webhooks::create`](super::Webhooks::create), and when the master key can't be used.
pub async fn create(
    storage: &dyn StorageBackend,
    sealer: &Sealer,
    tenant: TenantId,
    new: NewWebhook,
) -> Result<(Webhook, WebhookKey), StoreError> {
    let (id, keys) = (new.id, WebhookKeys { current: Secret::new(random()), previous: None });
    put(storage, sealer, (tenant, id), &keys, Expected::Absent).await?;
    let made = storage.webhooks().create(tenant, new).await;
    // After a temporary error the webhook may be there all the same, and only the answer be lost.
    if made.as_ref().is_err_and(|error| !error.is_temporary()) {
        // What is left behind if this fails, too, is of no use to anybody.
        let _ = storage.registry().delete_secret(place(tenant, &id.to_string())).await;
    }
    Ok((made?, keys.current))
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
) -> Result<WebhookKeys, StoreError> {
    Ok(open(storage, sealer, tenant, id).await?.0)
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
) -> Result<WebhookKey, StoreError> {
    let (old, version) = open(storage, sealer, tenant, id).await?;
    if !grace.is_zero() && old.live(now).count() > 1 {
        return Err(StoreError::new(StoreErrorKind::Conflict, "rotate key of webhook", id));
    }
    let previous = (!grace.is_zero()).then(|| (old.current, now.plus(grace)));
    let keys = WebhookKeys { current: Secret::new(random()), previous };
    put(storage, sealer, (tenant, id), &keys, Expected::Version(version)).await?;
    Ok(keys.current)
}

/// Removes a webhook with its deliveries, and then its keys.
///
/// # Errors
/// As [`Webhooks::delete`](super::Webhooks::delete).
pub async fn remove(storage: &dyn StorageBackend, tenant: TenantId, id: WebhookId) -> Result<(), StoreError> {
    storage.webhooks().delete(tenant, id).await?;
    match storage.registry().delete_secret(place(tenant, &id.to_string())).await {
        Err(error) if error.kind() != StoreErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

async fn open(
    storage: &dyn StorageBackend,
    sealer: &Sealer,
    tenant: TenantId,
    id: WebhookId,
) -> Result<(WebhookKeys, Version), StoreError> {
    const OPEN: &str = "open keys of webhook";
    let name = id.to_string();
    let place = place(tenant, &name);
    let row = storage.registry().secret(place.owner, place.kind, place.name).await?;
    let row = row.ok_or_else(|| StoreError::new(StoreErrorKind::NotFound, OPEN, id))?;
    let opened = sealer.open(place, &row.sealed).await?;
    let keys = WebhookKeys::from_bytes(opened.expose());
    let keys = keys.ok_or_else(|| StoreError::new(StoreErrorKind::Corrupt, OPEN, id))?;
    Ok((keys, row.version))
}

async fn put(
    storage: &dyn StorageBackend,
    sealer: &Sealer,
    (tenant, id): (TenantId, WebhookId),
    keys: &WebhookKeys,
    expected: Expected,
) -> Result<(), StoreError> {
    let name = id.to_string();
    let place = place(tenant, &name);
    let sealed = sealer.seal(place, keys.to_bytes().expose()).await?;
    storage.registry().put_secret(place, &sealed, expected).await.map(drop)
}

fn place(tenant: TenantId, name: &str) -> SealedPlace<'_> {
    SealedPlace { owner: Owner::Tenant(tenant), kind: WEBHOOK_SECRET, name }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mairust_core::ManualClock;

    use super::*;
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

    fn live(keys: &WebhookKeys, now: Timestamp) -> Vec<[u8; 32]> {
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
