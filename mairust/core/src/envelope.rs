//! Who sends to whom, apart from what the header fields say.

use crate::address::{EmailAddress, ReversePath};

/// The SMTP envelope of one message (RFC 5321 §2.3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// MAIL FROM.
    pub sender: ReversePath,
    /// RCPT TO, in the order given, each once.
    pub recipients: Vec<EmailAddress>,
}
