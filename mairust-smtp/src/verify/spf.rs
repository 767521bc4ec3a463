//! SPF (RFC 7208): whether a host may use a domain in MAIL FROM or HELO.
//!
//! The record is parsed first, all of it, and evaluated then; DNS is asked for what the evaluation
//! needs and no more. Limits are those of §4.6.4: ten terms that ask DNS, two of them in vain, ten
//! mail exchangers, ten names of the client.

mod macros;
mod record;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use mairust_core::{AuthOutcome, Timestamp};

use self::macros::{MacroString, Values};
use self::record::{Hosts, Mechanism, Record, is_spf};
use super::iprev::{ClientNames, addresses_like};
use crate::dns::{ResolveError, Resolver};

/// Terms that ask DNS, in all records of one check.
const MAX_TERMS: usize = 10;

/// Terms that ask DNS in vain.
const MAX_VOID: usize = 2;

/// Mail exchangers of a domain.
const MAX_EXCHANGERS: usize = 10;

/// Who wants to use a domain.
#[derive(Debug, Clone)]
pub(super) struct Question<'a> {
    /// The client.
    pub(super) ip: IpAddr,
    /// The domain that it uses.
    pub(super) domain: &'a str,
    /// The local part that it uses; `postmaster` if there is none (§4.3).
    pub(super) local: &'a str,
    /// The argument of HELO.
    pub(super) helo: &'a str,
    /// Our host name, for explanations.
    pub(super) receiver: &'a str,
    /// The time, for explanations.
    pub(super) now: Timestamp,
}

/// What the domain says about that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) outcome: AuthOutcome,
    pub(super) explanation: Option<String>,
    pub(super) reason: Option<String>,
}

/// `check_host()` (§4).
pub(super) async fn check(resolver: &dyn Resolver, question: &Question<'_>) -> Answer {
    let question = &Question { ip: question.ip.to_canonical(), ..question.clone() };
    let mut check = Check { resolver, question, terms: 0, void: 0, client_names: None };
    match check.host(question.domain.to_owned()).await {
        Ok(Found { outcome, explanation }) => {
            let explanation = match explanation {
                Some((text, domain)) if outcome == AuthOutcome::Fail => check.explain(&text, &domain).await,
                _ => None,
            };
            Answer { outcome, explanation, reason: None }
        }
        Err(Stop { outcome, reason }) => Answer { outcome, explanation: None, reason: Some(reason) },
    }
}

/// A check under way, over all records that it leads to.
#[derive(Debug)]
struct Check<'a> {
    resolver: &'a dyn Resolver,
    question: &'a Question<'a>,
    terms: usize,
    void: usize,
    /// The validated names of the client, once they are known.
    client_names: Option<Vec<String>>,
}

/// What a record led to.
#[derive(Debug)]
struct Found {
    outcome: AuthOutcome,
    /// `exp=` of the record that decided, and its domain.
    explanation: Option<(MacroString, String)>,
}

/// Why a check came to no end of its own: none, permerror or temperror.
#[derive(Debug)]
struct Stop {
    outcome: AuthOutcome,
    reason: String,
}

impl Stop {
    fn permanent(reason: impl Into<String>) -> Self {
        Self { outcome: AuthOutcome::PermError, reason: reason.into() }
    }
}

type Evaluation<'b> = Pin<Box<dyn Future<Output = Result<Found, Stop>> + Send + 'b>>;

