//! Cases of [`Suppressions`](crate::Suppressions).

#![expect(clippy::unwrap_used, reason = "a case that fails panics")]

use std::time::Duration;

use mairust_core::{SuppressionId, Timestamp};

use super::sample::{NOW, Person, Storage, accept, address, alice, attempt, kind, nothing, outgoing};
use crate::delivery::AttemptOutcome;
use crate::error::StoreErrorKind;
use crate::message::Acceptance;
use crate::suppression::{MAX_SUPPRESSION_DETAIL, NewSuppression, Suppression, SuppressionReason};

fn new(text: &str) -> NewSuppression {
    NewSuppression {
        id: SuppressionId::new(NOW),
        address: address(text),
        reason: SuppressionReason::Manual,
        detail: Some("asked for it".to_owned()),
        created_at: NOW,
        expires_at: None,
    }
}

fn later(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

async fn listed(storage: &Storage, owner: &Person) -> Vec<Suppression> {
    storage.suppressions().list(owner.tenant, None, 100).await.unwrap().items
}

/// An address is read back as it was added, is there once, and can be taken off.
pub async fn keeps_addresses(storage: Storage) {
    let (alice, list) = (alice(&storage, "a.example").await, storage.suppressions());
    let given = new("Bob@Remote.example");
    let added = list.add(alice.tenant, given.clone()).await.unwrap();
    assert_eq!(added, Suppression::from(given));
    assert_eq!(list.get(alice.tenant, added.id).await.unwrap().as_ref(), Some(&added));
    let asked = [address("bob@REMOTE.example"), address("eve@remote.example")];
    assert_eq!(list.which(alice.tenant, &asked, NOW).await.unwrap(), std::slice::from_ref(&added));
    assert_eq!(list.which(alice.tenant, &[], NOW).await.unwrap(), []);
    let again = list.add(alice.tenant, new("bob@remote.example")).await;
    assert_eq!(kind(again), StoreErrorKind::AlreadyExists);
    assert_eq!(listed(&storage, &alice).await, std::slice::from_ref(&added));
    let long = NewSuppression { detail: Some("x".repeat(MAX_SUPPRESSION_DETAIL + 1)), ..new("x@remote.example") };
    assert_eq!(kind(list.add(alice.tenant, long).await), StoreErrorKind::Invalid);
    list.remove(alice.tenant, added.id).await.unwrap();
    assert_eq!(kind(list.remove(alice.tenant, added.id).await), StoreErrorKind::NotFound);
    assert_eq!(list.get(alice.tenant, added.id).await.unwrap(), None);
    assert_eq!(list.which(alice.tenant, &asked, NOW).await.unwrap(), []);
}

/// What holds no more gives way, and is forgotten.
pub async fn entries_end_when_they_should(storage: Storage) {
    let (alice, list) = (alice(&storage, "a.example").await, storage.suppressions());
    let (bob, eve) = ([address("bob@remote.example")], [address("eve@remote.example")]);
    for who in ["bob@remote.example", "eve@remote.example"] {
        let ends = NewSuppression { expires_at: Some(later(60)), ..new(who) };
        list.add(alice.tenant, ends).await.unwrap();
    }
    assert_eq!(list.which(alice.tenant, &bob, later(59)).await.unwrap().len(), 1);
    assert_eq!(list.which(alice.tenant, &bob, later(60)).await.unwrap(), []);
    let early = NewSuppression { created_at: later(59), ..new("bob@remote.example") };
    assert_eq!(kind(list.add(alice.tenant, early).await), StoreErrorKind::AlreadyExists);
    let again =
        NewSuppression { created_at: later(60), reason: SuppressionReason::Complaint, ..new("bob@remote.example") };
    let again = list.add(alice.tenant, again).await.unwrap();
    assert_eq!(list.which(alice.tenant, &bob, later(1_000)).await.unwrap(), std::slice::from_ref(&again));
    assert_eq!(list.forget_expired(later(59), 10).await.unwrap(), 0);
    assert_eq!(list.forget_expired(later(60), 10).await.unwrap(), 1);
    assert_eq!(list.which(alice.tenant, &eve, NOW).await.unwrap(), []);
    assert_eq!(listed(&storage, &alice).await, [again]);
}

/// Pages find each entry once, in order of time.
pub async fn pages_are_stable(storage: Storage) {
    let (alice, list) = (alice(&storage, "a.example").await, storage.suppressions());
    let mut ids = Vec::new();
    for number in 0..5_u64 {
        let id = SuppressionId::new(later(number));
        list.add(alice.tenant, NewSuppression { id, ..new(&format!("r{number}@remote.example")) }).await.unwrap();
        ids.push(id);
    }
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = list.list(alice.tenant, after, 2).await.unwrap();
        found.extend(page.items.iter().map(|entry| entry.id));
        after = found.last().copied();
        if !page.has_more {
            break;
        }
    }
    assert_eq!(found, ids);
}

