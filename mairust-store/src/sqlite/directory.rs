//! The directory, in SQLite.

use async_trait::async_trait;
use mairust_core::{ApiKeyId, Domain, DomainId, EmailAddress, FolderId, MailboxId, TenantId, Timestamp, UserId};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::Parts;
use super::row::{Columns, failed};
use crate::directory::{
    ApiKey, Directory, DomainRow, Login, NewApiKey, NewTenant, NewUser, Resolution, Tenant, User, login_key,
};
use crate::error::{StoreError, StoreErrorKind};
use crate::message::Folder;
use crate::sql;

#[async_trait]
impl Directory for Parts {
    async fn create_tenant(&self, tenant: NewTenant) -> Result<Tenant, StoreError> {
        let now = self.clock.now();
        let tenant = Tenant { id: TenantId::new(now), name: tenant.name, any_sender: tenant.any_sender };
        sqlx::query(sql::directory::INSERT_TENANT)
            .bind(&tenant.id.as_bytes()[..])
            .bind(tenant.name.as_str())
            .bind(tenant.any_sender)
            .bind(now.as_micros())
            .execute(&self.writer)
            .await
            .map_err(failed("create tenant", &tenant.name))?;
        Ok(tenant)
    }

    async fn tenant_by_name(&self, name: &str) -> Result<Option<Tenant>, StoreError> {
        let found = sqlx::query(sql::directory::TENANT_BY_NAME).bind(name).fetch_optional(&self.reader).await;
        found.map_err(failed("read tenant", name))?.as_ref().map(tenant).transpose()
    }

    async fn tenant(&self, id: TenantId) -> Result<Option<Tenant>, StoreError> {
        let query = sqlx::query(sql::directory::TENANT_BY_ID).bind(&id.as_bytes()[..]);
        query.fetch_optional(&self.reader).await.map_err(failed("read tenant", id))?.as_ref().map(tenant).transpose()
    }

    async fn create_domain(&self, tenant: TenantId, name: &Domain) -> Result<DomainRow, StoreError> {
        let now = self.clock.now();
        let row = DomainRow { id: DomainId::new(now), tenant, name: name.clone() };
        sqlx::query(sql::directory::INSERT_DOMAIN)
            .bind(&tenant.as_bytes()[..])
            .bind(&row.id.as_bytes()[..])
            .bind(name.as_str())
            .bind(now.as_micros())
            .execute(&self.writer)
            .await
            .map_err(failed("create domain", name))?;
        Ok(row)
    }

    async fn domain(&self, name: &Domain) -> Result<Option<DomainRow>, StoreError> {
        let query = sqlx::query(sql::directory::DOMAIN_BY_NAME).bind(name.as_str());
        query.fetch_optional(&self.reader).await.map_err(failed("read domain", name))?.as_ref().map(domain).transpose()
    }

    async fn create_user(&self, tenant: TenantId, user: NewUser) -> Result<User, StoreError> {
        let begun = self.writer.begin_with("BEGIN IMMEDIATE").await;
        let mut transaction = begun.map_err(failed("create user", &user.address))?;
        let user = insert_user(&mut transaction, tenant, user, self.clock.now()).await?;
        transaction.commit().await.map_err(failed("create user", &user.address))?;
        Ok(user)
    }

    async fn user_by_address(&self, tenant: TenantId, address: &EmailAddress) -> Result<Option<User>, StoreError> {
        let query =
            sqlx::query(sql::directory::USER_BY_ADDRESS).bind(&tenant.as_bytes()[..]).bind(address.lookup_key());
        let found = query.fetch_optional(&self.reader).await.map_err(failed("read user", address))?;
        found.map(|row| user(&Columns::new("read user", &row))).transpose()
    }

    async fn set_password(&self, tenant: TenantId, user: UserId, password_hash: String) -> Result<(), StoreError> {
        let changed = sqlx::query(sql::directory::SET_PASSWORD)
            .bind(&tenant.as_bytes()[..])
            .bind(&user.as_bytes()[..])
            .bind(password_hash)
            .execute(&self.writer)
            .await
            .map_err(failed("set password", user))?;
        match changed.rows_affected() {
            0 => Err(StoreError::new(StoreErrorKind::NotFound, "set password", user)),
            _ => Ok(()),
        }
    }

    async fn login(&self, name: &str) -> Result<Option<Login>, StoreError> {
        let key = login_key(name);
        for statement in [sql::directory::LOGIN_BY_ADDRESS, sql::directory::LOGIN_BY_NAME] {
            let found = sqlx::query(statement).bind(key.as_str()).fetch_optional(&self.reader).await;
            if let Some(row) = found.map_err(failed("read login", &key))? {
                let columns = Columns::new("read login", &row);
                return Ok(Some(Login { user: user(&columns)?, password_hash: columns.value("password_hash")? }));
            }
        }
        Ok(None)
    }

    async fn resolve(&self, address: &EmailAddress) -> Result<Resolution, StoreError> {
        let query = sqlx::query(sql::directory::RESOLVE).bind(address.domain().as_str()).bind(address.lookup_key());
        let found = query.fetch_optional(&self.reader).await.map_err(failed("resolve address", address))?;
        let Some(row) = found else { return Ok(Resolution::ForeignDomain) };
        let columns = Columns::new("resolve address", &row);
        if columns.value::<Option<&[u8]>>("mailbox_id")?.is_none() {
            return Ok(Resolution::UnknownAddress);
        }
        Ok(Resolution::Mailbox {
            tenant: TenantId::from_bytes(columns.bytes("tenant_id")?),
            mailbox: MailboxId::from_bytes(columns.bytes("mailbox_id")?),
        })
    }

