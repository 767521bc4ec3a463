//! Hooks and what they did.

use std::collections::BTreeMap;

use async_trait::async_trait;
use mairust_core::{HookId, JobId, MessageId, TenantId, Timestamp};
use serde_json::{Value, json};

use super::changes::Change;
use super::driver::{Columns, Json, Query, Row, Rows, Scope, Transaction, failed};
use super::storage::Parts;
use crate::error::{StoreError, StoreErrorKind};
use crate::hook::{
    AwaitedResult, HookBinding, HookChange, HookHealth, HookInvocation, HookInvocationQuery, HookState, HookStore,
    MAX_HOOKS, NewHookBinding, NewHookHealth, too_many,
};
use crate::message::Page;
use crate::sql::statement;

mod health;

const READ_RESULT: &str = "read result of hook";

#[async_trait]
impl HookStore for Parts {
    async fn revision(&self) -> Result<u64, StoreError> {
        const READ: &str = "read revision of hooks";
        let rows = self.database.look_up(Scope::All, Query::new(statement::hook::REVISION)).await;
        let rows = rows.map_err(failed(READ, "read"))?;
        rows.first().map_or(Ok(0), |row| Columns::new(READ, row).number("revision"))
    }

    async fn enabled(&self) -> Result<Vec<HookBinding>, StoreError> {
        let rows = self.database.fetch_all(Scope::All, Query::new(statement::hook::ENABLED)).await;
        rows.map_err(failed("list hooks", "enabled"))?.iter().map(binding).collect()
    }

    async fn create(&self, tenant: TenantId, new: NewHookBinding) -> Result<HookBinding, StoreError> {
        const BIND: &str = "bind hook";
        new.check()?;
        let mut transaction = self.database.begin(tenant).await.map_err(failed(BIND, new.id))?;
        let query = Query::new(statement::hook::INSERT)
            .bind(tenant.as_bytes())
            .bind(new.id.as_bytes())
            .bind(new.plugin_id.as_str())
            .bind(Json(new.settings))
            .bind(new.state.is_enabled())
            .bind(new.state.reason())
            .bind(self.clock.now())
            .bind(MAX_HOOKS);
        let rows = transaction.fetch_all(query).await.map_err(failed(BIND, new.plugin_id))?;
        let made = binding(rows.first().ok_or_else(too_many)?)?;
        count_up(transaction, BIND).await?;
        Ok(made)
    }

    async fn list(&self, tenant: TenantId) -> Result<Vec<HookBinding>, StoreError> {
        let mut query = Query::new(statement::hook::SELECT).bind(tenant.as_bytes());
        query.push("ORDER BY id");
        let rows = self.database.fetch_all(tenant, query).await.map_err(failed("list hooks", tenant))?;
        rows.iter().map(binding).collect()
    }

    async fn get(&self, tenant: TenantId, id: HookId) -> Result<Option<HookBinding>, StoreError> {
        let mut query = Query::new(statement::hook::SELECT).bind(tenant.as_bytes());
        query.push("AND id = ").push_bind(id.as_bytes());
        let found = self.database.fetch_optional(tenant, query).await.map_err(failed("read hook", id))?;
        found.as_ref().map(binding).transpose()
    }

    async fn change(&self, tenant: TenantId, id: HookId, change: &HookChange) -> Result<HookBinding, StoreError> {
        const CHANGE: &str = "change hook";
        change.check()?;
        let mut transaction = self.database.begin(tenant).await.map_err(failed(CHANGE, id))?;
        let query = Query::new(statement::hook::CHANGE)
            .bind(tenant.as_bytes())
            .bind(id.as_bytes())
            .bind(change.settings.clone().map(Json))
            .bind(change.state.as_ref().map(HookState::is_enabled))
            .bind(change.state.as_ref().and_then(HookState::reason))
            .bind(self.clock.now())
            .bind(change.expected);
        let rows = transaction.fetch_all(query).await.map_err(failed(CHANGE, id))?;
        let Some(row) = rows.first() else {
            drop(transaction);
            return Err(self.missing(CHANGE, tenant, id).await?);
        };
        let changed = binding(row)?;
        count_up(transaction, CHANGE).await?;
        Ok(changed)
    }

