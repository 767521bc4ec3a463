//! The directory, in memory.

use async_trait::async_trait;
use mairust_core::{
    AliasId, ApiKeyId, DkimKeyId, Domain, DomainId, EmailAddress, FolderId, MailboxId, ScramVerifier, TenantId,
    Timestamp, UserId,
};

use super::{FolderRecord, MemoryStorage, State};
use crate::directory::{
    Alias, AliasChange, AliasRoute, ApiKey, Directory, DkimKey, DomainChange, DomainRow, Login, MailboxRoute, NewAlias,
    NewApiKey, NewDkimKey, NewTenant, NewUser, Quota, Resolution, SenderRule, Tenant, TenantChange, User, UserChange,
    check_retention, check_targets, login_key, sender_pattern, without_tag,
};
use crate::error::{StoreError, StoreErrorKind};
use crate::message::Folder;
use crate::password::PasswordRecord;

#[derive(Debug)]
pub(super) struct UserRecord {
    /// Its quota is in [`State::quotas`].
    user: User,
    password: PasswordRecord,
}

#[async_trait]
impl Directory for MemoryStorage {
    async fn create_tenant(&self, tenant: NewTenant) -> Result<Tenant, StoreError> {
        let now = self.clock.now();
        let mut state = self.state();
        if state.tenants.values().any(|taken| taken.name == tenant.name) {
            return Err(StoreError::new(StoreErrorKind::AlreadyExists, "create tenant", tenant.name));
        }
        let NewTenant { name, any_sender } = tenant;
        let tenant = Tenant {
            id: TenantId::new(now),
            name,
            any_sender,
            enabled: true,
            forwards: MailboxId::new(now),
            legal_hold: false,
            deleted_messages_days: None,
        };
        state.create_mailbox(tenant.id, tenant.forwards, now);
        state.tenants.insert(tenant.id, tenant.clone());
        Ok(tenant)
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        let mut tenants: Vec<_> = self.state().tenants.values().cloned().collect();
        tenants.sort_by_key(|tenant| tenant.id);
        Ok(tenants)
    }

    async fn tenant_by_name(&self, name: &str) -> Result<Option<Tenant>, StoreError> {
        Ok(self.state().tenants.values().find(|tenant| tenant.name == name).cloned())
    }

    async fn tenant(&self, id: TenantId) -> Result<Option<Tenant>, StoreError> {
        Ok(self.state().tenants.get(&id).cloned())
    }

    async fn change_tenant(&self, id: TenantId, change: &TenantChange) -> Result<(), StoreError> {
        check_retention(id, change)?;
        let mut state = self.state();
        let tenant = state.tenants.get_mut(&id).ok_or_else(|| not_found("change tenant", id))?;
        tenant.enabled = change.enabled.unwrap_or(tenant.enabled);
        tenant.legal_hold = change.legal_hold.unwrap_or(tenant.legal_hold);
        tenant.deleted_messages_days = change.deleted_messages_days.unwrap_or(tenant.deleted_messages_days);
        Ok(())
    }

    async fn create_domain(&self, tenant: TenantId, name: &Domain) -> Result<DomainRow, StoreError> {
        let mut state = self.state();
        state.check_tenant("create domain", tenant)?;
        let id = DomainId::new(self.clock.now());
        state.add_domain(DomainRow { id, tenant, name: name.clone(), enabled: true, alias_of: None, catch_all: None })
    }

    async fn create_domain_alias(
        &self,
        tenant: TenantId,
        name: &Domain,
        target: &Domain,
    ) -> Result<DomainRow, StoreError> {
        let mut state = self.state();
        state.check_own_domain("create domain", tenant, target)?;
        let (id, alias_of) = (DomainId::new(self.clock.now()), Some(target.clone()));
        state.add_domain(DomainRow { id, tenant, name: name.clone(), enabled: true, alias_of, catch_all: None })
    }

    async fn domains(&self, tenant: TenantId) -> Result<Vec<DomainRow>, StoreError> {
        let mut rows: Vec<_> = self.state().domains.values().filter(|row| row.tenant == tenant).cloned().collect();
        rows.sort_by_key(|row| row.id);
        Ok(rows)
    }

    async fn domain(&self, name: &Domain) -> Result<Option<DomainRow>, StoreError> {
        Ok(self.state().domains.get(name).cloned())
    }

    async fn change_domain(&self, tenant: TenantId, name: &Domain, change: &DomainChange) -> Result<(), StoreError> {
        let mut state = self.state();
        if change.catch_all.is_some() {
            state.check_own_domain("change domain", tenant, name)?;
        }
        state.check_tenant_of("change domain", tenant, change.catch_all.iter().flatten())?;
        let row = state.domains.get_mut(name).filter(|row| row.tenant == tenant);
        let row = row.ok_or_else(|| not_found("change domain", name))?;
        row.enabled = change.enabled.unwrap_or(row.enabled);
        if let Some(catch_all) = &change.catch_all {
            row.catch_all.clone_from(catch_all);
        }
        Ok(())
    }

