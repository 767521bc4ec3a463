//! Storage in memory: the reference implementation, for tests and for servers that keep nothing.
//!
//! Everything lies behind one lock that is held for the length of a step, so each step is whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use mairust_core::{
    Clock, DkimKeyId, Domain, FolderId, MailboxId, MessageId, RecipientId, SuppressionId, TenantId, Timestamp, UserId,
    WebhookDeliveryId, WebhookId,
};

use crate::allowance::{Allowances, BucketKey};
use crate::audit::AuditLog;
use crate::backend::StorageBackend;
use crate::body::{BodyStore, MemoryBodies};
use crate::change::{ChangeCounter, TenantCounters};
use crate::delivery::{Attempt, Deliveries, DeliveryRow};
use crate::directory::{Alias, ApiKey, Directory, DkimKey, DomainRow, Quota, SenderRule, Tenant};
use crate::error::StoreError;
use crate::event::EventLog;
use crate::hook::HookStore;
use crate::lifecycle::Lifecycle;
use crate::message::{Folder, MessageRow, MessageStore};
use crate::owner::Owner;
use crate::queue::QueueBackend;
use crate::registry::{Registry, SecretRow, Setting};
use crate::search::{SearchIndex, SearchOutbox};
use crate::suppression::{Suppression, Suppressions};
use crate::webhook::{Webhook, WebhookDelivery, Webhooks};

mod audit;
mod delivery;
mod directory;
mod dkim;
mod event;
mod hook;
mod invariant;
mod lifecycle;
mod marks;
mod message;
mod policy;
mod queue;
mod queue_items;
mod registry;
mod search;
mod webhook;

/// A [`StorageBackend`] whose data end with it.
#[derive(Debug)]
pub struct MemoryStorage {
    clock: Arc<dyn Clock>,
    bodies: MemoryBodies,
    state: Mutex<State>,
    messages_changed: TenantCounters,
    queue_changed: ChangeCounter,
    events_changed: ChangeCounter,
    search_changed: ChangeCounter,
}

#[derive(Debug, Default)]
struct State {
    tenants: HashMap<TenantId, Tenant>,
    domains: HashMap<Domain, DomainRow>,
    users: HashMap<UserId, directory::UserRecord>,
    /// By login name in lower case.
    logins: HashMap<String, UserId>,
    /// By lookup key.
    addresses: HashMap<String, UserId>,
    /// By lookup key.
    aliases: HashMap<String, Alias>,
    /// By tenant and pattern.
    sender_rules: BTreeMap<(TenantId, String), SenderRule>,
    /// By public part.
    api_keys: HashMap<String, ApiKey>,
    dkim_keys: BTreeMap<(TenantId, DkimKeyId), DkimKey>,
    quotas: HashMap<(TenantId, MailboxId), Quota>,
    folders: HashMap<(TenantId, MailboxId, Folder), FolderRecord>,
    messages: HashMap<(TenantId, MessageId), MessageRow>,
    /// By owner and key.
    metadata: HashMap<(TenantId, MessageId), BTreeMap<(String, String), serde_json::Value>>,
    fingerprints: Vec<(Timestamp, [u8; 32], MessageId)>,
    /// Objects that are to be removed.
    removals: BTreeSet<(TenantId, String)>,
    recipients: BTreeMap<(TenantId, RecipientId), DeliveryRow>,
    attempts: Vec<(TenantId, MessageId, Attempt)>,
    jobs: queue::Jobs,
    /// When each is full again, by tenant, scope and rate.
    allowances: BTreeMap<(TenantId, BucketKey), Timestamp>,
    suppressions: BTreeMap<(TenantId, SuppressionId), Suppression>,
    events: HashMap<TenantId, event::TenantEvents>,
    webhooks: BTreeMap<(TenantId, WebhookId), Webhook>,
    webhook_deliveries: BTreeMap<(TenantId, WebhookDeliveryId), WebhookDelivery>,
    hooks: hook::Hooks,
    settings: BTreeMap<(Owner, String), Setting>,
    secrets: BTreeMap<registry::SecretKey, SecretRow>,
    chains: BTreeMap<Owner, audit::ChainRecord>,
    search: search::SearchState,
}

#[derive(Debug)]
struct FolderRecord {
    id: FolderId,
    next_uid: u32,
    modseq: u64,
}

impl MemoryStorage {
    /// Empty storage; times of creation come from `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            bodies: MemoryBodies::default(),
            state: Mutex::default(),
            messages_changed: TenantCounters::default(),
            queue_changed: ChangeCounter::default(),
            events_changed: ChangeCounter::default(),
            search_changed: ChangeCounter::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl StorageBackend for MemoryStorage {
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

    async fn health(&self) -> Vec<(&'static str, Result<(), StoreError>)> {
        vec![("database", Ok(())), ("bodies", self.bodies.check().await)]
    }
}