    async fn delete(&self, tenant: TenantId, id: HookId, expected: Option<u64>) -> Result<(), StoreError> {
        const DELETE: &str = "delete hook";
        let mut transaction = self.database.begin(tenant).await.map_err(failed(DELETE, id))?;
        let query = Query::new(statement::hook::DELETE).bind(tenant.as_bytes()).bind(id.as_bytes()).bind(expected);
        if transaction.execute(query).await.map_err(failed(DELETE, id))? == 0 {
            drop(transaction);
            return Err(self.missing(DELETE, tenant, id).await?);
        }
        count_up(transaction, DELETE).await
    }

    async fn record(&self, invocations: Vec<HookInvocation>) -> Result<(), StoreError> {
        const RECORD: &str = "record calls of hooks";
        // One statement must not have a row twice.
        let last: BTreeMap<_, _> = invocations.into_iter().map(|one| ((one.tenant, one.id.clone()), one)).collect();
        let mut tenants: Vec<_> = last.keys().map(|(tenant, _)| *tenant).collect();
        tenants.dedup();
        let Some(first) = tenants.first() else { return Ok(()) };
        let error = || failed(RECORD, first);
        let (head, tail) = statement::hook::RECORD;
        let mut rows = Rows::new(head, 9, tail);
        for ((tenant, id), invocation) in &last {
            rows.bind(tenant.as_bytes())
                .bind(id.as_str())
                .bind(invocation.binding.as_str())
                .bind(invocation.hook.as_ref().map(HookId::as_bytes))
                .bind(invocation.point.as_str())
                .bind(invocation.outcome.as_str())
                .bind(invocation.message.as_ref().map(MessageId::as_bytes))
                .bind(Json(json!(invocation.report.clone().cut())))
                .bind(invocation.at);
        }
        let mut transaction = self.database.begin_lazy(Scope::Tenants(&tenants)).await.map_err(error())?;
        transaction.execute_all(rows.queries()).await.map_err(error())?;
        transaction.commit().await.map_err(error())
    }

    async fn invocation(&self, tenant: TenantId, id: &str) -> Result<Option<HookInvocation>, StoreError> {
        let mut query = Query::new(statement::hook::SELECT_INVOCATIONS).bind(tenant.as_bytes());
        query.push("AND id = ").push_bind(id);
        let found = self.database.fetch_optional(tenant, query).await.map_err(failed("read call of hook", id))?;
        found.as_ref().map(invocation).transpose()
    }

    async fn invocations(
        &self,
        tenant: TenantId,
        query: &HookInvocationQuery,
    ) -> Result<Page<HookInvocation>, StoreError> {
        let mut select = Query::new(statement::hook::SELECT_INVOCATIONS).bind(tenant.as_bytes());
        if let Some(binding) = &query.binding {
            select.push("AND binding = ").push_bind(binding.as_str());
        }
        if let Some(message) = query.message {
            select.push(" AND message_id = ").push_bind(message.as_bytes());
        }
        if let Some(outcome) = &query.outcome {
            select.push(" AND outcome = ").push_bind(outcome.as_str());
        }
        if let Some(since) = query.since {
            select.push(" AND at >= ").push_bind(since);
        }
        if let Some(until) = query.until {
            select.push(" AND at < ").push_bind(until);
        }
        if let Some(before) = &query.before {
            select.push(" AND id < ").push_bind(before.as_str());
        }
        select.push(" ORDER BY id DESC LIMIT ").push_bind(query.limit.saturating_add(1));
        let rows = self.database.fetch_all(tenant, select).await.map_err(failed("list calls of hooks", tenant))?;
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let items = rows.iter().take(limit).map(invocation).collect::<Result<_, _>>()?;
        Ok(Page { items, has_more: rows.len() > limit })
    }

    async fn record_health(&self, results: Vec<NewHookHealth>) -> Result<(), StoreError> {
        health::record(self, results).await
    }

