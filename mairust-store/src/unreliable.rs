//! Storage that fails on demand, to find out what becomes of those who use it.
//!
//! [`UnreliableStorage`] and [`UnreliableBodies`] wrap a backend. What goes wrong is told to a [`Mishaps`] by the
//! name of the call: `messages.accept`, `queue.lease_within`, `bodies.put`; by the name of a facet, for all its
//! calls; or by `*`.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{
    AuditId, Body, DkimKeyId, Domain, EmailAddress, JobId, MessageId, RecipientId, ScramVerifier, SuppressionId,
    TenantId, Timestamp, UserId,
};
use tokio::sync::watch;

use crate::allowance::{Allowance, Allowances, Taken};
use crate::audit::{AuditDrop, AuditEntry, AuditHead, AuditKey, AuditLog, AuditQuery, NewAuditEvent};
use crate::backend::StorageBackend;
use crate::body::{BodyStore, NewObject, StoredObject};
use crate::delivery::{Attempt, Deliveries, DeliveryRow};
use crate::directory::{
    Alias, AliasChange, ApiKey, Directory, DkimKey, DomainChange, DomainRow, Login, NewAlias, NewApiKey, NewDkimKey,
    NewTenant, NewUser, Resolution, SenderRule, Tenant, TenantChange, User, UserChange,
};
use crate::error::{StoreError, StoreErrorKind};
use crate::event::EventLog;
use crate::hook::HookStore;
use crate::invariant::{Invariant, InvariantCheck, InvariantPage, InvariantPosition};
use crate::lifecycle::{Lifecycle, Purge, Retention};
use crate::mark::Metadata;
use crate::message::{Acceptance, MessageChange, MessagePosition, MessageQuery, MessageRow, MessageStore, Page};
use crate::owner::Owner;
use crate::password::PasswordRecord;
use crate::queue::{
    DestinationStats, HoldReason, LaneBounds, Lease, NewJob, QueueAction, QueueBackend, QueueChange, QueueFilter,
    QueueItem, QueuePosition, QueueStats,
};
use crate::registry::{Expected, Registry, SecretRow, Setting};
use crate::seal::{SealedPlace, SealedRecord};
use crate::search::{SearchDocument, SearchIndex, SearchOutbox, SearchRequest, UnindexedMessage};
use crate::sql::SpoolStatistics;
use crate::suppression::{NewSuppression, Suppression, Suppressions};
use crate::webhook::Webhooks;

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mishap {
    /// It does nothing, and says so.
    Fail(StoreErrorKind),
    /// It does nothing, and does not answer until the mishaps are [cleared](Mishaps::clear); then it fails.
    Hang,
    /// It does its work, and fails all the same: the answer got lost.
    LoseAnswer(StoreErrorKind),
}

/// What goes wrong, and what was called. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Mishaps(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    plan: Mutex<Plan>,
    called: watch::Sender<()>,
    ended: watch::Sender<()>,
    cleared: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Plan {
    /// By the name of a call.
    mishaps: HashMap<String, Planned>,
    calls: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Clone, Copy)]
struct Planned {
    mishap: Mishap,
    /// How many calls are spared before.
    spared: u64,
    /// Whether one call is meant only.
    once: bool,
}

/// A [`StorageBackend`] that passes everything on, unless a mishap is planned.
#[derive(Debug)]
pub struct UnreliableStorage<S> {
    inner: S,
    mishaps: Mishaps,
}

/// A [`BodyStore`] that passes everything on, unless a mishap is planned.
#[derive(Debug)]
pub struct UnreliableBodies<S> {
    inner: S,
    mishaps: Mishaps,
}

impl Mishaps {
    /// Nothing goes wrong yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Plans a mishap for the next call of this name.
    pub fn once(&self, call: &str, mishap: Mishap) {
        self.once_after(0, call, mishap);
    }

    /// Plans a mishap for one call of this name; so many before it are spared.
    pub fn once_after(&self, spared: u64, call: &str, mishap: Mishap) {
        self.plan().mishaps.insert(call.to_owned(), Planned { mishap, spared, once: true });
    }

    /// Plans a mishap for all calls of this name.
    pub fn always(&self, call: &str, mishap: Mishap) {
        self.plan().mishaps.insert(call.to_owned(), Planned { mishap, spared: 0, once: false });
    }

    /// From now on nothing goes wrong. Calls that hang end.
    pub fn clear(&self) {
        self.plan().mishaps.clear();
        self.0.cleared.send_replace(());
    }

