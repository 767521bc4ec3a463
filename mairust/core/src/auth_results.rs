//! Who a message really comes from: what SPF, DKIM, DMARC, ARC and the reverse lookup of the client
//! found, and the header field that tells it (RFC 8601).
//!
//! Deliberately absent: DNS, cryptography and any decision about the message. A result is a fact;
//! what follows from it is the business of whoever reads it.

use std::fmt;
use std::net::IpAddr;

/// How a check ended, in the words of RFC 8601 §2.7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuthOutcome {
    /// The check found the opposite of what was claimed.
    Fail,
    /// Nothing can be said.
    Neutral,
    /// There was nothing to check.
    None,
    /// Something is wrong with the records or the message, and will be next time, too.
    PermError,
    /// What was claimed is true.
    Pass,
    /// True, but in a way that is not good enough, for example by a key that is too short.
    Policy,
    /// Probably not what was claimed (SPF only).
    SoftFail,
    /// DNS did not answer in time; another attempt may end otherwise.
    TempError,
}

/// The results of all checks of one message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthResults {
    /// Whether the name of the client leads back to its address (RFC 8601 §3).
    pub iprev: Option<IprevResult>,
    /// SPF for the argument of EHLO.
    pub spf_helo: Option<SpfResult>,
    /// SPF for MAIL FROM; `None` for `<>`, for which [`spf_helo`](Self::spf_helo) counts
    /// (RFC 7208 §2.4).
    pub spf: Option<SpfResult>,
    /// One for each DKIM signature that was looked at, in the order of the header section.
    pub dkim: Vec<DkimResult>,
    /// DMARC for the domain of From.
    pub dmarc: Option<DmarcResult>,
    /// The chain of ARC seals.
    pub arc: Option<ArcResult>,
}

/// Whether the name of the client leads back to its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IprevResult {
    /// How it ended.
    pub outcome: AuthOutcome,
    /// The address of the client.
    pub client: IpAddr,
    /// Its name, if it leads back.
    pub name: Option<String>,
}

/// What SPF found for one identity (RFC 7208).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpfResult {
    /// How it ended.
    pub outcome: AuthOutcome,
    /// The identity as the client wrote it: the argument of EHLO, or the address of MAIL FROM.
    pub identity: String,
    /// The domain whose record was asked.
    pub domain: String,
    /// What the domain says to those who fail (`exp=`). A stranger wrote it.
    pub explanation: Option<String>,
    /// What went wrong, for people.
    pub reason: Option<String>,
}

/// What was found for one DKIM signature (RFC 6376).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DkimResult {
    /// How it ended.
    pub outcome: AuthOutcome,
    /// `d=`: who signed. Empty if the signature does not say.
    pub domain: String,
    /// `s=`: by which key.
    pub selector: String,
    /// `a=`, for example `rsa-sha256`.
    pub algorithm: String,
    /// The first characters of `b=`, which tell signatures of one domain apart (RFC 6008).
    pub signature: String,
    /// What went wrong, for people.
    pub reason: Option<String>,
}

/// What a domain asks to be done with mail that fails DMARC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DmarcPolicy {
    /// Nothing.
    None,
    /// To be treated as suspicious.
    Quarantine,
    /// To be refused.
    Reject,
}

/// An identifier that is authenticated and belongs to the domain of From.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aligned {
    /// This domain signed.
    Dkim(String),
    /// SPF passed for this domain.
    Spf(String),
}

/// What DMARC found for the domain of From (RFC 9989).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DmarcResult {
    /// How it ended. [`AuthOutcome::Policy`]: From names so many domains that they were not asked.
    pub outcome: AuthOutcome,
    /// The domain of From; `None` if there is none.
    pub domain: Option<String>,
    /// The organisation that the domain belongs to, as far as it was found out.
    pub organizational_domain: Option<String>,
    /// Where the record was found that applies.
    pub policy_domain: Option<String>,
    /// The policy that it publishes for this domain (`p=`, `sp=` or `np=`).
    pub policy: Option<DmarcPolicy>,
    /// Whether the policy is being tested (`t=y`).
    pub testing: bool,
    /// What aligns.
    pub aligned: Vec<Aligned>,
    /// What went wrong, for people.
    pub reason: Option<String>,
}

/// What was found for the chain of ARC seals (RFC 8617).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArcResult {
    /// How it ended.
    pub outcome: AuthOutcome,
    /// How many sets there are.
    pub sets: usize,
    /// The domain of the last seal.
    pub sealer: Option<String>,
    /// What went wrong, for people.
    pub reason: Option<String>,
}

