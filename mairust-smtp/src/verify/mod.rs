//! Who a message really comes from: iprev, SPF, DKIM, DMARC and ARC.
//!
//! [`Verifier::verify`] takes what is known about the session and the message as it was received,
//! and gives [`AuthResults`]. DNS is asked through a [`Resolver`] only; when it does not answer in
//! time, the result is `temperror`, never `fail`. [`forged_results`] finds fields in which a
//! stranger claims that we have done all this already.
//!
//! Deliberately absent: what follows from a result, and signing, which is another module.
//!
//! ```
//! use std::sync::Arc;
//!
//! use mairust_core::{AuthOutcome, Body, Clock, Domain, EmailAddress, ReversePath, SystemClock};
//! use mairust_smtp::dns::FakeResolver;
//! use mairust_smtp::verify::{Facts, Verifier, VerifierSettings};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // Instead of `DnsResolver::system()`, a table.
//!     let dns = FakeResolver::new()
//!         .with_txt("sender.example", Ok(vec![b"v=spf1 ip4:192.0.2.7 -all".to_vec()]))
//!         .with_txt("_dmarc.sender.example", Ok(vec![b"v=DMARC1; p=reject".to_vec()]));
//!     let verifier = Verifier::new(Arc::new(dns), VerifierSettings::default());
//!     let sender = ReversePath::Address(EmailAddress::parse("bob@sender.example")?);
//!     let facts = Facts::new("192.0.2.7".parse()?, "mx.sender.example", sender, Domain::parse("mx.example.com")?);
//!     let message = Body::from(b"From: bob@sender.example\r\n\r\nHello\r\n".to_vec());
//!     let results = verifier.verify(&facts, &message, SystemClock.now()).await?;
//!     assert_eq!(results.dmarc.as_ref().map(|dmarc| dmarc.outcome), Some(AuthOutcome::Pass));
//!     assert!(results.header_field("mx.example.com").starts_with("Authentication-Results: mx.example.com;"));
//!     Ok(())
//! }
//! ```

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{ArcResult, AuthOutcome, AuthResults, Body, DkimResult, Domain, ReversePath, SpfResult, Timestamp};
use tokio::time::Instant;

use self::arc::Chain;
use self::dkim::DkimSignature;
use self::dmarc::{Discovery, Identifiers};
use self::keys::Keys;
use self::message::Message;
use crate::dns::{MxHost, ResolveError, Resolver, SrvHost};

mod arc;
mod author;
mod dkim;
mod dmarc;
mod forged;
mod iprev;
mod keys;
mod message;
mod signature;
mod spf;
mod tags;

pub use forged::forged_results;

/// Settings of a [`Verifier`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct VerifierSettings {
    /// Time for all questions to DNS about one message; what is not answered then is a
    /// temperror. Default 10 s: slow name servers answer within it, and senders wait ten minutes.
    pub timeout: Duration,
    /// DKIM signatures of one message that are looked at, from the top; each takes a question to
    /// DNS. Default 10.
    pub max_signatures: usize,
}

impl Default for VerifierSettings {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), max_signatures: 10 }
    }
}

/// What is known about the session that a message came in.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Facts {
    /// The address of the client.
    pub client: IpAddr,
    /// The argument of EHLO or HELO.
    pub helo: String,
    /// MAIL FROM.
    pub sender: ReversePath,
    /// Our host name, for the explanations of SPF.
    pub hostname: Domain,
}

impl Facts {
    /// All of them.
    pub fn new(client: IpAddr, helo: impl Into<String>, sender: ReversePath, hostname: Domain) -> Self {
        Self { client, helo: helo.into(), sender, hostname }
    }
}

/// Finds out who messages really come from. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Verifier {
    resolver: Arc<dyn Resolver>,
    settings: VerifierSettings,
}

impl Verifier {
    /// A verifier that asks this resolver.
    pub fn new(resolver: Arc<dyn Resolver>, settings: VerifierSettings) -> Self {
        Self { resolver, settings }
    }

    /// Verifies a message as it was received, before anything is added to it. `now` is the time
    /// at which signatures must not have expired.
    ///
    /// Memory is bounded: the body is streamed, and so are header fields beyond 256 KiB. Large
    /// messages are read on a blocking thread. Nothing is left behind when the future is dropped.
    ///
    /// # Errors
    /// When the body can't be read. What is wrong with the message or its sender is a result.
    pub async fn verify(&self, facts: &Facts, body: &Body, now: Timestamp) -> io::Result<AuthResults> {
        let message = Arc::new(read(body.clone()).await?);
        let resolver = Timed { resolver: Arc::clone(&self.resolver), deadline: Instant::now() + self.settings.timeout };
        let signatures = dkim::signatures(&message, self.settings.max_signatures, now);
        let chain = Chain::read(&message);
        let names = signatures.iter().filter_map(DkimSignature::key_name).collect();
        let (iprev, spf_helo, spf, keys, policies) = tokio::join!(
            iprev::check(&resolver, facts.client),
            check_helo(&resolver, facts, now),
            check_sender(&resolver, facts, now),
            Keys::fetch(&resolver, names, chain.key_names()),
            Discovery::new(&resolver, author::author_domains(&message)),
        );
        let (dkim, arc) = verify_signatures(Arc::clone(&message), signatures, chain, keys).await?;
        let identifiers = Identifiers { spf: spf.as_ref().or(Some(&spf_helo)), dkim: &dkim };
        let dmarc = policies.evaluate(&resolver, identifiers).await;
        let mut results = AuthResults::default();
        results.iprev = Some(iprev);
        results.spf_helo = Some(spf_helo);
        results.spf = spf;
        results.dkim = dkim;
        results.dmarc = Some(dmarc);
        results.arc = Some(arc);
        Ok(results)
    }
}

