//! What a session is told and what it tells.

use bytes::Bytes;
use mairust_core::{Domain, ForwardPath, Reply, ReversePath};

#[cfg(doc)]
use super::Session;
use crate::proto::command::{MailOptions, RcptOptions};
use crate::proto::hold::FutureRelease;
use crate::proto::sasl::Credentials;
use crate::proto::xclient::ClientFacts;

/// Which protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// LMTP (RFC 2033): each recipient gets an answer of its own to the message.
    Lmtp,
    /// SMTP (RFC 5321).
    Smtp,
}

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
    /// Which protocol is spoken.
    pub protocol: Protocol,
    /// The name in the greeting.
    pub hostname: Domain,
    /// The largest message in octets.
    pub max_message_size: u64,
    /// Recipients per message.
    pub max_recipients: usize,
    /// MAIL commands that are accepted; the next one ends the session.
    pub max_messages: u32,
    /// Commands since the last MAIL that was accepted; one more ends the session.
    pub max_commands: u32,
    /// Negative replies before the session is ended. 452 for too many recipients does not count.
    pub max_errors: u32,
    /// Logins that were refused before the session is ended.
    pub max_failed_logins: u32,
    /// Whether clients log in.
    pub login: LoginPolicy,
    /// What there is of TLS.
    pub tls: TlsPolicy,
    /// Whether SCRAM-SHA-256 is offered where clients log in: it needs verifiers of passwords.
    pub scram: bool,
    /// Whether DSN (RFC 3461) is offered. From strangers, notices about success are backscatter.
    pub dsn: bool,
    /// How far ahead clients may have mail held (RFC 4865); `None` if that is not offered.
    pub future_release: Option<FutureRelease>,
    /// Whether the peer is a proxy that may speak for its clients by XCLIENT.
    pub xclient: bool,
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
    /// The client gave up a message between two chunks: those that came are to be dropped.
    MessageDropped,
    /// The message is complete. Asks: answer with [`Session::accept_with`], [`Session::refuse`]
    /// or [`Session::answer_each`].
    MessageEnd(Transaction),
    /// The message ended and was refused with this reply; its chunks are to be dropped.
    MessageRefused(Transaction, Reply),
    /// DATA or the first BDAT: chunks will follow.
    MessageStart,
    /// RCPT TO, never the same address twice. Asks: answer with [`Session::accept`] or
    /// [`Session::refuse`].
    Recipient(ForwardPath, RcptOptions),
    /// Somebody tried to log in as this user by SCRAM and did not know the password.
    ScramFailed(String),
    /// Somebody proved by SCRAM to know this user's password. Asks: answer with
    /// [`Session::accept`] or [`Session::refuse`].
    ScramLogin(String),
    /// Somebody wants to log in as this user by SCRAM. Asks: answer with
    /// [`Session::challenge`] or [`Session::refuse`]. For a user who does not exist, too, a
    /// verifier is due, or the answer tells who exists.
    ScramVerifier(String),
    /// Send what there is, do the handshake, and call [`Session::tls_started`].
    StartTls,
    /// A proxy says who its client is. Asks: answer with [`Session::accept`], which begins the
    /// session anew, or [`Session::refuse`], which ends it.
    Xclient(ClientFacts),
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
    pub recipients: Vec<RcptTo>,
    /// Whether a recipient was refused.
    pub(super) refused: bool,
    /// The recipient of each RCPT that was accepted, by its place in `recipients`: LMTP answers
    /// a repeated one again (RFC 2033 §4.2).
    pub(super) answers: Vec<usize>,
}

/// An accepted recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RcptTo {
    /// Where to.
    pub path: ForwardPath,
    /// RCPT TO parameters.
    pub options: RcptOptions,
}

/// What a session did since the last [`Session::transmit`], for counting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Activity {
    /// The verbs of the commands; `other` for all that are not known.
    pub commands: Vec<&'static str>,
    /// The codes of the replies.
    pub replies: Vec<u16>,
}
