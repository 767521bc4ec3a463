//! Webhooks and their deliveries.

use async_trait::async_trait;
use mairust_core::{EventId, TenantId, Timestamp, WebhookDeliveryId, WebhookId};

use super::changes::Change;
use super::codec;
use super::driver::{Columns, Json, Query, Row, Rows, Scope, Transaction, failed};
use super::queue::insert_jobs;
use super::storage::Parts;
use crate::error::{StoreError, StoreErrorKind};
use crate::message::Page;
use crate::queue::NewJob;
use crate::sql::statement;
use crate::webhook::{
    MAX_WEBHOOKS, NewWebhook, NewWebhookDelivery, Webhook, WebhookAdvance, WebhookAttempt, WebhookChange,
    WebhookDelivery, WebhookDeliveryQuery, WebhookDeliveryState, WebhookState, Webhooks, too_many,
};

#[async_trait]
impl Webhooks for Parts {
    async fn create(&self, tenant: TenantId, new: NewWebhook) -> Result<Webhook, StoreError> {
        const CREATE: &str = "create webhook";
        new.check()?;
        let query = Query::new(statement::webhook::INSERT)
            .bind(tenant.as_bytes())
            .bind(new.id.as_bytes())
            .bind(new.url.as_str())
            .bind(new.description.as_str())
            .bind(kinds(&new.kinds))
            .bind(self.clock.now())
            .bind(MAX_WEBHOOKS);
        let rows = self.database.fetch_changed(tenant, query).await.map_err(failed(CREATE, new.id))?;
        rows.first().map_or_else(|| Err(too_many()), webhook)
    }

    async fn list(&self, tenant: TenantId) -> Result<Vec<Webhook>, StoreError> {
        let mut query = Query::new(statement::webhook::SELECT).bind(tenant.as_bytes());
        query.push("ORDER BY id");
        let rows = self.database.fetch_all(tenant, query).await.map_err(failed("list webhooks", tenant))?;
        rows.iter().map(webhook).collect()
    }

    async fn get(&self, tenant: TenantId, id: WebhookId) -> Result<Option<Webhook>, StoreError> {
        let mut query = Query::new(statement::webhook::SELECT).bind(tenant.as_bytes());
        query.push("AND id = ").push_bind(id.as_bytes());
        let found = self.database.fetch_optional(tenant, query).await.map_err(failed("read webhook", id))?;
        found.as_ref().map(webhook).transpose()
    }

    async fn change(&self, tenant: TenantId, id: WebhookId, change: &WebhookChange) -> Result<Webhook, StoreError> {
        const CHANGE: &str = "change webhook";
        change.check()?;
        let state = change.state.as_ref();
        let query = Query::new(statement::webhook::CHANGE)
            .bind(tenant.as_bytes())
            .bind(id.as_bytes())
            .bind(change.url.as_deref())
            .bind(change.description.as_deref())
            .bind(change.kinds.as_deref().map(kinds))
            .bind(state.map(WebhookState::is_enabled))
            .bind(state.and_then(WebhookState::reason))
            .bind(self.clock.now());
        let rows = self.database.fetch_changed(tenant, query).await.map_err(failed(CHANGE, id))?;
        rows.first().map_or_else(|| Err(StoreError::new(StoreErrorKind::NotFound, CHANGE, id)), webhook)
    }

    async fn delete(&self, tenant: TenantId, id: WebhookId) -> Result<(), StoreError> {
        const DELETE: &str = "delete webhook";
        let error = || failed(DELETE, id);
        let mut transaction = self.database.begin(tenant).await.map_err(error())?;
        let mut done = 0;
        for text in statement::webhook::DELETE {
            let query = Query::new(text).bind(tenant.as_bytes()).bind(id.as_bytes());
            done = transaction.execute(query).await.map_err(error())?;
        }
        if done == 0 {
            return Err(StoreError::new(StoreErrorKind::NotFound, DELETE, id));
        }
        transaction.commit().await.map_err(error())
    }

