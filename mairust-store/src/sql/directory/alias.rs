//! Aliases.

use mairust_core::{AliasId, EmailAddress, TenantId};

use super::{address, begin_naming, changed, check_name, domain};
use crate::directory::{Alias, AliasChange, NewAlias, check_targets};
use crate::error::StoreError;
use crate::sql::driver::{Columns, Query, Row, failed};
use crate::sql::storage::Parts;
use crate::sql::{codec, statement};

pub(super) async fn create(parts: &Parts, tenant: TenantId, new: NewAlias) -> Result<Alias, StoreError> {
    let now = parts.clock.now();
    let NewAlias { address, targets } = new;
    let alias = Alias { id: AliasId::new(now), tenant, address, targets, enabled: true };
    let (key, error) = (alias.address.lookup_key(), || failed("create alias", &alias.address));
    let mut transaction = begin_naming(parts).await.map_err(error())?;
    let domain_id = domain::own("create alias", &mut transaction, tenant, alias.address.domain()).await?;
    check_targets(&alias.address, &alias.targets)?;
    domain::check_tenant_of("create alias", &mut transaction, tenant, &alias.targets).await?;
    check_name("create alias", &mut transaction, &key).await?;
    transaction
        .execute(
            Query::new(statement::directory::INSERT_ALIAS)
                .bind(tenant.as_bytes())
                .bind(alias.id.as_bytes())
                .bind(domain_id.as_bytes())
                .bind(key)
                .bind(alias.address.to_string())
                .bind(codec::targets(&alias.targets))
                .bind(now),
        )
        .await
        .map_err(error())?;
    transaction.commit().await.map_err(error())?;
    Ok(alias)
}

pub(super) async fn list(parts: &Parts, tenant: TenantId) -> Result<Vec<Alias>, StoreError> {
    let rows =
        parts.database.fetch_all(tenant, Query::new(statement::directory::ALIASES).bind(tenant.as_bytes())).await;
    rows.map_err(failed("list aliases", tenant))?.iter().map(alias).collect()
}

pub(super) async fn change(
    parts: &Parts,
    tenant: TenantId,
    address: &EmailAddress,
    change: &AliasChange,
) -> Result<(), StoreError> {
    let error = || failed("change alias", address);
    let mut transaction = begin_naming(parts).await.map_err(error())?;
    if let Some(targets) = &change.targets {
        check_targets(address, targets)?;
        domain::check_tenant_of("change alias", &mut transaction, tenant, targets).await?;
    }
    let done = transaction
        .execute(
            Query::new(statement::directory::CHANGE_ALIAS)
                .bind(tenant.as_bytes())
                .bind(address.lookup_key())
                .bind(change.enabled)
                .bind(change.targets.as_deref().map(codec::targets)),
        )
        .await
        .map_err(error())?;
    changed("change alias", address, done)?;
    transaction.commit().await.map_err(error())
}

pub(super) async fn delete(parts: &Parts, tenant: TenantId, address: &EmailAddress) -> Result<(), StoreError> {
    let query = Query::new(statement::directory::DELETE_ALIAS).bind(tenant.as_bytes()).bind(address.lookup_key());
    let done = parts.database.execute(tenant, query).await.map_err(failed("delete alias", address))?;
    changed("delete alias", address, done)
}

fn alias(row: &Row) -> Result<Alias, StoreError> {
    let columns = Columns::new("read alias", row);
    Ok(Alias {
        id: AliasId::from_bytes(columns.id("id")?),
        tenant: TenantId::from_bytes(columns.id("tenant_id")?),
        address: address(&columns, "address")?,
        targets: codec::read_targets(&columns, "targets")?.unwrap_or_default(),
        enabled: columns.value("enabled")?,
    })
}
