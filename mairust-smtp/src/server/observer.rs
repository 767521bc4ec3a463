//! What a server tells whoever counts.

use std::fmt;
use std::time::Duration;

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

    /// A client was sent away because there were too many sessions.
    fn session_refused(&self, service: Service) {
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

/// Counts nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}
