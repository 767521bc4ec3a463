//! Asks name servers.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use async_trait::async_trait;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};

use super::{MxHost, ResolveError, Resolver};

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

    /// What is known about a name; `None` if it exists without any record of this kind.
    async fn lookup(&self, name: &str, kind: RecordType) -> Result<Option<Lookup>, ResolveError> {
        match self.0.lookup(absolute(name)?, kind).await {
            Ok(lookup) => Ok(Some(lookup)),
            Err(error) => nothing(&error).map(|()| None),
        }
    }
}

#[async_trait]
impl Resolver for DnsResolver {
    async fn mx(&self, domain: &str) -> Result<Vec<MxHost>, ResolveError> {
        let lookup = self.lookup(domain, RecordType::MX).await?;
        let (mut hosts, mut null) = (Vec::new(), false);
        for data in answers(&lookup) {
            let RData::MX(mx) = data else { continue };
            if mx.exchange.is_root() {
                null = true;
            } else {
                hosts.push(MxHost { preference: mx.preference, host: text(&mx.exchange) });
            }
        }
        // RFC 7505 §3: a null MX stands alone; beside others it means nothing.
        if null && hosts.is_empty() { Err(ResolveError::NullMx) } else { Ok(hosts) }
    }

    async fn ipv4(&self, host: &str) -> Result<Vec<Ipv4Addr>, ResolveError> {
        let lookup = self.lookup(host, RecordType::A).await?;
        Ok(answers(&lookup).filter_map(|data| if let RData::A(found) = data { Some(found.0) } else { None }).collect())
    }

    async fn ipv6(&self, host: &str) -> Result<Vec<Ipv6Addr>, ResolveError> {
        let lookup = self.lookup(host, RecordType::AAAA).await?;
        Ok(answers(&lookup)
            .filter_map(|data| if let RData::AAAA(found) = data { Some(found.0) } else { None })
            .collect())
    }

    async fn txt(&self, name: &str) -> Result<Vec<Vec<u8>>, ResolveError> {
        let lookup = self.lookup(name, RecordType::TXT).await?;
        Ok(answers(&lookup)
            .filter_map(|data| if let RData::TXT(found) = data { Some(found.txt_data.concat()) } else { None })
            .collect())
    }

    async fn names(&self, address: IpAddr) -> Result<Vec<String>, ResolveError> {
        let lookup = self.lookup(&Name::from(address).to_ascii(), RecordType::PTR).await?;
        Ok(answers(&lookup)
            .filter_map(|data| if let RData::PTR(found) = data { Some(text(&found.0)) } else { None })
            .collect())
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        // Unlike the others, this asks the hosts file of the system, too.
        match self.0.lookup_ip(absolute(host)?).await {
            Ok(found) if found.iter().next().is_some() => Ok(found.iter().collect()),
            Ok(_) => Err(ResolveError::NotFound),
            Err(error) => nothing(&error).and(Err(ResolveError::NotFound)),
        }
    }
}

impl fmt::Debug for DnsResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DnsResolver")
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

/// The name as it stands, without the search domains of the system.
fn absolute(name: &str) -> Result<Name, ResolveError> {
    let labels = name.trim_end_matches('.').split('.').map(str::as_bytes);
    Name::from_labels(labels).map_err(|_| ResolveError::NotFound)
}

/// A name as it stands in records, without its final dot.
fn text(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_owned()
}

fn answers(lookup: &Option<Lookup>) -> impl Iterator<Item = &RData> {
    lookup.iter().flat_map(|lookup| lookup.answers()).map(|record| &record.data)
}

/// `Ok` when the name exists, but has no record of this kind. SERVFAIL and REFUSED also come
/// without records, but mean something else.
fn nothing(error: &NetError) -> Result<(), ResolveError> {
    use hickory_resolver::net::DnsError;
    use hickory_resolver::proto::op::ResponseCode;
    match error {
        error if error.is_nx_domain() => Err(ResolveError::NotFound),
        NetError::Dns(DnsError::NoRecordsFound(none)) if none.response_code == ResponseCode::NoError => Ok(()),
        error => Err(temporary(error)),
    }
}

fn temporary(error: &NetError) -> ResolveError {
    ResolveError::Temporary(error.to_string())
}
