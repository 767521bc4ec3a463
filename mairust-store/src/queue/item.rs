//! What operators see of the queue and do with it: deliveries that wait, are being done, or are held.
//!
//! Only jobs that lead to a destination and are about a message are items of the queue in this sense.

use std::fmt;

use mairust_core::{JobId, MessageId, TenantId, Timestamp};

use super::Priority;
use crate::error::{StoreError, StoreErrorKind};

/// A delivery in the queue.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct QueueItem {
    /// The job.
    pub id: JobId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The message.
    pub message: MessageId,
    /// The domain that it goes to.
    pub destination: String,
    /// What is going on with it.
    pub state: ItemState,
    /// How urgent it is.
    pub priority: Priority,
    /// How often it was begun.
    pub attempts: u32,
    /// Not to be begun before; without a meaning while it is held or buried.
    pub not_before: Timestamp,
    /// When it was made, or first due if that was later.
    pub created_at: Timestamp,
    /// Why it was given back the last time, for people.
    pub last_error: Option<String>,
    /// Whether whoever takes it next gives it up instead of doing it.
    pub give_up: bool,
    /// The way that it is to go instead of the usual one.
    pub route: Option<String>,
}

/// What is going on with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ItemState {
    /// Given up for a fault of ours; kept for people to look at.
    Buried,
    /// Until somebody releases it.
    Held(HoldReason),
    /// Being done, until its lease ends.
    Leased {
        /// When the lease ends.
        until: Timestamp,
    },
    /// Due.
    Ready,
    /// Until its time comes.
    Waiting,
}

/// Why a delivery is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum HoldReason {
    /// A hook wants somebody to look at it first.
    Hook,
    /// A recipient may have the message already, and is not to get it twice.
    InDoubt,
    /// Somebody held it.
    Operator,
    /// Its destination is paused.
    Paused,
    /// The policy wants somebody to look at it first.
    Policy,
}

/// Which items of a tenant; those that fulfil all conditions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueFilter {
    /// One of these; [`QueueFilter::MAX_IDS`] at most.
    pub ids: Option<Vec<JobId>>,
    /// About this message.
    pub message: Option<MessageId>,
    /// To this destination.
    pub destination: Option<String>,
    /// In this state, by [name](ItemState::as_str).
    pub state: Option<&'static str>,
    /// Held for this reason.
    pub held: Option<HoldReason>,
}

/// What is done to items that are not being delivered at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueAction {
    /// Ends it: recipients who wait are [cancelled](crate::DeliveryState::Cancelled), and nobody is told.
    Cancel {
        /// Why, for the history of the recipients.
        reason: String,
    },
    /// Makes it due at once, for a worker that gives it up: recipients who wait have failed, and the sender
    /// is told.
    GiveUp,
    /// Keeps it from being begun. What is held for another reason is held for this one.
    Hold(HoldReason),
    /// Makes it due at once if it is held.
    Release,
    /// Sends it another way, or the usual one again; at once unless it is held.
    Reroute(Option<String>),
    /// Makes it due at once if it waits, or was given up for a fault of ours.
    Retry,
}

/// A place among the items of a tenant, in the order of their messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueuePosition {
    /// The message.
    pub message: MessageId,
    /// The job.
    pub job: JobId,
}

/// What became of items to which something was to be done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueChange {
    /// Items that were changed.
    pub changed: u32,
    /// Items that were left alone because they are being delivered.
    pub busy: u32,
    /// Where to go on; `None` at the end.
    pub next: Option<QueuePosition>,
}

/// What became of many items to which something was to be done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueTotal {
    /// Items that were changed.
    pub changed: u64,
    /// Items that were left alone because they are being delivered.
    pub busy: u64,
}

/// What there is for one destination of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DestinationStats {
    /// The domain.
    pub destination: String,
    /// Items that are due.
    pub ready: u64,
    /// Items whose time has not come.
    pub waiting: u64,
    /// Items that are being delivered.
    pub leased: u64,
    /// Items that are held.
    pub held: u64,
    /// Items that were given up for a fault of ours.
    pub buried: u64,
    /// When the oldest item was made.
    pub oldest: Timestamp,
    /// When the next attempt is due, if any is.
    pub next_attempt: Option<Timestamp>,
}

