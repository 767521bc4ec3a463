//! Cases for [`Lifecycle`](crate::Lifecycle).

#![expect(clippy::unwrap_used, reason = "a case that fails panics")]

use std::time::Duration;

use futures::future::{join, join_all, select};
use mairust_core::{MessageId, TenantId, Timestamp};

use super::sample::{
    NOW, Person, Storage, accept, alice, attempt, entry, id, job, kind, outgoing, person, place, queue_stats, stored,
};
use crate::delivery::AttemptOutcome;
use crate::directory::{TenantChange, UserChange};
use crate::error::StoreErrorKind;
use crate::lifecycle::{MAX_RETENTION_DAYS, Purge, Retention};
use crate::message::{Acceptance, Folder, MessageChange, MessageQuery, MessageRow, MessageStatus};
use crate::search::SearchRequest;
use crate::search::feed::feed;

const RAW: &str = "From: Bob <bob@remote.example>\r\nSubject: report\r\n\r\nall about it\r\n";
const DAY: Duration = Duration::from_secs(86_400);

/// What is deleted is nowhere to be seen, except by whoever asks for it; deleting twice is no fault.
pub async fn hides_what_is_deleted(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let (gone, there) = (keep(&storage, &alice).await, keep(&storage, &alice).await);
    let before = stored(&storage, alice.tenant, gone).await.unwrap();
    assert!(storage.lifecycle().delete(alice.tenant, gone, NOW).await.unwrap());
    assert!(!storage.lifecycle().delete(alice.tenant, gone, at(9)).await.unwrap());
    let messages = storage.messages();
    assert!(messages.get(alice.tenant, gone).await.unwrap().is_none());
    assert_eq!(messages.get_all(alice.tenant, &[gone, there]).await.unwrap().len(), 1);
    assert_eq!(kind(messages.body(alice.tenant, gone).await), StoreErrorKind::NotFound);
    assert_eq!(ids(&list(&storage, &alice, &all()).await), [there]);
    let row = kept(&storage, &alice, gone).await.unwrap();
    assert_eq!((row.deleted_at, row.uid, row.modseq, row.legal_hold), (Some(NOW), 1, 3, false));
    let body = storage.lifecycle().kept_body(alice.tenant, gone).await.unwrap();
    assert_eq!(body.read_all().unwrap(), before);
    let change = MessageChange::tags(["late"]);
    messages.change(alice.tenant, gone, &change).await.unwrap();
    assert_eq!(kept(&storage, &alice, gone).await.unwrap().tags, ["late"]);
    let unknown = storage.lifecycle().delete(alice.tenant, MessageId::new(NOW), NOW).await;
    assert_eq!(kind(unknown), StoreErrorKind::NotFound);
}

/// What comes back is as it was, but for its place in the folder; no UID is there twice.
pub async fn restores_with_a_new_uid(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let id = keep(&storage, &alice).await;
    let before = storage.messages().get(alice.tenant, id).await.unwrap().unwrap();
    assert!(!storage.lifecycle().restore(alice.tenant, id).await.unwrap());
    storage.lifecycle().delete(alice.tenant, id, NOW).await.unwrap();
    assert!(storage.lifecycle().restore(alice.tenant, id).await.unwrap());
    assert!(!storage.lifecycle().restore(alice.tenant, id).await.unwrap());
    let after = storage.messages().get(alice.tenant, id).await.unwrap().unwrap();
    assert_eq!((after.uid, after.modseq), (2, 3));
    assert_eq!(after, MessageRow { uid: 2, modseq: 3, ..before });
    assert!(stored(&storage, alice.tenant, id).await.is_ok());
    let next = keep(&storage, &alice).await;
    assert_eq!(storage.messages().get(alice.tenant, next).await.unwrap().unwrap().uid, 3);
    assert_eq!(purge(&storage, &alice, next).await, Purge::Done);
    let last = keep(&storage, &alice).await;
    assert_eq!(storage.messages().get(alice.tenant, last).await.unwrap().unwrap().uid, 4);
    let unknown = storage.lifecycle().restore(alice.tenant, MessageId::new(NOW)).await;
    assert_eq!(kind(unknown), StoreErrorKind::NotFound);
}

