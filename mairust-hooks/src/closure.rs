//! Hooks written as closures.

use std::fmt;
use std::future::Future;

use async_trait::async_trait;
use mairust_core::Mail;

use crate::actions::Actions;
use crate::handler::{HookError, HookHandler, HookPoint};
use crate::verdict::{IntoVerdict, Verdict};

/// A closure as a `pre_receive` hook.
pub struct PreReceive<F> {
    name: String,
    function: F,
}

/// A closure as a `post_receive` hook.
pub struct PostReceive<F> {
    name: String,
    function: F,
}

impl<F> PreReceive<F> {
    /// Calls `function` with each message before it is stored.
    pub fn new(name: impl Into<String>, function: F) -> Self {
        Self { name: name.into(), function }
    }
}

impl<F> PostReceive<F> {
    /// Calls `function` with each stored message.
    pub fn new(name: impl Into<String>, function: F) -> Self {
        Self { name: name.into(), function }
    }
}

#[async_trait]
impl<F, Fut> HookHandler for PreReceive<F>
where
    F: Fn(Mail) -> Fut + Send + Sync + 'static,
    Fut: Future + Send,
    Fut::Output: IntoVerdict,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn points(&self) -> &[HookPoint] {
        &[HookPoint::PreReceive]
    }

    async fn pre_receive(&self, mail: &Mail) -> Result<Verdict, HookError> {
        (self.function)(mail.clone()).await.into_verdict()
    }
}

#[async_trait]
impl<F, Fut> HookHandler for PostReceive<F>
where
    F: Fn(Mail) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Actions, HookError>> + Send,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn points(&self) -> &[HookPoint] {
        &[HookPoint::PostReceive]
    }

    async fn post_receive(&self, mail: &Mail) -> Result<Actions, HookError> {
        (self.function)(mail.clone()).await
    }
}

impl<F> fmt::Debug for PreReceive<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreReceive").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for PostReceive<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostReceive").field("name", &self.name).finish_non_exhaustive()
    }
}
