//! Keys that sign outgoing mail for a domain.

use mairust_core::{DkimAlgorithm, DkimKeyId, Domain, TenantId, Timestamp};

use crate::error::{StoreError, StoreErrorKind};

/// The kind of secret that a private key is; its name is the id of the key.
pub const DKIM_SECRET: &str = "dkim";

/// The longest selector in octets: it is one label in DNS.
pub const MAX_SELECTOR: usize = 63;

/// The largest public key in octets: RSA keys of 8,192 bits have a fourth of it.
const MAX_PUBLIC_KEY: usize = 4_096;

/// A key to be kept. The private key is kept first, in the registry, so that no key is there that can't sign.
#[derive(Debug, Clone)]
pub struct NewDkimKey {
    /// Its id.
    pub id: DkimKeyId,
    /// Where it is published below `_domainkey` of its domain: one label in lower case.
    pub selector: String,
    /// Which kind of key.
    pub algorithm: DkimAlgorithm,
    /// The public key, as it is published.
    pub public_key: Vec<u8>,
}

/// A key that signs, is going to, or did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DkimKey {
    /// Its id, and the name of the secret that the private key is.
    pub id: DkimKeyId,
    /// Its tenant.
    pub tenant: TenantId,
    /// The domain that it signs for.
    pub domain: Domain,
    /// Where it is published below `_domainkey` of the domain.
    pub selector: String,
    /// Which kind of key.
    pub algorithm: DkimAlgorithm,
    /// The public key, as it is published.
    pub public_key: Vec<u8>,
    /// What it is used for.
    pub state: DkimKeyState,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it began to sign, the last time.
    pub activated_at: Option<Timestamp>,
    /// When it ended to sign.
    pub retired_at: Option<Timestamp>,
}

/// What a key is used for. In every state its record is to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DkimKeyState {
    /// It does not sign yet: others have to see the record first.
    Pending,
    /// It signs. A domain has one such key of each algorithm at most.
    Active,
    /// It signs no more; mail that it has signed is still on its way.
    Retired,
}

impl DkimKeyState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Active, Self::Retired];

    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Retired => "retired",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

impl DkimKey {
    /// A key that was just made.
    pub(crate) fn made(tenant: TenantId, domain: &Domain, new: NewDkimKey, now: Timestamp) -> Self {
        let NewDkimKey { id, selector, algorithm, public_key } = new;
        let (state, domain) = (DkimKeyState::Pending, domain.clone());
        let (created_at, activated_at, retired_at) = (now, None, None);
        Self { id, tenant, domain, selector, algorithm, public_key, state, created_at, activated_at, retired_at }
    }
}

/// Refuses keys that make no sense in any backend.
pub(crate) fn check_dkim_key(new: &NewDkimKey) -> Result<(), StoreError> {
    let selector = new.selector.as_bytes();
    let inner = |octet: &u8| matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let label = (1..=MAX_SELECTOR).contains(&selector.len())
        && selector.iter().all(inner)
        && !selector.starts_with(b"-")
        && !selector.ends_with(b"-");
    let invalid = |why| Err(StoreError::new(StoreErrorKind::Invalid, "create DKIM key", why));
    if !label {
        return invalid("a selector has 1 to 63 letters a to z, digits and hyphens, no hyphen at either end");
    }
    if !(1..=MAX_PUBLIC_KEY).contains(&new.public_key.len()) {
        return invalid("the public key is empty or too large");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_one_label() {
        let check = |selector: &str| {
            let (selector, algorithm, public_key) = (selector.to_owned(), DkimAlgorithm::Rsa, vec![1]);
            check_dkim_key(&NewDkimKey { id: DkimKeyId::from_bytes([1; 16]), selector, algorithm, public_key })
        };
        for fine in ["a", "s1", "202611-rsa", &"x".repeat(63)] {
            assert!(check(fine).is_ok(), "{fine}");
        }
        for odd in ["", "A", "a.b", "-a", "a-", "a_b", "a b", &"x".repeat(64)] {
            assert_eq!(check(odd).unwrap_err().kind(), StoreErrorKind::Invalid, "{odd}");
        }
    }
}
