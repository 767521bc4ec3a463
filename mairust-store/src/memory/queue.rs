//! The queue, in memory.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{JobId, Timestamp};

use super::{MemoryStorage, State};
use crate::error::{StoreError, StoreErrorKind};
use crate::queue::{Lease, NewJob, QueueBackend, QueueStats};

#[derive(Debug)]
pub(super) struct JobRecord {
    job: NewJob,
    created_at: Timestamp,
    attempts: u32,
    state: JobState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JobState {
    Buried,
    Leased { token: [u8; 16], until: Timestamp },
    Ready { not_before: Timestamp },
}

impl MemoryStorage {
    /// Changes the job of a lease, or says that the lease was lost.
    fn with_leased(&self, operation: &str, lease: &Lease, reason: &str, state: JobState) -> bool {
        let mut jobs = self.state();
        let Some(record) = jobs.leased(lease) else { return false };
        record.state = state;
        tracing::debug!(job = %lease.job, operation, reason, "a lease was ended");
        true
    }
}

#[async_trait]
impl QueueBackend for MemoryStorage {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<(), StoreError> {
        if jobs.is_empty() {
            return Ok(());
        }
        {
            let mut state = self.state();
            state.check_jobs("enqueue", &jobs)?;
            state.add_jobs(jobs, self.clock.now());
        }
        self.queue_changed.bump();
        Ok(())
    }

    async fn lease(&self, now: Timestamp, max: u32, ttl: Duration) -> Result<Vec<Lease>, StoreError> {
        let mut state = self.state();
        let due = state.jobs.iter().filter_map(|(id, record)| Some((record.due()?, *id)));
        let mut due: Vec<_> = due.filter(|(at, _)| *at <= now).collect();
        due.sort_unstable();
        due.truncate(usize::try_from(max).unwrap_or(usize::MAX));
        let (token, until) = (rand::random(), now.plus(ttl));
        let take = |(_, id): (Timestamp, JobId)| {
            let record = state.jobs.get_mut(&id)?;
            record.attempts += 1;
            record.state = JobState::Leased { token, until };
            Some(record.lease(token, until))
        };
        Ok(due.into_iter().filter_map(take).collect())
    }

    async fn extend(&self, lease: &Lease, until: Timestamp) -> Result<bool, StoreError> {
        Ok(self.with_leased("extend", lease, "", JobState::Leased { token: lease.token, until }))
    }

    async fn complete(&self, lease: &Lease) -> Result<bool, StoreError> {
        let mut state = self.state();
        let held = state.leased(lease).is_some();
        if held {
            state.jobs.remove(&lease.job);
        }
        Ok(held)
    }

    async fn retry(&self, lease: &Lease, at: Timestamp, reason: &str) -> Result<bool, StoreError> {
        let held = self.with_leased("retry", lease, reason, JobState::Ready { not_before: at });
        if held {
            self.queue_changed.bump();
        }
        Ok(held)
    }

    async fn bury(&self, lease: &Lease, reason: &str) -> Result<bool, StoreError> {
        Ok(self.with_leased("bury", lease, reason, JobState::Buried))
    }

    async fn stats(&self, now: Timestamp) -> Result<QueueStats, StoreError> {
        let mut stats = QueueStats::default();
        for record in self.state().jobs.values() {
            match record.state {
                JobState::Buried => stats.buried += 1,
                JobState::Leased { until, .. } if until > now => stats.leased += 1,
                JobState::Ready { not_before } if not_before > now => stats.waiting += 1,
                _ => stats.ready += 1,
            }
        }
        Ok(stats)
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.state().jobs.values().filter_map(JobRecord::due).min())
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
            if self.jobs.contains_key(&job.id) || !new.insert(job.id) {
                return Err(StoreError::new(StoreErrorKind::AlreadyExists, operation, job.id));
            }
        }
        Ok(())
    }

    pub(super) fn add_jobs(&mut self, jobs: Vec<NewJob>, now: Timestamp) {
        for job in jobs {
            let state = JobState::Ready { not_before: job.not_before };
            self.jobs.insert(job.id, JobRecord { job, created_at: now, attempts: 0, state });
        }
    }

    /// The job of a lease that was not lost.
    fn leased(&mut self, lease: &Lease) -> Option<&mut JobRecord> {
        let record = self.jobs.get_mut(&lease.job)?;
        matches!(record.state, JobState::Leased { token, .. } if token == lease.token).then_some(record)
    }
}

impl JobRecord {
    /// When the job can be taken; never if it is buried.
    fn due(&self) -> Option<Timestamp> {
        match self.state {
            JobState::Buried => None,
            JobState::Leased { until, .. } => Some(until),
            JobState::Ready { not_before } => Some(not_before),
        }
    }

    fn lease(&self, token: [u8; 16], until: Timestamp) -> Lease {
        Lease {
            job: self.job.id,
            tenant: self.job.tenant,
            kind: self.job.kind.clone(),
            payload: self.job.payload.clone(),
            attempts: self.attempts,
            created_at: self.created_at,
            until,
            token,
        }
    }
}
