//! The directory, in memory.

use async_trait::async_trait;
use mairust_core::{ApiKeyId, Domain, DomainId, EmailAddress, FolderId, MailboxId, TenantId, UserId};

use super::{FolderRecord, MemoryStorage, State};
use crate::directory::{
    ApiKey, Directory, DomainRow, Login, NewApiKey, NewTenant, NewUser, Resolution, Tenant, User, login_key,
};
use crate::error::{StoreError, StoreErrorKind};
use crate::message::Folder;

#[derive(Debug)]
pub(super) struct UserRecord {
    user: User,
    password_hash: String,
}

#[derive(Debug)]
pub(super) struct AddressRecord {
    tenant: TenantId,
    mailbox: MailboxId,
    user: UserId,
}

#[async_trait]
impl Directory for MemoryStorage {
    async fn create_tenant(&self, tenant: NewTenant) -> Result<Tenant, StoreError> {
        let mut state = self.state();
        if state.tenants.values().any(|taken| taken.name == tenant.name) {
            return Err(StoreError::new(StoreErrorKind::AlreadyExists, "create tenant", tenant.name));
        }
        let tenant = Tenant { id: TenantId::new(self.clock.now()), name: tenant.name, any_sender: tenant.any_sender };
        state.tenants.insert(tenant.id, tenant.clone());
        Ok(tenant)
    }

    async fn tenant_by_name(&self, name: &str) -> Result<Option<Tenant>, StoreError> {
        Ok(self.state().tenants.values().find(|tenant| tenant.name == name).cloned())
    }

    async fn tenant(&self, id: TenantId) -> Result<Option<Tenant>, StoreError> {
        Ok(self.state().tenants.get(&id).cloned())
    }

    async fn create_domain(&self, tenant: TenantId, name: &Domain) -> Result<DomainRow, StoreError> {
        let mut state = self.state();
        state.check_tenant("create domain", tenant)?;
        if state.domains.contains_key(name) {
            return Err(StoreError::new(StoreErrorKind::AlreadyExists, "create domain", name));
        }
        let row = DomainRow { id: DomainId::new(self.clock.now()), tenant, name: name.clone() };
        state.domains.insert(name.clone(), row.clone());
        Ok(row)
    }

    async fn domain(&self, name: &Domain) -> Result<Option<DomainRow>, StoreError> {
        Ok(self.state().domains.get(name).cloned())
    }

    async fn create_user(&self, tenant: TenantId, user: NewUser) -> Result<User, StoreError> {
        let now = self.clock.now();
        let mut state = self.state();
        let (key, login) = state.check_user(tenant, &user)?;
        let mailbox = MailboxId::new(now);
        for folder in Folder::ALL {
            let record = FolderRecord { id: FolderId::new(now), next_uid: 1, modseq: 0 };
            state.folders.insert((tenant, mailbox, folder), record);
        }
        let NewUser { address, password_hash, .. } = user;
        let user = User { id: UserId::new(now), tenant, address, mailbox, created_at: now };
        state.addresses.insert(key, AddressRecord { tenant, mailbox, user: user.id });
        state.logins.extend(login.map(|login| (login, user.id)));
        state.users.insert(user.id, UserRecord { user: user.clone(), password_hash });
        Ok(user)
    }

    async fn user_by_address(&self, tenant: TenantId, address: &EmailAddress) -> Result<Option<User>, StoreError> {
        let state = self.state();
        let found = state.addresses.get(&address.lookup_key()).filter(|found| found.tenant == tenant);
        Ok(found.and_then(|found| state.users.get(&found.user)).map(|record| record.user.clone()))
    }

    async fn set_password(&self, tenant: TenantId, user: UserId, password_hash: String) -> Result<(), StoreError> {
        let mut state = self.state();
        let record = state.users.get_mut(&user).filter(|record| record.user.tenant == tenant);
        let record = record.ok_or_else(|| StoreError::new(StoreErrorKind::NotFound, "set password", user))?;
        record.password_hash = password_hash;
        Ok(())
    }

    async fn login(&self, name: &str) -> Result<Option<Login>, StoreError> {
        let state = self.state();
        let key = login_key(name);
        let user = state.addresses.get(&key).map(|address| address.user).or_else(|| state.logins.get(&key).copied());
        let record = user.and_then(|user| state.users.get(&user));
        Ok(record.map(|record| Login { user: record.user.clone(), password_hash: record.password_hash.clone() }))
    }

    async fn resolve(&self, address: &EmailAddress) -> Result<Resolution, StoreError> {
        let state = self.state();
        if !state.domains.contains_key(address.domain()) {
            return Ok(Resolution::ForeignDomain);
        }
        let found = state.addresses.get(&address.lookup_key());
        let mailbox = found.map(|found| Resolution::Mailbox { tenant: found.tenant, mailbox: found.mailbox });
        Ok(mailbox.unwrap_or(Resolution::UnknownAddress))
    }

    async fn may_send_as(&self, tenant: TenantId, user: UserId, address: &EmailAddress) -> Result<bool, StoreError> {
        let state = self.state();
        if state.users.get(&user).is_none_or(|record| record.user.tenant != tenant) {
            return Ok(false);
        }
        let own = state.addresses.get(&address.lookup_key()).is_some_and(|found| found.user == user);
        Ok(own || state.tenants.get(&tenant).is_some_and(|tenant| tenant.any_sender))
    }

    async fn create_api_key(&self, tenant: TenantId, key: NewApiKey) -> Result<ApiKey, StoreError> {
        let mut state = self.state();
        state.check_tenant("create API key", tenant)?;
        if state.api_keys.contains_key(&key.key_id) {
            return Err(StoreError::new(StoreErrorKind::AlreadyExists, "create API key", key.key_id));
        }
        let NewApiKey { key_id, name, secret_hash, scopes } = key;
        let key = ApiKey { id: ApiKeyId::new(self.clock.now()), tenant, key_id, name, secret_hash, scopes };
        state.api_keys.insert(key.key_id.clone(), key.clone());
        Ok(key)
    }

    async fn api_key(&self, key_id: &str) -> Result<Option<ApiKey>, StoreError> {
        Ok(self.state().api_keys.get(key_id).cloned())
    }
}

impl State {
    fn check_tenant(&self, operation: &'static str, tenant: TenantId) -> Result<(), StoreError> {
        let known = self.tenants.contains_key(&tenant);
        if known { Ok(()) } else { Err(StoreError::new(StoreErrorKind::NotFound, operation, tenant)) }
    }

    /// Whether a user can be made; the lookup key of the address, and the login in lower case.
    fn check_user(&self, tenant: TenantId, user: &NewUser) -> Result<(String, Option<String>), StoreError> {
        let domain = user.address.domain();
        if self.domains.get(domain).is_none_or(|row| row.tenant != tenant) {
            return Err(StoreError::new(StoreErrorKind::NotFound, "create user", domain));
        }
        let (key, login) = (user.address.lookup_key(), user.login.as_deref().map(login_key));
        let taken = |name: &String| self.addresses.contains_key(name) || self.logins.contains_key(name);
        if let Some(name) = std::iter::once(&key).chain(&login).find(|name| taken(name)) {
            return Err(StoreError::new(StoreErrorKind::AlreadyExists, "create user", name));
        }
        Ok((key, login))
    }
}
