//! REQUIRETLS (RFC 8689 §4.2.1): mail that goes to hosts which prove who they are, and keep to that, too.

use mairust_core::{Domain, EnhancedCode, Reply};

use super::peer::Terms;
use super::report::{AttemptFacts, Verdict};
use super::route::Host;

/// Demands a proof of each host. `believed` says of a name whether it is known who it belongs to: a proof that a host
/// has a name which anybody may have made up is worth nothing.
pub(super) fn insist(hosts: &mut [Host], believed: impl Fn(&str) -> bool, from: &str) {
    for host in hosts {
        let proving = |terms: Terms| {
            // A policy of the domain has vouched for the name.
            if terms.is_verifying() || believed(&host.name) { terms.proving(&host.name) } else { None }
        };
        let terms = host.terms.clone();
        host.terms = terms.and_then(|terms| proving(terms).ok_or_else(|| unproven(&host.name, from)));
    }
}

/// Whether the name of a host is that of the domain itself: whoever proves that is the right one.
pub(super) fn is_domain(host: &str, domain: &Domain) -> bool {
    host.eq_ignore_ascii_case(domain.as_str())
}

fn unproven(host: &str, from: &str) -> Verdict {
    let text =
        format!("The sender wants verified TLS (REQUIRETLS), and nothing proves {host} to be the host for {from}");
    let verdict = Verdict::failed(Reply::new(550, EnhancedCode(5, 7, 10), text));
    let facts = AttemptFacts { host: Some(host.to_owned()), ..AttemptFacts::default() };
    Verdict { facts: Box::new(facts), ..verdict }
}