    /// How often something was called, whatever came of it.
    pub fn calls(&self, call: &str) -> u64 {
        self.plan().calls.get(call).copied().unwrap_or_default()
    }

    /// Waits until something was called so often. Safe to drop.
    pub async fn called(&self, call: &str, times: u64) {
        let mut called = self.0.called.subscribe();
        while self.calls(call) < times {
            // The sender is in `self`.
            let _ = called.changed().await;
        }
    }

    /// Waits until `condition` holds; it is looked at now, and whenever a call has ended, by an answer or because
    /// nobody waits for one. Safe to drop.
    pub async fn until<Answer: Future<Output = bool>>(&self, condition: impl Fn() -> Answer) {
        let mut ended = self.0.ended.subscribe();
        while !condition().await {
            // The sender is in `self`.
            let _ = ended.changed().await;
        }
    }

    async fn run<T>(
        &self,
        call: &'static str,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.run_or(call, work, |error| Err(error())).await
    }

    /// Does `work`, or answers what `failed` makes of an error.
    async fn run_or<T>(
        &self,
        call: &'static str,
        work: impl Future<Output = T> + Send,
        failed: impl FnOnce(&dyn Fn() -> StoreError) -> T + Send,
    ) -> T {
        let _ended = Ended(self);
        let (mishap, mut cleared) = self.next(call);
        let kind = match mishap {
            None => return work.await,
            Some(Mishap::Fail(kind)) => kind,
            Some(Mishap::Hang) => {
                // The sender is in `self`.
                let _ = cleared.changed().await;
                StoreErrorKind::Unavailable
            }
            Some(Mishap::LoseAnswer(kind)) => {
                drop(work.await);
                kind
            }
        };
        failed(&|| StoreError::new(kind, call, "an injected mishap"))
    }

    /// Counts a call and takes the mishap that is planned for it.
    fn next(&self, call: &'static str) -> (Option<Mishap>, watch::Receiver<()>) {
        let mut plan = self.plan();
        *plan.calls.entry(call).or_default() += 1;
        self.0.called.send_replace(());
        let facet = call.split('.').next().unwrap_or(call);
        let name = [call, facet, "*"].into_iter().find(|name| plan.mishaps.contains_key(*name));
        let mishap = name.and_then(|name| match plan.mishaps.get_mut(name)? {
            Planned { spared: spared @ 1.., .. } => {
                *spared -= 1;
                None
            }
            Planned { once: true, .. } => plan.mishaps.remove(name).map(|planned| planned.mishap),
            planned => Some(planned.mishap),
        });
        // While the plan is held, so that no end is missed.
        (mishap, self.0.cleared.subscribe())
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says in the end that a call has ended.
struct Ended<'a>(&'a Mishaps);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.0.ended.send_replace(());
    }
}

impl<S> UnreliableStorage<S> {
    /// Wraps a backend.
    pub fn new(inner: S, mishaps: Mishaps) -> Self {
        Self { inner, mishaps }
    }
}

impl<S> UnreliableBodies<S> {
    /// Wraps a store.
    pub fn new(inner: S, mishaps: Mishaps) -> Self {
        Self { inner, mishaps }
    }
}

/// A facet whose calls may go wrong; behind the calls stands what never does.
macro_rules! unreliable {
    ($facet:ident, $get:ident {
        $(async fn $name:ident(&self $(, $arg:ident: $type:ty)*) -> $result:ty;)*
    } $($other:tt)*) => {
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<S: StorageBackend> $facet for UnreliableStorage<S> {
            $(async fn $name(&self $(, $arg: $type)*) -> Result<$result, StoreError> {
                let call = concat!(stringify!($get), ".", stringify!($name));
                self.mishaps.run(call, self.inner.$get().$name($($arg),*)).await
            })*
            $($other)*
        }
    };
}

