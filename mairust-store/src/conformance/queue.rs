//! Cases for [`QueueBackend`](crate::QueueBackend).

#![expect(clippy::unwrap_used, reason = "a case that fails panics")]

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use mairust_core::{TenantId, Timestamp};

use super::sample::{NOW, Storage, alice, job, kind};
use crate::error::StoreErrorKind;
use crate::queue::{Lease, NewJob, QueueStats};

const TTL: Duration = Duration::from_secs(60);

/// Jobs come in the order of their times, no more than asked for, none before its time.
pub async fn leases_the_longest_due_first(storage: Storage) {
    let tenant = alice(&storage, "a.example").await.tenant;
    let jobs: Vec<_> = [3, 1, 2, 9].map(|seconds| job(tenant, at(seconds))).into();
    storage.queue().enqueue(jobs.clone()).await.unwrap();
    assert!(storage.queue().lease(at(0), 10, TTL).await.unwrap().is_empty());
    assert!(storage.queue().lease(at(5), 0, TTL).await.unwrap().is_empty());
    let mut leases = storage.queue().lease(at(5), 2, TTL).await.unwrap();
    leases.extend(storage.queue().lease(at(5), 2, TTL).await.unwrap());
    assert_eq!(leases.iter().map(|lease| lease.job).collect::<Vec<_>>(), [jobs[1].id, jobs[2].id, jobs[0].id]);
    let lease = &leases[0];
    assert_eq!((lease.tenant, lease.kind.as_str(), &lease.payload), (tenant, "work", &jobs[1].payload));
    assert_eq!((lease.attempts, lease.until), (1, at(65)));
}

/// Many workers at once: each job goes to one of them.
pub async fn leases_each_job_once(storage: Storage) {
    let tenant = alice(&storage, "a.example").await.tenant;
    storage.queue().enqueue((0..30).map(|_| job(tenant, NOW)).collect()).await.unwrap();
    let workers = (0..12).map(|_| storage.queue().lease(NOW, 4, TTL));
    let leases: Vec<_> = join_all(workers).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(leases.len(), 30);
    assert_eq!(leases.iter().map(|lease| lease.job).collect::<HashSet<_>>().len(), 30);
}

/// A worker that died: its job is taken by another one, and not before the lease has ended.
pub async fn an_ended_lease_is_taken_again(storage: Storage) {
    let first = leased(&storage).await;
    assert!(storage.queue().lease(at(59), 10, TTL).await.unwrap().is_empty());
    let again = storage.queue().lease(at(60), 10, TTL).await.unwrap();
    assert_eq!((again[0].job, again[0].attempts, again[0].created_at), (first.job, 2, first.created_at));
    assert_ne!(again[0].token, first.token);
}

/// Who lost a lease can do nothing with it any more.
pub async fn a_stale_lease_changes_nothing(storage: Storage) {
    let stale = leased(&storage).await;
    let current = storage.queue().lease(at(60), 10, TTL).await.unwrap().remove(0);
    let seen = storage.queue().version();
    assert!(!storage.queue().extend(&stale, at(999)).await.unwrap());
    assert!(!storage.queue().retry(&stale, at(0), "stale").await.unwrap());
    assert!(!storage.queue().bury(&stale, "stale").await.unwrap());
    assert!(!storage.queue().complete(&stale).await.unwrap());
    assert_eq!(storage.queue().version(), seen);
    assert_eq!(storage.queue().next_due().await.unwrap(), Some(at(120)));
    assert!(storage.queue().complete(&current).await.unwrap());
}

/// A job that is done is gone, and the second word about it says so.
pub async fn completes_once(storage: Storage) {
    let lease = leased(&storage).await;
    assert!(storage.queue().complete(&lease).await.unwrap());
    assert!(!storage.queue().complete(&lease).await.unwrap());
    assert!(!storage.queue().retry(&lease, NOW, "late").await.unwrap());
    assert_eq!(storage.queue().stats(NOW).await.unwrap(), QueueStats::default());
    assert_eq!(storage.queue().next_due().await.unwrap(), None);
}

