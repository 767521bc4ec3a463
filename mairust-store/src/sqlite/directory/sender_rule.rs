//! What tenants think of senders.

use mairust_core::TenantId;
use sqlx::sqlite::SqliteRow;

use super::changed;
use crate::directory::{SenderAction, SenderRule, sender_pattern};
use crate::error::StoreError;
use crate::sql;
use crate::sqlite::Parts;
use crate::sqlite::row::{Columns, failed};

pub(super) async fn set(parts: &Parts, tenant: TenantId, rule: &SenderRule) -> Result<(), StoreError> {
    let query = sqlx::query(sql::directory::SET_SENDER_RULE)
        .bind(&tenant.as_bytes()[..])
        .bind(rule.pattern.as_str())
        .bind(rule.action.as_str())
        .bind(parts.clock.now().as_micros());
    query.execute(&parts.writer).await.map_err(failed("set sender rule", &rule.pattern)).map(drop)
}

pub(super) async fn list(parts: &Parts, tenant: TenantId) -> Result<Vec<SenderRule>, StoreError> {
    let query = sqlx::query(sql::directory::SENDER_RULES).bind(&tenant.as_bytes()[..]);
    let rows = query.fetch_all(&parts.reader).await.map_err(failed("list sender rules", tenant))?;
    rows.iter().map(sender_rule).collect()
}

pub(super) async fn delete(parts: &Parts, tenant: TenantId, pattern: &str) -> Result<(), StoreError> {
    let pattern = sender_pattern(pattern)?;
    let query = sqlx::query(sql::directory::DELETE_SENDER_RULE).bind(&tenant.as_bytes()[..]).bind(pattern.as_str());
    let done = query.execute(&parts.writer).await.map_err(failed("delete sender rule", &pattern))?;
    changed("delete sender rule", &pattern, &done)
}

fn sender_rule(row: &SqliteRow) -> Result<SenderRule, StoreError> {
    let columns = Columns::new("read sender rule", row);
    Ok(SenderRule { pattern: columns.value("pattern")?, action: columns.parsed("action", SenderAction::parse)? })
}
