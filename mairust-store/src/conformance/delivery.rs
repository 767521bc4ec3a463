//! Cases for [`Deliveries`](crate::Deliveries), and for what attempts do to messages.

#![expect(clippy::unwrap_used, reason = "a case that fails panics")]

use std::time::Duration;

use mairust_core::{MailboxId, MessageId, Notify, OriginalRecipient, RecipientDsn};

use super::sample::{NOW, Person, Storage, accept, alice, attempt, entry, id, kind, nothing, outgoing};
use crate::delivery::{Attempt, AttemptOutcome, DeliveryState, NewRecipient};
use crate::error::StoreErrorKind;
use crate::message::{Acceptance, MessageStatus};

/// Every recipient's server took the message.
pub async fn all_delivered_means_sent(storage: Storage) {
    let (alice, message, to) = queued(&storage, 2).await;
    record(&storage, &alice, vec![attempt(&to[0], NOW, AttemptOutcome::Delivered)]).await;
    assert_eq!(status(&storage, &alice, message).await, MessageStatus::Queued);
    let seen = storage.messages().version(alice.tenant);
    record(&storage, &alice, vec![attempt(&to[1], NOW, AttemptOutcome::Delivered)]).await;
    assert_eq!(status(&storage, &alice, message).await, MessageStatus::Sent);
    assert!(storage.messages().version(alice.tenant) > seen);
    let rows = storage.deliveries().recipients(alice.tenant, message).await.unwrap();
    let mut ids: Vec<_> = to.iter().map(|recipient| recipient.id).collect();
    ids.sort_unstable();
    assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), ids);
    assert!(
        rows.iter().all(|row| row.message == message && row.state == DeliveryState::Delivered && row.attempts == 1)
    );
}

/// One refusal is enough, in whatever order the results come.
pub async fn one_bounced_means_failed(storage: Storage) {
    let (alice, message, to) = queued(&storage, 2).await;
    record(&storage, &alice, vec![attempt(&to[1], NOW, AttemptOutcome::Failed)]).await;
    assert_eq!(status(&storage, &alice, message).await, MessageStatus::Queued);
    record(&storage, &alice, vec![attempt(&to[0], NOW, AttemptOutcome::Delivered)]).await;
    assert_eq!(status(&storage, &alice, message).await, MessageStatus::Failed);
}

/// A recipient that waits keeps its message waiting; the history is kept in order.
pub async fn deferred_stays_queued(storage: Storage) {
    let (alice, message, to) = queued(&storage, 1).await;
    let later = NOW.plus(Duration::from_secs(60));
    let (first, second) =
        (attempt(&to[0], NOW, AttemptOutcome::Deferred), attempt(&to[0], later, AttemptOutcome::Deferred));
    let before = storage.deliveries().recipients(alice.tenant, message).await.unwrap();
    assert_eq!((before[0].state, before[0].attempts, &before[0].last_result), (DeliveryState::Pending, 0, &None));
    record(&storage, &alice, vec![first.clone()]).await;
    record(&storage, &alice, vec![second.clone()]).await;
    assert_eq!(status(&storage, &alice, message).await, MessageStatus::Queued);
    let row = storage.deliveries().recipients(alice.tenant, message).await.unwrap().remove(0);
    assert_eq!((row.state, row.attempts, row.updated_at), (DeliveryState::Deferred, 2, later));
    assert_eq!((row.last_result.as_ref(), &row.address), (Some(&second.result), &to[0].address));
    assert_eq!(storage.deliveries().attempts(alice.tenant, message).await.unwrap(), [first, second]);
}

/// A job that runs twice does not turn a result around.
pub async fn settled_stays_settled(storage: Storage) {
    let (alice, message, to) = queued(&storage, 1).await;
    record(&storage, &alice, vec![attempt(&to[0], NOW, AttemptOutcome::Delivered)]).await;
    let before = storage.deliveries().recipients(alice.tenant, message).await.unwrap();
    for outcome in [AttemptOutcome::Failed, AttemptOutcome::Deferred] {
        record(&storage, &alice, vec![attempt(&to[0], NOW, outcome)]).await;
    }
    assert_eq!(storage.deliveries().recipients(alice.tenant, message).await.unwrap(), before);
    assert_eq!(status(&storage, &alice, message).await, MessageStatus::Sent);
}

