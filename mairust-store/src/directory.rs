//! Who is here: tenants, domains, users, addresses, API keys.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::{ApiKeyId, Domain, DomainId, EmailAddress, MailboxId, Secret, TenantId, Timestamp, UserId};

use crate::error::{StoreError, StoreErrorKind};
use crate::password::PasswordHasher;

/// A tenant to be made.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct NewTenant {
    /// Unique name.
    pub name: String,
    /// Whether its users may send from any address, their own or not.
    pub any_sender: bool,
}

/// An organisation that owns domains and users.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its unique name.
    pub name: String,
    /// Whether its users may send from any address.
    pub any_sender: bool,
}

/// A mail domain of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DomainRow {
    /// Its id.
    pub id: DomainId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its name.
    pub name: Domain,
}

/// A user to be made, with a mailbox and an address.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// The address; its domain must be one of the tenant's.
    pub address: EmailAddress,
    /// The name to log in with, besides the address.
    pub login: Option<String>,
    /// From [`PasswordHasher::hash`].
    pub password_hash: String,
}

/// Somebody who can log in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct User {
    /// The id.
    pub id: UserId,
    /// The tenant.
    pub tenant: TenantId,
    /// The primary address.
    pub address: EmailAddress,
    /// The mailbox behind it.
    pub mailbox: MailboxId,
    /// When the user was made.
    pub created_at: Timestamp,
}

/// What is needed to check a password.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Login {
    /// Who it is, if the password is right.
    pub user: User,
    /// For [`PasswordHasher::verify`].
    pub password_hash: String,
}

/// Where mail for an address goes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resolution {
    /// The domain is nobody's here.
    ForeignDomain,
    /// Into this mailbox.
    Mailbox {
        /// Whose it is.
        tenant: TenantId,
        /// Which.
        mailbox: MailboxId,
    },
    /// The domain is ours, the address is not known.
    UnknownAddress,
}

/// An API key to be made.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// The public part of the key; unique.
    pub key_id: String,
    /// What the key is for.
    pub name: String,
    /// HMAC-SHA256 of the secret part under the server's master key.
    pub secret_hash: [u8; 32],
    /// Scopes, for example `messages:read`.
    pub scopes: Vec<String>,
}

/// An API key, without its secret.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// Its tenant.
    pub tenant: TenantId,
    /// The public part.
    pub key_id: String,
    /// What it is for.
    pub name: String,
    /// HMAC-SHA256 of the secret part.
    pub secret_hash: [u8; 32],
    /// Scopes.
    pub scopes: Vec<String>,
}

/// Who is here. Methods that change something are durable on return and safe to drop: they
/// happen whole or not at all. Times of creation are taken from the backend's clock.
#[async_trait]
pub trait Directory: fmt::Debug + Send + Sync + 'static {
    /// Makes a tenant.
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken.
    async fn create_tenant(&self, tenant: NewTenant) -> Result<Tenant, StoreError>;

    /// The tenant of this name.
    async fn tenant_by_name(&self, name: &str) -> Result<Option<Tenant>, StoreError>;

    /// The tenant of this id.
    async fn tenant(&self, id: TenantId) -> Result<Option<Tenant>, StoreError>;

    /// Adds a domain.
    ///
    /// # Errors
    /// `AlreadyExists` if any tenant has it, `NotFound` if there is no such tenant.
    async fn create_domain(&self, tenant: TenantId, name: &Domain) -> Result<DomainRow, StoreError>;

    /// Whose domain this is. Has no tenant argument: it is how the tenant of a recipient is found.
    async fn domain(&self, name: &Domain) -> Result<Option<DomainRow>, StoreError>;

    /// Makes a user with a mailbox, its folders and the address.
    ///
    /// # Errors
    /// `AlreadyExists` if the address or the login is taken, `NotFound` if the domain is not the
    /// tenant's.
    async fn create_user(&self, tenant: TenantId, user: NewUser) -> Result<User, StoreError>;

    /// The user with this address.
    async fn user_by_address(&self, tenant: TenantId, address: &EmailAddress) -> Result<Option<User>, StoreError>;

    /// Sets the password hash of a user.
    ///
    /// # Errors
    /// `NotFound` if the tenant has no such user.
    async fn set_password(&self, tenant: TenantId, user: UserId, password_hash: String) -> Result<(), StoreError>;

    /// Looks a login up, by address or login name, whatever the case. Has no tenant argument: it
    /// is how the tenant of a client is found.
    async fn login(&self, name: &str) -> Result<Option<Login>, StoreError>;

    /// Where mail for this address goes. Has no tenant argument: it is how the tenant of a
    /// recipient is found.
    async fn resolve(&self, address: &EmailAddress) -> Result<Resolution, StoreError>;

    /// Whether a user may send as this address: it is one of the user's own, or the tenant's
    /// users may send as anybody.
    async fn may_send_as(&self, tenant: TenantId, user: UserId, address: &EmailAddress) -> Result<bool, StoreError>;

    /// Makes an API key.
    ///
    /// # Errors
    /// `AlreadyExists` if the public part is taken, `NotFound` if there is no such tenant.
    async fn create_api_key(&self, tenant: TenantId, key: NewApiKey) -> Result<ApiKey, StoreError>;

    /// The API key with this public part. Has no tenant argument: it is how the tenant of a
    /// client is found.
    async fn api_key(&self, key_id: &str) -> Result<Option<ApiKey>, StoreError>;
}

