//! The built-in scanner: rules whose scores are added up.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::content::searchable_text;
use mairust_core::{Body, Mail, RuleHit, ScanAction, ScanReport};
use tokio::sync::Semaphore;

use super::default_rules::default_rules;
use super::rule::{CompiledRule, Rule, RuleError};
use super::{ScanError, ScanRequest, Scanner};

/// The name of this scanner.
const NAME: &str = "builtin";

/// Rules look at this much of a message from its front: a spammer who pads gains nothing that the
/// size of the message would not cost him, and memory is bounded.
const SEARCHED: u64 = 512 << 10;

/// Up to this size a message is searched faster than it is handed to another thread.
const INLINE: u64 = 16 << 10;

/// Messages that are searched at the same time; more would only take memory.
const AT_ONCE: usize = 8;

/// What a [`RuleEngine`] is made of.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RuleSettings {
    /// The rules. Default: [`default_rules`].
    pub rules: Vec<Rule>,
    /// What a score leads to.
    pub thresholds: Thresholds,
}

/// The scores from which on something is done; `None` for never. The strictest that is reached
/// counts.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Thresholds {
    /// [`ScanAction::Tag`]. Default 4.
    pub tag: Option<f64>,
    /// [`ScanAction::Junk`]. Default 6.
    pub junk: Option<f64>,
    /// [`ScanAction::Quarantine`]. Default 10.
    pub quarantine: Option<f64>,
    /// [`ScanAction::Reject`]. Default 15.
    pub reject: Option<f64>,
}

/// A rule that can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuleProblem {
    /// Its place in the list, from 0.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// What is wrong.
    pub error: RuleError,
}

/// Judges by rules. Never fails but for a message that can't be read.
#[derive(Debug)]
pub struct RuleEngine {
    compiled: Arc<Compiled>,
    room: Semaphore,
}

#[derive(Debug)]
struct Compiled {
    rules: Vec<CompiledRule>,
    thresholds: Thresholds,
}

impl RuleEngine {
    /// Makes an engine.
    ///
    /// # Errors
    /// With every rule that can't be used.
    pub fn new(settings: &RuleSettings) -> Result<Self, Vec<RuleProblem>> {
        let (mut rules, mut problems) = (Vec::new(), Vec::new());
        for (index, rule) in settings.rules.iter().enumerate() {
            match CompiledRule::new(rule) {
                Ok(rule) => rules.push(rule),
                Err(error) => problems.push(RuleProblem { index, name: rule.name.clone(), error }),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let compiled = Arc::new(Compiled { rules, thresholds: settings.thresholds });
        Ok(Self { compiled, room: Semaphore::new(AT_ONCE) })
    }
}

impl Compiled {
    fn judge(&self, mail: &Mail) -> io::Result<ScanReport> {
        let body = match self.rules.iter().any(CompiledRule::reads_body) {
            true => text(mail.body())?,
            false => String::new(),
        };
        let hits: Vec<RuleHit> = self
            .rules
            .iter()
            .filter(|rule| rule.hits(mail, &body))
            .map(|rule| RuleHit::new(&rule.name, rule.score, &rule.description))
            .collect();
        // The sum of nothing would be -0.
        let score = hits.iter().fold(0.0, |sum, hit| sum + hit.score);
        let mut report = ScanReport::new(NAME, self.thresholds.action(score), score);
        report.hits = hits;
        Ok(report)
    }
}

impl Thresholds {
    /// Only [`ScanAction::Tag`], at the default score: nothing is refused or moved.
    pub fn tag_only() -> Self {
        Self { junk: None, quarantine: None, reject: None, ..Self::default() }
    }

    /// What a score leads to.
    pub fn action(&self, score: f64) -> ScanAction {
        let reached = |threshold: Option<f64>| threshold.is_some_and(|threshold| score >= threshold);
        if reached(self.reject) {
            ScanAction::Reject
        } else if reached(self.quarantine) {
            ScanAction::Quarantine
        } else if reached(self.junk) {
            ScanAction::Junk
        } else if reached(self.tag) {
            ScanAction::Tag
        } else {
            ScanAction::Accept
        }
    }
}

#[async_trait]
impl Scanner for RuleEngine {
    fn name(&self) -> &str {
        NAME
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanReport, ScanError> {
        let unreadable = |error: io::Error| ScanError::Failed(format!("the message can't be read: {error}"));
        let body = request.mail.body();
        if body.in_memory().is_some() && body.len() <= INLINE {
            return self.compiled.judge(&request.mail).map_err(unreadable);
        }
        // The semaphore is never closed, so this waits and does not fail.
        let _room = self.room.acquire().await;
        let (compiled, mail) = (self.compiled.clone(), request.mail.clone());
        let judged = tokio::task::spawn_blocking(move || compiled.judge(&mail)).await;
        judged.map_err(|error| ScanError::Failed(error.to_string()))?.map_err(unreadable)
    }
}

impl Default for RuleSettings {
    fn default() -> Self {
        Self { rules: default_rules(), thresholds: Thresholds::default() }
    }
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { tag: Some(4.0), junk: Some(6.0), quarantine: Some(10.0), reject: Some(15.0) }
    }
}

impl fmt::Display for RuleProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {} {:?}: {}", self.index + 1, self.name, self.error)
    }
}

