//! DNS, as far as delivery and sender authentication need it.
//!
//! Everything in this crate that asks DNS asks a [`Resolver`]: [`DnsResolver`] asks name servers,
//! [`FakeResolver`] is a table for tests. A name that does not exist, a name without a record of
//! the kind, and a question that was not answered are three different answers.
//!
//! What DANE needs is asked of a [`ValidatingResolver`], which proves its answers by DNSSEC:
//! [`DnssecResolver`], and the same table for tests.
//!
//! Deliberately absent: any reading of what TXT records say.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use async_trait::async_trait;

mod dnssec;
mod fake;
mod servers;
mod validating;

pub use dnssec::{DnssecResolver, TrustAnchorError, TrustAnchors};
pub use fake::FakeResolver;
pub use servers::DnsResolver;
pub use validating::{HostProof, Proven, Tlsa, ValidatingResolver};

/// A host that takes mail for a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MxHost {
    /// Lower is tried first.
    pub preference: u16,
    /// The host as DNS tells it, without its final dot: not always what RFC 5321 calls a domain.
    pub host: String,
}

/// A host that offers a service (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrvHost {
    /// Lower is tried first.
    pub priority: u16,
    /// How much of the load it takes among those of its priority.
    pub weight: u16,
    /// Its port.
    pub port: u16,
    /// The host, without its final dot; empty when the service is not offered.
    pub host: String,
}

/// Why a name did not resolve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The name does not exist.
    #[error("the name does not exist")]
    NotFound,
    /// The domain says that it takes no mail (RFC 7505).
    #[error("the domain takes no mail")]
    NullMx,
    /// The question was not answered; the same question may be answered later.
    #[error("DNS lookup failed: {0}")]
    Temporary(String),
}

/// Answers questions to DNS.
///
/// A name is written with or without its final dot. A text that can't be a name, for a label is
/// empty or too long, does not exist. Dropping the future of an answer is safe at any point.
#[async_trait]
pub trait Resolver: fmt::Debug + Send + Sync + 'static {
    /// The mail exchangers of a domain, in any order; none if the domain exists without any.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`] when the domain does not exist, [`ResolveError::NullMx`] when
    /// it takes no mail, otherwise [`ResolveError::Temporary`].
    async fn mx(&self, domain: &str) -> Result<Vec<MxHost>, ResolveError>;

    /// The IPv4 addresses of a host; none if the name exists without any.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`] or [`ResolveError::Temporary`].
    async fn ipv4(&self, host: &str) -> Result<Vec<Ipv4Addr>, ResolveError>;

    /// The IPv6 addresses of a host; none if the name exists without any.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`] or [`ResolveError::Temporary`].
    async fn ipv6(&self, host: &str) -> Result<Vec<Ipv6Addr>, ResolveError>;

    /// The TXT records of a name, each with its strings joined; none if the name exists without
    /// any.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`] or [`ResolveError::Temporary`].
    async fn txt(&self, name: &str) -> Result<Vec<Vec<u8>>, ResolveError>;

    /// The hosts that offer a service, by a name such as `_submission._tcp.example.com`, in any order; none
    /// if the name exists without any.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`] or [`ResolveError::Temporary`].
    async fn srv(&self, name: &str) -> Result<Vec<SrvHost>, ResolveError>;

    /// The names that an address claims (PTR), without final dots.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`] or [`ResolveError::Temporary`].
    async fn names(&self, address: IpAddr) -> Result<Vec<String>, ResolveError>;

    /// The addresses of a host, IPv4 first, at least one.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`] when it has none, [`ResolveError::Temporary`] when none was
    /// found and a question was not answered.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let (ipv4, ipv6) = tokio::join!(self.ipv4(host), self.ipv6(host));
        let mut found: Vec<IpAddr> = Vec::new();
        found.extend(ipv4.iter().flatten().map(|address| IpAddr::V4(*address)));
        found.extend(ipv6.iter().flatten().map(|address| IpAddr::V6(*address)));
        match (found.is_empty(), ipv4, ipv6) {
            (false, ..) => Ok(found),
            (true, Err(error @ ResolveError::Temporary(_)), _) | (true, _, Err(error @ ResolveError::Temporary(_))) => {
                Err(error)
            }
            _ => Err(ResolveError::NotFound),
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Resolver + ?Sized> Resolver for Arc<T> {
    async fn mx(&self, domain: &str) -> Result<Vec<MxHost>, ResolveError> {
        (**self).mx(domain).await
    }

    async fn ipv4(&self, host: &str) -> Result<Vec<Ipv4Addr>, ResolveError> {
        (**self).ipv4(host).await
    }

    async fn ipv6(&self, host: &str) -> Result<Vec<Ipv6Addr>, ResolveError> {
        (**self).ipv6(host).await
    }

    async fn txt(&self, name: &str) -> Result<Vec<Vec<u8>>, ResolveError> {
        (**self).txt(name).await
    }

    async fn srv(&self, name: &str) -> Result<Vec<SrvHost>, ResolveError> {
        (**self).srv(name).await
    }

    async fn names(&self, address: IpAddr) -> Result<Vec<String>, ResolveError> {
        (**self).names(address).await
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        (**self).addresses(host).await
    }
}
