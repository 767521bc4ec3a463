//! Events.

use std::collections::BTreeMap;

use async_trait::async_trait;
use mairust_core::{EventId, TenantId, Timestamp};

use super::driver::{Columns, Json, Query, Row, Rows, Scope, failed};
use super::storage::Parts;
use crate::error::StoreError;
use crate::event::{Event, EventLog, EventPage, EventQuery, EventSpan, NewEvent};
use crate::sql::statement;

#[async_trait]
impl EventLog for Parts {
    async fn list(&self, tenant: TenantId, query: &EventQuery) -> Result<EventPage, StoreError> {
        let mut select = Query::new(statement::event::SELECT_EVENTS).bind(tenant.as_bytes());
        select.push("> ").push_bind(query.after);
        for (index, kind) in query.kinds.iter().enumerate() {
            select.push(if index == 0 { " AND kind IN (" } else { ", " }).push_bind(kind.as_str());
        }
        select.push(if query.kinds.is_empty() { "" } else { ")" });
        select.push(" ORDER BY position LIMIT ").push_bind(query.limit.saturating_add(1));
        let rows = self.database.fetch_all(tenant, select).await.map_err(failed("list events", tenant))?;
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let items = rows.iter().take(limit).map(event).collect::<Result<_, _>>()?;
        Ok(EventPage { items, has_more: rows.len() > limit })
    }

    async fn at(&self, tenant: TenantId, position: u64) -> Result<Option<Event>, StoreError> {
        let mut select = Query::new(statement::event::SELECT_EVENTS).bind(tenant.as_bytes());
        select.push("= ").push_bind(position);
        let found = self.database.fetch_optional(tenant, select).await.map_err(failed("read event", tenant))?;
        found.as_ref().map(event).transpose()
    }

    async fn span(&self, tenant: TenantId) -> Result<EventSpan, StoreError> {
        let query = Query::new(statement::event::SPAN).bind(tenant.as_bytes());
        let found = self.database.fetch_optional(tenant, query).await.map_err(failed("read events", tenant))?;
        let Some(row) = found else { return Ok(EventSpan::default()) };
        let columns = Columns::new("read events", &row);
        Ok(EventSpan { dropped: columns.number("dropped")?, newest: columns.number("position")? })
    }

    async fn tenants_to_purge(&self, before: Timestamp) -> Result<Vec<TenantId>, StoreError> {
        let query = Query::new(statement::event::TENANTS_TO_PURGE).bind(before);
        let rows = self.database.fetch_all(Scope::All, query).await.map_err(failed("purge events", "find"))?;
        rows.iter().map(|row| Columns::new("purge events", row).id("tenant_id").map(TenantId::from_bytes)).collect()
    }

    async fn purge(&self, tenant: TenantId, before: Timestamp, max: u32) -> Result<u32, StoreError> {
        let error = || failed("purge events", tenant);
        let about = |text| Query::new(text).bind(tenant.as_bytes());
        let mut transaction = self.database.begin(tenant).await.map_err(error())?;
        let query = about(statement::event::PURGE_DELIVERIES).bind(before).bind(max);
        let deliveries = transaction.execute(query).await.map_err(error())?;
        let query = about(statement::event::PURGE_EVENTS).bind(before).bind(max);
        let rows = transaction.fetch_all(query).await.map_err(error())?;
        let mut dropped = 0;
        for row in &rows {
            dropped = dropped.max(Columns::new("purge events", row).number::<u64>("position")?);
        }
        if dropped > 0 {
            let query = about(statement::event::SET_DROPPED).bind(dropped);
            transaction.execute(query).await.map_err(error())?;
        }
        transaction.commit().await.map_err(error())?;
        let events = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        Ok(events.saturating_add(u32::try_from(deliveries).unwrap_or(u32::MAX)))
    }

    fn version(&self) -> u64 {
        self.changes.events.version()
    }

    async fn changed(&self, seen: u64) -> u64 {
        self.changes.events.changed(seen).await
    }

    fn version_of(&self, tenant: TenantId) -> u64 {
        self.changes.messages.version(tenant)
    }

    async fn changed_of(&self, tenant: TenantId, seen: u64) -> u64 {
        self.changes.messages.changed(tenant, seen).await
    }
}

/// The statements that add events. Whoever adds some for a tenant keeps others from doing so until the transaction
/// ends.
pub(super) fn insert_events<'a>(events: impl Iterator<Item = (TenantId, &'a [NewEvent])>) -> Vec<Query> {
    let mut by_tenant: BTreeMap<TenantId, Vec<&NewEvent>> = BTreeMap::new();
    for (tenant, events) in events {
        if !events.is_empty() {
            by_tenant.entry(tenant).or_default().extend(events);
        }
    }
    let (head, tail) = statement::event::TAKE_POSITIONS;
    let mut positions = Rows::new(head, 2, tail);
    let (head, tail) = statement::event::INSERT_EVENTS;
    let mut inserts = Rows::new(head, 6, tail);
    for (tenant, events) in by_tenant {
        let count = events.len() as u64;
        // In the order of tenants, so that nobody waits for somebody who waits for him.
        positions.bind(tenant.as_bytes()).bind(count);
        for (left, event) in (1..=count).rev().zip(events) {
            inserts
                .bind(tenant.as_bytes())
                .bind(left)
                .bind(event.id.as_bytes())
                .bind(event.kind.as_str())
                .bind(event.at)
                .bind(Json(event.data.clone()));
        }
    }
    let mut queries = positions.queries();
    queries.extend(inserts.queries());
    queries
}

fn event(row: &Row) -> Result<Event, StoreError> {
    let columns = Columns::new("read event", row);
    Ok(Event {
        position: columns.number("position")?,
        id: EventId::from_bytes(columns.id("id")?),
        kind: columns.value("kind")?,
        at: columns.time("occurred_at")?,
        data: columns.json("data")?,
    })
}
