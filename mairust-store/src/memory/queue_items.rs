//! What operators see of the queue and do with it, in memory.

use std::collections::BTreeMap;

use mairust_core::{MessageId, TenantId, Timestamp};

use super::State;
use super::queue::{JobRecord, JobState, Jobs};
use crate::delivery::{Attempt, AttemptOutcome};
use crate::error::StoreError;
use crate::queue::{DestinationStats, ItemState, QueueAction, QueueChange, QueueFilter, QueueItem, QueuePosition};

impl Jobs {
    pub(super) fn items(
        &self,
        tenant: TenantId,
        filter: &QueueFilter,
        now: Timestamp,
        after: Option<QueuePosition>,
        limit: u32,
    ) -> Result<Vec<QueueItem>, StoreError> {
        filter.ids.as_deref().map_or(Ok(()), QueueFilter::check_ids)?;
        let behind = |item: &QueueItem| after.is_none_or(|after| item.position() > after);
        let of_tenant = self.of_tenant(tenant, now).filter(|item| behind(item) && filter.matches(item));
        let mut items: Vec<_> = of_tenant.collect();
        items.sort_unstable_by_key(QueueItem::position);
        items.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(items)
    }

    pub(super) fn destinations(
        &self,
        tenant: TenantId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<DestinationStats>, StoreError> {
        let mut found: BTreeMap<String, DestinationStats> = BTreeMap::new();
        for item in self.of_tenant(tenant, now) {
            let stats = found.entry(item.destination.clone()).or_insert_with(|| DestinationStats {
                destination: item.destination.clone(),
                ready: 0,
                waiting: 0,
                leased: 0,
                held: 0,
                buried: 0,
                oldest: item.created_at,
                next_attempt: None,
            });
            stats.add(&item, now);
        }
        let mut found: Vec<_> = found.into_values().collect();
        found.sort_by_key(|stats| std::cmp::Reverse(stats.items()));
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(found)
    }

    fn of_tenant(&self, tenant: TenantId, now: Timestamp) -> impl Iterator<Item = QueueItem> {
        self.records().filter(move |record| record.job.tenant == tenant).filter_map(move |record| record.item(now))
    }
}

impl State {
    pub(super) fn change_items(
        &mut self,
        tenant: TenantId,
        (filter, action): (&QueueFilter, &QueueAction),
        now: Timestamp,
        after: Option<QueuePosition>,
        limit: u32,
    ) -> Result<QueueChange, StoreError> {
        let items = self.jobs.items(tenant, filter, now, after, limit)?;
        let mut change = QueueChange {
            next: items.last().filter(|_| items.len() >= limit as usize).map(QueueItem::position),
            ..QueueChange::default()
        };
        for item in items {
            if item.state.is_busy(now) {
                change.busy += 1;
            } else if action.applies_to(item.state) {
                change.changed += 1;
                self.change_item(&item, action, now);
            }
        }
        Ok(change)
    }

    fn change_item(&mut self, item: &QueueItem, action: &QueueAction, now: Timestamp) {
        if let QueueAction::Cancel { reason } = action {
            self.jobs.leave(item.id);
            self.cancel_recipients(item.tenant, (item.message, &item.destination), reason, now);
            return;
        }
        self.jobs.change(item.id, |record| {
            record.token = None;
            match action {
                QueueAction::Hold(because) => record.state = JobState::Held(*because),
                QueueAction::Reroute(route) => {
                    record.route.clone_from(route);
                    record.job.not_before = now;
                    if !matches!(record.state, JobState::Held(_)) {
                        record.state = JobState::Ready;
                    }
                }
                QueueAction::Cancel { .. } | QueueAction::GiveUp | QueueAction::Release | QueueAction::Retry => {
                    record.give_up |= *action == QueueAction::GiveUp;
                    record.job.not_before = now;
                    record.state = JobState::Ready;
                }
            }
        });
    }

    fn cancel_recipients(
        &mut self,
        tenant: TenantId,
        (message, destination): (MessageId, &str),
        reason: &str,
        now: Timestamp,
    ) {
        let waits = |row: &&crate::delivery::DeliveryRow| {
            !row.state.is_settled() && row.address.domain().as_str() == destination
        };
        let waiting: Vec<_> = self.recipients_of(tenant, message).filter(waits).map(|row| row.id).collect();
        for recipient in waiting {
            let (outcome, result) = (AttemptOutcome::Cancelled, reason.to_owned());
            self.record(tenant, Attempt { recipient, at: now, outcome, host: None, result, notice: None, facts: None });
        }
    }
}

impl JobRecord {
    /// The job as an item; `None` if it is none.
    fn item(&self, now: Timestamp) -> Option<QueueItem> {
        Some(QueueItem {
            id: self.job.id,
            tenant: self.job.tenant,
            message: self.job.message?,
            destination: self.job.destination.clone()?,
            state: match self.state {
                JobState::Buried => ItemState::Buried,
                JobState::Held(because) => ItemState::Held(because),
                JobState::Leased { until } => ItemState::Leased { until },
                JobState::Ready => ItemState::Ready,
                // It is found out with the next lease.
                JobState::Waiting if self.job.not_before <= now => ItemState::Ready,
                JobState::Waiting => ItemState::Waiting,
            },
            priority: self.job.priority,
            attempts: self.attempts,
            not_before: self.job.not_before,
            created_at: self.created_at,
            last_error: self.last_error.clone(),
            give_up: self.give_up,
            route: self.route.clone(),
        })
    }
}

impl DestinationStats {
    fn add(&mut self, item: &QueueItem, now: Timestamp) {
        let count = match item.state {
            ItemState::Buried => &mut self.buried,
            ItemState::Held(_) => &mut self.held,
            ItemState::Leased { until } if until > now => &mut self.leased,
            ItemState::Ready | ItemState::Waiting if item.not_before > now => &mut self.waiting,
            ItemState::Leased { .. } | ItemState::Ready | ItemState::Waiting => &mut self.ready,
        };
        *count += 1;
        self.oldest = self.oldest.min(item.created_at);
        if matches!(item.state, ItemState::Ready | ItemState::Waiting) {
            self.next_attempt = Some(self.next_attempt.map_or(item.not_before, |next| next.min(item.not_before)));
        }
    }

    fn items(&self) -> u64 {
        self.ready + self.waiting + self.leased + self.held + self.buried
    }
}