impl Check<'_> {
    /// Evaluates the record of a domain. A box, for records lead to others.
    fn host(&mut self, domain: String) -> Evaluation<'_> {
        Box::pin(async move {
            let record = self.record(&domain).await?;
            let explanation = || record.explanation.clone().map(|text| (text, domain.clone()));
            for directive in &record.directives {
                if self.matches(&directive.mechanism, &domain).await? {
                    return Ok(Found { outcome: directive.outcome, explanation: explanation() });
                }
            }
            let Some(redirect) = &record.redirect else {
                return Ok(Found { outcome: AuthOutcome::Neutral, explanation: None });
            };
            self.count_term()?;
            let target = self.expand_domain(redirect, &domain).await;
            self.host(target).await.map_err(no_record_is_an_error)
        })
    }

    /// The one SPF record of a domain (§4.4, §4.5).
    async fn record(&self, domain: &str) -> Result<Record, Stop> {
        let none = |reason: String| Stop { outcome: AuthOutcome::None, reason };
        if !is_domain(domain) {
            return Err(none("this is no domain".to_owned()));
        }
        let records = match self.resolver.txt(domain).await {
            Ok(records) => records,
            Err(error @ ResolveError::Temporary(_)) => return Err(temporary(domain, &error)),
            Err(_) => Vec::new(),
        };
        let mut records = records.iter().filter(|text| is_spf(text));
        match (records.next(), records.next()) {
            (None, _) => Err(none(format!("{domain} has no SPF record"))),
            (Some(record), None) => {
                Record::parse(record).map_err(|reason| Stop::permanent(format!("{domain}: {reason}")))
            }
            (Some(_), Some(_)) => Err(Stop::permanent(format!("{domain} has more than one SPF record"))),
        }
    }

    async fn matches(&mut self, mechanism: &Mechanism, domain: &str) -> Result<bool, Stop> {
        match mechanism {
            Mechanism::All => Ok(true),
            Mechanism::Ip4(network, prefix) => Ok(contains((*network).into(), *prefix, self.question.ip)),
            Mechanism::Ip6(network, prefix) => Ok(contains((*network).into(), *prefix, self.question.ip)),
            Mechanism::Include(target) => {
                self.count_term()?;
                let target = self.expand_domain(target, domain).await;
                let found = self.host(target).await.map_err(no_record_is_an_error)?;
                Ok(found.outcome == AuthOutcome::Pass)
            }
            Mechanism::A(hosts) => {
                self.count_term()?;
                let name = self.target(hosts.domain.as_ref(), domain).await;
                let addresses = self.addresses(&name).await?;
                self.count_void(addresses.is_empty())?;
                Ok(self.is_among(&addresses, hosts))
            }
            Mechanism::Mx(hosts) => self.matches_mx(hosts, domain).await,
            Mechanism::Exists(target) => {
                self.count_term()?;
                let name = self.expand_domain(target, domain).await;
                // §5.7: an A record, whatever the client uses.
                let found = nothing_is_empty(self.resolver.ipv4(&name).await, &name)?;
                self.count_void(found.is_empty())?;
                Ok(!found.is_empty())
            }
            Mechanism::Ptr(target) => {
                self.count_term()?;
                let target = self.target(target.as_ref(), domain).await;
                Ok(self.client_names().await.iter().any(|name| is_within(name, &target)))
            }
        }
    }

    async fn matches_mx(&mut self, hosts: &Hosts, domain: &str) -> Result<bool, Stop> {
        self.count_term()?;
        let name = self.target(hosts.domain.as_ref(), domain).await;
        let exchangers = nothing_is_empty(self.resolver.mx(&name).await, &name)?;
        if exchangers.len() > MAX_EXCHANGERS {
            return Err(Stop::permanent(format!("{name} has more than {MAX_EXCHANGERS} mail exchangers")));
        }
        let mut addresses = Vec::new();
        for exchanger in &exchangers {
            addresses.extend(self.addresses(&exchanger.host).await?);
            if self.is_among(&addresses, hosts) {
                return Ok(true);
            }
        }
        self.count_void(addresses.is_empty())?;
        Ok(false)
    }

    /// The addresses of a host that are of the client's kind.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Stop> {
        nothing_is_empty(addresses_like(self.resolver, host, self.question.ip).await, host)
    }

    fn is_among(&self, addresses: &[IpAddr], hosts: &Hosts) -> bool {
        let prefix = if self.question.ip.is_ipv4() { hosts.prefix4 } else { hosts.prefix6 };
        addresses.iter().any(|address| contains(*address, prefix, self.question.ip))
    }

    /// The domain that a mechanism is about.
    async fn target(&mut self, written: Option<&MacroString>, domain: &str) -> String {
        match written {
            Some(written) => self.expand_domain(written, domain).await,
            None => domain.to_owned(),
        }
    }

    async fn expand_domain(&mut self, text: &MacroString, domain: &str) -> String {
        let name = self.client_name(text, domain).await;
        text.expand_domain(&self.values(domain, &name))
    }

    fn values<'b>(&'b self, domain: &'b str, client_name: &'b str) -> Values<'b> {
        Values {
            ip: self.question.ip,
            local: self.question.local,
            sender_domain: self.question.domain,
            domain,
            helo: self.question.helo,
            client_name,
            receiver: self.question.receiver,
            now: self.question.now.to_unix().0,
        }
    }

    /// `%{p}`: the validated name of the client that is nearest to the domain (§7.3).
    async fn client_name(&mut self, text: &MacroString, domain: &str) -> String {
        if !text.needs_client_name() {
            return String::new();
        }
        let names = self.client_names().await;
        let same = names.iter().find(|name| name.eq_ignore_ascii_case(domain));
        let nearest = same.or_else(|| names.iter().find(|name| is_within(name, domain))).or(names.first());
        nearest.cloned().unwrap_or_else(|| "unknown".to_owned())
    }

    /// The names of the client that lead back to it (§5.5); errors leave a name out.
    async fn client_names(&mut self) -> &[String] {
        let names = match self.client_names.take() {
            Some(names) => names,
            None => ClientNames::find(self.resolver, self.question.ip).await.unwrap_or_default().validated,
        };
        self.client_names.insert(names)
    }

    /// The explanation that a domain gives (§6.2); an error of any kind means that it gives none.
    async fn explain(&mut self, target: &MacroString, domain: &str) -> Option<String> {
        let name = self.expand_domain(target, domain).await;
        let records = self.resolver.txt(&name).await.ok()?;
        let [record] = records.as_slice() else { return None };
        let text = MacroString::explanation(std::str::from_utf8(record).ok()?)?;
        let client_name = self.client_name(&text, domain).await;
        Some(text.expand(&self.values(domain, &client_name)))
    }

    fn count_term(&mut self) -> Result<(), Stop> {
        self.terms += 1;
        if self.terms > MAX_TERMS {
            return Err(Stop::permanent(format!("more than {MAX_TERMS} terms ask DNS")));
        }
        Ok(())
    }

    fn count_void(&mut self, in_vain: bool) -> Result<(), Stop> {
        self.void += usize::from(in_vain);
        if self.void > MAX_VOID {
            return Err(Stop::permanent(format!("more than {MAX_VOID} terms ask DNS in vain")));
        }
        Ok(())
    }
}

