//! Asks name servers, verifies the signatures of what they answer, and follows aliases link by link: what the resolver
//! follows by itself leaves no proof of each.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use hickory_resolver::config::ResolveHosts;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::{Proof, TrustAnchors as Keys};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::proto::serialize::txt::trust_anchor::{Entry, Parser};
use hickory_resolver::{ResolverBuilder, TokioResolver};

mod answer;

use self::answer::{Chain, Found, denied, unfit};
use super::servers::{absolute, exchangers, finish, temporary, with_servers};
use super::validating::{HostProof, Proven, Tlsa, ValidatingResolver};
use super::{MxHost, ResolveError};

/// Links of a chain of aliases that are followed.
const MAX_ALIASES: usize = 8;

/// The keys that signatures have to lead to. Cheap to clone.
#[derive(Clone)]
pub struct TrustAnchors(Arc<Keys>);

/// Why a text names no keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustAnchorError {
    /// It holds something else.
    #[error("this is no list of DNSKEY records: {0}")]
    Syntax(String),
    /// It holds nothing.
    #[error("there is no DNSKEY record in it")]
    Empty,
}

/// Asks name servers, and verifies the signatures of what they answer (RFC 4035 §5). They have to pass on the records
/// of DNSSEC. Cheap to clone; clones share a cache.
#[derive(Clone)]
pub struct DnssecResolver(TokioResolver);

impl TrustAnchors {
    /// The keys of the root, as built into this program.
    pub fn built_in() -> Self {
        Self(Arc::default())
    }

    /// These, and those in a text: DNSKEY records as in a zone file, with whole names. Of a zone other than the
    /// root, all keys have to be there.
    ///
    /// # Errors
    /// When it holds anything else, or nothing.
    pub fn with_records(&self, text: &str) -> Result<Self, TrustAnchorError> {
        let syntax = |error: &dyn fmt::Display| TrustAnchorError::Syntax(error.to_string());
        // The parser wants the last line to have an end.
        let entries = Parser::new(format!("{text}\n")).parse().map_err(|error| syntax(&error))?;
        if entries.is_empty() {
            return Err(TrustAnchorError::Empty);
        }
        let mut keys = Keys::clone(&self.0);
        for entry in &entries {
            let Entry::DNSKEY(record) = entry else { return Err(syntax(&"it has other records")) };
            keys.insert_with_name(record.data().public_key(), record.name().into());
        }
        Ok(Self(Arc::new(keys)))
    }
}

impl DnssecResolver {
    /// Asks the name servers of the system.
    ///
    /// # Errors
    /// When the system's settings can't be read.
    pub fn system(anchors: &TrustAnchors) -> Result<Self, ResolveError> {
        TokioResolver::builder_tokio()
            .and_then(|builder| validating(builder, anchors))
            .map_err(|error| temporary(&error))
    }

    /// Asks these name servers, over UDP, and over TCP for what is too long for UDP.
    ///
    /// # Errors
    /// When no resolver can be made.
    pub fn with_servers(servers: &[SocketAddr], anchors: &TrustAnchors) -> Result<Self, ResolveError> {
        validating(with_servers(servers), anchors).map_err(|error| temporary(&error))
    }

    /// What the chain of aliases from `name` leads to.
    async fn lookup(&self, name: &str, kind: RecordType) -> Result<Chain, ResolveError> {
        let mut chain = Chain { data: Vec::new(), end: absolute(name)?, secure: true, alias: false };
        for link in 0..MAX_ALIASES {
            if let Some(found) = self.records(&chain.end, kind).await? {
                chain.secure &= found.secure;
                chain.data = found.data;
                return Ok(chain);
            }
            let alias = self.records(&chain.end, RecordType::CNAME).await?;
            let Some(Found { data, secure }) = alias else { return Err(unfit(&chain.end)) };
            let Some(RData::CNAME(target)) = data.first() else { return Err(unfit(&chain.end)) };
            chain.secure &= secure;
            chain.alias |= link == 0 && secure;
            chain.end = target.0.clone();
        }
        Err(unfit(&chain.end))
    }

