//! Who is here: tenants, domains and the keys that sign for them, users, aliases, API keys, and what a
//! tenant thinks of senders.
//!
//! Deliberately absent: following aliases to their end, which is up to whoever takes the mail, and
//! what a pattern of a sender matches.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::{DkimKeyId, Domain, EmailAddress, ScramVerifier, Secret, TenantId, Timestamp, UserId};

use crate::error::{StoreError, StoreErrorKind};
use crate::password::{PasswordHasher, PasswordRecord};

mod dkim;
mod record;
mod resolution;

pub use dkim::{DKIM_SECRET, DkimKey, DkimKeyState, MAX_SELECTOR, NewDkimKey};
pub use record::{
    Alias, AliasChange, ApiKey, DomainChange, DomainRow, Login, MAX_ALIAS_TARGETS, MAX_SENDER_PATTERN, NewAlias,
    NewApiKey, NewTenant, NewUser, SenderAction, SenderRule, Suspension, Tenant, TenantChange, User, UserChange,
};
pub use resolution::{AliasRoute, MailboxRoute, Quota, QuotaLimit, Resolution};

pub(crate) use dkim::check_dkim_key;
pub(crate) use record::{check_retention, check_targets, sender_pattern};

/// Who is here. Methods that change something are durable on return and safe to drop: they
/// happen whole or not at all. Times of creation are taken from the backend's clock. Lists are
/// sorted by id, and so by the time of creation.
///
/// Addresses of users and of aliases, and names to log in with, are one space of names: none is
/// taken twice, whatever the tenant.
#[async_trait]
pub trait Directory: fmt::Debug + Send + Sync + 'static {
    /// Makes a tenant, with the mailbox for what it sends on.
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken.
    async fn create_tenant(&self, tenant: NewTenant) -> Result<Tenant, StoreError>;

    /// All tenants: for whoever runs the server.
    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError>;

    /// The tenant of this name.
    async fn tenant_by_name(&self, name: &str) -> Result<Option<Tenant>, StoreError>;

    /// The tenant of this id.
    async fn tenant(&self, id: TenantId) -> Result<Option<Tenant>, StoreError>;

    /// Changes a tenant. May run twice.
    ///
    /// # Errors
    /// `NotFound` if there is no such tenant, `Invalid` if it is to keep deleted messages for too long.
    async fn change_tenant(&self, id: TenantId, change: &TenantChange) -> Result<(), StoreError>;

    /// Adds a domain.
    ///
    /// # Errors
    /// `AlreadyExists` if any tenant has it, `NotFound` if there is no such tenant.
    async fn create_domain(&self, tenant: TenantId, name: &Domain) -> Result<DomainRow, StoreError>;

    /// Adds a domain whose addresses are those of `target`. It has none of its own.
    ///
    /// # Errors
    /// `AlreadyExists` if any tenant has it, `NotFound` if `target` is not one of the tenant's,
    /// `Invalid` if `target` is such a domain itself.
    async fn create_domain_alias(
        &self,
        tenant: TenantId,
        name: &Domain,
        target: &Domain,
    ) -> Result<DomainRow, StoreError>;

    /// The domains of a tenant.
    async fn domains(&self, tenant: TenantId) -> Result<Vec<DomainRow>, StoreError>;

    /// Whose domain this is. Has no tenant argument: it is how the tenant of a recipient is found.
    async fn domain(&self, name: &Domain) -> Result<Option<DomainRow>, StoreError>;

    /// Changes a domain. May run twice.
    ///
    /// # Errors
    /// `NotFound` if the tenant has no such domain; `Invalid` if the catch-all is an address of
    /// another tenant, or the domain is an alias of another and can't have one.
    async fn change_domain(&self, tenant: TenantId, name: &Domain, change: &DomainChange) -> Result<(), StoreError>;

    /// Makes a user with a mailbox, its folders and the address.
    ///
    /// # Errors
    /// `AlreadyExists` if the address or the login is taken, `NotFound` if the domain is not the
    /// tenant's, `Invalid` if it is an alias of another domain.
    async fn create_user(&self, tenant: TenantId, user: NewUser) -> Result<User, StoreError>;

    /// The users of a tenant.
    async fn users(&self, tenant: TenantId) -> Result<Vec<User>, StoreError>;

    /// The user of this id.
    async fn user(&self, tenant: TenantId, user: UserId) -> Result<Option<User>, StoreError>;

    /// The user with this address, as it was made.
    async fn user_by_address(&self, tenant: TenantId, address: &EmailAddress) -> Result<Option<User>, StoreError>;

    /// The user who was made first, of those who are enabled.
    async fn oldest_user(&self, tenant: TenantId) -> Result<Option<User>, StoreError>;

    /// Changes a user. May run twice.
    ///
    /// # Errors
    /// `NotFound` if the tenant has no such user.
    async fn change_user(&self, tenant: TenantId, user: UserId, change: &UserChange) -> Result<(), StoreError>;

    /// Sets the password of a user.
    ///
    /// # Errors
    /// `NotFound` if the tenant has no such user.
    async fn set_password(&self, tenant: TenantId, user: UserId, password: PasswordRecord) -> Result<(), StoreError>;

    /// Adds the verifier to the password with this hash, unless it has one. A user who is not there
    /// or has another password by now is left as it is. May run twice.
    async fn set_scram(
        &self,
        tenant: TenantId,
        user: UserId,
        hash: &str,
        verifier: &ScramVerifier,
    ) -> Result<(), StoreError>;

    /// Looks a login up, by address or login name, whatever the case. Has no tenant argument: it
    /// is how the tenant of a client is found.
    async fn login(&self, name: &str) -> Result<Option<Login>, StoreError>;

    /// Makes an alias.
    ///
    /// # Errors
    /// `AlreadyExists` if the address is taken, `NotFound` if the domain is not the tenant's;
    /// `Invalid` if the domain is an alias of another, if there are no or too many targets, or if
    /// one of them is the address itself or an address of another tenant.
    async fn create_alias(&self, tenant: TenantId, alias: NewAlias) -> Result<Alias, StoreError>;

    /// The aliases of a tenant.
    async fn aliases(&self, tenant: TenantId) -> Result<Vec<Alias>, StoreError>;

    /// Changes an alias. May run twice.
    ///
    /// # Errors
    /// `NotFound` if the tenant has no such alias; `Invalid` as for
    /// [`create_alias`](Self::create_alias).
    async fn change_alias(
        &self,
        tenant: TenantId,
        address: &EmailAddress,
        change: &AliasChange,
    ) -> Result<(), StoreError>;

    /// Removes an alias.
    ///
    /// # Errors
    /// `NotFound` if the tenant has no such alias.
    async fn delete_alias(&self, tenant: TenantId, address: &EmailAddress) -> Result<(), StoreError>;

    /// Where mail for this address goes: the address itself before the one without its `+tag`
    /// (RFC 5233), both before the catch-all of the domain; at a domain that is an alias, the
    /// address at the other domain. One step: aliases are not followed. Has no tenant argument: it
    /// is how the tenant of a recipient is found.
    async fn resolve(&self, address: &EmailAddress) -> Result<Resolution, StoreError>;

    /// Adds a rule about senders; one with the same pattern gives way to it.
    ///
    /// # Errors
    /// `NotFound` if there is no such tenant.
    async fn set_sender_rule(&self, tenant: TenantId, rule: SenderRule) -> Result<(), StoreError>;

    /// The rules of a tenant about senders, sorted by their patterns.
    async fn sender_rules(&self, tenant: TenantId) -> Result<Vec<SenderRule>, StoreError>;

    /// Removes the rule with this pattern.
    ///
    /// # Errors
    /// `NotFound` if the tenant has no such rule, `Invalid` if it can't have one.
    async fn delete_sender_rule(&self, tenant: TenantId, pattern: &str) -> Result<(), StoreError>;

    /// Makes an API key.
    ///
    /// # Errors
    /// `AlreadyExists` if the public part is taken, `NotFound` if there is no such tenant.
    async fn create_api_key(&self, tenant: TenantId, key: NewApiKey) -> Result<ApiKey, StoreError>;

    /// The API key with this public part, unless its tenant is disabled. Has no tenant argument:
    /// it is how the tenant of a client is found.
    async fn api_key(&self, key_id: &str) -> Result<Option<ApiKey>, StoreError>;

    /// Adds a key that is to sign for a domain; it does not sign yet.
    ///
    /// # Errors
    /// `AlreadyExists` if the domain has a key with this selector, `NotFound` if the domain is not the
    /// tenant's, `Invalid` if the selector is no label or the public key is empty or too large.
    async fn create_dkim_key(&self, tenant: TenantId, domain: &Domain, key: NewDkimKey) -> Result<DkimKey, StoreError>;

    /// The keys of a domain, in all states; none if the domain is not the tenant's.
    async fn dkim_keys(&self, tenant: TenantId, domain: &Domain) -> Result<Vec<DkimKey>, StoreError>;

    /// Lets a key sign; the one of the same domain and algorithm that did retires. May run twice.
    ///
    /// # Errors
    /// `NotFound` if the tenant has no such key.
    async fn activate_dkim_key(&self, tenant: TenantId, key: DkimKeyId) -> Result<(), StoreError>;

    /// Lets a key sign no more; one that does not sign stays as it is. May run twice.
    ///
    /// # Errors
    /// `NotFound` if the tenant has no such key.
    async fn retire_dkim_key(&self, tenant: TenantId, key: DkimKeyId) -> Result<(), StoreError>;

    /// Removes a key that does not sign. Its private key is another matter, see [`DKIM_SECRET`].
    ///
    /// # Errors
    /// `NotFound` if the tenant has no such key, `Conflict` if it is active.
    async fn delete_dkim_key(&self, tenant: TenantId, key: DkimKeyId) -> Result<(), StoreError>;

    /// Keys of all tenants that retired before a moment, at most a thousand: for whoever cleans up.
    async fn retired_dkim_keys(&self, before: Timestamp) -> Result<Vec<DkimKey>, StoreError>;
}