/// Up to this size, work takes less time than handing it to another thread.
const INLINE: u64 = 16 << 10;

async fn read(body: Body) -> io::Result<Message> {
    if body.in_memory().is_some() && body.len() <= INLINE {
        return Message::read(&body);
    }
    tokio::task::spawn_blocking(move || Message::read(&body)).await.map_err(io::Error::other)?
}

/// The arithmetic of all signatures, off the async threads when there is much to hash.
async fn verify_signatures(
    message: Arc<Message>,
    signatures: Vec<DkimSignature>,
    chain: Chain,
    keys: Keys,
) -> io::Result<(Vec<DkimResult>, ArcResult)> {
    let is_small = message.header_size() as u64 <= INLINE;
    let work = move || {
        let dkim = signatures.iter().map(|signature| signature.verify(&message, &keys)).collect();
        (dkim, chain.verify(&message, &keys))
    };
    if is_small { Ok(work()) } else { tokio::task::spawn_blocking(work).await.map_err(io::Error::other) }
}

/// SPF for HELO (RFC 7208 §2.3).
async fn check_helo(resolver: &dyn Resolver, facts: &Facts, now: Timestamp) -> SpfResult {
    check_spf(resolver, facts, ("postmaster", &facts.helo), facts.helo.clone(), now).await
}

/// SPF for MAIL FROM (RFC 7208 §2.4); for `<>`, HELO counts.
async fn check_sender(resolver: &dyn Resolver, facts: &Facts, now: Timestamp) -> Option<SpfResult> {
    let address = facts.sender.address()?;
    let identity = (address.local().as_str(), address.domain().as_str());
    Some(check_spf(resolver, facts, identity, address.to_string(), now).await)
}

async fn check_spf(
    resolver: &dyn Resolver,
    facts: &Facts,
    (local, domain): (&str, &str),
    identity: String,
    now: Timestamp,
) -> SpfResult {
    let domain = ascii_domain(domain).unwrap_or_default();
    let helo = ascii_domain(&facts.helo).unwrap_or_default();
    let question =
        spf::Question { ip: facts.client, domain: &domain, local, helo: &helo, receiver: facts.hostname.as_str(), now };
    let spf::Answer { outcome, explanation, reason } = spf::check(resolver, &question).await;
    // Most hosts have no record for their name; that is nothing to explain.
    let reason = reason.filter(|_| outcome != AuthOutcome::None);
    SpfResult { outcome, identity, domain, explanation, reason }
}

/// A domain as DNS writes it: A-labels (RFC 5890 §2.3.2.1) in lower case, without the final dot.
fn ascii_domain(text: &str) -> Option<String> {
    let text = text.trim().trim_end_matches('.');
    if text.is_ascii() { Some(text.to_ascii_lowercase()) } else { idna::domain_to_ascii(text).ok() }
}

/// A resolver that answers until a deadline, and not at all after it.
#[derive(Debug)]
struct Timed {
    resolver: Arc<dyn Resolver>,
    deadline: Instant,
}

impl Timed {
    async fn in_time<T>(&self, answer: impl Future<Output = Result<T, ResolveError>>) -> Result<T, ResolveError> {
        let late = |_| Err(ResolveError::Temporary("no answer in time".to_owned()));
        tokio::time::timeout_at(self.deadline, answer).await.unwrap_or_else(late)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Resolver for Timed {
    async fn mx(&self, domain: &str) -> Result<Vec<MxHost>, ResolveError> {
        self.in_time(self.resolver.mx(domain)).await
    }

    async fn ipv4(&self, host: &str) -> Result<Vec<Ipv4Addr>, ResolveError> {
        self.in_time(self.resolver.ipv4(host)).await
    }

    async fn ipv6(&self, host: &str) -> Result<Vec<Ipv6Addr>, ResolveError> {
        self.in_time(self.resolver.ipv6(host)).await
    }

    async fn txt(&self, name: &str) -> Result<Vec<Vec<u8>>, ResolveError> {
        self.in_time(self.resolver.txt(name)).await
    }

    async fn srv(&self, name: &str) -> Result<Vec<SrvHost>, ResolveError> {
        self.in_time(self.resolver.srv(name)).await
    }

    async fn names(&self, address: IpAddr) -> Result<Vec<String>, ResolveError> {
        self.in_time(self.resolver.names(address)).await
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        self.in_time(self.resolver.addresses(host)).await
    }
}