/// The use of a mailbox is that of the messages that are not deleted, whatever became of the others.
pub async fn frees_room_when_deleting(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let ids = [keep(&storage, &alice).await, keep(&storage, &alice).await, keep(&storage, &alice).await];
    let size = used(&storage, &alice).await / 3;
    assert!(size > 0);
    let lifecycle = storage.lifecycle();
    lifecycle.delete(alice.tenant, ids[0], NOW).await.unwrap();
    lifecycle.delete(alice.tenant, ids[0], NOW).await.unwrap();
    assert_eq!(used(&storage, &alice).await, 2 * size);
    lifecycle.restore(alice.tenant, ids[0]).await.unwrap();
    lifecycle.restore(alice.tenant, ids[0]).await.unwrap();
    assert_eq!(used(&storage, &alice).await, 3 * size);
    lifecycle.archive(alice.tenant, ids[0]).await.unwrap();
    assert_eq!(used(&storage, &alice).await, 3 * size);
    lifecycle.delete(alice.tenant, ids[0], NOW).await.unwrap();
    assert_eq!(purge(&storage, &alice, ids[0]).await, Purge::Done);
    assert_eq!(used(&storage, &alice).await, 2 * size);
    assert_eq!(purge(&storage, &alice, ids[1]).await, Purge::Done);
    assert_eq!(used(&storage, &alice).await, size);
}

/// The list of what is deleted has the filters and pages of the other one.
pub async fn lists_what_is_deleted(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let bob = person(&storage, alice.tenant, "bob@a.example").await;
    let (one, other, there) = (keep(&storage, &alice).await, keep(&storage, &bob).await, keep(&storage, &bob).await);
    for id in [one, other] {
        storage.lifecycle().delete(alice.tenant, id, NOW).await.unwrap();
    }
    let deleted = MessageQuery { deleted: true, ..all() };
    let mut found = ids(&list(&storage, &alice, &deleted).await);
    found.sort_unstable();
    let mut expected = [one, other];
    expected.sort_unstable();
    assert_eq!(found, expected);
    let of_bob = MessageQuery { mailbox: Some(bob.mailbox), ..deleted.clone() };
    assert_eq!(ids(&list(&storage, &alice, &of_bob).await), [other]);
    let page = MessageQuery { limit: 1, ..deleted };
    let page = storage.messages().list(alice.tenant, &page).await.unwrap();
    assert_eq!((page.items.len(), page.has_more), (1, true));
    assert_eq!(ids(&list(&storage, &alice, &all()).await), [there]);
}

/// Recipients who wait get what was deleted meanwhile, and it is not purged before.
pub async fn delivers_what_was_deleted(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let mut sent = outgoing(&alice, 1);
    sent.jobs.clear();
    let (id, recipient) = (id(&sent), sent.recipients[0].clone());
    accept(&storage, sent).await.unwrap();
    storage.lifecycle().delete(alice.tenant, id, NOW).await.unwrap();
    assert_eq!(purge(&storage, &alice, id).await, Purge::InUse);
    assert_eq!(purge_deleted(&storage, &alice, at(9), 0).await, 0);
    let delivered = attempt(&recipient, at(1), AttemptOutcome::Delivered);
    let tenant = alice.tenant;
    let result = Acceptance { attempts: vec![delivered], ..Acceptance::new(tenant) };
    accept(&storage, result).await.unwrap();
    let row = kept(&storage, &alice, id).await.unwrap();
    assert_eq!((row.status, row.deleted_at), (MessageStatus::Sent, Some(NOW)));
    assert_eq!(storage.deliveries().recipients(tenant, id).await.unwrap().len(), 1);
    assert_eq!(purge_deleted(&storage, &alice, at(9), 0).await, 1);
    assert!(storage.deliveries().recipients(tenant, id).await.unwrap().is_empty());
    assert!(storage.deliveries().attempts(tenant, id).await.unwrap().is_empty());
}

