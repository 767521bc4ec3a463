//! Addresses to which a tenant sends nothing, since mail for them comes back or is not wanted.
//!
//! Deliberately absent: what is done about them, which is up to whoever takes mail.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::{EmailAddress, SuppressionId, TenantId, Timestamp};

use crate::error::{StoreError, StoreErrorKind};
use crate::message::Page;

/// The longest explanation of an entry in bytes.
pub const MAX_SUPPRESSION_DETAIL: usize = 1_000;

/// Why nothing is sent to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SuppressionReason {
    /// Its server has said that there is no such mailbox.
    Bounce,
    /// Whoever reads there has complained.
    Complaint,
    /// Somebody has decided so.
    Manual,
}

/// An address to be put on the list of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSuppression {
    /// Its id.
    pub id: SuppressionId,
    /// The address. Those with the same [lookup key](EmailAddress::lookup_key) are one.
    pub address: EmailAddress,
    /// Why.
    pub reason: SuppressionReason,
    /// More about it, for people; up to [`MAX_SUPPRESSION_DETAIL`] bytes.
    pub detail: Option<String>,
    /// When it is put there.
    pub created_at: Timestamp,
    /// From when on it holds no more.
    pub expires_at: Option<Timestamp>,
}

/// An address on the list of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Suppression {
    /// Its id.
    pub id: SuppressionId,
    /// The address, as it was given.
    pub address: EmailAddress,
    /// Why it is there.
    pub reason: SuppressionReason,
    /// More about it, for people.
    pub detail: Option<String>,
    /// Since when.
    pub created_at: Timestamp,
    /// From when on it holds no more.
    pub expires_at: Option<Timestamp>,
}

/// The suppression list of each tenant. Methods that change something are durable on return and safe to drop: they
/// happen whole or not at all. Addresses are also added by [`MessageStore::accept`](crate::MessageStore::accept),
/// together with the result of the delivery that is the reason.
#[async_trait]
pub trait Suppressions: fmt::Debug + Send + Sync + 'static {
    /// Puts an address on the list. One that is there, but holds no more when this one is made, gives way to it.
    ///
    /// # Errors
    /// `AlreadyExists` if the address is on the list, `NotFound` if there is no such tenant, `Invalid` if the detail
    /// is too long.
    async fn add(&self, tenant: TenantId, new: NewSuppression) -> Result<Suppression, StoreError>;

    /// The entry of this id.
    async fn get(&self, tenant: TenantId, id: SuppressionId) -> Result<Option<Suppression>, StoreError>;

    /// The entries of these addresses that hold at `now`, in no order.
    async fn which(
        &self,
        tenant: TenantId,
        addresses: &[EmailAddress],
        now: Timestamp,
    ) -> Result<Vec<Suppression>, StoreError>;

    /// The entries of a tenant behind `after`, in the order of their ids and so of time, those that hold no more
    /// included.
    async fn list(
        &self,
        tenant: TenantId,
        after: Option<SuppressionId>,
        limit: u32,
    ) -> Result<Page<Suppression>, StoreError>;

    /// Takes an entry off the list.
    ///
    /// # Errors
    /// `NotFound` if the tenant has no such entry.
    async fn remove(&self, tenant: TenantId, id: SuppressionId) -> Result<(), StoreError>;

    /// Forgets up to `max` entries that hold no more, of all tenants; how many there were. For whoever cleans up.
    async fn forget_expired(&self, now: Timestamp, max: u32) -> Result<u32, StoreError>;
}

impl SuppressionReason {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bounce, Self::Complaint, Self::Manual];

    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bounce => "bounce",
            Self::Complaint => "complaint",
            Self::Manual => "manual",
        }
    }

    /// The reason of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

impl NewSuppression {
    /// Refuses what is too long for any backend.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match &self.detail {
            Some(detail) if detail.len() > MAX_SUPPRESSION_DETAIL => {
                let advice = format!("{}: a detail has {MAX_SUPPRESSION_DETAIL} bytes at most", self.address);
                Err(StoreError::new(StoreErrorKind::Invalid, "add suppression", advice))
            }
            _ => Ok(()),
        }
    }
}

impl Suppression {
    /// Whether nothing is sent to the address at `now`.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| end > now)
    }
}

impl From<NewSuppression> for Suppression {
    fn from(new: NewSuppression) -> Self {
        let NewSuppression { id, address, reason, detail, created_at, expires_at } = new;
        Self { id, address, reason, detail, created_at, expires_at }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Suppressions + ?Sized> Suppressions for Arc<T> {
    async fn add(&self, tenant: TenantId, new: NewSuppression) -> Result<Suppression, StoreError> {
        (**self).add(tenant, new).await
    }
    async fn get(&self, tenant: TenantId, id: SuppressionId) -> Result<Option<Suppression>, StoreError> {
        (**self).get(tenant, id).await
    }
    async fn which(
        &self,
        tenant: TenantId,
        addresses: &[EmailAddress],
        now: Timestamp,
    ) -> Result<Vec<Suppression>, StoreError> {
        (**self).which(tenant, addresses, now).await
    }
    async fn list(
        &self,
        tenant: TenantId,
        after: Option<SuppressionId>,
        limit: u32,
    ) -> Result<Page<Suppression>, StoreError> {
        (**self).list(tenant, after, limit).await
    }
    async fn remove(&self, tenant: TenantId, id: SuppressionId) -> Result<(), StoreError> {
        (**self).remove(tenant, id).await
    }
    async fn forget_expired(&self, now: Timestamp, max: u32) -> Result<u32, StoreError> {
        (**self).forget_expired(now, max).await
    }
}
