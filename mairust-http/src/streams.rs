//! Answers that do not end by themselves: how many there are, and how they end with the server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::problem::{ErrorCode, Problem};

/// Streams that one API key may have open.
const PER_KEY: u32 = 5;

/// The streams of events that are open. Cloning is cheap, and clones are the same.
#[derive(Debug, Clone, Default)]
pub struct EventStreams(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    open: Mutex<HashMap<String, u32>>,
    ended: watch::Sender<bool>,
}

/// One stream that is open.
#[derive(Debug)]
pub(crate) struct OpenStream {
    streams: EventStreams,
    key_id: String,
    ended: watch::Receiver<bool>,
}

impl EventStreams {
    /// Ends all of them, and every one that is opened later. Clients come back by themselves, and go on where they
    /// were.
    pub fn end(&self) {
        self.0.ended.send_replace(true);
    }

    /// Counts one more for a key.
    pub(crate) fn open(&self, key_id: &str) -> Result<OpenStream, Problem> {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(key_id.to_owned()).or_default();
        if *count >= PER_KEY {
            let message = format!("this API key has {PER_KEY} streams open already");
            return Err(Problem::new(ErrorCode::RateLimited, message).hint("Close one of them, or use another key"));
        }
        *count += 1;
        Ok(OpenStream { streams: self.clone(), key_id: key_id.to_owned(), ended: self.0.ended.subscribe() })
    }
}

impl OpenStream {
    /// Waits until it has to end. Safe to drop.
    pub(crate) async fn ended(&mut self) {
        // The sender is in `self.streams`.
        let _ = self.ended.wait_for(|ended| *ended).await;
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut open = self.streams.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.key_id) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.key_id);
            }
        }
    }
}
