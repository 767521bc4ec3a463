//! Cases for [`Deliveries::check_invariant`](crate::Deliveries::check_invariant) and the report
//! that is made of its pages.

#![expect(clippy::unwrap_used, reason = "a case that fails panics")]

use std::time::Duration;

use mairust_core::{MessageId, Timestamp};

use super::sample::{NOW, Person, Storage, accept, alice, attempt, id, job, nothing, outgoing};
use crate::delivery::AttemptOutcome;
use crate::invariant::{Invariant, InvariantCheck, InvariantViolation, audit};
use crate::message::{Acceptance, MessageStatus};
use crate::queue::{Lease, NewJob};

const TTL: Duration = Duration::from_secs(60);
const HOUR: u64 = 3_600;

/// Mail on its way breaks no rule, from the moment when it is accepted until it has arrived.
pub async fn mail_on_its_way_keeps_all_rules(storage: Storage) {
    let entry = sent(&alice(&storage, "a.example").await, 2);
    let (tenant, to) = (entry.tenant, entry.recipients.clone());
    accept(&storage, entry).await.unwrap();
    assert_eq!(broken(&storage, at(1)).await, []);
    let lease = lease(&storage, at(1)).await;
    assert_eq!(broken(&storage, at(1)).await, []);
    let first = vec![attempt(&to[0], at(2), AttemptOutcome::Deferred), attempt(&to[1], at(2), AttemptOutcome::Failed)];
    accept(&storage, Acceptance { attempts: first, ..nothing(tenant) }).await.unwrap();
    assert_eq!(broken(&storage, at(2)).await, []);
    assert!(storage.queue().retry(&lease, at(30), "421").await.unwrap());
    assert_eq!(broken(&storage, at(2 * HOUR)).await, []);
    let lease = self::lease(&storage, at(30)).await;
    let last = vec![attempt(&to[0], at(31), AttemptOutcome::Delivered)];
    accept(&storage, Acceptance { attempts: last, ..nothing(tenant) }).await.unwrap();
    assert_eq!(broken(&storage, at(32)).await, []);
    assert!(storage.queue().complete(&lease).await.unwrap());
    assert_eq!(broken(&storage, at(2 * HOUR)).await, []);
}

/// No job at all, one that leads elsewhere, one of another tenant, one that was given up.
pub async fn finds_recipients_without_a_job(storage: Storage) {
    let (alice, other) = (alice(&storage, "a.example").await, alice(&storage, "b.example").await);
    let mut none = sent(&alice, 1);
    none.jobs.clear();
    let mut elsewhere = sent(&alice, 1);
    elsewhere.jobs[0].destination = Some("e.example".to_owned());
    let mut foreign = sent(&alice, 1);
    let intruder = NewJob { tenant: other.tenant, ..foreign.jobs.remove(0) };
    let buried = sent(&alice, 1);
    let expected: Vec<_> = [&none, &elsewhere, &foreign, &buried].map(|entry| entry.recipients[0].id).into();
    for entry in [buried, none, elsewhere, foreign] {
        accept(&storage, entry).await.unwrap();
    }
    let lease = lease_of(&storage, alice.tenant, "remote.example").await;
    assert!(storage.queue().bury(&lease, "no").await.unwrap());
    storage.queue().enqueue(vec![intruder]).await.unwrap();
    let found = broken(&storage, at(60)).await;
    assert!(
        found.iter().all(|row| row.invariant == Invariant::RecipientJob && row.tenant == alice.tenant),
        "{found:?}"
    );
    let mut recipients: Vec<_> = found.iter().filter_map(|row| row.recipient).collect();
    recipients.sort_unstable();
    let mut expected = expected;
    expected.sort_unstable();
    assert_eq!(recipients, expected);
}

/// The message is gone, or nobody at the destination waits any more; not before the job has been
/// due for a while.
pub async fn finds_jobs_without_a_purpose(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let entry = sent(&alice, 1);
    let (to, message) = (entry.recipients[0].clone(), id(&entry));
    let stays = NewJob { message: Some(message), ..job(alice.tenant, NOW) };
    let gone = NewJob { message: Some(MessageId::new(NOW)), ..job(alice.tenant, NOW) };
    let mut expected = [entry.jobs[0].id, gone.id];
    accept(&storage, entry).await.unwrap();
    storage.queue().enqueue(vec![stays, gone, job(alice.tenant, NOW)]).await.unwrap();
    let attempts = vec![attempt(&to, NOW, AttemptOutcome::Delivered)];
    accept(&storage, Acceptance { attempts, ..nothing(alice.tenant) }).await.unwrap();
    assert_eq!(broken(&storage, at(HOUR)).await, []);
    let found = broken(&storage, at(HOUR + 1)).await;
    assert!(found.iter().all(|row| row.invariant == Invariant::JobPurpose), "{found:?}");
    expected.sort_unstable();
    assert_eq!(found.iter().filter_map(|row| row.job).collect::<Vec<_>>(), expected);
}

