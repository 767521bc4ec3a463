//! The queue, in memory.

use std::borrow::Borrow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{JobId, MessageId, TenantId, Timestamp};

use super::{MemoryStorage, State};
use crate::error::{StoreError, StoreErrorKind};
use crate::queue::turns::Turns;
use crate::queue::{
    DestinationStats, FencingToken, HoldReason, LaneBounds, Lease, NewJob, QueueAction, QueueBackend, QueueChange,
    QueueFilter, QueueItem, QueuePosition, QueueStats,
};

/// All jobs, and the orders in which they are looked for.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    records: HashMap<JobId, JobRecord>,
    /// Jobs that wait or are leased, by the time at which they can be taken.
    asleep: BTreeSet<(Timestamp, JobId)>,
    /// Jobs that can be taken, by the time since when.
    awake: BTreeSet<(Timestamp, JobId)>,
    /// The same jobs by tenant, destination and rank.
    ready: BTreeMap<TenantId, Destinations>,
    turns: Turns,
}

#[derive(Debug)]
pub(super) struct JobRecord {
    pub(super) job: NewJob,
    pub(super) created_at: Timestamp,
    pub(super) attempts: u32,
    /// Why it was given back or given up the last time.
    pub(super) last_error: Option<String>,
    pub(super) give_up: bool,
    pub(super) route: Option<String>,
    /// Of the last lease, until the job is given back or given up.
    pub(super) token: Option<FencingToken>,
    pub(super) state: JobState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JobState {
    Buried,
    Held(HoldReason),
    Leased {
        until: Timestamp,
    },
    /// Can be taken.
    Ready,
    /// Until `not_before`.
    Waiting,
}

/// What can be taken of one tenant: by destination, none being the empty name, and rank.
type Destinations = BTreeMap<String, BTreeSet<(Timestamp, JobId)>>;

#[async_trait]
impl QueueBackend for MemoryStorage {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<(), StoreError> {
        if jobs.is_empty() {
            return Ok(());
        }
        {
            let mut state = self.state();
            state.check_jobs("enqueue", &jobs)?;
            state.jobs.add(jobs, self.clock.now());
        }
        self.queue_changed.bump();
        Ok(())
    }

    async fn lease_within(
        &self,
        now: Timestamp,
        max: u32,
        ttl: Duration,
        bounds: &LaneBounds,
    ) -> Result<Vec<Lease>, StoreError> {
        let jobs = &mut self.state().jobs;
        jobs.wake(now);
        let (nonce, until, mut bounds) = (rand::random(), now.plus(ttl), bounds.clone());
        Ok((0..max).map_while(|_| jobs.take_next(nonce, until, &mut bounds)).collect())
    }

    async fn extend(&self, lease: &Lease, until: Timestamp) -> Result<bool, StoreError> {
        Ok(self.state().jobs.with_leased(lease, |record| record.state = JobState::Leased { until }))
    }

    async fn complete(&self, lease: &Lease) -> Result<bool, StoreError> {
        Ok(self.state().jobs.complete(lease))
    }

    async fn retry(&self, lease: &Lease, at: Timestamp, reason: &str) -> Result<bool, StoreError> {
        let held = self.state().jobs.with_leased(lease, |record| {
            record.job.not_before = at;
            record.token = None;
            record.state = JobState::Waiting;
            record.last_error = Some(reason.to_owned());
        });
        if held {
            self.queue_changed.bump();
        }
        Ok(held)
    }

    async fn bury(&self, lease: &Lease, reason: &str) -> Result<bool, StoreError> {
        Ok(self.state().jobs.with_leased(lease, |record| {
            record.token = None;
            record.state = JobState::Buried;
            record.last_error = Some(reason.to_owned());
        }))
    }

    async fn park(&self, lease: &Lease, because: HoldReason, reason: &str) -> Result<bool, StoreError> {
        Ok(self.state().jobs.with_leased(lease, |record| {
            record.token = None;
            record.state = JobState::Held(because);
            record.last_error = Some(reason.to_owned());
        }))
    }

    async fn items(
        &self,
        tenant: TenantId,
        filter: &QueueFilter,
        after: Option<QueuePosition>,
        limit: u32,
    ) -> Result<Vec<QueueItem>, StoreError> {
        self.state().jobs.items(tenant, filter, self.clock.now(), after, limit)
    }

    async fn change(
        &self,
        tenant: TenantId,
        filter: &QueueFilter,
        action: &QueueAction,
        now: Timestamp,
        after: Option<QueuePosition>,
        limit: u32,
    ) -> Result<QueueChange, StoreError> {
        let change = self.state().change_items(tenant, (filter, action), now, after, limit)?;
        if change.changed > 0 {
            self.queue_changed.bump();
            if matches!(action, QueueAction::Cancel { .. }) {
                self.messages_changed.bump(tenant);
            }
        }
        Ok(change)
    }

