//! ARC (RFC 8617): whether the seals of those who handled a message before us are intact.
//!
//! A chain that holds says what the sealers claim, not that they are right: whom to believe is not
//! decided here.

use mairust_core::{ArcResult, AuthOutcome};

use super::keys::{Algorithm, Failure, KeyName, Keys};
use super::message::Message;
use super::signature::{Coverage, Signature, required};
use super::tags::Tags;
use crate::signed::{Canonicalization, Field};

/// Sets of one message (§4.2.1).
const MAX_SETS: usize = 50;

/// The chain of a message.
#[derive(Debug)]
pub(super) struct Chain {
    count: usize,
    /// Oldest first.
    sets: Result<Vec<Set>, Failure>,
}

/// The three fields of one handler.
#[derive(Debug)]
struct Set {
    results: usize,
    message: usize,
    seal: usize,
    seal_signature: Signature,
    message_signature: Signature,
    message_coverage: Coverage,
}

const RESULTS: &str = "arc-authentication-results";
const MESSAGE: &str = "arc-message-signature";
const SEAL: &str = "arc-seal";

impl Chain {
    /// Reads the chain; an outcome other than pass may be clear already.
    pub(super) fn read(message: &Message) -> Self {
        let count = message.named(SEAL).count();
        Self { count, sets: sets(message) }
    }

    /// The keys that are needed: of every seal, and of the newest message signature.
    pub(super) fn key_names(&self) -> Vec<KeyName> {
        let name = |signature: &Signature| (signature.selector.clone(), signature.domain.clone());
        let Ok(sets) = &self.sets else { return Vec::new() };
        let newest = sets.last().map(|set| name(&set.message_signature));
        sets.iter().map(|set| name(&set.seal_signature)).chain(newest).collect()
    }

    /// Verifies the chain (§5.2). Pure arithmetic, but not for free.
    pub(super) fn verify(&self, message: &Message, keys: &Keys) -> ArcResult {
        let verified = self.sets.as_ref().map_err(Clone::clone).and_then(|sets| verify(sets, message, keys));
        let sealer = self.sets.as_ref().ok().and_then(|sets| sets.last()).map(|set| set.seal_signature.domain.clone());
        let (outcome, reason) = match verified {
            Ok(outcome) => (outcome, None),
            Err(failure) => (failure.outcome, Some(failure.reason)),
        };
        ArcResult { outcome, sets: self.count, sealer, reason }
    }
}

fn verify(sets: &[Set], message: &Message, keys: &Keys) -> Result<AuthOutcome, Failure> {
    let Some(newest) = sets.last() else { return Ok(AuthOutcome::None) };
    let key = |signature: &Signature| keys.get(&signature.selector, &signature.domain).map_err(only_fail);
    let broken = |what: &str, instance: usize, failure: Failure| Failure {
        reason: format!("{what} {instance}: {}", failure.reason),
        ..failure
    };
    key(&newest.message_signature)
        .and_then(|key| {
            let verified = newest.message_coverage.verify(&newest.message_signature, key, message, newest.message);
            verified.map_err(only_fail)
        })
        .map_err(|failure| broken("message signature", sets.len(), failure))?;
    for index in (0..sets.len()).rev() {
        let set = &sets[index];
        let seal = key(&set.seal_signature).and_then(|key| {
            let signed = sealed_fields(&sets[..=index], message);
            let verified = set.seal_signature.verify(key, signed, &message.fields[set.seal], Canonicalization::Relaxed);
            verified.map_err(only_fail)
        });
        seal.map_err(|failure| broken("seal", index + 1, failure))?;
    }
    Ok(AuthOutcome::Pass)
}

/// What a seal covers (§5.1.1): all sets so far, oldest first, without the seal itself.
fn sealed_fields(sets: &[Set], message: &Message) -> Vec<u8> {
    let mut signed = Vec::new();
    for (index, set) in sets.iter().enumerate() {
        let is_last = index + 1 == sets.len();
        for position in [Some(set.results), Some(set.message), (!is_last).then_some(set.seal)].into_iter().flatten() {
            Canonicalization::Relaxed.add_field(&message.fields[position].raw, &mut signed);
        }
    }
    signed
}

/// The sets of a message in order, if they are complete and well formed (§5.2, steps 1 to 3).
fn sets(message: &Message) -> Result<Vec<Set>, Failure> {
    let of = |name: &'static str| message.named(name).collect::<Vec<_>>();
    let (results, messages, seals) = (of(RESULTS), of(MESSAGE), of(SEAL));
    if results.is_empty() && messages.is_empty() && seals.is_empty() {
        return Ok(Vec::new());
    }
    if !message.is_whole {
        return Err(Failure::fail("the message has too many header fields"));
    }
    let count = seals.len();
    if count > MAX_SETS || results.len() != count || messages.len() != count {
        return Err(Failure::fail("the sets are incomplete or too many"));
    }
    let results = in_order(&results, results_instance)?;
    let messages = in_order(&messages, |field| instance(&tags(field)?))?;
    let seals = in_order(&seals, |field| instance(&tags(field)?))?;
    (0..count).map(|index| Set::parse(message, index + 1, results[index], messages[index], seals[index])).collect()
}

