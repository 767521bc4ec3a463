//! Cases for what operators see of the queue and do with it.

#![expect(clippy::unwrap_used, reason = "a case that fails panics")]

use std::time::Duration;

use futures::future::join_all;
use mairust_core::{JobId, MessageId, TenantId, Timestamp};

use super::sample::{NOW, Person, Storage, accept, alice, attempt, id, job, kind, nothing, outgoing};
use crate::delivery::{AttemptOutcome, DeliveryState, NewRecipient};
use crate::error::StoreErrorKind;
use crate::message::{Acceptance, MessageStatus};
use crate::queue::{
    HoldReason, ItemState, Lease, NewJob, Priority, QueueAction, QueueChange, QueueFilter, QueueItem, QueueStats,
};

const TTL: Duration = Duration::from_secs(60);
const DESTINATION: &str = "remote.example";

/// Items are jobs that lead somewhere, in the order of their messages; filters and pages find each once.
pub async fn lists_items(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let mut queued = Vec::new();
    for _ in 0..5 {
        queued.push(queue(&storage, &alice, 1).await);
    }
    storage.queue().enqueue(vec![job(alice.tenant, NOW)]).await.unwrap();
    let all = items(&storage, alice.tenant, &QueueFilter::default()).await;
    let mut expected: Vec<_> = queued.iter().map(|queued| (queued.message, queued.job)).collect();
    expected.sort_unstable();
    assert_eq!(all.iter().map(|item| (item.message, item.id)).collect::<Vec<_>>(), expected);
    let first = &all[0];
    assert_eq!((first.tenant, first.destination.as_str()), (alice.tenant, DESTINATION));
    assert_eq!((first.attempts, first.not_before, &first.last_error), (0, NOW, &None));
    assert_eq!((first.give_up, &first.route), (false, &None));
    let message = QueueFilter { message: Some(expected[2].0), ..QueueFilter::default() };
    assert_eq!(items(&storage, alice.tenant, &message).await, [all[2].clone()]);
    assert_eq!(items(&storage, alice.tenant, &QueueFilter::one(expected[3].1)).await, [all[3].clone()]);
    let nowhere = QueueFilter { destination: Some("nowhere.example".to_owned()), ..QueueFilter::default() };
    assert!(items(&storage, alice.tenant, &nowhere).await.is_empty());
    let nobody = QueueFilter { ids: Some(Vec::new()), ..QueueFilter::default() };
    assert!(items(&storage, alice.tenant, &nobody).await.is_empty());
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = storage.queue().items(alice.tenant, &QueueFilter::default(), after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.position());
        assert!(page.len() <= 2);
        paged.extend(page);
    }
    assert_eq!(paged, all);
    let too_many = QueueFilter { ids: Some(vec![JobId::new(NOW); QueueFilter::MAX_IDS + 1]), ..nobody };
    assert_eq!(kind(storage.queue().items(alice.tenant, &too_many, None, 10).await), StoreErrorKind::Invalid);
}

/// What was given up begins again, and nothing else.
pub async fn retries_what_was_given_up(storage: Storage) {
    let alice = alice(&storage, "a.example").await.tenant;
    let other = self::alice(&storage, "b.example").await.tenant;
    let queue = storage.queue();
    let jobs = [job(alice, NOW), job(alice, NOW), job(alice, NOW)];
    let ids = jobs.each_ref().map(|job| job.id);
    queue.enqueue(jobs.to_vec()).await.unwrap();
    let leased = queue.lease(NOW, 5, TTL).await.unwrap();
    let lease = |id: JobId| leased.iter().find(|lease| lease.job == id).unwrap();
    assert!(queue.bury(lease(ids[0]), "no more").await.unwrap());
    assert!(queue.retry(lease(ids[1]), NOW.plus(TTL), "later").await.unwrap());
    assert_eq!(queue.retry_buried(other, &ids, NOW).await.unwrap(), 0);
    let seen = queue.version();
    assert_eq!(queue.retry_buried(alice, &ids, NOW).await.unwrap(), 1);
    assert!(queue.version() > seen);
    assert_eq!(queue.retry_buried(alice, &ids, NOW).await.unwrap(), 0);
    let again = queue.lease(NOW, 5, TTL).await.unwrap();
    assert_eq!(again.iter().map(|lease| (lease.job, lease.attempts)).collect::<Vec<_>>(), [(ids[0], 2)]);
    let too_many = vec![ids[0]; QueueFilter::MAX_IDS + 1];
    assert_eq!(kind(queue.retry_buried(alice, &too_many, NOW).await), StoreErrorKind::Invalid);
}