/// The form in which names at login are compared: an address as its lookup key, anything else in
/// lower case.
pub fn login_key(name: &str) -> String {
    EmailAddress::parse(name).map_or_else(|_| name.to_lowercase(), |address| address.lookup_key())
}

/// The tenant that conveniences work in.
pub const DEFAULT_TENANT: &str = "default";

/// Conveniences over a [`Directory`].
#[async_trait]
pub trait DirectoryExt {
    /// The tenant of this name; made if it is not there.
    async fn ensure_tenant(&self, name: &str) -> Result<Tenant, StoreError>;

    /// A user of the default tenant with this address and password; tenant, domain and user are
    /// made if they are not there, and the password is set if it differs.
    ///
    /// # Errors
    /// `Invalid` if the address is none, or its domain is another tenant's.
    async fn ensure_user(&self, address: &str, password: &str) -> Result<User, StoreError>;
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
            let password_hash = hasher.hash(&password).await?;
            return self.create_user(tenant.id, NewUser { address: parsed, login: None, password_hash }).await;
        };
        let current = self.login(&parsed.lookup_key()).await?;
        let unchanged = match current {
            Some(login) => hasher.verify(&login.password_hash, &password).await?,
            None => false,
        };
        if !unchanged {
            self.set_password(tenant.id, user.id, hasher.hash(&password).await?).await?;
        }
        Ok(user)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Directory + ?Sized> Directory for Arc<T> {
    async fn create_tenant(&self, tenant: NewTenant) -> Result<Tenant, StoreError> {
        (**self).create_tenant(tenant).await
    }
    async fn tenant_by_name(&self, name: &str) -> Result<Option<Tenant>, StoreError> {
        (**self).tenant_by_name(name).await
    }
    async fn tenant(&self, id: TenantId) -> Result<Option<Tenant>, StoreError> {
        (**self).tenant(id).await
    }
    async fn create_domain(&self, tenant: TenantId, name: &Domain) -> Result<DomainRow, StoreError> {
        (**self).create_domain(tenant, name).await
    }
    async fn domain(&self, name: &Domain) -> Result<Option<DomainRow>, StoreError> {
        (**self).domain(name).await
    }
    async fn create_user(&self, tenant: TenantId, user: NewUser) -> Result<User, StoreError> {
        (**self).create_user(tenant, user).await
    }
    async fn user_by_address(&self, tenant: TenantId, address: &EmailAddress) -> Result<Option<User>, StoreError> {
        (**self).user_by_address(tenant, address).await
    }
    async fn set_password(&self, tenant: TenantId, user: UserId, password_hash: String) -> Result<(), StoreError> {
        (**self).set_password(tenant, user, password_hash).await
    }
    async fn login(&self, name: &str) -> Result<Option<Login>, StoreError> {
        (**self).login(name).await
    }
    async fn resolve(&self, address: &EmailAddress) -> Result<Resolution, StoreError> {
        (**self).resolve(address).await
    }
    async fn may_send_as(&self, tenant: TenantId, user: UserId, address: &EmailAddress) -> Result<bool, StoreError> {
        (**self).may_send_as(tenant, user, address).await
    }
    async fn create_api_key(&self, tenant: TenantId, key: NewApiKey) -> Result<ApiKey, StoreError> {
        (**self).create_api_key(tenant, key).await
    }
    async fn api_key(&self, key_id: &str) -> Result<Option<ApiKey>, StoreError> {
        (**self).api_key(key_id).await
    }
}
