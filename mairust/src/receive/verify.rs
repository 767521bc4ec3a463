//! Second stage: who the message really comes from, and what its owner asks to be done if not.
//!
//! DMARC asks for something, the settings say how much of that is done; a result alone never
//! refuses a message, and DNS that is down never counts as a failure.

use std::time::Duration;

use mairust_core::{AuthOutcome, AuthResults, Clock, DmarcPolicy, Domain, EnhancedCode, Mail, Rejection};
use mairust_smtp::verify::{Facts, Verifier};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::inspect::{Inspected, unreadable};
use super::results::to_json;
use crate::metrics::Metrics;

/// How the senders of mail from other servers are verified.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Authentication {
    /// The name under which results are told (RFC 8601 §2.5); `None` for the host name.
    pub authserv_id: Option<Domain>,
    /// Time for all questions to DNS about one message. Default 10 s.
    pub timeout: Duration,
    /// What is done when DMARC fails and the domain asks to refuse. Default quarantine: forwarding
    /// and mailing lists break DMARC, and what was refused can't be looked at.
    pub dmarc_reject: Enforcement,
    /// What is done when DMARC fails and the domain asks for quarantine. Default quarantine.
    pub dmarc_quarantine: Enforcement,
    /// What is done when SPF fails and DMARC does not pass. Default tag: forwarding breaks SPF.
    pub spf_fail: Enforcement,
}

/// What is done about a sender that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    /// The header field tells, nothing else happens.
    Tag,
    /// The message goes into the folder Quarantine.
    Quarantine,
    /// The message is refused with 550.
    Reject,
}

/// Verifies senders.
#[derive(Debug)]
pub(crate) struct Authenticator {
    pub(crate) verifier: Verifier,
    pub(crate) settings: Authentication,
}

/// A message whose sender is known as well as it can be.
#[derive(Debug, Clone)]
pub(crate) struct Verified {
    pub(crate) inspected: Inspected,
    /// `None` where senders are not verified.
    pub(crate) auth_results: Option<AuthResults>,
    /// Why the message is to be kept apart.
    pub(crate) quarantine: Option<String>,
}

impl Verified {
    /// The message as its tenant's scanners and hooks see it.
    pub(crate) fn mail(&self) -> Option<Mail> {
        let mail = self.inspected.mail()?;
        Some(match &self.auth_results {
            Some(results) => mail.with_auth_results(results.clone()),
            None => mail,
        })
    }
}

impl Default for Authentication {
    fn default() -> Self {
        Self {
            authserv_id: None,
            timeout: Duration::from_secs(10),
            dmarc_reject: Enforcement::Quarantine,
            dmarc_quarantine: Enforcement::Quarantine,
            spf_fail: Enforcement::Tag,
        }
    }
}

/// Verifies the sender; a refusal is the answer to the peer.
pub(crate) async fn verify(
    inspected: Inspected,
    authenticator: Option<&Authenticator>,
    hostname: &Domain,
    metrics: &Metrics,
    clock: &dyn Clock,
) -> Result<Verified, Rejection> {
    let (Some(authenticator), Some(client)) = (authenticator, inspected.origin.client) else {
        return Ok(Verified { inspected, auth_results: None, quarantine: None });
    };
    let helo = inspected.origin.helo.as_deref().unwrap_or_default();
    let facts = Facts::new(client, helo, inspected.envelope.sender.clone(), hostname.clone());
    let results = authenticator
        .verifier
        .verify(&facts, &inspected.received, clock.now())
        .await
        .map_err(|error| unreadable(&error))?;
    metrics.sender_verified(&results);
    tracing::info!(component = "receive", auth_results = %to_json(&results), "sender verified");
    let quarantine = decide(&results, &authenticator.settings)?;
    Ok(Verified { inspected, auth_results: Some(results), quarantine })
}

/// What follows from the results: nothing, a reason for quarantine, or a refusal.
fn decide(results: &AuthResults, settings: &Authentication) -> Result<Option<String>, Rejection> {
    let dmarc = match results.dmarc.as_ref().map(|dmarc| dmarc.requested()) {
        Some(DmarcPolicy::Reject) => settings.dmarc_reject,
        Some(DmarcPolicy::Quarantine) => settings.dmarc_quarantine,
        _ => Enforcement::Tag,
    };
    let spf = if spf_fails(results) { settings.spf_fail } else { Enforcement::Tag };
    match dmarc.max(spf) {
        Enforcement::Tag => Ok(None),
        Enforcement::Quarantine if dmarc == Enforcement::Quarantine => Ok(Some("DMARC failed".to_owned())),
        Enforcement::Quarantine => Ok(Some("SPF failed".to_owned())),
        Enforcement::Reject if dmarc == Enforcement::Reject => Err(refuse_for_dmarc(results)),
        Enforcement::Reject => Err(refuse_for_spf(results)),
    }
}

