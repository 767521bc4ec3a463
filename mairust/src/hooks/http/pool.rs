//! Connections that are kept for the next request.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::outgoing_http::Connection;

/// So many connections wait for requests: as many as a hook gets at the same time.
const MAX_KEPT: usize = 16;

/// How long a connection waits for a request.
const MAX_IDLE: Duration = Duration::from_secs(30);

/// How old a connection gets. Then DNS is asked again where the hook is.
const MAX_AGE: Duration = Duration::from_secs(300);

/// Connections to one host, of which none is in use.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<Kept>>);

/// A connection.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) connection: Connection,
    made: Instant,
    /// When it was used last.
    used: Instant,
}

impl Kept {
    /// A new connection.
    pub(super) fn new(connection: Connection) -> Self {
        let now = Instant::now();
        Self { connection, made: now, used: now }
    }

    fn is_worth_keeping(&self, now: Instant) -> bool {
        let (age, idle) = (now.saturating_duration_since(self.made), now.saturating_duration_since(self.used));
        !self.connection.is_closed() && age < MAX_AGE && idle < MAX_IDLE
    }
}

impl Pool {
    /// The connection that was used last, so that those that are not needed get old.
    pub(super) fn take(&self) -> Option<Kept> {
        let (mut kept, now) = (self.kept(), Instant::now());
        kept.retain(|kept| kept.is_worth_keeping(now));
        let free = kept.iter().rposition(|kept| kept.connection.is_free())?;
        Some(kept.remove(free))
    }

    /// Keeps a connection whose answer was read.
    pub(super) fn put(&self, mut connection: Kept) {
        let (mut kept, now) = (self.kept(), Instant::now());
        kept.retain(|kept| kept.is_worth_keeping(now));
        connection.used = now;
        if kept.len() < MAX_KEPT && connection.is_worth_keeping(now) {
            kept.push(connection);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
