//! Users, each with a mailbox and an address.

use mairust_core::{EmailAddress, MailboxId, ScramVerifier, TenantId, Timestamp, UserId};
use uuid::Uuid;

use super::tenant::insert_mailbox;
use super::{address, begin_naming, changed, check_name, domain};
use crate::directory::{Login, NewUser, Quota, QuotaLimit, Suspension, User, UserChange, login_key};
use crate::error::StoreError;
use crate::password::PasswordRecord;
use crate::sql::driver::{Columns, Query, Row, Scope, Transaction, failed};
use crate::sql::statement;
use crate::sql::storage::Parts;

pub(super) async fn create(parts: &Parts, tenant: TenantId, new: NewUser) -> Result<User, StoreError> {
    let address = new.address.clone();
    let mut transaction = begin_naming(parts).await.map_err(failed("create user", &address))?;
    let user = insert(&mut transaction, tenant, new, parts.clock.now()).await?;
    transaction.commit().await.map_err(failed("create user", &address))?;
    Ok(user)
}

pub(super) async fn list(parts: &Parts, tenant: TenantId) -> Result<Vec<User>, StoreError> {
    let mut query = of_tenant(tenant);
    query.push(" ORDER BY u.id");
    let rows = parts.database.fetch_all(tenant, query).await;
    rows.map_err(failed("list users", tenant))?.iter().map(user).collect()
}

pub(super) async fn by_id(parts: &Parts, tenant: TenantId, id: UserId) -> Result<Option<User>, StoreError> {
    let mut query = of_tenant(tenant);
    query.push(" AND u.id = ").push_bind(id.as_bytes());
    one(parts, tenant, query).await
}

pub(super) async fn by_address(
    parts: &Parts,
    tenant: TenantId,
    address: &EmailAddress,
) -> Result<Option<User>, StoreError> {
    let mut query = of_tenant(tenant);
    query.push(" AND u.id = (SELECT user_id FROM addresses WHERE lookup_key = ").push_bind(address.lookup_key());
    query.push(")");
    one(parts, tenant, query).await
}

pub(super) async fn oldest(parts: &Parts, tenant: TenantId) -> Result<Option<User>, StoreError> {
    let mut query = of_tenant(tenant);
    query.push(" AND u.enabled ORDER BY u.id LIMIT 1");
    one(parts, tenant, query).await
}

pub(super) async fn change(parts: &Parts, tenant: TenantId, id: UserId, change: &UserChange) -> Result<(), StoreError> {
    let error = || failed("change user", id);
    let mut transaction = parts.database.begin(tenant).await.map_err(error())?;
    if change.legal_hold.is_some() {
        // Whoever purges has ended before, or sees it.
        let lock = Query::new(statement::lifecycle::lock_tenant(transaction.dialect())).bind(tenant.as_bytes());
        transaction.fetch_optional(lock).await.map_err(error())?;
    }
    let query = Query::new(statement::directory::CHANGE_USER).bind(tenant.as_bytes()).bind(id.as_bytes());
    let suspension = change.suspension.clone().flatten();
    let query = query
        .bind(change.enabled)
        .bind(change.suspension.is_some())
        .bind(suspension.as_ref().map(|suspension| suspension.since))
        .bind(suspension.as_ref().map(|suspension| suspension.reason.as_str()))
        .bind(suspension.as_ref().and_then(|suspension| suspension.until));
    let done = transaction.execute(query).await.map_err(error())?;
    changed("change user", id, done)?;
    if let Some(limit) = change.quota {
        let query = Query::new(statement::directory::SET_QUOTA).bind(tenant.as_bytes()).bind(id.as_bytes());
        transaction.execute(query.bind(limit_to_number(limit))).await.map_err(error())?;
    }
    if let Some(on_hold) = change.legal_hold {
        let query = Query::new(statement::directory::SET_LEGAL_HOLD).bind(tenant.as_bytes()).bind(id.as_bytes());
        transaction.execute(query.bind(on_hold)).await.map_err(error())?;
    }
    transaction.commit().await.map_err(error())
}

pub(super) async fn set_password(
    parts: &Parts,
    tenant: TenantId,
    id: UserId,
    password: PasswordRecord,
) -> Result<(), StoreError> {
    let query = Query::new(statement::directory::SET_PASSWORD).bind(tenant.as_bytes()).bind(id.as_bytes());
    let query = query.bind(password.hash).bind(password.scram.map(|verifier| verifier.to_string()));
    let done = parts.database.execute(tenant, query).await.map_err(failed("set password", id))?;
    changed("set password", id, done)
}

