//! Signs mail in the name of the domains here, by DKIM.
//!
//! A domain signs with its active keys, RSA first. Keys are opened once and remembered for some seconds;
//! whether they are still the ones is asked again then, so that a key that was activated elsewhere signs
//! soon on every node. A key that does not open is an error and never mail without a signature.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mairust_core::{Body, Clock, DkimAlgorithm, DkimKeyId, Domain, RecentMap, TenantId, Timestamp};
use mairust_smtp::sign::{SignError, Signable, Signer, SigningKey};
use mairust_store::directory::DKIM_SECRET;
use mairust_store::registry::Expected;
use mairust_store::seal::SealedPlace;
use mairust_store::{DkimKey, DkimKeyState, NewDkimKey, Owner, Sealer, StorageBackend, StoreError, StoreErrorKind};

/// For how long keys are used without a question whether they are still the ones.
const FRESH: Duration = Duration::from_secs(5);
/// Domains whose keys are remembered, at least.
const DOMAINS: usize = 1_000;

/// Signs mail.
#[derive(Debug)]
pub(crate) struct Signing {
    storage: Arc<dyn StorageBackend>,
    /// Without it there are no keys: nothing is signed.
    sealer: Option<Sealer>,
    clock: Arc<dyn Clock>,
    known: Mutex<RecentMap<(TenantId, Domain), Option<Known>>>,
}

/// The keys of a domain that were active at some moment.
#[derive(Debug, Clone)]
struct Known {
    at: Timestamp,
    ids: Vec<DkimKeyId>,
    signers: Arc<[Signer]>,
}

/// Why a message could not be signed.
#[derive(Debug)]
pub(crate) enum Unsigned {
    /// A key can't be used now, or the store does not answer.
    NotNow(StoreError),
    /// There is too much in its header section.
    TooLarge,
}

impl Signing {
    pub(crate) fn new(storage: Arc<dyn StorageBackend>, sealer: Option<Sealer>, clock: Arc<dyn Clock>) -> Self {
        Self { storage, sealer, clock, known: Mutex::new(RecentMap::new(DOMAINS)) }
    }

    /// The DKIM-Signature fields of a domain for a message, to be put in front of it; none if the tenant has
    /// no keys that sign for this domain. `prefix` are the fields that stand in front of `body`.
    pub(crate) async fn sign(
        &self,
        tenant: TenantId,
        domain: &Domain,
        prefix: &str,
        body: &Body,
    ) -> Result<String, Unsigned> {
        let signers = self.signers(tenant, domain).await.map_err(|error| {
            let cause = crate::error::chain(&error);
            tracing::error!(
                component = "sign",
                tenant_id = %tenant,
                domain = domain.as_str(),
                error = cause,
                "mail of this domain can't be signed, and is not sent without a signature"
            );
            // Whatever is wrong with the key, it is not the fault of who sends.
            Unsigned::NotNow(StoreError::new(StoreErrorKind::Unavailable, "sign", domain).with_source(error))
        })?;
        if signers.is_empty() {
            return Ok(String::new());
        }
        let (prefix, body, now) = (prefix.to_owned(), body.clone(), self.clock.now());
        let signing = tokio::task::spawn_blocking(move || all_of(&signers, &prefix, &body, now));
        match signing.await {
            Ok(Ok(fields)) => Ok(fields),
            Ok(Err(SignError::HeaderTooLarge)) => Err(Unsigned::TooLarge),
            Ok(Err(error)) => Err(failed(domain, error)),
            Err(error) => Err(failed(domain, error)),
        }
    }

    /// The signatures of a notice that the host `hostname` writes: in the name of its own domain, or else of
    /// the domain that gets it; over the fields in `added`, too. That there are none is no reason to keep a notice back.
    pub(crate) async fn sign_notice(
        &self,
        hostname: &Domain,
        tenant: TenantId,
        receiver: &Domain,
        added: &str,
        notice: &Body,
    ) -> String {
        let host = self.storage.directory().domain(hostname).await.unwrap_or_else(|error| {
            let error = crate::error::chain(&error);
            tracing::warn!(component = "sign", error, "whose domain the host name is can't be found out");
            None
        });
        let host = host.map(|row| (row.tenant, row.name));
        for (tenant, domain) in host.into_iter().chain([(tenant, receiver.clone())]) {
            match self.sign(tenant, &domain, added, notice).await {
                Ok(fields) if fields.is_empty() => {}
                Ok(fields) => return fields,
                // It is in the log.
                Err(_) => return String::new(),
            }
        }
        String::new()
    }

