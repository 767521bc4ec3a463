//! Where mail for an address goes.

use mairust_core::{Domain, EmailAddress, MailboxId, TenantId, UserId};

use super::{address, user};
use crate::directory::{AliasRoute, MailboxRoute, Resolution, without_tag};
use crate::error::StoreError;
use crate::sql::driver::{Columns, Query, Row, Scope, failed};
use crate::sql::storage::Parts;
use crate::sql::{codec, statement};

/// Looks up the domain, then all names under which the address may be known, in one query each.
pub(super) async fn resolve(parts: &Parts, address: &EmailAddress) -> Result<Resolution, StoreError> {
    let error = || failed("resolve address", address);
    let query = Query::new(statement::directory::RESOLVE_DOMAIN).bind(address.domain().as_str());
    let Some(domain) = parts.database.fetch_optional(Scope::All, query).await.map_err(error())? else {
        return Ok(Resolution::ForeignDomain);
    };
    let domain = Columns::new("resolve address", &domain);
    let tenant = TenantId::from_bytes(domain.id("tenant_id")?);
    if !domain.value::<bool>("enabled")? {
        return Ok(Resolution::Disabled { tenant });
    }
    let name = domain.parsed("name", |text| Domain::parse(text).ok())?;
    let forwards = MailboxId::from_bytes(domain.id("forwards_id")?);
    let exact = EmailAddress::new(address.local().clone(), name);
    let key = exact.lookup_key();
    let rows = parts
        .database
        .fetch_all(
            tenant,
            Query::new(statement::directory::RESOLVE_ADDRESS)
                .bind(tenant.as_bytes())
                .bind(key.as_str())
                .bind(without_tag(&exact).map(|address| address.lookup_key())),
        )
        .await
        .map_err(error())?;
    let mut known = None;
    for row in &rows {
        if known.is_none() || Columns::new("resolve address", row).value::<&str>("lookup_key")? == key {
            known = Some(row);
        }
    }
    match (known, domain.optional("catch_all", |text| EmailAddress::parse(text).ok())?) {
        (Some(row), _) => route(row, tenant, forwards),
        (None, Some(target)) => Ok(Resolution::CatchAll(AliasRoute { tenant, targets: vec![target], forwards })),
        (None, None) => Ok(Resolution::UnknownAddress { tenant }),
    }
}

/// Where a user's or an alias' address leads.
fn route(row: &Row, tenant: TenantId, forwards: MailboxId) -> Result<Resolution, StoreError> {
    let columns = Columns::new("resolve address", row);
    if !columns.value::<bool>("enabled")? {
        return Ok(Resolution::Disabled { tenant });
    }
    if let Some(targets) = codec::read_targets(&columns, "targets")? {
        return Ok(Resolution::Alias(AliasRoute { tenant, targets, forwards }));
    }
    Ok(Resolution::Mailbox(MailboxRoute {
        tenant,
        mailbox: MailboxId::from_bytes(columns.id("mailbox_id")?),
        user: UserId::from_bytes(columns.id("user_id")?),
        address: address(&columns, "address")?,
        quota: user::quota(&columns)?,
    }))
}
