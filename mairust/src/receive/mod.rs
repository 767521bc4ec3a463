//! Receiving: mail from other servers, from the final dot to 250.
//!
//! Each stage consumes what the one before made, so that their order is the compiler's business:
//! [`Received`] → [`Inspected`](inspect::Inspected) → [`Verified`](verify::Verified) →
//! [`Scanned`](scan::Scanned) →
//! [`Judged`](judge::Judged) → accepted. From the third one on, there is one for each [tenant](tenants).

mod commit;
mod inspect;
mod judge;
pub(crate) mod login;
pub(crate) mod recipient;
mod results;
mod scan;
pub(crate) mod tenants;
pub(crate) mod trace;
pub(crate) mod verify;

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use mairust_core::{Clock, Domain, EnhancedCode, MessageId, Rejection};
use mairust_hooks::Scanner;
use mairust_smtp::server::{Received, Service, SessionInfo};
use mairust_store::{StorageBackend, StoreError, StoreErrorKind};

use self::verify::Authenticator;
use crate::hooks::BoundHooks;
use crate::metrics::Metrics;
use crate::outbound::Outbound;
use crate::receipts::{Fingerprint, Receipts};
use crate::return_path::ReturnPaths;

pub(crate) use self::inspect::{Memory, parse, unreadable};

/// More hops than this is a loop (RFC 5321 §6.3).
const MAX_RECEIVED: usize = 50;

/// Takes mail from other servers.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) hostname: Domain,
    pub(crate) storage: Arc<dyn StorageBackend>,
    pub(crate) hooks: Arc<BoundHooks>,
    pub(crate) outbound: Outbound,
    /// `None`: senders are not verified.
    pub(crate) authenticator: Option<Authenticator>,
    pub(crate) memory: Memory,
    pub(crate) scanner: Option<Arc<dyn Scanner>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) receipts: Arc<Receipts>,
    /// Takes mail that comes back; `None` if there are no addresses for it.
    pub(crate) return_paths: Option<Arc<ReturnPaths>>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Receiver {
    /// The stages, in order. On return the message is durable.
    pub(crate) async fn receive(
        &self,
        session: &SessionInfo,
        message: Received,
        fingerprint: Fingerprint,
    ) -> Result<MessageId, Rejection> {
        let hang_up = message.hang_up.clone();
        let inspected = inspect::inspect(session, message, self.our_ids(session), &self.memory).await?;
        if inspected.hops() > MAX_RECEIVED {
            return Err(Rejection::new(554, EnhancedCode(5, 4, 6), "Too many hops, this message is looping"));
        }
        let authenticator = self.authenticator.as_ref().filter(|_| session.peer.service == Service::Mx);
        let clock = self.clock.as_ref();
        let verified = verify::verify(inspected, authenticator, &self.hostname, &self.metrics, clock).await?;
        let (scanner, directory) = (self.scanner.as_deref(), self.storage.directory());
        let scanned = stream::iter(verified.split())
            .map(|verified| scan::scan(verified, scanner, directory, &self.metrics))
            .buffered(tenants::AT_A_TIME)
            .try_collect()
            .await?;
        let judged = tenants::judge_all(scanned, &self.hooks, &hang_up).await?;
        commit::commit(judged, fingerprint, self).await
    }

    /// The name under which results of sender authentication are told.
    fn authserv_id(&self) -> &Domain {
        let configured =
            self.authenticator.as_ref().and_then(|authenticator| authenticator.settings.authserv_id.as_ref());
        configured.unwrap_or(&self.hostname)
    }

    /// The names that strangers may not tell results under. A server of our own in front of this
    /// one may.
    fn our_ids(&self, session: &SessionInfo) -> Vec<&str> {
        match session.peer.service {
            Service::Lmtp => Vec::new(),
            _ => vec![self.hostname.as_str(), self.authserv_id().as_str()],
        }
    }
}

/// The answer to a client that has hung up while hooks looked at its message. Only one that has ended its own side and
/// reads on hears it (RFC 3463 §3.5: X.4.2 bad connection).
pub(crate) fn hung_up() -> Rejection {
    let text = "The connection ended before the message was taken, please try again";
    Rejection::new(451, EnhancedCode(4, 4, 2), text).because("the client hung up while hooks looked at the message")
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