    async fn behind(&self, limit: u32) -> Result<Vec<Webhook>, StoreError> {
        let query = Query::new(statement::webhook::BEHIND).bind(limit);
        let rows = self.database.fetch_all(Scope::All, query).await.map_err(failed("list webhooks", "behind"))?;
        rows.iter().map(webhook).collect()
    }

    async fn advance(&self, tenant: TenantId, advance: WebhookAdvance) -> Result<bool, StoreError> {
        const ADVANCE: &str = "advance webhook";
        let WebhookAdvance { webhook, from, to, deliveries, jobs } = advance;
        let mut transaction = self.database.begin(tenant).await.map_err(failed(ADVANCE, webhook))?;
        let query = Query::new(statement::webhook::ADVANCE).bind(tenant.as_bytes()).bind(webhook.as_bytes());
        let query = query.bind(from).bind(to);
        if transaction.execute(query).await.map_err(failed(ADVANCE, webhook))? == 0 {
            return Ok(false);
        }
        let added = insert_deliveries(tenant, webhook, &deliveries, self.clock.now());
        transaction.execute_all(added).await.map_err(failed(ADVANCE, webhook))?;
        self.add_jobs_and_commit(transaction, ADVANCE, &jobs).await?;
        Ok(true)
    }

    async fn deliver(
        &self,
        tenant: TenantId,
        webhook: WebhookId,
        delivery: NewWebhookDelivery,
        job: NewJob,
    ) -> Result<(), StoreError> {
        const DELIVER: &str = "deliver to webhook";
        let mut transaction = self.database.begin(tenant).await.map_err(failed(DELIVER, webhook))?;
        let added = insert_deliveries(tenant, webhook, &[delivery], self.clock.now());
        transaction.execute_all(added).await.map_err(failed(DELIVER, webhook))?;
        self.add_jobs_and_commit(transaction, DELIVER, &[job]).await
    }

    async fn list_deliveries(
        &self,
        tenant: TenantId,
        webhook: WebhookId,
        query: &WebhookDeliveryQuery,
    ) -> Result<Page<WebhookDelivery>, StoreError> {
        let mut select = Query::new(statement::webhook::SELECT_DELIVERIES).bind(tenant.as_bytes());
        select.push("AND webhook_id = ").push_bind(webhook.as_bytes());
        if let Some(state) = query.state {
            select.push(" AND state = ").push_bind(state.as_str());
        }
        if let Some(before) = query.before {
            select.push(" AND id < ").push_bind(before.as_bytes());
        }
        select.push(" ORDER BY id DESC LIMIT ").push_bind(query.limit.saturating_add(1));
        let rows = self.database.fetch_all(tenant, select).await.map_err(failed("list deliveries", webhook))?;
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let items = rows.iter().take(limit).map(delivery).collect::<Result<_, _>>()?;
        Ok(Page { items, has_more: rows.len() > limit })
    }

    async fn delivery(&self, tenant: TenantId, id: WebhookDeliveryId) -> Result<Option<WebhookDelivery>, StoreError> {
        let mut query = Query::new(statement::webhook::SELECT_DELIVERIES).bind(tenant.as_bytes());
        query.push("AND id = ").push_bind(id.as_bytes());
        let found = self.database.fetch_optional(tenant, query).await.map_err(failed("read delivery", id))?;
        found.as_ref().map(delivery).transpose()
    }

    async fn record(&self, delivery: &WebhookDelivery) -> Result<bool, StoreError> {
        let query = Query::new(statement::webhook::RECORD)
            .bind(delivery.tenant.as_bytes())
            .bind(delivery.id.as_bytes())
            .bind(delivery.state.as_str())
            .bind(delivery.tries)
            .bind(Json(WebhookAttempt::to_json(&delivery.attempts)))
            .bind(delivery.next_attempt)
            .bind(self.clock.now());
        let done =
            self.database.execute(delivery.tenant, query).await.map_err(failed("record delivery", delivery.id))?;
        Ok(done > 0)
    }