    async fn health(&self, tenant: TenantId, hook: Option<HookId>) -> Result<Vec<HookHealth>, StoreError> {
        health::read(self, tenant, hook).await
    }

    async fn await_result(&self, awaited: AwaitedResult) -> Result<(), StoreError> {
        let query = Query::new(statement::hook::AWAIT_RESULT)
            .bind(awaited.tenant.as_bytes())
            .bind(awaited.job.as_bytes())
            .bind(awaited.hook.as_bytes())
            .bind(awaited.message.as_bytes())
            .bind(&awaited.token_hash[..])
            .bind(awaited.attempt)
            .bind(awaited.accepted_at)
            .bind(awaited.result_by)
            .bind(awaited.latest)
            .bind(awaited.expires_at)
            .bind(awaited.result.map(Json));
        let done = self.database.execute(awaited.tenant, query).await;
        done.map(drop).map_err(failed("await result of hook", awaited.job))
    }

    async fn awaited(&self, tenant: TenantId, job: JobId) -> Result<Option<AwaitedResult>, StoreError> {
        let query = Query::new(statement::hook::AWAITED).bind(tenant.as_bytes()).bind(job.as_bytes());
        let found = self.database.fetch_optional(tenant, query).await.map_err(failed(READ_RESULT, job))?;
        found.as_ref().map(awaited).transpose()
    }

    async fn awaited_with(&self, token_hash: &[u8; 32]) -> Result<Option<AwaitedResult>, StoreError> {
        let query = Query::new(statement::hook::AWAITED_WITH).bind(&token_hash[..]);
        let found = self.database.fetch_optional(Scope::All, query).await.map_err(failed(READ_RESULT, "by token"))?;
        found.as_ref().map(awaited).transpose()
    }

    async fn put_off(&self, tenant: TenantId, job: JobId, until: Timestamp) -> Result<bool, StoreError> {
        let query = Query::new(statement::hook::PUT_OFF).bind(tenant.as_bytes()).bind(job.as_bytes()).bind(until);
        let done = self.database.execute(tenant, query).await.map_err(failed("put off result of hook", job))?;
        Ok(done > 0)
    }

    async fn settle(&self, tenant: TenantId, job: JobId, result: Value, now: Timestamp) -> Result<bool, StoreError> {
        const SETTLE: &str = "settle result of hook";
        let mut transaction = self.database.begin(tenant).await.map_err(failed(SETTLE, job))?;
        let query = Query::new(statement::hook::SETTLE).bind(tenant.as_bytes()).bind(job.as_bytes()).bind(Json(result));
        if transaction.execute(query).await.map_err(failed(SETTLE, job))? == 0 {
            return Ok(false);
        }
        self.wake(transaction, SETTLE, (tenant, job), now).await?;
        Ok(true)
    }

    async fn wake_settled(&self, tenant: TenantId, job: JobId, now: Timestamp) -> Result<(), StoreError> {
        const WAKE: &str = "wake job of hook";
        let transaction = self.database.begin(tenant).await.map_err(failed(WAKE, job))?;
        self.wake(transaction, WAKE, (tenant, job), now).await
    }

    async fn forget_awaited(&self, tenant: TenantId, job: JobId) -> Result<(), StoreError> {
        let query = Query::new(statement::hook::FORGET_AWAITED).bind(tenant.as_bytes()).bind(job.as_bytes());
        self.database.execute(tenant, query).await.map(drop).map_err(failed("forget result of hook", job))
    }

    async fn forget_expired(&self, now: Timestamp, max: u32) -> Result<u32, StoreError> {
        let query = Query::new(statement::hook::FORGET_EXPIRED).bind(now).bind(max);
        let done = self.database.execute(Scope::All, query).await.map_err(failed("forget results of hooks", "all"))?;
        Ok(u32::try_from(done).unwrap_or(u32::MAX))
    }

    async fn tenants_to_forget(&self, before: Timestamp) -> Result<Vec<TenantId>, StoreError> {
        const FORGET: &str = "forget calls of hooks";
        let query = Query::new(statement::hook::TENANTS_TO_FORGET).bind(before);
        let rows = self.database.fetch_all(Scope::All, query).await.map_err(failed(FORGET, "find"))?;
        rows.iter().map(|row| Columns::new(FORGET, row).id("id").map(TenantId::from_bytes)).collect()
    }

