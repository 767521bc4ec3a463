//! Delivery of one message to one next hop.
//!
//! [`Client::deliver`] goes through the hosts of a [`Route`] until one has answered for every
//! recipient, and says per recipient how it ended and what the attempt knew. When to try again is
//! the caller's business.
//!
//! Connections are used for several messages, one after the other, and bounded in number for each
//! host. A connection that died while it was idle costs nothing: the message goes over another one.
//! A message whose end was sent is never sent again by itself: without a reply, it is
//! [in doubt](Outcome::InDoubt).

use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::join_all;
use mairust_core::{Domain, TlsWish};
use tokio::time::Instant;

mod attempt;
mod auth;
mod chunk;
mod config;
mod connection;
mod dane;
mod handover;
mod message;
mod mta_sts;
mod parameters;
mod peer;
mod pool;
mod report;
mod route;
mod transaction;
mod wish;

pub use self::config::ClientConfig;
pub use self::dane::DanePolicy;
pub use self::handover::{BeforeFinalDot, Handover};
pub use self::message::{LineEnds, Outgoing, Receiver};
pub use self::mta_sts::PolicyFetcher;
pub use self::peer::{Login, Protocol, Relay, RelayTls, Route, TlsPolicy, TlsRule};
pub use self::report::{AttemptFacts, Notices, Outcome, RecipientReport, TlsUse};
pub use crate::dns::{
    DnsResolver, DnssecResolver, FakeResolver, HostProof, MxHost, Proven, ResolveError, Resolver, Tlsa,
    TrustAnchorError, TrustAnchors, ValidatingResolver,
};

use self::attempt::Attempt;
use self::mta_sts::MtaSts;
use self::parameters::Octets;
use self::peer::Endpoint;
use self::pool::Pool;
use self::report::{Verdict, reports};
use self::route::{Host, MAX_TRIES};
use self::transaction::Letter;

/// Delivers messages. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
    resolver: Arc<dyn Resolver>,
    pool: Arc<Pool>,
    dane: Option<Arc<dyn ValidatingResolver>>,
    mta_sts: Option<Arc<MtaSts>>,
}

impl Client {
    /// A client that finds hosts with this resolver.
    pub fn new(config: ClientConfig, resolver: Arc<dyn Resolver>) -> Self {
        let pool = Pool::new(config.max_connections_per_host, config.idle_time);
        Self { config: Arc::new(config), resolver, pool, dane: None, mta_sts: None }
    }

    /// The same client, which keeps to the TLSA records of mail exchangers (RFC 7672), and asks this resolver for the
    /// exchangers of domains. Where it applies, MTA-STS does not (RFC 8461 §2).
    #[must_use]
    pub fn with_dane(mut self, resolver: Arc<dyn ValidatingResolver>) -> Self {
        self.dane = Some(resolver);
        self
    }

    /// The same client, which keeps to the MTA-STS policies of domains (RFC 8461). Those that are
    /// known are shared with clones.
    #[must_use]
    pub fn with_mta_sts(mut self, fetcher: Arc<dyn PolicyFetcher>) -> Self {
        self.mta_sts = Some(Arc::new(MtaSts::new(fetcher)));
        self
    }

    /// The same client, for a host that takes mail at these addresses, too.
    #[must_use]
    pub fn listening_at(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        Arc::make_mut(&mut self.config).own_addresses.extend(addresses);
        self
    }

    /// Tries to deliver a message, and says how it ended for each recipient, in their order.
    /// `before` is told when the end of the message is about to be sent.
    ///
    /// May run twice for the same message; a recipient may then get it twice. When the future is
    /// dropped, the connection is cut: before the final dot nothing was delivered, after it the
    /// message may have been.
    pub async fn deliver(
        &self,
        route: &Route,
        message: &Outgoing,
        before: &dyn BeforeFinalDot,
    ) -> Vec<RecipientReport> {
        let began = Instant::now();
        let verdicts = match self.try_hosts(route, message, before).await {
            Ok(verdicts) => verdicts,
            Err(mut verdict) => {
                if verdict.facts.host.is_none() {
                    verdict.facts.elapsed = began.elapsed();
                }
                return verdict.for_all(message);
            }
        };
        reports(message, &verdicts)
    }