/// The form in which names at login are compared: an address as its lookup key, anything else in
/// lower case.
pub fn login_key(name: &str) -> String {
    EmailAddress::parse(name).map_or_else(|_| name.to_lowercase(), |address| address.lookup_key())
}

/// The address without the `+tag` of its local part, if it has one.
pub(crate) fn without_tag(address: &EmailAddress) -> Option<EmailAddress> {
    let local = address.local().without_tag()?;
    Some(EmailAddress::new(local, address.domain().clone()))
}

/// The tenant that conveniences work in.
pub const DEFAULT_TENANT: &str = "default";

/// Conveniences over a [`Directory`].
#[async_trait]
pub trait DirectoryExt {
    /// The tenant of this name; made if it is not there.
    async fn ensure_tenant(&self, name: &str) -> Result<Tenant, StoreError>;

    /// A user of the default tenant with this address and password; tenant, domain and user are
    /// made if they are not there, and the password is set if it differs or has no verifier.
    ///
    /// # Errors
    /// `Invalid` if the address is none, or its domain is another tenant's.
    async fn ensure_user(&self, address: &str, password: &str) -> Result<User, StoreError>;

    /// Whether a user may send as this address: what is sent to it comes to this user and to
    /// nobody else. So it is the user's own address, also with a `+tag` or at a domain that is an
    /// alias, or an alias that leads to such addresses only; never one that merely falls to a
    /// catch-all. Where the tenant lets its users send as anybody, any address will do.
    async fn may_send_as(&self, tenant: TenantId, user: UserId, address: &EmailAddress) -> Result<bool, StoreError>;
}