/// What is held is not begun, not counted as due, and its recipients say so; released, it goes on.
pub async fn holds_and_releases(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let queued = queue(&storage, &alice, 1).await;
    assert_eq!(change(&storage, &queued, QueueAction::Release).await, untouched());
    assert_eq!(change(&storage, &queued, QueueAction::Hold(HoldReason::Operator)).await, changed());
    assert_eq!(state(&storage, &queued).await, ItemState::Held(HoldReason::Operator));
    assert!(storage.queue().lease(at(9_999), 10, TTL).await.unwrap().is_empty());
    assert_eq!(storage.queue().next_due().await.unwrap(), None);
    let stats = storage.queue().stats(at(9_999)).await.unwrap().remove("work").unwrap();
    assert_eq!(stats, QueueStats { held: 1, ..QueueStats::default() });
    assert_eq!(recipient(&storage, &queued).await, DeliveryState::Held);
    assert_eq!(change(&storage, &queued, QueueAction::Retry).await, untouched());
    assert_eq!(change(&storage, &queued, QueueAction::Hold(HoldReason::Paused)).await, changed());
    let held = |reason| QueueFilter { held: Some(reason), ..QueueFilter::default() };
    assert!(items(&storage, alice.tenant, &held(HoldReason::Operator)).await.is_empty());
    assert_eq!(items(&storage, alice.tenant, &held(HoldReason::Paused)).await.len(), 1);
    let seen = storage.queue().version();
    assert_eq!(change(&storage, &queued, QueueAction::Release).await, changed());
    assert!(storage.queue().version() > seen);
    assert_eq!(recipient(&storage, &queued).await, DeliveryState::Pending);
    assert_eq!(lease(&storage, at(5)).await.job, queued.job);
}

/// What is being delivered is left alone; a lease that has ended is no reason to, and whoever had it has lost it.
pub async fn leaves_alone_what_is_leased(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let queued = queue(&storage, &alice, 1).await;
    let lease = lease(&storage, NOW).await;
    let actions = [
        QueueAction::Cancel { reason: "no".to_owned() },
        QueueAction::GiveUp,
        QueueAction::Hold(HoldReason::Operator),
        QueueAction::Reroute(None),
        QueueAction::Retry,
    ];
    for action in actions {
        assert_eq!(change(&storage, &queued, action).await, QueueChange { busy: 1, ..untouched() });
    }
    let filter = QueueFilter::one(queued.job);
    let hold = QueueAction::Hold(HoldReason::Operator);
    let later = storage.queue().change(alice.tenant, &filter, &hold, at(60), None, 10).await.unwrap();
    assert_eq!(later, changed());
    assert!(!storage.queue().extend(&lease, at(120)).await.unwrap());
    assert!(!storage.queue().complete(&lease).await.unwrap());
    assert_eq!(state(&storage, &queued).await, ItemState::Held(HoldReason::Operator));
}

/// A worker that finds that something must not go yet gives it back to be held.
pub async fn parks_what_is_leased(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let queued = queue(&storage, &alice, 1).await;
    let lease = lease(&storage, NOW).await;
    assert!(storage.queue().park(&lease, HoldReason::InDoubt, "no answer").await.unwrap());
    assert!(!storage.queue().park(&lease, HoldReason::InDoubt, "twice").await.unwrap());
    let item = items(&storage, alice.tenant, &QueueFilter::one(queued.job)).await.remove(0);
    assert_eq!((item.state, item.last_error.as_deref()), (ItemState::Held(HoldReason::InDoubt), Some("no answer")));
    assert!(storage.queue().lease(at(9_999), 10, TTL).await.unwrap().is_empty());
}