impl AuthOutcome {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Neutral => "neutral",
            Self::None => "none",
            Self::PermError => "permerror",
            Self::Pass => "pass",
            Self::Policy => "policy",
            Self::SoftFail => "softfail",
            Self::TempError => "temperror",
        }
    }
}

impl fmt::Display for AuthOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl DmarcPolicy {
    /// The word of the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        }
    }
}

impl DmarcResult {
    /// What the domain asks to be done with this message: nothing unless it failed, and one step
    /// less than the policy while that is being tested (RFC 9989 §4.7). A crowd of domains that
    /// were not asked is taken to ask for the most, for one of them may.
    pub fn requested(&self) -> DmarcPolicy {
        match (self.outcome, self.policy, self.testing) {
            (AuthOutcome::Policy, ..) | (AuthOutcome::Fail, Some(DmarcPolicy::Reject), false) => DmarcPolicy::Reject,
            (AuthOutcome::Fail, Some(DmarcPolicy::Reject), true)
            | (AuthOutcome::Fail, Some(DmarcPolicy::Quarantine), false) => DmarcPolicy::Quarantine,
            _ => DmarcPolicy::None,
        }
    }
}

impl AuthResults {
    /// Each check with its outcome, in the order in which the header field tells them.
    pub fn outcomes(&self) -> Vec<(&'static str, AuthOutcome)> {
        let mut outcomes = Vec::new();
        outcomes.extend(self.iprev.iter().map(|result| ("iprev", result.outcome)));
        outcomes.extend(self.spf_helo.iter().map(|result| ("spf_helo", result.outcome)));
        outcomes.extend(self.spf.iter().map(|result| ("spf", result.outcome)));
        outcomes.extend(self.dkim.iter().map(|result| ("dkim", result.outcome)));
        outcomes.extend(self.dmarc.iter().map(|result| ("dmarc", result.outcome)));
        outcomes.extend(self.arc.iter().map(|result| ("arc", result.outcome)));
        outcomes
    }

    /// The Authentication-Results field (RFC 8601 §2.2) under this authserv-id, folded, with its
    /// final CRLF. Whatever strangers wrote into domains, names and selectors, it stays a value.
    pub fn header_field(&self, authserv_id: &str) -> String {
        let mut results: Vec<String> = Vec::new();
        results.extend(self.iprev.iter().map(iprev));
        results.extend(self.spf_helo.iter().map(|result| spf(result, "helo")));
        results.extend(self.spf.iter().map(|result| spf(result, "mailfrom")));
        results.extend(self.dkim.iter().map(dkim));
        if self.dkim.is_empty() {
            results.push("dkim=none".to_owned());
        }
        results.extend(self.dmarc.iter().map(dmarc));
        results.extend(self.arc.iter().map(arc));
        format!("Authentication-Results: {};\r\n\t{}\r\n", value(authserv_id), results.join(";\r\n\t"))
    }
}

/// The authserv-id of an Authentication-Results field, in lower case and without quotes, from the
/// value behind the colon; `None` if there is none.
pub fn authserv_id(field_value: &str) -> Option<String> {
    let text = skip_comments(field_value)?;
    let id = match text.strip_prefix('"') {
        Some(quoted) => {
            let mut id = String::new();
            let mut characters = quoted.chars();
            loop {
                match characters.next()? {
                    '"' => break id,
                    '\\' => id.push(characters.next()?),
                    // The white space of folding says nothing.
                    '\r' | '\n' => {}
                    character => id.push(character),
                }
            }
        }
        None => text.split(|c: char| c.is_whitespace() || matches!(c, ';' | '(' | '"')).next()?.to_owned(),
    };
    let id = id.trim().trim_end_matches('.').to_lowercase();
    (!id.is_empty()).then_some(id)
}