unreliable! { MessageStore, messages {
    async fn fingerprints(&self, since: Timestamp) -> Vec<([u8; 32], MessageId)>;
    async fn list(&self, tenant: TenantId, query: &MessageQuery) -> Page<MessageRow>;
    async fn get(&self, tenant: TenantId, id: MessageId) -> Option<MessageRow>;
    async fn get_all(&self, tenant: TenantId, ids: &[MessageId]) -> Vec<MessageRow>;
    async fn body(&self, tenant: TenantId, id: MessageId) -> Body;
    async fn change(&self, tenant: TenantId, id: MessageId, change: &MessageChange) -> ();
    async fn metadata(&self, tenant: TenantId, id: MessageId) -> Vec<Metadata>;
}
    async fn accept(&self, batch: Vec<Acceptance>) -> Vec<Result<(), StoreError>> {
        let count = batch.len();
        let failed = |error: &dyn Fn() -> StoreError| (0..count).map(|_| Err(error())).collect();
        self.mishaps.run_or("messages.accept", self.inner.messages().accept(batch), failed).await
    }
    fn version(&self, tenant: TenantId) -> u64 {
        self.inner.messages().version(tenant)
    }
    async fn changed(&self, tenant: TenantId, seen: u64) -> u64 {
        self.inner.messages().changed(tenant, seen).await
    }
}

unreliable! { Lifecycle, lifecycle {
    async fn kept(&self, tenant: TenantId, id: MessageId) -> Option<MessageRow>;
    async fn kept_body(&self, tenant: TenantId, id: MessageId) -> Body;
    async fn delete(&self, tenant: TenantId, id: MessageId, at: Timestamp) -> bool;
    async fn restore(&self, tenant: TenantId, id: MessageId) -> bool;
    async fn set_legal_hold(&self, tenant: TenantId, id: MessageId, on_hold: bool) -> bool;
    async fn archive(&self, tenant: TenantId, id: MessageId) -> bool;
    async fn purge(&self, tenant: TenantId, id: MessageId) -> Purge;
    async fn purge_deleted(&self, tenant: TenantId, retention: Retention, max: u32) -> u32;
    async fn remove_objects(&self, tenant: TenantId, max: u32) -> u32;
    async fn tenants_to_clean(&self, retention: Retention) -> Vec<TenantId>;
} }

unreliable! { Directory, directory {
    async fn create_tenant(&self, tenant: NewTenant) -> Tenant;
    async fn tenants(&self) -> Vec<Tenant>;
    async fn tenant_by_name(&self, name: &str) -> Option<Tenant>;
    async fn tenant(&self, id: TenantId) -> Option<Tenant>;
    async fn change_tenant(&self, id: TenantId, change: &TenantChange) -> ();
    async fn create_domain(&self, tenant: TenantId, name: &Domain) -> DomainRow;
    async fn create_domain_alias(&self, tenant: TenantId, name: &Domain, target: &Domain) -> DomainRow;
    async fn domains(&self, tenant: TenantId) -> Vec<DomainRow>;
    async fn domain(&self, name: &Domain) -> Option<DomainRow>;
    async fn change_domain(&self, tenant: TenantId, name: &Domain, change: &DomainChange) -> ();
    async fn create_user(&self, tenant: TenantId, user: NewUser) -> User;
    async fn users(&self, tenant: TenantId) -> Vec<User>;
    async fn user(&self, tenant: TenantId, user: UserId) -> Option<User>;
    async fn user_by_address(&self, tenant: TenantId, address: &EmailAddress) -> Option<User>;
    async fn oldest_user(&self, tenant: TenantId) -> Option<User>;
    async fn change_user(&self, tenant: TenantId, user: UserId, change: &UserChange) -> ();
    async fn set_password(&self, tenant: TenantId, user: UserId, password: PasswordRecord) -> ();
    async fn set_scram(&self, tenant: TenantId, user: UserId, hash: &str, verifier: &ScramVerifier) -> ();
    async fn login(&self, name: &str) -> Option<Login>;
    async fn create_alias(&self, tenant: TenantId, alias: NewAlias) -> Alias;
    async fn aliases(&self, tenant: TenantId) -> Vec<Alias>;
    async fn change_alias(&self, tenant: TenantId, address: &EmailAddress, change: &AliasChange) -> ();
    async fn delete_alias(&self, tenant: TenantId, address: &EmailAddress) -> ();
    async fn resolve(&self, address: &EmailAddress) -> Resolution;
    async fn set_sender_rule(&self, tenant: TenantId, rule: SenderRule) -> ();
    async fn sender_rules(&self, tenant: TenantId) -> Vec<SenderRule>;
    async fn delete_sender_rule(&self, tenant: TenantId, pattern: &str) -> ();
    async fn create_api_key(&self, tenant: TenantId, key: NewApiKey) -> ApiKey;
    async fn api_key(&self, key_id: &str) -> Option<ApiKey>;
    async fn create_dkim_key(&self, tenant: TenantId, domain: &Domain, key: NewDkimKey) -> DkimKey;
    async fn dkim_keys(&self, tenant: TenantId, domain: &Domain) -> Vec<DkimKey>;
    async fn activate_dkim_key(&self, tenant: TenantId, key: DkimKeyId) -> ();
    async fn retire_dkim_key(&self, tenant: TenantId, key: DkimKeyId) -> ();
    async fn delete_dkim_key(&self, tenant: TenantId, key: DkimKeyId) -> ();
    async fn retired_dkim_keys(&self, before: Timestamp) -> Vec<DkimKey>;
} }