    /// The active keys of a domain, opened.
    async fn signers(&self, tenant: TenantId, domain: &Domain) -> Result<Arc<[Signer]>, StoreError> {
        let Some(sealer) = &self.sealer else { return Ok(Arc::new([])) };
        let (name, now) = ((tenant, domain.clone()), self.clock.now());
        let known = self.known().entry(name.clone(), || None).clone();
        if let Some(known) = known.as_ref().filter(|known| now >= known.at && now.since(known.at) < FRESH) {
            return Ok(known.signers.clone());
        }
        let mut keys = self.storage.directory().dkim_keys(tenant, domain).await?;
        keys.retain(|key| key.state == DkimKeyState::Active);
        keys.sort_by_key(|key| key.algorithm);
        let ids: Vec<DkimKeyId> = keys.iter().map(|key| key.id).collect();
        let signers = match known.filter(|known| known.ids == ids) {
            Some(known) => known.signers,
            None => {
                let mut opened = Vec::with_capacity(keys.len());
                for key in keys {
                    opened.push(open(self.storage.as_ref(), sealer, key).await?);
                }
                opened.into()
            }
        };
        *self.known().entry(name, || None) = Some(Known { at: now, ids, signers: signers.clone() });
        Ok(signers)
    }

    fn known(&self) -> MutexGuard<'_, RecentMap<(TenantId, Domain), Option<Known>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the private key of a key is kept.
pub(crate) fn place(tenant: TenantId, name: &str) -> SealedPlace<'_> {
    SealedPlace { owner: Owner::Tenant(tenant), kind: DKIM_SECRET, name }
}

/// Makes a key that does not sign yet: the private key is kept first, so that a key that is there can sign.
pub(crate) async fn make_key(
    storage: &dyn StorageBackend,
    sealer: &Sealer,
    tenant: TenantId,
    domain: &Domain,
    new: (String, DkimAlgorithm),
    now: Timestamp,
) -> Result<DkimKey, StoreError> {
    let (selector, algorithm) = new;
    let failed = |error: &dyn std::fmt::Display| StoreError::new(StoreErrorKind::Unavailable, "make DKIM key", error);
    let made = tokio::task::spawn_blocking(move || SigningKey::generate(algorithm));
    let key = made.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    let (id, public_key) = (DkimKeyId::new(now), key.public_key().map_err(|error| failed(&error))?);
    let (name, private_key) = (id.to_string(), key.to_pkcs8().map_err(|error| failed(&error))?);
    let place = place(tenant, &name);
    let sealed = sealer.seal(place, private_key.expose()).await?;
    storage.registry().put_secret(place, &sealed, Expected::Absent).await?;
    let new = NewDkimKey { id, selector, algorithm, public_key };
    let made = storage.directory().create_dkim_key(tenant, domain, new).await;
    // After a temporary error the key may be there all the same, and only the answer be lost.
    if made.as_ref().is_err_and(|error| !error.is_temporary()) {
        // What is left behind if this fails, too, is of no use to anybody.
        let _ = storage.registry().delete_secret(place).await;
    }
    made
}

