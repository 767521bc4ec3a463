//! Cases for [`QueueBackend`](crate::QueueBackend).

#![expect(clippy::unwrap_used, reason = "a case that fails panics")]

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures::future::join_all;
use mairust_core::{JobId, TenantId, Timestamp};

use super::sample::{NOW, Storage, alice, job, kind, queue_stats};
use crate::error::StoreErrorKind;
use crate::queue::{FencingToken, LaneBounds, Lease, NewJob, Priority, QueueStats};

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
    assert_eq!((lease.tenant, lease.kind.as_str(), lease.payload.as_ref()), (tenant, "work", Some(&jobs[1].payload)));
    assert_eq!((lease.priority, &lease.destination), (Priority::Normal, &None));
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
    assert_eq!((first.token.attempt(), again[0].token.attempt()), (1, 2));
    assert!(again[0].token > first.token);
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
    // Nor does one that another tenant made up.
    let other = alice(&storage, "b.example").await.tenant;
    let forged = Lease { tenant: other, token: FencingToken::new(current.attempts, [0; 16]), ..current.clone() };
    assert!(!storage.queue().extend(&forged, at(600)).await.unwrap());
    assert!(!storage.queue().retry(&forged, NOW, "forged").await.unwrap());
    assert!(!storage.queue().bury(&forged, "forged").await.unwrap());
    assert!(!storage.queue().complete(&forged).await.unwrap());
    assert!(storage.queue().complete(&current).await.unwrap());
}

/// A job that is done is gone, and the second word about it says so.
pub async fn completes_once(storage: Storage) {
    let lease = leased(&storage).await;
    assert!(storage.queue().complete(&lease).await.unwrap());
    assert!(!storage.queue().complete(&lease).await.unwrap());
    assert!(!storage.queue().retry(&lease, NOW, "late").await.unwrap());
    assert_eq!(queue_stats(&storage, NOW).await, QueueStats::default());
    assert_eq!(storage.queue().next_due().await.unwrap(), None);
}

/// A job that is given back waits for its time and counts its attempts.
pub async fn retries_later(storage: Storage) {
    let lease = leased(&storage).await;
    assert!(storage.queue().retry(&lease, at(300), "421 busy").await.unwrap());
    assert!(!storage.queue().retry(&lease, at(0), "twice").await.unwrap());
    assert_eq!(queue_stats(&storage, NOW).await, QueueStats { waiting: 1, ..QueueStats::default() });
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
    assert_eq!(queue_stats(&storage, at(9_999)).await, QueueStats { buried: 1, ..QueueStats::default() });
    assert_eq!(storage.queue().next_due().await.unwrap(), None);
}