mod told;

unreliable! { QueueBackend, queue {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> ();
    async fn lease_within(&self, now: Timestamp, max: u32, ttl: Duration, bounds: &LaneBounds) -> Vec<Lease>;
    async fn extend(&self, lease: &Lease, until: Timestamp) -> bool;
    async fn complete(&self, lease: &Lease) -> bool;
    async fn retry(&self, lease: &Lease, at: Timestamp, reason: &str) -> bool;
    async fn bury(&self, lease: &Lease, reason: &str) -> bool;
    async fn park(&self, lease: &Lease, because: HoldReason, reason: &str) -> bool;
    async fn items(
        &self, tenant: TenantId, filter: &QueueFilter, after: Option<QueuePosition>, limit: u32
    ) -> Vec<QueueItem>;
    async fn change(
        &self, tenant: TenantId, filter: &QueueFilter, action: &QueueAction, now: Timestamp,
        after: Option<QueuePosition>, limit: u32
    ) -> QueueChange;
    async fn retry_buried(&self, tenant: TenantId, jobs: &[JobId], now: Timestamp) -> u32;
    async fn destinations(&self, tenant: TenantId, now: Timestamp, limit: u32) -> Vec<DestinationStats>;
    async fn stats(&self, now: Timestamp) -> BTreeMap<String, QueueStats>;
    async fn next_due(&self) -> Option<Timestamp>;
}
    async fn lease(&self, now: Timestamp, max: u32, ttl: Duration) -> Result<Vec<Lease>, StoreError> {
        self.lease_within(now, max, ttl, &LaneBounds::default()).await
    }
    fn version(&self) -> u64 {
        self.inner.queue().version()
    }
    async fn changed(&self, seen: u64) -> u64 {
        self.inner.queue().changed(seen).await
    }
}

unreliable! { Deliveries, deliveries {
    async fn recipients(&self, tenant: TenantId, message: MessageId) -> Vec<DeliveryRow>;
    async fn recipient(&self, tenant: TenantId, id: RecipientId) -> Option<DeliveryRow>;
    async fn attempts(&self, tenant: TenantId, message: MessageId) -> Vec<Attempt>;
    async fn check_invariant(
        &self, invariant: Invariant, check: &InvariantCheck, after: Option<InvariantPosition>, limit: u32
    ) -> InvariantPage;
} }

unreliable! { Allowances, allowances {
    async fn take(&self, tenant: TenantId, wanted: &[Allowance], amount: u32, now: Timestamp) -> Taken;
    async fn spend(&self, tenant: TenantId, spent: &[(Allowance, u32)], now: Timestamp) -> Vec<f64>;
    async fn forget_full(&self, now: Timestamp, max: u32) -> u32;
} }

unreliable! { Suppressions, suppressions {
    async fn add(&self, tenant: TenantId, new: NewSuppression) -> Suppression;
    async fn get(&self, tenant: TenantId, id: SuppressionId) -> Option<Suppression>;
    async fn which(&self, tenant: TenantId, addresses: &[EmailAddress], now: Timestamp) -> Vec<Suppression>;
    async fn list(&self, tenant: TenantId, after: Option<SuppressionId>, limit: u32) -> Page<Suppression>;
    async fn remove(&self, tenant: TenantId, id: SuppressionId) -> ();
    async fn forget_expired(&self, now: Timestamp, max: u32) -> u32;
} }

