//! Work: lease jobs, do them, give them back or end them.

mod apart;
pub(crate) mod cleanup;
mod deliver;
mod doubt;
pub(crate) mod dsn;
pub(crate) mod index;
pub(crate) mod internal;
pub(crate) mod job;
mod lanes;
mod local;
mod notice;
mod post_receive;
mod ramp_up;
pub(crate) mod retry;
mod tried;
mod webhook;

use std::any::Any;
use std::future::Future;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use mairust_core::{Clock, Domain, Rate, Timestamp};
use mairust_hooks::PolicyEngine;
use mairust_smtp::client::{Client, Relay};
use mairust_store::{HoldReason, Lease, QueueAction, QueueFilter, StorageBackend, StoreError, StoreErrorKind, pause};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tracing::Instrument;

pub use self::doubt::InDoubt;
use self::job::Job;
pub use self::lanes::DomainLimit;
use self::lanes::Lanes;
use self::ramp_up::RampUp;
use self::retry::{Next, RetryPolicy, jitter};
use crate::audit::Recorder;
use crate::hooks::BoundHooks;
use crate::metrics::Metrics;
use crate::outbound::Outbound;
use crate::receive::recipient::Recipients;
use crate::return_path::{ReturnPath, ReturnPaths};
use crate::signing::Signing;
use crate::suppress::Suppressing;
use crate::time::{sleep, sleep_until};
use crate::webhooks::Telling;

/// How long to wait before the queue is asked again after it failed.
const QUEUE_DOWN_PAUSE: Duration = Duration::from_secs(1);

/// How long to wait before the queue is asked again when it has a job that is due but gave none.
const DUE_PAUSE: Duration = Duration::from_millis(1);

/// How long to wait before the queue is asked again when what is due may have no room: nothing tells when work for
/// another destination becomes due meanwhile. What is added is seen at once.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// Does the jobs of the queue.
#[derive(Debug)]
pub(crate) struct Workers {
    pub(crate) hostname: Domain,
    pub(crate) storage: Arc<dyn StorageBackend>,
    pub(crate) hooks: Arc<BoundHooks>,
    pub(crate) client: Client,
    pub(crate) recipients: Arc<Recipients>,
    pub(crate) outbound: Outbound,
    pub(crate) signing: Arc<Signing>,
    pub(crate) settings: DeliverySettings,
    pub(crate) suppressing: Arc<Suppressing>,
    /// `None`: mail does not come back to addresses of ours.
    pub(crate) return_paths: Option<Arc<ReturnPaths>>,
    /// `None`: no audit log is kept.
    /// What is being done for whom.
    pub(crate) lanes: Lanes,
    /// Hears of recipients who were refused.
    pub(crate) policy: Arc<dyn PolicyEngine>,
    pub(crate) recorder: Option<Arc<Recorder>>,
    pub(crate) telling: Telling,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// How mail to other servers is delivered.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeliverySettings {
    /// A host that takes all mail; without it the MX of each domain does.
    pub relay: Option<Relay>,
    /// The port of mail exchangers. Default 25.
    pub mx_port: u16,
    /// Whether mail exchangers and hosts of MTA-STS policies may be at loopback addresses, as in
    /// tests. Default no.
    pub allow_loopback: bool,
    /// Whether MTA-STS policies are obeyed (RFC 8461). Default yes.
    pub mta_sts: bool,
    /// The port of the hosts that MTA-STS policies come from. Default 443.
    pub mta_sts_port: u16,
    /// Certificates, in PEM, of authorities that are believed beside the built-in ones.
    pub tls_roots: Option<Vec<u8>>,
    /// Addresses of this machine that deliveries come from. Default: the operating system picks one.
    pub source_addresses: Vec<IpAddr>,
    /// Connections to one address of a host at a time. Twice as many jobs for one domain are done at the same time, but
    /// four fifths of the workers at most. Default 20.
    pub max_connections_per_host: usize,
    /// Deliveries to one domain within a time; each server counts for itself. Default: no limit.
    pub rate_per_domain: Option<Rate>,
    /// Domains with limits of their own. Default: none.
    pub domains: Vec<DomainLimit>,
    /// How long a connection is kept for another message; zero to keep none. Default 5 s.
    pub idle_time: Duration,
    /// Jobs done at the same time. Default 50.
    pub workers: usize,
    /// Jobs that are started within the first second after a start, or after the queue did not
    /// answer; in each further second twice as many. 0 for no bound. Default 100.
    pub ramp_up: u32,
    /// How long a worker may hold a job before another takes it over; renewed while it works.
    /// Default 60 s.
    pub lease: Duration,
    /// Time to connect to a host. Default 30 s.
    pub connect_timeout: Duration,
    /// When to try again, and when to give up.
    pub retry: RetryPolicy,
    /// What becomes of a delivery whose end is not known, after a crash or a lost answer. Default: it is tried
    /// again.
    pub in_doubt: InDoubt,
    /// Age at which the sender of a message is told that it is late, once for each recipient; zero for
    /// never. Default 4 hours.
    pub delay_notice_after: Duration,
    /// How far ahead the time may lie at which submitted mail is to be sent; zero if none is taken that is to wait.
    /// Default 30 days.
    pub max_future_release: Duration,
    /// MAIL FROM. Default: the sender, as submitted. Mail that comes back to other return paths is known, whatever is
    /// set now; they need a [`server_key`](crate::ServerBuilder::server_key).
    pub return_path: ReturnPath,
    /// Whether addresses of which their servers say that they do not exist come on the suppression list of the
    /// tenant. Default yes.
    pub suppress_bounced: bool,
}

