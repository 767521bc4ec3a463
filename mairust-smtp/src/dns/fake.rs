//! A table instead of DNS.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use async_trait::async_trait;

use super::{HostProof, MxHost, Proven, ResolveError, Resolver, SrvHost, Tlsa, ValidatingResolver};

type Answer<T> = Result<Vec<T>, ResolveError>;

/// A table in memory: for tests, and for hosts that are known without DNS.
///
/// A name that stands anywhere in the table exists; a question about it that the table does not
/// answer finds no record. Every other name does not exist. Nothing is proven but what
/// [`with_signed`](Self::with_signed) says.
#[derive(Debug, Clone, Default)]
pub struct FakeResolver {
    known: HashSet<String>,
    failing: HashSet<String>,
    mx: HashMap<String, Answer<MxHost>>,
    addresses: HashMap<String, Answer<IpAddr>>,
    txt: HashMap<String, Answer<Vec<u8>>>,
    srv: HashMap<String, Answer<SrvHost>>,
    names: HashMap<IpAddr, Answer<String>>,
    tlsa: HashMap<String, Answer<Tlsa>>,
    aliases: HashMap<String, String>,
    signed: HashSet<String>,
}

impl FakeResolver {
    /// An empty table: nothing is found.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers questions for the mail exchangers of `domain`.
    #[must_use]
    pub fn with_mx(mut self, domain: &str, answer: Result<Vec<MxHost>, ResolveError>) -> Self {
        let name = self.know(domain, &answer);
        self.mx.insert(name, answer);
        self
    }

    /// Answers questions for the addresses of `host`, of both kinds.
    #[must_use]
    pub fn with_addresses(mut self, host: &str, answer: Result<Vec<IpAddr>, ResolveError>) -> Self {
        let name = self.know(host, &answer);
        self.addresses.insert(name, answer);
        self
    }

    /// Answers questions for the TXT records of `name`.
    #[must_use]
    pub fn with_txt(mut self, name: &str, answer: Result<Vec<Vec<u8>>, ResolveError>) -> Self {
        let name = self.know(name, &answer);
        self.txt.insert(name, answer);
        self
    }

    /// Answers questions for the hosts of the service `name`.
    #[must_use]
    pub fn with_srv(mut self, name: &str, answer: Result<Vec<SrvHost>, ResolveError>) -> Self {
        let name = self.know(name, &answer);
        self.srv.insert(name, answer);
        self
    }

    /// Answers questions for the names of `address`.
    #[must_use]
    pub fn with_names(mut self, address: IpAddr, answer: Result<Vec<String>, ResolveError>) -> Self {
        self.names.insert(address, answer);
        self
    }

    /// Answers questions for the TLSA records of `name`.
    #[must_use]
    pub fn with_tlsa(mut self, name: &str, answer: Result<Vec<Tlsa>, ResolveError>) -> Self {
        let name = self.know(name, &answer);
        self.tlsa.insert(name, answer);
        self
    }

    /// Makes `host` an alias where its place is to be proven. Its addresses are still its own here.
    #[must_use]
    pub fn with_alias(mut self, host: &str, target: &str) -> Self {
        self.aliases.insert(key(host), key(target));
        self
    }

    /// Has these zones signed, with all that is below: answers about them are proven.
    #[must_use]
    pub fn with_signed(mut self, zones: &[&str]) -> Self {
        self.signed.extend(zones.iter().map(|zone| key(zone)));
        self
    }

    /// Leaves questions about `name` unanswered, unless the table has an answer to them.
    #[must_use]
    pub fn with_failure(mut self, name: &str) -> Self {
        self.failing.insert(key(name));
        self
    }

    fn know<T>(&mut self, name: &str, answer: &Answer<T>) -> String {
        let name = key(name);
        if answer.is_ok() {
            self.known.insert(name.clone());
        }
        name
    }

    fn answer<T: Clone>(&self, table: &HashMap<String, Answer<T>>, name: &str) -> Answer<T> {
        let name = key(name);
        match table.get(&name) {
            Some(answer) => answer.clone(),
            None if self.failing.contains(&name) => Err(ResolveError::Temporary("no answer".to_owned())),
            None if self.known.contains(&name) => Ok(Vec::new()),
            None => Err(ResolveError::NotFound),
        }
    }