    async fn create_user(&self, tenant: TenantId, user: NewUser) -> Result<User, StoreError> {
        let now = self.clock.now();
        let mut state = self.state();
        let NewUser { address, login, password } = user;
        state.check_own_domain("create user", tenant, address.domain())?;
        let (key, login) = (address.lookup_key(), login.as_deref().map(login_key));
        state.check_names("create user", std::iter::once(&key).chain(&login))?;
        let (id, mailbox, quota) = (UserId::new(now), MailboxId::new(now), Quota::default());
        state.create_mailbox(tenant, mailbox, now);
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
        state.addresses.insert(key, id);
        state.logins.extend(login.map(|login| (login, id)));
        state.users.insert(id, UserRecord { user: user.clone(), password });
        Ok(user)
    }

    async fn users(&self, tenant: TenantId) -> Result<Vec<User>, StoreError> {
        let state = self.state();
        let of_tenant = state.users.values().filter(|record| record.user.tenant == tenant);
        let mut users: Vec<_> = of_tenant.map(|record| state.with_quota(&record.user)).collect();
        users.sort_by_key(|user| user.id);
        Ok(users)
    }

    async fn user(&self, tenant: TenantId, user: UserId) -> Result<Option<User>, StoreError> {
        let state = self.state();
        let record = state.users.get(&user).filter(|record| record.user.tenant == tenant);
        Ok(record.map(|record| state.with_quota(&record.user)))
    }

    async fn user_by_address(&self, tenant: TenantId, address: &EmailAddress) -> Result<Option<User>, StoreError> {
        let user = self.state().addresses.get(&address.lookup_key()).copied();
        match user {
            Some(user) => self.user(tenant, user).await,
            None => Ok(None),
        }
    }

    async fn oldest_user(&self, tenant: TenantId) -> Result<Option<User>, StoreError> {
        Ok(self.users(tenant).await?.into_iter().find(|user| user.enabled))
    }

    async fn change_user(&self, tenant: TenantId, user: UserId, change: &UserChange) -> Result<(), StoreError> {
        let mut state = self.state();
        let record = state.users.get_mut(&user).filter(|record| record.user.tenant == tenant);
        let record = record.ok_or_else(|| not_found("change user", user))?;
        record.user.enabled = change.enabled.unwrap_or(record.user.enabled);
        record.user.legal_hold = change.legal_hold.unwrap_or(record.user.legal_hold);
        if let Some(suspension) = &change.suspension {
            record.user.suspension.clone_from(suspension);
        }
        let mailbox = record.user.mailbox;
        if let Some(limit) = change.quota {
            state.quotas.entry((tenant, mailbox)).or_default().limit = limit;
        }
        Ok(())
    }

    async fn set_password(&self, tenant: TenantId, user: UserId, password: PasswordRecord) -> Result<(), StoreError> {
        let mut state = self.state();
        let record = state.users.get_mut(&user).filter(|record| record.user.tenant == tenant);
        record.ok_or_else(|| not_found("set password", user))?.password = password;
        Ok(())
    }

    async fn set_scram(
        &self,
        tenant: TenantId,
        user: UserId,
        hash: &str,
        verifier: &ScramVerifier,
    ) -> Result<(), StoreError> {
        let mut state = self.state();
        let record = state.users.get_mut(&user).filter(|record| record.user.tenant == tenant);
        if let Some(record) = record.filter(|record| record.password.hash == hash) {
            record.password.scram.get_or_insert_with(|| verifier.clone());
        }
        Ok(())
    }

    async fn login(&self, name: &str) -> Result<Option<Login>, StoreError> {
        let state = self.state();
        let key = login_key(name);
        let user = state.addresses.get(&key).or_else(|| state.logins.get(&key));
        let record = user.and_then(|user| state.users.get(user));
        Ok(record.map(|record| Login {
            enabled: record.user.enabled && state.tenants.get(&record.user.tenant).is_some_and(|tenant| tenant.enabled),
            user: state.with_quota(&record.user),
            password: record.password.clone(),
        }))
    }

    async fn create_alias(&self, tenant: TenantId, alias: NewAlias) -> Result<Alias, StoreError> {
        let NewAlias { address, targets } = alias;
        let mut state = self.state();
        state.check_own_domain("create alias", tenant, address.domain())?;
        check_targets(&address, &targets)?;
        state.check_tenant_of("create alias", tenant, &targets)?;
        let key = address.lookup_key();
        state.check_names("create alias", [&key])?;
        let alias = Alias { id: AliasId::new(self.clock.now()), tenant, address, targets, enabled: true };
        state.aliases.insert(key, alias.clone());
        Ok(alias)
    }