#[async_trait]
impl<D: Directory + ?Sized> DirectoryExt for D {
    async fn ensure_tenant(&self, name: &str) -> Result<Tenant, StoreError> {
        if let Some(tenant) = self.tenant_by_name(name).await? {
            return Ok(tenant);
        }
        match self.create_tenant(NewTenant { name: name.to_owned(), ..NewTenant::default() }).await {
            Err(error) if error.kind() == StoreErrorKind::AlreadyExists => self
                .tenant_by_name(name)
                .await?
                .ok_or_else(|| StoreError::new(StoreErrorKind::Unavailable, "ensure tenant", name)),
            other => other,
        }
    }

    async fn ensure_user(&self, address: &str, password: &str) -> Result<User, StoreError> {
        let invalid = |why: &dyn fmt::Display| {
            StoreError::new(StoreErrorKind::Invalid, "ensure user", format!("{address}: {why}"))
        };
        let parsed = EmailAddress::parse(address).map_err(|error| invalid(&error))?;
        let tenant = self.ensure_tenant(DEFAULT_TENANT).await?;
        match self.domain(parsed.domain()).await? {
            Some(domain) if domain.tenant == tenant.id => {}
            Some(_) => return Err(invalid(&"the domain is another tenant's")),
            None => drop(self.create_domain(tenant.id, parsed.domain()).await?),
        }
        let password = Secret::new(password.to_owned());
        let hasher = PasswordHasher::default();
        let Some(user) = self.user_by_address(tenant.id, &parsed).await? else {
            let password = hasher.record(&password).await?;
            return self.create_user(tenant.id, NewUser { address: parsed, login: None, password }).await;
        };
        let current = self.login(&parsed.lookup_key()).await?;
        let unchanged = match current {
            Some(Login { password: kept, .. }) if kept.scram.is_some() => hasher.verify(&kept.hash, &password).await?,
            _ => false,
        };
        if !unchanged {
            self.set_password(tenant.id, user.id, hasher.record(&password).await?).await?;
        }
        Ok(user)
    }

