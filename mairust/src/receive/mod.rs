//! Receiving: mail from other servers, from the final dot to 250.
//!
//! Each stage consumes what the one before made, so that their order is the compiler's business:
//! [`Received`] → [`Inspected`](inspect::Inspected) → [`Scanned`](scan::Scanned) →
//! [`Judged`](judge::Judged) → accepted.

mod commit;
mod inspect;
mod judge;
pub(crate) mod login;
pub(crate) mod recipient;
mod scan;
pub(crate) mod trace;

use std::sync::Arc;

use mairust_core::{Clock, Domain, EnhancedCode, MessageId, Rejection};
use mairust_hooks::{HookRunner, Scanner};
use mairust_smtp::server::{Received, SessionInfo};
use mairust_store::{StorageBackend, StoreError, StoreErrorKind};

use crate::metrics::Metrics;
use crate::outbound::Outbound;

pub(crate) use self::inspect::{Memory, parse};

/// More hops than this is a loop (RFC 5321 §6.3).
const MAX_RECEIVED: usize = 50;

/// Takes mail from other servers.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) hostname: Domain,
    pub(crate) storage: Arc<dyn StorageBackend>,
    pub(crate) hooks: Arc<HookRunner>,
    pub(crate) outbound: Outbound,
    pub(crate) memory: Memory,
    pub(crate) scanner: Option<Arc<dyn Scanner>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Receiver {
    /// The stages, in order. On return the message is durable.
    pub(crate) async fn receive(&self, session: &SessionInfo, message: Received) -> Result<MessageId, Rejection> {
        let inspected = inspect::inspect(session, message, &self.memory).await?;
        if inspected.hops() > MAX_RECEIVED {
            return Err(Rejection::new(554, EnhancedCode(5, 4, 6), "Too many hops, this message is looping"));
        }
        let scanned = scan::scan(inspected, self.scanner.as_deref(), &self.metrics).await?;
        let judged = judge::judge(scanned, &self.hooks, &self.metrics).await?;
        commit::commit(judged, self).await
    }
}

/// The answer to a peer when the store failed: always temporary, for the fault is ours.
pub(crate) fn refuse_for_store(error: &StoreError) -> Rejection {
    if error.kind() == StoreErrorKind::Full {
        // RFC 3463 §3.4: X.3.1 mail system full.
        return Rejection::new(452, EnhancedCode(4, 3, 1), "Insufficient storage, please try again later")
            .because(crate::error::chain(error));
    }
    Rejection::unavailable(crate::error::chain(error))
}
