//! The moment at which a message becomes the responsibility of somebody else.

use async_trait::async_trait;

use super::report::AttemptFacts;

/// Is told just before the end of a message is sent.
///
/// When it comes to know of a handover and of no result, the host may have the message: that is
/// what it is for.
#[async_trait]
pub trait BeforeFinalDot: Send + Sync {
    /// The message was sent but for its end, which is sent when this returns. Called once for a
    /// delivery, at most.
    ///
    /// # Errors
    /// Why the end must not be sent. Then nothing was delivered, and the recipients are deferred.
    async fn permit(&self, handover: &Handover<'_>) -> Result<(), String>;
}

/// Who is about to take a message, and for whom.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Handover<'a> {
    /// The host, as `name[address]:port`.
    pub host: &'a str,
    /// Those recipients that it accepted, by their places in the message, in their order.
    pub accepted: &'a [usize],
    /// What is known about the attempt; the time it took is not yet.
    pub facts: &'a AttemptFacts,
}

/// Lets every message go.
#[async_trait]
impl BeforeFinalDot for () {
    async fn permit(&self, _: &Handover<'_>) -> Result<(), String> {
        Ok(())
    }
}
