//! A refusal: what the peer sees, and what we know.

use std::fmt;

use crate::reply::{EnhancedCode, Reply};

/// Why something was refused: a [`Reply`] for the peer and a private reason for the log.
///
/// The reply never names a mechanism, a table or a host; the reason may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    reply: Reply,
    reason: String,
}

impl Rejection {
    /// A refusal whose reason may be told.
    pub fn new(code: u16, enhanced: EnhancedCode, text: impl AsRef<str>) -> Self {
        Self::from_reply(Reply::new(code, enhanced, text))
    }

    /// A refusal with this reply.
    pub fn from_reply(reply: Reply) -> Self {
        Self { reason: reply.lines().join(" "), reply }
    }

    /// Names the reason for the log.
    #[must_use]
    pub fn because(mut self, reason: impl fmt::Display) -> Self {
        self.reason = reason.to_string();
        self
    }

    /// 451 4.3.0: something of ours is down; the peer should come again.
    pub fn unavailable(reason: impl fmt::Display) -> Self {
        Self::new(451, EnhancedCode(4, 3, 0), "Temporary failure, please try again later").because(reason)
    }

    /// What the peer sees.
    pub fn reply(&self) -> &Reply {
        &self.reply
    }

    /// What we know.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reply, self.reason)
    }
}

impl std::error::Error for Rejection {}
