//! What is recorded about a message beside its row: JSON that the store keeps and does not read.
//! Whoever receives, submits and delivers writes it; [`trace`](super::trace) reads it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The version that is written. What has another one is left out of timelines.
const VERSION: u32 = 1;

/// The longest text that is recorded, in characters: others may send any.
const TEXT_LIMIT: usize = 500;

/// The longest list that is recorded.
const LIST_LIMIT: usize = 50;

/// How a message came in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Arrival {
    /// By which session.
    pub session: SessionFacts,
    /// When it was to be sent (RFC 3339), if not at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_at: Option<String>,
    /// What a scanner said about it, if it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scan: Option<ScanFacts>,
    /// What the policy said, if it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyFacts>,
    /// The hooks that were called before it was taken, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookCall>,
}

/// The session that brought a message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SessionFacts {
    /// What it came to: `mx`, `submission`, `submissions`, `lmtp`, or `http` for the API.
    pub service: String,
    /// The protocol as in the field Received (RFC 3848), for example `ESMTPS`.
    pub protocol: String,
    /// The address and port that the client connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// The address of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The argument of EHLO or HELO.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub helo: Option<String>,
    /// Null for plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSession>,
    /// Who logged in, or the API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// What was agreed on by a TLS handshake.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TlsSession {
    /// For example `TLSv1.3`.
    pub version: String,
    /// For example `TLS13_AES_256_GCM_SHA384`.
    pub cipher: String,
}

/// What a scanner said about a message, apart from its score.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScanFacts {
    /// Its name.
    pub engine: String,
    /// What it wanted done.
    pub action: String,
    /// The rules that hit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleFacts>,
    /// The scanner that had no answer, so that this one stood in for it, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// A rule that hit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RuleFacts {
    /// Its name.
    pub rule: String,
    /// What it adds to the score.
    pub score: f64,
}

/// What the policy said about a message that was submitted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyFacts {
    /// `allow`, `slow` if it is sent later and after other mail, or `hold` if somebody has to release it.
    pub decision: String,
    /// Why, if it is not just allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How likely it is that somebody abuses the account: from 0 to 1.
    pub score: f64,
    /// From what that was concluded, the strongest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<SignalFacts>,
}

/// Something that spoke against a message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SignalFacts {
    /// What it is, for example `burst`.
    pub name: String,
    /// How much it says: from 0 to 1.
    pub value: f64,
}

/// One call of a hook.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HookCall {
    /// The id of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The point, for example `pre_receive`.
    pub point: String,
    /// Its name.
    pub hook: String,
    /// What becomes of the answer, unless it counts: `shadow` if it is only written down, for example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The name of its verdict, or how it failed: `auth`, `busy`, `connect`, `crash`, `gone`, `http`, `protocol` or
    /// `timeout`. If it was not called: `budget` since no time was left, `overload` since too many calls did not end,
    /// `breaker_open` since too many calls had failed, `poison` since it had failed at this message.
    pub outcome: String,
    /// What it says why, or why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// What a delivery attempt knew about the host, as far as it got.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HostFacts {
    /// The name of the host that was tried last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its address and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The address of our own that the connection came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What became of TLS; absent if it did not get that far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<HostTls>,
    /// What was demanded of TLS, and by whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_rule: Option<String>,
    /// The extensions that the host announced, as far as they are known here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offered: Vec<String>,
    /// Whether the connection had been used for another message before.
    pub reused: bool,
    /// How long the host took, in milliseconds; without a host, how long it took to find that there is none.
    pub ms: u64,
}

/// What became of TLS in an attempt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HostTls {
    /// `on`, `off`, `not_offered` or `failed`.
    pub state: String,
    /// If it is on.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub session: Option<TlsSession>,
    /// Whether the certificate proved that this was the right host.
    #[serde(default)]
    pub verified: bool,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Facts with the version of their form.
