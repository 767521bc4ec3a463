//! Third stage: a scanner says whether the message looks like spam.
//!
//! What it says goes to the hooks with the message, and into header fields in front of it. Fields
//! of the same name that came with the message stay where they are, below our Received: the first
//! one is ours, and it names this host.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use mairust_core::{Domain, EnhancedCode, Mail, Rejection, ScanAction, ScanReport, SenderLists, TenantId};
use mairust_hooks::{ScanError, ScanRequest, Scanner};
use mairust_store::{Directory, SenderAction};
use tokio::time::Instant;

use super::refuse_for_store;
use super::verify::Verified;
use crate::metrics::Metrics;

/// No scanner holds a message up for longer: more than the longest time of rspamd and of the rules
/// that stand in for it.
const LIMIT: Duration = Duration::from_secs(40);

/// The field that tells the verdict.
const STATUS: &str = "X-Spam-Status";

/// A message that a scanner has looked at, if there is one.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) verified: Verified,
    /// The message with the report; `None` if it was not scanned.
    pub(crate) mail: Option<Mail>,
}

impl Scanned {
    pub(crate) fn report(&self) -> Option<&ScanReport> {
        self.mail.as_ref().and_then(Mail::scan)
    }
}

/// Asks the scanner. One without an answer has the message come again later.
pub(crate) async fn scan(
    verified: Verified,
    scanner: Option<&dyn Scanner>,
    directory: &dyn Directory,
    metrics: &Metrics,
) -> Result<Scanned, Rejection> {
    let (Some(scanner), Some(mail)) = (scanner, verified.mail()) else {
        return Ok(Scanned { verified, mail: None });
    };
    let mut request = ScanRequest::new(mail.clone());
    request.lists = lists(directory, mail.tenant()).await?;
    let start = Instant::now();
    let asked = ask(scanner, &request).await;
    let took = start.elapsed();
    match asked {
        Ok(report) if report.is_unscanned() => Ok(Scanned { verified, mail: None }),
        Ok(report) => {
            note(&report, took, metrics);
            Ok(Scanned { verified, mail: Some(mail.with_scan(report)) })
        }
        Err(error) => {
            metrics.scan_failed(scanner.name());
            tracing::warn!(component = "scan", engine = scanner.name(), %error, "no scan, the message is to come again");
            Err(Rejection::unavailable(format_args!("scanner {}: {error}", scanner.name())))
        }
    }
}

/// What the tenant has decided about senders.
async fn lists(directory: &dyn Directory, tenant: TenantId) -> Result<SenderLists, Rejection> {
    let rules = directory.sender_rules(tenant).await.map_err(|error| refuse_for_store(&error))?;
    let mut lists = SenderLists::default();
    for rule in rules {
        match (rule.pattern.parse(), rule.action) {
            (Ok(pattern), SenderAction::Allow) => lists.allow.push(pattern),
            (Ok(pattern), SenderAction::Block) => lists.block.push(pattern),
            (Ok(_), _) => {}
            (Err(error), _) => {
                let pattern = rule.pattern;
                tracing::warn!(component = "scan", pattern, %error, "a sender rule fits nobody and is left out");
            }
        }
    }
    Ok(lists)
}

async fn ask(scanner: &dyn Scanner, request: &ScanRequest) -> Result<ScanReport, ScanError> {
    let call = AssertUnwindSafe(scanner.scan(request)).catch_unwind();
    match tokio::time::timeout(LIMIT, call).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(ScanError::Failed("the scanner panicked".to_owned())),
        Err(_) => Err(ScanError::Timeout(LIMIT)),
    }
}

fn note(report: &ScanReport, took: Duration, metrics: &Metrics) {
    if let Some(failed) = &report.failed {
        metrics.scan_failed(&failed.engine);
        let (engine, reason) = (&failed.engine, &failed.reason);
        tracing::warn!(component = "scan", engine, reason, instead = report.engine, "a scanner has no answer");
    }
    metrics.scanned(report, took);
    tracing::info!(
        component = "scan",
        engine = report.engine,
        score = report.score,
        action = report.action.as_str(),
        rules = rules(report),
        subject = report.subject,
        duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "message scanned"
    );
}

/// The answer to the peer, if the scanner wants the message refused. The names of rules are for the
/// log only.
pub(crate) fn refusal(report: &ScanReport) -> Option<Rejection> {
    let (code, enhanced, neutral) = match report.action {
        ScanAction::Reject => (550, EnhancedCode(5, 7, 1), "Message refused by policy"),
        ScanAction::Defer => (451, EnhancedCode(4, 7, 1), "Please try again later"),
        _ => return None,
    };
    let text = report.message.as_deref().unwrap_or(neutral);
    let text = &text[..text.floor_char_boundary(200)];
    let reason = format!("{} gives {:.2}: {}", report.engine, report.score, rules(report));
    Some(Rejection::new(code, enhanced, text).because(reason))
}

