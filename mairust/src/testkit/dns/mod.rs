//! A table instead of DNS, for the server itself and for other programs.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use hickory_server::proto::rr::rdata::{A, AAAA, CNAME, MX, PTR, SRV, TXT};
use hickory_server::proto::rr::{Name, RData, RecordType};
use mairust_smtp::dns::{MxHost, ResolveError, Resolver, SrvHost};

mod server;

pub use self::server::DnsServer;

/// How long a chain of CNAME records may be.
const MAX_ALIASES: usize = 8;
/// A string of a TXT record holds no more octets (RFC 1035 §3.3).
const TEXT_STRING: usize = 255;

/// A table instead of DNS: a [`Resolver`], and, after [`serve`](Self::serve), a name server that other programs
/// ask. Clones share the table, and it may change while it is used.
///
/// A name that has records exists, and so do the names above it; a question that finds no record of its kind
/// there is answered with none. Every other name does not exist. CNAME records are followed.
///
/// ```
/// use mairust::Resolver;
/// use mairust::testkit::{Dns, DnsFailure};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let dns = Dns::new();
/// dns.add_mx("example.org", 10, "mx.example.org").add_address("mx.example.org", [127, 0, 0, 2]);
/// dns.add_null_mx("silent.example").fail("down.example", DnsFailure::ServFail);
/// assert_eq!(dns.mx("example.org").await.unwrap()[0].host, "mx.example.org");
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Dns(Arc<Mutex<Table>>);

/// How questions about a name are answered instead of by its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DnsFailure {
    /// The name does not exist (NXDOMAIN).
    NotFound,
    /// The name server refuses to answer (REFUSED).
    Refused,
    /// The name server is in trouble (SERVFAIL).
    ServFail,
    /// There is no answer. A name server that is [served](Dns::serve) keeps silent; asked as a [`Resolver`], the
    /// table says at once what resolvers say in the end.
    Timeout,
}

#[derive(Debug, Default)]
struct Table {
    records: BTreeMap<Name, Vec<RData>>,
    failures: HashMap<Name, DnsFailure>,
    asked: HashMap<Name, u64>,
}

/// What the table says to a question.
#[derive(Debug)]
enum Answer {
    /// The records with their owners: CNAMEs that were followed, then those of the kind, perhaps none.
    Records(Vec<(Name, RData)>),
    Failure(DnsFailure),
}

impl Dns {
    /// An empty table: no name exists.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a mail exchanger of a domain; the one with the lowest preference is tried first.
    ///
    /// # Panics
    /// As all that add to the table, when a text can't be a name: a label is empty, or too long.
    pub fn add_mx(&self, domain: &str, preference: u16, host: &str) -> &Self {
        self.add(domain, RData::MX(MX::new(preference, name(host))))
    }

    /// Says that a domain takes no mail (RFC 7505).
    pub fn add_null_mx(&self, domain: &str) -> &Self {
        self.add(domain, RData::MX(MX::new(0, Name::root())))
    }

    /// Adds an address of a host, of either kind.
    pub fn add_address(&self, host: &str, address: impl Into<IpAddr>) -> &Self {
        let data = match address.into() {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        };
        self.add(host, data)
    }

    /// Adds a TXT record.
    pub fn add_txt(&self, owner: &str, text: impl AsRef<[u8]>) -> &Self {
        let strings = text.as_ref().chunks(TEXT_STRING).collect();
        self.add(owner, RData::TXT(TXT::from_bytes(strings)))
    }

    /// Adds a host that offers a service (RFC 2782), by a name such as `_submission._tcp.example.com`.
    pub fn add_srv(&self, service: &str, host: &SrvHost) -> &Self {
        let target = if host.host.is_empty() { Name::root() } else { name(&host.host) };
        self.add(service, RData::SRV(SRV::new(host.priority, host.weight, host.port, target)))
    }

    /// Adds a name that an address claims (PTR).
    pub fn add_ptr(&self, address: impl Into<IpAddr>, host: &str) -> &Self {
        self.add(&Name::from(address.into()).to_ascii(), RData::PTR(PTR(name(host))))
    }

    /// Makes a name another name for `target` (CNAME).
    pub fn add_cname(&self, owner: &str, target: &str) -> &Self {
        self.add(owner, RData::CNAME(CNAME(name(target))))
    }

    /// Forgets all records and any failure of a name.
    pub fn remove(&self, owner: &str) -> &Self {
        let (mut table, owner) = (self.table(), name(owner));
        table.records.remove(&owner);
        table.failures.remove(&owner);
        drop(table);
        self
    }

    /// From now on, questions about a name fail like this, whatever records it has.
    pub fn fail(&self, owner: &str, failure: DnsFailure) -> &Self {
        self.table().failures.insert(name(owner), failure);
        self
    }

    /// Ends the failure of a name.
    pub fn heal(&self, owner: &str) -> &Self {
        self.table().failures.remove(&name(owner));
        self
    }

    /// How often a name was asked for, by whatever way and for whatever kind of record.
    pub fn asked(&self, owner: &str) -> u64 {
        self.table().asked.get(&name(owner)).copied().unwrap_or_default()
    }

    /// Serves the table over UDP and TCP on a free port of 127.0.0.1, until the [`DnsServer`] is dropped. Needs a
    /// tokio runtime.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn serve(&self) -> std::io::Result<DnsServer> {
        self.serve_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    /// As [`serve`](Self::serve), at this address.
    ///
    /// # Errors
    /// When the address can't be bound.
    pub async fn serve_at(&self, address: SocketAddr) -> std::io::Result<DnsServer> {
        DnsServer::start(self.clone(), address).await
    }