/// What becomes of a job when it was worked on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// Again when the result of a hook is there, or at this moment at the latest.
    Await(Timestamp, String),
    /// It can't ever be done; kept for people to look at.
    Bury(String),
    /// Done.
    Complete,
    /// Done, and completed together with what came of it.
    Completed,
    /// Not before somebody releases it.
    Hold(HoldReason, String),
    /// Again, after this time.
    Retry(Duration, String),
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            relay: None,
            mx_port: 25,
            allow_loopback: false,
            mta_sts: true,
            mta_sts_port: 443,
            tls_roots: None,
            source_addresses: Vec::new(),
            max_connections_per_host: 20,
            rate_per_domain: None,
            domains: Vec::new(),
            idle_time: Duration::from_secs(5),
            workers: 50,
            ramp_up: 100,
            lease: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(30),
            retry: RetryPolicy::default(),
            in_doubt: InDoubt::default(),
            delay_notice_after: Duration::from_secs(4 * 3_600),
            max_future_release: Duration::from_secs(30 * 86_400),
            return_path: ReturnPath::default(),
            suppress_bounced: true,
        }
    }
}

impl DeliverySettings {
    /// What is done for one destination at the same time, and within a time.
    pub(crate) fn lanes(&self, clock: Arc<dyn Clock>) -> Lanes {
        Lanes::new(self.jobs_per_destination(), self.rate_per_domain, &self.domains, clock)
    }

    /// How many jobs for one destination are done at the same time: one for each connection, and one that is ready
    /// when it is free; but some workers are always left to others.
    fn jobs_per_destination(&self) -> usize {
        self.max_connections_per_host.saturating_mul(2).min(self.workers.saturating_mul(4) / 5).max(1)
    }
}

