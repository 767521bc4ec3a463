//! Cases for [`AuditLog`](crate::AuditLog).

#![expect(clippy::unwrap_used, reason = "a case that fails panics")]

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use mairust_core::{AuditId, Secret, TenantId, Timestamp};
use serde_json::json;

use super::sample::{NOW, Storage, alice, kind};
use crate::audit::{
    AUDIT_BROKEN, Actor, AuditDrop, AuditEntry, AuditKey, AuditLogExt, AuditOrder, AuditProblem, AuditQuery,
    NewAuditEvent, Target,
};
use crate::error::StoreErrorKind;
use crate::owner::Owner;

/// Entries come back as they were appended, one behind the other, and the chain is whole.
pub async fn chains_what_is_appended(storage: Storage) {
    let (log, key) = (storage.audit(), key());
    let owner = Owner::from(alice(&storage, "a.example").await.tenant);
    assert_eq!(log.head(owner).await.unwrap(), None);
    assert!(log.append(owner, &key, Vec::new()).await.unwrap().is_empty());
    let mut bare = event("b", 1);
    (bare.actor, bare.target, bare.before, bare.after, bare.request_id) = (Actor::system(), None, None, None, None);
    let mut odd = event("b\0", 1);
    odd.actor.id = Some("\0\u{85}' 例え".to_owned());
    let mut entries = log.append(owner, &key, vec![event("a", 0), bare, odd]).await.unwrap();
    entries.extend(log.append(owner, &key, vec![event("c", 2)]).await.unwrap());
    assert_eq!(entries.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(listed(&storage, owner, AuditQuery::default()).await, entries);
    for entry in &entries {
        assert_eq!(log.entry(owner, entry.id).await.unwrap().as_ref(), Some(entry));
    }
    assert_eq!(entries[0].after_value(), event("a", 0).after);
    assert_eq!(entries[0].actor, event("a", 0).actor);
    assert_eq!((entries[1].before.clone(), entries[1].target.clone()), (None, None));
    assert_eq!(log.entry(owner, AuditId::new(NOW)).await.unwrap(), None);
    let verified = log.verify(owner, &key).await.unwrap();
    assert!(verified.is_whole(), "{:?}", verified.problems);
    let head = verified.head.unwrap();
    assert_eq!((verified.entries, head.sequence, head.hash), (4, 4, entries[3].hash));
    assert_eq!(log.owners().await.unwrap(), [owner]);
}

/// A chain that nobody began is whole, and empty.
pub async fn an_empty_chain_is_whole(storage: Storage) {
    let verified = storage.audit().verify(Owner::Installation, &key()).await.unwrap();
    assert!(verified.is_whole());
    assert_eq!((verified.entries, verified.head), (0, None));
    assert!(storage.audit().owners().await.unwrap().is_empty());
}

/// Who appends at the same time loses nothing, and no link is doubled.
pub async fn appends_one_after_the_other(storage: Storage) {
    let (log, key) = (storage.audit(), key());
    let owners = [Owner::Installation, Owner::from(alice(&storage, "a.example").await.tenant)];
    let writers = (0..24).map(|number| {
        let events = vec![event(&format!("first of {number}"), 0), event(&format!("second of {number}"), 0)];
        log.append(owners[number % 2], &key, events)
    });
    assert!(join_all(writers).await.iter().all(Result::is_ok));
    for owner in owners {
        let entries = listed(&storage, owner, AuditQuery::default()).await;
        assert_eq!(entries.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), (1..=24).collect::<Vec<_>>());
        for pair in entries.chunks(2) {
            let (first, second) = (pair[0].event_type.as_str(), pair[1].event_type.as_str());
            assert_eq!(first.strip_prefix("first of "), second.strip_prefix("second of "), "{first}, {second}");
        }
        assert!(log.verify(owner, &key).await.unwrap().is_whole());
    }
}

