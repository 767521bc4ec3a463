//! Cases for [`EventLog`](crate::EventLog), and for how events come into being.

#![expect(clippy::unwrap_used, reason = "a case that fails panics")]

use std::time::Duration;

use mairust_core::{EventId, TenantId, Timestamp};
use serde_json::json;

use super::sample::{NOW, Storage, accept, alice, entry, id, kind, nothing, outgoing};
use crate::error::StoreErrorKind;
use crate::event::{Event, EventQuery, EventSpan, NewEvent};
use crate::message::Acceptance;

/// An event of this kind.
pub(crate) fn event(kind: &str, at: Timestamp) -> NewEvent {
    let data = json!({"subject": "\u{0}ü\"", "b": 1, "a": null});
    NewEvent { id: EventId::new(at), kind: kind.to_owned(), at, data }
}

/// What happened, and nothing else.
pub(crate) fn told(tenant: TenantId, events: Vec<NewEvent>) -> Acceptance {
    Acceptance { events, ..nothing(tenant) }
}

/// All events of a tenant behind a position.
pub(crate) async fn behind(storage: &Storage, tenant: TenantId, after: u64) -> Vec<Event> {
    let query = EventQuery { after, limit: 1_000, ..EventQuery::default() };
    storage.events().list(tenant, &query).await.unwrap().items
}

fn positions(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.position).collect()
}

/// Events come with what they tell of, in the order in which they were given, and are read back as they were.
pub async fn tells_what_was_accepted_in_order(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    assert_eq!(storage.events().span(alice.tenant).await.unwrap(), EventSpan::default());
    let given = [event("message.received", NOW), event("message.sent", NOW), event("message.bounced", NOW)];
    let mut plain = entry(&alice, "Subject: x\r\n\r\nx\r\n");
    plain.events = given[..2].to_vec();
    accept(&storage, plain).await.unwrap();
    // With an attempt, rows have to be read first.
    let sent = outgoing(&alice, 1);
    let result = super::sample::attempt(&sent.recipients[0], NOW, crate::delivery::AttemptOutcome::Failed);
    accept(&storage, sent).await.unwrap();
    let result = Acceptance { attempts: vec![result], events: given[2..].to_vec(), ..nothing(alice.tenant) };
    accept(&storage, result).await.unwrap();
    let found = behind(&storage, alice.tenant, 0).await;
    assert_eq!(positions(&found), [1, 2, 3]);
    for (found, given) in found.iter().zip(&given) {
        assert_eq!((found.id, &found.kind, found.at, &found.data), (given.id, &given.kind, given.at, &given.data));
    }
    let events = storage.events();
    assert_eq!(events.at(alice.tenant, 2).await.unwrap(), Some(found[1].clone()));
    assert_eq!(events.at(alice.tenant, 4).await.unwrap(), None);
    assert_eq!(events.span(alice.tenant).await.unwrap(), EventSpan { dropped: 0, newest: 3 });
}

/// Neither a bad entry nor a bad event leaves anything behind, and others in the same batch are not harmed.
pub async fn tells_nothing_of_a_failed_entry(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let mut bad = entry(&alice, "Subject: bad\r\n\r\nx\r\n");
    bad.messages[0].placements[0].mailbox = mairust_core::MailboxId::new(NOW);
    bad.events = vec![event("message.received", NOW)];
    let mut odd = entry(&alice, "Subject: odd\r\n\r\nx\r\n");
    odd.events = vec![event("Message Received", NOW)];
    let mut good = entry(&alice, "Subject: good\r\n\r\nx\r\n");
    good.events = vec![event("message.received", NOW)];
    let (lost, wanted) = (id(&odd), good.events[0].id);
    let answers = storage.messages().accept(vec![bad, odd, good]).await;
    let kinds: Vec<_> = answers.into_iter().map(|answer| answer.err().map(|error| error.kind())).collect();
    assert_eq!(kinds, [Some(StoreErrorKind::NotFound), Some(StoreErrorKind::Invalid), None]);
    let found = behind(&storage, alice.tenant, 0).await;
    assert_eq!((positions(&found), found[0].id), (vec![1], wanted));
    assert_eq!(storage.messages().get(alice.tenant, lost).await.unwrap(), None);
    let nobody = TenantId::new(NOW);
    assert_eq!(kind(accept(&storage, told(nobody, vec![event("a", NOW)])).await), StoreErrorKind::NotFound);
}

/// Whoever did not hear the answer and says it again is told so.
pub async fn an_event_is_told_once(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let once = told(alice.tenant, vec![event("message.sent", NOW)]);
    accept(&storage, once.clone()).await.unwrap();
    assert_eq!(kind(accept(&storage, once).await), StoreErrorKind::AlreadyExists);
    assert_eq!(positions(&behind(&storage, alice.tenant, 0).await), [1]);
}

