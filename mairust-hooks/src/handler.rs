//! The seam: what a hook implements.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{Mail, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::protocol::{Answer, InvocationId, MailFacts, Mode};

/// A point in the flow of mail where hooks are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HookPoint {
    /// After the message is stored: a job of its own, at least once; 250 never waits for it.
    PostReceive,
    /// After the final dot and before the message is stored: the reply waits for it.
    PreReceive,
    /// Before a message of a user or an application is signed and queued: the reply waits for it.
    PreSend,
}

/// A hook: code that decides about mail, or acts on it.
///
/// Methods may be dropped when their time is over. One handler serves all messages at once.
#[async_trait]
pub trait HookHandler: fmt::Debug + Send + Sync + 'static {
    /// The name, unique within a server; for logs, metrics and the order of equals.
    fn name(&self) -> &str;

    /// Where it wants to be called.
    fn points(&self) -> &[HookPoint];

    /// Looks at one message.
    ///
    /// At [`PreReceive`](HookPoint::PreReceive) and [`PreSend`](HookPoint::PreSend) somebody waits for the answer, and
    /// it is asked once for each transaction. At [`PostReceive`](HookPoint::PostReceive) it may be called more than
    /// once for the same message, by the same [id](HookCall::id).
    ///
    /// # Errors
    /// When the hook can't tell. The binding says what becomes of the message then; a stored one is shown to it again
    /// later.
    async fn call(&self, call: &HookCall) -> Result<Answer, HookError>;

    /// Whether the hook would work now; `None`, the default, if that can't be asked.
    async fn health(&self) -> Option<HealthReport> {
        None
    }

    /// Ends what it keeps running, and waits for that: the server ends, and calls it no more. The default does nothing.
    /// It may be called twice.
    async fn close(&self) {}
}

/// One call of one hook about one message.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HookCall {
    /// Tells the call from others; stays the same however often it is tried.
    pub id: InvocationId,
    /// Where in the way of the message it is.
    pub point: HookPoint,
    /// What becomes of the answer.
    pub mode: Mode,
    /// The number of the attempt, counted from 1.
    pub attempt: u32,
    /// When the message came to this point.
    pub occurred_at: Timestamp,
    /// When the answer has to be there.
    pub deadline: Instant,
    /// The message.
    pub mail: Mail,
    /// What else is known about it.
    pub facts: Arc<MailFacts>,
}

/// Whether a hook would work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthReport {
    /// The state.
    pub status: HealthStatus,
    /// What there is to say about it, for people.
    pub details: String,
}

/// The state of a hook, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// It works.
    Ok,
    /// It works, but not as it should.
    Degraded,
    /// It does not work.
    Error,
}

/// Why a hook has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookError {
    kind: FailureKind,
    text: String,
    retry_after: Option<Duration>,
}

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// It does not know us: the secrets differ.
    Auth,
    /// It has too much to do.
    Busy,
    /// It can't be reached.
    Connect,
    /// It failed by itself: it returned an error, raised an exception or panicked, or its process ended.
    Crash,
    /// It failed by itself so often that nobody tries any more; told as a crash.
    CrashLoop,
    /// It is not there any more, and says so.
    Gone,
    /// It answered with an HTTP status that is no answer.
    Http,
    /// It decided what it has no leave to decide; told as a wrong answer.
    NoLeave,
    /// Its answer is wrong.
    Protocol,
    /// It did not answer in time.
    Timeout,
}

impl HookError {
    /// A failure of the hook itself, with this text for the log.
    pub fn new(text: impl fmt::Display) -> Self {
        Self::of(FailureKind::Crash, text)
    }

    /// A failure of this kind.
    pub fn of(kind: FailureKind, text: impl fmt::Display) -> Self {
        Self { kind, text: text.to_string(), retry_after: None }
    }

    /// The same, with how long it wants to be left alone.
    #[must_use]
    pub fn retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// How long the hook wants to be left alone, if it said so.
    pub fn wait(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for HookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for HookError {}

impl FailureKind {
    /// For logs, metrics and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Busy => "busy",
            Self::Connect => "connect",
            Self::Crash | Self::CrashLoop => "crash",
            Self::Gone => "gone",
            Self::Http => "http",
            Self::NoLeave | Self::Protocol => "protocol",
            Self::Timeout => "timeout",
        }
    }
}

impl HealthStatus {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Degraded => "degraded",
            Self::Error => "error",
            Self::Ok => "ok",
        }
    }
}

impl HealthReport {
    /// It does not work, for this reason.
    pub fn error(details: impl fmt::Display) -> Self {
        Self { status: HealthStatus::Error, details: details.to_string() }
    }
}

impl HookPoint {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::PreReceive, Self::PostReceive, Self::PreSend];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PostReceive => "post_receive",
            Self::PreReceive => "pre_receive",
            Self::PreSend => "pre_send",
        }
    }

    /// The point of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|point| point.as_str() == name)
    }

    /// Whether nobody waits for the answer.
    pub fn is_async(self) -> bool {
        self == Self::PostReceive
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: HookHandler + ?Sized> HookHandler for Arc<T> {
    fn name(&self) -> &str {
        (**self).name()
    }
    fn points(&self) -> &[HookPoint] {
        (**self).points()
    }
    async fn call(&self, call: &HookCall) -> Result<Answer, HookError> {
        (**self).call(call).await
    }
    async fn health(&self) -> Option<HealthReport> {
        (**self).health().await
    }
    async fn close(&self) {
        (**self).close().await;
    }
}