    fn proven<T>(&self, name: &str, value: T) -> Proven<T> {
        Proven { value, name: key(name), secure: self.is_signed(name) }
    }

    fn is_signed(&self, name: &str) -> bool {
        let name = key(name);
        let within = |zone: &String| {
            name.strip_suffix(zone.as_str()).is_some_and(|rest| matches!(rest.as_bytes(), [] | [.., b'.']))
        };
        self.signed.iter().any(within)
    }
}

#[async_trait]
impl Resolver for FakeResolver {
    async fn mx(&self, domain: &str) -> Result<Vec<MxHost>, ResolveError> {
        self.answer(&self.mx, domain)
    }

    async fn ipv4(&self, host: &str) -> Result<Vec<Ipv4Addr>, ResolveError> {
        let found = self.answer(&self.addresses, host)?.into_iter();
        Ok(found.filter_map(|address| if let IpAddr::V4(address) = address { Some(address) } else { None }).collect())
    }

    async fn ipv6(&self, host: &str) -> Result<Vec<Ipv6Addr>, ResolveError> {
        let found = self.answer(&self.addresses, host)?.into_iter();
        Ok(found.filter_map(|address| if let IpAddr::V6(address) = address { Some(address) } else { None }).collect())
    }

    async fn txt(&self, name: &str) -> Result<Vec<Vec<u8>>, ResolveError> {
        self.answer(&self.txt, name)
    }

    async fn srv(&self, name: &str) -> Result<Vec<SrvHost>, ResolveError> {
        self.answer(&self.srv, name)
    }

    async fn names(&self, address: IpAddr) -> Result<Vec<String>, ResolveError> {
        self.names.get(&address).cloned().unwrap_or(Err(ResolveError::NotFound))
    }
}

#[async_trait]
impl ValidatingResolver for FakeResolver {
    async fn mx(&self, domain: &str) -> Result<Proven<Vec<MxHost>>, ResolveError> {
        Ok(self.proven(domain, self.answer(&self.mx, domain)?))
    }

    async fn host(&self, host: &str) -> Result<HostProof, ResolveError> {
        let end = self.aliases.get(&key(host)).cloned().unwrap_or_else(|| key(host));
        match self.answer(&self.addresses, host) {
            Ok(found) if found.is_empty() => Ok(HostProof::Nothing),
            Ok(_) if self.is_signed(host) && self.is_signed(&end) => Ok(HostProof::Addresses(end)),
            Ok(_) if self.is_signed(host) && end != key(host) => Ok(HostProof::Alias),
            Ok(_) | Err(ResolveError::NotFound | ResolveError::NullMx) => Ok(HostProof::Nothing),
            Err(error @ ResolveError::Temporary(_)) => Err(error),
        }
    }

    async fn tlsa(&self, name: &str) -> Result<Proven<Vec<Tlsa>>, ResolveError> {
        match self.answer(&self.tlsa, name) {
            Err(ResolveError::NotFound) => Ok(self.proven(name, Vec::new())),
            found => Ok(self.proven(name, found?)),
        }
    }
}

fn key(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn three_kinds_of_nothing() {
        let resolver = FakeResolver::new()
            .with_txt("a.example", Ok(vec![b"text".to_vec()]))
            .with_addresses("b.example", Ok(vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]))
            .with_failure("b.example");
        assert_eq!(resolver.txt("A.example.").await.unwrap(), [b"text"]);
        assert_eq!(resolver.ipv4("a.example").await.unwrap(), [] as [Ipv4Addr; 0]);
        assert_eq!(resolver.addresses("a.example").await, Err(ResolveError::NotFound));
        assert_eq!(resolver.ipv4("c.example").await, Err(ResolveError::NotFound));
        assert_eq!(resolver.addresses("b.example").await.unwrap().len(), 2);
        assert!(matches!(resolver.txt("b.example").await, Err(ResolveError::Temporary(_))));
        assert_eq!(resolver.names("192.0.2.1".parse().unwrap()).await, Err(ResolveError::NotFound));
    }
}