/// What was deleted long enough ago goes, a bounded number at a time, and nothing else.
pub async fn purges_what_was_deleted_long_ago(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let mut ids = Vec::new();
    for number in 0..6 {
        let id = keep(&storage, &alice).await;
        storage.messages().change(alice.tenant, id, &MessageChange::tags(["x"])).await.unwrap();
        if number < 5 {
            storage.lifecycle().delete(alice.tenant, id, NOW.plus(DAY * number)).await.unwrap();
        }
        ids.push(id);
    }
    storage.lifecycle().restore(alice.tenant, ids[1]).await.unwrap();
    // Deleted on the days 0, 2, 3 and 4; kept for 3 days.
    assert_eq!(purge_deleted(&storage, &alice, NOW.plus(DAY * 3).minus(Duration::from_secs(1)), 3).await, 0);
    assert!(to_clean(&storage, NOW.plus(DAY * 3).minus(Duration::from_secs(1)), 3).await.is_empty());
    assert_eq!(to_clean(&storage, NOW.plus(DAY * 3), 3).await, [alice.tenant]);
    assert_eq!(purge_deleted(&storage, &alice, NOW.plus(DAY * 3), 3).await, 1);
    assert!(kept(&storage, &alice, ids[0]).await.is_none());
    let retention = Retention { now: NOW.plus(DAY * 99), days: 3 };
    assert_eq!(storage.lifecycle().purge_deleted(alice.tenant, retention, 2).await.unwrap(), 2);
    assert!(kept(&storage, &alice, ids[4]).await.is_some());
    assert_eq!(storage.lifecycle().purge_deleted(alice.tenant, retention, 2).await.unwrap(), 1);
    assert_eq!(storage.lifecycle().purge_deleted(alice.tenant, retention, 2).await.unwrap(), 0);
    while storage.lifecycle().remove_objects(alice.tenant, 1).await.unwrap() > 0 {}
    assert!(to_clean(&storage, NOW.plus(DAY * 99), 3).await.is_empty());
    for id in &ids {
        let there = [ids[1], ids[5]].contains(id);
        assert_eq!(kept(&storage, &alice, *id).await.is_some(), there);
        assert_eq!(stored(&storage, alice.tenant, *id).await.is_ok(), there);
    }
}

/// Purging needs no deleting before, leaves nothing behind, and what is gone is gone.
pub async fn purges_at_once(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let sent = entry(&alice, RAW);
    let id = id(&sent);
    accept(&storage, sent.clone()).await.unwrap();
    assert_eq!(purge(&storage, &alice, id).await, Purge::Done);
    let lifecycle = storage.lifecycle();
    assert!(kept(&storage, &alice, id).await.is_none());
    assert_eq!(kind(lifecycle.kept_body(alice.tenant, id).await), StoreErrorKind::NotFound);
    assert_eq!(kind(lifecycle.purge(alice.tenant, id).await), StoreErrorKind::NotFound);
    assert_eq!(kind(lifecycle.restore(alice.tenant, id).await), StoreErrorKind::NotFound);
    assert_eq!(kind(lifecycle.archive(alice.tenant, id).await), StoreErrorKind::NotFound);
    assert_eq!(kind(lifecycle.set_legal_hold(alice.tenant, id, true).await), StoreErrorKind::NotFound);
    // Neither row nor body is in the way of the same message.
    let again = Acceptance { jobs: Vec::new(), ..sent };
    accept(&storage, again).await.unwrap();
    assert!(stored(&storage, alice.tenant, id).await.unwrap().ends_with(RAW.as_bytes()));
}