    fn add(&self, owner: &str, data: RData) -> &Self {
        self.table().records.entry(name(owner)).or_default().push(data);
        self
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, asked: &Name, kind: RecordType) -> Answer {
        let mut table = self.table();
        let mut owner = lower(asked);
        *table.asked.entry(owner.clone()).or_default() += 1;
        let mut found = Vec::new();
        for _ in 0..=MAX_ALIASES {
            if let Some(failure) = table.failures.get(&owner) {
                return Answer::Failure(*failure);
            }
            let records = table.records.get(&owner).map(Vec::as_slice).unwrap_or_default();
            let alias =
                records.iter().find_map(|data| if let RData::CNAME(cname) = data { Some(&cname.0) } else { None });
            match alias.filter(|_| kind != RecordType::CNAME) {
                Some(target) => {
                    found.push((owner, RData::CNAME(CNAME(target.clone()))));
                    owner = lower(target);
                }
                None if records.is_empty() && !table.is_above(&owner) => return Answer::Failure(DnsFailure::NotFound),
                None => {
                    let of_kind = records.iter().filter(|data| data.record_type() == kind);
                    found.extend(of_kind.map(|data| (owner.clone(), data.clone())));
                    return Answer::Records(found);
                }
            }
        }
        // A chain without an end.
        Answer::Failure(DnsFailure::ServFail)
    }

    /// The records of one kind, as a resolver finds them.
    fn find<T>(
        &self,
        asked: &str,
        kind: RecordType,
        take: impl Fn(RData) -> Option<T>,
    ) -> Result<Vec<T>, ResolveError> {
        let Some(asked) = parse(asked) else { return Err(ResolveError::NotFound) };
        match self.answer(&asked, kind) {
            Answer::Records(found) => Ok(found.into_iter().filter_map(|(_, data)| take(data)).collect()),
            Answer::Failure(DnsFailure::NotFound) => Err(ResolveError::NotFound),
            Answer::Failure(failure) => Err(ResolveError::Temporary(failure.as_str().to_owned())),
        }
    }
}

impl Table {
    /// Whether a name exists because names below it do (RFC 8020).
    fn is_above(&self, owner: &Name) -> bool {
        self.records.keys().any(|known| owner.zone_of(known))
    }
}

impl DnsFailure {
    fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "the name does not exist",
            Self::Refused => "the name server answered REFUSED",
            Self::ServFail => "the name server answered SERVFAIL",
            Self::Timeout => "no name server answered in time",
        }
    }
}

#[async_trait]
impl Resolver for Dns {
    async fn mx(&self, domain: &str) -> Result<Vec<MxHost>, ResolveError> {
        let take = |data| if let RData::MX(mx) = data { Some(mx) } else { None };
        let (null, hosts): (Vec<_>, Vec<_>) =
            self.find(domain, RecordType::MX, take)?.into_iter().partition(|mx| mx.exchange.is_root());
        if hosts.is_empty() && !null.is_empty() {
            return Err(ResolveError::NullMx);
        }
        Ok(hosts.into_iter().map(|mx| MxHost { preference: mx.preference, host: text(&mx.exchange) }).collect())
    }

    async fn ipv4(&self, host: &str) -> Result<Vec<Ipv4Addr>, ResolveError> {
        self.find(host, RecordType::A, |data| if let RData::A(found) = data { Some(found.0) } else { None })
    }

    async fn ipv6(&self, host: &str) -> Result<Vec<Ipv6Addr>, ResolveError> {
        self.find(host, RecordType::AAAA, |data| if let RData::AAAA(found) = data { Some(found.0) } else { None })
    }

    async fn txt(&self, name: &str) -> Result<Vec<Vec<u8>>, ResolveError> {
        let take = |data| if let RData::TXT(found) = data { Some(found.txt_data.concat()) } else { None };
        self.find(name, RecordType::TXT, take)
    }

    async fn srv(&self, name: &str) -> Result<Vec<SrvHost>, ResolveError> {
        let take = |data| if let RData::SRV(srv) = data { Some(srv) } else { None };
        let host =
            |srv: SRV| SrvHost { priority: srv.priority, weight: srv.weight, port: srv.port, host: text(&srv.target) };
        Ok(self.find(name, RecordType::SRV, take)?.into_iter().map(host).collect())
    }

    async fn names(&self, address: IpAddr) -> Result<Vec<String>, ResolveError> {
        let take = |data| if let RData::PTR(found) = data { Some(text(&found.0)) } else { None };
        self.find(&Name::from(address).to_ascii(), RecordType::PTR, take)
    }
}

/// A name of the table.
fn name(text: &str) -> Name {
    parse(text).unwrap_or_else(|| panic!("{text:?} can't be a name in DNS"))
}

/// The name in lower case; `None` if a text can't be one.
fn parse(text: &str) -> Option<Name> {
    let labels = text.strip_suffix('.').unwrap_or(text).split('.').map(str::as_bytes);
    Name::from_labels(labels).ok().map(|name| lower(&name))
}

fn lower(name: &Name) -> Name {
    let mut lower = name.to_lowercase();
    lower.set_fqdn(true);
    lower
}

/// A name without its final dot.
fn text(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests;
