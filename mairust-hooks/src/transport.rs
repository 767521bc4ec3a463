//! How requests get to programs elsewhere, and answers back: octets only.
//!
//! What is in them is the business of [`Remote`](crate::Remote), so a transport knows nothing of mail.

use std::fmt;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::handler::{HealthReport, HookError, HookPoint};
use crate::protocol::InvocationId;

/// A way to one program elsewhere.
///
/// One transport serves many calls at once. A call that is dropped is over: whoever asked has gone.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Sends one request and waits for the answer, until its deadline at the latest.
    ///
    /// # Errors
    /// When there is none, or one that says that there will be none.
    async fn exchange(&self, request: Outgoing) -> Result<Incoming, HookError>;

    /// Whether the program would answer; `None` if it can't be asked.
    async fn health(&self) -> Option<HealthReport>;

    /// Ends what it keeps running, and waits for that: the server ends, and asks nothing more. The default does
    /// nothing. It may be called twice.
    async fn close(&self) {}
}

/// A request on its way.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Outgoing {
    /// Tells the call from others; stays the same however often it is tried.
    pub id: InvocationId,
    /// Where in the way of the message it is.
    pub point: HookPoint,
    /// The number of the attempt, counted from 1.
    pub attempt: u32,
    /// When the answer has to be there.
    pub deadline: Instant,
    /// The request: JSON.
    pub body: Vec<u8>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// The program has taken the request, and tells the result later by the callback API.
    Accepted,
    /// An answer: JSON.
    Answer(Vec<u8>),
    /// The message may pass, and nothing is to be done with it.
    Nothing,
}

impl Outgoing {
    /// A request.
    pub fn new(id: InvocationId, point: HookPoint, attempt: u32, deadline: Instant, body: Vec<u8>) -> Self {
        Self { id, point, attempt, deadline, body }
    }
}