/// What is still to be done with a message keeps it; what was given up goes with it.
pub async fn a_job_keeps_its_message(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let mut entry = entry(&alice, RAW);
    let id = id(&entry);
    entry.jobs[0].message = Some(id);
    accept(&storage, entry).await.unwrap();
    storage.lifecycle().delete(alice.tenant, id, NOW).await.unwrap();
    assert_eq!(purge(&storage, &alice, id).await, Purge::InUse);
    let lease = storage.queue().lease(NOW, 1, DAY).await.unwrap().remove(0);
    assert_eq!(purge_deleted(&storage, &alice, NOW, 0).await, 0);
    storage.queue().bury(&lease, "no use").await.unwrap();
    assert_eq!(queue_stats(&storage, NOW).await.buried, 1);
    assert_eq!(purge_deleted(&storage, &alice, NOW, 0).await, 1);
    assert_eq!(queue_stats(&storage, NOW).await.buried, 0);
}

/// A hold on a message, its mailbox or its tenant stops purging, and nothing else.
pub async fn keeps_what_is_on_hold(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let lifecycle = storage.lifecycle();
    for level in ["message", "mailbox", "tenant"] {
        let hold = async |id, on_hold| match level {
            "message" => assert!(lifecycle.set_legal_hold(alice.tenant, id, on_hold).await.unwrap()),
            "mailbox" => {
                let change = UserChange { legal_hold: Some(on_hold), ..UserChange::default() };
                storage.directory().change_user(alice.tenant, alice.user, &change).await.unwrap();
                let user = storage.directory().user(alice.tenant, alice.user).await.unwrap().unwrap();
                assert_eq!(user.legal_hold, on_hold);
            }
            _ => {
                let change = TenantChange { legal_hold: Some(on_hold), ..TenantChange::default() };
                storage.directory().change_tenant(alice.tenant, &change).await.unwrap();
                let tenant = storage.directory().tenant(alice.tenant).await.unwrap().unwrap();
                assert_eq!((tenant.legal_hold, tenant.enabled), (on_hold, true));
            }
        };
        let id = keep(&storage, &alice).await;
        hold(id, true).await;
        assert_eq!(purge(&storage, &alice, id).await, Purge::OnHold, "{level}");
        assert!(storage.messages().get(alice.tenant, id).await.unwrap().is_some(), "{level}");
        lifecycle.delete(alice.tenant, id, NOW).await.unwrap();
        assert_eq!(purge(&storage, &alice, id).await, Purge::OnHold, "{level}");
        assert_eq!(purge_deleted(&storage, &alice, at(9), 0).await, 0, "{level}");
        lifecycle.restore(alice.tenant, id).await.unwrap();
        lifecycle.delete(alice.tenant, id, NOW).await.unwrap();
        hold(id, false).await;
        assert_eq!(purge_deleted(&storage, &alice, at(9), 0).await, 1, "{level}");
    }
    let id = keep(&storage, &alice).await;
    assert!(!lifecycle.set_legal_hold(alice.tenant, id, false).await.unwrap());
    assert!(lifecycle.set_legal_hold(alice.tenant, id, true).await.unwrap());
    assert!(!lifecycle.set_legal_hold(alice.tenant, id, true).await.unwrap());
    assert!(storage.messages().get(alice.tenant, id).await.unwrap().unwrap().legal_hold);
}

