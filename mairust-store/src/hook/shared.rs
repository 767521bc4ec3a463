//! Hooks behind a shared pointer.

use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::{HookId, TenantId, Timestamp};

use super::{HookBinding, HookChange, HookInvocation, HookInvocationQuery, HookStore, NewHookBinding};
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
    async fn tenants_to_forget(&self, before: Timestamp) -> Result<Vec<TenantId>, StoreError> {
        (**self).tenants_to_forget(before).await
    }
    async fn forget(&self, tenant: TenantId, before: Timestamp, max: u32) -> Result<u32, StoreError> {
        (**self).forget(tenant, before, max).await
    }
}
