//! Events, in memory.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use mairust_core::{EventId, TenantId, Timestamp};

use super::{MemoryStorage, State};
use crate::error::{StoreError, StoreErrorKind};
use crate::event::{Event, EventLog, EventPage, EventQuery, EventSpan, NewEvent};

/// The events of a tenant.
#[derive(Debug, Default)]
pub(super) struct TenantEvents {
    pub(super) span: EventSpan,
    events: BTreeMap<u64, Event>,
    ids: HashSet<EventId>,
}

#[async_trait]
impl EventLog for MemoryStorage {
    async fn list(&self, tenant: TenantId, query: &EventQuery) -> Result<EventPage, StoreError> {
        let state = self.state();
        let Some(of_tenant) = state.events.get(&tenant) else {
            return Ok(EventPage { items: Vec::new(), has_more: false });
        };
        let wanted = |event: &&Event| query.kinds.is_empty() || query.kinds.contains(&event.kind);
        let mut found = of_tenant.events.range(query.after.saturating_add(1)..).map(|(_, event)| event).filter(wanted);
        let items = found.by_ref().take(query.limit as usize).cloned().collect();
        Ok(EventPage { items, has_more: found.next().is_some() })
    }

    async fn at(&self, tenant: TenantId, position: u64) -> Result<Option<Event>, StoreError> {
        Ok(self.state().events.get(&tenant).and_then(|of_tenant| of_tenant.events.get(&position).cloned()))
    }

    async fn span(&self, tenant: TenantId) -> Result<EventSpan, StoreError> {
        Ok(self.state().events.get(&tenant).map(|of_tenant| of_tenant.span).unwrap_or_default())
    }

    async fn tenants_to_purge(&self, before: Timestamp) -> Result<Vec<TenantId>, StoreError> {
        let state = self.state();
        let is_old = |events: &TenantEvents| events.events.values().next().is_some_and(|oldest| oldest.at < before);
        let with_events = state.events.iter().filter(|(_, of)| is_old(of)).map(|(tenant, _)| *tenant);
        let ended = state.webhook_deliveries.values().filter(|delivery| delivery.has_ended_before(before));
        let mut found: Vec<_> = with_events.chain(ended.map(|delivery| delivery.tenant)).collect();
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    async fn purge(&self, tenant: TenantId, before: Timestamp, max: u32) -> Result<u32, StoreError> {
        let mut state = self.state();
        let of_tenant = state.webhook_deliveries.iter().filter(|((owner, _), _)| *owner == tenant);
        let ended = of_tenant.filter(|(_, delivery)| delivery.has_ended_before(before));
        let ended: Vec<_> = ended.map(|(key, _)| *key).take(max as usize).collect();
        for key in &ended {
            state.webhook_deliveries.remove(key);
        }
        let events = state.events.get_mut(&tenant).map_or(0, |of_tenant| of_tenant.purge(before, max));
        Ok(events + u32::try_from(ended.len()).unwrap_or(u32::MAX))
    }

    fn version(&self) -> u64 {
        self.events_changed.version()
    }

    async fn changed(&self, seen: u64) -> u64 {
        self.events_changed.changed(seen).await
    }

    fn version_of(&self, tenant: TenantId) -> u64 {
        self.messages_changed.version(tenant)
    }

    async fn changed_of(&self, tenant: TenantId, seen: u64) -> u64 {
        self.messages_changed.changed(tenant, seen).await
    }
}

impl State {
    /// Whether these events can be added.
    pub(super) fn check_events(&self, tenant: TenantId, events: &[NewEvent]) -> Result<(), StoreError> {
        if !events.is_empty() && !self.tenants.contains_key(&tenant) {
            return Err(StoreError::new(StoreErrorKind::NotFound, "accept", tenant));
        }
        let mut new = HashSet::new();
        let known = self.events.get(&tenant).map(|of_tenant| &of_tenant.ids);
        let twice =
            events.iter().find(|event| known.is_some_and(|ids| ids.contains(&event.id)) || !new.insert(event.id));
        twice.map_or(Ok(()), |event| Err(StoreError::new(StoreErrorKind::AlreadyExists, "accept", event.id)))
    }
}

impl TenantEvents {
    pub(super) fn add(&mut self, events: Vec<NewEvent>) {
        for NewEvent { id, kind, at, data } in events {
            self.span.newest += 1;
            let position = self.span.newest;
            self.ids.insert(id);
            self.events.insert(position, Event { position, id, kind, at, data });
        }
    }

    fn purge(&mut self, before: Timestamp, max: u32) -> u32 {
        let oldest = self.events.values().take(max as usize).filter(|event| event.at < before);
        let doomed: Vec<_> = oldest.map(|event| (event.position, event.id)).collect();
        for (position, id) in &doomed {
            self.events.remove(position);
            self.ids.remove(id);
            self.span.dropped = self.span.dropped.max(*position);
        }
        u32::try_from(doomed.len()).unwrap_or(u32::MAX)
    }
}
