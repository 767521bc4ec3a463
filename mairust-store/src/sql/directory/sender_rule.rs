//! What tenants think of senders.

use mairust_core::TenantId;

use super::changed;
use crate::directory::{SenderAction, SenderRule, sender_pattern};
use crate::error::StoreError;
use crate::sql::driver::{Columns, Query, Row, failed};
use crate::sql::statement;
use crate::sql::storage::Parts;

/// So many rules are looked up with each message in no time.
const FEW: i64 = 100;

pub(super) async fn set(parts: &Parts, tenant: TenantId, rule: &SenderRule) -> Result<(), StoreError> {
    let query = Query::new(statement::directory::SET_SENDER_RULE)
        .bind(tenant.as_bytes())
        .bind(rule.pattern.as_str())
        .bind(rule.action.as_str())
        .bind(parts.clock.now());
    parts.database.execute(tenant, query).await.map_err(failed("set sender rule", &rule.pattern)).map(drop)
}

pub(super) async fn list(parts: &Parts, tenant: TenantId) -> Result<Vec<SenderRule>, StoreError> {
    let query = |limit: i64| Query::new(statement::directory::SENDER_RULES).bind(tenant.as_bytes()).bind(limit);
    let error = || failed("list sender rules", tenant);
    let mut rows = parts.database.look_up(tenant, query(FEW)).await.map_err(error())?;
    if rows.len() as i64 == FEW {
        rows = parts.database.fetch_all(tenant, query(i64::MAX)).await.map_err(error())?;
    }
    rows.iter().map(sender_rule).collect()
}

pub(super) async fn delete(parts: &Parts, tenant: TenantId, pattern: &str) -> Result<(), StoreError> {
    let pattern = sender_pattern(pattern)?;
    let query = Query::new(statement::directory::DELETE_SENDER_RULE).bind(tenant.as_bytes()).bind(pattern.as_str());
    let done = parts.database.execute(tenant, query).await.map_err(failed("delete sender rule", &pattern))?;
    changed("delete sender rule", &pattern, done)
}

fn sender_rule(row: &Row) -> Result<SenderRule, StoreError> {
    let columns = Columns::new("read sender rule", row);
    Ok(SenderRule { pattern: columns.value("pattern")?, action: columns.parsed("action", SenderAction::parse)? })
}
