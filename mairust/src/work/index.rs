//! Indexing: brings accepted messages into the search index, when receiving leaves time for it.

use std::sync::Arc;
use std::time::Duration;

use mairust_core::Clock;
use mairust_store::search::feed::{feed, make_again};
use mairust_store::{StorageBackend, StoreError, StoreErrorKind};

use crate::metrics::Metrics;

/// Messages that are indexed at a time.
const BATCH: u32 = 128;
/// Messages that are noted at a time while the index is being made again.
const REFILL: u32 = 1_000;
/// Who died with a batch in hand, or accepted on another node, gives no sign.
const LOOK_AGAIN: Duration = Duration::from_secs(20);
/// How long to wait before an index is tried again that failed.
const DOWN_PAUSE: Duration = Duration::from_secs(5);
/// How often it is looked at whether mail is coming in.
const WINDOW: Duration = Duration::from_millis(100);
/// As many commits in a window are much mail.
const BUSY: u64 = 20;
/// How long indexing waits for a moment with less mail. Then one batch is done, so that searches are
/// behind but not stuck when there never is one.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

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
        let (mut seen, mut failing) = (outbox.version(), false);
        loop {
            if outbox.version() != seen {
                self.give_way().await;
            }
            // Read before looking, so that a message that comes in between is not slept over.
            seen = outbox.version();
            match self.step().await {
                Ok(done) => {
                    failing = false;
                    if done == 0 {
                        let _ = tokio::time::timeout(LOOK_AGAIN, outbox.changed(seen)).await;
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

    /// One batch; how much was done.
    async fn step(&self) -> Result<u32, StoreError> {
        match feed(&*self.storage, self.clock.now(), BATCH).await {
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

    /// Waits until less mail comes in: whoever waits for an answer comes first.
    async fn give_way(&self) {
        let outbox = self.storage.search_outbox();
        let calm = async {
            loop {
                let seen = outbox.version();
                tokio::time::sleep(WINDOW).await;
                if outbox.version() - seen < BUSY {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(LONGEST_WAIT, calm).await;
    }
}
