//! Which hosts a route leads to, in the order in which they are tried (RFC 5321 §5.1).

use std::net::{IpAddr, SocketAddr};

use futures::future::join_all;
use mairust_core::{Domain, EnhancedCode, Reply, is_this_machine};
use rand::seq::SliceRandom;

use super::config::ClientConfig;
use super::peer::{Relay, Terms};
use super::report::Verdict;
use crate::dns::{MxHost, ResolveError, Resolver};

/// Hosts that are looked up for one delivery, and addresses that are tried, however many a domain
/// has.
pub(super) const MAX_TRIES: usize = 10;

/// A host to be tried.
#[derive(Debug, Clone)]
pub(super) struct Host {
    pub(super) name: String,
    /// At least one, or why there is none.
    pub(super) addresses: Result<Vec<SocketAddr>, Verdict>,
    /// On what terms it is spoken to, or why it is not.
    pub(super) terms: Result<Terms, Verdict>,
}

/// A host of which only the name is known.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    name: String,
    preference: u16,
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

/// The host that an administrator named: wherever it is, it is meant.
pub(super) async fn relay(relay: &Relay, resolver: &dyn Resolver) -> Host {
    let candidate = Candidate { name: relay.host.clone(), preference: 0, kind: Kind::Named };
    let addresses = addresses(&candidate, relay.port, resolver).await;
    Host { name: candidate.name, addresses, terms: Ok(Terms::of_relay(relay)) }
}

/// The mail exchangers of a domain, but for those that would lead the mail back to us. `answer` is what DNS says of
/// them; a literal has none.
pub(super) async fn exchangers(
    (domain, port): (&Domain, u16),
    answer: Result<Vec<MxHost>, ResolveError>,
    config: &ClientConfig,
    resolver: &dyn Resolver,
) -> Result<Vec<Host>, Verdict> {
    let mut candidates = candidates(domain, answer)?;
    let named = candidates.iter().filter(|host| is_our_name(&host.name, config)).map(|host| host.preference).min();
    candidates.retain(|host| named.is_none_or(|ours| host.preference < ours));
    candidates.truncate(MAX_TRIES);
    let found = join_all(candidates.iter().map(|host| addresses(host, port, resolver))).await;
    let leads_here =
        |found: &Result<Vec<SocketAddr>, _>| found.iter().flatten().any(|address| config.listens_at(*address));
    let placed = candidates.iter().zip(&found).filter(|(_, found)| leads_here(found)).map(|(host, _)| host.preference);
    // RFC 5321 §5.1: who is less preferred than we are would send the mail back here.
    let ours = placed.min();
    let hosts = candidates.into_iter().zip(found).filter(|(host, _)| ours.is_none_or(|ours| host.preference < ours));
    let host = |(host, found): (Candidate, _)| {
        let addresses = reachable(&host, found, config);
        Host { name: host.name, addresses, terms: Ok(Terms::opportunistic()) }
    };
    let hosts: Vec<Host> = hosts.map(host).collect();
    if hosts.is_empty() {
        let text = format!("Mail for {domain} loops back to this host");
        return Err(Verdict::failed(Reply::new(554, EnhancedCode(5, 4, 6), text)));
    }
    Ok(hosts)
}

/// The names that DNS has for a domain, best first.
fn candidates(domain: &Domain, answer: Result<Vec<MxHost>, ResolveError>) -> Result<Vec<Candidate>, Verdict> {
    match answer {
        // RFC 5321 §4.1.3, §5.1: a literal and a domain without exchangers name the host itself.
        Ok(exchangers) if exchangers.is_empty() => {
            Ok(vec![Candidate { name: domain.to_string(), preference: 0, kind: Kind::Domain }])
        }
        Ok(exchangers) => {
            let candidate = |mx: MxHost| Candidate { name: mx.host, preference: mx.preference, kind: Kind::Named };
            Ok(in_order(exchangers).into_iter().map(candidate).collect())
        }
        Err(ResolveError::NotFound) => Err(no_such_domain(domain.as_str())),
        Err(ResolveError::NullMx) => {
            let text = format!("The domain {domain} takes no mail");
            Err(Verdict::failed(Reply::new(556, EnhancedCode(5, 1, 10), text)))
        }
        Err(error @ ResolveError::Temporary(_)) => Err(Verdict::deferred(format!("{domain}: {error}"))),
    }
}

