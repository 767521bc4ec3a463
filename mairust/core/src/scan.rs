//! What a scanner says about a message: how much it looks like spam, and what to do about it.
//!
//! Deliberately absent: scanners themselves. They are in `mairust-hooks`; their reports are here
//! because hooks, storage and whoever else sees a [`Mail`](crate::Mail) may read them.

use std::fmt;

/// What is to be done with a message, from the mildest to the strictest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ScanAction {
    /// Take it like any other.
    Accept,
    /// Take it, and say in a header field that it looks like spam.
    Tag,
    /// Take it into the folder Junk, where its reader finds it.
    Junk,
    /// Take it into the folder Quarantine.
    Quarantine,
    /// Refuse it by a temporary failure; the sender tries again.
    Defer,
    /// Refuse it for good.
    Reject,
}

/// What a scanner found out about one message.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ScanReport {
    /// Who made the report: the name of a scanner.
    pub engine: String,
    /// The sum of the scores; higher looks more like spam. Scanners have scales of their own.
    pub score: f64,
    /// What is to be done.
    pub action: ScanAction,
    /// The rules that hit.
    pub hits: Vec<RuleHit>,
    /// The Subject that the scanner wants the message to have. Bodies never change, so this is for
    /// hooks and logs.
    pub subject: Option<String>,
    /// Header fields that the scanner wants in front of the message, names and values.
    pub headers: Vec<(String, String)>,
    /// What the scanner wants the peer to be told when the message is refused.
    pub message: Option<String>,
    /// A scanner that was to be asked and had no answer, so that `engine` stood in for it.
    pub failed: Option<EngineFailure>,
}

/// A rule that hit.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RuleHit {
    /// The name of the rule.
    pub rule: String,
    /// What it adds to the score; may be negative.
    pub score: f64,
    /// What it means, for people; may be empty.
    pub description: String,
}

/// A scanner without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineFailure {
    /// The name of the scanner.
    pub engine: String,
    /// Why, for the log.
    pub reason: String,
}

impl ScanAction {
    /// For logs, metrics and header fields.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Tag => "tag",
            Self::Junk => "junk",
            Self::Quarantine => "quarantine",
            Self::Defer => "defer",
            Self::Reject => "reject",
        }
    }
}

impl fmt::Display for ScanAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ScanReport {
    /// A report without rules, texts and header fields.
    pub fn new(engine: impl Into<String>, action: ScanAction, score: f64) -> Self {
        Self {
            engine: engine.into(),
            score,
            action,
            hits: Vec::new(),
            subject: None,
            headers: Vec::new(),
            message: None,
            failed: None,
        }
    }

    /// The report about a message that nobody has looked at.
    pub fn unscanned() -> Self {
        Self::new("none", ScanAction::Accept, 0.0)
    }

    /// Whether nobody has looked at the message.
    pub fn is_unscanned(&self) -> bool {
        self.engine == "none" && self.hits.is_empty()
    }

    /// Whether the message is taken for spam. One that is to come again is not, yet.
    pub fn is_spam(&self) -> bool {
        !matches!(self.action, ScanAction::Accept | ScanAction::Defer)
    }
}

impl RuleHit {
    /// A rule that hit.
    pub fn new(rule: impl Into<String>, score: f64, description: impl Into<String>) -> Self {
        Self { rule: rule.into(), score, description: description.into() }
    }
}

impl EngineFailure {
    /// A scanner without an answer.
    pub fn new(engine: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self { engine: engine.into(), reason: reason.to_string() }
    }
}
