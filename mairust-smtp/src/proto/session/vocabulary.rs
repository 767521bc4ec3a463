//! What a session is told and what it tells.

use bytes::Bytes;
use mairust_core::{Domain, ForwardPath, Reply, ReversePath};

#[cfg(doc)]
use super::Session;
use crate::proto::command::MailOptions;
use crate::proto::sasl::Credentials;

/// Whether clients log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginPolicy {
    /// AUTH is not there: mail from other servers.
    Never,
    /// AUTH is offered under TLS and must come before MAIL (RFC 6409 §4.3).
    Required,
}

/// What there is of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsPolicy {
    /// The connection is under TLS from its first byte (RFC 8314).
    Active,
    /// STARTTLS is offered (RFC 3207).
    Offered,
    /// There is none.
    Unavailable,
}

/// Settings of a session.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// The name in the greeting.
    pub hostname: Domain,
    /// The largest message in octets.
    pub max_message_size: u64,
    /// Recipients per message.
    pub max_recipients: usize,
    /// Negative replies before the session is ended. 452 for too many recipients does not count.
    pub max_errors: u32,
    /// Whether clients log in.
    pub login: LoginPolicy,
    /// What there is of TLS.
    pub tls: TlsPolicy,
}

/// What happened. Events that ask something stop the session until they are answered.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Some octets of the message, dots unstuffed. If the message turns out to be flawed, no
    /// [`Event::MessageEnd`] follows.
    Chunk(Bytes),
    /// The session is over: send what is left and close the connection.
    Closed,
    /// A client is there. Asks: answer with [`Session::accept`] or [`Session::refuse`].
    Connect,
    /// Somebody logs in. Asks: answer with [`Session::accept`] or [`Session::refuse`].
    Login(Credentials),
    /// MAIL FROM. Asks: answer with [`Session::accept`] or [`Session::refuse`].
    Mail(ReversePath, MailOptions),
    /// The message is complete. Asks: answer with [`Session::accept_with`] or
    /// [`Session::refuse`].
    MessageEnd(Transaction),
    /// The message ended and was refused with this reply; its chunks are to be dropped.
    MessageRefused(Transaction, Reply),
    /// DATA: chunks will follow.
    MessageStart,
    /// RCPT TO, never the same address twice. Asks: answer with [`Session::accept`] or
    /// [`Session::refuse`].
    Recipient(ForwardPath),
    /// Send what there is, do the handshake, and call [`Session::tls_started`].
    StartTls,
}

/// A mail transaction (RFC 5321 §3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transaction {
    /// MAIL FROM.
    pub sender: ReversePath,
    /// MAIL FROM parameters.
    pub options: MailOptions,
    /// RCPT TO: the accepted ones, in the order given, each once.
    pub recipients: Vec<ForwardPath>,
    /// Whether a recipient was refused.
    pub(super) refused: bool,
}

/// What a session did since the last [`Session::transmit`], for counting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Activity {
    /// The verbs of the commands; `other` for all that are not known.
    pub commands: Vec<&'static str>,
    /// The codes of the replies.
    pub replies: Vec<u16>,
}
