//! Who writes a key: one at a time.
//!
//! Looking for an object and writing it are two steps where the server has no conditions, and whoever
//! is told that an object exists takes it for durable. So a second writer waits for the first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as Lock, OwnedMutexGuard};

/// The keys that are being written.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<String, Arc<Lock<()>>>>);

/// The right to write a key, or the wait for it; ends when dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    key: &'a str,
    /// None while waiting.
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits until nobody else writes the key.
    pub(super) async fn wait<'a>(&'a self, key: &'a str) -> Turn<'a> {
        let lock = Arc::clone(self.locks().entry(key.to_owned()).or_default());
        // Made before the wait, which may be dropped.
        let mut turn = Turn { turns: self, key, held: None };
        turn.held = Some(lock.lock_owned().await);
        turn
    }

    fn locks(&self) -> MutexGuard<'_, HashMap<String, Arc<Lock<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.held = None;
        let mut locks = self.turns.locks();
        // Others who wait have the lock, too.
        if locks.get(self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn writers_of_a_key_follow_one_another_and_leave_nothing() {
        let turns = Turns::default();
        let first = turns.wait("a").await;
        drop(turns.wait("b").await);
        let mut second = pin!(turns.wait("a"));
        assert!(second.as_mut().now_or_never().is_none());
        {
            let mut given_up = pin!(turns.wait("a"));
            assert!(given_up.as_mut().now_or_never().is_none());
        }
        drop(first);
        let second = second.await;
        assert_eq!(turns.locks().len(), 1);
        drop(second);
        assert_eq!(turns.locks().len(), 0);
    }
}
