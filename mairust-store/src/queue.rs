//! The queue: jobs, and the time-limited right of one worker to do one.
//!
//! Fairness is a matter of the order in which due jobs are taken, see [`QueueBackend::lease_within`]; how many may
//! go to one destination at the same time, whoever takes them says.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{JobId, MessageId, TenantId, Timestamp};

use crate::error::StoreError;

mod item;
mod lane;
pub(crate) mod turns;

pub use self::item::{
    DestinationStats, HoldReason, ItemState, QueueAction, QueueChange, QueueFilter, QueueItem, QueuePosition,
    QueueTotal,
};
pub use self::lane::LaneBounds;

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
    /// How urgent it is among the jobs of its tenant for the same destination.
    pub priority: Priority,
    /// Where the work leads: the domain of a delivery, in the form of
    /// [`Domain::as_str`](mairust_core::Domain::as_str), or a name that no domain can have; `None` for work that
    /// stays here.
    pub destination: Option<String>,
    /// The message that the work is about.
    pub message: Option<MessageId>,
    /// Why it is held from the beginning, until somebody releases it; `None` if it is not.
    pub held: Option<HoldReason>,
}

/// How urgent a job is among the jobs of its tenant for the same destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Priority {
    /// Somebody waits for it.
    Urgent,
    /// What is not said to be anything else.
    #[default]
    Normal,
    /// Mail to many, work that nobody waits for.
    Bulk,
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
    /// What to do; `None` if what is stored can't be read any more. Such a job is to be buried.
    pub payload: Option<serde_json::Value>,
    /// How urgent it is.
    pub priority: Priority,
    /// Where the work leads, if it leads anywhere.
    pub destination: Option<String>,
    /// How often it was leased, this time included.
    pub attempts: u32,
    /// Whether it is to be given up instead of being done, because an operator wants it.
    pub give_up: bool,
    /// The way that it is to go instead of the usual one, as an operator wrote it.
    pub route: Option<String>,
    /// When the job was made, or first due if that was later.
    pub created_at: Timestamp,
    /// When the lease ends.
    pub until: Timestamp,
    /// What tells this lease from an earlier or later one.
    pub token: FencingToken,
}

/// What tells the leases of one job apart.
///
/// Of two leases of the same job the later one has the greater token, whatever the clocks of the
/// workers say. Whoever keeps something for a job, inside of the queue or elsewhere, can therefore
/// refuse a worker that comes with a smaller token than one it has seen: that worker was declared
/// dead. The queue itself goes further and takes only the token of the current lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FencingToken {
    attempt: u32,
    nonce: [u8; 16],
}

/// How much there is to do of one kind. Each count stops at [`BOUND`](Self::BOUND), so that
/// counting a backlog of millions costs no more than counting that many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// Jobs that are due.
    pub ready: u64,
    /// Jobs whose time has not come.
    pub waiting: u64,
    /// Jobs being done.
    pub leased: u64,
    /// Jobs that are held until somebody releases them.
    pub held: u64,
    /// Jobs that were given up and are kept for people to look at.
    pub buried: u64,
    /// Since when the job has been due that has been due the longest.
    pub oldest_due: Option<Timestamp>,
}

