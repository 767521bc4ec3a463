//! DNS, as far as delivery needs it.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use mairust_core::Domain;

/// A host that takes mail for a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MxHost {
    /// Lower is tried first.
    pub preference: u16,
    /// The host.
    pub host: Domain,
}

/// Why a name did not resolve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The name, or any record of the kind, does not exist.
    #[error("the name does not exist")]
    NotFound,
    /// The domain says that it takes no mail (RFC 7505).
    #[error("the domain takes no mail")]
    NullMx,
    /// The question was not answered; the same question may be answered later.
    #[error("DNS lookup failed: {0}")]
    Temporary(String),
}

/// Answers the questions of delivery.
#[async_trait]
pub trait Resolver: fmt::Debug + Send + Sync + 'static {
    /// The mail exchangers of a domain, in any order; none if the domain exists without any.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`] when the domain does not exist, [`ResolveError::NullMx`] when
    /// it takes no mail, otherwise [`ResolveError::Temporary`].
    async fn mx(&self, domain: &Domain) -> Result<Vec<MxHost>, ResolveError>;

    /// The addresses of a host, at least one.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`] when it has none, otherwise [`ResolveError::Temporary`].
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Resolver + ?Sized> Resolver for Arc<T> {
    async fn mx(&self, domain: &Domain) -> Result<Vec<MxHost>, ResolveError> {
        (**self).mx(domain).await
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        (**self).addresses(host).await
    }
}

/// Asks name servers. Cheap to clone; clones share a cache.
#[derive(Clone)]
pub struct DnsResolver(TokioResolver);

impl DnsResolver {
    /// Asks the name servers of the system.
    ///
    /// # Errors
    /// When the system's settings can't be read.
    pub fn system() -> Result<Self, ResolveError> {
        TokioResolver::builder_tokio().and_then(finish).map(Self).map_err(|error| temporary(&error))
    }

    /// Asks these name servers, over UDP, and over TCP for what is too long for UDP.
    ///
    /// # Errors
    /// When no resolver can be made.
    pub fn with_servers(servers: &[SocketAddr]) -> Result<Self, ResolveError> {
        let name_servers = servers.iter().map(name_server).collect();
        let config = ResolverConfig::from_name_servers(name_servers);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = ResolverOpts::default();
        finish(builder).map(Self).map_err(|error| temporary(&error))
    }
}

#[async_trait]
impl Resolver for DnsResolver {
    async fn mx(&self, domain: &Domain) -> Result<Vec<MxHost>, ResolveError> {
        let lookup = match self.0.mx_lookup(absolute(domain.as_str())).await {
            Ok(lookup) => lookup,
            Err(error) if error.is_nx_domain() => return Err(ResolveError::NotFound),
            Err(error) if is_empty_answer(&error) => return Ok(Vec::new()),
            Err(error) => return Err(temporary(&error)),
        };
        let (mut hosts, mut null) = (Vec::new(), false);
        for record in lookup.answers() {
            let RData::MX(mx) = &record.data else { continue };
            if mx.exchange.is_root() {
                null = true;
            } else if let Ok(host) = Domain::parse(&mx.exchange.to_ascii()) {
                hosts.push(MxHost { preference: mx.preference, host });
            }
        }
        // RFC 7505 §3: a null MX stands alone; beside others it means nothing.
        if null && hosts.is_empty() { Err(ResolveError::NullMx) } else { Ok(hosts) }
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        match self.0.lookup_ip(absolute(host)).await {
            Ok(found) => {
                let addresses: Vec<IpAddr> = found.iter().collect();
                if addresses.is_empty() { Err(ResolveError::NotFound) } else { Ok(addresses) }
            }
            Err(error) if error.is_nx_domain() || is_empty_answer(&error) => Err(ResolveError::NotFound),
            Err(error) => Err(temporary(&error)),
        }
    }
}

impl fmt::Debug for DnsResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DnsResolver")
    }
}

/// A table in memory: for tests, and for hosts that are known without DNS.
#[derive(Debug, Clone, Default)]
pub struct FakeResolver {
    mx: HashMap<Domain, Result<Vec<MxHost>, ResolveError>>,
    addresses: HashMap<String, Result<Vec<IpAddr>, ResolveError>>,
}

impl FakeResolver {
    /// An empty table: nothing is found.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers questions for the mail exchangers of `domain`.
    #[must_use]
    pub fn with_mx(mut self, domain: Domain, answer: Result<Vec<MxHost>, ResolveError>) -> Self {
        self.mx.insert(domain, answer);
        self
    }

    /// Answers questions for the addresses of `host`.
    #[must_use]
    pub fn with_addresses(mut self, host: &str, answer: Result<Vec<IpAddr>, ResolveError>) -> Self {
        self.addresses.insert(host.to_ascii_lowercase(), answer);
        self
    }
}

#[async_trait]
impl Resolver for FakeResolver {
    async fn mx(&self, domain: &Domain) -> Result<Vec<MxHost>, ResolveError> {
        self.mx.get(domain).cloned().unwrap_or(Err(ResolveError::NotFound))
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        self.addresses.get(&host.to_ascii_lowercase()).cloned().unwrap_or(Err(ResolveError::NotFound))
    }
}

fn finish(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<TokioResolver, NetError> {
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build()
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    let on_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    NameServerConfig::new(address.ip(), true, connections.map(on_port).into())
}

/// Without the final dot, the search domains of the system would be tried as well.
fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

/// The name exists, but has no record of this kind. SERVFAIL and REFUSED also come without
/// records, but mean something else.
fn is_empty_answer(error: &NetError) -> bool {
    use hickory_resolver::net::DnsError;
    use hickory_resolver::proto::op::ResponseCode;
    matches!(error, NetError::Dns(DnsError::NoRecordsFound(none)) if none.response_code == ResponseCode::NoError)
}

fn temporary(error: &NetError) -> ResolveError {
    ResolveError::Temporary(error.to_string())
}
