//! Which hosts a route leads to, in the order in which they are tried (RFC 5321 §5.1).

use std::net::{IpAddr, SocketAddr};

use mairust_core::{EnhancedCode, Reply};
use rand::seq::SliceRandom;

use super::{Route, Verdict};
use crate::dns::{MxHost, ResolveError, Resolver};

/// A host to be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: u16,
    kind: Kind,
}

/// What a missing address of a host means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The domain itself: there is no such place.
    Domain,
    /// A host that a record or an administrator named: a mistake that will be noticed.
    Named,
}

/// The hosts of a route, best first.
pub(super) async fn hosts(route: &Route, resolver: &dyn Resolver) -> Result<Vec<Host>, Verdict> {
    let (domain, port) = match route {
        Route::Relay { host, port } => return Ok(vec![Host { name: host.clone(), port: *port, kind: Kind::Named }]),
        Route::Mx { domain, port } => (domain, *port),
    };
    // RFC 5321 §4.1.3: a literal names the host itself.
    let implicit = || vec![Host { name: domain.to_string(), port, kind: Kind::Domain }];
    if domain.is_literal() {
        return Ok(implicit());
    }
    match resolver.mx(domain.as_str()).await {
        Ok(exchangers) if exchangers.is_empty() => Ok(implicit()),
        Ok(exchangers) => {
            let host = |mx: MxHost| Host { name: mx.host, port, kind: Kind::Named };
            Ok(in_order(exchangers).into_iter().map(host).collect())
        }
        Err(ResolveError::NotFound) => Err(no_such_domain(domain.as_str())),
        Err(ResolveError::NullMx) => {
            let text = format!("The domain {domain} takes no mail");
            Err(Verdict::failed(Reply::new(556, EnhancedCode(5, 1, 10), text)))
        }
        Err(error @ ResolveError::Temporary(_)) => Err(Verdict::deferred(format!("{domain}: {error}"))),
    }
}

/// The addresses of a host.
pub(super) async fn addresses(host: &Host, resolver: &dyn Resolver) -> Result<Vec<SocketAddr>, Verdict> {
    if let Some(address) = literal(&host.name) {
        return Ok(vec![SocketAddr::new(address, host.port)]);
    }
    match resolver.addresses(&host.name).await {
        Ok(addresses) => Ok(addresses.into_iter().map(|address| SocketAddr::new(address, host.port)).collect()),
        Err(ResolveError::NotFound) if host.kind == Kind::Domain => Err(no_such_domain(&host.name)),
        Err(error) => Err(Verdict::deferred(format!("{}: {error}", host.name))),
    }
}

/// The IP address that a text is, with or without the brackets of a literal.
pub(super) fn literal(text: &str) -> Option<IpAddr> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let tagged = inner.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("IPv6:"));
    if tagged { inner[5..].parse().ok() } else { inner.parse().ok() }
}

/// Lowest preference first; equal ones at random, to spread the load.
fn in_order(mut exchangers: Vec<MxHost>) -> Vec<MxHost> {
    exchangers.shuffle(&mut rand::rng());
    exchangers.sort_by_key(|mx| mx.preference);
    exchangers
}

fn no_such_domain(domain: &str) -> Verdict {
    Verdict::failed(Reply::new(550, EnhancedCode(5, 1, 2), format!("The domain {domain} does not exist")))
}

#[cfg(test)]
mod tests {
    use mairust_core::Domain;

    use super::*;
    use crate::client::{FakeResolver, Outcome};

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    async fn names(resolver: &FakeResolver) -> Result<Vec<String>, (Outcome, String)> {
        let route = Route::Mx { domain: domain("example.org"), port: 25 };
        let found = hosts(&route, resolver).await.map_err(|verdict| (verdict.outcome, verdict.detail))?;
        Ok(found.into_iter().map(|host| host.name).collect())
    }

    #[tokio::test]
    async fn mail_exchangers_come_by_preference() {
        let mx = |preference, host: &str| MxHost { preference, host: host.to_owned() };
        let answer = vec![mx(20, "c.example"), mx(10, "a.example"), mx(10, "b.example")];
        let resolver = FakeResolver::new().with_mx("example.org", Ok(answer));
        let mut firsts = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let found = names(&resolver).await.unwrap();
            assert_eq!(found[2], "c.example");
            firsts.insert(found[0].clone());
        }
        assert_eq!(firsts.len(), 2, "equal ones are shuffled");
    }

    #[tokio::test]
    async fn what_is_not_there_is_told_apart() {
        let with = |answer| FakeResolver::new().with_mx("example.org", answer);
        assert_eq!(names(&with(Ok(Vec::new()))).await.unwrap(), ["example.org"]);
        let (outcome, detail) = names(&with(Err(ResolveError::NullMx))).await.unwrap_err();
        assert_eq!((outcome, detail.contains("5.1.10")), (Outcome::Failed, true));
        let (outcome, detail) = names(&FakeResolver::new()).await.unwrap_err();
        assert_eq!((outcome, detail.contains("5.1.2")), (Outcome::Failed, true));
        let (outcome, _) = names(&with(Err(ResolveError::Temporary("SERVFAIL".into())))).await.unwrap_err();
        assert_eq!(outcome, Outcome::Deferred);
    }

    #[tokio::test]
    async fn literals_need_no_dns() {
        for text in ["127.0.0.1", "[127.0.0.1]", "::1", "[IPv6:::1]", "[ipv6:::1]"] {
            let route = Route::Relay { host: text.to_owned(), port: 26 };
            let found = hosts(&route, &FakeResolver::new()).await.unwrap();
            let found = addresses(&found[0], &FakeResolver::new()).await.unwrap();
            assert_eq!((found.len(), found[0].port()), (1, 26), "{text}");
        }
        assert_eq!(literal("mx.example"), None);
    }
}
