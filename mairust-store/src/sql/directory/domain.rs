//! Domains.

use mairust_core::{Domain, DomainId, EmailAddress, TenantId};

use super::{begin_naming, changed};
use crate::directory::{DomainChange, DomainRow};
use crate::error::{StoreError, StoreErrorKind};
use crate::sql::driver::{Columns, Query, Row, Scope, Transaction, failed};
use crate::sql::statement;
use crate::sql::storage::Parts;

pub(super) async fn create(
    parts: &Parts,
    tenant: TenantId,
    name: &Domain,
    target: Option<&Domain>,
) -> Result<DomainRow, StoreError> {
    let now = parts.clock.now();
    let error = || failed("create domain", name);
    let id = DomainId::new(now);
    let mut transaction = begin_naming(parts).await.map_err(error())?;
    let target_id = match target {
        Some(target) => Some(own("create domain", &mut transaction, tenant, target).await?),
        None => None,
    };
    transaction
        .execute(
            Query::new(statement::directory::INSERT_DOMAIN)
                .bind(tenant.as_bytes())
                .bind(id.as_bytes())
                .bind(name.as_str())
                .bind(now),
        )
        .await
        .map_err(error())?;
    if let Some(target_id) = target_id {
        transaction
            .execute(
                Query::new(statement::directory::INSERT_DOMAIN_ALIAS)
                    .bind(tenant.as_bytes())
                    .bind(id.as_bytes())
                    .bind(target_id.as_bytes()),
            )
            .await
            .map_err(error())?;
    }
    transaction.commit().await.map_err(error())?;
    let (name, alias_of) = (name.clone(), target.cloned());
    Ok(DomainRow { id, tenant, name, enabled: true, alias_of, catch_all: None })
}

pub(super) async fn list(parts: &Parts, tenant: TenantId) -> Result<Vec<DomainRow>, StoreError> {
    let mut query = Query::new(statement::directory::SELECT_DOMAINS);
    query.push("WHERE d.tenant_id = ").push_bind(tenant.as_bytes()).push(" ORDER BY d.id");
    let rows = parts.database.fetch_all(tenant, query).await.map_err(failed("list domains", tenant))?;
    rows.iter().map(domain).collect()
}

pub(super) async fn by_name(parts: &Parts, name: &Domain) -> Result<Option<DomainRow>, StoreError> {
    let mut query = Query::new(statement::directory::SELECT_DOMAINS);
    query.push("WHERE d.name = ").push_bind(name.as_str());
    let found = parts.database.fetch_optional(Scope::All, query).await.map_err(failed("read domain", name))?;
    found.as_ref().map(domain).transpose()
}

pub(super) async fn change(
    parts: &Parts,
    tenant: TenantId,
    name: &Domain,
    change: &DomainChange,
) -> Result<(), StoreError> {
    let error = || failed("change domain", name);
    let mut transaction = begin_naming(parts).await.map_err(error())?;
    if change.catch_all.is_some() {
        own("change domain", &mut transaction, tenant, name).await?;
    }
    check_tenant_of("change domain", &mut transaction, tenant, change.catch_all.iter().flatten()).await?;
    let done = transaction
        .execute(
            Query::new(statement::directory::CHANGE_DOMAIN)
                .bind(tenant.as_bytes())
                .bind(name.as_str())
                .bind(change.enabled)
                .bind(change.catch_all.is_some())
                .bind(change.catch_all.as_ref().and_then(Option::as_ref).map(ToString::to_string)),
        )
        .await
        .map_err(error())?;
    changed("change domain", name, done)?;
    transaction.commit().await.map_err(error())
}

/// A domain of the tenant that may have addresses of its own.
pub(super) async fn own(
    operation: &'static str,
    transaction: &mut Transaction,
    tenant: TenantId,
    name: &Domain,
) -> Result<DomainId, StoreError> {
    let row = read(operation, transaction, name).await?.filter(|row| row.tenant == tenant);
    let row = row.ok_or_else(|| StoreError::new(StoreErrorKind::NotFound, operation, name))?;
    match row.alias_of {
        None => Ok(row.id),
        Some(target) => {
            let why = format_args!("{name} has no addresses of its own, they are those of {target}");
            Err(StoreError::new(StoreErrorKind::Invalid, operation, why))
        }
    }
}

/// Whether none of the addresses is another tenant's.
pub(super) async fn check_tenant_of(
    operation: &'static str,
    transaction: &mut Transaction,
    tenant: TenantId,
    addresses: impl IntoIterator<Item = &EmailAddress>,
) -> Result<(), StoreError> {
    for address in addresses {
        let row = read(operation, transaction, address.domain()).await?;
        if row.is_some_and(|row| row.tenant != tenant) {
            let why = format_args!("{address} is an address of another tenant");
            return Err(StoreError::new(StoreErrorKind::Invalid, operation, why));
        }
    }
    Ok(())
}

async fn read(
    operation: &'static str,
    transaction: &mut Transaction,
    name: &Domain,
) -> Result<Option<DomainRow>, StoreError> {
    let mut query = Query::new(statement::directory::SELECT_DOMAINS);
    query.push("WHERE d.name = ").push_bind(name.as_str());
    let found = transaction.fetch_optional(query).await.map_err(failed(operation, name))?;
    found.as_ref().map(domain).transpose()
}

fn domain(row: &Row) -> Result<DomainRow, StoreError> {
    let columns = Columns::new("read domain", row);
    Ok(DomainRow {
        id: DomainId::from_bytes(columns.id("id")?),
        tenant: TenantId::from_bytes(columns.id("tenant_id")?),
        name: columns.parsed("name", |text| Domain::parse(text).ok())?,
        enabled: columns.value("enabled")?,
        alias_of: columns.optional("alias_of", |text| Domain::parse(text).ok())?,
        catch_all: columns.optional("catch_all", |text| EmailAddress::parse(text).ok())?,
    })
}