#[derive(Debug, Serialize, Deserialize)]
struct Versioned<T> {
    v: u32,
    #[serde(flatten)]
    facts: T,
}

impl Arrival {
    /// As it is kept with the message. Long texts and lists are cut.
    pub fn to_json(&self) -> String {
        let mut bounded = self.clone();
        let session = &mut bounded.session;
        for text in [&mut session.helo, &mut session.user].into_iter().flatten() {
            shorten(text);
        }
        if let Some(policy) = &mut bounded.policy {
            policy.signals.truncate(LIST_LIMIT);
        }
        bounded.hooks.truncate(LIST_LIMIT);
        for call in &mut bounded.hooks {
            shorten(&mut call.hook);
            call.reason.iter_mut().for_each(shorten);
        }
        if let Some(scan) = &mut bounded.scan {
            scan.rules.truncate(LIST_LIMIT);
            scan.rules.iter_mut().for_each(|rule| shorten(&mut rule.rule));
            scan.failed.iter_mut().for_each(shorten);
        }
        write(&bounded)
    }

    pub(crate) fn read(text: &str) -> Option<Self> {
        read(text)
    }
}

impl HostFacts {
    /// As it is kept with the attempt. Long texts and lists are cut.
    pub fn to_json(&self) -> String {
        let mut bounded = self.clone();
        bounded.offered.truncate(LIST_LIMIT);
        bounded.offered.iter_mut().for_each(shorten);
        let reason = bounded.tls.as_mut().and_then(|tls| tls.reason.as_mut());
        reason.into_iter().for_each(shorten);
        write(&bounded)
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        read(text)
    }
}

fn write<T: Serialize>(facts: &T) -> String {
    serde_json::json!(Versioned { v: VERSION, facts }).to_string()
}

fn read<T: DeserializeOwned>(text: &str) -> Option<T> {
    let read: Versioned<T> = serde_json::from_str(text).ok()?;
    (read.v == VERSION).then_some(read.facts)
}

fn shorten(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(TEXT_LIMIT) {
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let tls = TlsSession { version: "TLSv1.3".to_owned(), cipher: "X".to_owned() };
        let host = HostFacts {
            name: Some("mx.remote.example".to_owned()),
            tls: Some(HostTls { state: "on".to_owned(), session: Some(tls), verified: true, reason: None }),
            offered: vec!["SIZE 9".to_owned()],
            ms: 7,
            ..HostFacts::default()
        };
        assert_eq!(HostFacts::read(&host.to_json()), Some(host.clone()));
        let failed = HostTls { state: "failed".to_owned(), reason: Some("no".to_owned()), ..HostTls::default() };
        let failed = HostFacts { tls: Some(failed), ..host };
        assert_eq!(HostFacts::read(&failed.to_json()), Some(failed));
        let hook = HookCall { hook: "no-promo".to_owned(), outcome: "allow".to_owned(), ms: 3, ..HookCall::default() };
        let arrival = Arrival { hooks: vec![hook], ..Arrival::default() };
        assert_eq!(Arrival::read(&arrival.to_json()), Some(arrival));
    }

    #[test]
    fn what_another_version_wrote_is_left_out() {
        assert_eq!(HostFacts::read(r#"{"v": 2, "reused": false, "ms": 1}"#), None);
        assert_eq!(HostFacts::read("damaged"), None);
    }

    #[test]
    fn what_others_send_is_cut() {
        let session = SessionFacts { helo: Some("ü".repeat(100_000)), ..SessionFacts::default() };
        let scan = ScanFacts { rules: vec![RuleFacts::default(); 1_000], ..ScanFacts::default() };
        let hooks = vec![HookCall::default(); 1_000];
        let policy = Some(PolicyFacts { signals: vec![SignalFacts::default(); 1_000], ..PolicyFacts::default() });
        let arrival = Arrival { session, send_at: None, scan: Some(scan), policy, hooks };
        assert!(arrival.to_json().len() < 10_000);
    }
}
