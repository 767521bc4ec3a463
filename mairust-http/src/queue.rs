//! Deliveries in the queue as they are shown, by the API and by commands alike.

use mairust_store::{DestinationStats, HoldReason, ItemState, QueueItem, pause};
use serde::Serialize;
use utoipa::ToSchema;

/// The delivery of a message to a destination.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueueEntry {
    /// Its id.
    pub id: String,
    /// The message, as in `GET /sends/{id}`.
    pub message_id: String,
    /// The domain that it goes to.
    pub destination: String,
    /// `ready`, `waiting`, `leased`, `held` or `buried`.
    pub state: &'static str,
    /// Why it is held: `hook`, `operator`, `paused`, `policy` or `in_doubt`.
    pub held_because: Option<&'static str>,
    /// Number of attempts.
    pub attempts: u32,
    /// When the next attempt is due, if it is not held, buried or being done.
    pub next_attempt_at: Option<String>,
    /// Until when it is owned by whoever does it.
    pub leased_until: Option<String>,
    /// When it was queued.
    pub queued_at: String,
    /// Why it is still here: what the last attempt came to.
    pub last_result: Option<String>,
    /// Whether it is given up, and the sender told, as soon as it is taken.
    pub gives_up: bool,
    /// The host and port that it goes to instead of the usual way.
    pub route: Option<String>,
}

/// What there is for one destination.
#[derive(Debug, Serialize, ToSchema)]
pub struct DestinationTotals {
    /// The domain.
    pub destination: String,
    /// How many deliveries there are in each state.
    #[serde(flatten)]
    pub totals: QueueTotals,
    /// When its oldest delivery was queued.
    pub oldest_at: String,
    /// When the next attempt is due.
    pub next_attempt_at: Option<String>,
    /// Whether it is paused.
    pub paused: bool,
}

/// How many deliveries there are in each state.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct QueueTotals {
    /// Due.
    pub ready: u64,
    /// Until their time comes.
    pub waiting: u64,
    /// Being done.
    pub leased: u64,
    /// Until somebody releases them.
    pub held: u64,
    /// Given up for a fault of the server, and kept.
    pub buried: u64,
}

impl DestinationTotals {
    /// What there is for a destination, and whether it is among those that are paused.
    pub fn new(stats: DestinationStats, paused: &pause::Paused) -> Self {
        let mut totals = QueueTotals::default();
        totals.add(&stats);
        Self {
            paused: paused.covers(&stats.destination),
            oldest_at: stats.oldest.to_rfc3339(),
            next_attempt_at: stats.next_attempt.map(|at| at.to_rfc3339()),
            destination: stats.destination,
            totals,
        }
    }
}

impl QueueTotals {
    /// Adds what there is for a destination.
    pub(crate) fn add(&mut self, stats: &DestinationStats) {
        self.ready += stats.ready;
        self.waiting += stats.waiting;
        self.leased += stats.leased;
        self.held += stats.held;
        self.buried += stats.buried;
    }
}

impl From<QueueItem> for QueueEntry {
    fn from(item: QueueItem) -> Self {
        let leased_until = match item.state {
            ItemState::Leased { until } => Some(until.to_rfc3339()),
            _ => None,
        };
        let waits = matches!(item.state, ItemState::Ready | ItemState::Waiting);
        Self {
            id: item.id.to_string(),
            message_id: item.message.to_string(),
            destination: item.destination,
            state: item.state.as_str(),
            held_because: item.state.held_because().map(HoldReason::as_str),
            attempts: item.attempts,
            next_attempt_at: waits.then(|| item.not_before.to_rfc3339()),
            leased_until,
            queued_at: item.created_at.to_rfc3339(),
            last_result: item.last_error,
            gives_up: item.give_up,
            route: item.route,
        }
    }
}
