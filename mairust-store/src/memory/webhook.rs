//! Webhooks and their deliveries, in memory.

use async_trait::async_trait;
use mairust_core::{TenantId, Timestamp, WebhookDeliveryId, WebhookId};

use super::directory::not_found;
use super::{MemoryStorage, State};
use crate::error::{StoreError, StoreErrorKind};
use crate::message::Page;
use crate::queue::NewJob;
use crate::webhook::{
    MAX_WEBHOOKS, NewWebhook, NewWebhookDelivery, Webhook, WebhookAdvance, WebhookChange, WebhookDelivery,
    WebhookDeliveryQuery, WebhookDeliveryState, WebhookState, Webhooks, too_many,
};

#[async_trait]
impl Webhooks for MemoryStorage {
    async fn create(&self, tenant: TenantId, new: NewWebhook) -> Result<Webhook, StoreError> {
        new.check()?;
        let mut state = self.state();
        if !state.tenants.contains_key(&tenant) {
            return Err(not_found("create webhook", tenant));
        }
        let count = state.webhooks.keys().filter(|(owner, _)| *owner == tenant).count();
        if count >= MAX_WEBHOOKS as usize {
            return Err(too_many());
        }
        if state.webhooks.contains_key(&(tenant, new.id)) {
            return Err(StoreError::new(StoreErrorKind::AlreadyExists, "create webhook", new.id));
        }
        let webhook = Webhook::made(tenant, new, state.newest(tenant), self.clock.now());
        state.webhooks.insert((tenant, webhook.id), webhook.clone());
        Ok(webhook)
    }

    async fn list(&self, tenant: TenantId) -> Result<Vec<Webhook>, StoreError> {
        let state = self.state();
        Ok(state.webhooks.values().filter(|webhook| webhook.tenant == tenant).cloned().collect())
    }

    async fn get(&self, tenant: TenantId, id: WebhookId) -> Result<Option<Webhook>, StoreError> {
        Ok(self.state().webhooks.get(&(tenant, id)).cloned())
    }

    async fn change(&self, tenant: TenantId, id: WebhookId, change: &WebhookChange) -> Result<Webhook, StoreError> {
        change.check()?;
        let mut state = self.state();
        let (now, newest) = (self.clock.now(), state.newest(tenant));
        let webhook = state.webhooks.get_mut(&(tenant, id)).ok_or_else(|| not_found("change webhook", id))?;
        let WebhookChange { url, description, kinds, state } = change.clone();
        if state == Some(WebhookState::Enabled) && !webhook.state.is_enabled() {
            webhook.position = newest;
        }
        webhook.url = url.unwrap_or_else(|| webhook.url.clone());
        webhook.description = description.unwrap_or_else(|| webhook.description.clone());
        webhook.kinds = kinds.unwrap_or_else(|| webhook.kinds.clone());
        webhook.state = state.unwrap_or_else(|| webhook.state.clone());
        webhook.updated_at = now;
        Ok(webhook.clone())
    }

    async fn delete(&self, tenant: TenantId, id: WebhookId) -> Result<(), StoreError> {
        let mut state = self.state();
        state.webhooks.remove(&(tenant, id)).ok_or_else(|| not_found("delete webhook", id))?;
        state.webhook_deliveries.retain(|_, delivery| (delivery.tenant, delivery.webhook) != (tenant, id));
        Ok(())
    }

    async fn behind(&self, limit: u32) -> Result<Vec<Webhook>, StoreError> {
        let state = self.state();
        let is_behind =
            |webhook: &&Webhook| webhook.state.is_enabled() && webhook.position < state.newest(webhook.tenant);
        Ok(state.webhooks.values().filter(is_behind).take(limit as usize).cloned().collect())
    }

