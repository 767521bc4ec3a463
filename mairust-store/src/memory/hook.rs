//! Hooks and what they did, in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use mairust_core::{HookId, JobId, TenantId, Timestamp};
use serde_json::Value;

use super::directory::not_found;
use super::queue::JobState;
use super::{MemoryStorage, State};
use crate::error::{StoreError, StoreErrorKind};
use crate::hook::{
    AwaitedResult, HEALTH_RESULTS, HookBinding, HookChange, HookHealth, HookHealthResult, HookInvocation,
    HookInvocationQuery, HookStore, MAX_HOOKS, NewHookBinding, NewHookHealth, too_many,
};
use crate::message::Page;

/// The hooks of all tenants.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    revision: u64,
    bindings: BTreeMap<(TenantId, HookId), HookBinding>,
    invocations: BTreeMap<(TenantId, String), HookInvocation>,
    awaited: BTreeMap<(TenantId, JobId), AwaitedResult>,
    health: BTreeMap<(TenantId, HookId), HookHealth>,
}

#[async_trait]
impl HookStore for MemoryStorage {
    async fn revision(&self) -> Result<u64, StoreError> {
        Ok(self.state().hooks.revision)
    }

    async fn enabled(&self) -> Result<Vec<HookBinding>, StoreError> {
        Ok(self.state().hooks.bindings.values().filter(|hook| hook.state.is_enabled()).cloned().collect())
    }

    async fn create(&self, tenant: TenantId, new: NewHookBinding) -> Result<HookBinding, StoreError> {
        new.check()?;
        let mut state = self.state();
        if !state.tenants.contains_key(&tenant) {
            return Err(not_found("bind hook", tenant));
        }
        let of_tenant = || state.hooks.bindings.values().filter(|hook| hook.tenant == tenant);
        if of_tenant().count() >= MAX_HOOKS as usize {
            return Err(too_many());
        }
        if of_tenant().any(|hook| hook.id == new.id || hook.plugin_id == new.plugin_id) {
            return Err(StoreError::new(StoreErrorKind::AlreadyExists, "bind hook", new.plugin_id));
        }
        let hook = HookBinding::made(tenant, new, self.clock.now());
        state.hooks.bindings.insert((tenant, hook.id), hook.clone());
        state.hooks.revision += 1;
        Ok(hook)
    }

    async fn list(&self, tenant: TenantId) -> Result<Vec<HookBinding>, StoreError> {
        Ok(self.state().hooks.bindings.values().filter(|hook| hook.tenant == tenant).cloned().collect())
    }

    async fn get(&self, tenant: TenantId, id: HookId) -> Result<Option<HookBinding>, StoreError> {
        Ok(self.state().hooks.bindings.get(&(tenant, id)).cloned())
    }

    async fn change(&self, tenant: TenantId, id: HookId, change: &HookChange) -> Result<HookBinding, StoreError> {
        change.check()?;
        let mut state = self.state();
        let hook = state.expect_hook("change hook", (tenant, id), change.expected)?;
        let HookChange { settings, state: enabled, .. } = change.clone();
        hook.settings = settings.unwrap_or_else(|| hook.settings.clone());
        hook.state = enabled.unwrap_or_else(|| hook.state.clone());
        hook.generation += 1;
        hook.updated_at = self.clock.now();
        let changed = hook.clone();
        state.hooks.revision += 1;
        Ok(changed)
    }

    async fn delete(&self, tenant: TenantId, id: HookId, expected: Option<u64>) -> Result<(), StoreError> {
        let mut state = self.state();
        state.expect_hook("delete hook", (tenant, id), expected)?;
        state.hooks.bindings.remove(&(tenant, id));
        state.hooks.health.remove(&(tenant, id));
        state.hooks.revision += 1;
        Ok(())
    }

    async fn record(&self, invocations: Vec<HookInvocation>) -> Result<(), StoreError> {
        let mut state = self.state();
        if let Some(lost) = invocations.iter().find(|one| !state.tenants.contains_key(&one.tenant)) {
            return Err(not_found("record calls of hooks", lost.tenant));
        }
        for mut invocation in invocations {
            invocation.report = invocation.report.cut();
            state.hooks.invocations.insert((invocation.tenant, invocation.id.clone()), invocation);
        }
        Ok(())
    }

    async fn invocation(&self, tenant: TenantId, id: &str) -> Result<Option<HookInvocation>, StoreError> {
        Ok(self.state().hooks.invocations.get(&(tenant, id.to_owned())).cloned())
    }

    async fn invocations(
        &self,
        tenant: TenantId,
        query: &HookInvocationQuery,
    ) -> Result<Page<HookInvocation>, StoreError> {
        let state = self.state();
        let of_tenant = state.hooks.invocations.values().rev().filter(|one| one.tenant == tenant);
        let mut found = of_tenant.filter(|one| query.wants(one));
        let items = found.by_ref().take(query.limit as usize).cloned().collect();
        Ok(Page { items, has_more: found.next().is_some() })
    }