    async fn may_send_as(&self, tenant: TenantId, user: UserId, address: &EmailAddress) -> Result<bool, StoreError> {
        if self.user(tenant, user).await?.is_none_or(|user| !user.enabled) {
            return Ok(false);
        }
        match self.tenant(tenant).await? {
            Some(tenant) if tenant.enabled && tenant.any_sender => Ok(true),
            Some(tenant) if tenant.enabled => leads_only_to(self, tenant.id, user, address).await,
            _ => Ok(false),
        }
    }
}

/// Whether mail for an address comes to one user only. An alias that leads further than can be
/// looked at does not.
async fn leads_only_to<D: Directory + ?Sized>(
    directory: &D,
    tenant: TenantId,
    user: UserId,
    address: &EmailAddress,
) -> Result<bool, StoreError> {
    let mut waiting = vec![address.clone()];
    for _ in 0..MAX_ALIAS_TARGETS {
        let Some(next) = waiting.pop() else { return Ok(true) };
        match directory.resolve(&next).await? {
            Resolution::Mailbox(route) if (route.tenant, route.user) == (tenant, user) => {}
            Resolution::Alias(route) if route.tenant == tenant => waiting.extend(route.targets),
            _ => return Ok(false),
        }
    }
    Ok(waiting.is_empty())
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Directory + ?Sized> Directory for Arc<T> {
    async fn create_tenant(&self, tenant: NewTenant) -> Result<Tenant, StoreError> {
        (**self).create_tenant(tenant).await
    }
    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        (**self).tenants().await
    }
    async fn tenant_by_name(&self, name: &str) -> Result<Option<Tenant>, StoreError> {
        (**self).tenant_by_name(name).await
    }
    async fn tenant(&self, id: TenantId) -> Result<Option<Tenant>, StoreError> {
        (**self).tenant(id).await
    }
    async fn change_tenant(&self, id: TenantId, change: &TenantChange) -> Result<(), StoreError> {
        (**self).change_tenant(id, change).await
    }
    async fn create_domain(&self, tenant: TenantId, name: &Domain) -> Result<DomainRow, StoreError> {
        (**self).create_domain(tenant, name).await
    }
    async fn create_domain_alias(
        &self,
        tenant: TenantId,
        name: &Domain,
        target: &Domain,
    ) -> Result<DomainRow, StoreError> {
        (**self).create_domain_alias(tenant, name, target).await
    }
    async fn domains(&self, tenant: TenantId) -> Result<Vec<DomainRow>, StoreError> {
        (**self).domains(tenant).await
    }
    async fn domain(&self, name: &Domain) -> Result<Option<DomainRow>, StoreError> {
        (**self).domain(name).await
    }
    async fn change_domain(&self, tenant: TenantId, name: &Domain, change: &DomainChange) -> Result<(), StoreError> {
        (**self).change_domain(tenant, name, change).await
    }
    async fn create_user(&self, tenant: TenantId, user: NewUser) -> Result<User, StoreError> {
        (**self).create_user(tenant, user).await
    }
    async fn users(&self, tenant: TenantId) -> Result<Vec<User>, StoreError> {
        (**self).users(tenant).await
    }
    async fn user(&self, tenant: TenantId, user: UserId) -> Result<Option<User>, StoreError> {
        (**self).user(tenant, user).await
    }
    async fn user_by_address(&self, tenant: TenantId, address: &EmailAddress) -> Result<Option<User>, StoreError> {
        (**self).user_by_address(tenant, address).await
    }
    async fn oldest_user(&self, tenant: TenantId) -> Result<Option<User>, StoreError> {
        (**self).oldest_user(tenant).await
    }
    async fn change_user(&self, tenant: TenantId, user: UserId, change: &UserChange) -> Result<(), StoreError> {
        (**self).change_user(tenant, user, change).await
    }
    async fn set_password(&self, tenant: TenantId, user: UserId, password: PasswordRecord) -> Result<(), StoreError> {
        (**self).set_password(tenant, user, password).await
    }
    async fn set_scram(
        &self,
        tenant: TenantId,
        user: UserId,
        hash: &str,
        verifier: &ScramVerifier,
    ) -> Result<(), StoreError> {
        (**self).set_scram(tenant, user, hash, verifier).await
    }
    async fn login(&self, name: &str) -> Result<Option<Login>, StoreError> {
        (**self).login(name).await
    }
    async fn create_alias(&self, tenant: TenantId, alias: NewAlias) -> Result<Alias, StoreError> {
        (**self).create_alias(tenant, alias).await
    }
    async fn aliases(&self, tenant: TenantId) -> Result<Vec<Alias>, StoreError> {
        (**self).aliases(tenant).await
    }
    async fn change_alias(
        &self,
        tenant: TenantId,
        address: &EmailAddress,
        change: &AliasChange,
    ) -> Result<(), StoreError> {
        (**self).change_alias(tenant, address, change).await
    }
    async fn delete_alias(&self, tenant: TenantId, address: &EmailAddress) -> Result<(), StoreError> {
        (**self).delete_alias(tenant, address).await
    }
    async fn resolve(&self, address: &EmailAddress) -> Result<Resolution, StoreError> {
        (**self).resolve(address).await
    }
    async fn set_sender_rule(&self, tenant: TenantId, rule: SenderRule) -> Result<(), StoreError> {
        (**self).set_sender_rule(tenant, rule).await
    }
    async fn sender_rules(&self, tenant: TenantId) -> Result<Vec<SenderRule>, StoreError> {
        (**self).sender_rules(tenant).await
    }
    async fn delete_sender_rule(&self, tenant: TenantId, pattern: &str) -> Result<(), StoreError> {
        (**self).delete_sender_rule(tenant, pattern).await
    }
    async fn create_api_key(&self, tenant: TenantId, key: NewApiKey) -> Result<ApiKey, StoreError> {
        (**self).create_api_key(tenant, key).await
    }
    async fn api_key(&self, key_id: &str) -> Result<Option<ApiKey>, StoreError> {
        (**self).api_key(key_id).await
    }
    async fn create_dkim_key(&self, tenant: TenantId, domain: &Domain, key: NewDkimKey) -> Result<DkimKey, StoreError> {
        (**self).create_dkim_key(tenant, domain, key).await
    }
    async fn dkim_keys(&self, tenant: TenantId, domain: &Domain) -> Result<Vec<DkimKey>, StoreError> {
        (**self).dkim_keys(tenant, domain).await
    }
    async fn activate_dkim_key(&self, tenant: TenantId, key: DkimKeyId) -> Result<(), StoreError> {
        (**self).activate_dkim_key(tenant, key).await
    }
    async fn retire_dkim_key(&self, tenant: TenantId, key: DkimKeyId) -> Result<(), StoreError> {
        (**self).retire_dkim_key(tenant, key).await
    }
    async fn delete_dkim_key(&self, tenant: TenantId, key: DkimKeyId) -> Result<(), StoreError> {
        (**self).delete_dkim_key(tenant, key).await
    }
    async fn retired_dkim_keys(&self, before: Timestamp) -> Result<Vec<DkimKey>, StoreError> {
        (**self).retired_dkim_keys(before).await
    }
}