async fn addresses(host: &Candidate, port: u16, resolver: &dyn Resolver) -> Result<Vec<SocketAddr>, Verdict> {
    if let Some(address) = literal(&host.name) {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    match resolver.addresses(&host.name).await {
        Ok(addresses) => Ok(addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect()),
        Err(ResolveError::NotFound) if host.kind == Kind::Domain => Err(no_such_domain(&host.name)),
        Err(error) => Err(Verdict::deferred(format!("{}: {error}", host.name))),
    }
}

/// Those addresses that are not this machine under another name.
fn reachable(
    host: &Candidate,
    found: Result<Vec<SocketAddr>, Verdict>,
    config: &ClientConfig,
) -> Result<Vec<SocketAddr>, Verdict> {
    let mut addresses = found?;
    addresses.retain(|address| config.allow_loopback || !is_this_machine(address.ip()));
    if addresses.is_empty() {
        let text = format!("The host {} has no address that other hosts could use", host.name);
        return Err(Verdict::failed(Reply::new(550, EnhancedCode(5, 4, 4), text)));
    }
    Ok(addresses)
}

fn is_our_name(name: &str, config: &ClientConfig) -> bool {
    name.eq_ignore_ascii_case(config.hostname.as_str())
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
    use super::*;
    use crate::client::{FakeResolver, Outcome};

    const OURS: &str = "us.example";

    fn config() -> ClientConfig {
        let mut config = ClientConfig::new(Domain::parse(OURS).unwrap());
        config.own_addresses = vec!["192.0.2.25:25".parse().unwrap()];
        config
    }

    fn mx(preference: u16, host: &str) -> MxHost {
        MxHost { preference, host: host.to_owned() }
    }

    /// Every name that begins with a letter has an address of its own, but for `gone` and `silent`.
    fn resolver(exchangers: &[(u16, &str)]) -> FakeResolver {
        let answer = exchangers.iter().map(|(preference, host)| mx(*preference, host)).collect();
        let at = |address: &str| Ok(vec![address.parse().unwrap()]);
        FakeResolver::new()
            .with_mx("example.org", Ok(answer))
            .with_addresses("a.example", at("192.0.2.1"))
            .with_addresses("b.example", at("192.0.2.2"))
            .with_addresses("c.example", at("2001:db8::3"))
            .with_addresses("alias-of-us.example", at("192.0.2.25"))
            .with_addresses(OURS, at("192.0.2.99"))
            .with_addresses("loopback.example", at("127.0.0.1"))
            .with_addresses("mapped.example", at("::ffff:127.0.0.9"))
            .with_addresses("nowhere.example", at("0.0.0.0"))
            .with_failure("silent.example")
    }

    /// The names of the hosts that have an address; or how it ends if there is none.
    async fn names(config: &ClientConfig, resolver: &FakeResolver) -> Result<Vec<String>, (Outcome, String)> {
        let domain = Domain::parse("example.org").unwrap();
        let told = |verdict: Verdict| (verdict.outcome, verdict.detail);
        let answer = Resolver::mx(resolver, domain.as_str()).await;
        let found = exchangers((&domain, 25), answer, config, resolver).await.map_err(told)?;
        let usable = found.iter().filter(|host| host.addresses.is_ok()).map(|host| host.name.clone());
        let usable: Vec<String> = usable.collect();
        let verdicts = found.into_iter().filter_map(|host| host.addresses.err());
        match verdicts.fold(None, Verdict::joined) {
            Some(verdict) if usable.is_empty() => Err(told(verdict)),
            _ => Ok(usable),
        }
    }

    #[tokio::test]
    async fn mail_exchangers_come_by_preference() {
        let resolver = resolver(&[(20, "c.example"), (10, "a.example"), (10, "b.example")]);
        let mut firsts = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let found = names(&config(), &resolver).await.unwrap();
            assert_eq!(found[2], "c.example");
            firsts.insert(found[0].clone());
        }
        assert_eq!(firsts.len(), 2, "equal ones are shuffled");
    }

    #[tokio::test]
    async fn what_is_not_there_is_told_apart() {
        let with = |answer| FakeResolver::new().with_mx("example.org", answer);
        let at =
            |resolver: FakeResolver| resolver.with_addresses("example.org", Ok(vec!["192.0.2.7".parse().unwrap()]));
        assert_eq!(names(&config(), &at(with(Ok(Vec::new())))).await.unwrap(), ["example.org"]);
        for (answer, outcome, code) in [
            (Ok(Vec::new()), Outcome::Failed, "5.1.2"),
            (Err(ResolveError::NullMx), Outcome::Failed, "5.1.10"),
            (Err(ResolveError::NotFound), Outcome::Failed, "5.1.2"),
            (Err(ResolveError::Temporary("SERVFAIL".into())), Outcome::Deferred, "SERVFAIL"),
            (Ok(vec![mx(10, "gone.example")]), Outcome::Deferred, "does not exist"),
        ] {
            let (found, detail) = names(&config(), &with(answer)).await.unwrap_err();
            assert_eq!((found, detail.contains(code)), (outcome, true), "{detail}");
        }
    }

    #[tokio::test]
    async fn hosts_behind_ourselves_are_left_out() {
        for (exchangers, expected) in [
            (vec![(10, "a.example"), (20, OURS), (20, "b.example"), (30, "c.example")], vec!["a.example"]),
            (vec![(10, "a.example"), (20, "US.Example")], vec!["a.example"]),
            (vec![(10, "a.example"), (20, "alias-of-us.example"), (30, "c.example")], vec!["a.example"]),
            (vec![(10, "alias-of-us.example"), (20, "a.example")], vec![]),
            (vec![(10, OURS), (20, "a.example")], vec![]),
        ] {
            let found = names(&config(), &resolver(&exchangers)).await;
            if expected.is_empty() {
                let (outcome, detail) = found.unwrap_err();
                assert_eq!((outcome, detail.contains("5.4.6")), (Outcome::Failed, true), "{detail}");
            } else {
                assert_eq!(found.unwrap(), expected);
            }
        }
        let (outcome, detail) = names(&config(), &resolver(&[(10, "silent.example"), (20, OURS)])).await.unwrap_err();
        assert_eq!((outcome, detail.contains("5.4.6")), (Outcome::Deferred, false), "it may have an address later");
        let mut everywhere = config();
        everywhere.own_addresses = vec!["0.0.0.0:25".parse().unwrap()];
        everywhere.allow_loopback = true;
        assert!(names(&everywhere, &resolver(&[(10, "loopback.example")])).await.unwrap_err().1.contains("5.4.6"));
        assert_eq!(names(&everywhere, &resolver(&[(10, "a.example")])).await.unwrap(), ["a.example"]);
        everywhere.own_addresses = vec!["127.0.0.1:2525".parse().unwrap()];
        assert_eq!(names(&everywhere, &resolver(&[(10, "loopback.example")])).await.unwrap(), ["loopback.example"]);
    }

    #[tokio::test]
    async fn addresses_of_this_machine_are_no_exchangers() {
        for host in ["loopback.example", "mapped.example", "nowhere.example", "127.0.0.1"] {
            let (outcome, detail) = names(&config(), &resolver(&[(10, host)])).await.unwrap_err();
            assert_eq!((outcome, detail.contains("5.4.4")), (Outcome::Failed, true), "{host}: {detail}");
        }
        let mixed = resolver(&[(10, "loopback.example"), (20, "a.example")]);
        assert_eq!(names(&config(), &mixed).await.unwrap(), ["a.example"]);
        let mut allowed = config();
        allowed.allow_loopback = true;
        assert_eq!(names(&allowed, &resolver(&[(10, "loopback.example")])).await.unwrap(), ["loopback.example"]);
        let literal = Domain::parse("[127.0.0.1]").unwrap();
        let found = exchangers((&literal, 25), Ok(Vec::new()), &config(), &FakeResolver::new()).await.unwrap();
        assert_eq!(found[0].addresses.as_ref().unwrap_err().outcome, Outcome::Failed);
    }

    #[tokio::test]
    async fn relays_may_be_anywhere_and_literals_need_no_dns() {
        for text in ["127.0.0.1", "[127.0.0.1]", "::1", "[IPv6:::1]", "[ipv6:::1]"] {
            let found = relay(&Relay::new(text, 26), &FakeResolver::new()).await.addresses.unwrap();
            assert_eq!((found.len(), found[0].port()), (1, 26), "{text}");
        }
        assert_eq!(literal("mx.example"), None);
    }
}