    async fn may_send_as(&self, tenant: TenantId, user: UserId, address: &EmailAddress) -> Result<bool, StoreError> {
        let allowed: Result<Option<bool>, _> = sqlx::query_scalar(sql::directory::MAY_SEND_AS)
            .bind(&tenant.as_bytes()[..])
            .bind(&user.as_bytes()[..])
            .bind(address.lookup_key())
            .fetch_optional(&self.reader)
            .await;
        Ok(allowed.map_err(failed("check sender", address))?.unwrap_or(false))
    }

    async fn create_api_key(&self, tenant: TenantId, key: NewApiKey) -> Result<ApiKey, StoreError> {
        let now = self.clock.now();
        let NewApiKey { key_id, name, secret_hash, scopes } = key;
        let key = ApiKey { id: ApiKeyId::new(now), tenant, key_id, name, secret_hash, scopes };
        sqlx::query(sql::directory::INSERT_API_KEY)
            .bind(&tenant.as_bytes()[..])
            .bind(&key.id.as_bytes()[..])
            .bind(key.key_id.as_str())
            .bind(key.name.as_str())
            .bind(&key.secret_hash[..])
            .bind(sql::codec::texts_to_json(key.scopes.iter().map(String::as_str)))
            .bind(now.as_micros())
            .execute(&self.writer)
            .await
            .map_err(failed("create API key", &key.key_id))?;
        Ok(key)
    }

    async fn api_key(&self, key_id: &str) -> Result<Option<ApiKey>, StoreError> {
        let found = sqlx::query(sql::directory::API_KEY).bind(key_id).fetch_optional(&self.reader).await;
        found.map_err(failed("read API key", key_id))?.as_ref().map(api_key).transpose()
    }
}

async fn insert_user(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    new: NewUser,
    now: Timestamp,
) -> Result<User, StoreError> {
    let NewUser { address, login, password_hash } = new;
    let (key, login) = (address.lookup_key(), login.as_deref().map(login_key));
    let domain = check_user(connection, tenant, &address, login.as_deref()).await?;
    let user = User { id: UserId::new(now), tenant, address, mailbox: MailboxId::new(now), created_at: now };
    insert_mailbox(connection, &user).await?;
    let address_id = Uuid::new_v4();
    sqlx::query(sql::directory::INSERT_USER)
        .bind(&tenant.as_bytes()[..])
        .bind(&user.id.as_bytes()[..])
        .bind(login)
        .bind(password_hash)
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

/// Whether a user can be made; the domain of the address.
async fn check_user(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    address: &EmailAddress,
    login: Option<&str>,
) -> Result<DomainId, StoreError> {
    let query = sqlx::query(sql::directory::DOMAIN_OF_TENANT).bind(&tenant.as_bytes()[..]);
    let found = query.bind(address.domain().as_str()).fetch_optional(&mut *connection).await;
    let Some(row) = found.map_err(failed("create user", address))? else {
        return Err(StoreError::new(StoreErrorKind::NotFound, "create user", address.domain()));
    };
    let key = address.lookup_key();
    let taken: Result<bool, _> =
        sqlx::query_scalar(sql::directory::NAME_TAKEN).bind(key).bind(login).fetch_one(connection).await;
    if taken.map_err(failed("create user", address))? {
        return Err(StoreError::new(StoreErrorKind::AlreadyExists, "create user", address));
    }
    Ok(DomainId::from_bytes(Columns::new("create user", &row).bytes("id")?))
}

async fn insert_mailbox(connection: &mut SqliteConnection, user: &User) -> Result<(), StoreError> {
    sqlx::query(sql::directory::INSERT_MAILBOX)
        .bind(&user.tenant.as_bytes()[..])
        .bind(&user.mailbox.as_bytes()[..])
        .bind(user.address.to_string())
        .bind(user.created_at.as_micros())
        .execute(&mut *connection)
        .await
        .map_err(failed("create mailbox", &user.address))?;
    // A folder that is made anew gets a larger value (RFC 9051 §2.3.1.1), which never is 0.
    let seconds = u32::try_from(user.created_at.to_unix().0).unwrap_or(u32::MAX).max(1);
    for folder in Folder::ALL {
        sqlx::query(sql::directory::INSERT_FOLDER)
            .bind(&user.tenant.as_bytes()[..])
            .bind(&FolderId::new(user.created_at).as_bytes()[..])
            .bind(&user.mailbox.as_bytes()[..])
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
    })
}

fn domain(row: &SqliteRow) -> Result<DomainRow, StoreError> {
    let columns = Columns::new("read domain", row);
    Ok(DomainRow {
        id: DomainId::from_bytes(columns.bytes("id")?),
        tenant: TenantId::from_bytes(columns.bytes("tenant_id")?),
        name: columns.parsed("name", |text| Domain::parse(text).ok())?,
    })
}

fn user(columns: &Columns<'_>) -> Result<User, StoreError> {
    Ok(User {
        id: UserId::from_bytes(columns.bytes("id")?),
        tenant: TenantId::from_bytes(columns.bytes("tenant_id")?),
        address: columns.parsed("address", |text| EmailAddress::parse(text).ok())?,
        mailbox: MailboxId::from_bytes(columns.bytes("mailbox_id")?),
        created_at: columns.time("created_at")?,
    })
}

fn api_key(row: &SqliteRow) -> Result<ApiKey, StoreError> {
    let columns = Columns::new("read API key", row);
    Ok(ApiKey {
        id: ApiKeyId::from_bytes(columns.bytes("id")?),
        tenant: TenantId::from_bytes(columns.bytes("tenant_id")?),
        key_id: columns.value("key_id")?,
        name: columns.value("name")?,
        secret_hash: columns.bytes("secret_hash")?,
        scopes: columns.parsed("scopes", sql::codec::texts_from_json)?,
    })
}