/// By kind and position, in pages.
pub async fn filters_events(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let kinds = ["message.received", "message.sent", "message.received", "message.bounced", "message.received"];
    accept(&storage, told(alice.tenant, kinds.map(|kind| event(kind, NOW)).to_vec())).await.unwrap();
    let list = async |after, kinds: &[&str], limit| {
        let kinds = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        let page = storage.events().list(alice.tenant, &EventQuery { after, kinds, limit }).await.unwrap();
        (positions(&page.items), page.has_more)
    };
    assert_eq!(list(0, &["message.received"], 10).await, (vec![1, 3, 5], false));
    assert_eq!(list(1, &["message.received", "message.sent"], 2).await, (vec![2, 3], true));
    assert_eq!(list(3, &[], 2).await, (vec![4, 5], false));
    assert_eq!(list(5, &[], 2).await, (vec![], false));
    assert_eq!(list(0, &["message.held"], 2).await, (vec![], false));
}

/// What is old goes, from the beginning; positions are not given again.
pub async fn forgets_old_events(storage: Storage) {
    let (alice, other) = (alice(&storage, "a.example").await, self::alice(&storage, "b.example").await);
    let later = NOW.plus(Duration::from_secs(100));
    for (at, count) in [(NOW, 3), (later, 2)] {
        let events = (0..count).map(|_| event("message.sent", at)).collect();
        accept(&storage, told(alice.tenant, events)).await.unwrap();
    }
    accept(&storage, told(other.tenant, vec![event("message.sent", later)])).await.unwrap();
    let events = storage.events();
    assert_eq!(events.tenants_to_purge(NOW).await.unwrap(), []);
    assert_eq!(events.tenants_to_purge(later).await.unwrap(), [alice.tenant]);
    assert_eq!(events.purge(alice.tenant, later, 2).await.unwrap(), 2);
    assert_eq!(events.span(alice.tenant).await.unwrap(), EventSpan { dropped: 2, newest: 5 });
    assert_eq!(events.purge(alice.tenant, later, 2).await.unwrap(), 1);
    assert_eq!(events.purge(alice.tenant, later, 2).await.unwrap(), 0);
    assert_eq!(positions(&behind(&storage, alice.tenant, 0).await), [4, 5]);
    assert_eq!(events.tenants_to_purge(later).await.unwrap(), []);
    events.purge(alice.tenant, later.plus(Duration::from_secs(1)), 10).await.unwrap();
    assert_eq!(events.span(alice.tenant).await.unwrap(), EventSpan { dropped: 5, newest: 5 });
    accept(&storage, told(alice.tenant, vec![event("message.sent", later)])).await.unwrap();
    assert_eq!(positions(&behind(&storage, alice.tenant, 0).await), [6]);
    assert_eq!(positions(&behind(&storage, other.tenant, 0).await), [1]);
}

/// Of all tenants, and of one.
pub async fn wakes_who_waits_for_events(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let (seen, seen_of) = (storage.events().version(), storage.events().version_of(alice.tenant));
    let waiting = {
        let storage = storage.clone();
        tokio::spawn(async move {
            storage.events().changed(seen).await;
            storage.events().changed_of(alice.tenant, seen_of).await;
        })
    };
    accept(&storage, told(alice.tenant, vec![event("message.sent", NOW)])).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap();
}

/// However many write at the same time: whoever reads up to a position misses nothing before it.
pub async fn positions_have_no_gaps(storage: Storage) {
    let (alice, other) = (alice(&storage, "a.example").await, self::alice(&storage, "b.example").await);
    let mut writers = Vec::new();
    for number in 0..8 {
        let (storage, tenants) = (storage.clone(), [alice.tenant, other.tenant]);
        writers.push(tokio::spawn(async move {
            for round in 0..10 {
                let events = || vec![event("message.sent", NOW), event("a", NOW)];
                let batch = (0..3).map(|more| told(tenants[(number + round + more) % 2], events())).collect();
                assert!(storage.messages().accept(batch).await.into_iter().all(|answer| answer.is_ok()));
            }
        }));
    }
    let (mut last, mut read) = (0, Vec::new());
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        let page = behind(&storage, alice.tenant, last).await;
        last = page.last().map_or(last, |event| event.position);
        read.extend(positions(&page));
        tokio::task::yield_now().await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    read.extend(positions(&behind(&storage, alice.tenant, last).await));
    let theirs = behind(&storage, other.tenant, 0).await.len();
    assert_eq!(read.len() + theirs, 8 * 10 * 3 * 2);
    assert_eq!(read, (1..=read.len() as u64).collect::<Vec<_>>());
}

/// Every method with a tenant argument, tried by another tenant.
pub async fn hides_events_from_other_tenants(storage: Storage) {
    let (alice, other) = (alice(&storage, "a.example").await, self::alice(&storage, "b.example").await);
    accept(&storage, told(alice.tenant, vec![event("message.sent", NOW)])).await.unwrap();
    let events = storage.events();
    assert_eq!(behind(&storage, other.tenant, 0).await, []);
    assert_eq!(events.at(other.tenant, 1).await.unwrap(), None);
    assert_eq!(events.span(other.tenant).await.unwrap(), EventSpan::default());
    let later = NOW.plus(Duration::from_secs(1));
    assert_eq!(events.purge(other.tenant, later, 10).await.unwrap(), 0);
    assert_eq!(behind(&storage, alice.tenant, 0).await.len(), 1);
    // The same id is no hindrance to another tenant.
    let same = NewEvent { id: behind(&storage, alice.tenant, 0).await[0].id, ..event("message.sent", NOW) };
    accept(&storage, told(other.tenant, vec![same])).await.unwrap();
}
