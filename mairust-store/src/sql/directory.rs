//! The directory: one file for each kind of entry.

use async_trait::async_trait;
use mairust_core::{DkimKeyId, Domain, EmailAddress, ScramVerifier, TenantId, Timestamp, UserId};

use super::driver::{Columns, Dialect, Query, Scope, Transaction, failed};
use super::storage::Parts;
use crate::directory::{
    Alias, AliasChange, ApiKey, Directory, DkimKey, DomainChange, DomainRow, Login, NewAlias, NewApiKey, NewDkimKey,
    NewTenant, NewUser, Resolution, SenderRule, Tenant, TenantChange, User, UserChange,
};
use crate::error::{StoreError, StoreErrorKind};
use crate::password::PasswordRecord;
use crate::sql::statement;

mod alias;
mod api_key;
mod dkim;
mod domain;
mod resolution;
mod sender_rule;
mod tenant;
mod user;

pub(super) use tenant::retention;

#[async_trait]
impl Directory for Parts {
    async fn create_tenant(&self, tenant: NewTenant) -> Result<Tenant, StoreError> {
        tenant::create(self, tenant).await
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        tenant::list(self).await
    }

    async fn tenant_by_name(&self, name: &str) -> Result<Option<Tenant>, StoreError> {
        tenant::by_name(self, name).await
    }

    async fn tenant(&self, id: TenantId) -> Result<Option<Tenant>, StoreError> {
        tenant::by_id(self, id).await
    }

    async fn change_tenant(&self, id: TenantId, change: &TenantChange) -> Result<(), StoreError> {
        tenant::change(self, id, change).await
    }

    async fn create_domain(&self, tenant: TenantId, name: &Domain) -> Result<DomainRow, StoreError> {
        domain::create(self, tenant, name, None).await
    }

    async fn create_domain_alias(
        &self,
        tenant: TenantId,
        name: &Domain,
        target: &Domain,
    ) -> Result<DomainRow, StoreError> {
        domain::create(self, tenant, name, Some(target)).await
    }

    async fn domains(&self, tenant: TenantId) -> Result<Vec<DomainRow>, StoreError> {
        domain::list(self, tenant).await
    }

    async fn domain(&self, name: &Domain) -> Result<Option<DomainRow>, StoreError> {
        domain::by_name(self, name).await
    }

    async fn change_domain(&self, tenant: TenantId, name: &Domain, change: &DomainChange) -> Result<(), StoreError> {
        domain::change(self, tenant, name, change).await
    }

    async fn create_user(&self, tenant: TenantId, user: NewUser) -> Result<User, StoreError> {
        user::create(self, tenant, user).await
    }

    async fn users(&self, tenant: TenantId) -> Result<Vec<User>, StoreError> {
        user::list(self, tenant).await
    }

    async fn user(&self, tenant: TenantId, user: UserId) -> Result<Option<User>, StoreError> {
        user::by_id(self, tenant, user).await
    }

    async fn user_by_address(&self, tenant: TenantId, address: &EmailAddress) -> Result<Option<User>, StoreError> {
        user::by_address(self, tenant, address).await
    }

    async fn oldest_user(&self, tenant: TenantId) -> Result<Option<User>, StoreError> {
        user::oldest(self, tenant).await
    }

    async fn change_user(&self, tenant: TenantId, user: UserId, change: &UserChange) -> Result<(), StoreError> {
        user::change(self, tenant, user, change).await
    }

    async fn set_password(&self, tenant: TenantId, user: UserId, password: PasswordRecord) -> Result<(), StoreError> {
        user::set_password(self, tenant, user, password).await
    }

    async fn set_scram(
        &self,
        tenant: TenantId,
        user: UserId,
        hash: &str,
        verifier: &ScramVerifier,
    ) -> Result<(), StoreError> {
        user::set_scram(self, tenant, user, hash, verifier).await
    }

    async fn login(&self, name: &str) -> Result<Option<Login>, StoreError> {
        user::login(self, name).await
    }

    async fn create_alias(&self, tenant: TenantId, alias: NewAlias) -> Result<Alias, StoreError> {
        alias::create(self, tenant, alias).await
    }

