//! DANE for SMTP (RFC 7672): hosts that say in signed DNS which certificates they have.
//!
//! Who says so is spoken to under TLS, or not at all. That a host says nothing is believed only when DNSSEC proves it;
//! of a host whose zone is not signed, nothing is demanded.

use super::peer::{Terms, TlsPolicy, TlsRule};
use super::report::{AttemptFacts, Verdict};
use super::route::literal;
use crate::dns::{HostProof, ResolveError, Tlsa, ValidatingResolver};

mod records;
mod verifier;

pub(super) use self::verifier::client_config;

/// Which certificates a host may have (RFC 7672 §3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DanePolicy {
    /// The name that the records belong to, and that the host is asked for.
    pub base: String,
    /// The names of which one must be in a certificate that DANE-TA records lead to.
    pub names: Vec<String>,
    /// Its usable records: at least one.
    pub records: Vec<Tlsa>,
}

/// What the records of an exchanger demand, or why it must not get the mail now; `None` if DANE does not apply to it.
/// That it is one has to be proven; `domains` are the names of the domain that it is one of.
pub(super) async fn terms(
    host: &str,
    port: u16,
    domains: &[String],
    resolver: &dyn ValidatingResolver,
) -> Option<Result<Terms, Verdict>> {
    match policy(host, port, domains, resolver).await {
        Ok(tls) => tls.map(|tls| Ok(Terms { tls, rule: TlsRule::Dane, ..Terms::opportunistic() })),
        Err(error) => {
            let verdict = Verdict::deferred(format!("whether {host} has TLSA records can't be found out: {error}"));
            let rule = Some(TlsRule::Dane);
            let facts = AttemptFacts { host: Some(host.to_owned()), rule, ..AttemptFacts::default() };
            Some(Err(Verdict { facts: Box::new(facts), ..verdict }))
        }
    }
}

async fn policy(
    host: &str,
    port: u16,
    domains: &[String],
    resolver: &dyn ValidatingResolver,
) -> Result<Option<TlsPolicy>, ResolveError> {
    if literal(host).is_some() {
        return Ok(None);
    }
    // RFC 7672 §2.2.2: where an alias leads to comes first, and then the name itself.
    let bases = match resolver.host(host).await? {
        HostProof::Addresses(end) if end.eq_ignore_ascii_case(host) => vec![end],
        HostProof::Addresses(end) => vec![end, host.to_owned()],
        HostProof::Alias => vec![host.to_owned()],
        HostProof::Nothing => Vec::new(),
    };
    for base in bases {
        let found = resolver.tlsa(&format!("_{port}._tcp.{base}")).await?;
        if found.secure && !found.value.is_empty() {
            return Ok(Some(demand(base, domains, found.value)));
        }
    }
    Ok(None)
}

/// RFC 7672 §2.2: records of which none is usable still say that there is TLS.
fn demand(base: String, domains: &[String], found: Vec<Tlsa>) -> TlsPolicy {
    let records = records::usable(found);
    if records.is_empty() {
        return TlsPolicy::Encrypt;
    }
    // RFC 7672 §3.2.2.
    let mut names: Vec<String> = std::iter::once(&base).chain(domains).cloned().collect();
    names.dedup();
    TlsPolicy::Dane(DanePolicy { base, names, records })
}

#[cfg(test)]
mod tests;