impl Workers {
    /// Works until `stop`, then ends what was begun.
    pub(crate) async fn run(self: Arc<Self>, stop: impl Future<Output = ()> + Send) {
        let slots = Arc::new(Semaphore::new(self.settings.workers));
        let mut tasks = JoinSet::new();
        let (mut ramp_up, mut began) = (RampUp::new(self.settings.ramp_up), Instant::now());
        tokio::pin!(stop);
        loop {
            // Read before looking, so that a job added in between is not slept over.
            let seen = self.storage.queue().version();
            while let Some(ended) = tasks.try_join_next() {
                report(ended);
            }
            let free = u32::try_from(slots.available_permits()).unwrap_or(u32::MAX);
            let max = free.min(ramp_up.allowed(began.elapsed()));
            let leases = match self.lease(max).await {
                Ok(leases) => leases,
                Err(error) => {
                    // The storage itself says when it runs out of room.
                    if error.kind() != StoreErrorKind::Full {
                        tracing::error!(
                            component = "work",
                            error = crate::error::chain(&error),
                            "the queue does not answer"
                        );
                    }
                    (ramp_up, began) = (RampUp::new(self.settings.ramp_up), Instant::now());
                    tokio::select! {
                        () = &mut stop => break,
                        () = tokio::time::sleep(QUEUE_DOWN_PAUSE) => continue,
                    }
                }
            };
            ramp_up.started(leases.len());
            let may_be_more = leases.len() as u32 == max;
            for lease in leases {
                let held = (slots.clone().try_acquire_owned(), self.lanes.begin(lease.destination.as_deref()));
                let worker = self.clone();
                tasks.spawn(async move {
                    worker.work(lease).await;
                    drop(held);
                });
            }
            tokio::select! {
                () = &mut stop => break,
                () = self.something_to_do(seen), if !may_be_more => {}
                () = tokio::time::sleep(RampUp::pause(began.elapsed())), if may_be_more && max < free => {}
                // A slot became free.
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => report(ended),
            }
        }
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
    }

    async fn lease(&self, max: u32) -> Result<Vec<Lease>, StoreError> {
        if max == 0 {
            return Ok(Vec::new());
        }
        self.storage.queue().lease_within(self.clock.now(), max, self.settings.lease, &self.lanes.bounds()).await
    }

    /// Waits until jobs were added or given back, or the next one is due; if a destination has no room, what is due
    /// may be for that one.
    async fn something_to_do(&self, seen: u64) {
        let queue = self.storage.queue();
        let next = queue.next_due().await;
        let now = self.clock.now();
        // A lease of another process may end without a sign to this one.
        let latest = now.plus(self.settings.lease);
        let wait = async {
            match next {
                Ok(Some(due)) if due <= now && self.lanes.are_full() => self.room().await,
                // It became due after it was looked for.
                Ok(Some(due)) if due <= now => tokio::time::sleep(DUE_PAUSE).await,
                Ok(due) => sleep_until(&*self.clock, due.map_or(latest, |due| due.min(latest))).await,
                Err(_) => tokio::time::sleep(QUEUE_DOWN_PAUSE).await,
            }
        };
        tokio::select! {
            () = wait => {}
            _ = queue.changed(seen) => {}
        }
    }