/// A worker that needs longer keeps its job.
pub async fn extends_a_lease(storage: Storage) {
    let lease = leased(&storage).await;
    assert!(storage.queue().extend(&lease, at(200)).await.unwrap());
    assert!(storage.queue().lease(at(199), 10, TTL).await.unwrap().is_empty());
    assert_eq!(queue_stats(&storage, at(199)).await, QueueStats { leased: 1, ..QueueStats::default() });
    assert_eq!(
        queue_stats(&storage, at(200)).await,
        QueueStats { ready: 1, oldest_due: Some(at(200)), ..QueueStats::default() }
    );
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
    assert_eq!(
        queue_stats(&storage, NOW).await,
        QueueStats { ready: 1, oldest_due: Some(NOW), ..QueueStats::default() }
    );
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

/// A backlog of ten thousand delays another tenant's job by one of its jobs at most, however many
/// are taken at once.
pub async fn a_backlog_delays_no_other_tenant(storage: Storage) {
    let (busy, other) = (alice(&storage, "a.example").await.tenant, alice(&storage, "b.example").await.tenant);
    storage.queue().enqueue((0..10_000).map(|_| job(busy, NOW)).collect()).await.unwrap();
    for max in [1, 3, 16, 1] {
        let late = job(other, at(1));
        storage.queue().enqueue(vec![late.clone()]).await.unwrap();
        let taken = take(&storage, at(1), max, 2).await;
        assert!(taken[..2].iter().any(|lease| lease.job == late.id), "{max} at a time");
    }
}

/// Between two jobs of a tenant, each other tenant with a due job gets one: whatever comes first,
/// however many are taken at once, and however many destinations one has.
pub async fn tenants_take_turns(storage: Storage) {
    let mut counts = BTreeMap::new();
    for (name, count) in [("a.example", 40), ("b.example", 7), ("c.example", 1), ("d.example", 20)] {
        let tenant = alice(&storage, name).await.tenant;
        let to = |number: usize| bound_for(tenant, &format!("{}.example", number % (count / 3 + 1)));
        storage.queue().enqueue((0..count).map(to).collect()).await.unwrap();
        counts.insert(tenant, count);
    }
    let mut tenants = Vec::new();
    for max in [1, 2, 3, 5, 8, 64] {
        tenants.extend(take(&storage, NOW, max, max.min(8)).await.iter().map(|lease| lease.tenant));
    }
    assert_eq!(tenants.len(), 68);
    assert_in_turns(&tenants, counts);
}

/// Within a tenant, destinations take turns in the same way; no destination is one, too.
pub async fn destinations_take_turns(storage: Storage) {
    let tenant = alice(&storage, "a.example").await.tenant;
    let mut counts = BTreeMap::new();
    for (name, count) in [("x.example", 30), ("y.example", 2), ("", 5), ("ü%_'.example", 9)] {
        storage.queue().enqueue((0..count).map(|_| bound_for(tenant, name)).collect()).await.unwrap();
        counts.insert(name.to_owned(), count);
    }
    let mut names = Vec::new();
    for max in [1, 2, 3, 7, 64] {
        let taken = take(&storage, NOW, max, max.min(9)).await;
        names.extend(taken.into_iter().map(|lease| lease.destination.unwrap_or_default()));
    }
    assert_eq!(names.len(), 46);
    assert_in_turns(&names, counts);
}

/// No destination gets more than there is room for, of whatever tenant; work that stays here has no bound.
pub async fn destinations_have_bounds(storage: Storage) {
    let (a, b) = (alice(&storage, "a.example").await.tenant, alice(&storage, "b.example").await.tenant);
    let lanes = [(a, "busy.example", 9), (b, "busy.example", 9), (a, "free.example", 2), (b, "", 9)];
    let jobs = lanes.iter().flat_map(|(tenant, name, count)| (0..*count).map(|_| bound_for(*tenant, name)));
    storage.queue().enqueue(jobs.collect()).await.unwrap();
    let mut bounds = LaneBounds::new(5);
    bounds.begin("busy.example");
    bounds.begin("busy.example");
    let leases = storage.queue().lease_within(NOW, 100, TTL, &bounds).await.unwrap();
    let tenants = |name: &str| -> Vec<_> {
        let there = |lease: &&Lease| lease.destination.as_deref().unwrap_or_default() == name;
        leases.iter().filter(there).map(|lease| lease.tenant).collect()
    };
    assert_eq!((tenants("busy.example").len(), tenants("free.example").len(), tenants("").len()), (3, 2, 9));
    let share: HashSet<_> = tenants("busy.example").into_iter().collect();
    assert_eq!(share.len(), 2, "both tenants have a share of what there is room for");
    for _ in 0..3 {
        bounds.begin("busy.example");
    }
    assert!(storage.queue().lease_within(NOW, 100, TTL, &bounds).await.unwrap().is_empty());
    bounds.narrow("busy.example", 0);
    assert!(storage.queue().lease_within(at(1), 10, TTL, &bounds).await.unwrap().is_empty(), "less than the bound");
    bounds.narrow("busy.example", u32::MAX);
    bounds.end("busy.example");
    assert_eq!(storage.queue().lease_within(NOW, 100, TTL, &bounds).await.unwrap().len(), 1);
}

/// Backlogs of destinations without room keep neither other destinations nor other tenants waiting.
pub async fn what_has_no_room_is_in_nobodys_way(storage: Storage) {
    let mut bounds = LaneBounds::new(1);
    let mut jobs = Vec::new();
    for number in 0..5 {
        let tenant = alice(&storage, &format!("{number}.example")).await.tenant;
        for name in ["silent.example", "stalled.example"] {
            jobs.extend((0..10).map(|_| bound_for(tenant, name)));
        }
    }
    let last = jobs[99].tenant;
    jobs.push(bound_for(last, "free.example"));
    storage.queue().enqueue(jobs).await.unwrap();
    bounds.begin("silent.example");
    bounds.begin("stalled.example");
    let leases = storage.queue().lease_within(NOW, 1, TTL, &bounds).await.unwrap();
    let taken: Vec<_> = leases.iter().map(|lease| (lease.tenant, lease.destination.as_deref())).collect();
    assert_eq!(taken, [(last, Some("free.example"))]);
    assert!(storage.queue().lease_within(NOW, 1, TTL, &bounds).await.unwrap().is_empty());
}

/// The more urgent first, the longer due first, unless one was kept waiting for a day.
pub async fn urgent_jobs_go_first(storage: Storage) {
    let tenant = alice(&storage, "a.example").await.tenant;
    let with = |priority, seconds| NewJob { priority, ..job(tenant, at(seconds)) };
    let day = 86_400;
    let jobs = vec![
        with(Priority::Normal, 0),
        with(Priority::Urgent, day - 1),
        with(Priority::Urgent, day + 1),
        with(Priority::Bulk, 0),
        with(Priority::Normal, day + 2),
        with(Priority::Bulk, day),
    ];
    storage.queue().enqueue(jobs.clone()).await.unwrap();
    let order = take(&storage, at(day + 2), 2, 6).await;
    let expected = [1, 0, 2, 3, 4, 5].map(|index: usize| (jobs[index].id, jobs[index].priority));
    assert_eq!(order.iter().map(|lease| (lease.job, lease.priority)).collect::<Vec<_>>(), expected);
}

/// Jobs whose time has not come are in nobody's way.
pub async fn what_is_not_due_takes_no_turn(storage: Storage) {
    let (waits, works) = (alice(&storage, "a.example").await.tenant, alice(&storage, "b.example").await.tenant);
    let later = |number: usize| NewJob { not_before: at(100), ..bound_for(waits, &format!("{number}.example")) };
    storage.queue().enqueue((0..300).map(later).collect()).await.unwrap();
    storage.queue().enqueue((0..5).map(|_| job(works, NOW)).collect()).await.unwrap();
    let leases = storage.queue().lease(NOW, 4, TTL).await.unwrap();
    assert_eq!(leases.iter().map(|lease| lease.tenant).collect::<Vec<_>>(), [works; 4]);
    let leases = storage.queue().lease(at(100), 300, Duration::from_secs(600)).await.unwrap();
    assert_eq!(leases.iter().map(|lease| lease.job).collect::<HashSet<_>>().len(), 300);
}

/// Jobs that come back take their turns like those that are new.
pub async fn jobs_that_come_back_keep_the_turns(storage: Storage) {
    let (a, b) = (alice(&storage, "a.example").await.tenant, alice(&storage, "b.example").await.tenant);
    storage.queue().enqueue((0..6).map(|_| job(a, NOW)).collect()).await.unwrap();
    let leases = take(&storage, NOW, 6, 6).await;
    let (given_back, kept) = leases.split_at(4);
    for lease in given_back {
        assert!(storage.queue().retry(lease, at(10), "421").await.unwrap());
    }
    storage.queue().enqueue((0..3).map(|_| job(b, at(10))).collect()).await.unwrap();
    // Those that were kept come back as well, as their leases have ended.
    let again = take(&storage, at(60), 3, 9).await;
    let tenants: Vec<_> = again.iter().map(|lease| lease.tenant).collect();
    assert_in_turns(&tenants, BTreeMap::from([(a, 6), (b, 3)]));
    let back: HashSet<JobId> = again.iter().filter(|lease| lease.attempts == 2).map(|lease| lease.job).collect();
    assert!(kept.iter().all(|lease| back.contains(&lease.job)) && back.len() == 6);
}

/// Many leases that end at the same time, and one that was lost among them.
pub async fn ends_many_leases_at_once(storage: Storage) {
    let tenant = alice(&storage, "a.example").await.tenant;
    storage.queue().enqueue((0..30).map(|_| job(tenant, NOW)).collect()).await.unwrap();
    let stale = storage.queue().lease(NOW, 1, TTL).await.unwrap();
    let leases = storage.queue().lease(at(60), 30, TTL).await.unwrap();
    let end = async |(index, lease): (usize, &Lease)| match index % 3 {
        0 => storage.queue().complete(lease).await.unwrap(),
        1 => storage.queue().retry(lease, at(500), "421").await.unwrap(),
        _ => storage.queue().bury(lease, "no").await.unwrap(),
    };
    let ended = join_all(stale.iter().chain(&leases).enumerate().map(end)).await;
    assert_eq!((ended[0], ended[1..].iter().filter(|held| **held).count()), (false, 30));
    let expected = QueueStats { waiting: 10, buried: 10, ..QueueStats::default() };
    let stats = queue_stats(&storage, at(60)).await;
    assert_eq!((stats.leased, stats.ready), (0, 0));
    assert_eq!(stats, expected);
}

/// The age of work for later counts from its time on.
pub async fn work_for_later_is_not_old(storage: Storage) {
    let tenant = alice(&storage, "a.example").await.tenant;
    // Whatever clock the storage has.
    let later = Timestamp::from_unix(4_102_444_800);
    storage.queue().enqueue(vec![job(tenant, later), job(tenant, NOW)]).await.unwrap();
    let leases = storage.queue().lease(later, 2, TTL).await.unwrap();
    let mut made: Vec<_> = leases.iter().map(|lease| lease.created_at).collect();
    made.sort();
    assert!(made[0] < later && made[1] == later);
}

/// Each kind is counted for itself, with the time since when its oldest job has been due.
pub async fn counts_each_kind(storage: Storage) {
    let tenant = alice(&storage, "a.example").await.tenant;
    let of = |kind: &str, seconds| NewJob { kind: kind.to_owned(), ..job(tenant, at(seconds)) };
    storage.queue().enqueue(vec![of("work", 0), of("work", 5), of("work", 90), of("play", 90)]).await.unwrap();
    let counts = storage.queue().stats(at(10)).await.unwrap();
    let work = QueueStats { ready: 2, waiting: 1, oldest_due: Some(at(0)), ..QueueStats::default() };
    let play = QueueStats { waiting: 1, ..QueueStats::default() };
    assert_eq!(counts, BTreeMap::from([("work".to_owned(), work), ("play".to_owned(), play)]));
    storage.queue().lease(at(10), 1, TTL).await.unwrap();
    let work = QueueStats { ready: 1, waiting: 1, leased: 1, oldest_due: Some(at(5)), ..QueueStats::default() };
    assert_eq!(queue_stats(&storage, at(10)).await, work);
    let ended = QueueStats { ready: 2, waiting: 1, oldest_due: Some(at(5)), ..QueueStats::default() };
    assert_eq!(queue_stats(&storage, at(70)).await, ended);
}

/// Between two of the same, each other one that is not used up comes up once.
fn assert_in_turns<T: Ord + std::fmt::Debug>(order: &[T], mut left: BTreeMap<T, usize>) {
    for (index, one) in order.iter().enumerate() {
        *left.get_mut(one).unwrap() -= 1;
        let Some(next) = order[index + 1..].iter().position(|other| other == one) else { continue };
        let between = &order[index + 1..index + 1 + next];
        for (other, count) in &left {
            let expected = usize::from(other != one && *count > 0);
            let found = between.iter().filter(|entry| *entry == other).count();
            assert_eq!(found, expected, "{other:?} between {index} and the next {one:?} in {order:?}");
        }
    }
}

/// Leases `count` jobs or more, `max` at a time.
async fn take(storage: &Storage, now: Timestamp, max: u32, count: u32) -> Vec<Lease> {
    let mut leases = Vec::new();
    while leases.len() < count as usize {
        let taken = storage.queue().lease(now, max, TTL).await.unwrap();
        assert!(!taken.is_empty() && taken.len() <= max as usize);
        leases.extend(taken);
    }
    leases
}

fn bound_for(tenant: TenantId, destination: &str) -> NewJob {
    let destination = (!destination.is_empty()).then(|| destination.to_owned());
    NewJob { destination, ..job(tenant, NOW) }
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