pub(super) async fn set_scram(
    parts: &Parts,
    tenant: TenantId,
    id: UserId,
    hash: &str,
    verifier: &ScramVerifier,
) -> Result<(), StoreError> {
    let query = Query::new(statement::directory::SET_SCRAM).bind(tenant.as_bytes()).bind(id.as_bytes());
    let query = query.bind(hash).bind(verifier.to_string());
    parts.database.execute(tenant, query).await.map_err(failed("set SCRAM verifier", id))?;
    Ok(())
}

pub(super) async fn login(parts: &Parts, name: &str) -> Result<Option<Login>, StoreError> {
    let key = login_key(name);
    let mut by_address = Query::new(statement::directory::SELECT_USERS);
    by_address.push("WHERE (u.tenant_id, u.id) = (SELECT tenant_id, user_id FROM addresses WHERE lookup_key = ");
    by_address.push_bind(key.as_str()).push(")");
    let mut by_login = Query::new(statement::directory::SELECT_USERS);
    by_login.push("WHERE u.login = ").push_bind(key.as_str());
    for query in [by_address, by_login] {
        let found = parts.database.fetch_optional(Scope::All, query).await.map_err(failed("read login", &key))?;
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

fn of_tenant(tenant: TenantId) -> Query {
    let mut query = Query::new(statement::directory::SELECT_USERS);
    query.push("WHERE u.tenant_id = ").push_bind(tenant.as_bytes());
    query
}

async fn one(parts: &Parts, tenant: TenantId, query: Query) -> Result<Option<User>, StoreError> {
    let found = parts.database.fetch_optional(tenant, query).await.map_err(failed("read user", "read"))?;
    found.as_ref().map(user).transpose()
}

async fn insert(
    transaction: &mut Transaction,
    tenant: TenantId,
    new: NewUser,
    now: Timestamp,
) -> Result<User, StoreError> {
    let NewUser { address, login, password } = new;
    let (key, login) = (address.lookup_key(), login.as_deref().map(login_key));
    let domain = domain::own("create user", transaction, tenant, address.domain()).await?;
    for name in std::iter::once(&key).chain(&login) {
        check_name("create user", transaction, name).await?;
    }
    let (id, mailbox, quota) = (UserId::new(now), MailboxId::new(now), Quota::default());
    let user = User {
        id,
        tenant,
        address,
        mailbox,
        created_at: now,
        enabled: true,
        quota,
        legal_hold: false,
        suspension: None,
    };
    insert_mailbox(transaction, tenant, mailbox, &user.address.to_string(), now).await?;
    let address_id = Uuid::new_v4();
    transaction
        .execute(
            Query::new(statement::directory::INSERT_USER)
                .bind(tenant.as_bytes())
                .bind(user.id.as_bytes())
                .bind(login)
                .bind(password.hash)
                .bind(password.scram.map(|verifier| verifier.to_string()))
                .bind(address_id)
                .bind(now),
        )
        .await
        .map_err(failed("create user", &user.address))?;
    transaction
        .execute(
            Query::new(statement::directory::INSERT_ADDRESS)
                .bind(tenant.as_bytes())
                .bind(address_id)
                .bind(domain.as_bytes())
                .bind(key)
                .bind(user.address.to_string())
                .bind(user.mailbox.as_bytes())
                .bind(user.id.as_bytes()),
        )
        .await
        .map_err(failed("create user", &user.address))?;
    Ok(user)
}

fn user(row: &Row) -> Result<User, StoreError> {
    let columns = Columns::new("read user", row);
    Ok(User {
        id: UserId::from_bytes(columns.id("id")?),
        tenant: TenantId::from_bytes(columns.id("tenant_id")?),
        address: address(&columns, "address")?,
        mailbox: MailboxId::from_bytes(columns.id("mailbox_id")?),
        created_at: columns.time("created_at")?,
        enabled: columns.value("enabled")?,
        quota: quota(&columns)?,
        legal_hold: columns.value("legal_hold")?,
        suspension: suspension(&columns)?,
    })
}

fn suspension(columns: &Columns<'_>) -> Result<Option<Suspension>, StoreError> {
    let since = columns.optional_time("sending_suspended_at")?;
    let reason: Option<String> = columns.value("sending_suspended_because")?;
    let until = columns.optional_time("sending_suspended_until")?;
    Ok(since.map(|since| Suspension { since, reason: reason.unwrap_or_default(), until }))
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
