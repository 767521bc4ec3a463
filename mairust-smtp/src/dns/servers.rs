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

use super::{MxHost, ResolveError, Resolver, SrvHost};

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
        finish(with_servers(servers)).map(Self).map_err(|error| temporary(&error))
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
        exchangers(answers(&lookup))
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

    async fn srv(&self, name: &str) -> Result<Vec<SrvHost>, ResolveError> {
        let lookup = self.lookup(name, RecordType::SRV).await?;
        let host = |data: &RData| {
            let RData::SRV(srv) = data else { return None };
            let (priority, weight, port) = (srv.priority, srv.weight, srv.port);
            Some(SrvHost { priority, weight, port, host: text(&srv.target) })
        };
        Ok(answers(&lookup).filter_map(host).collect())
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

/// The hosts of MX records.
pub(super) fn exchangers<'a>(records: impl Iterator<Item = &'a RData>) -> Result<Vec<MxHost>, ResolveError> {
    let (mut hosts, mut null) = (Vec::new(), false);
    for data in records {
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

pub(super) fn with_servers(servers: &[SocketAddr]) -> ResolverBuilder<TokioRuntimeProvider> {
    let name_servers = servers.iter().map(name_server).collect();
    let config = ResolverConfig::from_name_servers(name_servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = ResolverOpts::default();
    builder
}

pub(super) fn finish(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<TokioResolver, NetError> {
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
pub(super) fn absolute(name: &str) -> Result<Name, ResolveError> {
    let labels = name.trim_end_matches('.').split('.').map(str::as_bytes);
    Name::from_labels(labels).map_err(|_| ResolveError::NotFound)
}

/// A name as it stands in records, without its final dot.
pub(super) fn text(name: &Name) -> String {
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

pub(super) fn temporary(error: &NetError) -> ResolveError {
    ResolveError::Temporary(error.to_string())
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::op::{Message, ResponseCode};
    use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, MX, PTR, SRV, TXT};
    use hickory_resolver::proto::rr::{Record, RecordType};
    use tokio::net::UdpSocket;

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    /// What is known of `name`; `None` if it does not exist.
    fn records(asked: &str, kind: RecordType) -> Result<Vec<RData>, ResponseCode> {
        let mx = |preference, host| RData::MX(MX::new(preference, name(host)));
        match (asked, kind) {
            ("a.example.", RecordType::A) => Ok(vec![RData::A(A([192, 0, 2, 1].into()))]),
            ("a.example.", RecordType::AAAA) => Ok(vec![RData::AAAA(AAAA("2001:db8::1".parse().unwrap()))]),
            ("a.example.", RecordType::MX) => Ok(vec![mx(10, "mx_1.Example."), mx(20, "mx2.example.")]),
            ("a.example.", RecordType::TXT) => {
                Ok(vec![RData::TXT(TXT::new(vec!["one ".to_owned(), "record".to_owned()]))])
            }
            ("alias.example.", RecordType::MX) => {
                Ok(vec![RData::CNAME(CNAME(name("a.example."))), mx(10, "mx1.example.")])
            }
            ("alias.example." | "lone.example.", _) => Ok(vec![RData::CNAME(CNAME(name("a.example.")))]),
            ("_submission._tcp.a.example.", RecordType::SRV) => {
                Ok(vec![RData::SRV(SRV::new(1, 2, 587, name("mail.a.example.")))])
            }
            ("null.example.", RecordType::MX) => Ok(vec![mx(0, ".")]),
            ("a.example." | "null.example.", _) => Ok(Vec::new()),
            ("7.2.0.192.in-addr.arpa.", RecordType::PTR) => Ok(vec![RData::PTR(PTR(name("mx.sender.example.")))]),
            ("down.example.", _) => Err(ResponseCode::ServFail),
            ("refused.example.", _) => Err(ResponseCode::Refused),
            _ => Err(ResponseCode::NXDomain),
        }
    }

    /// A resolver that asks a name server in this process.
    async fn resolver() -> DnsResolver {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                let request = Message::from_vec(&buffer[..length]).unwrap();
                let query = request.queries[0].clone();
                let mut answer = Message::response(request.metadata.id, request.metadata.op_code);
                answer.add_query(query.clone());
                match records(&query.name().to_lowercase().to_ascii(), query.query_type()) {
                    Ok(found) => {
                        let mut owner = query.name().clone();
                        for data in found {
                            let target = if let RData::CNAME(target) = &data { Some(target.0.clone()) } else { None };
                            answer.add_answer(Record::from_rdata(owner.clone(), 60, data));
                            owner = target.unwrap_or(owner);
                        }
                    }
                    Err(code) => answer.metadata.response_code = code,
                }
                socket.send_to(&answer.to_vec().unwrap(), peer).await.unwrap();
            }
        });
        DnsResolver::with_servers(&[address]).unwrap()
    }

    #[tokio::test]
    async fn reads_every_kind_of_record() {
        let resolver = resolver().await;
        let (ipv4, ipv6) = (Ipv4Addr::new(192, 0, 2, 1), "2001:db8::1".parse::<Ipv6Addr>().unwrap());
        assert_eq!(resolver.ipv4("A.example").await, Ok(vec![ipv4]));
        assert_eq!(resolver.ipv6("a.example.").await, Ok(vec![ipv6]));
        assert_eq!(resolver.addresses("a.example").await, Ok(vec![ipv4.into(), ipv6.into()]));
        assert_eq!(resolver.txt("a.example").await, Ok(vec![b"one record".to_vec()]));
        let srv = SrvHost { priority: 1, weight: 2, port: 587, host: "mail.a.example".to_owned() };
        assert_eq!(resolver.srv("_submission._tcp.a.example").await, Ok(vec![srv]));
        let mut hosts: Vec<_> = resolver.mx("a.example").await.unwrap().into_iter().map(|mx| mx.host).collect();
        hosts.sort();
        assert_eq!(hosts, ["mx2.example", "mx_1.Example"]);
        assert_eq!(resolver.mx("null.example").await, Err(ResolveError::NullMx));
        assert_eq!(resolver.names("192.0.2.7".parse().unwrap()).await, Ok(vec!["mx.sender.example".to_owned()]));
    }

    /// RFC 5321 §5.1: what an alias leads to counts as if it had been asked for.
    #[tokio::test]
    async fn follows_aliases() {
        let resolver = resolver().await;
        let hosts = |found: Vec<MxHost>| {
            let mut hosts: Vec<_> = found.into_iter().map(|mx| mx.host).collect();
            hosts.sort();
            hosts
        };
        assert_eq!(hosts(resolver.mx("alias.example").await.unwrap()), ["mx1.example"]);
        assert_eq!(hosts(resolver.mx("lone.example").await.unwrap()), ["mx2.example", "mx_1.Example"]);
        assert_eq!(resolver.ipv4("lone.example").await, Ok(vec![Ipv4Addr::new(192, 0, 2, 1)]));
        assert_eq!(resolver.addresses("lone.example").await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn tells_three_kinds_of_nothing_apart() {
        let resolver = resolver().await;
        assert_eq!(resolver.txt("null.example").await, Ok(Vec::new()));
        assert_eq!(resolver.addresses("null.example").await, Err(ResolveError::NotFound));
        assert_eq!(resolver.names("192.0.2.8".parse().unwrap()).await, Err(ResolveError::NotFound));
        let long = "a".repeat(64) + ".example";
        for unknown in ["nobody.example", "a..example", "", &long] {
            assert_eq!(resolver.txt(unknown).await, Err(ResolveError::NotFound), "{unknown}");
            assert_eq!(resolver.mx(unknown).await, Err(ResolveError::NotFound), "{unknown}");
            assert_eq!(resolver.addresses(unknown).await, Err(ResolveError::NotFound), "{unknown}");
        }
        for broken in ["down.example", "refused.example"] {
            assert!(matches!(resolver.txt(broken).await, Err(ResolveError::Temporary(_))), "{broken}");
            assert!(matches!(resolver.addresses(broken).await, Err(ResolveError::Temporary(_))), "{broken}");
        }
    }
}
