//! Tenants.

use mairust_core::{FolderId, MailboxId, TenantId, Timestamp};

use super::{begin_naming, changed};
use crate::directory::{NewTenant, Tenant, TenantChange, check_retention};
use crate::error::StoreError;
use crate::message::Folder;
use crate::sql::driver::{Columns, Query, Row, Scope, Transaction, failed};
use crate::sql::statement;
use crate::sql::storage::Parts;

pub(super) async fn create(parts: &Parts, new: NewTenant) -> Result<Tenant, StoreError> {
    let now = parts.clock.now();
    let NewTenant { name, any_sender } = new;
    let tenant = Tenant {
        id: TenantId::new(now),
        name,
        any_sender,
        enabled: true,
        forwards: MailboxId::new(now),
        legal_hold: false,
        deleted_messages_days: None,
    };
    let error = || failed("create tenant", &tenant.name);
    let mut transaction = begin_naming(parts).await.map_err(error())?;
    transaction
        .execute(
            Query::new(statement::directory::INSERT_TENANT)
                .bind(tenant.id.as_bytes())
                .bind(tenant.name.as_str())
                .bind(tenant.any_sender)
                .bind(now),
        )
        .await
        .map_err(error())?;
    insert_mailbox(&mut transaction, tenant.id, tenant.forwards, "forwards", now).await?;
    transaction
        .execute(
            Query::new(statement::directory::INSERT_FORWARDS)
                .bind(tenant.id.as_bytes())
                .bind(tenant.forwards.as_bytes()),
        )
        .await
        .map_err(error())?;
    transaction.commit().await.map_err(error())?;
    Ok(tenant)
}

pub(super) async fn list(parts: &Parts) -> Result<Vec<Tenant>, StoreError> {
    let mut query = Query::new(statement::directory::SELECT_TENANTS);
    query.push("ORDER BY t.id");
    let rows = parts.database.fetch_all(Scope::All, query).await;
    rows.map_err(failed("list tenants", "read"))?.iter().map(tenant).collect()
}

pub(super) async fn by_name(parts: &Parts, name: &str) -> Result<Option<Tenant>, StoreError> {
    let mut query = Query::new(statement::directory::SELECT_TENANTS);
    query.push("WHERE t.name = ").push_bind(name);
    let found = parts.database.fetch_optional(Scope::All, query).await.map_err(failed("read tenant", name))?;
    found.as_ref().map(tenant).transpose()
}

pub(super) async fn by_id(parts: &Parts, id: TenantId) -> Result<Option<Tenant>, StoreError> {
    let mut query = Query::new(statement::directory::SELECT_TENANTS);
    query.push("WHERE t.id = ").push_bind(id.as_bytes());
    let found = parts.database.fetch_optional(Scope::All, query).await.map_err(failed("read tenant", id))?;
    found.as_ref().map(tenant).transpose()
}

pub(super) async fn change(parts: &Parts, id: TenantId, change: &TenantChange) -> Result<(), StoreError> {
    check_retention(id, change)?;
    let query = Query::new(statement::directory::CHANGE_TENANT).bind(id.as_bytes()).bind(change.enabled);
    let query = query.bind(change.legal_hold).bind(change.deleted_messages_days.is_some());
    let query = query.bind(change.deleted_messages_days.flatten());
    let done = parts.database.execute(Scope::All, query).await.map_err(failed("change tenant", id))?;
    changed("change tenant", id, done)
}

/// Makes a mailbox with its folders, within a transaction.
pub(super) async fn insert_mailbox(
    transaction: &mut Transaction,
    tenant: TenantId,
    mailbox: MailboxId,
    name: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    transaction
        .execute(
            Query::new(statement::directory::INSERT_MAILBOX)
                .bind(tenant.as_bytes())
                .bind(mailbox.as_bytes())
                .bind(name)
                .bind(now),
        )
        .await
        .map_err(failed("create mailbox", name))?;
    // A folder that is made anew gets a larger value (RFC 9051 §2.3.1.1), which never is 0.
    let seconds = u32::try_from(now.to_unix().0).unwrap_or(u32::MAX).max(1);
    for folder in Folder::ALL {
        transaction
            .execute(
                Query::new(statement::directory::INSERT_FOLDER)
                    .bind(tenant.as_bytes())
                    .bind(FolderId::new(now).as_bytes())
                    .bind(mailbox.as_bytes())
                    .bind(folder.as_str())
                    .bind(i64::from(seconds)),
            )
            .await
            .map_err(failed("create folder", folder.as_str()))?;
    }
    Ok(())
}

fn tenant(row: &Row) -> Result<Tenant, StoreError> {
    let columns = Columns::new("read tenant", row);
    Ok(Tenant {
        id: TenantId::from_bytes(columns.id("id")?),
        name: columns.value("name")?,
        any_sender: columns.value("any_sender")?,
        enabled: columns.value("enabled")?,
        forwards: MailboxId::from_bytes(columns.id("forwards_id")?),
        legal_hold: columns.value("legal_hold")?,
        deleted_messages_days: retention(&columns)?,
    })
}

/// The column `deleted_messages_days` of a tenant.
pub(in crate::sql) fn retention(columns: &Columns<'_>) -> Result<Option<u32>, StoreError> {
    let days: Option<i64> = columns.value("deleted_messages_days")?;
    days.map(|days| u32::try_from(days).map_err(|_| columns.corrupt("deleted_messages_days"))).transpose()
}