/// §5: no answer is a temperror, no record is no match.
fn nothing_is_empty<T>(answer: Result<Vec<T>, ResolveError>, name: &str) -> Result<Vec<T>, Stop> {
    match answer {
        Ok(found) => Ok(found),
        Err(error @ ResolveError::Temporary(_)) => Err(temporary(name, &error)),
        Err(_) => Ok(Vec::new()),
    }
}

fn temporary(name: &str, error: &ResolveError) -> Stop {
    Stop { outcome: AuthOutcome::TempError, reason: format!("{name}: {error}") }
}

/// §5.2, §6.1: who is pointed to must have a record.
fn no_record_is_an_error(stop: Stop) -> Stop {
    match stop.outcome {
        AuthOutcome::None => Stop::permanent(stop.reason),
        _ => stop,
    }
}

/// §4.3: at least two labels, each of one to 63 octets.
fn is_domain(text: &str) -> bool {
    let labels_fit = text.split('.').all(|label| (1..=63).contains(&label.len()));
    text.contains('.') && !text.starts_with('[') && text.len() <= 253 && labels_fit
}

/// Whether a name is the domain or below it.
fn is_within(name: &str, domain: &str) -> bool {
    let Some(start) = name.len().checked_sub(domain.len()) else { return false };
    let tail = name.get(start..).is_some_and(|tail| tail.eq_ignore_ascii_case(domain));
    tail && (start == 0 || name[..start].ends_with('.'))
}

/// Whether an address lies in a network, given by any of its addresses.
fn contains(network: IpAddr, prefix: u8, ip: IpAddr) -> bool {
    let shifted = |bits: u128, width: u8| bits.checked_shr(u32::from(width.saturating_sub(prefix))).unwrap_or(0);
    match (network, ip) {
        (IpAddr::V4(network), IpAddr::V4(ip)) => {
            let bits = |address: std::net::Ipv4Addr| shifted(u128::from(u32::from(address)), 32);
            bits(network) == bits(ip)
        }
        (IpAddr::V6(network), IpAddr::V6(ip)) => {
            let bits = |address: std::net::Ipv6Addr| shifted(u128::from(address), 128);
            bits(network) == bits(ip)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
