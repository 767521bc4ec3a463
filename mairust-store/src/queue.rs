//! The queue: jobs, and the time-limited right of one worker to do one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{JobId, TenantId, Timestamp};

use crate::error::StoreError;

/// Work to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// Its id.
    pub id: JobId,
    /// Whose work it is.
    pub tenant: TenantId,
    /// What kind of work, for example `deliver`.
    pub kind: String,
    /// What to do: JSON with a version, written and read by whoever knows the kind.
    pub payload: serde_json::Value,
    /// Not to be started before.
    pub not_before: Timestamp,
}

/// The right to do a job until the lease ends. Finishing compares the token: who lost the lease
/// can no longer change the job.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Lease {
    /// The job.
    pub job: JobId,
    /// Whose work it is.
    pub tenant: TenantId,
    /// What kind of work.
    pub kind: String,
    /// What to do.
    pub payload: serde_json::Value,
    /// How often it was leased, this time included.
    pub attempts: u32,
    /// When the job was made.
    pub created_at: Timestamp,
    /// When the lease ends.
    pub until: Timestamp,
    /// What tells this lease from an earlier or later one.
    pub token: [u8; 16],
}

/// How much there is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// Jobs that are due.
    pub ready: u64,
    /// Jobs whose time has not come.
    pub waiting: u64,
    /// Jobs being done.
    pub leased: u64,
    /// Jobs that were given up and are kept for people to look at.
    pub buried: u64,
}

/// Work to be done, at least once. All times come from the caller.
#[async_trait]
pub trait QueueBackend: fmt::Debug + Send + Sync + 'static {
    /// Adds jobs: all or none, durable on return.
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<(), StoreError>;

    /// Takes up to `max` jobs that are due, or whose lease has ended, the longest due first.
    /// Each goes to one caller only until `now + ttl`. If the future is dropped after the jobs
    /// were taken, their leases end by themselves.
    async fn lease(&self, now: Timestamp, max: u32, ttl: Duration) -> Result<Vec<Lease>, StoreError>;

    /// Moves the end of a lease; `false` if it was lost.
    async fn extend(&self, lease: &Lease, until: Timestamp) -> Result<bool, StoreError>;

    /// Ends a job for good; `false` if the lease was lost. Durable on return.
    async fn complete(&self, lease: &Lease) -> Result<bool, StoreError>;

    /// Gives a job back, to be started at `at`; `false` if the lease was lost. Durable on return.
    async fn retry(&self, lease: &Lease, at: Timestamp, reason: &str) -> Result<bool, StoreError>;

    /// Gives a job up but keeps it; `false` if the lease was lost. Durable on return.
    async fn bury(&self, lease: &Lease, reason: &str) -> Result<bool, StoreError>;

    /// How much there is to do.
    async fn stats(&self, now: Timestamp) -> Result<QueueStats, StoreError>;

    /// When the next job will be due or the next lease will end; `None` if there is neither.
    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError>;

    /// A number that grows whenever jobs are added or given back.
    fn version(&self) -> u64;

    /// Waits until [`version`](Self::version) is above `seen`, and returns it. Safe to drop.
    async fn changed(&self, seen: u64) -> u64;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: QueueBackend + ?Sized> QueueBackend for Arc<T> {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<(), StoreError> {
        (**self).enqueue(jobs).await
    }
    async fn lease(&self, now: Timestamp, max: u32, ttl: Duration) -> Result<Vec<Lease>, StoreError> {
        (**self).lease(now, max, ttl).await
    }
    async fn extend(&self, lease: &Lease, until: Timestamp) -> Result<bool, StoreError> {
        (**self).extend(lease, until).await
    }
    async fn complete(&self, lease: &Lease) -> Result<bool, StoreError> {
        (**self).complete(lease).await
    }
    async fn retry(&self, lease: &Lease, at: Timestamp, reason: &str) -> Result<bool, StoreError> {
        (**self).retry(lease, at, reason).await
    }
    async fn bury(&self, lease: &Lease, reason: &str) -> Result<bool, StoreError> {
        (**self).bury(lease, reason).await
    }
    async fn stats(&self, now: Timestamp) -> Result<QueueStats, StoreError> {
        (**self).stats(now).await
    }
    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        (**self).next_due().await
    }
    fn version(&self) -> u64 {
        (**self).version()
    }
    async fn changed(&self, seen: u64) -> u64 {
        (**self).changed(seen).await
    }
}
