//! Whose an entry of the registry or of the audit log is.

use std::fmt;

use mairust_core::TenantId;

use crate::error::{StoreError, StoreErrorKind};

/// Whose an entry is: a tenant's, or that of the installation itself, which belongs to no tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// The server and all of its nodes.
    Installation,
    /// A tenant.
    Tenant(TenantId),
}

/// Stands for the installation where a tenant's id stands otherwise. No tenant has it: ids hold
/// the time when they were made.
const INSTALLATION: [u8; 16] = [0; 16];

impl Owner {
    /// The tenant, if it is one.
    pub fn tenant(self) -> Option<TenantId> {
        match self {
            Self::Installation => None,
            Self::Tenant(tenant) => Some(tenant),
        }
    }

    /// 16 octets that tell owners apart: a tenant's id, or zeros.
    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        match self {
            Self::Installation => &INSTALLATION,
            Self::Tenant(tenant) => tenant.as_bytes(),
        }
    }

    /// The owner with these octets.
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        if bytes == INSTALLATION { Self::Installation } else { Self::Tenant(TenantId::from_bytes(bytes)) }
    }

    /// Refuses a tenant that would be taken for the installation.
    pub(crate) fn check(self, operation: &'static str) -> Result<(), StoreError> {
        match self {
            Self::Tenant(tenant) if *tenant.as_bytes() == INSTALLATION => {
                Err(StoreError::new(StoreErrorKind::Invalid, operation, "no tenant has an id of zeros"))
            }
            _ => Ok(()),
        }
    }
}

impl From<TenantId> for Owner {
    fn from(tenant: TenantId) -> Self {
        Self::Tenant(tenant)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Installation => f.write_str("installation"),
            Self::Tenant(tenant) => tenant.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use mairust_core::Timestamp;

    use super::*;

    #[test]
    fn no_tenant_is_the_installation() {
        let tenant = Owner::from(TenantId::new(Timestamp::from_unix(1_763_780_646)));
        for owner in [Owner::Installation, tenant] {
            assert_eq!(Owner::from_bytes(*owner.as_bytes()), owner);
            assert!(owner.check("test").is_ok());
        }
        assert!(Owner::Tenant(TenantId::from_bytes([0; 16])).check("test").is_err());
    }
}
