//! What operators see of the queue and do with it.

use mairust_core::{JobId, MessageId, TenantId, Timestamp};
use uuid::Uuid;

use super::changes::Change;
use super::delivery::cancel_recipients;
use super::driver::{Columns, Query, Transaction, failed};
use super::storage::Parts;
use crate::error::StoreError;
use crate::queue::{
    DestinationStats, HoldReason, ItemState, Priority, QueueAction, QueueChange, QueueFilter, QueueItem, QueuePosition,
};
use crate::sql::statement;

impl Parts {
    /// Makes jobs due at once that were given up.
    pub(super) async fn retry_buried_jobs(
        &self,
        tenant: TenantId,
        jobs: &[JobId],
        now: Timestamp,
    ) -> Result<u32, StoreError> {
        const RETRY: &str = "retry buried jobs";
        QueueFilter::check_ids(jobs)?;
        let error = || failed(RETRY, tenant);
        let mut transaction = self.database.begin(tenant).await.map_err(error())?;
        let mut query = Query::new(statement::queue::RELEASE_JOBS).bind(tenant.as_bytes()).bind(now);
        query.push(statement::queue::IS_BURIED);
        push_ids(&mut query, jobs);
        let revived = transaction.execute(query).await.map_err(error())?;
        if revived > 0 {
            self.changes.tell(&mut transaction, Change::Queue).await.map_err(error())?;
        }
        transaction.commit().await.map_err(error())?;
        if revived > 0 {
            self.changes.announce(Change::Queue);
        }
        Ok(u32::try_from(revived).unwrap_or(u32::MAX))
    }

    pub(super) async fn find_items(
        &self,
        tenant: TenantId,
        filter: &QueueFilter,
        after: Option<QueuePosition>,
        limit: u32,
    ) -> Result<Vec<QueueItem>, StoreError> {
        let query = select_items(tenant, filter, after, limit)?;
        let rows = self.database.fetch_all(tenant, query).await.map_err(failed("read queue", tenant))?;
        rows.iter().map(|row| item(&Columns::new("read queue", row))).collect()
    }

    /// What a filter lets through is looked at first, and changed then as far as it is still as it was seen: no
    /// row is locked that a worker has.
    pub(super) async fn change_items(
        &self,
        tenant: TenantId,
        (filter, action): (&QueueFilter, &QueueAction),
        now: Timestamp,
        after: Option<QueuePosition>,
        limit: u32,
    ) -> Result<QueueChange, StoreError> {
        let select = select_items(tenant, filter, after, limit)?;
        let error = || failed("change queue", tenant);
        let mut transaction = self.database.begin(tenant).await.map_err(error())?;
        let rows = transaction.fetch_all(select).await.map_err(error())?;
        let items: Vec<_> =
            rows.iter().map(|row| item(&Columns::new("change queue", row))).collect::<Result<_, _>>()?;
        let next = items.last().filter(|_| items.len() >= limit as usize).map(QueueItem::position);
        let (busy, free): (Vec<_>, Vec<_>) = items.iter().partition(|item| item.state.is_busy(now));
        let ids: Vec<_> = free.into_iter().filter(|item| action.applies_to(item.state)).map(|item| item.id).collect();
        let changed = change(&mut transaction, tenant, action, &ids, now).await?;
        // Those that were taken since they were looked at.
        let taken = ids.len() - changed.len();
        if let QueueAction::Cancel { reason } = action {
            for item in items.iter().filter(|item| changed.contains(&item.id)) {
                let about = (item.message, item.destination.as_str());
                cancel_recipients(&mut transaction, tenant, about, reason, now).await?;
            }
        }
        let tells: &[Change] = match action {
            QueueAction::Cancel { .. } => &[Change::Messages(tenant)],
            QueueAction::Hold(_) => &[],
            QueueAction::GiveUp | QueueAction::Release | QueueAction::Reroute(_) | QueueAction::Retry => {
                &[Change::Queue]
            }
        };
        let tells = if changed.is_empty() { &[] } else { tells };
        for what in tells {
            self.changes.tell(&mut transaction, *what).await.map_err(error())?;
        }
        transaction.commit().await.map_err(error())?;
        tells.iter().for_each(|what| self.changes.announce(*what));
        Ok(QueueChange { changed: count(changed.len()), busy: count(busy.len() + taken), next })
    }

