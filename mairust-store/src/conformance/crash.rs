//! Calls whose futures are dropped on the way, as a deadline or a client that goes away does: each
//! happened whole or not at all, and the same call made again works. Those of
//! [`MessageStore`](crate::MessageStore), [`Lifecycle`](crate::Lifecycle), [`AuditLog`](crate::AuditLog)
//! and [`BodyStore`](crate::BodyStore) have such cases in their own suites.

#![expect(clippy::unwrap_used, reason = "a case that fails panics")]

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::future::select;
use mairust_core::{DkimAlgorithm, DkimKeyId, Domain, Rate, ScramVerifier, SuppressionId, Timestamp};
use serde_json::json;

use super::sample::{NOW, Storage, accept, address, alice, entry, id, job, queue_stats};
use crate::allowance::{Allowance, Taken};
use crate::directory::{
    AliasChange, DkimKeyState, DomainChange, NewAlias, NewApiKey, NewDkimKey, NewTenant, NewUser, SenderAction,
    SenderRule, TenantChange, UserChange,
};
use crate::error::{StoreError, StoreErrorKind};
use crate::owner::Owner;
use crate::password::PasswordRecord;
use crate::queue::{Lease, QueueStats};
use crate::registry::Expected;
use crate::seal::{SealedPlace, SealedRecord};
use crate::search::feed::feed;
use crate::search::{SearchDocument, SearchRequest, UnindexedMessage};
use crate::suppression::{NewSuppression, SuppressionReason};

const TTL: Duration = Duration::from_secs(60);
/// How often a call is begun and dropped, each time somewhat later.
const ROUNDS: u32 = 8;

/// What is made, changed and removed in the directory.
pub async fn changes_the_directory_whole_or_not_at_all(storage: Storage) {
    let (alice, directory) = (alice(&storage, "a.example").await, storage.directory());
    let (tenant, user) = (alice.tenant, alice.user);
    let verifier = ScramVerifier::for_nobody("alice", &[7; 32]);
    for round in 0..ROUNDS {
        let name = |kind: &str| format!("{kind}{round}.example");
        let new = || NewTenant { name: name("tenant"), ..NewTenant::default() };
        again(round, || directory.create_tenant(new())).await;
        let made = directory.tenant_by_name(&name("tenant")).await.unwrap().unwrap();
        let change = TenantChange { enabled: Some(false), ..TenantChange::default() };
        again(round, || directory.change_tenant(made.id, &change)).await;
        assert!(!directory.tenant(made.id).await.unwrap().unwrap().enabled);

        let domain = Domain::parse(&name("domain")).unwrap();
        again(round, || directory.create_domain(tenant, &domain)).await;
        let alias = Domain::parse(&name("alias")).unwrap();
        again(round, || directory.create_domain_alias(tenant, &alias, &domain)).await;
        let change = DomainChange { catch_all: Some(Some(alice.address.clone())), ..DomainChange::default() };
        again(round, || directory.change_domain(tenant, &domain, &change)).await;
        assert_eq!(directory.domain(&domain).await.unwrap().unwrap().catch_all.as_ref(), Some(&alice.address));

        // A user who is there has a mailbox that takes mail.
        let bob = address(&format!("bob@{domain}"));
        let new = || NewUser { address: bob.clone(), login: None, password: PasswordRecord::of_hash("hash") };
        again(round, || directory.create_user(tenant, new())).await;
        let made = directory.user_by_address(tenant, &bob).await.unwrap().unwrap();
        let mut mail = entry(&alice, "Subject: x\r\n\r\nx\r\n");
        mail.messages[0].placements[0].mailbox = made.mailbox;
        accept(&storage, mail).await.unwrap();
        let change = UserChange { enabled: Some(false), ..UserChange::default() };
        again(round, || directory.change_user(tenant, made.id, &change)).await;
        assert!(!directory.user(tenant, made.id).await.unwrap().unwrap().enabled);
        let hash = format!("hash {round}");
        again(round, || directory.set_password(tenant, user, PasswordRecord::of_hash(&hash))).await;
        again(round, || directory.set_scram(tenant, user, &hash, &verifier)).await;
        let password = directory.login("alice@a.example").await.unwrap().unwrap().password;
        assert!(password.hash == hash && password.scram.is_some());

        let list = address(&format!("list@{domain}"));
        let new = || NewAlias { address: list.clone(), targets: vec![alice.address.clone()] };
        again(round, || directory.create_alias(tenant, new())).await;
        let targets = vec![bob.clone(), address("out@remote.example")];
        let change = AliasChange { targets: Some(targets.clone()), ..AliasChange::default() };
        again(round, || directory.change_alias(tenant, &list, &change)).await;
        assert_eq!(directory.aliases(tenant).await.unwrap()[0].targets, targets);
        again(round, || directory.delete_alias(tenant, &list)).await;
        assert!(directory.aliases(tenant).await.unwrap().is_empty());

        let rule = SenderRule::new("spam.example", SenderAction::Block).unwrap();
        again(round, || directory.set_sender_rule(tenant, rule.clone())).await;
        assert_eq!(directory.sender_rules(tenant).await.unwrap(), std::slice::from_ref(&rule));
        again(round, || directory.delete_sender_rule(tenant, &rule.pattern)).await;
        assert!(directory.sender_rules(tenant).await.unwrap().is_empty());
        let key = || NewApiKey {
            key_id: format!("key{round}"),
            name: "tests".to_owned(),
            secret_hash: [1; 32],
            scopes: vec!["send:write".to_owned()],
        };
        again(round, || directory.create_api_key(tenant, key())).await;
        assert_eq!(directory.api_key(&key().key_id).await.unwrap().unwrap().tenant, tenant);

        let new = |selector: &str| NewDkimKey {
            id: DkimKeyId::new(NOW),
            selector: selector.to_owned(),
            algorithm: DkimAlgorithm::Rsa,
            public_key: vec![1],
        };
        for selector in ["s1", "s2"] {
            again(round, || directory.create_dkim_key(tenant, &domain, new(selector))).await;
        }
        let keys = directory.dkim_keys(tenant, &domain).await.unwrap();
        for key in &keys {
            again(round, || directory.activate_dkim_key(tenant, key.id)).await;
        }
        let states: Vec<_> = directory.dkim_keys(tenant, &domain).await.unwrap().iter().map(|key| key.state).collect();
        assert_eq!(states, [DkimKeyState::Retired, DkimKeyState::Active]);
        again(round, || directory.retire_dkim_key(tenant, keys[1].id)).await;
        for key in &keys {
            again(round, || directory.delete_dkim_key(tenant, key.id)).await;
        }
        assert!(directory.dkim_keys(tenant, &domain).await.unwrap().is_empty());
    }
}

