//! The seam for embedders: what a server asks while a session runs.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::{
    Body, EmailAddress, EnhancedCode, ForwardPath, Origin, Rejection, Reply, ReversePath, ScramVerifier, SessionId,
};

use super::config::Service;
use super::hang_up::HangUp;
use crate::proto::{Credentials, FutureRelease, MailOptions, RcptOptions};

/// Answers the questions of SMTP sessions. One handler serves all sessions at once.
///
/// Every method may be dropped at any await point, when all sessions are ended at once; nothing
/// may be left behind then.
#[async_trait]
pub trait SessionHandler: fmt::Debug + Send + Sync + 'static {
    /// A client connected; a rejection (421 or 554) is its greeting and ends the session.
    async fn connect(&self, peer: &Peer) -> Result<(), Rejection> {
        let _ = peer;
        Ok(())
    }

    /// A client logs in. Asked only under TLS and only where [`Service`] offers AUTH. Wrong
    /// credentials are 535 5.7.8; a directory that is down is 454 4.7.0.
    async fn login(&self, peer: &Peer, credentials: Credentials) -> Result<Identity, Rejection> {
        let _ = (peer, credentials);
        Err(authentication_failed())
    }

    /// Whether SCRAM-SHA-256 (RFC 7677) is offered: the three methods below are there, too.
    fn offers_scram(&self) -> bool {
        false
    }

    /// The verifier of this user's password, asked before the client has proved anything. Who it
    /// does not exist for gets one as well ([`ScramVerifier::for_nobody`]), or the answer would
    /// tell who exists.
    async fn scram_verifier(&self, peer: &Peer, user: &str) -> Result<ScramVerifier, Rejection> {
        let _ = (peer, user);
        Err(authentication_failed())
    }

    /// The client has proved by SCRAM that it knows this user's password.
    async fn scram_login(&self, peer: &Peer, user: &str) -> Result<Identity, Rejection> {
        let _ = (peer, user);
        Err(authentication_failed())
    }

    /// The client tried to prove by SCRAM that it knows this user's password, and failed.
    async fn scram_failed(&self, peer: &Peer, user: &str) {
        let _ = (peer, user);
    }

    /// How far ahead users may have mail held (RFC 4865); `None`, the default, if they may not. What they ask for is in
    /// [`MailOptions::hold`], and whoever takes the message sees to it. Asked once for each session.
    fn future_release(&self) -> Option<FutureRelease> {
        None
    }

    /// MAIL FROM.
    async fn mail(&self, session: &SessionInfo, from: &ReversePath, options: &MailOptions) -> Result<(), Rejection> {
        let _ = (session, from, options);
        Ok(())
    }

    /// RCPT TO: whether mail for this address is taken. What the handler found out about it
    /// travels in the grant to [`message`](Self::message).
    async fn recipient(
        &self,
        session: &SessionInfo,
        to: &ForwardPath,
        options: &RcptOptions,
    ) -> Result<Grant, Rejection>;

    /// A whole message. The reply is sent after this returns; with a 250 the server takes over
    /// the responsibility for it (RFC 5321 §6.1), so it must be durable by then. When the client
    /// hangs up meanwhile, the handler is told by [`Received::hang_up`] and still ends by itself:
    /// only it knows from when on the message is stored.
    async fn message(&self, session: &SessionInfo, message: Received) -> Result<Reply, Rejection>;

    /// The client sent something after the reply to a message that was accepted: it has read that
    /// reply and will not send the message again. Not called when the session ends before that.
    async fn heard(&self, session: &SessionInfo) {
        let _ = session;
    }

    /// A whole message that came by LMTP: what became of it for each recipient, in their order
    /// (RFC 2033 §4.2). Without an implementation of its own, all get the answer of
    /// [`message`](Self::message).
    async fn message_for_each(&self, session: &SessionInfo, message: Received) -> Vec<Result<Reply, Rejection>> {
        let recipients = message.recipients.len();
        vec![self.message(session, message).await; recipients]
    }
}

fn authentication_failed() -> Rejection {
    Rejection::new(535, EnhancedCode(5, 7, 8), "Authentication failed")
}

/// Who is at the other end.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Peer {
    /// The session.
    pub session: SessionId,
    /// The client's address and port.
    pub address: SocketAddr,
    /// The address and port it connected to.
    pub local: SocketAddr,
    /// What the listener is for.
    pub service: Service,
}

/// What a session has found out so far.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Who is at the other end.
    pub peer: Peer,
    /// EHLO argument, TLS facts, user name.
    pub origin: Origin,
    /// Whether the client said EHLO rather than HELO.
    pub extended: bool,
    /// Who logged in.
    pub identity: Option<Identity>,
    /// MAIL FROM parameters of the message that is under way.
    pub options: MailOptions,
    /// What the handler remembers about the recipients accepted so far, in their order.
    pub granted: Vec<Grant>,
}

/// Who logged in: a name for logs, and whatever the handler wants to remember.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The name, for logs and trace fields.
    pub name: String,
    /// What the handler remembers about the user.
    pub grant: Grant,
}

/// Something that a handler remembers until it is asked again.
#[derive(Clone, Default)]
pub struct Grant(Option<Arc<dyn Any + Send + Sync>>);

/// A whole message, as received.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Received {
    /// MAIL FROM.
    pub sender: ReversePath,
    /// MAIL FROM parameters.
    pub options: MailOptions,
    /// The recipients that were granted, each once, in the order given.
    pub recipients: Vec<Recipient>,
    /// The bytes, dots unstuffed. Every line ends in CRLF, unless the options say that the body
    /// is binary; the last line of a message that came in chunks may have no end.
    pub body: Body,
    /// Whether its client is still there, for as long as the message is not answered.
    pub hang_up: HangUp,
}

/// A recipient that was granted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Recipient {
    /// RCPT TO.
    pub path: ForwardPath,
    /// RCPT TO parameters.
    pub options: RcptOptions,
    /// What the handler remembers about it.
    pub grant: Grant,
}

impl Grant {
    /// Remembers nothing.
    pub fn none() -> Self {
        Self(None)
    }

    /// Remembers `value`.
    pub fn new<T: Any + Send + Sync>(value: T) -> Self {
        Self(Some(Arc::new(value)))
    }

    /// What is remembered, if it is a `T`.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.as_deref().and_then(|value| value.downcast_ref())
    }
}

impl Recipient {
    /// The address, unless this is the bare `<postmaster>`.
    pub fn address(&self) -> Option<&EmailAddress> {
        match &self.path {
            ForwardPath::Address(address) => Some(address),
            ForwardPath::Postmaster => None,
        }
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Grant(..)" } else { "Grant(none)" })
    }
}