    async fn replay(&self, tenant: TenantId, id: WebhookDeliveryId, job: NewJob) -> Result<(), StoreError> {
        const REPLAY: &str = "replay delivery";
        let mut transaction = self.database.begin(tenant).await.map_err(failed(REPLAY, id))?;
        let query = Query::new(statement::webhook::REPLAY).bind(tenant.as_bytes()).bind(id.as_bytes());
        let done = transaction.execute(query.bind(self.clock.now())).await.map_err(failed(REPLAY, id))?;
        if done == 0 {
            drop(transaction);
            let is_there = self.delivery(tenant, id).await?.is_some();
            let kind = if is_there { StoreErrorKind::Conflict } else { StoreErrorKind::NotFound };
            return Err(StoreError::new(kind, REPLAY, id));
        }
        self.add_jobs_and_commit(transaction, REPLAY, &[job]).await
    }
}

impl Parts {
    async fn add_jobs_and_commit(
        &self,
        mut transaction: Transaction,
        operation: &'static str,
        jobs: &[NewJob],
    ) -> Result<(), StoreError> {
        transaction.execute_all(insert_jobs(jobs, self.clock.now())).await.map_err(failed(operation, "add jobs"))?;
        self.changes.tell(&mut transaction, Change::Queue).await.map_err(failed(operation, "notify"))?;
        transaction.commit().await.map_err(failed(operation, "commit"))?;
        self.changes.announce(Change::Queue);
        Ok(())
    }
}

/// The statements that add deliveries.
fn insert_deliveries(
    tenant: TenantId,
    webhook: WebhookId,
    deliveries: &[NewWebhookDelivery],
    now: Timestamp,
) -> Vec<Query> {
    let mut inserts = Rows::to_insert(statement::webhook::INSERT_DELIVERIES, 11);
    for new in deliveries {
        inserts
            .bind(tenant.as_bytes())
            .bind(new.id.as_bytes())
            .bind(webhook.as_bytes())
            .bind(new.event.as_bytes())
            .bind(new.position)
            .bind(new.kind.as_str())
            .bind(WebhookDeliveryState::Pending.as_str())
            .bind(Json(WebhookAttempt::to_json(&[])))
            .bind(now)
            .bind(now)
            .bind(now);
    }
    inserts.queries()
}

fn kinds(kinds: &[String]) -> Json {
    codec::texts(kinds.iter().map(String::as_str))
}

fn webhook(row: &Row) -> Result<Webhook, StoreError> {
    let columns = Columns::new("read webhook", row);
    let reason: Option<String> = columns.value("disabled_because")?;
    Ok(Webhook {
        id: WebhookId::from_bytes(columns.id("id")?),
        tenant: TenantId::from_bytes(columns.id("tenant_id")?),
        url: columns.value("url")?,
        description: columns.value("description")?,
        kinds: columns.json("kinds")?,
        state: reason.map_or(WebhookState::Enabled, WebhookState::Disabled),
        position: columns.number("position")?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
    })
}

fn delivery(row: &Row) -> Result<WebhookDelivery, StoreError> {
    let columns = Columns::new("read delivery", row);
    let attempts: serde_json::Value = columns.json("attempts")?;
    Ok(WebhookDelivery {
        id: WebhookDeliveryId::from_bytes(columns.id("id")?),
        tenant: TenantId::from_bytes(columns.id("tenant_id")?),
        webhook: WebhookId::from_bytes(columns.id("webhook_id")?),
        event: EventId::from_bytes(columns.id("event_id")?),
        position: columns.number("position")?,
        kind: columns.value("kind")?,
        state: columns.parsed("state", WebhookDeliveryState::parse)?,
        tries: columns.number("tries")?,
        attempts: WebhookAttempt::from_json(&attempts).ok_or_else(|| columns.corrupt("attempts"))?,
        next_attempt: columns.optional_time("next_attempt_at")?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
    })
}