/// The header fields that tell what was found, each with its CRLF: ours first, then those that the
/// scanner wants.
pub(crate) fn fields(report: &ScanReport, hostname: &Domain) -> String {
    let verdict = if report.is_spam() { "Yes" } else { "No" };
    let status = format!(
        "{verdict}, score={:.2} action={} engine={} host={hostname} tests={}",
        report.score,
        report.action,
        report.engine,
        rules(report)
    );
    let mut fields = folded(STATUS, &status);
    for (name, value) in report.headers.iter().filter(|(name, _)| may_add(name)) {
        fields.push_str(&folded(name, value));
    }
    fields
}

/// `NAME(score), …`, or `none`.
fn rules(report: &ScanReport) -> String {
    if report.hits.is_empty() {
        return "none".to_owned();
    }
    let hits =
        report.hits.iter().map(|hit| format!("{}({:.2})", hit.rule.replace(char::is_whitespace, "_"), hit.score));
    hits.collect::<Vec<_>>().join(", ")
}

/// Only fields that no mail program acts on, and none that we write ourselves.
fn may_add(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let valid = name.len() <= 76 && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    valid
        && lower.strip_prefix("x-").is_some_and(|rest| !rest.is_empty())
        && !lower.starts_with("x-mairust-")
        && lower != "x-spam-status"
}

/// A field of printable ASCII, folded to lines of 78 characters where its spaces allow it
/// (RFC 5322 §2.1.1), with its CRLF.
fn folded(name: &str, value: &str) -> String {
    const WIDTH: usize = 78;
    const LONGEST_WORD: usize = 900;
    const LONGEST_VALUE: usize = 8 << 10;
    let value = &value[..value.floor_char_boundary(LONGEST_VALUE)];
    let mut field = format!("{name}:");
    let mut column = field.len();
    for word in value.split_whitespace() {
        let word: String =
            word.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).take(LONGEST_WORD).collect();
        if column + 1 + word.len() > WIDTH && column > name.len() + 1 {
            field.push_str("\r\n\t");
            column = 1;
        } else {
            field.push(' ');
            column += 1;
        }
        field.push_str(&word);
        column += word.len();
    }
    field.push_str("\r\n");
    field
}

#[cfg(test)]
mod tests {
    use mairust_core::RuleHit;

    use super::*;

    fn fields_of(report: &ScanReport) -> String {
        fields(report, &Domain::parse("mx.example.com").unwrap())
    }

    fn report(action: ScanAction) -> ScanReport {
        ScanReport::new("rspamd", action, 7.256)
    }

    #[test]
    fn the_verdict_stands_in_a_field_that_names_us() {
        let mut report = report(ScanAction::Junk);
        report.hits = (0..6).map(|n| RuleHit::new(format!("SOME_RULE_{n}"), f64::from(n), "")).collect();
        assert_eq!(
            fields_of(&report),
            "X-Spam-Status: Yes, score=7.26 action=junk engine=rspamd host=mx.example.com\r\n\
             \ttests=SOME_RULE_0(0.00), SOME_RULE_1(1.00), SOME_RULE_2(2.00),\r\n\
             \tSOME_RULE_3(3.00), SOME_RULE_4(4.00), SOME_RULE_5(5.00)\r\n"
        );
        let clean = ScanReport::new("builtin", ScanAction::Accept, -0.5);
        let expected =
            "X-Spam-Status: No, score=-0.50 action=accept engine=builtin\r\n\thost=mx.example.com tests=none\r\n";
        assert_eq!(fields_of(&clean), expected);
    }

    #[test]
    fn fields_of_the_scanner_can_not_do_harm() {
        let mut report = report(ScanAction::Accept);
        let wanted = [
            ("X-Spamd-Bar", "+++\r\nBcc: eve@x.test\r\n\r\nbody"),
            ("x-kanji", "日本 ok"),
            ("X-Long", &"y".repeat(20_000)),
            ("X-Spam-Status", "No"),
            ("X-MaiRust-Id", "1"),
            ("X-", "1"),
            ("X-A B", "1"),
            ("X-A\r\nB", "1"),
            ("Subject", "1"),
            ("DKIM-Signature", "1"),
        ];
        report.headers = wanted.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let fields = fields_of(&report);
        let (_, added) = fields.split_once("tests=none\r\n").unwrap();
        assert_eq!(
            added,
            format!("X-Spamd-Bar: +++ Bcc: eve@x.test body\r\nx-kanji: ?? ok\r\nX-Long: {}\r\n", "y".repeat(900))
        );
    }

    #[test]
    fn a_refusal_tells_nothing_but_what_the_scanner_wants_told() {
        let mut reject = report(ScanAction::Reject);
        reject.hits.push(RuleHit::new("SECRET_RULE", 7.0, "secret"));
        let rejection = refusal(&reject).unwrap();
        assert_eq!(rejection.reply().to_string().trim_end(), "550 5.7.1 Message refused by policy");
        assert!(rejection.reason().contains("SECRET_RULE(7.00)"));
        let mut defer = report(ScanAction::Defer);
        defer.message = Some("Greylisted\r\n250 x".to_owned());
        assert!(!refusal(&defer).unwrap().reply().to_string().contains("\r\n250"));
        assert_eq!(refusal(&report(ScanAction::Quarantine)), None);
    }
}
