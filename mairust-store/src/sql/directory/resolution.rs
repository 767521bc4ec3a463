//! Where mail for an address goes.

use mairust_core::{EmailAddress, MailboxId, TenantId, UserId};

use super::{address, user};
use crate::directory::{AliasRoute, MailboxRoute, Resolution, without_tag};
use crate::error::StoreError;
use crate::sql::driver::{Columns, Query, Scope, failed};
use crate::sql::storage::Parts;
use crate::sql::{codec, statement};

/// One query, however the address is known: with each message somebody waits for it.
pub(super) async fn resolve(parts: &Parts, address: &EmailAddress) -> Result<Resolution, StoreError> {
    let query = Query::new(statement::directory::RESOLVE)
        .bind(address.domain().as_str())
        .bind(local_key(address))
        .bind(without_tag(address).as_ref().map(local_key));
    let found = parts.database.look_up(Scope::All, query).await.map_err(failed("resolve address", address))?;
    let Some(row) = found.first() else { return Ok(Resolution::ForeignDomain) };
    let columns = Columns::new("resolve address", row);
    let tenant = TenantId::from_bytes(columns.id("tenant_id")?);
    if !columns.value::<bool>("domain_enabled")? {
        return Ok(Resolution::Disabled { tenant });
    }
    let forwards = MailboxId::from_bytes(columns.id("forwards_id")?);
    let is_known = columns.value::<Option<&str>>("lookup_key")?.is_some();
    match (is_known, columns.optional("catch_all", |text| EmailAddress::parse(text).ok())?) {
        (true, _) => route(&columns, tenant, forwards),
        (false, Some(target)) => Ok(Resolution::CatchAll(AliasRoute { tenant, targets: vec![target], forwards })),
        (false, None) => Ok(Resolution::UnknownAddress { tenant }),
    }
}

/// The part of a lookup key before the domain, in whose place that of another one may stand.
fn local_key(address: &EmailAddress) -> String {
    let mut key = address.lookup_key();
    key.truncate(key.rfind('@').unwrap_or(key.len()));
    key
}

/// Where a user's or an alias' address leads.
fn route(columns: &Columns<'_>, tenant: TenantId, forwards: MailboxId) -> Result<Resolution, StoreError> {
    if !columns.value::<bool>("enabled")? {
        return Ok(Resolution::Disabled { tenant });
    }
    if let Some(targets) = codec::read_targets(columns, "targets")? {
        return Ok(Resolution::Alias(AliasRoute { tenant, targets, forwards }));
    }
    Ok(Resolution::Mailbox(MailboxRoute {
        tenant,
        mailbox: MailboxId::from_bytes(columns.id("mailbox_id")?),
        user: UserId::from_bytes(columns.id("user_id")?),
        address: address(columns, "address")?,
        quota: user::quota(columns)?,
    }))
}
