//! Users, each with a mailbox and an address.

use mairust_core::{EmailAddress, MailboxId, ScramVerifier, TenantId, Timestamp, UserId};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};
use uuid::Uuid;

use super::tenant::insert_mailbox;
use super::{address, changed, check_name, domain};
use crate::directory::{Login, NewUser, Quota, QuotaLimit, User, UserChange, login_key};
use crate::error::StoreError;
use crate::password::PasswordRecord;
use crate::sql;
use crate::sqlite::Parts;
use crate::sqlite::row::{Columns, failed};

pub(super) async fn create(parts: &Parts, tenant: TenantId, new: NewUser) -> Result<User, StoreError> {
    let address = new.address.clone();
    let begun = parts.writer.begin_with("BEGIN IMMEDIATE").await;
    let mut transaction = begun.map_err(failed("create user", &address))?;
    let user = insert(&mut transaction, tenant, new, parts.clock.now()).await?;
    transaction.commit().await.map_err(failed("create user", &address))?;
    Ok(user)
}

pub(super) async fn list(parts: &Parts, tenant: TenantId) -> Result<Vec<User>, StoreError> {
    let mut query = of_tenant(tenant);
    let rows = query.push(" ORDER BY u.id").build().fetch_all(&parts.reader).await;
    rows.map_err(failed("list users", tenant))?.iter().map(user).collect()
}

pub(super) async fn by_id(parts: &Parts, tenant: TenantId, id: UserId) -> Result<Option<User>, StoreError> {
    let mut query = of_tenant(tenant);
    query.push(" AND u.id = ").push_bind(id.as_bytes().to_vec());
    one(parts, query).await
}

pub(super) async fn by_address(
    parts: &Parts,
    tenant: TenantId,
    address: &EmailAddress,
) -> Result<Option<User>, StoreError> {
    let mut query = of_tenant(tenant);
    query.push(" AND u.id = (SELECT user_id FROM addresses WHERE lookup_key = ").push_bind(address.lookup_key());
    query.push(")");
    one(parts, query).await
}

pub(super) async fn oldest(parts: &Parts, tenant: TenantId) -> Result<Option<User>, StoreError> {
    let mut query = of_tenant(tenant);
    query.push(" AND u.enabled ORDER BY u.id LIMIT 1");
    one(parts, query).await
}

pub(super) async fn change(parts: &Parts, tenant: TenantId, id: UserId, change: &UserChange) -> Result<(), StoreError> {
    let error = || failed("change user", id);
    let mut transaction = parts.writer.begin_with("BEGIN IMMEDIATE").await.map_err(error())?;
    let query = sqlx::query(sql::directory::CHANGE_USER).bind(&tenant.as_bytes()[..]).bind(&id.as_bytes()[..]);
    let done = query.bind(change.enabled).execute(&mut *transaction).await.map_err(error())?;
    changed("change user", id, &done)?;
    if let Some(limit) = change.quota {
        let query = sqlx::query(sql::directory::SET_QUOTA).bind(&tenant.as_bytes()[..]).bind(&id.as_bytes()[..]);
        query.bind(limit_to_number(limit)).execute(&mut *transaction).await.map_err(error())?;
    }
    transaction.commit().await.map_err(error())
}

pub(super) async fn set_password(
    parts: &Parts,
    tenant: TenantId,
    id: UserId,
    password: PasswordRecord,
) -> Result<(), StoreError> {
    let query = sqlx::query(sql::directory::SET_PASSWORD).bind(&tenant.as_bytes()[..]).bind(&id.as_bytes()[..]);
    let query = query.bind(password.hash).bind(password.scram.map(|verifier| verifier.to_string()));
    let done = query.execute(&parts.writer).await.map_err(failed("set password", id))?;
    changed("set password", id, &done)
}

pub(super) async fn set_scram(
    parts: &Parts,
    tenant: TenantId,
    id: UserId,
    hash: &str,
    verifier: &ScramVerifier,
) -> Result<(), StoreError> {
    let query = sqlx::query(sql::directory::SET_SCRAM).bind(&tenant.as_bytes()[..]).bind(&id.as_bytes()[..]);
    let query = query.bind(hash).bind(verifier.to_string());
    query.execute(&parts.writer).await.map_err(failed("set SCRAM verifier", id))?;
    Ok(())
}