/// What waits for its time, or was buried, is due at once; the priority stays what it was.
pub async fn retries_at_once(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let (first, second) = (queue(&storage, &alice, 1).await, queue(&storage, &alice, 1).await);
    let mut leases = storage.queue().lease(NOW, 10, TTL).await.unwrap();
    leases.sort_by_key(|lease| lease.job == second.job);
    assert!(storage.queue().retry(&leases[0], at(3_600), "421 busy").await.unwrap());
    assert!(storage.queue().bury(&leases[1], "broken").await.unwrap());
    assert!(storage.queue().lease(at(1), 10, TTL).await.unwrap().is_empty());
    let filter = QueueFilter::default();
    let all = storage.queue().change(alice.tenant, &filter, &QueueAction::Retry, at(1), None, 10).await.unwrap();
    assert_eq!(all, QueueChange { changed: 2, ..untouched() });
    let again = storage.queue().lease(at(1), 10, TTL).await.unwrap();
    assert_eq!(again.iter().map(|lease| lease.attempts).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(again.len(), 2);
    assert_eq!(items(&storage, alice.tenant, &QueueFilter::one(first.job)).await[0].not_before, at(1));
}

/// Ends the delivery to those who wait at that destination, and says so; nobody else's is touched.
pub async fn cancels(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let (queued, other) = (queue(&storage, &alice, 2).await, queue(&storage, &alice, 1).await);
    let attempts = vec![attempt(&queued.to[0], NOW, AttemptOutcome::Delivered)];
    accept(&storage, Acceptance { attempts, ..nothing(alice.tenant) }).await.unwrap();
    let seen = storage.messages().version(alice.tenant);
    assert_eq!(change(&storage, &queued, QueueAction::Cancel { reason: "not wanted".to_owned() }).await, changed());
    assert!(storage.messages().version(alice.tenant) > seen);
    assert!(items(&storage, alice.tenant, &QueueFilter::one(queued.job)).await.is_empty());
    let mut rows = storage.deliveries().recipients(alice.tenant, queued.message).await.unwrap();
    rows.sort_by_key(|row| row.id == queued.to[1].id);
    assert_eq!((rows[0].state, rows[1].state), (DeliveryState::Delivered, DeliveryState::Cancelled));
    assert_eq!((rows[1].attempts, rows[1].last_result.as_deref()), (0, Some("not wanted")));
    let history = storage.deliveries().attempts(alice.tenant, queued.message).await.unwrap();
    assert_eq!(history.last().map(|attempt| attempt.outcome), Some(AttemptOutcome::Cancelled));
    let message = storage.messages().get(alice.tenant, queued.message).await.unwrap().unwrap();
    assert_eq!(message.status, MessageStatus::Cancelled);
    assert_eq!(recipient(&storage, &other).await, DeliveryState::Pending);
    assert_eq!(change(&storage, &queued, QueueAction::Retry).await, untouched());
}

/// Whoever takes it next learns that it is to be given up, or which way it is to go.
pub async fn tells_workers_what_is_wanted(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let queued = queue(&storage, &alice, 1).await;
    assert_eq!(change(&storage, &queued, QueueAction::Hold(HoldReason::Operator)).await, changed());
    assert_eq!(change(&storage, &queued, QueueAction::Reroute(Some("relay".to_owned()))).await, changed());
    assert_eq!(state(&storage, &queued).await, ItemState::Held(HoldReason::Operator));
    assert_eq!(change(&storage, &queued, QueueAction::GiveUp).await, changed());
    let lease = lease(&storage, at(1)).await;
    assert_eq!((lease.give_up, lease.route.as_deref()), (true, Some("relay")));
    assert!(storage.queue().retry(&lease, at(2), "the store failed").await.unwrap());
    assert_eq!(change(&storage, &queued, QueueAction::Reroute(None)).await, changed());
    let again = self::lease(&storage, at(2)).await;
    assert_eq!((again.give_up, again.route), (true, None));
}

/// Many at once, in pages that together touch each item once.
pub async fn changes_many(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    for _ in 0..7 {
        queue(&storage, &alice, 1).await;
    }
    let leased = lease(&storage, NOW).await;
    let (mut total, mut after, hold) = (QueueChange::default(), None, QueueAction::Hold(HoldReason::Operator));
    loop {
        let page = storage.queue().change(alice.tenant, &QueueFilter::default(), &hold, NOW, after, 3).await.unwrap();
        total.changed += page.changed;
        total.busy += page.busy;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((total.changed, total.busy), (6, 1));
    let stats = storage.queue().destinations(alice.tenant, NOW, 10).await.unwrap();
    assert_eq!(stats.len(), 1);
    assert_eq!((stats[0].destination.as_str(), stats[0].held, stats[0].leased), (DESTINATION, 6, 1));
    assert_eq!((stats[0].ready, stats[0].waiting, stats[0].buried, stats[0].next_attempt), (0, 0, 0, None));
    assert!(storage.queue().retry(&leased, at(300), "421").await.unwrap());
    let stats = storage.queue().destinations(alice.tenant, NOW, 10).await.unwrap();
    assert_eq!((stats[0].waiting, stats[0].next_attempt), (1, Some(at(300))));
}

/// What is held from the beginning waits for somebody, and has its priority then.
pub async fn keeps_what_is_held_from_the_beginning(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let mut entry = outgoing(&alice, 1);
    let message = Some(id(&entry));
    let (destination, held) = (Some(DESTINATION.to_owned()), Some(HoldReason::Policy));
    entry.jobs = vec![NewJob { message, destination, held, priority: Priority::Bulk, ..job(alice.tenant, NOW) }];
    accept(&storage, entry).await.unwrap();
    let [item] = &items(&storage, alice.tenant, &QueueFilter::default()).await[..] else { panic!("not one item") };
    assert_eq!((item.state, item.priority), (ItemState::Held(HoldReason::Policy), Priority::Bulk));
    assert!(storage.queue().lease(at(9_999), 10, TTL).await.unwrap().is_empty());
    assert_eq!(storage.queue().next_due().await.unwrap(), None);
    let release = (&QueueFilter::one(item.id), &QueueAction::Release);
    let done = storage.queue().change(alice.tenant, release.0, release.1, at(5), None, 10).await.unwrap();
    assert_eq!(done.changed, 1);
    assert_eq!(storage.queue().lease(at(5), 10, TTL).await.unwrap().len(), 1);
}

/// Operators and workers at the same time: each item is either held or leased, and what is held is not delivered.
pub async fn holding_and_leasing_have_one_order(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    for _ in 0..20 {
        queue(&storage, &alice, 1).await;
    }
    let (filter, hold) = (QueueFilter::default(), QueueAction::Hold(HoldReason::Operator));
    let holding = async {
        tokio::task::yield_now().await;
        storage.queue().change(alice.tenant, &filter, &hold, NOW, None, 100).await.unwrap()
    };
    let (leases, held) = tokio::join!(join_all((0..4).map(|_| storage.queue().lease(NOW, 3, TTL))), holding);
    let leases: Vec<_> = leases.into_iter().flat_map(Result::unwrap).collect();
    let items = items(&storage, alice.tenant, &filter).await;
    let is_held = |item: &&QueueItem| matches!(item.state, ItemState::Held(_));
    assert_eq!(items.iter().filter(is_held).count(), held.changed as usize);
    for item in items {
        let leased = leases.iter().any(|lease| lease.job == item.id);
        assert_ne!(leased, matches!(item.state, ItemState::Held(_)), "{item:?}");
    }
}

/// An attempt that has begun is there; its result takes its place; there is one at a time, for who waits only.
pub async fn an_attempt_begins_and_ends(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let queued = queue(&storage, &alice, 1).await;
    let record = |outcome| {
        let attempts = vec![attempt(&queued.to[0], NOW, outcome)];
        accept(&storage, Acceptance { attempts, ..nothing(alice.tenant) })
    };
    let outcomes = async || {
        let attempts = storage.deliveries().attempts(alice.tenant, queued.message).await.unwrap();
        attempts.into_iter().map(|attempt| attempt.outcome).collect::<Vec<_>>()
    };
    record(AttemptOutcome::Begun).await.unwrap();
    assert_eq!(kind(record(AttemptOutcome::Begun).await), StoreErrorKind::AlreadyExists);
    assert_eq!(outcomes().await, [AttemptOutcome::Begun]);
    assert_eq!(recipient(&storage, &queued).await, DeliveryState::Pending);
    record(AttemptOutcome::InDoubt).await.unwrap();
    assert_eq!(outcomes().await, [AttemptOutcome::InDoubt]);
    assert_eq!(recipient(&storage, &queued).await, DeliveryState::InDoubt);
    record(AttemptOutcome::Begun).await.unwrap();
    record(AttemptOutcome::Delivered).await.unwrap();
    assert_eq!(outcomes().await, [AttemptOutcome::InDoubt, AttemptOutcome::Delivered]);
    assert_eq!(kind(record(AttemptOutcome::Begun).await), StoreErrorKind::Conflict);
    let rows = storage.deliveries().recipients(alice.tenant, queued.message).await.unwrap();
    assert_eq!((rows[0].state, rows[0].attempts), (DeliveryState::Delivered, 2));
}

/// A result and the end of its job are one step; a lease that was lost ends nothing, and the result is kept.
pub async fn a_result_completes_its_job(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let (queued, other) = (queue(&storage, &alice, 1).await, queue(&storage, &alice, 1).await);
    let mut leases = storage.queue().lease(NOW, 10, TTL).await.unwrap();
    leases.sort_by_key(|lease| lease.job == other.job);
    assert!(storage.queue().retry(&leases[1], NOW, "lost").await.unwrap());
    for (queued, lease) in [&queued, &other].into_iter().zip(leases) {
        let attempts = vec![attempt(&queued.to[0], NOW, AttemptOutcome::Delivered)];
        let completes = Some(lease);
        accept(&storage, Acceptance { attempts, completes, ..nothing(alice.tenant) }).await.unwrap();
        assert_eq!(recipient(&storage, queued).await, DeliveryState::Delivered);
    }
    let left = items(&storage, alice.tenant, &QueueFilter::default()).await;
    assert_eq!(left.iter().map(|item| item.id).collect::<Vec<_>>(), [other.job]);
    let tenant = self::alice(&storage, "b.example").await.tenant;
    let again = storage.queue().lease(at(1), 10, TTL).await.unwrap().remove(0);
    let foreign = Acceptance { completes: Some(again), ..nothing(tenant) };
    assert_eq!(kind(accept(&storage, foreign).await), StoreErrorKind::Invalid);
}

/// Nobody sees or changes what is another tenant's.
pub async fn hides_items_from_other_tenants(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let queued = queue(&storage, &alice, 1).await;
    let other = self::alice(&storage, "b.example").await.tenant;
    let filter = QueueFilter::one(queued.job);
    assert!(items(&storage, other, &filter).await.is_empty());
    let cancel = QueueAction::Cancel { reason: "no".to_owned() };
    assert_eq!(storage.queue().change(other, &filter, &cancel, NOW, None, 10).await.unwrap(), untouched());
    assert!(storage.queue().destinations(other, NOW, 10).await.unwrap().is_empty());
    assert_eq!(items(&storage, alice.tenant, &filter).await.len(), 1);
}

/// An outgoing message, its recipients, and the job that brings it to them.
struct Queued {
    tenant: TenantId,
    message: MessageId,
    to: Vec<NewRecipient>,
    job: JobId,
}

async fn queue(storage: &Storage, from: &Person, recipients: usize) -> Queued {
    let mut entry = outgoing(from, recipients);
    let message = id(&entry);
    let job = NewJob { message: Some(message), destination: Some(DESTINATION.to_owned()), ..job(from.tenant, NOW) };
    let queued = Queued { tenant: from.tenant, message, to: entry.recipients.clone(), job: job.id };
    entry.jobs = vec![job];
    accept(storage, entry).await.unwrap();
    queued
}

async fn items(storage: &Storage, tenant: TenantId, filter: &QueueFilter) -> Vec<QueueItem> {
    storage.queue().items(tenant, filter, None, 100).await.unwrap()
}

async fn state(storage: &Storage, queued: &Queued) -> ItemState {
    items(storage, queued.tenant, &QueueFilter::one(queued.job)).await.remove(0).state
}

/// The state of the first recipient.
async fn recipient(storage: &Storage, queued: &Queued) -> DeliveryState {
    let rows = storage.deliveries().recipients(queued.tenant, queued.message).await.unwrap();
    rows.into_iter().find(|row| row.id == queued.to[0].id).unwrap().state
}

async fn change(storage: &Storage, queued: &Queued, action: QueueAction) -> QueueChange {
    let filter = QueueFilter::one(queued.job);
    storage.queue().change(queued.tenant, &filter, &action, NOW, None, 10).await.unwrap()
}

fn changed() -> QueueChange {
    QueueChange { changed: 1, ..QueueChange::default() }
}

fn untouched() -> QueueChange {
    QueueChange::default()
}

async fn lease(storage: &Storage, now: Timestamp) -> Lease {
    storage.queue().lease(now, 1, TTL).await.unwrap().remove(0)
}

fn at(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}