    async fn retry_buried(&self, tenant: TenantId, jobs: &[JobId], now: Timestamp) -> Result<u32, StoreError> {
        QueueFilter::check_ids(jobs)?;
        let mut revived = 0;
        {
            let queue = &mut self.state().jobs;
            let is_buried = |record: &JobRecord| record.job.tenant == tenant && record.state == JobState::Buried;
            for id in jobs {
                if queue.records.get(id).is_some_and(is_buried) {
                    queue.change(*id, |record| (record.job.not_before, record.state) = (now, JobState::Ready));
                    revived += 1;
                }
            }
        }
        if revived > 0 {
            self.queue_changed.bump();
        }
        Ok(revived)
    }

    async fn destinations(
        &self,
        tenant: TenantId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<DestinationStats>, StoreError> {
        self.state().jobs.destinations(tenant, now, limit)
    }

    async fn stats(&self, now: Timestamp) -> Result<BTreeMap<String, QueueStats>, StoreError> {
        Ok(self.state().jobs.stats(now))
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.state().jobs.next_due())
    }

    fn version(&self) -> u64 {
        self.queue_changed.version()
    }

    async fn changed(&self, seen: u64) -> u64 {
        self.queue_changed.changed(seen).await
    }
}

impl State {
    /// Whether these jobs can be added.
    pub(super) fn check_jobs(&self, operation: &'static str, jobs: &[NewJob]) -> Result<(), StoreError> {
        let mut new = HashSet::new();
        for job in jobs {
            if !self.tenants.contains_key(&job.tenant) {
                return Err(StoreError::new(StoreErrorKind::NotFound, operation, job.tenant));
            }
            if self.jobs.records.contains_key(&job.id) || !new.insert(job.id) {
                return Err(StoreError::new(StoreErrorKind::AlreadyExists, operation, job.id));
            }
        }
        Ok(())
    }
}

impl Jobs {
    pub(super) fn add(&mut self, jobs: Vec<NewJob>, now: Timestamp) {
        for job in jobs {
            self.enter(JobRecord::new(job, now));
        }
    }

    /// All jobs, in no order.
    pub(super) fn records(&self) -> impl Iterator<Item = &JobRecord> {
        self.records.values()
    }

    /// Whether the delivery of a message to a destination is held.
    pub(super) fn holds_delivery(&self, tenant: TenantId, message: MessageId, destination: &str) -> bool {
        self.records.values().any(|record| {
            matches!(record.state, JobState::Held(_))
                && (record.job.tenant, record.job.message) == (tenant, Some(message))
                && record.job.destination.as_deref() == Some(destination)
        })
    }

    /// Moves to the others that can be taken whatever has become due.
    fn wake(&mut self, now: Timestamp) {
        while let Some((_, id)) = self.asleep.first().copied().filter(|(due, _)| *due <= now) {
            self.change(id, |record| record.state = JobState::Ready);
        }
    }

    /// Takes the job whose turn it is.
    fn take_next(&mut self, nonce: [u8; 16], until: Timestamp, bounds: &mut LaneBounds) -> Option<Lease> {
        let (tenant, destination, id) = self.next_turn(bounds)?;
        self.turns.served(tenant, &destination);
        bounds.begin(&destination);
        self.change(id, |record| {
            record.attempts += 1;
            record.token = Some(FencingToken::new(record.attempts, nonce));
            record.state = JobState::Leased { until };
        });
        let record = self.records.get(&id)?;
        let lease = Lease::new(record.job.clone(), record.created_at, record.token?, until);
        Some(Lease { give_up: record.give_up, route: record.route.clone(), ..lease })
    }

    /// Whose turn it is among those for whom there is room, and the job.
    fn next_turn(&self, bounds: &LaneBounds) -> Option<(TenantId, String, JobId)> {
        ring(&self.ready, self.turns.tenant().as_ref()).find_map(|(tenant, destinations)| {
            let mut lanes = ring(destinations, self.turns.destination(*tenant));
            let (destination, jobs) = lanes.find(|(destination, _)| bounds.room(destination) > 0)?;
            Some((*tenant, destination.clone(), jobs.first()?.1))
        })
    }

    /// Removes the jobs about a message that were given up.
    pub(super) fn forget_buried(&mut self, tenant: TenantId, message: MessageId) {
        let about = |record: &JobRecord| (record.job.tenant, record.job.message) == (tenant, Some(message));
        self.records.retain(|_, record| !(record.state == JobState::Buried && about(record)));
    }

    pub(super) fn complete(&mut self, lease: &Lease) -> bool {
        self.holds(lease) && self.leave(lease.job).is_some()
    }

    fn with_leased(&mut self, lease: &Lease, change: impl FnOnce(&mut JobRecord)) -> bool {
        let held = self.holds(lease);
        if held {
            self.change(lease.job, change);
        }
        held
    }

