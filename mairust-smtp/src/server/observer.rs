//! What a server tells whoever counts.

use std::fmt;
use std::time::Duration;

use mairust_core::{EnhancedCode, Reply};

use super::config::Service;

/// Is told what happens in all sessions. The methods are called on async threads: they count,
/// they do not wait.
pub trait Observer: fmt::Debug + Send + Sync + 'static {
    /// A session began.
    fn session_opened(&self, service: Service) {
        let _ = service;
    }

    /// A session ended, however it did.
    fn session_closed(&self, service: Service) {
        let _ = service;
    }

    /// A client was sent away before it had a session.
    fn session_refused(&self, service: Service, refusal: Refusal) {
        let _ = (service, refusal);
    }

    /// A client spoke before it was greeted.
    fn early_talker(&self, service: Service) {
        let _ = service;
    }

    /// A client sent a command; `other` stands for all verbs that are not known.
    fn command(&self, service: Service, verb: &'static str) {
        let _ = (service, verb);
    }

    /// A reply with this code was sent.
    fn reply(&self, service: Service, code: u16) {
        let _ = (service, code);
    }

    /// A message was answered with this code. `took` is the time from the end of its data to
    /// the reply.
    fn message(&self, service: Service, code: u16, took: Duration) {
        let _ = (service, code, took);
    }
}

/// Why a client has no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The client has as many sessions as it may have.
    ClientFull,
    /// The listener has as many sessions as it may have.
    ListenerFull,
    /// The network around the client has as many sessions as it may have.
    NetworkFull,
    /// The system has no file descriptor left for a session.
    NoDescriptor,
    /// The connection did not come through a proxy that is believed, or had no valid header.
    Proxy,
    /// The server has as many sessions as it may have.
    ServerFull,
    /// The client connects too often.
    TooFast,
}

impl Refusal {
    /// A word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientFull => "client_full",
            Self::ListenerFull => "listener_full",
            Self::NetworkFull => "network_full",
            Self::NoDescriptor => "no_descriptor",
            Self::Proxy => "proxy",
            Self::ServerFull => "server_full",
            Self::TooFast => "too_fast",
        }
    }

    /// What the client is told.
    pub(super) fn reply(self) -> Reply {
        let (enhanced, text) = match self {
            Self::ListenerFull | Self::NoDescriptor | Self::Proxy | Self::ServerFull => {
                (EnhancedCode(4, 3, 2), "Too many sessions, please try again later")
            }
            Self::ClientFull | Self::NetworkFull => {
                (EnhancedCode(4, 7, 0), "Too many sessions from your address, please try again later")
            }
            Self::TooFast => (EnhancedCode(4, 7, 0), "Too many connections from your address, please try again later"),
        };
        Reply::new(421, enhanced, text)
    }
}

/// Counts nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}