unreliable! { Registry, registry {
    async fn setting(&self, owner: Owner, key: &str) -> Option<Setting>;
    async fn settings(&self, owner: Owner) -> Vec<Setting>;
    async fn put_setting(
        &self, owner: Owner, key: &str, value: &serde_json::Value, expected: Expected
    ) -> Setting;
    async fn delete_setting(&self, owner: Owner, key: &str, expected: Expected) -> ();
    async fn secret(&self, owner: Owner, kind: &str, name: &str) -> Option<SecretRow>;
    async fn secrets(&self, owner: Owner, kind: &str) -> Vec<SecretRow>;
    async fn put_secret(&self, place: SealedPlace<'_>, sealed: &SealedRecord, expected: Expected) -> SecretRow;
    async fn delete_secret(&self, place: SealedPlace<'_>) -> ();
    async fn all_secrets(&self, after: Option<SealedPlace<'_>>, limit: u32) -> Vec<SecretRow>;
} }

unreliable! { AuditLog, audit {
    async fn append(&self, owner: Owner, key: &AuditKey, events: Vec<NewAuditEvent>) -> Vec<AuditEntry>;
    async fn entry(&self, owner: Owner, id: AuditId) -> Option<AuditEntry>;
    async fn list(&self, owner: Owner, query: &AuditQuery) -> Page<AuditEntry>;
    async fn head(&self, owner: Owner) -> Option<AuditHead>;
    async fn drop_old(&self, owner: Owner, key: &AuditKey, drop: AuditDrop) -> u64;
    async fn owners(&self) -> Vec<Owner>;
} }

unreliable! { SearchIndex, search_index {
    async fn index(&self, documents: Vec<SearchDocument>) -> ();
    async fn remove(&self, tenant: TenantId, messages: &[MessageId]) -> ();
    async fn clear(&self) -> ();
    async fn search(&self, tenant: TenantId, request: &SearchRequest) -> Page<MessagePosition>;
}
    fn name(&self) -> &'static str {
        self.inner.search_index().name()
    }
}

unreliable! { SearchOutbox, search_outbox {
    async fn claim(&self, now: Timestamp, max: u32, ttl: Duration) -> Vec<UnindexedMessage>;
    async fn settle(&self, notes: &[UnindexedMessage]) -> ();
    async fn rebuild(&self) -> ();
    async fn refill(&self, max: u32) -> u32;
    async fn is_rebuilding(&self) -> bool;
    async fn pending(&self) -> u64;
}
    fn version(&self) -> u64 {
        self.inner.search_outbox().version()
    }
    async fn changed(&self, seen: u64) -> u64 {
        self.inner.search_outbox().changed(seen).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: StorageBackend> StorageBackend for UnreliableStorage<S> {
    fn messages(&self) -> &dyn MessageStore {
        self
    }
    fn lifecycle(&self) -> &dyn Lifecycle {
        self
    }
    fn directory(&self) -> &dyn Directory {
        self
    }
    fn queue(&self) -> &dyn QueueBackend {
        self
    }
    fn deliveries(&self) -> &dyn Deliveries {
        self
    }
    fn allowances(&self) -> &dyn Allowances {
        self
    }
    fn suppressions(&self) -> &dyn Suppressions {
        self
    }
    fn events(&self) -> &dyn EventLog {
        self
    }
    fn webhooks(&self) -> &dyn Webhooks {
        self
    }
    fn hooks(&self) -> &dyn HookStore {
        self
    }
    fn registry(&self) -> &dyn Registry {
        self
    }
    fn audit(&self) -> &dyn AuditLog {
        self
    }
    fn search_index(&self) -> &dyn SearchIndex {
        self
    }
    fn search_outbox(&self) -> &dyn SearchOutbox {
        self
    }
    fn spool(&self) -> SpoolStatistics {
        self.inner.spool()
    }
    async fn health(&self) -> Vec<(&'static str, Result<(), StoreError>)> {
        let failed = |error: &dyn Fn() -> StoreError| vec![("database", Err(error()))];
        self.mishaps.run_or("health", self.inner.health(), failed).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: BodyStore> BodyStore for UnreliableBodies<S> {
    async fn put(&self, objects: Vec<NewObject>) -> Vec<Result<StoredObject, StoreError>> {
        let count = objects.len();
        let failed = |error: &dyn Fn() -> StoreError| (0..count).map(|_| Err(error())).collect();
        self.mishaps.run_or("bodies.put", self.inner.put(objects), failed).await
    }
    async fn open(&self, key: &str) -> Result<Body, StoreError> {
        self.mishaps.run("bodies.open", self.inner.open(key)).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.mishaps.run("bodies.delete", self.inner.delete(key)).await
    }
    async fn list(&self, after: Option<&str>, limit: u32) -> Result<Vec<String>, StoreError> {
        self.mishaps.run("bodies.list", self.inner.list(after, limit)).await
    }
    async fn check(&self) -> Result<(), StoreError> {
        self.mishaps.run("bodies.check", self.inner.check()).await
    }
}
