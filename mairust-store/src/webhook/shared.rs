//! Webhooks behind a shared pointer.

use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::{TenantId, WebhookDeliveryId, WebhookId};

use super::{
    NewWebhook, NewWebhookDelivery, Webhook, WebhookAdvance, WebhookChange, WebhookDelivery, WebhookDeliveryQuery,
    Webhooks,
};
use crate::error::StoreError;
use crate::message::Page;
use crate::queue::NewJob;

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Webhooks + ?Sized> Webhooks for Arc<T> {
    async fn create(&self, tenant: TenantId, new: NewWebhook) -> Result<Webhook, StoreError> {
        (**self).create(tenant, new).await
    }
    async fn list(&self, tenant: TenantId) -> Result<Vec<Webhook>, StoreError> {
        (**self).list(tenant).await
    }
    async fn get(&self, tenant: TenantId, id: WebhookId) -> Result<Option<Webhook>, StoreError> {
        (**self).get(tenant, id).await
    }
    async fn change(&self, tenant: TenantId, id: WebhookId, change: &WebhookChange) -> Result<Webhook, StoreError> {
        (**self).change(tenant, id, change).await
    }
    async fn delete(&self, tenant: TenantId, id: WebhookId) -> Result<(), StoreError> {
        (**self).delete(tenant, id).await
    }
    async fn behind(&self, limit: u32) -> Result<Vec<Webhook>, StoreError> {
        (**self).behind(limit).await
    }
    async fn advance(&self, tenant: TenantId, advance: WebhookAdvance) -> Result<bool, StoreError> {
        (**self).advance(tenant, advance).await
    }
    async fn deliver(
        &self,
        tenant: TenantId,
        webhook: WebhookId,
        delivery: NewWebhookDelivery,
        job: NewJob,
    ) -> Result<(), StoreError> {
        (**self).deliver(tenant, webhook, delivery, job).await
    }
    async fn list_deliveries(
        &self,
        tenant: TenantId,
        webhook: WebhookId,
        query: &WebhookDeliveryQuery,
    ) -> Result<Page<WebhookDelivery>, StoreError> {
        (**self).list_deliveries(tenant, webhook, query).await
    }
    async fn delivery(&self, tenant: TenantId, id: WebhookDeliveryId) -> Result<Option<WebhookDelivery>, StoreError> {
        (**self).delivery(tenant, id).await
    }
    async fn record(&self, delivery: &WebhookDelivery) -> Result<bool, StoreError> {
        (**self).record(delivery).await
    }
    async fn replay(&self, tenant: TenantId, id: WebhookDeliveryId, job: NewJob) -> Result<(), StoreError> {
        (**self).replay(tenant, id, job).await
    }
}
