//! What the API asks of whoever runs hooks.

use std::fmt;

use async_trait::async_trait;
use mairust_core::MessageId;
use mairust_hooks::HookPoint;
use mairust_hooks::breaker::BreakerState;
use mairust_store::{HookBinding, StoreError};
use serde_json::Value;

/// Knows how hooks do, and calls them when somebody wants to see what they say.
#[async_trait]
pub trait HookControl: fmt::Debug + Send + Sync + 'static {
    /// How the breakers of a hook are, for each point at which it is called; nothing if it is not called at all.
    ///
    /// # Errors
    /// As listed at [`HookControlError`].
    async fn circuit(&self, hook: &HookBinding) -> Result<Vec<CircuitState>, HookControlError>;

    /// Shows a message to a hook. What it says is written down, and nothing comes of it. Its breakers are not asked and
    /// learn nothing.
    ///
    /// # Errors
    /// As listed at [`HookControlError`]; a hook without an answer is no error.
    async fn show(&self, hook: &HookBinding, shown: Shown) -> Result<HookTrial, HookControlError>;
}

/// How the breaker of a hook is at a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircuitState {
    /// The point.
    pub point: HookPoint,
    /// The state.
    pub state: BreakerState,
}

/// What is shown to a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Where it is called.
    pub point: HookPoint,
    /// The message.
    pub subject: Subject,
    /// Whether the message was shown to it before: the mode of the call is `replay` then, otherwise `test`.
    pub again: bool,
}

/// A message that is shown to a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// One that the tenant keeps.
    Kept(MessageId),
    /// One that the server has for this.
    Sample,
    /// These octets, as they would come by SMTP.
    Text(Vec<u8>),
}

/// What a hook said about a message that was shown to it.
#[derive(Debug, Clone, PartialEq)]
pub struct HookTrial {
    /// The id of the call, under which it is written down.
    pub id: String,
    /// What it was asked.
    pub request: Value,
    /// How the call ended: the name of a verdict, or of what went wrong.
    pub outcome: String,
    /// What it said, as far as it may say that.
    pub response: Option<Value>,
    /// What it wanted and may not do.
    pub denied: Vec<String>,
    /// Why there is no answer.
    pub error: Option<String>,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// Why nothing can be asked of hooks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HookControlError {
    /// The message is not there any more.
    #[error("the message is gone")]
    Gone,
    /// The hook can't be called as it is bound, for this reason.
    #[error("the hook can't be called: {0}")]
    Unusable(String),
    /// The store failed.
    #[error("the message can't be read")]
    Store(#[from] StoreError),
}
