//! DNS with proofs by DNSSEC (RFC 4033), as far as DANE needs it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::{MxHost, ResolveError};

/// An answer, and whether it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven<T> {
    /// The answer.
    pub value: T,
    /// The name that has it: the one that was asked for, or where its aliases lead to.
    pub name: String,
    /// Whether signatures lead from a trust anchor to it. Otherwise it is just as well proven that it lies in a zone
    /// that nobody signs, and anybody may have made it up.
    pub secure: bool,
}

/// What is proven about the place of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostProof {
    /// That it has addresses, under the name that all aliases lead to: the host itself where there is none.
    Addresses(String),
    /// That it is an alias. Where that leads to is not signed.
    Alias,
    /// Nothing: it lies in a zone that nobody signs, or does not exist.
    Nothing,
}

/// A record that says which certificate or key a service has (RFC 6698 §2.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tlsa {
    /// How it is to be used: 2 is DANE-TA, 3 is DANE-EE.
    pub usage: u8,
    /// What of the certificate it speaks of: 0 is all of it, 1 its public key.
    pub selector: u8,
    /// How that is written in `data`: 0 is as it is, 1 is SHA-256, 2 is SHA-512.
    pub matching: u8,
    /// The certificate, the key, or a digest.
    pub data: Vec<u8>,
}

/// Answers questions to DNS with proofs.
///
/// Names are written as for a [`Resolver`](super::Resolver). An answer that ought to be signed and is not, or not
/// rightly, is none: [`ResolveError::Temporary`], as for a question without an answer. Dropping a future is safe.
#[async_trait]
pub trait ValidatingResolver: fmt::Debug + Send + Sync + 'static {
    /// The mail exchangers of a domain, in any order; empty when it exists without any. Aliases are followed, and
    /// are part of the proof.
    ///
    /// # Errors
    /// [`ResolveError::NullMx`] for a null MX, or another one.
    async fn mx(&self, domain: &str) -> Result<Proven<Vec<MxHost>>, ResolveError>;

    /// What is proven about the place of a host.
    ///
    /// # Errors
    /// [`ResolveError::Temporary`] only.
    async fn host(&self, host: &str) -> Result<HostProof, ResolveError>;

    /// The TLSA records of a name, in any order; empty when there is none. Aliases are followed, and are part of the
    /// proof.
    ///
    /// # Errors
    /// [`ResolveError::Temporary`] only.
    async fn tlsa(&self, name: &str) -> Result<Proven<Vec<Tlsa>>, ResolveError>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: ValidatingResolver + ?Sized> ValidatingResolver for Arc<T> {
    async fn mx(&self, domain: &str) -> Result<Proven<Vec<MxHost>>, ResolveError> {
        (**self).mx(domain).await
    }

    async fn host(&self, host: &str) -> Result<HostProof, ResolveError> {
        (**self).host(host).await
    }

    async fn tlsa(&self, name: &str) -> Result<Proven<Vec<Tlsa>>, ResolveError> {
        (**self).tlsa(name).await
    }
}