    async fn record_health(&self, results: Vec<NewHookHealth>) -> Result<(), StoreError> {
        let Hooks { bindings, health, .. } = &mut self.state().hooks;
        for NewHookHealth { tenant, hook, at, status, details } in results.into_iter().map(NewHookHealth::cut) {
            if !bindings.contains_key(&(tenant, hook)) {
                continue;
            }
            let fresh = || HookHealth { hook, status: String::new(), since: at, results: Vec::new() };
            let known = health.entry((tenant, hook)).or_insert_with(fresh);
            if known.status != status {
                (known.status, known.since) = (status.clone(), at);
            }
            known.results.insert(0, HookHealthResult { at, status, details });
            known.results.truncate(HEALTH_RESULTS as usize);
        }
        Ok(())
    }

    async fn health(&self, tenant: TenantId, hook: Option<HookId>) -> Result<Vec<HookHealth>, StoreError> {
        let state = self.state();
        let of_tenant = state.hooks.health.iter().filter(|((owner, _), _)| *owner == tenant);
        let wanted = of_tenant.map(|(_, health)| health).filter(|health| hook.is_none_or(|hook| hook == health.hook));
        Ok(wanted.cloned().collect())
    }

    async fn await_result(&self, awaited: AwaitedResult) -> Result<(), StoreError> {
        let mut state = self.state();
        if !state.tenants.contains_key(&awaited.tenant) {
            return Err(not_found("await result of hook", awaited.tenant));
        }
        state.hooks.awaited.insert((awaited.tenant, awaited.job), awaited);
        Ok(())
    }

    async fn awaited(&self, tenant: TenantId, job: JobId) -> Result<Option<AwaitedResult>, StoreError> {
        Ok(self.state().hooks.awaited.get(&(tenant, job)).cloned())
    }

    async fn awaited_with(&self, token_hash: &[u8; 32]) -> Result<Option<AwaitedResult>, StoreError> {
        Ok(self.state().hooks.awaited.values().find(|awaited| awaited.token_hash == *token_hash).cloned())
    }

    async fn put_off(&self, tenant: TenantId, job: JobId, until: Timestamp) -> Result<bool, StoreError> {
        let mut state = self.state();
        let Some(awaited) = state.hooks.unsettled(tenant, job) else { return Ok(false) };
        awaited.result_by = until.min(awaited.latest).max(awaited.result_by);
        Ok(true)
    }

    async fn settle(&self, tenant: TenantId, job: JobId, result: Value, now: Timestamp) -> Result<bool, StoreError> {
        match self.state().hooks.unsettled(tenant, job) {
            None => return Ok(false),
            Some(awaited) => awaited.result = Some(result),
        }
        self.wake_settled(tenant, job, now).await?;
        Ok(true)
    }

    async fn wake_settled(&self, tenant: TenantId, job: JobId, now: Timestamp) -> Result<(), StoreError> {
        let is_awake = {
            let mut state = self.state();
            let settled = state.hooks.awaited.get(&(tenant, job)).is_some_and(|awaited| awaited.result.is_some());
            let wakes = settled && state.jobs.waits(tenant, job);
            if wakes {
                state.jobs.change(job, |record| (record.job.not_before, record.state) = (now, JobState::Ready));
            }
            wakes
        };
        if is_awake {
            self.queue_changed.bump();
        }
        Ok(())
    }

    async fn forget_awaited(&self, tenant: TenantId, job: JobId) -> Result<(), StoreError> {
        self.state().hooks.awaited.remove(&(tenant, job));
        Ok(())
    }

    async fn forget_expired(&self, now: Timestamp, max: u32) -> Result<u32, StoreError> {
        let mut state = self.state();
        let expired = state.hooks.awaited.iter().filter(|(_, awaited)| awaited.expires_at < now).map(|(key, _)| *key);
        let doomed: Vec<_> = expired.take(max as usize).collect();
        for key in &doomed {
            state.hooks.awaited.remove(key);
        }
        Ok(u32::try_from(doomed.len()).unwrap_or(u32::MAX))
    }

    async fn tenants_to_forget(&self, before: Timestamp) -> Result<Vec<TenantId>, StoreError> {
        let state = self.state();
        let mut found: Vec<_> =
            state.hooks.invocations.values().filter(|one| one.at < before).map(|one| one.tenant).collect();
        found.dedup();
        Ok(found)
    }

    async fn forget(&self, tenant: TenantId, before: Timestamp, max: u32) -> Result<u32, StoreError> {
        let mut state = self.state();
        let invocations = &mut state.hooks.invocations;
        let oldest = invocations.iter().filter(|((owner, _), _)| *owner == tenant).take(max as usize);
        let doomed: Vec<_> = oldest.filter(|(_, one)| one.at < before).map(|(key, _)| key.clone()).collect();
        for key in &doomed {
            invocations.remove(key);
        }
        Ok(u32::try_from(doomed.len()).unwrap_or(u32::MAX))
    }
}

impl Hooks {
    fn unsettled(&mut self, tenant: TenantId, job: JobId) -> Option<&mut AwaitedResult> {
        self.awaited.get_mut(&(tenant, job)).filter(|awaited| awaited.result.is_none())
    }
}

impl State {
    /// A hook of this generation, if one is expected.
    fn expect_hook(
        &mut self,
        operation: &'static str,
        key: (TenantId, HookId),
        expected: Option<u64>,
    ) -> Result<&mut HookBinding, StoreError> {
        let hook = self.hooks.bindings.get_mut(&key).ok_or_else(|| not_found(operation, key.1))?;
        match expected {
            Some(generation) if generation != hook.generation => {
                Err(StoreError::new(StoreErrorKind::Conflict, operation, key.1))
            }
            _ => Ok(hook),
        }
    }
}