/// A future that is dropped has appended everything or nothing.
pub async fn appends_whole_or_not_at_all_when_dropped(storage: Storage) {
    let (log, key) = (storage.audit(), key());
    for steps in 0..12 {
        let mut append = Box::pin(log.append(Owner::Installation, &key, vec![event("a", 0), event("b", 0)]));
        for _ in 0..steps {
            if append.as_mut().now_or_never().is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(append);
    }
    log.append(Owner::Installation, &key, vec![event("end", 0)]).await.unwrap();
    let entries = listed(&storage, Owner::Installation, AuditQuery::default()).await;
    let count = |wanted: &str| entries.iter().filter(|entry| entry.event_type == wanted).count();
    assert_eq!(count("a"), count("b"));
    assert!(log.verify(Owner::Installation, &key).await.unwrap().is_whole());
}

/// All conditions must hold, in both orders.
pub async fn filters_entries(storage: Storage) {
    let (log, owner) = (storage.audit(), Owner::Installation);
    let mut other = event("b", 10);
    (other.actor.id, other.target) = (Some("u2".to_owned()), None);
    log.append(owner, &key(), vec![event("a", 0), other, event("b", 20)]).await.unwrap();
    let some = |text: &str| Some(text.to_owned());
    let none = AuditQuery::default();
    for (query, expected) in [
        (none.clone(), &[1, 2, 3][..]),
        (AuditQuery { event_type: some("b"), ..none.clone() }, &[2, 3]),
        (AuditQuery { event_type: some("B"), ..none.clone() }, &[]),
        (AuditQuery { actor: some("u1"), ..none.clone() }, &[1, 3]),
        (AuditQuery { target: some("a.example"), ..none.clone() }, &[1, 3]),
        (AuditQuery { since: Some(at(10)), ..none.clone() }, &[2, 3]),
        (AuditQuery { until: Some(at(10)), ..none.clone() }, &[1]),
        (AuditQuery { since: Some(at(1)), until: Some(at(20)), ..none.clone() }, &[2]),
        (AuditQuery { event_type: some("b"), actor: some("u1"), ..none.clone() }, &[3]),
        (AuditQuery { actor: some("%"), ..none.clone() }, &[]),
    ] {
        let found = listed(&storage, owner, query.clone()).await;
        assert_eq!(found.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), expected, "{query:?}");
    }
}

/// Each entry is on one page, in both orders, whatever is appended meanwhile.
pub async fn pages_through_entries(storage: Storage) {
    let (log, owner) = (storage.audit(), Owner::Installation);
    log.append(owner, &key(), (0..7).map(|number| event("a", number)).collect()).await.unwrap();
    for (order, expected) in
        [(AuditOrder::NewestFirst, vec![7, 6, 5, 4, 3, 2, 1]), (AuditOrder::OldestFirst, (1..=8).collect())]
    {
        let mut query = AuditQuery { order, limit: 3, ..AuditQuery::default() };
        let mut found = Vec::new();
        loop {
            let page = log.list(owner, &query).await.unwrap();
            found.extend(page.items.iter().map(|entry| entry.sequence));
            query.after = found.last().copied();
            if order == AuditOrder::NewestFirst && found.len() == 3 {
                log.append(owner, &key(), vec![event("late", 9)]).await.unwrap();
            }
            if !page.has_more {
                break;
            }
        }
        assert_eq!(found, expected, "{order:?}");
    }
    let nothing = log.list(owner, &AuditQuery::default()).await.unwrap();
    assert!(nothing.items.is_empty() && nothing.has_more);
}

/// Old entries go, from the old end only, and the rest stays whole.
pub async fn drops_old_entries(storage: Storage) {
    let (log, key, owner) = (storage.audit(), key(), Owner::Installation);
    // The third one was late: what stands behind it stays until it goes.
    let events = [0, 10, 50, 20, 60].map(|seconds| event("a", seconds)).to_vec();
    let entries = log.append(owner, &key, events).await.unwrap();
    let drop = async |before, max| {
        log.drop_old(owner, &key, AuditDrop { before: at(before), max, now: at(99) }).await.unwrap()
    };
    assert_eq!(drop(0, 10).await, 0);
    assert_eq!((drop(30, 1).await, drop(30, 10).await, drop(30, 10).await), (1, 1, 0));
    let verified = log.verify(owner, &key).await.unwrap();
    assert!(verified.is_whole(), "{:?}", verified.problems);
    let head = verified.head.unwrap();
    assert_eq!((verified.entries, head.dropped, head.dropped_hash), (3, 2, entries[1].hash));
    assert_eq!(log.entry(owner, entries[0].id).await.unwrap(), None);
    assert_eq!(drop(999, 100).await, 3);
    assert!(listed(&storage, owner, AuditQuery::default()).await.is_empty());
    assert!(log.verify(owner, &key).await.unwrap().is_whole());
    let next = log.append(owner, &key, vec![event("b", 100)]).await.unwrap();
    assert_eq!(next[0].sequence, 6);
    assert!(log.verify(owner, &key).await.unwrap().is_whole());
    assert_eq!(
        log.drop_old(Owner::from(TenantId::new(NOW)), &key, AuditDrop { before: at(0), max: 1, now: NOW })
            .await
            .unwrap(),
        0
    );
}