    async fn advance(&self, tenant: TenantId, advance: WebhookAdvance) -> Result<bool, StoreError> {
        const ADVANCE: &str = "advance webhook";
        let WebhookAdvance { webhook, from, to, deliveries, jobs } = advance;
        {
            let mut state = self.state();
            let now = self.clock.now();
            state.check_jobs(ADVANCE, &jobs)?;
            state.check_deliveries(ADVANCE, tenant, &deliveries)?;
            match state.webhooks.get_mut(&(tenant, webhook)) {
                Some(row) if row.state.is_enabled() && row.position == from => row.position = to,
                _ => return Ok(false),
            }
            for new in deliveries {
                let delivery = WebhookDelivery::made(tenant, webhook, new, now);
                state.webhook_deliveries.insert((tenant, delivery.id), delivery);
            }
            state.jobs.add(jobs, now);
        }
        self.queue_changed.bump();
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
        {
            let mut state = self.state();
            let now = self.clock.now();
            if !state.webhooks.contains_key(&(tenant, webhook)) {
                return Err(not_found(DELIVER, webhook));
            }
            state.check_jobs(DELIVER, std::slice::from_ref(&job))?;
            state.check_deliveries(DELIVER, tenant, std::slice::from_ref(&delivery))?;
            let delivery = WebhookDelivery::made(tenant, webhook, delivery, now);
            state.webhook_deliveries.insert((tenant, delivery.id), delivery);
            state.jobs.add(vec![job], now);
        }
        self.queue_changed.bump();
        Ok(())
    }

    async fn list_deliveries(
        &self,
        tenant: TenantId,
        webhook: WebhookId,
        query: &WebhookDeliveryQuery,
    ) -> Result<Page<WebhookDelivery>, StoreError> {
        let state = self.state();
        let mut found = state.webhook_deliveries.values().rev().filter(|delivery| {
            (delivery.tenant, delivery.webhook) == (tenant, webhook)
                && query.state.is_none_or(|state| state == delivery.state)
                && query.before.is_none_or(|before| delivery.id < before)
        });
        let items = found.by_ref().take(query.limit as usize).cloned().collect();
        Ok(Page { items, has_more: found.next().is_some() })
    }

    async fn delivery(&self, tenant: TenantId, id: WebhookDeliveryId) -> Result<Option<WebhookDelivery>, StoreError> {
        Ok(self.state().webhook_deliveries.get(&(tenant, id)).cloned())
    }

    async fn record(&self, delivery: &WebhookDelivery) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let mut state = self.state();
        let kept = state.webhook_deliveries.get_mut(&(delivery.tenant, delivery.id));
        let Some(kept) = kept.filter(|kept| kept.state == WebhookDeliveryState::Pending) else { return Ok(false) };
        kept.state = delivery.state;
        kept.tries = delivery.tries;
        kept.attempts.clone_from(&delivery.attempts);
        kept.next_attempt = delivery.next_attempt;
        kept.updated_at = now;
        Ok(true)
    }

    async fn replay(&self, tenant: TenantId, id: WebhookDeliveryId, job: NewJob) -> Result<(), StoreError> {
        const REPLAY: &str = "replay delivery";
        {
            let mut state = self.state();
            let now = self.clock.now();
            state.check_jobs(REPLAY, std::slice::from_ref(&job))?;
            let kept = state.webhook_deliveries.get_mut(&(tenant, id)).ok_or_else(|| not_found(REPLAY, id))?;
            if kept.state == WebhookDeliveryState::Pending {
                return Err(StoreError::new(StoreErrorKind::Conflict, REPLAY, id));
            }
            (kept.state, kept.tries) = (WebhookDeliveryState::Pending, 0);
            (kept.next_attempt, kept.updated_at) = (Some(now), now);
            state.jobs.add(vec![job], now);
        }
        self.queue_changed.bump();
        Ok(())
    }
}

impl WebhookDelivery {
    /// Whether nothing has become of it since this moment, and nothing will.
    pub(super) fn has_ended_before(&self, moment: Timestamp) -> bool {
        self.state != WebhookDeliveryState::Pending && self.updated_at < moment
    }
}

impl State {
    /// The position of the newest event of a tenant.
    fn newest(&self, tenant: TenantId) -> u64 {
        self.events.get(&tenant).map_or(0, |of_tenant| of_tenant.span.newest)
    }

    /// Whether these deliveries can be added.
    fn check_deliveries(
        &self,
        operation: &'static str,
        tenant: TenantId,
        deliveries: &[NewWebhookDelivery],
    ) -> Result<(), StoreError> {
        let known = deliveries.iter().find(|new| self.webhook_deliveries.contains_key(&(tenant, new.id)));
        known.map_or(Ok(()), |new| Err(StoreError::new(StoreErrorKind::AlreadyExists, operation, new.id)))
    }
}
