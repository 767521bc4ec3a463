//! DKIM (RFC 6376, 8301, 8463): which domains take responsibility for a message.
//!
//! Stricter than the RFC where it leaves a choice: a signature by rsa-sha1, by a short key, or over
//! a part of the body never passes, and an expired one fails.

use mairust_core::{DkimResult, Timestamp};

use super::keys::{Algorithm, Failure, KeyName, Keys};
use super::message::Message;
use super::signature::{Coverage, Signature, required, time};
use super::tags::{Tags, words};
use crate::signed::Field;

/// A signature as it stands in a message.
#[derive(Debug)]
pub(super) struct DkimSignature {
    /// The position of its field.
    position: usize,
    tags: Result<Tags, Failure>,
    parsed: Result<Parsed, Failure>,
}

#[derive(Debug)]
struct Parsed {
    signature: Signature,
    coverage: Coverage,
    /// The domain of `i=`, if it is another one than `d=`.
    is_for_subdomain: bool,
}

/// The first signatures of a message, at most so many.
pub(super) fn signatures(message: &Message, most: usize, now: Timestamp) -> Vec<DkimSignature> {
    let fields = message.named("dkim-signature").take(most);
    fields.map(|(position, field)| DkimSignature::parse(position, field, now)).collect()
}

impl DkimSignature {
    fn parse(position: usize, field: &Field, now: Timestamp) -> Self {
        let tags = Tags::parse(&field.value()).map_err(Failure::permanent);
        let parsed = match &tags {
            Ok(tags) => Parsed::from_tags(tags, now),
            Err(failure) => Err(failure.clone()),
        };
        Self { position, tags, parsed }
    }

    /// The key that is needed to verify it.
    pub(super) fn key_name(&self) -> Option<KeyName> {
        let signature = &self.parsed.as_ref().ok()?.signature;
        Some((signature.selector.clone(), signature.domain.clone()))
    }

    /// Verifies it. Pure arithmetic, but not for free.
    pub(super) fn verify(&self, message: &Message, keys: &Keys) -> DkimResult {
        let verified = self.parsed.as_ref().map_err(Clone::clone).and_then(|parsed| {
            if !message.is_whole {
                return Err(Failure::permanent("the message has too many header fields"));
            }
            let key = keys.get(&parsed.signature.selector, &parsed.signature.domain)?;
            if key.is_strict && parsed.is_for_subdomain {
                return Err(Failure::permanent("the key is not for subdomains"));
            }
            parsed.coverage.verify(&parsed.signature, key, message, self.position)
        });
        self.result(verified)
    }

    fn result(&self, verified: Result<(), Failure>) -> DkimResult {
        let tag = |name: &str| {
            let value = self.tags.as_ref().ok().and_then(|tags| tags.compact(name)).unwrap_or_default();
            value.to_ascii_lowercase()
        };
        let b = self.tags.as_ref().ok().and_then(|tags| tags.compact("b")).unwrap_or_default();
        let (domain, selector) = match &self.parsed {
            Ok(parsed) => (parsed.signature.domain.clone(), parsed.signature.selector.clone()),
            Err(_) => (tag("d"), tag("s")),
        };
        let (outcome, reason) = match verified {
            Ok(()) => (mairust_core::AuthOutcome::Pass, None),
            Err(failure) => (failure.outcome, Some(failure.reason)),
        };
        DkimResult { outcome, domain, selector, algorithm: tag("a"), signature: b.chars().take(8).collect(), reason }
    }
}