/// The number of days of a tenant goes before that of the server.
pub async fn tenants_keep_for_as_long_as_they_want(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let days = async |days| {
        let change = TenantChange { deleted_messages_days: Some(days), ..TenantChange::default() };
        storage.directory().change_tenant(alice.tenant, &change).await
    };
    let id = keep(&storage, &alice).await;
    storage.lifecycle().delete(alice.tenant, id, NOW).await.unwrap();
    days(Some(MAX_RETENTION_DAYS)).await.unwrap();
    let tenant = storage.directory().tenant(alice.tenant).await.unwrap().unwrap();
    assert_eq!(tenant.deleted_messages_days, Some(MAX_RETENTION_DAYS));
    let now = NOW.plus(DAY * 50);
    assert_eq!(purge_deleted(&storage, &alice, now, 0).await, 0);
    assert!(to_clean(&storage, now, 0).await.is_empty());
    days(None).await.unwrap();
    assert_eq!(purge_deleted(&storage, &alice, now, 51).await, 0);
    days(Some(50)).await.unwrap();
    storage.directory().change_tenant(alice.tenant, &TenantChange::default()).await.unwrap();
    assert_eq!(to_clean(&storage, now, 51).await, [alice.tenant]);
    assert_eq!(purge_deleted(&storage, &alice, now, 51).await, 1);
    assert_eq!(kind(days(Some(MAX_RETENTION_DAYS + 1)).await), StoreErrorKind::Invalid);
    // Neither the longest nor an impossible time is more than can be reckoned with.
    assert_eq!(purge_deleted(&storage, &alice, now, u32::MAX).await, 0);
}

/// An object that several messages share stays until the last one is purged.
pub async fn keeps_an_object_for_the_last_message(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let bob = person(&storage, alice.tenant, "bob@a.example").await;
    let mut shared = entry(&alice, RAW);
    shared.messages[0].placements.push(place(&bob));
    shared.jobs.clear();
    let [first, second] = [0, 1].map(|index| shared.messages[0].placements[index].id);
    accept(&storage, shared.clone()).await.unwrap();
    assert_eq!(purge(&storage, &alice, first).await, Purge::Done);
    while storage.lifecycle().remove_objects(alice.tenant, 9).await.unwrap() > 0 {}
    assert!(stored(&storage, alice.tenant, second).await.unwrap().ends_with(RAW.as_bytes()));
    assert_eq!(purge(&storage, &bob, second).await, Purge::Done);
    accept(&storage, shared).await.unwrap();
    let both = join(storage.lifecycle().purge(alice.tenant, first), storage.lifecycle().purge(alice.tenant, second));
    let (one, other) = both.await;
    assert_eq!((one.unwrap(), other.unwrap()), (Purge::Done, Purge::Done));
    assert_eq!((used(&storage, &alice).await, used(&storage, &bob).await), (0, 0));
}

/// An object is moved for all messages that share it, once, deleted or not.
pub async fn archives_for_all_who_share(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let bob = person(&storage, alice.tenant, "bob@a.example").await;
    let mut shared = entry(&alice, RAW);
    shared.messages[0].placements.push(place(&bob));
    let [first, second] = [0, 1].map(|index| shared.messages[0].placements[index].id);
    accept(&storage, shared).await.unwrap();
    let other = keep(&storage, &alice).await;
    storage.lifecycle().delete(alice.tenant, second, NOW).await.unwrap();
    let before = stored(&storage, alice.tenant, first).await.unwrap();
    let both =
        join(storage.lifecycle().archive(alice.tenant, first), storage.lifecycle().archive(alice.tenant, second));
    let (one, two) = both.await;
    assert_eq!(usize::from(one.unwrap()) + usize::from(two.unwrap()), 1);
    assert!(!storage.lifecycle().archive(alice.tenant, first).await.unwrap());
    let key = format!("archive/{}/{}/{first}.eml", alice.tenant, alice.mailbox);
    for id in [first, second] {
        let row = kept(&storage, &alice, id).await.unwrap();
        assert_eq!((row.object_key.as_str(), row.is_archived()), (key.as_str(), true));
        let body = storage.lifecycle().kept_body(alice.tenant, id).await.unwrap();
        assert_eq!(body.read_all().unwrap(), before);
    }
    assert!(!kept(&storage, &alice, other).await.unwrap().is_archived());
    assert_eq!(purge(&storage, &alice, first).await, Purge::Done);
    assert!(storage.lifecycle().restore(alice.tenant, second).await.unwrap());
    assert_eq!(stored(&storage, alice.tenant, second).await.unwrap(), before);
    assert_eq!(purge(&storage, &bob, second).await, Purge::Done);
}

