//! Hooks behind a shared pointer.

use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::{HookId, JobId, TenantId, Timestamp};
use serde_json::Value;

use super::{
    AwaitedResult, HookBinding, HookChange, HookHealth, HookInvocation, HookInvocationQuery, HookStore, NewHookBinding,
    NewHookHealth,
};
use crate::error::StoreError;
use crate::message::Page;

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: HookStore + ?Sized> HookStore for Arc<T> {
    async fn revision(&self) -> Result<u64, StoreError> {
        (**self).revision().await
    }
    async fn enabled(&self) -> Result<Vec<HookBinding>, StoreError> {
        (**self).enabled().await
    }
    async fn create(&self, tenant: TenantId, new: NewHookBinding) -> Result<HookBinding, StoreError> {
        (**self).create(tenant, new).await
    }
    async fn list(&self, tenant: TenantId) -> Result<Vec<HookBinding>, StoreError> {
        (**self).list(tenant).await
    }
    async fn get(&self, tenant: TenantId, id: HookId) -> Result<Option<HookBinding>, StoreError> {
        (**self).get(tenant, id).await
    }
    async fn change(&self, tenant: TenantId, id: HookId, change: &HookChange) -> Result<HookBinding, StoreError> {
        (**self).change(tenant, id, change).await
    }
    async fn delete(&self, tenant: TenantId, id: HookId, expected: Option<u64>) -> Result<(), StoreError> {
        (**self).delete(tenant, id, expected).await
    }
    async fn record(&self, invocations: Vec<HookInvocation>) -> Result<(), StoreError> {
        (**self).record(invocations).await
    }
    async fn invocation(&self, tenant: TenantId, id: &str) -> Result<Option<HookInvocation>, StoreError> {
        (**self).invocation(tenant, id).await
    }
    async fn invocations(
        &self,
        tenant: TenantId,
        query: &HookInvocationQuery,
    ) -> Result<Page<HookInvocation>, StoreError> {
        (**self).invocations(tenant, query).await
    }
    async fn record_health(&self, results: Vec<NewHookHealth>) -> Result<(), StoreError> {
        (**self).record_health(results).await
    }
    async fn health(&self, tenant: TenantId, hook: Option<HookId>) -> Result<Vec<HookHealth>, StoreError> {
        (**self).health(tenant, hook).await
    }
    async fn await_result(&self, awaited: AwaitedResult) -> Result<(), StoreError> {
        (**self).await_result(awaited).await
    }
    async fn awaited(&self, tenant: TenantId, job: JobId) -> Result<Option<AwaitedResult>, StoreError> {
        (**self).awaited(tenant, job).await
    }
    async fn awaited_with(&self, token_hash: &[u8; 32]) -> Result<Option<AwaitedResult>, StoreError> {
        (**self).awaited_with(token_hash).await
    }
    async fn put_off(&self, tenant: TenantId, job: JobId, until: Timestamp) -> Result<bool, StoreError> {
        (**self).put_off(tenant, job, until).await
    }
    async fn settle(&self, tenant: TenantId, job: JobId, result: Value, now: Timestamp) -> Result<bool, StoreError> {
        (**self).settle(tenant, job, result, now).await
    }
    async fn wake_settled(&self, tenant: TenantId, job: JobId, now: Timestamp) -> Result<(), StoreError> {
        (**self).wake_settled(tenant, job, now).await
    }
    async fn forget_awaited(&self, tenant: TenantId, job: JobId) -> Result<(), StoreError> {
        (**self).forget_awaited(tenant, job).await
    }
    async fn forget_expired(&self, now: Timestamp, max: u32) -> Result<u32, StoreError> {
        (**self).forget_expired(now, max).await
    }
    async fn tenants_to_forget(&self, before: Timestamp) -> Result<Vec<TenantId>, StoreError> {
        (**self).tenants_to_forget(before).await
    }
    async fn forget(&self, tenant: TenantId, before: Timestamp, max: u32) -> Result<u32, StoreError> {
        (**self).forget(tenant, before, max).await
    }
}