    async fn aliases(&self, tenant: TenantId) -> Result<Vec<Alias>, StoreError> {
        let mut aliases: Vec<_> = self.state().aliases.values().filter(|row| row.tenant == tenant).cloned().collect();
        aliases.sort_by_key(|alias| alias.id);
        Ok(aliases)
    }

    async fn change_alias(
        &self,
        tenant: TenantId,
        address: &EmailAddress,
        change: &AliasChange,
    ) -> Result<(), StoreError> {
        let mut state = self.state();
        if let Some(targets) = &change.targets {
            check_targets(address, targets)?;
            state.check_tenant_of("change alias", tenant, targets)?;
        }
        let alias = state.aliases.get_mut(&address.lookup_key()).filter(|alias| alias.tenant == tenant);
        let alias = alias.ok_or_else(|| not_found("change alias", address))?;
        alias.enabled = change.enabled.unwrap_or(alias.enabled);
        if let Some(targets) = &change.targets {
            alias.targets.clone_from(targets);
        }
        Ok(())
    }

    async fn delete_alias(&self, tenant: TenantId, address: &EmailAddress) -> Result<(), StoreError> {
        let (mut state, key) = (self.state(), address.lookup_key());
        match state.aliases.get(&key) {
            Some(alias) if alias.tenant == tenant => drop(state.aliases.remove(&key)),
            _ => return Err(not_found("delete alias", address)),
        }
        Ok(())
    }

    async fn resolve(&self, address: &EmailAddress) -> Result<Resolution, StoreError> {
        Ok(self.state().resolve(address))
    }

    async fn set_sender_rule(&self, tenant: TenantId, rule: SenderRule) -> Result<(), StoreError> {
        let mut state = self.state();
        state.check_tenant("set sender rule", tenant)?;
        state.sender_rules.insert((tenant, rule.pattern.clone()), rule);
        Ok(())
    }

    async fn sender_rules(&self, tenant: TenantId) -> Result<Vec<SenderRule>, StoreError> {
        let state = self.state();
        let of_tenant = state.sender_rules.iter().filter(|((owner, _), _)| *owner == tenant);
        Ok(of_tenant.map(|(_, rule)| rule.clone()).collect())
    }

    async fn delete_sender_rule(&self, tenant: TenantId, pattern: &str) -> Result<(), StoreError> {
        let removed = self.state().sender_rules.remove(&(tenant, sender_pattern(pattern)?));
        removed.map(drop).ok_or_else(|| not_found("delete sender rule", pattern))
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
        let state = self.state();
        let enabled = |key: &&ApiKey| state.tenants.get(&key.tenant).is_some_and(|tenant| tenant.enabled);
        Ok(state.api_keys.get(key_id).filter(enabled).cloned())
    }

    async fn create_dkim_key(&self, tenant: TenantId, domain: &Domain, key: NewDkimKey) -> Result<DkimKey, StoreError> {
        self.add_dkim_key(tenant, domain, key)
    }

    async fn dkim_keys(&self, tenant: TenantId, domain: &Domain) -> Result<Vec<DkimKey>, StoreError> {
        Ok(self.dkim_keys_of(tenant, domain))
    }

    async fn activate_dkim_key(&self, tenant: TenantId, key: DkimKeyId) -> Result<(), StoreError> {
        self.make_dkim_key_active(tenant, key)
    }

    async fn retire_dkim_key(&self, tenant: TenantId, key: DkimKeyId) -> Result<(), StoreError> {
        self.make_dkim_key_retired(tenant, key)
    }

    async fn delete_dkim_key(&self, tenant: TenantId, key: DkimKeyId) -> Result<(), StoreError> {
        self.remove_dkim_key(tenant, key)
    }

    async fn retired_dkim_keys(&self, before: Timestamp) -> Result<Vec<DkimKey>, StoreError> {
        Ok(self.dkim_keys_retired_before(before))
    }
}

impl State {
    pub(super) fn check_tenant(&self, operation: &'static str, tenant: TenantId) -> Result<(), StoreError> {
        let known = self.tenants.contains_key(&tenant);
        if known { Ok(()) } else { Err(not_found(operation, tenant)) }
    }

    /// Whether the tenant may have addresses at this domain.
    fn check_own_domain(&self, operation: &'static str, tenant: TenantId, name: &Domain) -> Result<(), StoreError> {
        let row = self.domains.get(name).filter(|row| row.tenant == tenant);
        match &row.ok_or_else(|| not_found(operation, name))?.alias_of {
            None => Ok(()),
            Some(target) => {
                let why = format_args!("{name} has no addresses of its own, they are those of {target}");
                Err(StoreError::new(StoreErrorKind::Invalid, operation, why))
            }
        }
    }