/// What is left behind white space and comments; `None` if a comment does not end.
fn skip_comments(text: &str) -> Option<&str> {
    let mut rest = text.trim_start();
    while rest.starts_with('(') {
        let mut depth = 0_usize;
        let mut escaped = false;
        let end = rest.char_indices().find(|(_, character)| {
            match character {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        rest = rest[end?.0 + 1..].trim_start();
    }
    Some(rest)
}

fn iprev(result: &IprevResult) -> String {
    let mut text = format!("iprev={}", result.outcome);
    push(&mut text, "policy.iprev", &result.client.to_string());
    if let Some(name) = &result.name {
        text.push_str(&format!(" ({})", comment(name)));
    }
    text
}

fn spf(result: &SpfResult, property: &str) -> String {
    let mut text = format!("spf={}", result.outcome);
    push_reason(&mut text, result.reason.as_deref());
    push(&mut text, &format!("smtp.{property}"), &result.identity);
    text
}

fn dkim(result: &DkimResult) -> String {
    let mut text = format!("dkim={}", result.outcome);
    push_reason(&mut text, result.reason.as_deref());
    let properties =
        [("d", &result.domain), ("s", &result.selector), ("a", &result.algorithm), ("b", &result.signature)];
    for (name, value) in properties.into_iter().filter(|(_, value)| !value.is_empty()) {
        push(&mut text, &format!("header.{name}"), value);
    }
    text
}

fn dmarc(result: &DmarcResult) -> String {
    let mut text = format!("dmarc={}", result.outcome);
    push_reason(&mut text, result.reason.as_deref());
    if let Some(domain) = &result.domain {
        push(&mut text, "header.from", domain);
    }
    if let Some(policy) = result.policy {
        push(&mut text, "polrec.p", policy.as_str());
    }
    if let Some(domain) = result.policy_domain.as_ref().filter(|found| Some(*found) != result.domain.as_ref()) {
        push(&mut text, "polrec.domain", domain);
    }
    text
}

fn arc(result: &ArcResult) -> String {
    let mut text = format!("arc={}", result.outcome);
    push_reason(&mut text, result.reason.as_deref());
    if result.sets > 0 {
        text.push_str(&format!(" (i={})", result.sets));
    }
    if let Some(sealer) = &result.sealer {
        push(&mut text, "header.d", sealer);
    }
    text
}

fn push_reason(text: &mut String, reason: Option<&str>) {
    if let Some(reason) = reason {
        text.push_str(&format!(" reason={}", quoted(reason)));
    }
}

/// On a line of its own where the line would become long (RFC 5322 §2.1.1).
fn push(text: &mut String, property: &str, property_value: &str) {
    let addition = format!("{property}={}", value(property_value));
    let line = text.rsplit('\t').next().unwrap_or(text);
    let gap = if line.len() + addition.len() > 70 { "\r\n\t " } else { " " };
    text.push_str(gap);
    text.push_str(&addition);
}

/// A `pvalue` (RFC 8601 §2.2): as it is where that is allowed, otherwise quoted.
fn value(text: &str) -> String {
    // RFC 2045 §5.1 token.
    let is_token = |byte: u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&byte);
    let (local, domain) = text.rsplit_once('@').unwrap_or(("", text));
    let plain = !domain.is_empty() && text.len() <= MAX_VALUE && local.bytes().chain(domain.bytes()).all(is_token);
    if plain { text.to_owned() } else { quoted(text) }
}

/// Octets of one value; nothing that was checked has a longer name.
const MAX_VALUE: usize = 320;

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in printable(text) {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}

fn comment(text: &str) -> String {
    printable(text).map(|character| if matches!(character, '(' | ')' | '\\') { '?' } else { character }).collect()
}

fn printable(text: &str) -> impl Iterator<Item = char> {
    text.chars().take(MAX_VALUE).map(|character| if matches!(character, ' '..='~') { character } else { '?' })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spf_result(outcome: AuthOutcome, identity: &str) -> SpfResult {
        SpfResult {
            outcome,
            identity: identity.to_owned(),
            domain: "sender.example".to_owned(),
            explanation: None,
            reason: None,
        }
    }

    fn dkim_result(selector: &str) -> DkimResult {
        DkimResult {
            outcome: AuthOutcome::Pass,
            domain: "sender.example".to_owned(),
            selector: selector.to_owned(),
            algorithm: "rsa-sha256".to_owned(),
            signature: "abcdEF+/".to_owned(),
            reason: None,
        }
    }

    fn dmarc_result(policy: DmarcPolicy, testing: bool) -> DmarcResult {
        DmarcResult {
            outcome: AuthOutcome::Fail,
            domain: Some("mail.sender.example".to_owned()),
            organizational_domain: Some("sender.example".to_owned()),
            policy_domain: Some("sender.example".to_owned()),
            policy: Some(policy),
            testing,
            aligned: Vec::new(),
            reason: None,
        }
    }

    #[test]
    fn tells_everything_in_one_field() {
        let results = AuthResults {
            iprev: Some(IprevResult {
                outcome: AuthOutcome::Pass,
                client: "192.0.2.7".parse().unwrap(),
                name: Some("mx.sender.example".to_owned()),
            }),
            spf_helo: Some(spf_result(AuthOutcome::None, "mx.sender.example")),
            spf: Some(spf_result(AuthOutcome::Pass, "bob@sender.example")),
            dkim: vec![dkim_result("s1")],
            dmarc: Some(dmarc_result(DmarcPolicy::Reject, false)),
            arc: Some(ArcResult { outcome: AuthOutcome::None, sets: 0, sealer: None, reason: None }),
        };
        assert_eq!(
            results.header_field("mx.example.com"),
            "Authentication-Results: mx.example.com;\r\n\
             \tiprev=pass policy.iprev=192.0.2.7 (mx.sender.example);\r\n\
             \tspf=none smtp.helo=mx.sender.example;\r\n\
             \tspf=pass smtp.mailfrom=bob@sender.example;\r\n\
             \tdkim=pass header.d=sender.example header.s=s1 header.a=rsa-sha256\r\n\
             \t header.b=\"abcdEF+/\";\r\n\
             \tdmarc=fail header.from=mail.sender.example polrec.p=reject\r\n\
             \t polrec.domain=sender.example;\r\n\
             \tarc=none\r\n"
        );
        let words: Vec<_> = results.outcomes().into_iter().map(|(name, _)| name).collect();
        assert_eq!(words, ["iprev", "spf_helo", "spf", "dkim", "dmarc", "arc"]);
    }

    #[test]
    fn nothing_that_strangers_write_becomes_a_result() {
        let mut results = AuthResults::default();
        assert_eq!(results.header_field("mx"), "Authentication-Results: mx;\r\n\tdkim=none\r\n");
        results.spf = Some(spf_result(AuthOutcome::Fail, "\"a; dmarc=pass\r\nX: y\"@sender.example"));
        let mut signature = dkim_result("s1; spf=pass");
        signature.reason = Some("a \"bad\" one\r\n".to_owned());
        results.dkim = vec![signature];
        results.iprev = Some(IprevResult {
            outcome: AuthOutcome::Pass,
            client: "2001:db8::1".parse().unwrap(),
            name: Some("a) spf=pass (b".to_owned()),
        });
        let field = results.header_field("mx");
        assert!(field.contains("smtp.mailfrom=\"\\\"a; dmarc=pass??X: y\\\"@sender.example\""), "{field}");
        assert!(field.contains("header.s=\"s1; spf=pass\""), "{field}");
        assert!(field.contains("reason=\"a \\\"bad\\\" one??\""), "{field}");
        assert!(field.contains("policy.iprev=\"2001:db8::1\" (a? spf=pass ?b)"), "{field}");
        let folded = |line: &str| line.is_empty() || line.starts_with('\t') || line.starts_with("Authentication-");
        assert!(field.split("\r\n").all(folded), "{field}");
    }

    #[test]
    fn a_tested_policy_asks_for_one_step_less() {
        use DmarcPolicy::{None, Quarantine, Reject};
        for (policy, testing, requested) in [
            (Reject, false, Reject),
            (Reject, true, Quarantine),
            (Quarantine, false, Quarantine),
            (Quarantine, true, None),
            (None, false, None),
        ] {
            assert_eq!(dmarc_result(policy, testing).requested(), requested);
        }
        let mut passed = dmarc_result(Reject, false);
        passed.outcome = AuthOutcome::Pass;
        assert_eq!(passed.requested(), None);
    }

    #[test]
    fn finds_who_claims_to_have_checked() {
        for value in [
            "mx.example.com; spf=pass",
            " MX.example.COM 1; none",
            "\r\n\t(a (nested) \\) one) mx.example.com;",
            "\"mx.example.com\" ; spf=pass",
            "\"mx.\\example.com\"",
            "mx.example.com(x); spf=pass",
            "mx.example.com.",
        ] {
            assert_eq!(authserv_id(value).as_deref(), Some("mx.example.com"), "{value}");
        }
        assert_eq!(authserv_id("other.example; spf=pass").as_deref(), Some("other.example"));
        for value in ["", "  ", "(mx.example.com", "\"mx.example.com", "; spf=pass"] {
            assert_eq!(authserv_id(value), None, "{value}");
        }
    }
}