/// A result and the address that it puts on the list are one step; an address that is there stays as it is.
pub async fn a_bounce_and_its_address_are_one_step(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let mut sent = outgoing(&alice, 2);
    sent.jobs.clear();
    accept(&storage, sent.clone()).await.unwrap();
    let manual = storage.suppressions().add(alice.tenant, new("r0@remote.example")).await.unwrap();
    let bounce = |text: &str| NewSuppression { reason: SuppressionReason::Bounce, detail: None, ..new(text) };
    let failed = |recipient| attempt(recipient, NOW, AttemptOutcome::Failed);
    let results = Acceptance {
        attempts: sent.recipients.iter().map(failed).collect(),
        suppressions: vec![bounce("r1@remote.example"), bounce("R0@remote.example")],
        ..nothing(alice.tenant)
    };
    let mut wrong = results.clone();
    wrong.attempts[1].recipient = mairust_core::RecipientId::new(NOW);
    assert_eq!(kind(accept(&storage, wrong).await), StoreErrorKind::NotFound);
    assert_eq!(listed(&storage, &alice).await, std::slice::from_ref(&manual));
    let long = NewSuppression { detail: Some("x".repeat(MAX_SUPPRESSION_DETAIL + 1)), ..bounce("x@remote.example") };
    let long = Acceptance { suppressions: vec![long], ..nothing(alice.tenant) };
    assert_eq!(kind(accept(&storage, long).await), StoreErrorKind::Invalid);
    for _ in 0..2 {
        accept(&storage, results.clone()).await.unwrap();
    }
    let both = [address("r0@remote.example"), address("r1@remote.example")];
    let found = storage.suppressions().which(alice.tenant, &both, NOW).await.unwrap();
    assert_eq!(found.len(), 2);
    assert!(found.contains(&manual));
    assert!(found.iter().any(|entry| entry.reason == SuppressionReason::Bounce));
}

/// Every method with a tenant argument, tried by another tenant.
pub async fn keeps_tenants_apart(storage: Storage) {
    let (alice, other) = (alice(&storage, "a.example").await, self::alice(&storage, "b.example").await);
    let list = storage.suppressions();
    let entry = list.add(alice.tenant, new("bob@remote.example")).await.unwrap();
    assert_eq!(list.get(other.tenant, entry.id).await.unwrap(), None);
    assert_eq!(list.which(other.tenant, std::slice::from_ref(&entry.address), NOW).await.unwrap(), []);
    assert_eq!(listed(&storage, &other).await, []);
    assert_eq!(kind(list.remove(other.tenant, entry.id).await), StoreErrorKind::NotFound);
    list.add(other.tenant, new("bob@remote.example")).await.unwrap();
    assert_eq!(listed(&storage, &alice).await, [entry]);
    let nobody = list.add(mairust_core::TenantId::new(NOW), new("bob@remote.example")).await;
    assert_eq!(kind(nobody), StoreErrorKind::NotFound);
}