/// Work to be done, at least once. All times come from the caller.
#[async_trait]
pub trait QueueBackend: fmt::Debug + Send + Sync + 'static {
    /// Adds jobs: all or none, durable on return.
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<(), StoreError>;

    /// Takes jobs, as [`lease_within`](Self::lease_within) without bounds.
    ///
    /// # Errors
    /// As there.
    async fn lease(&self, now: Timestamp, max: u32, ttl: Duration) -> Result<Vec<Lease>, StoreError> {
        self.lease_within(now, max, ttl, &LaneBounds::default()).await
    }

    /// Takes up to `max` jobs that are due, or whose lease has ended, for no destination more than there is
    /// [room](LaneBounds::room) for. Each goes to one caller only until `now + ttl`. If the future is dropped
    /// after the jobs were taken, their leases end by themselves.
    ///
    /// They are taken in turns, and the order of the answer is that of the turns:
    /// 1. Between two jobs of one tenant, each other tenant with a due job gets one.
    /// 2. Between two jobs of one tenant for one destination, each other destination of this tenant
    ///    with a due job gets one; jobs without a destination count as one destination.
    /// 3. For one tenant and destination, jobs go by [`NewJob::rank`]; one that was given back by
    ///    the rank that follows from the time for which it was given back.
    ///
    /// A destination without room has no turns. So no backlog keeps another tenant or destination waiting for
    /// longer than one job each, and nothing starves. What it costs depends on `max`, neither on the number of jobs nor on that
    /// of tenants and destinations. Turns are remembered by each process for itself, and not
    /// longer than it runs.
    ///
    /// # Errors
    /// `Full` while there is too little room on the disk for what comes of work: no job is taken then.
    async fn lease_within(
        &self,
        now: Timestamp,
        max: u32,
        ttl: Duration,
        bounds: &LaneBounds,
    ) -> Result<Vec<Lease>, StoreError>;

    /// Moves the end of a lease; `false` if it was lost: the job was taken again, given back or
    /// ended. A lease that has ended is not lost before that. So it is for all that ends a lease.
    async fn extend(&self, lease: &Lease, until: Timestamp) -> Result<bool, StoreError>;

    /// Ends a job for good; `false` if the lease was lost. Durable on return.
    async fn complete(&self, lease: &Lease) -> Result<bool, StoreError>;

    /// Gives a job back, to be started at `at`; `false` if the lease was lost. Durable on return.
    async fn retry(&self, lease: &Lease, at: Timestamp, reason: &str) -> Result<bool, StoreError>;

    /// Gives a job up but keeps it; `false` if the lease was lost. Durable on return.
    async fn bury(&self, lease: &Lease, reason: &str) -> Result<bool, StoreError>;

    /// Gives a job back, to be held until somebody releases it; `false` if the lease was lost. Durable on return.
    async fn park(&self, lease: &Lease, because: HoldReason, reason: &str) -> Result<bool, StoreError>;

    /// The items of a tenant that the filter lets through, in the order of their positions: up to `limit`, behind
    /// `after`.
    async fn items(
        &self,
        tenant: TenantId,
        filter: &QueueFilter,
        after: Option<QueuePosition>,
        limit: u32,
    ) -> Result<Vec<QueueItem>, StoreError>;

    /// Does something to up to `limit` items of a tenant behind `after` that the filter lets through, those in
    /// which it would change nothing left alone. What is leased is left alone, too, unless the lease has ended:
    /// then whoever had it can no longer finish it. All or nothing of one call, durable on return, and in one
    /// order with all leases: what this has changed is not being delivered.
    ///
    /// # Errors
    /// `Invalid` if the filter names too many items.
    async fn change(
        &self,
        tenant: TenantId,
        filter: &QueueFilter,
        action: &QueueAction,
        now: Timestamp,
        after: Option<QueuePosition>,
        limit: u32,
    ) -> Result<QueueChange, StoreError>;

    /// Makes jobs of a tenant due at once that were given up, items or not; how many. Durable on return.
    ///
    /// # Errors
    /// `Invalid` for more than [`QueueFilter::MAX_IDS`].
    async fn retry_buried(&self, tenant: TenantId, jobs: &[JobId], now: Timestamp) -> Result<u32, StoreError>;

    /// What there is for each destination of a tenant, those with the most items first, up to `limit`. Looks at
    /// all items of the tenant.
    async fn destinations(
        &self,
        tenant: TenantId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<DestinationStats>, StoreError>;

    /// How much there is to do, by kind; of [`QueueStats::KINDS`] kinds at most.
    async fn stats(&self, now: Timestamp) -> Result<BTreeMap<String, QueueStats>, StoreError>;

    /// When the next job will be due or the next lease will end; `None` if there is neither.
    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError>;

    /// A number that grows whenever jobs are added or given back.
    fn version(&self) -> u64;

    /// Waits until [`version`](Self::version) is above `seen`, and returns it. Safe to drop.
    async fn changed(&self, seen: u64) -> u64;
}

/// Items that [`change_all`] looks at in one step.
const PAGE: u32 = 500;

