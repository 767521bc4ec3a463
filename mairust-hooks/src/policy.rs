//! Deciding whether a user or an application may send: the seam.
//!
//! Deliberately absent: where it is remembered who has sent how much. An engine that limits rates keeps that where
//! all nodes see it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{EmailAddress, EnhancedCode, Origin, Rejection, ReversePath, TenantId, Timestamp, UserId};

/// Decides about each message that a user or an application submits, before any hook and before it is signed and
/// stored: whoever sends has a right to the sender then. Mail from other servers, notices and what the queue
/// tries again are not asked about.
///
/// The call may be dropped when its time is over; the message is refused with a temporary failure then. One engine serves all
/// messages at once.
///
/// ```
/// use async_trait::async_trait;
/// use mairust_core::Timestamp;
/// use mairust_hooks::{Decision, PolicyEngine, PolicyError, PolicyRequest};
///
/// /// Lets nobody write to more than ten people at once.
/// #[derive(Debug)]
/// struct SmallRounds;
///
/// #[async_trait]
/// impl PolicyEngine for SmallRounds {
///     async fn evaluate(&self, request: &PolicyRequest, _now: Timestamp) -> Result<Decision, PolicyError> {
///         if request.recipients.len() > 10 {
///             return Ok(Decision::reject("large_round", "Please write to ten people at most"));
///         }
///         Ok(Decision::Allow)
///     }
/// }
/// ```
#[async_trait]
pub trait PolicyEngine: fmt::Debug + Send + Sync + 'static {
    /// Decides about one message. What is allowed counts as sent, so the same message is asked about once, unless it
    /// is submitted again. `now` is the time of the submission.
    ///
    /// # Errors
    /// When the engine can't tell. The message is refused with a temporary failure then, never let through.
    async fn evaluate(&self, request: &PolicyRequest, now: Timestamp) -> Result<Decision, PolicyError>;
}

/// A message that is submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyRequest {
    /// The tenant of whoever sends.
    pub tenant: TenantId,
    /// The user who sends: who logged in or, for an API key, whose address the sender is. `None` if it is nobody's.
    pub user: Option<UserId>,
    /// The account that it counts for: the primary address of the user or, without one, the sender.
    pub account: EmailAddress,
    /// MAIL FROM.
    pub sender: ReversePath,
    /// Each recipient once, here and elsewhere.
    pub recipients: Vec<EmailAddress>,
    /// The size of the message in octets.
    pub size: u64,
    /// From where it comes.
    pub origin: Origin,
}

/// What is done about a message. Whoever asks has to do one of these, so there are no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It goes on.
    Allow,
    /// It is refused for good: API clients get 403 `policy_denied`.
    Reject {
        /// Why, as one of few words, for metrics and logs.
        reason: &'static str,
        /// What an SMTP client sees.
        rejection: Rejection,
    },
    /// It may come again later: API clients get 429 `rate_limited`.
    Tempfail {
        /// Why, as one of few words, for metrics and logs.
        reason: &'static str,
        /// What an SMTP client sees.
        rejection: Rejection,
        /// When it may be tried again.
        retry_after: Duration,
    },
}

/// Why there is no decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(String);

impl PolicyRequest {
    /// A message of nobody in particular, of no size, from an unknown place.
    pub fn new(tenant: TenantId, account: EmailAddress, recipients: Vec<EmailAddress>) -> Self {
        let sender = ReversePath::Address(account.clone());
        Self { tenant, user: None, account, sender, recipients, size: 0, origin: Origin::default() }
    }
}

impl Decision {
    /// Refuses with `550 5.7.1` and this text. What is not printable ASCII is shown as `?`.
    pub fn reject(reason: &'static str, text: impl AsRef<str>) -> Self {
        Self::Reject { reason, rejection: Rejection::new(550, EnhancedCode(5, 7, 1), text) }
    }

    /// Refuses with `451 4.7.1` and this text, which should say when to try again.
    pub fn tempfail(reason: &'static str, text: impl AsRef<str>, retry_after: Duration) -> Self {
        Self::Tempfail { reason, rejection: Rejection::new(451, EnhancedCode(4, 7, 1), text), retry_after }
    }

    /// For logs and metrics: `allow`, `reject` or `tempfail`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Reject { .. } => "reject",
            Self::Tempfail { .. } => "tempfail",
        }
    }

    /// Why it is refused; `none` if it is not.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Allow => "none",
            Self::Reject { reason, .. } | Self::Tempfail { reason, .. } => reason,
        }
    }
}

impl PolicyError {
    /// A failure with this text, for the log.
    pub fn new(text: impl fmt::Display) -> Self {
        Self(text.to_string())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: PolicyEngine + ?Sized> PolicyEngine for Arc<T> {
    async fn evaluate(&self, request: &PolicyRequest, now: Timestamp) -> Result<Decision, PolicyError> {
        (**self).evaluate(request, now).await
    }
}