    async fn forget(&self, tenant: TenantId, before: Timestamp, max: u32) -> Result<u32, StoreError> {
        let query = Query::new(statement::hook::FORGET).bind(tenant.as_bytes()).bind(before).bind(max);
        let done = self.database.execute(tenant, query).await.map_err(failed("forget calls of hooks", tenant))?;
        Ok(u32::try_from(done).unwrap_or(u32::MAX))
    }
}

impl Parts {
    /// Ends a change after which a job may have its result.
    async fn wake(
        &self,
        mut transaction: Transaction,
        operation: &'static str,
        (tenant, job): (TenantId, JobId),
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let error = || failed(operation, job);
        let query = Query::new(statement::queue::WAKE_SETTLED).bind(tenant.as_bytes()).bind(now).bind(job.as_bytes());
        let is_awake = transaction.execute(query).await.map_err(error())? > 0;
        if is_awake {
            self.changes.tell(&mut transaction, Change::Queue).await.map_err(error())?;
        }
        transaction.commit().await.map_err(error())?;
        if is_awake {
            self.changes.announce(Change::Queue);
        }
        Ok(())
    }

    /// Why a hook was not changed.
    async fn missing(&self, operation: &'static str, tenant: TenantId, id: HookId) -> Result<StoreError, StoreError> {
        let is_there = HookStore::get(self, tenant, id).await?.is_some();
        let kind = if is_there { StoreErrorKind::Conflict } else { StoreErrorKind::NotFound };
        Ok(StoreError::new(kind, operation, id))
    }
}

/// Ends a change, so that whoever runs hooks sees it.
async fn count_up(mut transaction: Transaction, operation: &'static str) -> Result<(), StoreError> {
    transaction.execute(Query::new(statement::hook::COUNT_UP)).await.map_err(failed(operation, "count up"))?;
    transaction.commit().await.map_err(failed(operation, "commit"))
}

fn binding(row: &Row) -> Result<HookBinding, StoreError> {
    let columns = Columns::new("read hook", row);
    let reason: Option<String> = columns.value("disabled_because")?;
    Ok(HookBinding {
        id: HookId::from_bytes(columns.id("id")?),
        tenant: TenantId::from_bytes(columns.id("tenant_id")?),
        plugin_id: columns.value("plugin_id")?,
        settings: columns.json("settings")?,
        state: reason.map_or(HookState::Enabled, HookState::Disabled),
        generation: columns.number("generation")?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
    })
}

fn awaited(row: &Row) -> Result<AwaitedResult, StoreError> {
    let columns = Columns::new(READ_RESULT, row);
    Ok(AwaitedResult {
        tenant: TenantId::from_bytes(columns.id("tenant_id")?),
        job: JobId::from_bytes(columns.id("job_id")?),
        hook: HookId::from_bytes(columns.id("hook_id")?),
        message: MessageId::from_bytes(columns.id("message_id")?),
        token_hash: columns.bytes("token_hash")?,
        attempt: columns.number("attempt")?,
        accepted_at: columns.time("accepted_at")?,
        result_by: columns.time("result_by")?,
        latest: columns.time("latest")?,
        expires_at: columns.time("expires_at")?,
        result: columns.optional_json("result")?,
    })
}

fn invocation(row: &Row) -> Result<HookInvocation, StoreError> {
    let columns = Columns::new("read call of hook", row);
    Ok(HookInvocation {
        id: columns.value("id")?,
        tenant: TenantId::from_bytes(columns.id("tenant_id")?),
        binding: columns.value("binding")?,
        hook: columns.optional_id("hook_id")?.map(HookId::from_bytes),
        point: columns.value("point")?,
        outcome: columns.value("outcome")?,
        message: columns.optional_id("message_id")?.map(MessageId::from_bytes),
        at: columns.time("at")?,
        report: columns.json("facts")?,
    })
}
