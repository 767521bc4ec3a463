//! Events, webhooks and hooks that fail on demand.

use async_trait::async_trait;
use mairust_core::{HookId, JobId, TenantId, Timestamp, WebhookDeliveryId, WebhookId};
use serde_json::Value;

use super::UnreliableStorage;
use crate::backend::StorageBackend;
use crate::error::StoreError;
use crate::event::{Event, EventLog, EventPage, EventQuery, EventSpan};
use crate::hook::{
    AwaitedResult, HookBinding, HookChange, HookHealth, HookInvocation, HookInvocationQuery, HookStore, NewHookBinding,
    NewHookHealth,
};
use crate::message::Page;
use crate::queue::NewJob;
use crate::webhook::{
    NewWebhook, NewWebhookDelivery, Webhook, WebhookAdvance, WebhookChange, WebhookDelivery, WebhookDeliveryQuery,
    Webhooks,
};

unreliable! { EventLog, events {
    async fn list(&self, tenant: TenantId, query: &EventQuery) -> EventPage;
    async fn at(&self, tenant: TenantId, position: u64) -> Option<Event>;
    async fn span(&self, tenant: TenantId) -> EventSpan;
    async fn tenants_to_purge(&self, before: Timestamp) -> Vec<TenantId>;
    async fn purge(&self, tenant: TenantId, before: Timestamp, max: u32) -> u32;
}
    fn version(&self) -> u64 {
        self.inner.events().version()
    }
    async fn changed(&self, seen: u64) -> u64 {
        self.inner.events().changed(seen).await
    }
    fn version_of(&self, tenant: TenantId) -> u64 {
        self.inner.events().version_of(tenant)
    }
    async fn changed_of(&self, tenant: TenantId, seen: u64) -> u64 {
        self.inner.events().changed_of(tenant, seen).await
    }
}

unreliable! { Webhooks, webhooks {
    async fn create(&self, tenant: TenantId, new: NewWebhook) -> Webhook;
    async fn list(&self, tenant: TenantId) -> Vec<Webhook>;
    async fn get(&self, tenant: TenantId, id: WebhookId) -> Option<Webhook>;
    async fn change(&self, tenant: TenantId, id: WebhookId, change: &WebhookChange) -> Webhook;
    async fn delete(&self, tenant: TenantId, id: WebhookId) -> ();
    async fn behind(&self, limit: u32) -> Vec<Webhook>;
    async fn advance(&self, tenant: TenantId, advance: WebhookAdvance) -> bool;
    async fn deliver(
        &self, tenant: TenantId, webhook: WebhookId, delivery: NewWebhookDelivery, job: NewJob
    ) -> ();
    async fn list_deliveries(
        &self, tenant: TenantId, webhook: WebhookId, query: &WebhookDeliveryQuery
    ) -> Page<WebhookDelivery>;
    async fn delivery(&self, tenant: TenantId, id: WebhookDeliveryId) -> Option<WebhookDelivery>;
    async fn record(&self, delivery: &WebhookDelivery) -> bool;
    async fn replay(&self, tenant: TenantId, id: WebhookDeliveryId, job: NewJob) -> ();
} }

unreliable! { HookStore, hooks {
    async fn revision(&self) -> u64;
    async fn enabled(&self) -> Vec<HookBinding>;
    async fn create(&self, tenant: TenantId, new: NewHookBinding) -> HookBinding;
    async fn list(&self, tenant: TenantId) -> Vec<HookBinding>;
    async fn get(&self, tenant: TenantId, id: HookId) -> Option<HookBinding>;
    async fn change(&self, tenant: TenantId, id: HookId, change: &HookChange) -> HookBinding;
    async fn delete(&self, tenant: TenantId, id: HookId, expected: Option<u64>) -> ();
    async fn record(&self, invocations: Vec<HookInvocation>) -> ();
    async fn invocation(&self, tenant: TenantId, id: &str) -> Option<HookInvocation>;
    async fn invocations(&self, tenant: TenantId, query: &HookInvocationQuery) -> Page<HookInvocation>;
    async fn record_health(&self, results: Vec<NewHookHealth>) -> ();
    async fn health(&self, tenant: TenantId, hook: Option<HookId>) -> Vec<HookHealth>;
    async fn await_result(&self, awaited: AwaitedResult) -> ();
    async fn awaited(&self, tenant: TenantId, job: JobId) -> Option<AwaitedResult>;
    async fn awaited_with(&self, token_hash: &[u8; 32]) -> Option<AwaitedResult>;
    async fn put_off(&self, tenant: TenantId, job: JobId, until: Timestamp) -> bool;
    async fn settle(&self, tenant: TenantId, job: JobId, result: Value, now: Timestamp) -> bool;
    async fn wake_settled(&self, tenant: TenantId, job: JobId, now: Timestamp) -> ();
    async fn forget_awaited(&self, tenant: TenantId, job: JobId) -> ();
    async fn forget_expired(&self, now: Timestamp, max: u32) -> u32;
    async fn tenants_to_forget(&self, before: Timestamp) -> Vec<TenantId>;
    async fn forget(&self, tenant: TenantId, before: Timestamp, max: u32) -> u32;
} }