/// Whether the client must not use the domain of MAIL FROM, or of HELO if MAIL FROM is `<>`, and
/// nobody else vouches for the message.
fn spf_fails(results: &AuthResults) -> bool {
    let spf = results.spf.as_ref().or(results.spf_helo.as_ref());
    let vouched = results.dmarc.as_ref().is_some_and(|dmarc| dmarc.outcome == AuthOutcome::Pass);
    spf.is_some_and(|spf| spf.outcome == AuthOutcome::Fail) && !vouched
}

fn refuse_for_dmarc(results: &AuthResults) -> Rejection {
    let domain = results.dmarc.as_ref().and_then(|dmarc| dmarc.domain.as_deref()).unwrap_or("the author");
    let text = format!("Refused by the policy of {domain} for mail that is not authenticated");
    Rejection::new(550, EnhancedCode(5, 7, 1), text).because("DMARC failed")
}

fn refuse_for_spf(results: &AuthResults) -> Rejection {
    let spf = results.spf.as_ref().or(results.spf_helo.as_ref());
    let domain = spf.map_or("the sender", |spf| spf.domain.as_str());
    let mut text = format!("{domain} does not let your host use its name");
    if let Some(explanation) = spf.and_then(|spf| spf.explanation.as_deref()) {
        // RFC 7208 §6.2: a stranger wrote it, and the reader is told so.
        text.push_str(&format!("\n{domain} explains: {}", explanation.replace(['\r', '\n'], " ")));
    }
    // RFC 7372 §3.2: X.7.23 SPF validation failed.
    Rejection::new(550, EnhancedCode(5, 7, 23), text).because("SPF failed")
}

#[cfg(test)]
mod tests {
    use mairust_core::{DmarcResult, SpfResult};

    use super::*;

    fn results(spf: AuthOutcome, dmarc: AuthOutcome, policy: DmarcPolicy) -> AuthResults {
        let mut results = AuthResults::default();
        results.spf = Some(SpfResult {
            outcome: spf,
            identity: "bob@sender.example".to_owned(),
            domain: "sender.example".to_owned(),
            explanation: Some("go\r\n250 away".to_owned()),
            reason: None,
        });
        results.dmarc = Some(DmarcResult {
            outcome: dmarc,
            domain: Some("author.example".to_owned()),
            organizational_domain: None,
            policy_domain: None,
            policy: Some(policy),
            testing: false,
            aligned: Vec::new(),
            reason: None,
        });
        results
    }

    /// In words: what is done.
    fn decided(results: &AuthResults, settings: &Authentication) -> String {
        match decide(results, settings) {
            Ok(None) => "tag".to_owned(),
            Ok(Some(reason)) => format!("quarantine: {reason}"),
            Err(rejection) => rejection.reply().to_string(),
        }
    }

    #[test]
    fn by_default_nothing_is_refused() {
        use AuthOutcome::{Fail, None, Pass, TempError};
        use DmarcPolicy::{Quarantine, Reject};
        let settings = Authentication::default();
        for (spf, dmarc, policy, done) in [
            (Fail, Fail, Reject, "quarantine: DMARC failed"),
            (Pass, Fail, Quarantine, "quarantine: DMARC failed"),
            (Fail, Fail, DmarcPolicy::None, "tag"),
            (Fail, Pass, Reject, "tag"),
            (TempError, TempError, Reject, "tag"),
            (Fail, None, DmarcPolicy::None, "tag"),
        ] {
            assert_eq!(decided(&results(spf, dmarc, policy), &settings), done, "{spf} {dmarc} {policy:?}");
        }
    }

    #[test]
    fn enforcement_is_configuration() {
        use AuthOutcome::{Fail, Pass, SoftFail};
        let settings = Authentication {
            dmarc_reject: Enforcement::Reject,
            dmarc_quarantine: Enforcement::Tag,
            spf_fail: Enforcement::Quarantine,
            ..Authentication::default()
        };
        let refused = "550 5.7.1 Refused by the policy of author.example for mail that is not authenticated";
        for (spf, dmarc, policy, done) in [
            (Fail, Fail, DmarcPolicy::Reject, refused),
            (Pass, Fail, DmarcPolicy::Quarantine, "tag"),
            (Fail, Fail, DmarcPolicy::Quarantine, "quarantine: SPF failed"),
            (Fail, Pass, DmarcPolicy::Reject, "tag"),
            (SoftFail, Fail, DmarcPolicy::None, "tag"),
        ] {
            assert_eq!(decided(&results(spf, dmarc, policy), &settings), done, "{spf} {dmarc} {policy:?}");
        }
        let strict = Authentication { spf_fail: Enforcement::Reject, ..Authentication::default() };
        let answer = decide(&results(Fail, Fail, DmarcPolicy::None), &strict).unwrap_err();
        let explained = ["sender.example does not let your host use its name", "sender.example explains: go  250 away"];
        assert_eq!(answer.reply().lines(), explained);
    }
}
