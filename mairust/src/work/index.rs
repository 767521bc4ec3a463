//! Indexing: brings accepted messages into the search index, when receiving leaves time for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mairust_core::Clock;
use mairust_store::search::feed::{feed, make_again};
use mairust_store::{StorageBackend, StoreError, StoreErrorKind};

use crate::metrics::Metrics;

/// Messages that are indexed at a time.
const BATCH: u32 = 128;
/// As many while mail comes in.
const BATCH_BESIDE_MAIL: u32 = 16;
/// While mail comes in, a rest follows that is so many times as long as what was done: whoever waits for
/// an answer comes first, and searches are behind but not stuck.
const REST: u32 = 9;
/// Messages that are noted at a time while the index is being made again.
const REFILL: u32 = 1_000;
/// Who died with a batch in hand, or accepted on another node, gives no sign.
const LOOK_AGAIN: Duration = Duration::from_secs(20);
/// How long to wait before an index is tried again that failed.
const DOWN_PAUSE: Duration = Duration::from_secs(5);

/// Feeds the search index.
#[derive(Debug)]
pub(crate) struct Indexer {
    pub(crate) storage: Arc<dyn StorageBackend>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Indexer {
    /// Works until `stop`. A batch that is cut off is done again at the next start.
    pub(crate) async fn run(self, stop: impl Future<Output = ()> + Send) {
        tokio::select! {
            () = stop => {}
            () = self.work() => {}
        }
    }

    async fn work(&self) {
        let outbox = self.storage.search_outbox();
        let (mut batch, mut failing) = (BATCH, false);
        loop {
            // Read before looking, so that a message that comes in between is not slept over.
            let (seen, began) = (outbox.version(), Instant::now());
            match self.step(batch).await {
                Ok(0) => {
                    failing = false;
                    let _ = tokio::time::timeout(LOOK_AGAIN, outbox.changed(seen)).await;
                }
                Ok(_) => {
                    failing = false;
                    let quiet = outbox.version() == seen;
                    batch = if quiet { BATCH } else { BATCH_BESIDE_MAIL };
                    if !quiet {
                        tokio::time::sleep(began.elapsed() * REST).await;
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        let error = crate::error::chain(&error);
                        tracing::error!(component = "search", error, "messages can't be indexed, trying again");
                    }
                    tokio::time::sleep(DOWN_PAUSE).await;
                }
            }
        }
    }

    /// One batch of messages; how much was done.
    async fn step(&self, batch: u32) -> Result<u32, StoreError> {
        match feed(&*self.storage, self.clock.now(), batch).await {
            Ok(0) => self.storage.search_outbox().refill(REFILL).await,
            Ok(indexed) => {
                self.metrics.indexed(indexed);
                Ok(indexed)
            }
            Err(error) if error.kind() == StoreErrorKind::Corrupt => {
                tracing::error!(component = "search", error = crate::error::chain(&error), "the index is made again");
                make_again(&*self.storage).await.map(|()| 1)
            }
            Err(error) => Err(error),
        }
    }
}
