//! How many requests to webhooks there are at a time: a webhook that does not answer must keep neither the others
//! nor mail from the workers.
//!
//! All webhooks together have half of the workers at most, one webhook a few. One that could not be reached is left
//! alone for a while, longer each time; an answer of whatever kind ends that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mairust_core::{Timestamp, WebhookId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests to one webhook at a time.
const AT_ONCE: usize = 4;
/// Jobs that wait for their turn at one webhook; they occupy workers meanwhile.
const WAITING: usize = 8;
/// How long a job waits for its turn.
const PATIENCE: Duration = Duration::from_secs(1);
/// When a job comes again that found no room.
const COME_AGAIN: Duration = Duration::from_secs(2);
/// How long a webhook is left alone that could not be reached; doubled each time.
const LEFT_ALONE: Duration = Duration::from_secs(5);
/// The longest time for which it is.
const LEFT_ALONE_AT_MOST: Duration = Duration::from_secs(300);

/// Lets requests pass.
#[derive(Debug)]
pub(crate) struct Gate {
    lanes: Mutex<HashMap<WebhookId, Lane>>,
    /// Jobs that may be here at a time.
    room: Arc<Semaphore>,
}

/// What is known about one webhook.
#[derive(Debug)]
struct Lane {
    slots: Arc<Semaphore>,
    /// Jobs that are at it or wait.
    jobs: usize,
    /// How often in a row it could not be reached.
    failures: u32,
    closed_until: Timestamp,
}

/// The right to make one request.
#[derive(Debug)]
pub(crate) struct Pass<'g> {
    entry: Entry<'g>,
    _room: OwnedSemaphorePermit,
    _slot: OwnedSemaphorePermit,
}

/// A job that is counted.
#[derive(Debug)]
struct Entry<'g> {
    gate: &'g Gate,
    webhook: WebhookId,
}

impl Gate {
    /// For so many workers.
    pub(crate) fn new(workers: usize) -> Self {
        Self { lanes: Mutex::default(), room: Arc::new(Semaphore::new((workers / 2).max(1))) }
    }

    /// Waits for the turn at a webhook. One that is asked for on purpose is not left alone.
    ///
    /// # Errors
    /// When to come again, if there is no room now.
    pub(crate) async fn enter(
        &self,
        webhook: WebhookId,
        now: Timestamp,
        on_purpose: bool,
    ) -> Result<Pass<'_>, Duration> {
        let room = Arc::clone(&self.room).try_acquire_owned().map_err(|_| COME_AGAIN)?;
        let (entry, slots) = {
            let mut lanes = self.lanes();
            let lane = lanes.entry(webhook).or_insert_with(Lane::new);
            if !on_purpose && now < lane.closed_until {
                return Err(lane.closed_until.since(now));
            }
            if lane.jobs >= AT_ONCE + WAITING {
                return Err(COME_AGAIN);
            }
            lane.jobs += 1;
            (Entry { gate: self, webhook }, Arc::clone(&lane.slots))
        };
        match tokio::time::timeout(PATIENCE, slots.acquire_owned()).await {
            Ok(Ok(slot)) => Ok(Pass { entry, _room: room, _slot: slot }),
            _ => Err(COME_AGAIN),
        }
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<WebhookId, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// Notes whether the webhook was reached.
    pub(crate) fn note(&self, reached: bool, now: Timestamp) {
        let mut lanes = self.entry.gate.lanes();
        let Some(lane) = lanes.get_mut(&self.entry.webhook) else { return };
        if reached {
            (lane.failures, lane.closed_until) = (0, Timestamp::default());
            return;
        }
        // Those that were on their way together count as one.
        if now < lane.closed_until {
            return;
        }
        let doubled = LEFT_ALONE.saturating_mul(1_u32.checked_shl(lane.failures).unwrap_or(u32::MAX));
        lane.failures = lane.failures.saturating_add(1);
        lane.closed_until = now.plus(doubled.min(LEFT_ALONE_AT_MOST));
    }
}

impl Lane {
    fn new() -> Self {
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        Self { slots, jobs: 0, failures: 0, closed_until: Timestamp::default() }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let mut lanes = self.gate.lanes();
        if let Some(lane) = lanes.get_mut(&self.webhook) {
            lane.jobs -= 1;
            // What is known of a webhook that is gone is forgotten when it is asked for nothing any more.
            if lane.jobs == 0 && lane.failures == 0 {
                lanes.remove(&self.webhook);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix(1_763_780_646);

    #[tokio::test(start_paused = true)]
    async fn one_webhook_has_a_few_requests_and_all_together_half_of_the_workers() {
        let gate = Gate::new(12);
        let (slow, other) = (WebhookId::new(NOW), WebhookId::new(NOW));
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.push(gate.enter(slow, NOW, false).await.unwrap());
        }
        assert_eq!(gate.enter(slow, NOW, false).await.unwrap_err(), COME_AGAIN);
        held.push(gate.enter(other, NOW, false).await.unwrap());
        held.push(gate.enter(other, NOW, false).await.unwrap());
        assert_eq!(gate.enter(other, NOW, false).await.unwrap_err(), COME_AGAIN, "there is no room");
        held.clear();
        assert!(gate.lanes().is_empty());
        assert!(gate.enter(slow, NOW, false).await.is_ok());
    }

    #[tokio::test]
    async fn who_is_not_reached_is_left_alone_for_longer_each_time() {
        let (gate, webhook) = (Gate::new(10), WebhookId::new(NOW));
        let mut now = NOW;
        for seconds in [5, 10, 20, 40, 80, 160, 300, 300] {
            let pass = gate.enter(webhook, now, false).await.unwrap();
            pass.note(false, now);
            pass.note(false, now);
            drop(pass);
            assert_eq!(gate.enter(webhook, now, false).await.unwrap_err(), Duration::from_secs(seconds));
            assert!(gate.enter(webhook, now, true).await.is_ok(), "on purpose");
            now = now.plus(Duration::from_secs(seconds));
        }
        gate.enter(webhook, now, false).await.unwrap().note(true, now);
        assert!(gate.enter(webhook, now, false).await.is_ok());
        assert!(gate.lanes().is_empty());
    }
}