impl Set {
    fn parse(message: &Message, number: usize, results: usize, ams: usize, seal: usize) -> Result<Self, Failure> {
        let seal_tags = tags(&message.fields[seal])?;
        // §5.2 step 3: the first seal found no chain, all others found one that held.
        let validated = required(&seal_tags, "cv").map_err(only_fail)?.to_ascii_lowercase();
        let expected = if number == 1 { "none" } else { "pass" };
        if validated != expected {
            return Err(Failure::fail(format!("seal {number} says cv={validated}")));
        }
        // §4.1.3: a seal covers what it covers, and no body.
        if seal_tags.get("h").is_some() || seal_tags.get("bh").is_some() {
            return Err(Failure::fail(format!("seal {number} has tags of another signature")));
        }
        let message_tags = tags(&message.fields[ams])?;
        let message_coverage = Coverage::parse(&message_tags).map_err(only_fail)?;
        // §4.1.2: seals are not for this signature, and without From it says nothing.
        if message_coverage.covers(SEAL) || !message_coverage.covers("from") {
            return Err(Failure::fail(format!("message signature {number} covers the wrong fields")));
        }
        let signature = |tags: &Tags| match Signature::parse(tags).map_err(only_fail)? {
            Signature { algorithm: Algorithm::RsaSha1, .. } => Err(Failure::fail("rsa-sha1 is not good enough")),
            signature => Ok(signature),
        };
        Ok(Self {
            results,
            message: ams,
            seal,
            seal_signature: signature(&seal_tags)?,
            message_signature: signature(&message_tags)?,
            message_coverage,
        })
    }
}

/// Positions by instance, which must be 1, 2, 3, … without a gap.
fn in_order(
    fields: &[(usize, &Field)],
    instance: impl Fn(&Field) -> Result<usize, Failure>,
) -> Result<Vec<usize>, Failure> {
    let mut positions = vec![None; fields.len()];
    for (position, field) in fields {
        let slot = instance(field)?.checked_sub(1).and_then(|index| positions.get_mut(index));
        match slot {
            Some(slot @ None) => *slot = Some(*position),
            _ => return Err(Failure::fail("the instances are not in order")),
        }
    }
    Ok(positions.into_iter().flatten().collect())
}

fn tags(field: &Field) -> Result<Tags, Failure> {
    Tags::parse(&field.value()).map_err(Failure::fail)
}

fn instance(tags: &Tags) -> Result<usize, Failure> {
    let number = tags.get("i").and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| Failure::fail("i= is no instance"))
}

/// The results of a set begin with their instance; the rest is no tag list (§4.1.1).
fn results_instance(field: &Field) -> Result<usize, Failure> {
    let value = field.value();
    let first = value.split(';').next().unwrap_or_default();
    instance(&Tags::parse(first).map_err(Failure::fail)?)
}

/// §5.2: a chain holds or it does not; only DNS may have the last word another time.
fn only_fail(failure: Failure) -> Failure {
    match failure.outcome {
        AuthOutcome::TempError => failure,
        _ => Failure::fail(failure.reason),
    }
}

#[cfg(test)]
mod tests {
    use mairust_core::Body;

    use super::*;

    const AAR: &str = "ARC-Authentication-Results: i=1; mx.example; spf=pass\r\n";
    const AMS: &str = "ARC-Message-Signature: i=1; a=rsa-sha256; d=a.example; s=s; h=from; bh=AAAA; b=AAAA\r\n";
    const AS: &str = "ARC-Seal: i=1; a=rsa-sha256; cv=none; d=a.example; s=s; b=AAAA\r\n";

    fn chain(header: &str) -> (Chain, ArcResult) {
        let message = Message::read(&Body::from(format!("{header}From: a@b\r\n\r\nx\r\n").into_bytes())).unwrap();
        let chain = Chain::read(&message);
        let result = chain.verify(&message, &Keys::default());
        (chain, result)
    }

    #[test]
    fn no_chain_is_no_failure() {
        let (chain, result) = chain("");
        assert_eq!((result.outcome, result.sets, chain.key_names().len()), (AuthOutcome::None, 0, 0));
    }

    #[test]
    fn a_chain_must_be_complete() {
        let (whole, result) = chain(&format!("{AS}{AMS}{AAR}"));
        assert!(whole.sets.is_ok(), "{:?}", whole.sets);
        assert_eq!(whole.key_names().len(), 2);
        assert_eq!((result.outcome, result.sealer.as_deref()), (AuthOutcome::Fail, Some("a.example")));
        for broken in [
            format!("{AS}{AMS}"),
            format!("{AMS}{AAR}"),
            format!("{AS}{AS}{AMS}{AMS}{AAR}{AAR}"),
            format!("{}{AMS}{AAR}", AS.replace("cv=none", "cv=pass")),
            format!("{}{AMS}{AAR}", AS.replace("cv=none", "cv=fail")),
            format!("{}{AMS}{AAR}", AS.replace("i=1", "i=2")),
            format!("{}{AMS}{AAR}", AS.replace("i=1", "i=0")),
            format!("{}{AMS}{AAR}", AS.replace("b=AAAA", "h=from; b=AAAA")),
            format!("{AS}{}{AAR}", AMS.replace("h=from", "h=to")),
            format!("{AS}{}{AAR}", AMS.replace("h=from", "h=from:arc-seal")),
            format!("{AS}{}{AAR}", AMS.replace("rsa-sha256", "rsa-sha1")),
            format!("{AS}{AMS}ARC-Authentication-Results: mx.example; spf=pass\r\n"),
        ] {
            let (chain, result) = chain(&broken);
            assert!(chain.sets.is_err(), "{broken}");
            assert_eq!(result.outcome, AuthOutcome::Fail, "{broken}");
        }
        let many: String = (1..=51)
            .map(|n| {
                let cv = if n == 1 { "cv=none" } else { "cv=pass" };
                format!("{AS}{AMS}{AAR}").replace("i=1", &format!("i={n}")).replace("cv=none", cv)
            })
            .collect();
        assert!(chain(&many).0.sets.is_err(), "51 sets");
        assert!(
            chain(&many[many.find("ARC-Seal: i=1;").unwrap()..many.find("ARC-Seal: i=51;").unwrap()]).0.sets.is_ok()
        );
    }
}
