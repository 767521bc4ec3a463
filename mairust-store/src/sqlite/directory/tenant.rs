//! Tenants.

use mairust_core::{FolderId, MailboxId, TenantId, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::changed;
use crate::directory::{NewTenant, Tenant, TenantChange};
use crate::error::StoreError;
use crate::message::Folder;
use crate::sql;
use crate::sqlite::Parts;
use crate::sqlite::row::{Columns, failed};

pub(super) async fn create(parts: &Parts, new: NewTenant) -> Result<Tenant, StoreError> {
    let now = parts.clock.now();
    let NewTenant { name, any_sender } = new;
    let tenant = Tenant { id: TenantId::new(now), name, any_sender, enabled: true, forwards: MailboxId::new(now) };
    let error = || failed("create tenant", &tenant.name);
    let mut transaction = parts.writer.begin_with("BEGIN IMMEDIATE").await.map_err(error())?;
    sqlx::query(sql::directory::INSERT_TENANT)
        .bind(&tenant.id.as_bytes()[..])
        .bind(tenant.name.as_str())
        .bind(tenant.any_sender)
        .bind(now.as_micros())
        .execute(&mut *transaction)
        .await
        .map_err(error())?;
    insert_mailbox(&mut transaction, tenant.id, tenant.forwards, "forwards", now).await?;
    sqlx::query(sql::directory::INSERT_FORWARDS)
        .bind(&tenant.id.as_bytes()[..])
        .bind(&tenant.forwards.as_bytes()[..])
        .execute(&mut *transaction)
        .await
        .map_err(error())?;
    transaction.commit().await.map_err(error())?;
    Ok(tenant)
}

pub(super) async fn list(parts: &Parts) -> Result<Vec<Tenant>, StoreError> {
    let mut query = QueryBuilder::<Sqlite>::new(sql::directory::SELECT_TENANTS);
    let rows = query.push("ORDER BY t.id").build().fetch_all(&parts.reader).await;
    rows.map_err(failed("list tenants", "read"))?.iter().map(tenant).collect()
}

pub(super) async fn by_name(parts: &Parts, name: &str) -> Result<Option<Tenant>, StoreError> {
    let mut query = QueryBuilder::<Sqlite>::new(sql::directory::SELECT_TENANTS);
    query.push("WHERE t.name = ").push_bind(name);
    let found = query.build().fetch_optional(&parts.reader).await.map_err(failed("read tenant", name))?;
    found.as_ref().map(tenant).transpose()
}

pub(super) async fn by_id(parts: &Parts, id: TenantId) -> Result<Option<Tenant>, StoreError> {
    let mut query = QueryBuilder::<Sqlite>::new(sql::directory::SELECT_TENANTS);
    query.push("WHERE t.id = ").push_bind(id.as_bytes().to_vec());
    let found = query.build().fetch_optional(&parts.reader).await.map_err(failed("read tenant", id))?;
    found.as_ref().map(tenant).transpose()
}

pub(super) async fn change(parts: &Parts, id: TenantId, change: &TenantChange) -> Result<(), StoreError> {
    let query = sqlx::query(sql::directory::CHANGE_TENANT).bind(&id.as_bytes()[..]).bind(change.enabled);
    let done = query.execute(&parts.writer).await.map_err(failed("change tenant", id))?;
    changed("change tenant", id, &done)
}

/// Makes a mailbox with its folders, within a transaction.
pub(super) async fn insert_mailbox(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    mailbox: MailboxId,
    name: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(sql::directory::INSERT_MAILBOX)
        .bind(&tenant.as_bytes()[..])
        .bind(&mailbox.as_bytes()[..])
        .bind(name)
        .bind(now.as_micros())
        .execute(&mut *connection)
        .await
        .map_err(failed("create mailbox", name))?;
    // A folder that is made anew gets a larger value (RFC 9051 §2.3.1.1), which never is 0.
    let seconds = u32::try_from(now.to_unix().0).unwrap_or(u32::MAX).max(1);
    for folder in Folder::ALL {
        sqlx::query(sql::directory::INSERT_FOLDER)
            .bind(&tenant.as_bytes()[..])
            .bind(&FolderId::new(now).as_bytes()[..])
            .bind(&mailbox.as_bytes()[..])
            .bind(folder.as_str())
            .bind(i64::from(seconds))
            .execute(&mut *connection)
            .await
            .map_err(failed("create folder", folder.as_str()))?;
    }
    Ok(())
}

fn tenant(row: &SqliteRow) -> Result<Tenant, StoreError> {
    let columns = Columns::new("read tenant", row);
    Ok(Tenant {
        id: TenantId::from_bytes(columns.bytes("id")?),
        name: columns.value("name")?,
        any_sender: columns.value("any_sender")?,
        enabled: columns.value("enabled")?,
        forwards: MailboxId::from_bytes(columns.bytes("forwards_id")?),
    })
}