    async fn aliases(&self, tenant: TenantId) -> Result<Vec<Alias>, StoreError> {
        alias::list(self, tenant).await
    }

    async fn change_alias(
        &self,
        tenant: TenantId,
        address: &EmailAddress,
        change: &AliasChange,
    ) -> Result<(), StoreError> {
        alias::change(self, tenant, address, change).await
    }

    async fn delete_alias(&self, tenant: TenantId, address: &EmailAddress) -> Result<(), StoreError> {
        alias::delete(self, tenant, address).await
    }

    async fn resolve(&self, address: &EmailAddress) -> Result<Resolution, StoreError> {
        resolution::resolve(self, address).await
    }

    async fn set_sender_rule(&self, tenant: TenantId, rule: SenderRule) -> Result<(), StoreError> {
        sender_rule::set(self, tenant, &rule).await
    }

    async fn sender_rules(&self, tenant: TenantId) -> Result<Vec<SenderRule>, StoreError> {
        sender_rule::list(self, tenant).await
    }

    async fn delete_sender_rule(&self, tenant: TenantId, pattern: &str) -> Result<(), StoreError> {
        sender_rule::delete(self, tenant, pattern).await
    }

    async fn create_api_key(&self, tenant: TenantId, key: NewApiKey) -> Result<ApiKey, StoreError> {
        api_key::create(self, tenant, key).await
    }

    async fn api_key(&self, key_id: &str) -> Result<Option<ApiKey>, StoreError> {
        api_key::by_key_id(self, key_id).await
    }

    async fn create_dkim_key(&self, tenant: TenantId, domain: &Domain, key: NewDkimKey) -> Result<DkimKey, StoreError> {
        dkim::create(self, tenant, domain, key).await
    }

    async fn dkim_keys(&self, tenant: TenantId, domain: &Domain) -> Result<Vec<DkimKey>, StoreError> {
        dkim::list(self, tenant, domain).await
    }

    async fn activate_dkim_key(&self, tenant: TenantId, key: DkimKeyId) -> Result<(), StoreError> {
        dkim::activate(self, tenant, key).await
    }

    async fn retire_dkim_key(&self, tenant: TenantId, key: DkimKeyId) -> Result<(), StoreError> {
        dkim::retire(self, tenant, key).await
    }

    async fn delete_dkim_key(&self, tenant: TenantId, key: DkimKeyId) -> Result<(), StoreError> {
        dkim::delete(self, tenant, key).await
    }

    async fn retired_dkim_keys(&self, before: Timestamp) -> Result<Vec<DkimKey>, StoreError> {
        dkim::retired(self, before).await
    }
}

/// Begins a transaction that looks at the names of all tenants before it takes one. In PostgreSQL
/// there is one at a time; SQLite has one writer anyway.
async fn begin_naming(parts: &Parts) -> Result<Transaction, sqlx::Error> {
    let mut transaction = parts.database.begin(Scope::All).await?;
    if transaction.dialect() == Dialect::Postgres {
        transaction.execute(Query::new(statement::directory::LOCK_NAMES)).await?;
    }
    Ok(transaction)
}

/// Whether nobody has this name.
async fn check_name(operation: &'static str, transaction: &mut Transaction, name: &str) -> Result<(), StoreError> {
    let row = transaction.fetch_one(Query::new(statement::directory::NAME_TAKEN).bind(name)).await;
    let row = row.map_err(failed(operation, name))?;
    if Columns::new(operation, &row).value("taken")? {
        Err(StoreError::new(StoreErrorKind::AlreadyExists, operation, name))
    } else {
        Ok(())
    }
}

/// `NotFound` if a statement had nothing to change.
fn changed(operation: &'static str, what: impl std::fmt::Display, done: u64) -> Result<(), StoreError> {
    match done {
        0 => Err(StoreError::new(StoreErrorKind::NotFound, operation, what)),
        _ => Ok(()),
    }
}

/// An address that stands in a column.
fn address(columns: &Columns<'_>, column: &'static str) -> Result<EmailAddress, StoreError> {
    columns.parsed(column, |text| EmailAddress::parse(text).ok())
}
