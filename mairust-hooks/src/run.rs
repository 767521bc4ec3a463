//! What calls of hooks came to, for logs, metrics and records.

use std::fmt;
use std::time::Duration;

use mairust_core::Timestamp;

use crate::binding::OnFailure;
use crate::breaker::OpenReason;
use crate::handler::{FailureKind, HookPoint};
use crate::protocol::{Answer, InvocationId, Mode};

/// What one call of one hook came to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HookRun {
    /// The call.
    pub id: InvocationId,
    /// The hook.
    pub hook: String,
    /// Where in the way of the message it was.
    pub point: HookPoint,
    /// What becomes of the answer.
    pub mode: Mode,
    /// The number of the attempt, counted from 1.
    pub attempt: u32,
    /// When it began.
    pub at: Timestamp,
    /// How it ended.
    pub outcome: RunOutcome,
    /// What it said, if it answered.
    pub answer: Option<Answer>,
    /// Whether the message went on as if the hook had allowed it, although it did not answer.
    pub let_pass: bool,
    /// What became of the message without an answer of the hook, at a point where somebody waits.
    pub instead: Option<Instead>,
    /// Whether it is to be asked later what it would have said.
    pub catch_up: bool,
    /// How long it took.
    pub duration: Duration,
}

/// What became of a message about which a hook said nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instead {
    /// What became of it.
    pub mode: OnFailure,
    /// What said so.
    pub because: InsteadBecause,
}

/// What said what became of a message about which a hook said nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InsteadBecause {
    /// That nobody waits for it any more.
    Cancelled,
    /// That the server itself wrote it: such mail goes on.
    Internal,
    /// The setting for failures.
    OnFailure,
    /// The setting for the time while the hook is left alone.
    OnOpen,
    /// That the hook had failed at the message before.
    Poison,
}

impl InsteadBecause {
    /// For records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
            Self::OnFailure => "on_failure",
            Self::OnOpen => "on_open",
            Self::Poison => "poison",
        }
    }
}

/// How one call of one hook ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunOutcome {
    /// It has taken the call, and tells the result later.
    Accepted,
    /// The time of the whole stage was used up before it was called.
    Budget,
    /// Whoever was waiting for it has gone meanwhile: there is no answer, and nobody is to blame.
    Cancelled,
    /// It answered; the name of its verdict.
    Done(&'static str),
    /// It has no answer.
    Failed(FailureKind, String),
    /// It was not called: too many calls failed before, or somebody wants it so.
    Open(OpenReason),
    /// It was not called: as many calls as it gets at a time did not end in time.
    Overload,
    /// It was not called: it has failed at this message before.
    Poison,
}

impl RunOutcome {
    /// For logs and metrics: `accepted`, `budget`, `breaker_open`, `cancelled`, `overload`, `poison`, the kind of a
    /// failure, or the name of the verdict.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Budget => "budget",
            Self::Cancelled => "cancelled",
            Self::Done(verdict) => verdict,
            Self::Failed(kind, _) => kind.as_str(),
            Self::Open(_) => "breaker_open",
            Self::Overload => "overload",
            Self::Poison => "poison",
        }
    }

    /// Whether it answered.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }
}

impl fmt::Display for RunOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(_, reason) => write!(f, "it failed: {reason}"),
            Self::Open(because) => write!(f, "its breaker is open: {}", because.as_str()),
            other => f.write_str(other.as_str()),
        }
    }
}
