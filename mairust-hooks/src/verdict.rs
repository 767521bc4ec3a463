//! What a hook says about a message.

use mairust_core::{EnhancedCode, Rejection, Reply};

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