/// Nobody took over what a dead worker held.
pub async fn finds_leases_without_an_owner(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    accept(&storage, sent(&alice, 1)).await.unwrap();
    let lease = lease(&storage, NOW).await;
    assert_eq!(broken(&storage, at(60 + HOUR)).await, []);
    let found = broken(&storage, at(61 + HOUR)).await;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].invariant, found[0].job), (Invariant::LeaseOwner, Some(lease.job)));
}

/// A job that is older than anything is tried; one that was given up may be.
pub async fn finds_jobs_that_are_too_old(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let (old, buried) = (job(alice.tenant, NOW), job(alice.tenant, NOW));
    storage.queue().enqueue(vec![buried]).await.unwrap();
    assert!(storage.queue().bury(&lease(&storage, NOW).await, "no").await.unwrap());
    storage.queue().enqueue(vec![old.clone()]).await.unwrap();
    // Whatever the clock says by which jobs are made.
    let late = Timestamp::from_unix(9_000_000_000);
    let found = broken(&storage, late).await;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].invariant, found[0].job), (Invariant::JobAge, Some(old.id)));
    let patient = InvariantCheck::new(late).max_age(Duration::from_secs(9_000_000_000));
    assert!(audit(&storage, &patient, Duration::ZERO).await.unwrap().is_clean());
}

/// A queued message for which nobody waits, and one that is said to be sent although somebody does.
pub async fn finds_messages_that_contradict_their_recipients(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let (mut nobody, mut early) = (sent(&alice, 1), sent(&alice, 1));
    nobody.recipients.clear();
    nobody.jobs.clear();
    early.messages[0].placements[0].status = MessageStatus::Sent;
    let (expected, recipient) = ([id(&nobody), id(&early)], early.recipients[0].id);
    accept(&storage, nobody).await.unwrap();
    accept(&storage, early).await.unwrap();
    let found = broken(&storage, NOW).await;
    assert_eq!(
        found.iter().map(|row| row.invariant).collect::<Vec<_>>(),
        [Invariant::MessageStatus, Invariant::RecipientMessage]
    );
    assert_eq!(found.iter().map(|row| row.message).collect::<Vec<_>>(), expected.map(Some));
    assert_eq!(found[1].recipient, Some(recipient));
}

/// Pages of any size find each row once, and a page looks at no more rows than it may.
pub async fn pages_find_each_row_once(storage: Storage) {
    let mut expected = Vec::new();
    for name in ["a.example", "b.example"] {
        let alice = alice(&storage, name).await;
        let mut lost = sent(&alice, 5);
        lost.jobs.clear();
        accept(&storage, sent(&alice, 2)).await.unwrap();
        expected.extend(lost.recipients.iter().map(|recipient| recipient.id));
        accept(&storage, lost).await.unwrap();
    }
    expected.sort_unstable();
    for limit in [1, 3, 14, 100] {
        let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let check = InvariantCheck::new(NOW);
            let page =
                storage.deliveries().check_invariant(Invariant::RecipientJob, &check, after, limit).await.unwrap();
            assert!(page.violations.len() <= limit as usize);
            found.extend(page.violations.into_iter().filter_map(|row| row.recipient));
            pages += 1;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert!(pages >= 14_u32.div_ceil(limit), "{pages} pages of {limit}");
        found.sort_unstable();
        assert_eq!(found, expected);
    }
}

/// What an audit finds, whatever it finds first.
async fn broken(storage: &Storage, now: Timestamp) -> Vec<InvariantViolation> {
    // The jobs of the cases are made by another clock.
    let check = InvariantCheck::new(now).max_age(Duration::from_secs(1_000_000_000));
    let report = audit(storage, &check, Duration::ZERO).await.unwrap();
    assert_eq!(report.counts.len(), Invariant::ALL.len());
    assert_eq!(report.counts.values().sum::<u64>(), report.violations.len() as u64);
    report.violations
}

/// An outgoing message and the job that brings it to its recipients.
fn sent(from: &Person, recipients: usize) -> Acceptance {
    let mut entry = outgoing(from, recipients);
    let (message, destination) = (Some(id(&entry)), Some("remote.example".to_owned()));
    entry.jobs = vec![NewJob { message, destination, ..job(from.tenant, NOW) }];
    entry
}

async fn lease(storage: &Storage, now: Timestamp) -> Lease {
    storage.queue().lease(now, 1, TTL).await.unwrap().remove(0)
}

/// A lease of the job of a tenant for a destination.
async fn lease_of(storage: &Storage, tenant: mairust_core::TenantId, destination: &str) -> Lease {
    let leases = storage.queue().lease(NOW, 10, TTL).await.unwrap();
    let (mut found, others): (Vec<_>, Vec<_>) = leases
        .into_iter()
        .partition(|lease| (lease.tenant, lease.destination.as_deref()) == (tenant, Some(destination)));
    for lease in others {
        assert!(storage.queue().retry(&lease, NOW, "not this one").await.unwrap());
    }
    found.remove(0)
}

fn at(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}