    /// Whether none of the addresses is another tenant's.
    fn check_tenant_of<'a>(
        &self,
        operation: &'static str,
        tenant: TenantId,
        addresses: impl IntoIterator<Item = &'a EmailAddress>,
    ) -> Result<(), StoreError> {
        let foreign =
            |address: &&EmailAddress| self.domains.get(address.domain()).is_some_and(|row| row.tenant != tenant);
        match addresses.into_iter().find(foreign) {
            None => Ok(()),
            Some(address) => {
                let why = format_args!("{address} is an address of another tenant");
                Err(StoreError::new(StoreErrorKind::Invalid, operation, why))
            }
        }
    }

    /// Whether nobody has one of these names.
    fn check_names<'a>(
        &self,
        operation: &'static str,
        names: impl IntoIterator<Item = &'a String>,
    ) -> Result<(), StoreError> {
        let taken = |name: &&String| {
            self.addresses.contains_key(*name) || self.aliases.contains_key(*name) || self.logins.contains_key(*name)
        };
        match names.into_iter().find(taken) {
            None => Ok(()),
            Some(name) => Err(StoreError::new(StoreErrorKind::AlreadyExists, operation, name)),
        }
    }

    fn add_domain(&mut self, row: DomainRow) -> Result<DomainRow, StoreError> {
        if self.domains.contains_key(&row.name) {
            return Err(StoreError::new(StoreErrorKind::AlreadyExists, "create domain", row.name));
        }
        self.domains.insert(row.name.clone(), row.clone());
        Ok(row)
    }

    fn create_mailbox(&mut self, tenant: TenantId, mailbox: MailboxId, now: Timestamp) {
        self.quotas.insert((tenant, mailbox), Quota::default());
        for folder in Folder::ALL {
            let record = FolderRecord { id: FolderId::new(now), next_uid: 1, modseq: 0 };
            self.folders.insert((tenant, mailbox, folder), record);
        }
    }

    fn quota(&self, user: &User) -> Quota {
        self.quotas.get(&(user.tenant, user.mailbox)).copied().unwrap_or_default()
    }

    /// Whether nothing of a mailbox may be purged.
    pub(super) fn is_on_hold(&self, tenant: TenantId, mailbox: MailboxId) -> bool {
        let mut users = self.users.values().map(|record| &record.user);
        self.tenants.get(&tenant).is_some_and(|tenant| tenant.legal_hold)
            || users.any(|user| (user.tenant, user.mailbox) == (tenant, mailbox) && user.legal_hold)
    }

    fn with_quota(&self, user: &User) -> User {
        User { quota: self.quota(user), ..user.clone() }
    }

    fn resolve(&self, address: &EmailAddress) -> Resolution {
        let Some(written) = self.domains.get(address.domain()) else { return Resolution::ForeignDomain };
        let domain = written.alias_of.as_ref().and_then(|target| self.domains.get(target)).unwrap_or(written);
        let tenant = domain.tenant;
        let Some(owner) = self.tenants.get(&tenant).filter(|owner| owner.enabled && written.enabled && domain.enabled)
        else {
            return Resolution::Disabled { tenant };
        };
        let exact = EmailAddress::new(address.local().clone(), domain.name.clone());
        let known = std::iter::once(&exact).chain(&without_tag(&exact)).find_map(|address| self.known(owner, address));
        if let Some(known) = known {
            return known;
        }
        match &domain.catch_all {
            Some(target) => {
                let targets = vec![target.clone()];
                Resolution::CatchAll(AliasRoute { tenant, targets, forwards: owner.forwards })
            }
            None => Resolution::UnknownAddress { tenant },
        }
    }

    /// Where a user's or an alias' address leads.
    fn known(&self, owner: &Tenant, address: &EmailAddress) -> Option<Resolution> {
        let (key, tenant) = (address.lookup_key(), owner.id);
        let user = self.addresses.get(&key).and_then(|user| self.users.get(user));
        if let Some(UserRecord { user, .. }) = user {
            let (mailbox, address, quota) = (user.mailbox, user.address.clone(), self.quota(user));
            let route = MailboxRoute { tenant, mailbox, user: user.id, address, quota };
            return Some(if user.enabled { Resolution::Mailbox(route) } else { Resolution::Disabled { tenant } });
        }
        let alias = self.aliases.get(&key)?;
        let route = AliasRoute { tenant, targets: alias.targets.clone(), forwards: owner.forwards };
        Some(if alias.enabled { Resolution::Alias(route) } else { Resolution::Disabled { tenant } })
    }
}

pub(super) fn not_found(operation: &'static str, what: impl std::fmt::Display) -> StoreError {
    StoreError::new(StoreErrorKind::NotFound, operation, what)
}