/// Removes a key that does not sign, and then its private key.
///
/// # Errors
/// As [`Directory::delete_dkim_key`](mairust_store::Directory::delete_dkim_key).
pub(crate) async fn remove_key(storage: &dyn StorageBackend, key: &DkimKey) -> Result<(), StoreError> {
    storage.directory().delete_dkim_key(key.tenant, key.id).await?;
    match storage.registry().delete_secret(place(key.tenant, &key.id.to_string())).await {
        Err(error) if error.kind() != StoreErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

async fn open(storage: &dyn StorageBackend, sealer: &Sealer, key: DkimKey) -> Result<Signer, StoreError> {
    let name = key.id.to_string();
    let unusable = |why: &dyn std::fmt::Display| {
        let text = format!("the key {} of {}: {why}", key.selector, key.domain);
        StoreError::new(StoreErrorKind::Corrupt, "open DKIM key", text)
    };
    let place = place(key.tenant, &name);
    let row = storage.registry().secret(place.owner, place.kind, place.name).await?;
    let row = row.ok_or_else(|| unusable(&"the private key is gone"))?;
    let secret = sealer.open(place, &row.sealed).await?;
    let opened = SigningKey::from_pkcs8(key.algorithm, secret.expose()).map_err(|error| unusable(&error))?;
    if opened.public_key().map_err(|error| unusable(&error))? != key.public_key {
        return Err(unusable(&"it is not the one that is published"));
    }
    Signer::new(key.domain.clone(), key.selector.as_str(), opened).map_err(|error| unusable(&error))
}

/// The fields of all signers, for a message that is read once (blocking).
fn all_of(signers: &[Signer], prefix: &str, body: &Body, now: Timestamp) -> Result<String, SignError> {
    let message = Signable::read(prefix.as_bytes(), body)?;
    signers.iter().map(|signer| signer.sign(&message, now, None)).collect()
}

fn failed(domain: &Domain, error: impl std::error::Error + Send + Sync + 'static) -> Unsigned {
    tracing::error!(component = "sign", domain = domain.as_str(), error = crate::error::chain(&error), "not signed");
    Unsigned::NotNow(StoreError::new(StoreErrorKind::Unavailable, "sign", domain).with_source(error))
}

#[cfg(test)]
mod tests {
    use mairust_core::{ManualClock, Secret};
    use mairust_store::{DirectoryExt, LocalKeys, MemoryStorage};

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix(1_763_780_646);

    struct Site {
        storage: Arc<MemoryStorage>,
        clock: Arc<ManualClock>,
        sealer: Sealer,
        tenant: TenantId,
        domain: Domain,
    }

    impl Site {
        async fn new() -> Self {
            let clock = Arc::new(ManualClock::at(NOW));
            let storage = Arc::new(MemoryStorage::new(clock.clone()));
            let sealer = Sealer::new(Arc::new(LocalKeys::new(&Secret::new([1; 32]))));
            let tenant = storage.ensure_tenant("a").await.unwrap().id;
            let domain = Domain::parse("a.example").unwrap();
            mairust_store::Directory::create_domain(&*storage, tenant, &domain).await.unwrap();
            Self { storage, clock, sealer, tenant, domain }
        }

        fn signing(&self) -> Signing {
            Signing::new(self.storage.clone(), Some(self.sealer.clone()), self.clock.clone())
        }

        /// Makes a key and lets it sign.
        async fn activate(&self, selector: &str, algorithm: DkimAlgorithm) -> DkimKeyId {
            let (storage, new): (&dyn StorageBackend, _) = (&*self.storage, (selector.to_owned(), algorithm));
            let made = make_key(storage, &self.sealer, self.tenant, &self.domain, new, NOW).await.unwrap();
            storage.directory().activate_dkim_key(self.tenant, made.id).await.unwrap();
            made.id
        }
    }

    /// The selectors of the signatures, in order.
    async fn selectors(signing: &Signing, tenant: TenantId, domain: &Domain) -> Vec<String> {
        let body = Body::from(b"From: x@a.example\r\n\r\nx\r\n".to_vec());
        let fields = signing.sign(tenant, domain, "", &body).await.unwrap();
        let after = |field: &str| field.split(';').next().unwrap_or_default().to_owned();
        fields.split(" s=").skip(1).map(after).collect()
    }

    #[tokio::test]
    async fn active_keys_sign_and_new_ones_soon() {
        let site = Site::new().await;
        let signing = site.signing();
        assert!(selectors(&signing, site.tenant, &site.domain).await.is_empty());
        site.activate("ed", DkimAlgorithm::Ed25519).await;
        site.activate("rsa", DkimAlgorithm::Rsa).await;
        assert!(selectors(&signing, site.tenant, &site.domain).await.is_empty(), "not asked again yet");
        site.clock.advance(FRESH);
        assert_eq!(selectors(&signing, site.tenant, &site.domain).await, ["rsa", "ed"]);
        site.activate("ed2", DkimAlgorithm::Ed25519).await;
        site.clock.advance(FRESH);
        assert_eq!(selectors(&signing, site.tenant, &site.domain).await, ["rsa", "ed2"]);
        let other = TenantId::new(NOW);
        assert!(selectors(&signing, other, &site.domain).await.is_empty(), "keys are of one tenant");
        let without = Signing::new(site.storage.clone(), None, site.clock.clone());
        assert!(selectors(&without, site.tenant, &site.domain).await.is_empty());
    }

    #[tokio::test]
    async fn a_key_that_does_not_open_is_no_reason_to_send_without() {
        let site = Site::new().await;
        let id = site.activate("ed", DkimAlgorithm::Ed25519).await;
        let body = Body::from(b"From: x@a.example\r\n\r\nx\r\n".to_vec());
        let other = Sealer::new(Arc::new(LocalKeys::new(&Secret::new([2; 32]))));
        let wrong = Signing::new(site.storage.clone(), Some(other), site.clock.clone());
        let refused = wrong.sign(site.tenant, &site.domain, "", &body).await.unwrap_err();
        assert!(matches!(refused, Unsigned::NotNow(error) if error.is_temporary()));
        let storage: &dyn StorageBackend = &*site.storage;
        storage.registry().delete_secret(place(site.tenant, &id.to_string())).await.unwrap();
        let gone = site.signing().sign(site.tenant, &site.domain, "", &body).await.unwrap_err();
        assert!(matches!(gone, Unsigned::NotNow(error) if error.is_temporary()));
    }
}