    /// The records that a name has itself; `None` if it may be an alias.
    async fn records(&self, name: &Name, kind: RecordType) -> Result<Option<Found>, ResolveError> {
        match self.0.lookup(name.clone(), kind).await {
            Ok(lookup) => Found::read(name, kind, lookup.answers(), lookup.authorities()),
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) if none.query.name() == name => denied(&none).map(Some),
            Err(NetError::Dns(DnsError::NoRecordsFound(_))) => Ok(None),
            // A zone whose denials are too costly to verify counts as if nobody signed it (RFC 9276 §3.2).
            Err(NetError::Dns(DnsError::Nsec { query, response, proof: Proof::Insecure, .. })) => {
                if query.name() == name { Found::unsigned(name, kind, &response) } else { Ok(None) }
            }
            Err(error) => Err(temporary(&error)),
        }
    }
}

#[async_trait]
impl ValidatingResolver for DnssecResolver {
    async fn mx(&self, domain: &str) -> Result<Proven<Vec<MxHost>>, ResolveError> {
        let found = self.lookup(domain, RecordType::MX).await?;
        Ok(found.proven(exchangers(found.data.iter())?))
    }

    async fn host(&self, host: &str) -> Result<HostProof, ResolveError> {
        let (ipv4, ipv6) = tokio::join!(self.lookup(host, RecordType::A), self.lookup(host, RecordType::AAAA));
        let found = [&ipv4, &ipv6].into_iter().flatten().find(|chain| !chain.data.is_empty());
        match (found, ipv4.as_ref().err(), ipv6.as_ref().err()) {
            (Some(chain), ..) => Ok(chain.proof()),
            (None, Some(error @ ResolveError::Temporary(_)), _)
            | (None, _, Some(error @ ResolveError::Temporary(_))) => Err(error.clone()),
            (None, ..) => Ok(HostProof::Nothing),
        }
    }

    async fn tlsa(&self, name: &str) -> Result<Proven<Vec<Tlsa>>, ResolveError> {
        let found = match self.lookup(name, RecordType::TLSA).await {
            Err(ResolveError::NotFound) => {
                return Ok(Proven { value: Vec::new(), name: name.to_owned(), secure: false });
            }
            found => found?,
        };
        let record = |data: &RData| {
            let RData::TLSA(tlsa) = data else { return None };
            let (usage, selector, matching) = (tlsa.cert_usage.into(), tlsa.selector.into(), tlsa.matching.into());
            Some(Tlsa { usage, selector, matching, data: tlsa.cert_data.clone() })
        };
        Ok(found.proven(found.data.iter().filter_map(record).collect()))
    }
}

impl fmt::Debug for DnssecResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DnssecResolver")
    }
}

impl fmt::Debug for TrustAnchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustAnchors({} of the root)", self.0.len())
    }
}

fn validating(
    mut builder: ResolverBuilder<TokioRuntimeProvider>,
    anchors: &TrustAnchors,
) -> Result<DnssecResolver, NetError> {
    let options = builder.options_mut();
    options.validate = true;
    // Aliases are part of the proof, and the hosts file has none.
    options.preserve_intermediates = true;
    options.use_hosts_file = ResolveHosts::Never;
    finish(builder.with_trust_anchor(Arc::clone(&anchors.0))).map(DnssecResolver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_added_to_those_of_the_root() {
        const KEY: &str = "DNSKEY 257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=";
        let built_in = TrustAnchors::built_in();
        let more = built_in.with_records(&format!("; ours\n. 60 IN {KEY}\nexample. IN {KEY} ; an island")).unwrap();
        assert_eq!(more.0.len(), built_in.0.len() + 1);
        for wrong in ["", "; nothing\n", ". IN A 192.0.2.1", KEY] {
            assert!(built_in.with_records(wrong).is_err(), "{wrong}");
        }
    }
}
