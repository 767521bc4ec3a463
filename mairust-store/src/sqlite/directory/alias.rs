//! Aliases.

use mairust_core::{AliasId, EmailAddress, TenantId};
use sqlx::sqlite::SqliteRow;

use super::{address, changed, check_name, domain};
use crate::directory::{Alias, AliasChange, NewAlias, check_targets};
use crate::error::StoreError;
use crate::sql;
use crate::sqlite::Parts;
use crate::sqlite::row::{Columns, failed};

pub(super) async fn create(parts: &Parts, tenant: TenantId, new: NewAlias) -> Result<Alias, StoreError> {
    let now = parts.clock.now();
    let NewAlias { address, targets } = new;
    let alias = Alias { id: AliasId::new(now), tenant, address, targets, enabled: true };
    let (key, error) = (alias.address.lookup_key(), || failed("create alias", &alias.address));
    let mut transaction = parts.writer.begin_with("BEGIN IMMEDIATE").await.map_err(error())?;
    let domain_id = domain::own("create alias", &mut transaction, tenant, alias.address.domain()).await?;
    check_targets(&alias.address, &alias.targets)?;
    domain::check_tenant_of("create alias", &mut transaction, tenant, &alias.targets).await?;
    check_name("create alias", &mut transaction, &key).await?;
    sqlx::query(sql::directory::INSERT_ALIAS)
        .bind(&tenant.as_bytes()[..])
        .bind(&alias.id.as_bytes()[..])
        .bind(&domain_id.as_bytes()[..])
        .bind(key)
        .bind(alias.address.to_string())
        .bind(sql::codec::targets_to_json(&alias.targets))
        .bind(now.as_micros())
        .execute(&mut *transaction)
        .await
        .map_err(error())?;
    transaction.commit().await.map_err(error())?;
    Ok(alias)
}

pub(super) async fn list(parts: &Parts, tenant: TenantId) -> Result<Vec<Alias>, StoreError> {
    let rows = sqlx::query(sql::directory::ALIASES).bind(&tenant.as_bytes()[..]).fetch_all(&parts.reader).await;
    rows.map_err(failed("list aliases", tenant))?.iter().map(alias).collect()
}

pub(super) async fn change(
    parts: &Parts,
    tenant: TenantId,
    address: &EmailAddress,
    change: &AliasChange,
) -> Result<(), StoreError> {
    let error = || failed("change alias", address);
    let mut transaction = parts.writer.begin_with("BEGIN IMMEDIATE").await.map_err(error())?;
    if let Some(targets) = &change.targets {
        check_targets(address, targets)?;
        domain::check_tenant_of("change alias", &mut transaction, tenant, targets).await?;
    }
    let done = sqlx::query(sql::directory::CHANGE_ALIAS)
        .bind(&tenant.as_bytes()[..])
        .bind(address.lookup_key())
        .bind(change.enabled)
        .bind(change.targets.as_deref().map(sql::codec::targets_to_json))
        .execute(&mut *transaction)
        .await
        .map_err(error())?;
    changed("change alias", address, &done)?;
    transaction.commit().await.map_err(error())
}

pub(super) async fn delete(parts: &Parts, tenant: TenantId, address: &EmailAddress) -> Result<(), StoreError> {
    let query = sqlx::query(sql::directory::DELETE_ALIAS).bind(&tenant.as_bytes()[..]).bind(address.lookup_key());
    let done = query.execute(&parts.writer).await.map_err(failed("delete alias", address))?;
    changed("delete alias", address, &done)
}

fn alias(row: &SqliteRow) -> Result<Alias, StoreError> {
    let columns = Columns::new("read alias", row);
    Ok(Alias {
        id: AliasId::from_bytes(columns.bytes("id")?),
        tenant: TenantId::from_bytes(columns.bytes("tenant_id")?),
        address: address(&columns, "address")?,
        targets: columns.parsed("targets", sql::codec::targets_from_json)?,
        enabled: columns.value("enabled")?,
    })
}