    /// A verdict for each recipient, or one for all.
    async fn try_hosts(
        &self,
        route: &Route,
        message: &Outgoing,
        before: &dyn BeforeFinalDot,
    ) -> Result<Vec<Verdict>, Verdict> {
        let hosts = self.hosts(route, message.wish()).await?;
        let octets = Octets::of_message(message).await;
        let octets = octets.map_err(|error| Verdict::deferred(format!("the message can't be read: {error}")))?;
        let letter = Letter { message, octets, before };
        let (mut failed, mut tries) = (None, 0);
        for host in hosts {
            let (terms, addresses) = match host.terms.and_then(|terms| Ok((terms, host.addresses?))) {
                Ok(usable) => usable,
                Err(verdict) => {
                    failed = Verdict::joined(failed, verdict);
                    continue;
                }
            };
            for address in addresses.into_iter().take(MAX_TRIES - tries) {
                tries += 1;
                let endpoint = Endpoint { name: host.name.clone(), address, terms: terms.clone() };
                match Box::pin(self.attempt(&endpoint, letter)).await {
                    Attempt::Each(verdicts) => return Ok(verdicts),
                    Attempt::Everyone(verdict) => return Err(verdict),
                    Attempt::NextHost(verdict) => {
                        let (host, detail) = (verdict.host.as_deref(), &verdict.detail);
                        tracing::info!(host, detail, "host did not take mail");
                        failed = Verdict::joined(failed, verdict);
                    }
                }
            }
        }
        Err(failed.unwrap_or_else(|| Verdict::deferred("no host has an address")))
    }

    /// The hosts of a route, and what is demanded of them.
    async fn hosts(&self, route: &Route, wish: TlsWish) -> Result<Vec<Host>, Verdict> {
        match route {
            Route::Relay(relay) => {
                let mut hosts = vec![route::relay(relay, self.resolver.as_ref()).await];
                if wish == TlsWish::Required {
                    wish::insist(&mut hosts, |_| true, "all mail");
                }
                Ok(hosts)
            }
            Route::Mx { domain, port } => self.exchangers(domain, *port, wish).await,
        }
    }

    async fn exchangers(&self, domain: &Domain, port: u16, wish: TlsWish) -> Result<Vec<Host>, Verdict> {
        let resolver = self.resolver.as_ref();
        // RFC 8689 §4.2.2: what the domain demands is not asked for where the sender wants nothing of it.
        let is_asked = wish != TlsWish::Relaxed;
        let dane = self.dane.as_deref().filter(|_| is_asked);
        let (answer, proven) = match dane {
            _ if domain.is_literal() => (Ok(Vec::new()), None),
            Some(dane) => match dane.mx(domain.as_str()).await {
                Ok(found) => (Ok(found.value), found.secure.then(|| [domain.to_string(), found.name])),
                Err(error) => (Err(error), None),
            },
            None => (resolver.mx(domain.as_str()).await, None),
        };
        let mut hosts = route::exchangers((domain, port), answer, &self.config, resolver).await?;
        let mut open: Vec<&mut Host> = hosts.iter_mut().collect();
        if let (Some(dane), Some(domains)) = (dane, &proven) {
            open = demanded(open, port, domains, dane).await;
        }
        if let Some(mta_sts) = self.mta_sts.as_ref().filter(|_| is_asked && !open.is_empty()) {
            let policy = mta_sts.policy(domain, resolver).await;
            for host in open {
                host.terms = mta_sts::terms(policy.as_deref(), domain, &host.name);
            }
        }
        if wish == TlsWish::Required {
            let believed = |host: &str| proven.is_some() || wish::is_domain(host, domain);
            wish::insist(&mut hosts, believed, domain.as_str());
        }
        Ok(hosts)
    }
}

/// Has hosts kept to their TLSA records. Those without are left.
async fn demanded<'a>(
    hosts: Vec<&'a mut Host>,
    port: u16,
    domains: &[String],
    dane: &dyn ValidatingResolver,
) -> Vec<&'a mut Host> {
    let found = join_all(hosts.iter().map(|host| dane::terms(&host.name, port, domains, dane))).await;
    let mut left = Vec::new();
    for (host, terms) in hosts.into_iter().zip(found) {
        match terms {
            Some(terms) => host.terms = terms,
            None => left.push(host),
        }
    }
    left
}