/// A recipient of no message, a recipient twice, an attempt for nobody.
pub async fn a_recipient_needs_a_message(storage: Storage) {
    let (alice, message, to) = queued(&storage, 1).await;
    let mut lost = outgoing(&alice, 1);
    lost.recipients[0].message = MessageId::new(NOW);
    assert_eq!(kind(accept(&storage, lost).await), StoreErrorKind::NotFound);
    let twice = Acceptance { recipients: to, ..nothing(alice.tenant) };
    assert_eq!(kind(accept(&storage, twice).await), StoreErrorKind::AlreadyExists);
    let nobody = outgoing(&alice, 1).recipients.remove(0);
    let attempts = vec![attempt(&nobody, NOW, AttemptOutcome::Delivered)];
    assert_eq!(
        kind(accept(&storage, Acceptance { attempts, ..nothing(alice.tenant) }).await),
        StoreErrorKind::NotFound
    );
    assert_eq!(storage.deliveries().recipients(alice.tenant, message).await.unwrap().len(), 1);
}

/// NOTIFY and ORCPT, each as it was given.
pub async fn keeps_what_is_asked_about_notices(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let mut entry = outgoing(&alice, 2);
    let notify = Notify { delay: true, ..Notify::default() };
    let original = OriginalRecipient::parse("rfc822;Bob+2Bx@remote.example");
    entry.recipients[0].dsn = RecipientDsn { notify: Some(notify), original };
    let (message, mut expected) = (id(&entry), entry.recipients.clone());
    accept(&storage, entry).await.unwrap();
    let rows = storage.deliveries().recipients(alice.tenant, message).await.unwrap();
    expected.sort_by_key(|recipient| recipient.id);
    let asked: Vec<_> = rows.iter().map(|row| &row.dsn).collect();
    assert_eq!(asked, expected.iter().map(|recipient| &recipient.dsn).collect::<Vec<_>>());
}

/// The notice about a failure can't be kept: then the failure is not recorded either.
pub async fn a_failure_and_its_notice_are_one_step(storage: Storage) {
    let (alice, message, to) = queued(&storage, 1).await;
    let attempts = vec![attempt(&to[0], NOW, AttemptOutcome::Failed)];
    let notice = Acceptance { attempts, ..entry(&alice, "Subject: undeliverable\r\n\r\n") };
    let mut astray = notice.clone();
    astray.messages[0].placements[0].mailbox = MailboxId::new(NOW);
    assert_eq!(kind(accept(&storage, astray).await), StoreErrorKind::NotFound);
    assert_eq!(status(&storage, &alice, message).await, MessageStatus::Queued);
    assert!(storage.deliveries().attempts(alice.tenant, message).await.unwrap().is_empty());
    let id = id(&notice);
    accept(&storage, notice).await.unwrap();
    assert_eq!(status(&storage, &alice, message).await, MessageStatus::Failed);
    assert_eq!(status(&storage, &alice, id).await, MessageStatus::Stored);
}

/// What is said about an attempt comes back as it was.
pub async fn keeps_notices_and_facts_of_attempts(storage: Storage) {
    let (alice, message, to) = queued(&storage, 1).await;
    let mut late = late(&to[0]);
    late.facts = Some("{\"v\": 1, \"text\": \"ü\"}".to_owned());
    let mut failed = attempt(&to[0], NOW.plus(Duration::from_secs(60)), AttemptOutcome::Failed);
    failed.notice = Some(MessageId::new(NOW));
    record(&storage, &alice, vec![late.clone()]).await;
    record(&storage, &alice, vec![failed.clone()]).await;
    assert_eq!(storage.deliveries().attempts(alice.tenant, message).await.unwrap(), [late, failed]);
}