impl ItemState {
    /// The names of all.
    pub const NAMES: [&'static str; 5] = ["buried", "held", "leased", "ready", "waiting"];

    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Buried => "buried",
            Self::Held(_) => "held",
            Self::Leased { .. } => "leased",
            Self::Ready => "ready",
            Self::Waiting => "waiting",
        }
    }

    /// The state of this name, as a condition of a [`QueueFilter`].
    pub fn name(text: &str) -> Option<&'static str> {
        Self::NAMES.into_iter().find(|name| *name == text)
    }

    /// Why it is held, if it is.
    pub fn held_because(self) -> Option<HoldReason> {
        match self {
            Self::Held(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether it is being done at this time.
    pub fn is_busy(self, now: Timestamp) -> bool {
        matches!(self, Self::Leased { until } if until > now)
    }
}

impl HoldReason {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Hook, Self::InDoubt, Self::Operator, Self::Paused, Self::Policy];

    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hook => "hook",
            Self::InDoubt => "in_doubt",
            Self::Operator => "operator",
            Self::Paused => "paused",
            Self::Policy => "policy",
        }
    }

    /// The reason of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

impl QueueFilter {
    /// How many items can be named.
    pub const MAX_IDS: usize = 1_000;

    /// Refuses to name more than may be.
    pub(crate) fn check_ids(ids: &[JobId]) -> Result<(), StoreError> {
        if ids.len() > Self::MAX_IDS {
            return Err(StoreError::new(StoreErrorKind::Invalid, "read queue", "too many ids"));
        }
        Ok(())
    }

    /// The items of this id only.
    pub fn one(id: JobId) -> Self {
        Self { ids: Some(vec![id]), ..Self::default() }
    }

    /// Whether an item fulfils all conditions.
    pub fn matches(&self, item: &QueueItem) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(&item.id))
            && self.message.is_none_or(|message| message == item.message)
            && self.destination.as_ref().is_none_or(|destination| *destination == item.destination)
            && self.state.is_none_or(|state| state == item.state.as_str())
            && self.held.is_none_or(|reason| item.state.held_because() == Some(reason))
    }
}

/// The conditions, for people: `all` without any.
impl fmt::Display for QueueFilter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.ids.as_ref().map(|ids| match &**ids {
            [id] => id.to_string(),
            ids => format!("{} ids", ids.len()),
        });
        let conditions = [
            ids,
            self.message.map(|id| format!("message {id}")),
            self.destination.as_ref().map(|name| format!("destination {name}")),
            self.state.map(|state| format!("state {state}")),
            self.held.map(|reason| format!("held because {}", reason.as_str())),
        ];
        let conditions: Vec<_> = conditions.into_iter().flatten().collect();
        formatter.write_str(if conditions.is_empty() { "all" } else { "" })?;
        formatter.write_str(&conditions.join(", "))
    }
}

impl QueueAction {
    /// Cancelling without a notice, as the history of the recipients says it.
    pub fn cancel() -> Self {
        Self::Cancel { reason: "cancelled by an operator".to_owned() }
    }

    /// Whether it does anything to an item in this state that is not being delivered.
    pub(crate) fn applies_to(&self, state: ItemState) -> bool {
        match self {
            Self::Cancel { .. } | Self::GiveUp | Self::Reroute(_) => true,
            Self::Hold(_) => state != ItemState::Buried,
            Self::Release => matches!(state, ItemState::Held(_)),
            Self::Retry => !matches!(state, ItemState::Held(_)),
        }
    }
}

impl QueueItem {
    /// Its place.
    pub fn position(&self) -> QueuePosition {
        QueuePosition { message: self.message, job: self.id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_say_what_they_ask_for() {
        assert_eq!(QueueFilter::default().to_string(), "all");
        let one = JobId::new(Timestamp::default());
        assert_eq!(QueueFilter::one(one).to_string(), one.to_string());
        let filter = QueueFilter {
            ids: Some(vec![one, one]),
            destination: Some("a.example".to_owned()),
            state: ItemState::name("held"),
            held: Some(HoldReason::Paused),
            message: None,
        };
        assert_eq!(filter.to_string(), "2 ids, destination a.example, state held, held because paused");
        assert_eq!(ItemState::name("asleep"), None);
    }
}