/// Searches find what is not deleted, at once; the index forgets the rest and learns what comes back.
pub async fn searches_find_what_is_there_only(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let ids = [keep(&storage, &alice).await, keep(&storage, &alice).await];
    let index = async || while feed(&*storage, NOW, 9).await.unwrap() > 0 {};
    let found = async || {
        let request = SearchRequest::new("report".parse().unwrap(), NOW);
        let page = storage.search_index().search(alice.tenant, &request).await.unwrap();
        let mut found: Vec<_> = page.items.into_iter().map(|position| position.id).collect();
        found.sort_unstable();
        found
    };
    index().await;
    let mut both = ids;
    both.sort_unstable();
    assert_eq!(found().await, both);
    storage.lifecycle().delete(alice.tenant, ids[0], NOW).await.unwrap();
    assert_eq!(found().await, [ids[1]]);
    assert_eq!(storage.search_outbox().pending().await.unwrap(), 1);
    index().await;
    assert_eq!(found().await, [ids[1]]);
    storage.lifecycle().restore(alice.tenant, ids[0]).await.unwrap();
    index().await;
    assert_eq!(found().await, both);
    // What is deleted is not indexed when the index is made again.
    storage.lifecycle().delete(alice.tenant, ids[0], NOW).await.unwrap();
    index().await;
    storage.search_outbox().rebuild().await.unwrap();
    assert_eq!(storage.search_outbox().refill(9).await.unwrap(), 1);
    index().await;
    assert_eq!(purge(&storage, &alice, ids[0]).await, Purge::Done);
    assert_eq!(purge(&storage, &alice, ids[1]).await, Purge::Done);
    assert!(found().await.is_empty());
    index().await;
    assert_eq!(storage.search_outbox().pending().await.unwrap(), 0);
}

/// A future that is dropped at any point leaves a change that is whole, or none.
pub async fn changes_whole_or_not_at_all_when_dropped(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let mut ids = Vec::new();
    for count in 0..12 {
        for what in ["delete", "restore", "archive", "purge"] {
            let id = keep(&storage, &alice).await;
            if what == "restore" {
                storage.lifecycle().delete(alice.tenant, id, NOW).await.unwrap();
            }
            let work = async {
                let lifecycle = storage.lifecycle();
                match what {
                    "delete" => lifecycle.delete(alice.tenant, id, NOW).await.map(drop),
                    "restore" => lifecycle.restore(alice.tenant, id).await.map(drop),
                    "archive" => lifecycle.archive(alice.tenant, id).await.map(drop),
                    _ => lifecycle.purge(alice.tenant, id).await.map(drop),
                }
            };
            let steps = async {
                for _ in 0..count * 3 {
                    tokio::task::yield_now().await;
                }
            };
            drop(select(Box::pin(work), Box::pin(steps)).await);
            ids.push(id);
        }
    }
    // What was dropped is over when the next change is made.
    keep(&storage, &alice).await;
    let mut size = 0;
    for row in list(&storage, &alice, &MessageQuery { limit: 200, ..all() }).await {
        size += row.size;
    }
    assert_eq!(used(&storage, &alice).await, size);
    for id in ids {
        if kept(&storage, &alice, id).await.is_some() {
            assert!(storage.lifecycle().kept_body(alice.tenant, id).await.is_ok(), "a message without its body");
            assert_eq!(purge(&storage, &alice, id).await, Purge::Done);
        }
    }
    assert_eq!(ids_of_all(&storage, &alice).await, 1);
}

