//! What one call of one hook came to.

use mairust_core::{HookId, MessageId, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

/// The longest text of a report in octets: a longer one is cut.
const MAX_TEXT: usize = 4_096;

/// The most recipients that a report names.
const MAX_RECIPIENTS: usize = 100;

/// One call of one hook about one message.
#[derive(Debug, Clone, PartialEq)]
pub struct HookInvocation {
    /// Its id: `inv_` and a ULID, so that ids sort by time. It stays the same however often the call is tried.
    pub id: String,
    /// Whose mail it was about.
    pub tenant: TenantId,
    /// The name of the hook.
    pub binding: String,
    /// The binding, if a tenant has bound the hook.
    pub hook: Option<HookId>,
    /// Where in the way of the message it was, for example `pre_receive`.
    pub point: String,
    /// How it ended: the name of a verdict, or of what went wrong.
    pub outcome: String,
    /// The message, if it was stored by then.
    pub message: Option<MessageId>,
    /// When the last attempt began.
    pub at: Timestamp,
    /// What else there is to tell.
    pub report: HookReport,
}

/// What there is to tell about a call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HookReport {
    /// What became of the answer, for example `enforce`.
    pub mode: String,
    /// The number of the attempt, counted from 1.
    pub attempt: u32,
    /// The sender of the message; `None` if it was the null reverse-path.
    pub mail_from: Option<String>,
    /// The recipients that the hook was told of, at most a hundred.
    pub rcpt_to: Vec<String>,
    /// What the hook wanted to become of the message, if it answered.
    pub verdict: Option<String>,
    /// Whether the message went on as if the hook had allowed it, although it did not answer.
    pub let_pass: bool,
    /// What became of the message without an answer, for example `tempfail`. `None` if it answered, or if nobody waited.
    pub instead: Option<String>,
    /// What said so, for example `on_open`.
    pub instead_because: Option<String>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Octets of the request, if there was one.
    pub request_bytes: Option<u64>,
    /// The HTTP status of the answer, if there was one.
    pub status: Option<u16>,
    /// The error, or the reason that the hook gave; up to 4 KiB.
    pub detail: Option<String>,
    /// How much speaks against the message, on the hook's own scale.
    pub score: Option<f64>,
    /// What it wanted done, and what became of that.
    pub actions: Vec<HookActionReport>,
    /// What it wanted and may not do: the name of the verdict, or of each action.
    pub denied: Vec<String>,
    /// The beginning of the answer as it came, up to 4 KiB.
    pub response: Option<String>,
}

/// What became of something that a hook wanted done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookActionReport {
    /// What it is, for example `tag.add`.
    pub op: String,
    /// What became of it, for example `applied`.
    pub result: String,
}

/// Which calls to list.
#[derive(Debug, Clone, Default)]
pub struct HookInvocationQuery {
    /// Only of the hook of this name.
    pub binding: Option<String>,
    /// Only about this message.
    pub message: Option<MessageId>,
    /// Only those that ended so.
    pub outcome: Option<String>,
    /// Only from this moment on.
    pub since: Option<Timestamp>,
    /// Only from before this moment.
    pub until: Option<Timestamp>,
    /// Only those behind this one.
    pub before: Option<String>,
    /// At most so many.
    pub limit: u32,
}

impl HookReport {
    /// Cuts what is too long to be kept.
    pub(crate) fn cut(mut self) -> Self {
        self.rcpt_to.truncate(MAX_RECIPIENTS);
        for text in [&mut self.detail, &mut self.response].into_iter().flatten() {
            text.truncate(text.floor_char_boundary(MAX_TEXT));
        }
        self
    }
}

impl HookInvocationQuery {
    /// Whether it asks for this one.
    pub(crate) fn wants(&self, invocation: &HookInvocation) -> bool {
        let HookInvocation { id, binding, outcome, message, at, .. } = invocation;
        self.binding.as_ref().is_none_or(|wanted| wanted == binding)
            && self.outcome.as_ref().is_none_or(|wanted| wanted == outcome)
            && self.message.is_none_or(|wanted| Some(wanted) == *message)
            && self.since.is_none_or(|since| *at >= since)
            && self.until.is_none_or(|until| *at < until)
            && self.before.as_ref().is_none_or(|before| id < before)
    }
}
