//! What the callback API asks of whoever calls hooks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{HookId, Mail, MessageId, TenantId, Timestamp};
use mairust_hooks::HookPoint;
use mairust_hooks::protocol::request::Plugin;
use mairust_hooks::protocol::{Action, ActionOutcome, Grants, InvocationId, LateResult, MailFacts, Mode};
use mairust_store::StoreError;

/// Knows for which calls programs may ask, and what comes of it.
#[async_trait]
pub trait CallbackApi: fmt::Debug + Send + Sync + 'static {
    /// The call that a token is for; `None` if it is none, or not good any more.
    ///
    /// # Errors
    /// When the store can't tell.
    async fn find(&self, token: &str) -> Result<Option<Arc<dyn OpenCall>>, StoreError>;

    /// A request of a program was answered; `route` is a path with names in the place of ids.
    fn answered(&self, plugin: &str, route: &str, status: u16);
}

/// A call about which a program may ask. What it may see and do is what its tenant grants it now.
#[async_trait]
pub trait OpenCall: fmt::Debug + Send + Sync {
    /// What is known of the call.
    fn facts(&self) -> &CallFacts;

    /// The message.
    ///
    /// # Errors
    /// As listed at [`CallbackError`].
    async fn mail(&self) -> Result<(Mail, Arc<MailFacts>), CallbackError>;

    /// Does something with the message at once; what became of each action, in order. Durable on return.
    ///
    /// # Errors
    /// As listed at [`CallbackError`]. Nothing of it is done then.
    async fn act(&self, actions: Vec<Action>) -> Result<Vec<ActionOutcome>, CallbackError>;

    /// The program tells the result. Durable on return, if the program was told by then that it may answer later. The
    /// same result may be told again.
    ///
    /// # Errors
    /// As listed at [`CallbackError`].
    async fn complete(&self, result: LateResult) -> Result<(), CallbackError>;

    /// The program needs longer; until when it has time.
    ///
    /// # Errors
    /// As listed at [`CallbackError`].
    async fn progress(&self) -> Result<Timestamp, CallbackError>;

    /// The program has something for the log; `fields` is JSON.
    fn log(&self, level: tracing::Level, text: &str, fields: Option<&str>);
}

/// What is known of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct CallFacts {
    /// Whose mail it is about.
    pub tenant: TenantId,
    /// The binding.
    pub hook: HookId,
    /// The program.
    pub plugin: Plugin,
    /// What it may see and do.
    pub granted: Grants,
    /// The call.
    pub invocation: InvocationId,
    /// Where in the way of the message it is.
    pub point: HookPoint,
    /// What becomes of the answer.
    pub mode: Mode,
    /// The message, if it is stored.
    pub message: Option<MessageId>,
    /// Until when the token is good.
    pub expires_at: Timestamp,
}

/// Why a program does not get what it asks for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallbackError {
    /// It may not do that: the name of an action or a verdict.
    #[error("it may not: {0}")]
    Denied(String),
    /// The message is not there any more.
    #[error("the message is gone")]
    Gone,
    /// The call is not in a state for it, for this reason.
    #[error("{0}")]
    State(&'static str),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// The message can't be read.
    #[error("the message can't be read: {0}")]
    Unreadable(String),
}

/// How many requests a program may make about the mail of one tenant: so many a second, and so many at once.
pub(crate) const REQUESTS_PER_SECOND: u32 = 20;
/// So many at once.
pub(crate) const BURST: u32 = 50;
/// How long it takes until as many may come again.
pub(crate) const REFILLED_IN: Duration = Duration::from_millis(2_500);

impl CallFacts {
    /// The name of the message in the callback API: its id, or that of the call as long as it has none.
    pub fn message_name(&self) -> String {
        self.message.map_or_else(|| self.invocation.to_string(), |id| id.to_string())
    }
}
