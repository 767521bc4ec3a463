//! What rspamd answers, and what it means here.

use std::collections::BTreeMap;

use mairust_core::{RuleHit, ScanAction, ScanReport};
use serde::Deserialize;
use serde_json::Value;

use super::{NAME, RspamdSettings};
use crate::scan::ScanError;

/// The answer to `/checkv2`, as far as it is of use. What rspamd leaves out has a default.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    action: String,
    score: f64,
    #[serde(default)]
    symbols: BTreeMap<String, Symbol>,
    /// A map, or a list in answers of old versions.
    #[serde(default)]
    messages: Value,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    milter: Value,
}

#[derive(Debug, Deserialize)]
struct Symbol {
    #[serde(default)]
    score: f64,
    #[serde(default)]
    description: Option<String>,
}

/// Of each list in an answer so much is kept.
const MAX_HITS: usize = 200;
const MAX_HEADERS: usize = 50;

/// Octets that are kept of a name, and of another text.
const MAX_NAME: usize = 100;
const MAX_TEXT: usize = 1_000;

impl Answer {
    pub(super) fn parse(json: &[u8]) -> Result<Self, ScanError> {
        serde_json::from_slice(json).map_err(|error| ScanError::Answer(error.to_string()))
    }

    pub(super) fn report(self, settings: &RspamdSettings) -> ScanReport {
        let mut report = ScanReport::new(NAME, action(&self.action, settings), self.score);
        let symbols = self.symbols.into_iter().take(MAX_HITS);
        let hit = |(name, symbol): (String, Symbol)| {
            let description = symbol.description.unwrap_or_default();
            RuleHit::new(bounded(&name, MAX_NAME), symbol.score, bounded(&description, MAX_TEXT))
        };
        report.hits = symbols.map(hit).collect();
        report.headers = headers(&self.milter["add_headers"]);
        report.message = self.messages["smtp_message"].as_str().map(|text| bounded(text, MAX_TEXT));
        report.subject = self.subject.as_deref().map(|text| bounded(text, MAX_TEXT));
        report
    }
}

/// What an action means, as in rspamd's own milter: `greylist` and actions of the operator's own
/// are no reason to do anything. `greylist` would be said at every attempt: rspamd's greylisting
/// says `soft reject` while it wants the sender to wait. Nothing is dropped here, so `discard`
/// goes where somebody may still find it.
fn action(name: &str, settings: &RspamdSettings) -> ScanAction {
    match name {
        "add header" | "rewrite subject" => settings.marked,
        "soft reject" => ScanAction::Defer,
        "reject" => settings.rejected,
        "quarantine" | "discard" => ScanAction::Quarantine,
        _ => ScanAction::Accept,
    }
}

/// `{name: value}`, where a value is a text, `{value, order}`, or a list of these.
fn headers(map: &Value) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (name, value) in map.as_object().into_iter().flatten() {
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        let texts = values.iter().filter_map(|value| value.as_str().or_else(|| value["value"].as_str()));
        headers.extend(texts.map(|text| (name.clone(), text.to_owned())));
    }
    headers.truncate(MAX_HEADERS);
    headers
}

fn bounded(text: &str, longest: usize) -> String {
    text[..text.floor_char_boundary(longest)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::RspamdEndpoint;
    use super::*;

    fn report(json: &str) -> ScanReport {
        let settings = RspamdSettings::new(RspamdEndpoint::parse("http://rspamd").unwrap());
        Answer::parse(json.as_bytes()).unwrap().report(&settings)
    }

    #[test]
    fn a_whole_answer() {
        let report = report(
            r#"{"is_skipped":false,"score":7.25,"required_score":15.0,"action":"rewrite subject",
            "symbols":{"B":{"name":"B","score":-0.5,"metric_score":-0.5},
                       "A":{"name":"A","score":7.75,"description":"bad","options":["x"]}},
            "messages":{"smtp_message":"no"},"message-id":"x@example.com","time_real":0.1,"subject":"[SPAM] x",
            "milter":{"add_headers":{"X-One":{"value":"1","order":1},"X-Two":[{"value":"a"},"b"],"X-Bad":{"order":0}},
                      "remove_headers":{"X-Spam":0}}}"#,
        );
        assert_eq!((report.action, report.score), (ScanAction::Junk, 7.25));
        assert_eq!(report.hits, [RuleHit::new("A", 7.75, "bad"), RuleHit::new("B", -0.5, "")]);
        assert_eq!((report.subject.as_deref(), report.message.as_deref()), (Some("[SPAM] x"), Some("no")));
        let headers: Vec<_> = report.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(headers, [("X-One", "1"), ("X-Two", "a"), ("X-Two", "b")]);
    }

    #[test]
    fn every_action_has_a_meaning() {
        for (name, action) in [
            ("no action", ScanAction::Accept),
            ("greylist", ScanAction::Accept),
            ("add header", ScanAction::Junk),
            ("rewrite subject", ScanAction::Junk),
            ("soft reject", ScanAction::Defer),
            ("reject", ScanAction::Reject),
            ("quarantine", ScanAction::Quarantine),
            ("discard", ScanAction::Quarantine),
            ("an action of their own", ScanAction::Accept),
        ] {
            let answer = format!(r#"{{"action":"{name}","score":0,"messages":[],"symbols":{{}}}}"#);
            assert_eq!(report(&answer).action, action, "{name}");
        }
    }

    #[test]
    fn other_answers_are_errors() {
        for json in ["", "pong", "[]", "{}", r#"{"error":"x"}"#, r#"{"action":"reject"}"#, r#"{"action":1,"score":0}"#]
        {
            assert!(matches!(Answer::parse(json.as_bytes()), Err(ScanError::Answer(_))), "{json}");
        }
    }
}