/// Does something to all items of a tenant that the filter lets through, in steps that are short enough to be in
/// nobody's way. What was done before an error is done, and in `total`.
///
/// # Errors
/// As [`QueueBackend::change`].
pub async fn change_all(
    queue: &dyn QueueBackend,
    tenant: TenantId,
    (filter, action): (&QueueFilter, &QueueAction),
    now: Timestamp,
    total: &mut QueueTotal,
) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let page = queue.change(tenant, filter, action, now, after, PAGE).await?;
        total.changed += u64::from(page.changed);
        total.busy += u64::from(page.busy);
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

impl Priority {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Urgent, Self::Normal, Self::Bulk];

    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Normal => "normal",
            Self::Bulk => "bulk",
        }
    }

    /// The priority of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| priority.as_str() == name)
    }

    /// How much longer a job of this priority must have been due to go before an urgent one: a day
    /// for each step. So a more urgent job goes first whatever the backlog, except before one that
    /// has been kept waiting by such jobs for a day.
    pub fn handicap(self) -> Duration {
        const DAY: Duration = Duration::from_secs(86_400);
        match self {
            Self::Urgent => Duration::ZERO,
            Self::Normal => DAY,
            Self::Bulk => 2 * DAY,
        }
    }
}

impl NewJob {
    /// The place of the job among those that are due: the time since when it has been due, and the
    /// [handicap](Priority::handicap) of its priority. The smallest goes first.
    pub fn rank(&self) -> Timestamp {
        self.not_before.plus(self.priority.handicap())
    }

    /// From when on its age counts if it is added at `now`: work for later is not old when its time comes.
    pub fn made_at(&self, now: Timestamp) -> Timestamp {
        self.not_before.max(now)
    }
}

impl FencingToken {
    /// The token of attempt number `attempt`, the first being 1; `nonce` is random.
    pub fn new(attempt: u32, nonce: [u8; 16]) -> Self {
        Self { attempt, nonce }
    }

    /// How often the job was leased, this time included.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// What can't be guessed.
    pub fn nonce(&self) -> &[u8; 16] {
        &self.nonce
    }
}

impl Lease {
    /// A lease of this job, for those who make a backend; `created_at` by [`NewJob::made_at`].
    pub fn new(job: NewJob, created_at: Timestamp, token: FencingToken, until: Timestamp) -> Self {
        Self {
            job: job.id,
            tenant: job.tenant,
            kind: job.kind,
            payload: Some(job.payload),
            priority: job.priority,
            destination: job.destination,
            attempts: token.attempt,
            give_up: false,
            route: None,
            created_at,
            until,
            token,
        }
    }
}

impl QueueStats {
    /// Where counting stops.
    pub const BOUND: u64 = 10_000;
    /// How many kinds are told apart.
    pub const KINDS: usize = 32;
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
    async fn lease_within(
        &self,
        now: Timestamp,
        max: u32,
        ttl: Duration,
        bounds: &LaneBounds,
    ) -> Result<Vec<Lease>, StoreError> {
        (**self).lease_within(now, max, ttl, bounds).await
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
    async fn park(&self, lease: &Lease, because: HoldReason, reason: &str) -> Result<bool, StoreError> {
        (**self).park(lease, because, reason).await
    }
    async fn items(
        &self,
        tenant: TenantId,
        filter: &QueueFilter,
        after: Option<QueuePosition>,
        limit: u32,
    ) -> Result<Vec<QueueItem>, StoreError> {
        (**self).items(tenant, filter, after, limit).await
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
        (**self).change(tenant, filter, action, now, after, limit).await
    }
    async fn retry_buried(&self, tenant: TenantId, jobs: &[JobId], now: Timestamp) -> Result<u32, StoreError> {
        (**self).retry_buried(tenant, jobs, now).await
    }
    async fn destinations(
        &self,
        tenant: TenantId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<DestinationStats>, StoreError> {
        (**self).destinations(tenant, now, limit).await
    }
    async fn stats(&self, now: Timestamp) -> Result<BTreeMap<String, QueueStats>, StoreError> {
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
