//! The storage of a whole server.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::allowance::Allowances;
use crate::audit::AuditLog;
use crate::delivery::Deliveries;
use crate::directory::Directory;
use crate::error::StoreError;
use crate::event::EventLog;
use crate::hook::HookStore;
use crate::lifecycle::Lifecycle;
use crate::message::MessageStore;
use crate::queue::QueueBackend;
use crate::registry::Registry;
use crate::search::{SearchIndex, SearchOutbox};
use crate::sql::SpoolStatistics;
use crate::suppression::Suppressions;
use crate::webhook::Webhooks;

/// Storage, as a set of facets over the same data.
#[async_trait]
pub trait StorageBackend: fmt::Debug + Send + Sync + 'static {
    /// Messages and the one atomic step that accepts them.
    fn messages(&self) -> &dyn MessageStore;
    /// Messages after they were accepted: deleted, held, archived, purged.
    fn lifecycle(&self) -> &dyn Lifecycle;
    /// Tenants, domains, users, addresses, API keys.
    fn directory(&self) -> &dyn Directory;
    /// Work to be done.
    fn queue(&self) -> &dyn QueueBackend;
    /// Recipients of outgoing mail and what became of them.
    fn deliveries(&self) -> &dyn Deliveries;
    /// How much each tenant may still send.
    fn allowances(&self) -> &dyn Allowances;
    /// Addresses to which each tenant sends nothing.
    fn suppressions(&self) -> &dyn Suppressions;
    /// What happened to mail.
    fn events(&self) -> &dyn EventLog;
    /// Addresses elsewhere that are told of events.
    fn webhooks(&self) -> &dyn Webhooks;
    /// Hooks that tenants have bound, and what they did.
    fn hooks(&self) -> &dyn HookStore;
    /// Settings, and secrets that were sealed.
    fn registry(&self) -> &dyn Registry;
    /// Who did what.
    fn audit(&self) -> &dyn AuditLog;
    /// Finding messages by what they say.
    fn search_index(&self) -> &dyn SearchIndex;
    /// Messages that the index does not know yet.
    fn search_outbox(&self) -> &dyn SearchOutbox;
    /// Bodies that were accepted and wait for their place in the body store, as far as this process knows.
    /// None for a backend that has each in its place before it accepts the message.
    fn spool(&self) -> SpoolStatistics {
        SpoolStatistics::default()
    }
    /// Whether the parts that can be down answer, by name: `database`, `bodies`, and `disk` where room on
    /// it is watched. For readiness probes; cheap enough to be called every second.
    async fn health(&self) -> Vec<(&'static str, Result<(), StoreError>)>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: StorageBackend + ?Sized> StorageBackend for Arc<T> {
    fn messages(&self) -> &dyn MessageStore {
        (**self).messages()
    }
    fn lifecycle(&self) -> &dyn Lifecycle {
        (**self).lifecycle()
    }
    fn directory(&self) -> &dyn Directory {
        (**self).directory()
    }
    fn queue(&self) -> &dyn QueueBackend {
        (**self).queue()
    }
    fn deliveries(&self) -> &dyn Deliveries {
        (**self).deliveries()
    }
    fn allowances(&self) -> &dyn Allowances {
        (**self).allowances()
    }
    fn suppressions(&self) -> &dyn Suppressions {
        (**self).suppressions()
    }
    fn events(&self) -> &dyn EventLog {
        (**self).events()
    }
    fn webhooks(&self) -> &dyn Webhooks {
        (**self).webhooks()
    }
    fn hooks(&self) -> &dyn HookStore {
        (**self).hooks()
    }
    fn registry(&self) -> &dyn Registry {
        (**self).registry()
    }
    fn audit(&self) -> &dyn AuditLog {
        (**self).audit()
    }
    fn search_index(&self) -> &dyn SearchIndex {
        (**self).search_index()
    }
    fn search_outbox(&self) -> &dyn SearchOutbox {
        (**self).search_outbox()
    }
    fn spool(&self) -> SpoolStatistics {
        (**self).spool()
    }
    async fn health(&self) -> Vec<(&'static str, Result<(), StoreError>)> {
        (**self).health().await
    }
}