/// The decoded text of a message, as far as rules look.
fn text(body: &Body) -> io::Result<String> {
    let mut front = Vec::new();
    body.reader().take(SEARCHED).read_to_end(&mut front)?;
    Ok(searchable_text(&front))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::fake::request;
    use crate::scan::rule::{MessagePart, RuleTest, TextPattern};

    const COMPLETE: &str = "From: a@x.test\r\nDate: Sat, 22 Nov 2025 03:04:06 +0000\r\nMessage-ID: <1@x.test>\r\n";

    async fn report(message: &str) -> ScanReport {
        let engine = RuleEngine::new(&RuleSettings::default()).unwrap();
        engine.scan(&request(message)).await.unwrap()
    }

    async fn hits(message: &str) -> Vec<String> {
        report(message).await.hits.into_iter().map(|hit| hit.rule).collect()
    }

    fn attached(name: &str) -> String {
        format!(
            "{COMPLETE}Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n\
             --b\r\nContent-Disposition: attachment; filename=\"{name}\"\r\n\r\nx\r\n--b--\r\n"
        )
    }

    #[tokio::test]
    async fn gtube_is_found_in_every_encoding_and_refused() {
        let gtube = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X";
        let plain = report(&format!("{COMPLETE}\r\nhello\r\n{gtube}\r\n")).await;
        assert_eq!((plain.action, plain.engine.as_str(), plain.score), (ScanAction::Reject, "builtin", 1000.0));
        let base64 = format!(
            "{COMPLETE}Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n\
             WEpTKkM0SkRCUUFETjEuTlNCTjMqMklETkVOKkdUVUJFLVNUQU5EQVJELUFOVEktVUJFLVRFU1Qt\r\nRU1BSUwqQy4zNFg=\r\n"
        );
        assert_eq!(hits(&base64).await, ["GTUBE"]);
    }

    #[tokio::test]
    async fn ordinary_mail_hits_nothing() {
        for subject in [
            "Minutes of Tuesday",
            "=?ISO-2022-JP?B?GyRCQEE1YT1xGyhC?=",
            "=?UTF-8?B?44CQ6YeN6KaB44CR44GK44GX44KJ44Gb77yB77yB77yB?=",
            "お知らせ ＡＢＣＤＥＦＧＨＩＪＫＬ について",
            "RE: FYI",
        ] {
            let report = report(&format!("{COMPLETE}Subject: {subject}\r\n\r\nこんにちは\r\n")).await;
            assert_eq!((report.hits, report.score.to_string().as_str()), (Vec::new(), "0"), "{subject}");
        }
        assert_eq!(hits(&attached("report.pdf")).await, [""; 0]);
    }

    #[tokio::test]
    async fn shouting_and_missing_fields_add_up() {
        let missing = report("Subject: BUY CHEAP WATCHES TODAY!!!\r\n\r\nx\r\n").await;
        let names: Vec<&str> = missing.hits.iter().map(|hit| hit.rule.as_str()).collect();
        assert_eq!(names, ["MISSING_FROM", "MISSING_DATE", "MISSING_MESSAGE_ID", "SUBJECT_ALL_CAPS", "SUBJECT_SHOUTS"]);
        assert_eq!((missing.score, missing.action), (8.0, ScanAction::Junk));
        assert_eq!(report("\r\nx\r\n").await.action, ScanAction::Tag);
    }

    #[tokio::test]
    async fn executable_attachments_go_into_quarantine() {
        for name in ["a.exe", "a.SCR ", "invoice.pdf.js", "a.vbs."] {
            assert!(report(&attached(name)).await.action >= ScanAction::Quarantine, "{name}");
        }
        assert_eq!(hits(&attached("a.pdf  .exe")).await, ["EXECUTABLE_ATTACHMENT", "DOUBLE_EXTENSION"]);
        assert_eq!(hits(&attached("a\u{202e}fdp.txt")).await, ["REVERSED_NAME"]);
    }

    #[tokio::test]
    async fn a_large_message_is_searched_at_its_front() {
        let mark = Rule::new(
            "MARK",
            1.0,
            RuleTest::Text { part: MessagePart::Body, pattern: TextPattern::Contains("needle".to_owned()) },
        );
        let settings = RuleSettings { rules: vec![mark], thresholds: Thresholds::default() };
        let engine = RuleEngine::new(&settings).unwrap();
        let padded = |before: usize| format!("{COMPLETE}\r\n{}needle\r\n", "padding padding\r\n".repeat(before));
        assert_eq!(engine.scan(&request(&padded(2_000))).await.unwrap().hits.len(), 1);
        assert_eq!(engine.scan(&request(&padded(60_000))).await.unwrap().hits.len(), 0);
    }

    #[test]
    fn every_wrong_rule_is_reported() {
        let fine = Rule::new("FINE", 1.0, RuleTest::HeaderAbsent("Date".to_owned()));
        let wrong = Rule::new("no name", 1.0, RuleTest::HeaderAbsent("Date".to_owned()));
        let settings = RuleSettings { rules: vec![wrong.clone(), fine, wrong], thresholds: Thresholds::default() };
        let problems = RuleEngine::new(&settings).unwrap_err();
        assert_eq!(problems.iter().map(|problem| problem.index).collect::<Vec<_>>(), [0, 2]);
        assert!(problems[0].to_string().starts_with("rule 1 \"no name\": "), "{}", problems[0]);
    }

    #[test]
    fn thresholds_may_be_switched_off() {
        assert_eq!(Thresholds::tag_only().action(1e9), ScanAction::Tag);
        assert_eq!(Thresholds::default().action(6.0), ScanAction::Junk);
        assert_eq!(Thresholds::default().action(f64::NAN), ScanAction::Accept);
    }
}