    /// Whether a lease was not lost.
    fn holds(&self, lease: &Lease) -> bool {
        self.records.get(&lease.job).is_some_and(|record| record.token == Some(lease.token))
    }

    /// Whether a job of this tenant waits for its time.
    pub(super) fn waits(&self, tenant: TenantId, id: JobId) -> bool {
        let is_of = |record: &&JobRecord| record.job.tenant == tenant && record.state == JobState::Waiting;
        self.records.get(&id).filter(is_of).is_some()
    }

    pub(super) fn change(&mut self, id: JobId, change: impl FnOnce(&mut JobRecord)) {
        if let Some(mut record) = self.leave(id) {
            change(&mut record);
            self.enter(record);
        }
    }

    fn enter(&mut self, record: JobRecord) {
        let id = record.job.id;
        match record.state {
            JobState::Buried | JobState::Held(_) => {}
            JobState::Leased { .. } | JobState::Waiting => drop(self.asleep.insert((record.due(), id))),
            JobState::Ready => {
                self.awake.insert((record.due(), id));
                let destinations = self.ready.entry(record.job.tenant).or_default();
                destinations.entry(record.destination()).or_default().insert((record.rank(), id));
            }
        }
        self.records.insert(id, record);
    }

    pub(super) fn leave(&mut self, id: JobId) -> Option<JobRecord> {
        let record = self.records.remove(&id)?;
        match record.state {
            JobState::Buried | JobState::Held(_) => {}
            JobState::Leased { .. } | JobState::Waiting => drop(self.asleep.remove(&(record.due(), id))),
            JobState::Ready => {
                self.awake.remove(&(record.due(), id));
                self.remove_ready(&record);
            }
        }
        Some(record)
    }

    fn remove_ready(&mut self, record: &JobRecord) {
        let Some(destinations) = self.ready.get_mut(&record.job.tenant) else { return };
        if let Entry::Occupied(mut jobs) = destinations.entry(record.destination()) {
            jobs.get_mut().remove(&(record.rank(), record.job.id));
            if jobs.get().is_empty() {
                jobs.remove();
            }
        }
        if destinations.is_empty() {
            self.ready.remove(&record.job.tenant);
        }
    }

    fn stats(&self, now: Timestamp) -> BTreeMap<String, QueueStats> {
        let mut kinds: BTreeMap<String, QueueStats> = BTreeMap::new();
        for record in self.records.values() {
            if kinds.len() >= QueueStats::KINDS && !kinds.contains_key(&record.job.kind) {
                continue;
            }
            let stats = kinds.entry(record.job.kind.clone()).or_default();
            let due = record.due();
            let count = match record.state {
                JobState::Buried => &mut stats.buried,
                JobState::Held(_) => &mut stats.held,
                JobState::Leased { .. } if due > now => &mut stats.leased,
                JobState::Ready | JobState::Waiting if due > now => &mut stats.waiting,
                JobState::Leased { .. } | JobState::Ready | JobState::Waiting => {
                    stats.oldest_due = Some(stats.oldest_due.map_or(due, |oldest| oldest.min(due)));
                    &mut stats.ready
                }
            };
            *count = (*count + 1).min(QueueStats::BOUND);
        }
        kinds
    }

    fn next_due(&self) -> Option<Timestamp> {
        [self.asleep.first(), self.awake.first()].into_iter().flatten().map(|(due, _)| *due).min()
    }
}

impl JobRecord {
    fn new(job: NewJob, now: Timestamp) -> Self {
        let (created_at, last_error, give_up, route) = (job.made_at(now), None, false, None);
        let state = job.held.map_or(JobState::Waiting, JobState::Held);
        Self { job, created_at, attempts: 0, last_error, give_up, route, token: None, state }
    }

    fn destination(&self) -> String {
        self.job.destination.clone().unwrap_or_default()
    }

    /// When the job can be taken; without a meaning if it is held or given up.
    pub(super) fn due(&self) -> Timestamp {
        match self.state {
            JobState::Leased { until } => until,
            JobState::Buried | JobState::Held(_) | JobState::Ready | JobState::Waiting => self.job.not_before,
        }
    }

    fn rank(&self) -> Timestamp {
        self.job.rank()
    }
}

/// All entries, from the one behind the one served last, going round.
fn ring<'a, K: Ord + Borrow<Q>, Q: Ord + ?Sized, V>(
    entries: &'a BTreeMap<K, V>,
    last: Option<&Q>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    let behind = last.map(|last| entries.range::<Q, _>((Bound::Excluded(last), Bound::Unbounded)));
    let before = match last {
        Some(last) => entries.range::<Q, _>((Bound::Unbounded, Bound::Included(last))),
        None => entries.range::<Q, _>(..),
    };
    behind.into_iter().flatten().chain(before)
}
