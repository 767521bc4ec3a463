//! Hooks written as closures.

use std::fmt;
use std::future::Future;

use async_trait::async_trait;
use mairust_core::Mail;

use crate::handler::{HookCall, HookError, HookHandler, HookPoint};
use crate::protocol::{Answer, IntoAnswer};

/// A closure as a hook at one point. It takes a message, and returns a [`Verdict`](crate::Verdict), an [`Answer`], `()`
/// or a `Result` of one of these.
pub struct HookFn<F> {
    name: String,
    point: [HookPoint; 1],
    function: F,
}

impl<F> HookFn<F> {
    /// Calls `function` with each message that comes to this point.
    pub fn at(point: HookPoint, name: impl Into<String>, function: F) -> Self {
        Self { name: name.into(), point: [point], function }
    }

    /// Calls `function` with each message before it is stored.
    pub fn pre_receive(name: impl Into<String>, function: F) -> Self {
        Self::at(HookPoint::PreReceive, name, function)
    }

    /// Calls `function` with each stored message, at least once.
    pub fn post_receive(name: impl Into<String>, function: F) -> Self {
        Self::at(HookPoint::PostReceive, name, function)
    }

    /// Calls `function` with each message of users and applications before it is signed and queued.
    pub fn pre_send(name: impl Into<String>, function: F) -> Self {
        Self::at(HookPoint::PreSend, name, function)
    }
}

#[async_trait]
impl<F, Fut> HookHandler for HookFn<F>
where
    F: Fn(Mail) -> Fut + Send + Sync + 'static,
    Fut: Future + Send,
    Fut::Output: IntoAnswer,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn points(&self) -> &[HookPoint] {
        &self.point
    }

    async fn call(&self, call: &HookCall) -> Result<Answer, HookError> {
        (self.function)(call.mail.clone()).await.into_answer()
    }
}

impl<F> fmt::Debug for HookFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookFn").field("name", &self.name).field("point", &self.point).finish_non_exhaustive()
    }
}