/// A job that is given back waits for its time and counts its attempts.
pub async fn retries_later(storage: Storage) {
    let lease = leased(&storage).await;
    assert!(storage.queue().retry(&lease, at(300), "421 busy").await.unwrap());
    assert!(!storage.queue().retry(&lease, at(0), "twice").await.unwrap());
    assert_eq!(storage.queue().stats(NOW).await.unwrap(), QueueStats { waiting: 1, ..QueueStats::default() });
    assert!(storage.queue().lease(at(299), 10, TTL).await.unwrap().is_empty());
    let again = storage.queue().lease(at(300), 10, TTL).await.unwrap().remove(0);
    assert_eq!((again.job, again.attempts), (lease.job, 2));
}

/// A job that is given up is never taken again, but it is still there.
pub async fn buries_but_keeps(storage: Storage) {
    let lease = leased(&storage).await;
    assert!(storage.queue().bury(&lease, "550 no").await.unwrap());
    assert!(!storage.queue().bury(&lease, "twice").await.unwrap());
    assert!(storage.queue().lease(at(9_999), 10, TTL).await.unwrap().is_empty());
    assert_eq!(storage.queue().stats(at(9_999)).await.unwrap(), QueueStats { buried: 1, ..QueueStats::default() });
    assert_eq!(storage.queue().next_due().await.unwrap(), None);
}

/// A worker that needs longer keeps its job.
pub async fn extends_a_lease(storage: Storage) {
    let lease = leased(&storage).await;
    assert!(storage.queue().extend(&lease, at(200)).await.unwrap());
    assert!(storage.queue().lease(at(199), 10, TTL).await.unwrap().is_empty());
    assert_eq!(storage.queue().stats(at(199)).await.unwrap(), QueueStats { leased: 1, ..QueueStats::default() });
    assert_eq!(storage.queue().stats(at(200)).await.unwrap(), QueueStats { ready: 1, ..QueueStats::default() });
    assert!(storage.queue().complete(&lease).await.unwrap());
}

/// A job that is there already, or of a tenant that is not, keeps the others out too.
pub async fn enqueues_all_or_none(storage: Storage) {
    let tenant = alice(&storage, "a.example").await.tenant;
    let known = job(tenant, NOW);
    storage.queue().enqueue(vec![known.clone()]).await.unwrap();
    let refused = storage.queue().enqueue(vec![job(tenant, NOW), known]).await;
    assert_eq!(kind(refused), StoreErrorKind::AlreadyExists);
    let nobody = storage.queue().enqueue(vec![job(tenant, NOW), job(TenantId::new(NOW), NOW)]).await;
    assert_eq!(kind(nobody), StoreErrorKind::NotFound);
    assert_eq!(storage.queue().stats(NOW).await.unwrap(), QueueStats { ready: 1, ..QueueStats::default() });
}

/// The nearest of the times at which a job is due or a lease ends.
pub async fn says_when_the_next_job_is_due(storage: Storage) {
    assert_eq!(storage.queue().next_due().await.unwrap(), None);
    leased(&storage).await;
    assert_eq!(storage.queue().next_due().await.unwrap(), Some(at(60)));
    let tenant = alice(&storage, "b.example").await.tenant;
    storage.queue().enqueue(vec![job(tenant, at(90)), job(tenant, at(30))]).await.unwrap();
    assert_eq!(storage.queue().next_due().await.unwrap(), Some(at(30)));
}

/// Who waits is woken by new jobs and by jobs that are given back.
pub async fn wakes_who_waits_for_jobs(storage: Storage) {
    let queue = storage.queue();
    let tenant = alice(&storage, "a.example").await.tenant;
    let seen = queue.version();
    let (woken, enqueued) = futures::join!(queue.changed(seen), queue.enqueue(vec![job(tenant, NOW)]));
    enqueued.unwrap();
    assert!(woken > seen);
    assert_eq!(queue.changed(seen).await, queue.version());
    let lease = queue.lease(NOW, 1, TTL).await.unwrap().remove(0);
    let seen = queue.version();
    let (woken, retried) = futures::join!(queue.changed(seen), queue.retry(&lease, NOW, "again"));
    assert!(retried.unwrap() && woken > seen);
}

/// One job, leased now.
async fn leased(storage: &Storage) -> Lease {
    let job: NewJob = job(alice(storage, "a.example").await.tenant, NOW);
    storage.queue().enqueue(vec![job]).await.unwrap();
    storage.queue().lease(NOW, 10, TTL).await.unwrap().remove(0)
}

fn at(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}