impl Parsed {
    fn from_tags(tags: &Tags, now: Timestamp) -> Result<Self, Failure> {
        if required(tags, "v")? != "1" {
            return Err(Failure::permanent("v= is an unknown version"));
        }
        let signature = Signature::parse(tags)?;
        let coverage = Coverage::parse(tags)?;
        // §5.4: without From, the signature says nothing about who wrote it.
        if !coverage.covers("from") {
            return Err(Failure::permanent("h= leaves From out"));
        }
        if tags.get("q").is_some_and(|methods| !words(methods).any(|method| method == "dns/txt")) {
            return Err(Failure::permanent("q= names no known way to the key"));
        }
        if signature.algorithm == Algorithm::RsaSha1 {
            return Err(Failure::new(mairust_core::AuthOutcome::Policy, "rsa-sha1 is not good enough"));
        }
        let (signed_at, expires_at) = (time(tags, "t")?, time(tags, "x")?);
        match expires_at {
            Some(expires) if signed_at.is_some_and(|signed| expires <= signed) => {
                return Err(Failure::permanent("x= is not after t="));
            }
            Some(expires) if expires <= now => return Err(Failure::fail("the signature has expired")),
            _ => {}
        }
        let is_for_subdomain = match tags.get("i") {
            None => false,
            Some(identity) => is_for_subdomain(identity, &signature.domain)
                .ok_or_else(|| Failure::permanent("i= is not within d="))?,
        };
        Ok(Self { signature, coverage, is_for_subdomain })
    }
}

/// Whether the identity is of a domain below; `None` if it is of another domain altogether.
fn is_for_subdomain(identity: &str, domain: &str) -> Option<bool> {
    let (_, written) = identity.rsplit_once('@')?;
    let identity_domain = super::ascii_domain(written)?;
    let above = identity_domain.strip_suffix(domain)?;
    if above.is_empty() { Some(false) } else { above.ends_with('.').then_some(true) }
}

#[cfg(test)]
mod tests {
    use mairust_core::{AuthOutcome, Body};

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix(1_000_000);

    /// What is wrong with a signature that says this besides what is needed.
    fn problem(change: &str) -> Option<(AuthOutcome, String)> {
        let mut tags = vec!["v=1", "a=rsa-sha256", "d=a.example", "s=s1", "h=From:To", "bh=AAAA", "b=AAAA"];
        let name = change.split_once('=').unwrap().0;
        tags.retain(|tag| tag.split_once('=').unwrap().0 != name);
        if !change.ends_with("=-") {
            tags.push(change);
        }
        let text = format!("DKIM-Signature: {}\r\n\r\nbody\r\n", tags.join("; "));
        let message = Message::read(&Body::from(text.into_bytes())).unwrap();
        let signature = signatures(&message, 10, NOW).remove(0);
        signature.parsed.err().map(|failure| (failure.outcome, failure.reason))
    }

    #[test]
    fn a_signature_must_say_what_it_is() {
        for fine in ["i=@a.example", "i=x@sub.A.example", "q=dns/txt", "t=1", "x=1000001", "l=5", "c=relaxed", "z=x"] {
            assert_eq!(problem(fine), None, "{fine}");
        }
        for missing in ["v=-", "a=-", "d=-", "s=-", "h=-", "bh=-", "b=-"] {
            assert_eq!(problem(missing).unwrap().0, AuthOutcome::PermError, "{missing}");
        }
        for (change, outcome, reason) in [
            ("v=2", AuthOutcome::PermError, "version"),
            ("a=rsa-sha1", AuthOutcome::Policy, "rsa-sha1"),
            ("a=dsa", AuthOutcome::PermError, "algorithm"),
            ("d=a b", AuthOutcome::PermError, "d= is no name"),
            ("h=To", AuthOutcome::PermError, "From"),
            ("h=From::To", AuthOutcome::PermError, "h="),
            ("b=!", AuthOutcome::PermError, "base64"),
            ("i=@b.example", AuthOutcome::PermError, "i="),
            ("i=@xa.example", AuthOutcome::PermError, "i="),
            ("i=a.example", AuthOutcome::PermError, "i="),
            ("q=other", AuthOutcome::PermError, "q="),
            ("x=1000000", AuthOutcome::Fail, "expired"),
            ("c=nowsp/simple", AuthOutcome::PermError, "c="),
            ("l=x", AuthOutcome::PermError, "l="),
        ] {
            let (found, why) = problem(change).unwrap();
            assert_eq!(found, outcome, "{change}");
            assert!(why.contains(reason), "{change}: {why}");
        }
    }

    #[test]
    fn only_so_many_are_looked_at() {
        let text = "DKIM-Signature: v=1\r\n".repeat(50) + "\r\n";
        let message = Message::read(&Body::from(text.into_bytes())).unwrap();
        assert_eq!(signatures(&message, 10, NOW).len(), 10);
    }
}
