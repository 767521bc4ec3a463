//! Keys that sign outgoing mail.

use mairust_core::{DkimAlgorithm, DkimKeyId, Domain, TenantId, Timestamp};

use super::{begin_naming, changed};
use crate::directory::{DkimKey, DkimKeyState, NewDkimKey, check_dkim_key};
use crate::error::{StoreError, StoreErrorKind};
use crate::sql::driver::{Columns, Query, Row, Scope, failed};
use crate::sql::statement;
use crate::sql::storage::Parts;

pub(super) async fn create(
    parts: &Parts,
    tenant: TenantId,
    domain: &Domain,
    new: NewDkimKey,
) -> Result<DkimKey, StoreError> {
    const CREATE: &str = "create DKIM key";
    check_dkim_key(&new)?;
    let key = DkimKey::made(tenant, domain, new, parts.clock.now());
    let query = Query::new(statement::directory::INSERT_DKIM_KEY)
        .bind(tenant.as_bytes())
        .bind(key.id.as_bytes())
        .bind(domain.as_str())
        .bind(key.selector.as_str())
        .bind(key.algorithm.as_str())
        .bind(key.public_key.as_slice())
        .bind(key.created_at);
    let done = parts.database.execute(tenant, query).await.map_err(failed(CREATE, &key.selector))?;
    changed(CREATE, domain, done)?;
    Ok(key)
}

pub(super) async fn list(parts: &Parts, tenant: TenantId, domain: &Domain) -> Result<Vec<DkimKey>, StoreError> {
    let mut query = Query::new(statement::directory::SELECT_DKIM_KEYS);
    query.push("WHERE k.tenant_id = ").push_bind(tenant.as_bytes());
    query.push(" AND d.name = ").push_bind(domain.as_str()).push(" ORDER BY k.id");
    let rows = parts.database.fetch_all(tenant, query).await.map_err(failed("list DKIM keys", domain))?;
    rows.iter().map(key).collect()
}

pub(super) async fn retired(parts: &Parts, before: Timestamp) -> Result<Vec<DkimKey>, StoreError> {
    let mut query = Query::new(statement::directory::SELECT_DKIM_KEYS);
    query.push("WHERE k.state = 'retired' AND k.retired_at < ").push_bind(before).push(" ORDER BY k.id LIMIT 1000");
    let rows = parts.database.fetch_all(Scope::All, query).await.map_err(failed("list DKIM keys", "retired"))?;
    rows.iter().map(key).collect()
}

pub(super) async fn activate(parts: &Parts, tenant: TenantId, id: DkimKeyId) -> Result<(), StoreError> {
    const ACTIVATE: &str = "activate DKIM key";
    let (now, error) = (parts.clock.now(), || failed(ACTIVATE, id));
    // One at a time: the database allows one active key only.
    let mut transaction = begin_naming(parts).await.map_err(error())?;
    for text in [statement::directory::RETIRE_DKIM_KEYS, statement::directory::ACTIVATE_DKIM_KEY] {
        let query = Query::new(text).bind(tenant.as_bytes()).bind(id.as_bytes()).bind(now);
        let done = transaction.execute(query).await.map_err(error())?;
        if text == statement::directory::ACTIVATE_DKIM_KEY {
            changed(ACTIVATE, id, done)?;
        }
    }
    transaction.commit().await.map_err(error())
}

pub(super) async fn retire(parts: &Parts, tenant: TenantId, id: DkimKeyId) -> Result<(), StoreError> {
    const RETIRE: &str = "retire DKIM key";
    let query = Query::new(statement::directory::RETIRE_DKIM_KEY).bind(tenant.as_bytes()).bind(id.as_bytes());
    let done = parts.database.execute(tenant, query.bind(parts.clock.now())).await.map_err(failed(RETIRE, id))?;
    if done == 0 { check_known(RETIRE, parts, tenant, id).await } else { Ok(()) }
}

pub(super) async fn delete(parts: &Parts, tenant: TenantId, id: DkimKeyId) -> Result<(), StoreError> {
    const DELETE: &str = "delete DKIM key";
    let query = Query::new(statement::directory::DELETE_DKIM_KEY).bind(tenant.as_bytes()).bind(id.as_bytes());
    match parts.database.execute(tenant, query).await.map_err(failed(DELETE, id))? {
        0 => {
            check_known(DELETE, parts, tenant, id).await?;
            Err(StoreError::new(StoreErrorKind::Conflict, DELETE, id))
        }
        _ => Ok(()),
    }
}

/// Whether the tenant has this key.
async fn check_known(
    operation: &'static str,
    parts: &Parts,
    tenant: TenantId,
    id: DkimKeyId,
) -> Result<(), StoreError> {
    let mut query = Query::new(statement::directory::SELECT_DKIM_KEYS);
    query.push("WHERE k.tenant_id = ").push_bind(tenant.as_bytes()).push(" AND k.id = ").push_bind(id.as_bytes());
    let found = parts.database.fetch_optional(tenant, query).await.map_err(failed(operation, id))?;
    found.map(drop).ok_or_else(|| StoreError::new(StoreErrorKind::NotFound, operation, id))
}

fn key(row: &Row) -> Result<DkimKey, StoreError> {
    let columns = Columns::new("read DKIM key", row);
    Ok(DkimKey {
        id: DkimKeyId::from_bytes(columns.id("id")?),
        tenant: TenantId::from_bytes(columns.id("tenant_id")?),
        domain: columns.parsed("domain", |text| Domain::parse(text).ok())?,
        selector: columns.value("selector")?,
        algorithm: columns.parsed("algorithm", DkimAlgorithm::parse)?,
        public_key: columns.value("public_key")?,
        state: columns.parsed("state", DkimKeyState::parse)?,
        created_at: columns.time("created_at")?,
        activated_at: columns.optional_time("activated_at")?,
        retired_at: columns.optional_time("retired_at")?,
    })
}