pub(super) async fn login(parts: &Parts, name: &str) -> Result<Option<Login>, StoreError> {
    let key = login_key(name);
    let mut by_address = QueryBuilder::<Sqlite>::new(sql::directory::SELECT_USERS);
    by_address.push("WHERE (u.tenant_id, u.id) = (SELECT tenant_id, user_id FROM addresses WHERE lookup_key = ");
    by_address.push_bind(key.as_str()).push(")");
    let mut by_login = QueryBuilder::<Sqlite>::new(sql::directory::SELECT_USERS);
    by_login.push("WHERE u.login = ").push_bind(key.as_str());
    for mut query in [by_address, by_login] {
        let found = query.build().fetch_optional(&parts.reader).await.map_err(failed("read login", &key))?;
        if let Some(row) = found {
            let (columns, user) = (Columns::new("read login", &row), user(&row)?);
            let enabled = user.enabled && columns.value("tenant_enabled")?;
            let scram = columns.optional("scram", |text| text.parse().ok())?;
            let password = PasswordRecord { hash: columns.value("password_hash")?, scram };
            return Ok(Some(Login { user, password, enabled }));
        }
    }
    Ok(None)
}

fn of_tenant(tenant: TenantId) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(sql::directory::SELECT_USERS);
    query.push("WHERE u.tenant_id = ").push_bind(tenant.as_bytes().to_vec());
    query
}

async fn one(parts: &Parts, mut query: QueryBuilder<Sqlite>) -> Result<Option<User>, StoreError> {
    let found = query.build().fetch_optional(&parts.reader).await.map_err(failed("read user", "read"))?;
    found.as_ref().map(user).transpose()
}

async fn insert(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    new: NewUser,
    now: Timestamp,
) -> Result<User, StoreError> {
    let NewUser { address, login, password } = new;
    let (key, login) = (address.lookup_key(), login.as_deref().map(login_key));
    let domain = domain::own("create user", connection, tenant, address.domain()).await?;
    for name in std::iter::once(&key).chain(&login) {
        check_name("create user", connection, name).await?;
    }
    let (id, mailbox, quota) = (UserId::new(now), MailboxId::new(now), Quota::default());
    let user = User { id, tenant, address, mailbox, created_at: now, enabled: true, quota };
    insert_mailbox(connection, tenant, mailbox, &user.address.to_string(), now).await?;
    let address_id = Uuid::new_v4();
    sqlx::query(sql::directory::INSERT_USER)
        .bind(&tenant.as_bytes()[..])
        .bind(&user.id.as_bytes()[..])
        .bind(login)
        .bind(password.hash)
        .bind(password.scram.map(|verifier| verifier.to_string()))
        .bind(address_id)
        .bind(now.as_micros())
        .execute(&mut *connection)
        .await
        .map_err(failed("create user", &user.address))?;
    sqlx::query(sql::directory::INSERT_ADDRESS)
        .bind(&tenant.as_bytes()[..])
        .bind(address_id)
        .bind(&domain.as_bytes()[..])
        .bind(key)
        .bind(user.address.to_string())
        .bind(&user.mailbox.as_bytes()[..])
        .bind(&user.id.as_bytes()[..])
        .execute(connection)
        .await
        .map_err(failed("create user", &user.address))?;
    Ok(user)
}

fn user(row: &SqliteRow) -> Result<User, StoreError> {
    let columns = Columns::new("read user", row);
    Ok(User {
        id: UserId::from_bytes(columns.bytes("id")?),
        tenant: TenantId::from_bytes(columns.bytes("tenant_id")?),
        address: address(&columns, "address")?,
        mailbox: MailboxId::from_bytes(columns.bytes("mailbox_id")?),
        created_at: columns.time("created_at")?,
        enabled: columns.value("enabled")?,
        quota: quota(&columns)?,
    })
}

/// The columns `quota` and `used` of a mailbox.
pub(super) fn quota(columns: &Columns<'_>) -> Result<Quota, StoreError> {
    let limit = match columns.value::<Option<i64>>("quota")? {
        None => QuotaLimit::Default,
        Some(UNLIMITED) => QuotaLimit::Unlimited,
        Some(bytes) => QuotaLimit::Bytes(u64::try_from(bytes).map_err(|_| columns.corrupt("quota"))?),
    };
    Ok(Quota { limit, used: columns.number("used")? })
}

fn limit_to_number(limit: QuotaLimit) -> Option<i64> {
    match limit {
        QuotaLimit::Bytes(bytes) => Some(i64::try_from(bytes).unwrap_or(i64::MAX)),
        QuotaLimit::Default => None,
        QuotaLimit::Unlimited => Some(UNLIMITED),
    }
}

const UNLIMITED: i64 = -1;
