//! What a hook says about a message.

use mairust_core::{EnhancedCode, Rejection, Reply};

use crate::handler::HookError;

/// What to do with a message. When hooks differ, the strictest wins: reject, then tempfail, then
/// quarantine, then allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Allow,
    /// Take it, but into the folder Quarantine.
    Quarantine {
        /// Why, for the log and the operator.
        reason: String,
    },
    /// Refuse it for good.
    Reject(Rejection),
    /// Refuse it by a temporary failure; the sender tries again.
    Tempfail(Rejection),
}

/// What a hook function may return: a [`Verdict`], `()` for "go on", or a `Result` of either.
#[diagnostic::on_unimplemented(message = "a hook must return `Verdict`, `()` or `Result<Verdict, E>`, not `{Self}`")]
pub trait IntoVerdict {
    /// The verdict, or why there is none.
    ///
    /// # Errors
    /// When the hook failed.
    fn into_verdict(self) -> Result<Verdict, HookError>;
}

impl Verdict {
    /// Refuses with `550 5.7.1` and this text. What is not printable ASCII is shown as `?`.
    pub fn reject(text: impl AsRef<str>) -> Self {
        Self::Reject(Rejection::new(550, EnhancedCode(5, 7, 1), text))
    }

    /// Refuses with the temporary failure `451 4.7.1` and this text.
    pub fn tempfail(text: impl AsRef<str>) -> Self {
        Self::Tempfail(Rejection::new(451, EnhancedCode(4, 7, 1), text))
    }

    /// Takes the message into the folder Quarantine.
    pub fn quarantine(reason: impl Into<String>) -> Self {
        Self::Quarantine { reason: reason.into() }
    }

    /// The stricter of two; the first where they are equal.
    #[must_use]
    pub fn or_stricter(self, other: Self) -> Self {
        if other.strictness() > self.strictness() { other } else { self }
    }

    /// The reply of a refusal.
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Reject(rejection) | Self::Tempfail(rejection) => Some(rejection.reply()),
            Self::Allow | Self::Quarantine { .. } => None,
        }
    }

    /// For logs and metrics: `allow`, `quarantine`, `tempfail` or `reject`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Quarantine { .. } => "quarantine",
            Self::Reject(_) => "reject",
            Self::Tempfail(_) => "tempfail",
        }
    }

    fn strictness(&self) -> u8 {
        match self {
            Self::Allow => 0,
            Self::Quarantine { .. } => 1,
            Self::Tempfail(_) => 2,
            Self::Reject(_) => 3,
        }
    }
}

impl IntoVerdict for Verdict {
    fn into_verdict(self) -> Result<Verdict, HookError> {
        Ok(self)
    }
}

impl IntoVerdict for () {
    fn into_verdict(self) -> Result<Verdict, HookError> {
        Ok(Verdict::Allow)
    }
}

impl<V: IntoVerdict, E: std::fmt::Display> IntoVerdict for Result<V, E> {
    fn into_verdict(self) -> Result<Verdict, HookError> {
        self.map_err(HookError::new)?.into_verdict()
    }
}
