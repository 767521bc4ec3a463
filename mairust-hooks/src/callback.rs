//! How a program elsewhere asks for more about a message, and tells results later: what a [`Remote`](crate::Remote) needs
//! of whoever serves the callback API.

use std::fmt;

use async_trait::async_trait;

use crate::handler::{HookCall, HookError};
use crate::protocol::Callback;

/// Opens the callback API to one program.
pub trait Callbacks: fmt::Debug + Send + Sync + 'static {
    /// Lets the program ask about the message of this call from now on; `None` if there is no way for it.
    fn open(&self, call: &HookCall) -> Option<Box<dyn OpenCallback>>;
}

/// The callback API, open for one call. Dropped, the call is over, and nobody waits for a result any more.
#[async_trait]
pub trait OpenCallback: fmt::Debug + Send + Sync {
    /// What the program is told about it.
    fn callback(&self) -> Callback;

    /// Where the message is to be found below the base, without a `/` at either end.
    fn message(&self) -> String;

    /// The program has taken the call, and tells the result later. Durable on return.
    ///
    /// # Errors
    /// When that can't be kept in mind; the result would not be known then.
    async fn accepted(&self) -> Result<(), HookError>;
}