/// Without the key, nobody goes on with a chain unseen: neither by appending nor by dropping.
pub async fn a_head_that_was_not_signed_stays_known(storage: Storage) {
    let (log, key, owner) = (storage.audit(), key(), Owner::Installation);
    let stranger = AuditKey::new(Secret::new([8; 32]));
    log.append(owner, &key, vec![event("a", 0), event("b", 1)]).await.unwrap();
    assert_eq!(log.verify(owner, &stranger).await.unwrap().problems, [AuditProblem::HeadForged]);
    let forged = log.append(owner, &stranger, vec![event("c", 2)]).await.unwrap();
    let types: Vec<_> = forged.iter().map(|entry| entry.event_type.as_str()).collect();
    assert_eq!(types, [AUDIT_BROKEN, "c"]);
    let found = log.verify(owner, &key).await.unwrap().problems;
    assert_eq!(found, [AuditProblem::Broken { sequence: 3 }, AuditProblem::HeadForged]);
    let dropped = log.drop_old(owner, &key, AuditDrop { before: at(1), max: 10, now: at(3) }).await.unwrap();
    assert_eq!(dropped, 1);
    let found = log.verify(owner, &key).await.unwrap().problems;
    assert_eq!(found, [AuditProblem::Broken { sequence: 3 }, AuditProblem::Broken { sequence: 5 }]);
}

/// Every method with an owner, tried by another tenant, and for the installation.
pub async fn keeps_chains_apart(storage: Storage) {
    let (log, key) = (storage.audit(), key());
    let ours = Owner::from(alice(&storage, "a.example").await.tenant);
    let other = Owner::from(alice(&storage, "b.example").await.tenant);
    let entry = log.append(ours, &key, vec![event("a", 0)]).await.unwrap().remove(0);
    for stranger in [other, Owner::Installation] {
        assert_eq!(log.entry(stranger, entry.id).await.unwrap(), None);
        assert!(listed(&storage, stranger, AuditQuery::default()).await.is_empty());
        assert_eq!(log.head(stranger).await.unwrap(), None);
        assert_eq!(log.drop_old(stranger, &key, AuditDrop { before: at(999), max: 10, now: NOW }).await.unwrap(), 0);
        let first = log.append(stranger, &key, vec![event("b", 0)]).await.unwrap().remove(0);
        assert_eq!(first.sequence, 1);
        assert!(log.verify(stranger, &key).await.unwrap().is_whole());
    }
    assert_eq!(listed(&storage, ours, AuditQuery::default()).await, [entry]);
    assert_eq!(log.owners().await.unwrap().len(), 3);
    let nobody = log.append(Owner::from(TenantId::new(NOW)), &key, vec![event("a", 0)]).await;
    assert_eq!(kind(nobody), StoreErrorKind::NotFound);
    let zeros = Owner::Tenant(TenantId::from_bytes([0; 16]));
    assert_eq!(kind(log.append(zeros, &key, vec![event("a", 0)]).await), StoreErrorKind::Invalid);
}

/// All that match, as they were appended; the other order is the same backwards.
async fn listed(storage: &Storage, owner: Owner, query: AuditQuery) -> Vec<AuditEntry> {
    let query = AuditQuery { limit: 1_000, order: AuditOrder::OldestFirst, ..query };
    let forwards = storage.audit().list(owner, &query).await.unwrap();
    let query = AuditQuery { order: AuditOrder::NewestFirst, ..query };
    let mut backwards = storage.audit().list(owner, &query).await.unwrap();
    backwards.items.reverse();
    assert_eq!(forwards.items, backwards.items);
    assert!(!forwards.has_more && !backwards.has_more);
    forwards.items
}

fn event(event_type: &str, seconds: u64) -> NewAuditEvent {
    let ip = Some(IpAddr::V6(Ipv6Addr::LOCALHOST));
    NewAuditEvent {
        at: at(seconds),
        event_type: event_type.to_owned(),
        actor: Actor { kind: "user".to_owned(), id: Some("u1".to_owned()), ip },
        target: Some(Target { kind: "domain".to_owned(), id: "a.example".to_owned() }),
        before: Some(json!(null)),
        after: Some(json!({"name": "\"\u{0}例え\"", "b": 1, "a": [true, -7]})),
        request_id: Some("r1".to_owned()),
    }
}

fn key() -> AuditKey {
    AuditKey::new(Secret::new([7; 32]))
}

fn at(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}
