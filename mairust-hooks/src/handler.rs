//! The seam: what a hook implements.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::Mail;

use crate::actions::Actions;
use crate::verdict::Verdict;

/// A point in the flow of mail where hooks are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HookPoint {
    /// After the message is stored: a job of its own, at least once; 250 never waits for it.
    PostReceive,
    /// After the final dot and before the message is stored: the reply waits for it.
    PreReceive,
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

    /// Decides about a message before it is stored. Called once per transaction.
    ///
    /// # Errors
    /// When the hook can't tell; the binding says what becomes of the message then.
    async fn pre_receive(&self, mail: &Mail) -> Result<Verdict, HookError> {
        let _ = mail;
        Ok(Verdict::Allow)
    }

    /// Acts on a stored message. May be called more than once for the same message.
    ///
    /// # Errors
    /// When it should be called again later.
    async fn post_receive(&self, mail: &Mail) -> Result<Actions, HookError> {
        let _ = mail;
        Ok(Actions::none())
    }
}

/// Why a hook has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookError(String);

impl HookError {
    /// A failure with this text, for the log.
    pub fn new(text: impl fmt::Display) -> Self {
        Self(text.to_string())
    }
}

impl fmt::Display for HookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HookError {}

impl HookPoint {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PostReceive => "post_receive",
            Self::PreReceive => "pre_receive",
        }
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
    async fn pre_receive(&self, mail: &Mail) -> Result<Verdict, HookError> {
        (**self).pre_receive(mail).await
    }
    async fn post_receive(&self, mail: &Mail) -> Result<Actions, HookError> {
        (**self).post_receive(mail).await
    }
}
