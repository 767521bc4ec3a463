//! How hooks say that they do.

use std::collections::BTreeMap;

use mairust_core::{HookId, TenantId};

use crate::error::StoreError;
use crate::hook::{HookHealth, HookHealthResult, NewHookHealth};
use crate::sql::driver::{Columns, Query, Rows, Scope, failed};
use crate::sql::statement;
use crate::sql::storage::Parts;

pub(super) async fn record(parts: &Parts, results: Vec<NewHookHealth>) -> Result<(), StoreError> {
    // One statement must not have a row twice.
    let last: BTreeMap<_, _> = results.into_iter().map(|one| ((one.tenant, one.hook), one.cut())).collect();
    let mut tenants: Vec<_> = last.keys().map(|(tenant, _)| *tenant).collect();
    tenants.dedup();
    let Some(first) = tenants.first() else { return Ok(()) };
    let error = || failed("record health of hooks", first);
    let (head, tail) = statement::hook::RECORD_HEALTH;
    let mut rows = Rows::new(head, 5, tail);
    for ((tenant, hook), one) in &last {
        rows.bind(tenant.as_bytes())
            .bind(hook.as_bytes())
            .bind(one.at)
            .bind(one.status.as_str())
            .bind(one.details.as_str());
    }
    let mut transaction = parts.database.begin_lazy(Scope::Tenants(&tenants)).await.map_err(error())?;
    transaction.execute_all(rows.queries()).await.map_err(error())?;
    transaction.commit().await.map_err(error())
}

pub(super) async fn read(parts: &Parts, tenant: TenantId, hook: Option<HookId>) -> Result<Vec<HookHealth>, StoreError> {
    const READ: &str = "read health of hooks";
    let query = Query::new(statement::hook::HEALTH).bind(tenant.as_bytes()).bind(hook.as_ref().map(HookId::as_bytes));
    let rows = parts.database.fetch_all(tenant, query).await.map_err(failed(READ, tenant))?;
    let mut found: Vec<HookHealth> = Vec::new();
    for row in &rows {
        let columns = Columns::new(READ, row);
        let (hook, status) = (HookId::from_bytes(columns.id("hook_id")?), columns.value::<String>("status")?);
        if found.last().is_none_or(|known| known.hook != hook) {
            let since = columns.time("since")?;
            found.push(HookHealth { hook, status: status.clone(), since, results: Vec::new() });
        }
        let result = HookHealthResult { at: columns.time("at")?, status, details: columns.value("details")? };
        if let Some(known) = found.last_mut() {
            known.results.push(result);
        }
    }
    Ok(found)
}