/// The same sender hears once for each recipient that it is late, and nothing is recorded with a second try.
pub async fn a_delay_is_told_once(storage: Storage) {
    let (alice, message, to) = queued(&storage, 2).await;
    let rows = async || storage.deliveries().recipients(alice.tenant, message).await.unwrap();
    let told = async || rows().await.iter().filter(|row| row.delay_told_at == Some(NOW)).count();
    record(&storage, &alice, vec![attempt(&to[0], NOW, AttemptOutcome::Deferred)]).await;
    assert_eq!(told().await, 0, "an attempt without a notice tells nobody");
    record(&storage, &alice, vec![late(&to[0])]).await;
    assert_eq!(told().await, 1);
    let again = Acceptance { attempts: vec![late(&to[1]), late(&to[0])], ..entry(&alice, "Subject: late\r\n\r\n") };
    let notice = id(&again);
    assert_eq!(kind(accept(&storage, again).await), StoreErrorKind::Conflict);
    assert_eq!(told().await, 1);
    assert!(storage.messages().get(alice.tenant, notice).await.unwrap().is_none());
    record(&storage, &alice, vec![attempt(&to[0], NOW, AttemptOutcome::Deferred), late(&to[1])]).await;
    assert_eq!(told().await, 2);
    let (alice, message, to) = queued_of(&storage, alice, 1).await;
    record(&storage, &alice, vec![attempt(&to[0], NOW, AttemptOutcome::Delivered)]).await;
    let settled = Acceptance { attempts: vec![late(&to[0])], ..nothing(alice.tenant) };
    assert_eq!(kind(accept(&storage, settled).await), StoreErrorKind::Conflict);
    assert_eq!(status(&storage, &alice, message).await, MessageStatus::Sent);
}

/// A server that took the message reports later that it could not be delivered.
pub async fn a_report_bounces_what_was_taken(storage: Storage) {
    let (alice, message, to) = queued(&storage, 3).await;
    let (later, row) = (NOW.plus(Duration::from_secs(60)), async |of: usize| {
        storage.deliveries().recipient(alice.tenant, to[of].id).await.unwrap().unwrap()
    });
    let taken = attempt(&to[0], NOW, AttemptOutcome::Delivered);
    record(&storage, &alice, vec![taken.clone(), attempt(&to[1], NOW, AttemptOutcome::InDoubt)]).await;
    let mut report = attempt(&to[0], later, AttemptOutcome::Reported);
    report.notice = Some(MessageId::new(NOW));
    record(&storage, &alice, vec![report.clone()]).await;
    assert_eq!(status(&storage, &alice, message).await, MessageStatus::Queued, "another recipient waits");
    let (bounced, attempts) = (row(0).await, storage.deliveries().attempts(alice.tenant, message).await.unwrap());
    assert_eq!((bounced.state, bounced.attempts, bounced.updated_at), (DeliveryState::Bounced, 1, later));
    assert_eq!(bounced.last_result.as_ref(), Some(&report.result));
    assert!(attempts.contains(&taken) && attempts.last() == Some(&report), "{attempts:?}");
    record(&storage, &alice, vec![attempt(&to[1], later, AttemptOutcome::Reported)]).await;
    assert_eq!((row(1).await.state, row(1).await.attempts), (DeliveryState::Bounced, 1));
    record(&storage, &alice, vec![attempt(&to[2], later, AttemptOutcome::Delivered)]).await;
    assert_eq!(status(&storage, &alice, message).await, MessageStatus::Failed);
    let (alice, message, to) = queued_of(&storage, alice, 1).await;
    record(&storage, &alice, vec![attempt(&to[0], NOW, AttemptOutcome::Delivered)]).await;
    assert_eq!(status(&storage, &alice, message).await, MessageStatus::Sent);
    let seen = storage.messages().version(alice.tenant);
    record(&storage, &alice, vec![attempt(&to[0], later, AttemptOutcome::Reported)]).await;
    assert_eq!(status(&storage, &alice, message).await, MessageStatus::Failed);
    assert!(storage.messages().version(alice.tenant) > seen);
}

/// The same report again, with whatever else, changes nothing.
pub async fn a_report_is_taken_once(storage: Storage) {
    let (alice, message, to) = queued(&storage, 1).await;
    record(&storage, &alice, vec![attempt(&to[0], NOW, AttemptOutcome::Delivered)]).await;
    let report = attempt(&to[0], NOW, AttemptOutcome::Reported);
    let twice = Acceptance { attempts: vec![report.clone(), report.clone()], ..nothing(alice.tenant) };
    assert_eq!(kind(accept(&storage, twice).await), StoreErrorKind::Conflict);
    assert_eq!(status(&storage, &alice, message).await, MessageStatus::Sent);
    record(&storage, &alice, vec![report.clone()]).await;
    let again = Acceptance { attempts: vec![report], ..entry(&alice, "Subject: undeliverable\r\n\r\n") };
    let copy = id(&again);
    assert_eq!(kind(accept(&storage, again).await), StoreErrorKind::Conflict);
    assert!(storage.messages().get(alice.tenant, copy).await.unwrap().is_none());
    assert_eq!(storage.deliveries().attempts(alice.tenant, message).await.unwrap().len(), 2);
    record(&storage, &alice, vec![attempt(&to[0], NOW, AttemptOutcome::Delivered)]).await;
    let row = storage.deliveries().recipient(alice.tenant, to[0].id).await.unwrap().unwrap();
    assert_eq!(row.state, DeliveryState::Bounced, "a result that comes late turns nothing around");
}