    /// Waits until a destination that had none may have room.
    async fn room(&self) {
        let token = async {
            match self.lanes.next_token() {
                Some(at) => sleep_until(&*self.clock, at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = token => {}
            () = tokio::time::sleep(FULL_PAUSE) => {}
        }
    }

    /// Does one job, renewing its lease, and settles it.
    async fn work(&self, lease: Lease) {
        let span = tracing::info_span!("job", component = "work", job_id = %lease.job, tenant_id = %lease.tenant);
        async {
            let disposition = tokio::select! {
                disposition = self.dispatch(&lease) => disposition,
                () = self.keep(&lease) => {
                    tracing::warn!(component = "work", "the lease was lost, another worker has the job");
                    self.metrics.lease_lost();
                    return;
                }
            };
            let is_paused = matches!(disposition, Disposition::Hold(HoldReason::Paused, _));
            match settle(&*self.storage, &lease, self.clock.now(), disposition).await {
                Ok(true) if is_paused => self.release_if_resumed(&lease).await,
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!(component = "work", "the lease was lost before the job was settled");
                    self.metrics.lease_lost();
                }
                // The lease ends by itself, and the job is done again.
                Err(error) => tracing::error!(
                    component = "work",
                    error = crate::error::chain(&error),
                    "the job could not be settled"
                ),
            }
        }
        .instrument(span)
        .await;
    }

    /// Does a job. One that panics is like one that fails: tried again later, and given up in the
    /// end.
    async fn dispatch(&self, lease: &Lease) -> Disposition {
        let job = match Job::of(lease) {
            Ok(job) => job,
            Err(error) => return Disposition::Bury(error),
        };
        match AssertUnwindSafe(self.perform(lease, &job)).catch_unwind().await {
            Ok(disposition) => disposition,
            Err(panic) => {
                let reason = format!("the job panicked: {}", panic_text(&*panic));
                tracing::error!(
                    component = "work",
                    kind = lease.kind,
                    attempt = lease.attempts,
                    reason,
                    "a fault of ours"
                );
                let given_up = AssertUnwindSafe(self.after_panic(lease, &job, reason.clone())).catch_unwind().await;
                given_up.unwrap_or(Disposition::Bury(reason))
            }
        }
    }

    /// Who ends a pause releases what is held at that moment: what was parked just then must not stay behind.
    async fn release_if_resumed(&self, lease: &Lease) {
        let release = async {
            let paused = pause::paused(&*self.storage, lease.tenant).await?;
            if lease.destination.as_deref().is_some_and(|destination| !paused.covers(destination)) {
                let filter = QueueFilter { held: Some(HoldReason::Paused), ..QueueFilter::one(lease.job) };
                let (queue, now) = (self.storage.queue(), self.clock.now());
                queue.change(lease.tenant, &filter, &QueueAction::Release, now, None, 1).await?;
            }
            Ok::<_, StoreError>(())
        };
        if let Err(error) = release.await {
            let error = crate::error::chain(&error);
            tracing::error!(component = "work", error, "whether the pause has ended meanwhile can't be found out");
        }
    }

    async fn perform(&self, lease: &Lease, job: &Job) -> Disposition {
        match job {
            Job::Deliver { message, domain } => self.deliver(lease, *message, domain).await,
            Job::CatchUp { message, hook } => self.catch_up(lease, *message, hook).await,
            Job::PostReceive { message, hook } => self.post_receive(lease, *message, hook).await,
            Job::Webhook { delivery, .. } => self.webhook(lease, *delivery).await,
        }
    }

    async fn after_panic(&self, lease: &Lease, job: &Job, reason: String) -> Disposition {
        let Job::Deliver { message, domain } = job else {
            return post_receive::again(lease, lease.attempts, None, reason);
        };
        let age = self.clock.now().since(lease.created_at);
        match self.settings.retry.next(lease.attempts, age, jitter(lease.job, lease.attempts)) {
            Next::After(wait) => Disposition::Retry(wait, reason),
            Next::GiveUp => self.give_up(lease, *message, domain, "given up after repeated faults of our system").await,
        }
    }

    /// Renews the lease; returns when it is lost.
    async fn keep(&self, lease: &Lease) {
        loop {
            sleep(&*self.clock, self.settings.lease / 3).await;
            let until = self.clock.now().plus(self.settings.lease);
            match self.storage.queue().extend(lease, until).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(component = "work", error = crate::error::chain(&error), "lease not renewed")
                }
            }
        }
    }
}

/// A job whose task was ended from outside is done again when its lease has ended.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(component = "work", %error, "a job ended abnormally");
    }
}

async fn settle(
    storage: &dyn StorageBackend,
    lease: &Lease,
    now: Timestamp,
    disposition: Disposition,
) -> Result<bool, StoreError> {
    let queue = storage.queue();
    match disposition {
        Disposition::Await(until, reason) => {
            let held = queue.retry(lease, until, &reason).await?;
            // It may have come while the job was being given back.
            storage.hooks().wake_settled(lease.tenant, lease.job, now).await?;
            Ok(held)
        }
        Disposition::Complete => queue.complete(lease).await,
        Disposition::Completed => Ok(true),
        Disposition::Hold(because, reason) => {
            tracing::info!(component = "work", because = because.as_str(), reason, "the delivery is held");
            queue.park(lease, because, &reason).await
        }
        Disposition::Retry(after, reason) => queue.retry(lease, now.plus(after), &reason).await,
        Disposition::Bury(reason) => {
            tracing::error!(component = "work", kind = lease.kind, reason, "the job is given up and kept");
            queue.bury(lease, &reason).await
        }
    }
}

/// What a panic says about itself.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
