//! What a sink saw.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use mairust_core::Timestamp;
use tokio::sync::watch;

/// A message that a [`Sink`](super::Sink) took.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SinkMessage {
    /// When, by the clock of the sink.
    pub at: Timestamp,
    /// The address of MAIL FROM; empty for the null sender.
    pub sender: String,
    /// The addresses that were accepted, in their order.
    pub recipients: Vec<String>,
    /// The message byte for byte, without what DATA adds to dots.
    pub body: Bytes,
    /// Whether it came under TLS.
    pub tls: bool,
    /// The place of its session among the [`sessions`](super::Sink::sessions).
    pub session: usize,
}

/// A session with a [`Sink`](super::Sink).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SinkSession {
    /// When it began, by the clock of the sink.
    pub at: Timestamp,
    /// The client.
    pub peer: SocketAddr,
    /// Whether a TLS handshake succeeded.
    pub tls: bool,
    /// The lines of the client without their ends; not those of messages.
    pub commands: Vec<String>,
    /// What it was answered, one text with lines for each reply.
    pub replies: Vec<String>,
    /// Whether it is over.
    pub ended: bool,
}

/// All that a sink saw; whoever waits for more is woken.
#[derive(Debug, Default)]
pub(super) struct Log {
    seen: Mutex<Seen>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) messages: Vec<SinkMessage>,
    pub(super) sessions: Vec<SinkSession>,
}

impl Log {
    /// Begins a session; its place.
    pub(super) fn begin(&self, at: Timestamp, peer: SocketAddr) -> usize {
        let session = SinkSession { at, peer, tls: false, commands: Vec::new(), replies: Vec::new(), ended: false };
        self.change(|seen| {
            seen.sessions.push(session);
            seen.sessions.len() - 1
        })
    }

    pub(super) fn in_session(&self, session: usize, change: impl FnOnce(&mut SinkSession)) {
        self.change(|seen| change(&mut seen.sessions[session]));
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        let result = change(&mut self.seen());
        self.changed.send_replace(());
        result
    }

    /// Looks at what was seen.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen())
    }

    /// Waits until `found` finds something. Safe to drop.
    pub(super) async fn wait<T>(&self, found: impl Fn(&Seen) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        loop {
            if let Some(found) = self.look(&found) {
                return found;
            }
            // The sender is in `self`.
            let _ = changed.changed().await;
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
