//! What an API key allows.

use std::fmt;

/// One thing that an API key allows, written `resource:action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// `audit:read`: the audit log of the tenant.
    AuditRead,
    /// `events:read`: what happened.
    EventsRead,
    /// `hooks:read`: hooks and what their calls came to; webhooks, and what became of events on their way to them.
    HooksRead,
    /// `hooks:write`: making, changing, testing and removing hooks and webhooks. Implies `hooks:read`.
    HooksWrite,
    /// `messages:content`: bodies and attachments.
    MessagesContent,
    /// `messages:read`: what messages say about themselves, with a preview.
    MessagesRead,
    /// `messages:write`: changing messages. Implies `messages:read`, not `messages:content`.
    MessagesWrite,
    /// `metrics:read`: `/metrics`.
    MetricsRead,
    /// `queue:read`: deliveries that wait, are being done, or are held.
    QueueRead,
    /// `queue:write`: retrying, holding, releasing and cancelling deliveries. Implies `queue:read`.
    QueueWrite,
    /// `send:write`: sending.
    SendWrite,
    /// `sends:read`: what became of mail that was sent.
    SendsRead,
    /// `suppressions:read`: addresses to which nothing is sent.
    SuppressionsRead,
    /// `suppressions:write`: adding and removing such addresses. Implies `suppressions:read`.
    SuppressionsWrite,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::AuditRead,
        Self::EventsRead,
        Self::HooksRead,
        Self::HooksWrite,
        Self::MessagesContent,
        Self::MessagesRead,
        Self::MessagesWrite,
        Self::MetricsRead,
        Self::QueueRead,
        Self::QueueWrite,
        Self::SendWrite,
        Self::SendsRead,
        Self::SuppressionsRead,
        Self::SuppressionsWrite,
    ];

    /// The preset `admin`: everything.
    pub fn admin() -> Vec<Self> {
        Self::ALL.to_vec()
    }

    /// The preset `read_only`: everything that changes nothing.
    pub fn read_only() -> Vec<Self> {
        vec![
            Self::AuditRead,
            Self::EventsRead,
            Self::HooksRead,
            Self::MessagesContent,
            Self::MessagesRead,
            Self::MetricsRead,
            Self::QueueRead,
            Self::SendsRead,
            Self::SuppressionsRead,
        ]
    }

    /// The preset `send_only`: sending, and seeing what became of it.
    pub fn send_only() -> Vec<Self> {
        vec![Self::SendWrite, Self::SendsRead]
    }

    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuditRead => "audit:read",
            Self::EventsRead => "events:read",
            Self::HooksRead => "hooks:read",
            Self::HooksWrite => "hooks:write",
            Self::MessagesContent => "messages:content",
            Self::MessagesRead => "messages:read",
            Self::MessagesWrite => "messages:write",
            Self::MetricsRead => "metrics:read",
            Self::QueueRead => "queue:read",
            Self::QueueWrite => "queue:write",
            Self::SendWrite => "send:write",
            Self::SendsRead => "sends:read",
            Self::SuppressionsRead => "suppressions:read",
            Self::SuppressionsWrite => "suppressions:write",
        }
    }

    /// The scope of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name)
    }

    /// Whether who holds this scope may do what needs `other`.
    pub fn implies(self, other: Self) -> bool {
        self == other
            || matches!(
                (self, other),
                (Self::HooksWrite, Self::HooksRead)
                    | (Self::MessagesWrite, Self::MessagesRead)
                    | (Self::QueueWrite, Self::QueueRead)
                    | (Self::SuppressionsWrite, Self::SuppressionsRead)
            )
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
        }
        assert_eq!(Scope::parse("messages:everything"), None);
    }

    #[test]
    fn writing_implies_reading_but_not_content() {
        assert!(Scope::MessagesWrite.implies(Scope::MessagesRead));
        assert!(!Scope::MessagesWrite.implies(Scope::MessagesContent));
        assert!(!Scope::MessagesRead.implies(Scope::MessagesWrite));
        assert!(Scope::QueueWrite.implies(Scope::QueueRead) && !Scope::QueueRead.implies(Scope::QueueWrite));
    }
}