/// What limits a tenant, and to whom it sends nothing.
pub async fn changes_what_is_sent_whole_or_not_at_all(storage: Storage) {
    let tenant = alice(&storage, "a.example").await.tenant;
    let (allowances, list) = (storage.allowances(), storage.suppressions());
    let wanted = ["user", "tenant"].map(|scope| Allowance { scope: scope.to_owned(), rate: Rate::new(9, TTL) });
    for round in 0..ROUNDS {
        // Each round begins with full buckets. The call that was dropped has taken from both or from none.
        let now = NOW.plus(TTL * (round + 1));
        again(round, || allowances.take(tenant, &wanted, 4, now)).await;
        let mut left = Vec::new();
        for one in &wanted {
            let mut count = 0;
            while allowances.take(tenant, std::slice::from_ref(one), 1, now).await.unwrap() == Taken::All {
                count += 1;
            }
            left.push(count);
        }
        assert!(left == [5, 5] || left == [1, 1], "{left:?}");

        let new = || NewSuppression {
            id: SuppressionId::new(NOW),
            address: address("bob@remote.example"),
            reason: SuppressionReason::Manual,
            detail: None,
            created_at: NOW,
            expires_at: None,
        };
        again(round, || list.add(tenant, new())).await;
        let entry = list.which(tenant, &[new().address], NOW).await.unwrap().remove(0);
        again(round, || list.remove(tenant, entry.id)).await;
        assert!(list.list(tenant, None, 10).await.unwrap().items.is_empty());
    }
}

/// Settings and secrets.
pub async fn changes_the_registry_whole_or_not_at_all(storage: Storage) {
    let (registry, owner) = (storage.registry(), Owner::from(alice(&storage, "a.example").await.tenant));
    let place = SealedPlace { owner, kind: "kind", name: "name" };
    for round in 0..ROUNDS {
        let value = json!({ "round": round });
        again(round, || registry.put_setting(owner, "key", &value, Expected::Any)).await;
        assert_eq!(registry.setting(owner, "key").await.unwrap().unwrap().value, value);
        again(round, || registry.delete_setting(owner, "key", Expected::Any)).await;
        assert_eq!(registry.setting(owner, "key").await.unwrap(), None);
        let sealed = SealedRecord::from_bytes(round.to_be_bytes().to_vec());
        again(round, || registry.put_secret(place, &sealed, Expected::Any)).await;
        assert_eq!(registry.secret(owner, "kind", "name").await.unwrap().unwrap().sealed, sealed);
        again(round, || registry.delete_secret(place)).await;
        assert_eq!(registry.secret(owner, "kind", "name").await.unwrap(), None);
    }
}