/// Who waits, who is settled otherwise, and who is being sent to, did not get mail that comes back.
pub async fn only_what_was_handed_over_is_reported(storage: Storage) {
    let (alice, _, to) = queued(&storage, 1).await;
    let refused = async || {
        let attempts = vec![attempt(&to[0], NOW, AttemptOutcome::Reported)];
        kind(accept(&storage, Acceptance { attempts, ..nothing(alice.tenant) }).await)
    };
    assert_eq!(refused().await, StoreErrorKind::Conflict);
    record(&storage, &alice, vec![attempt(&to[0], NOW, AttemptOutcome::Deferred)]).await;
    assert_eq!(refused().await, StoreErrorKind::Conflict);
    record(&storage, &alice, vec![attempt(&to[0], NOW, AttemptOutcome::InDoubt)]).await;
    record(&storage, &alice, vec![attempt(&to[0], NOW, AttemptOutcome::Begun)]).await;
    assert_eq!(refused().await, StoreErrorKind::Conflict);
    record(&storage, &alice, vec![attempt(&to[0], NOW, AttemptOutcome::Failed)]).await;
    assert_eq!(refused().await, StoreErrorKind::Conflict);
    let nobody = outgoing(&alice, 1).recipients.remove(0);
    let attempts = vec![attempt(&nobody, NOW, AttemptOutcome::Reported)];
    let astray = Acceptance { attempts, ..nothing(alice.tenant) };
    assert_eq!(kind(accept(&storage, astray).await), StoreErrorKind::NotFound);
}

/// Every method with a tenant argument, tried by another tenant.
pub async fn hides_recipients_from_other_tenants(storage: Storage) {
    let (alice, message, to) = queued(&storage, 1).await;
    let other = self::alice(&storage, "b.example").await;
    for outcome in [AttemptOutcome::Failed, AttemptOutcome::Reported] {
        let attempts = vec![attempt(&to[0], NOW, outcome)];
        let foreign = Acceptance { attempts, ..nothing(other.tenant) };
        assert_eq!(kind(accept(&storage, foreign).await), StoreErrorKind::NotFound);
    }
    let mut intruder = outgoing(&other, 1);
    intruder.recipients[0].message = message;
    assert_eq!(kind(accept(&storage, intruder).await), StoreErrorKind::NotFound);
    record(&storage, &alice, vec![attempt(&to[0], NOW, AttemptOutcome::Deferred)]).await;
    assert!(storage.deliveries().recipients(other.tenant, message).await.unwrap().is_empty());
    assert!(storage.deliveries().recipient(other.tenant, to[0].id).await.unwrap().is_none());
    assert!(storage.deliveries().attempts(other.tenant, message).await.unwrap().is_empty());
    assert_eq!(storage.deliveries().recipients(alice.tenant, message).await.unwrap().len(), 1);
    assert_eq!(status(&storage, &alice, message).await, MessageStatus::Queued);
}

/// An outgoing message that was accepted.
async fn queued(storage: &Storage, recipients: usize) -> (Person, MessageId, Vec<NewRecipient>) {
    queued_of(storage, alice(storage, "a.example").await, recipients).await
}

async fn queued_of(storage: &Storage, alice: Person, recipients: usize) -> (Person, MessageId, Vec<NewRecipient>) {
    let entry = outgoing(&alice, recipients);
    let (message, recipients) = (id(&entry), entry.recipients.clone());
    accept(storage, entry).await.unwrap();
    (alice, message, recipients)
}

/// An attempt with which the sender hears that the message is late.
fn late(to: &NewRecipient) -> Attempt {
    Attempt { notice: Some(MessageId::new(NOW)), ..attempt(to, NOW, AttemptOutcome::Deferred) }
}

async fn record(storage: &Storage, person: &Person, attempts: Vec<Attempt>) {
    accept(storage, Acceptance { attempts, ..nothing(person.tenant) }).await.unwrap();
}

async fn status(storage: &Storage, person: &Person, message: MessageId) -> MessageStatus {
    storage.messages().get(person.tenant, message).await.unwrap().unwrap().status
}