/// Mail that comes in, results of deliveries and changes of the same mailbox at the same time.
pub async fn many_at_once_are_not_in_each_others_way(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let mut sent = outgoing(&alice, 10);
    sent.jobs.clear();
    let recipients = sent.recipients.clone();
    let queued = id(&sent);
    accept(&storage, sent).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(keep(&storage, &alice).await);
    }
    let incoming = recipients.iter().zip([Folder::Inbox, Folder::Sent].into_iter().cycle());
    let incoming = incoming.map(|(recipient, folder)| {
        let mut notice = entry(&alice, RAW);
        notice.messages[0].placements[0].folder = folder;
        notice.jobs.clear();
        notice.attempts = vec![attempt(recipient, NOW, AttemptOutcome::Failed)];
        accept(&storage, notice)
    });
    let changes = ids.iter().chain([&queued]).map(async |id| {
        storage.lifecycle().delete(alice.tenant, *id, NOW).await?;
        storage.lifecycle().restore(alice.tenant, *id).await?;
        storage.lifecycle().delete(alice.tenant, *id, NOW).await.map(drop)
    });
    let purges = ids.iter().map(async |id| storage.lifecycle().purge(alice.tenant, *id).await.map(drop));
    let (accepted, (changed, purged)) = join(join_all(incoming), join(join_all(changes), join_all(purges))).await;
    assert!(accepted.iter().all(Result::is_ok), "{accepted:?}");
    assert!(purged.iter().all(Result::is_ok), "{purged:?}");
    // Purged in the middle of it.
    let fine = |change: &Result<_, crate::StoreError>| {
        change.as_ref().err().is_none_or(|error| error.kind() == StoreErrorKind::NotFound)
    };
    assert!(changed.iter().all(fine), "{changed:?}");
    let rows = list(&storage, &alice, &all()).await;
    assert_eq!((rows.len(), rows.iter().map(|row| row.size).sum::<u64>()), (10, used(&storage, &alice).await));
    let row = kept(&storage, &alice, queued).await.unwrap();
    assert_eq!((row.status, row.deleted_at.is_some()), (MessageStatus::Failed, true));
}

/// Who waits for messages is woken when one is deleted, restored or purged.
pub async fn wakes_who_waits_for_changes(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let id = keep(&storage, &alice).await;
    let mut seen = storage.messages().version(alice.tenant);
    storage.lifecycle().delete(alice.tenant, id, NOW).await.unwrap();
    let mut grows = || {
        let before = std::mem::replace(&mut seen, storage.messages().version(alice.tenant));
        seen > before
    };
    assert!(grows());
    storage.lifecycle().restore(alice.tenant, id).await.unwrap();
    assert!(grows());
    storage.lifecycle().restore(alice.tenant, id).await.unwrap();
    assert!(!grows());
    assert_eq!(purge(&storage, &alice, id).await, Purge::Done);
    assert!(grows());
    let id = keep(&storage, &alice).await;
    storage.lifecycle().delete(alice.tenant, id, NOW).await.unwrap();
    assert!(grows());
    assert_eq!(purge_deleted(&storage, &alice, NOW, 0).await, 1);
    assert!(grows());
    assert_eq!(purge_deleted(&storage, &alice, NOW, 0).await, 0);
    assert!(!grows());
}