/// No job is lost or done twice, whatever becomes of the calls about it.
pub async fn changes_the_queue_whole_or_not_at_all(storage: Storage) {
    let (tenant, queue) = (alice(&storage, "a.example").await.tenant, storage.queue());
    let mut now = NOW;
    for round in 0..ROUNDS {
        let jobs = vec![job(tenant, now), job(tenant, now), job(tenant, now)];
        again(round, || queue.enqueue(jobs.clone())).await;
        assert_eq!(queue_stats(&storage, now).await.ready, 3);
        // Those that were leased unheard come back when their leases end.
        begin(round, queue.lease(now, 3, TTL)).await;
        now = now.plus(TTL);
        let leases = lease_all(&storage, now, 3).await;
        let [first, second, third] = leases.as_slice() else { panic!("{leases:?}") };
        let until = now.plus(2 * TTL);
        again(round, || queue.extend(first, until)).await;
        again(round, || queue.complete(first)).await;
        again(round, || queue.retry(second, until, "busy")).await;
        again(round, || queue.bury(third, "no")).await;
        let stats = queue_stats(&storage, now).await;
        assert_eq!((stats.waiting, stats.buried, stats.leased), (1, u64::from(round) + 1, 0));
        now = until;
        let retried = lease_all(&storage, now, 1).await.remove(0);
        assert_eq!(retried.job, second.job);
        assert!(queue.complete(&retried).await.unwrap());
    }
    let buried = u64::from(ROUNDS);
    assert_eq!(queue_stats(&storage, now).await, QueueStats { buried, ..QueueStats::default() });
}

/// The index and its outbox: what was dropped is done again.
pub async fn changes_the_index_whole_or_not_at_all(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let (index, outbox, mut now) = (storage.search_index(), storage.search_outbox(), NOW);
    let request = SearchRequest { limit: 100, ..SearchRequest::new("invoice".parse().unwrap(), NOW) };
    let hits = async || index.search(alice.tenant, &request).await.unwrap().items.len();
    for round in 0..ROUNDS {
        let mail = entry(&alice, "Subject: invoice\r\n\r\nx\r\n");
        let message = id(&mail);
        accept(&storage, mail).await.unwrap();
        begin(round, outbox.claim(now, 10, TTL)).await;
        // What was claimed unheard can be claimed again in the end.
        now = now.plus(TTL);
        let mut notes = Vec::new();
        while notes.iter().all(|note: &UnindexedMessage| note.message != message) {
            notes.extend(outbox.claim(now, 10, TTL).await.unwrap());
        }
        let row = storage.messages().get(alice.tenant, message).await.unwrap().unwrap();
        again(round, || index.index(vec![SearchDocument::of_row(row.clone())])).await;
        assert_eq!(hits().await, 1);
        again(round, || outbox.settle(&notes)).await;
        assert_eq!(outbox.pending().await.unwrap(), 0);
        again(round, || outbox.rebuild()).await;
        now = now.plus(TTL);
        while outbox.is_rebuilding().await.unwrap() || outbox.pending().await.unwrap() > 0 {
            again(round, || outbox.refill(10)).await;
            feed(&*storage, now, 10).await.unwrap();
            now = now.plus(TTL);
        }
        assert_eq!(hits().await, 1);
        again(round, || index.remove(alice.tenant, std::slice::from_ref(&message))).await;
        assert_eq!(hits().await, 0);
        storage.lifecycle().purge(alice.tenant, message).await.unwrap();
        again(round, || index.clear()).await;
    }
}

/// Begins a call, and drops it: the later, the higher the round.
async fn begin<T>(round: u32, call: impl Future<Output = T>) {
    let steps = async {
        for _ in 0..round * 3 {
            tokio::task::yield_now().await;
        }
    };
    drop(select(pin!(call), pin!(steps)).await);
}

/// Begins a call and drops it, and makes it again to its end. It may have happened the first time.
pub(super) async fn again<T, F>(round: u32, call: impl Fn() -> F)
where
    F: Future<Output = Result<T, StoreError>>,
{
    begin(round, call()).await;
    match call().await {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), StoreErrorKind::AlreadyExists | StoreErrorKind::NotFound) => {}
        Err(error) => panic!("{error:?}"),
    }
}

/// Leases so many jobs, which are due.
async fn lease_all(storage: &Storage, now: Timestamp, count: usize) -> Vec<Lease> {
    let mut leases = Vec::new();
    while leases.len() < count {
        leases.extend(storage.queue().lease(now, 10, TTL).await.unwrap());
    }
    leases
}
