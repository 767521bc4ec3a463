//! Deciding whether a user or an application may send: the seam.
//!
//! Deliberately absent: where it is remembered who has sent how much. An engine that limits rates keeps that where
//! all nodes see it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{Content, EmailAddress, EnhancedCode, Origin, Rejection, ReversePath, TenantId, Timestamp, UserId};

/// Decides about each message that a user or an application submits, before it is signed and stored: whoever sends
/// has a right to the sender then. Mail from other servers, notices and what the queue tries again are not asked
/// about.
///
/// Two questions are asked, one after the other: [`evaluate`](Self::evaluate), for what is cheap and certain, and
/// [`score`](Self::score), for what has to be guessed from what the message says. The second one is asked if the
/// first one did not refuse.
///
/// A call may be dropped when its time is over; the message is refused with a temporary failure then. One engine serves all
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
    /// Decides about one message by its envelope. What is allowed counts as sent, so the same message is asked about
    /// once, unless it is submitted again; a [dry run](PolicyRequest::dry_run) does not count. `now` is the time of
    /// the submission.
    ///
    /// # Errors
    /// When the engine can't tell. The message is refused with a temporary failure then, never let through.
    async fn evaluate(&self, request: &PolicyRequest, now: Timestamp) -> Result<Decision, PolicyError>;

    /// Decides about one message by what it says, too. It counts here as it counts there. Allows everything unless
    /// an engine says something else.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    async fn score(&self, request: &PolicyRequest, content: &Content, now: Timestamp) -> Result<Score, PolicyError> {
        let _ = (request, content, now);
        Ok(Score::default())
    }

    /// Hears that so many recipients of a sender were refused for good by their servers. Nobody waits for an answer,
    /// and nothing is told twice or for sure. Does nothing unless an engine says something else.
    async fn bounced(&self, tenant: TenantId, sender: &EmailAddress, recipients: u32, now: Timestamp) {
        let _ = (tenant, sender, recipients, now);
    }
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
    /// Whether this only asks what would become of it: it does not count, and nothing is changed.
    pub dry_run: bool,
}

/// What is done about a message. Whoever asks has to do one of these, so there are no others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Decision {
    /// It goes on.
    #[default]
    Allow,
    /// It is taken, and goes on later than other mail and after it.
    Slow {
        /// Why, as one of few words, for metrics and logs.
        reason: &'static str,
        /// How long it waits before it is due.
        wait: Duration,
    },
    /// It is taken, and held in the queue until somebody releases it. Copies for mailboxes here are held, too.
    Hold {
        /// Why, as one of few words, for metrics and logs.
        reason: &'static str,
    },
    /// It is refused, and so is all that its user sends, until an administrator ends that or the time has come. Mail
    /// of nobody's address is only refused.
    Suspend {
        /// Why, as one of few words, for metrics and logs.
        reason: &'static str,
        /// Why, for administrators.
        detail: String,
        /// When it ends by itself, if it does.
        until: Option<Timestamp>,
    },
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

/// What an engine thinks of a message, and what came of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Score {
    /// What is done.
    pub decision: Decision,
    /// How likely it is that somebody abuses the account: from 0 to 1.
    pub value: f64,
    /// From what this was concluded, for people.
    pub signals: Vec<Signal>,
}

/// Something about a message that speaks against it.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// What it is, in one of few words.
    pub name: &'static str,
    /// How much it says: from 0 to 1.
    pub value: f64,
}

/// Why there is no decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(String);

impl PolicyRequest {
    /// A message of nobody in particular, of no size, from an unknown place.
    pub fn new(tenant: TenantId, account: EmailAddress, recipients: Vec<EmailAddress>) -> Self {
        let sender = ReversePath::Address(account.clone());
        Self { tenant, user: None, account, sender, recipients, size: 0, origin: Origin::default(), dry_run: false }
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

    /// For logs and metrics: `allow`, `hold`, `reject`, `slow`, `suspend` or `tempfail`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Slow { .. } => "slow",
            Self::Hold { .. } => "hold",
            Self::Suspend { .. } => "suspend",
            Self::Reject { .. } => "reject",
            Self::Tempfail { .. } => "tempfail",
        }
    }

    /// Why it does not just go on; `none` if it does.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Allow => "none",
            Self::Slow { reason, .. }
            | Self::Hold { reason }
            | Self::Suspend { reason, .. }
            | Self::Reject { reason, .. }
            | Self::Tempfail { reason, .. } => reason,
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
    async fn score(&self, request: &PolicyRequest, content: &Content, now: Timestamp) -> Result<Score, PolicyError> {
        (**self).score(request, content, now).await
    }
    async fn bounced(&self, tenant: TenantId, sender: &EmailAddress, recipients: u32, now: Timestamp) {
        (**self).bounced(tenant, sender, recipients, now).await;
    }
}