/// Every method with a tenant argument, tried by another tenant.
pub async fn hides_the_lifecycle_from_other_tenants(storage: Storage) {
    let (alice, other) = (alice(&storage, "a.example").await, self::alice(&storage, "b.example").await);
    let (there, deleted) = (keep(&storage, &alice).await, keep(&storage, &alice).await);
    storage.lifecycle().delete(alice.tenant, deleted, NOW).await.unwrap();
    let lifecycle = storage.lifecycle();
    for id in [there, deleted] {
        assert!(lifecycle.kept(other.tenant, id).await.unwrap().is_none());
        assert_eq!(kind(lifecycle.kept_body(other.tenant, id).await), StoreErrorKind::NotFound);
        assert_eq!(kind(lifecycle.delete(other.tenant, id, NOW).await), StoreErrorKind::NotFound);
        assert_eq!(kind(lifecycle.restore(other.tenant, id).await), StoreErrorKind::NotFound);
        assert_eq!(kind(lifecycle.set_legal_hold(other.tenant, id, true).await), StoreErrorKind::NotFound);
        assert_eq!(kind(lifecycle.archive(other.tenant, id).await), StoreErrorKind::NotFound);
        assert_eq!(kind(lifecycle.purge(other.tenant, id).await), StoreErrorKind::NotFound);
    }
    let deleted_by_other = MessageQuery { deleted: true, ..all() };
    assert!(list(&storage, &other, &deleted_by_other).await.is_empty());
    assert_eq!(purge_deleted(&storage, &other, at(9), 0).await, 0);
    assert_eq!(purge_deleted(&storage, &alice, at(9), 0).await, 1);
    assert_eq!(lifecycle.remove_objects(other.tenant, 9).await.unwrap(), 0);
    assert_eq!(lifecycle.remove_objects(alice.tenant, 9).await.unwrap(), 1);
    let nobody = TenantId::new(NOW);
    assert_eq!(lifecycle.purge_deleted(nobody, Retention { now: NOW, days: 0 }, 9).await.unwrap(), 0);
    let hold = UserChange { legal_hold: Some(true), ..UserChange::default() };
    let foreign = storage.directory().change_user(other.tenant, alice.user, &hold).await;
    assert_eq!(kind(foreign), StoreErrorKind::NotFound);
    assert!(!storage.directory().user(alice.tenant, alice.user).await.unwrap().unwrap().legal_hold);
    let row = storage.messages().get(alice.tenant, there).await.unwrap().unwrap();
    assert_eq!((row.modseq, row.legal_hold, row.is_archived()), (1, false, false));
}

fn all() -> MessageQuery {
    MessageQuery { limit: 100, ..MessageQuery::default() }
}

fn at(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

/// Accepts a message without any work that follows.
async fn keep(storage: &Storage, person: &Person) -> MessageId {
    let mut entry = entry(person, RAW);
    let id = id(&entry);
    // A job about nothing in particular keeps no message.
    entry.jobs = vec![job(person.tenant, NOW)];
    accept(storage, entry).await.unwrap();
    id
}

async fn kept(storage: &Storage, person: &Person, id: MessageId) -> Option<MessageRow> {
    storage.lifecycle().kept(person.tenant, id).await.unwrap()
}

async fn purge(storage: &Storage, person: &Person, id: MessageId) -> Purge {
    storage.lifecycle().purge(person.tenant, id).await.unwrap()
}

async fn purge_deleted(storage: &Storage, person: &Person, now: Timestamp, days: u32) -> u32 {
    storage.lifecycle().purge_deleted(person.tenant, Retention { now, days }, 100).await.unwrap()
}

async fn to_clean(storage: &Storage, now: Timestamp, days: u32) -> Vec<TenantId> {
    storage.lifecycle().tenants_to_clean(Retention { now, days }).await.unwrap()
}

async fn used(storage: &Storage, person: &Person) -> u64 {
    storage.directory().user(person.tenant, person.user).await.unwrap().unwrap().quota.used
}

async fn list(storage: &Storage, person: &Person, query: &MessageQuery) -> Vec<MessageRow> {
    storage.messages().list(person.tenant, query).await.unwrap().items
}

fn ids(rows: &[MessageRow]) -> Vec<MessageId> {
    rows.iter().map(|row| row.id).collect()
}

async fn ids_of_all(storage: &Storage, person: &Person) -> usize {
    let deleted = MessageQuery { deleted: true, ..all() };
    list(storage, person, &all()).await.len() + list(storage, person, &deleted).await.len()
}