    pub(super) async fn count_destinations(
        &self,
        tenant: TenantId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<DestinationStats>, StoreError> {
        let query = Query::new(statement::queue::COUNT_DESTINATIONS).bind(tenant.as_bytes()).bind(now).bind(limit);
        let rows = self.database.fetch_all(tenant, query).await.map_err(failed("count queue", tenant))?;
        rows.iter().map(|row| destination(&Columns::new("count queue", row))).collect()
    }
}

/// Changes those of these items that allow it; their ids.
async fn change(
    transaction: &mut Transaction,
    tenant: TenantId,
    action: &QueueAction,
    ids: &[JobId],
    now: Timestamp,
) -> Result<Vec<JobId>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let begin = |text: &'static str| Query::new(text).bind(tenant.as_bytes()).bind(now);
    let (mut query, guard) = match action {
        QueueAction::Cancel { .. } => (begin(statement::queue::CANCEL_JOBS), ""),
        QueueAction::GiveUp => (begin(statement::queue::GIVE_UP_JOBS), ""),
        QueueAction::Hold(because) => {
            (begin(statement::queue::HOLD_JOBS).bind(because.as_str()), statement::queue::IS_NOT_BURIED)
        }
        QueueAction::Release => (begin(statement::queue::RELEASE_JOBS), statement::queue::IS_HELD),
        QueueAction::Reroute(route) => (begin(statement::queue::REROUTE_JOBS).bind(route.as_deref()), ""),
        QueueAction::Retry => (begin(statement::queue::RELEASE_JOBS), statement::queue::IS_NOT_HELD),
    };
    query.push(statement::queue::NOT_BUSY).push(guard);
    push_ids(&mut query, ids);
    query.push(" RETURNING id");
    let rows = transaction.fetch_all(query).await.map_err(failed("change queue", tenant))?;
    rows.iter().map(|row| Columns::new("change queue", row).id("id").map(JobId::from_bytes)).collect()
}

fn select_items(
    tenant: TenantId,
    filter: &QueueFilter,
    after: Option<QueuePosition>,
    limit: u32,
) -> Result<Query, StoreError> {
    let mut query = Query::new(statement::queue::SELECT_ITEMS).bind(tenant.as_bytes());
    if let Some(ids) = &filter.ids {
        QueueFilter::check_ids(ids)?;
        push_ids(&mut query, ids);
    }
    if let Some(message) = filter.message {
        query.push(" AND message_id = ").push_bind(message.as_bytes());
    }
    if let Some(destination) = &filter.destination {
        query.push(" AND destination = ").push_bind(destination.as_str());
    }
    if let Some(state) = filter.state {
        query.push(" AND state = ").push_bind(state);
    }
    if let Some(reason) = filter.held {
        query.push(" AND held_because = ").push_bind(reason.as_str());
    }
    if let Some(after) = after {
        query.push(" AND (message_id, id) > (").push_bind(after.message.as_bytes());
        query.push(", ").push_bind(after.job.as_bytes()).push(")");
    }
    query.push(statement::queue::IN_ORDER).push_bind(limit);
    Ok(query)
}

fn push_ids(query: &mut Query, ids: &[JobId]) {
    query.push(" AND id IN (");
    for (index, id) in ids.iter().enumerate() {
        query.push(if index == 0 { "" } else { ", " }).push_bind(id.as_bytes());
    }
    query.push(if ids.is_empty() { "NULL)" } else { ")" });
}

fn item(columns: &Columns<'_>) -> Result<QueueItem, StoreError> {
    let message: Uuid = columns.value("message_id")?;
    Ok(QueueItem {
        id: JobId::from_bytes(columns.id("id")?),
        tenant: TenantId::from_bytes(columns.id("tenant_id")?),
        message: MessageId::from_bytes(message.into_bytes()),
        destination: columns.value("destination")?,
        state: state(columns)?,
        priority: columns.parsed("priority", Priority::parse)?,
        attempts: columns.number("attempts")?,
        not_before: columns.time("not_before")?,
        created_at: columns.time("created_at")?,
        last_error: columns.value("last_error")?,
        give_up: columns.value("give_up")?,
        route: columns.value("route")?,
    })
}

fn state(columns: &Columns<'_>) -> Result<ItemState, StoreError> {
    Ok(match columns.value("state")? {
        "buried" => ItemState::Buried,
        "held" => ItemState::Held(columns.parsed("held_because", HoldReason::parse)?),
        "leased" => ItemState::Leased { until: columns.time("lease_until")? },
        "ready" => ItemState::Ready,
        "waiting" => ItemState::Waiting,
        _ => return Err(columns.corrupt("state")),
    })
}

fn destination(columns: &Columns<'_>) -> Result<DestinationStats, StoreError> {
    Ok(DestinationStats {
        destination: columns.value("destination")?,
        ready: columns.number("ready")?,
        waiting: columns.number("waiting")?,
        leased: columns.number("leased")?,
        held: columns.number("held")?,
        buried: columns.number("buried")?,
        oldest: columns.time("oldest")?,
        next_attempt: columns.optional_time("next_attempt")?,
    })
}

fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}
