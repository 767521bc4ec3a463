//! Cases for [`Webhooks`](crate::Webhooks).

#![expect(clippy::unwrap_used, reason = "a case that fails panics")]

use std::time::Duration;

use mairust_core::{JobId, TenantId, Timestamp, WebhookDeliveryId, WebhookId};

use super::crash::again;
use super::event::{behind, event, told};
use super::sample::{NOW, Person, Storage, accept, alice, job, kind, queue_stats};
use crate::error::{StoreError, StoreErrorKind};
use crate::queue::NewJob;
use crate::webhook::{
    MAX_WEBHOOKS, NewWebhook, NewWebhookDelivery, Webhook, WebhookAdvance, WebhookAttempt, WebhookChange,
    WebhookDelivery, WebhookDeliveryQuery, WebhookDeliveryState, WebhookState,
};

fn new(kinds: &[&str]) -> NewWebhook {
    let kinds = kinds.iter().map(|kind| (*kind).to_owned()).collect();
    let (url, description) = ("https://hooks.example/a?b=ü".to_owned(), "for \"tests\"".to_owned());
    NewWebhook { id: WebhookId::new(NOW), url, description, kinds }
}

async fn made(storage: &Storage, tenant: TenantId) -> Webhook {
    storage.webhooks().create(tenant, new(&[])).await.unwrap()
}

async fn happens(storage: &Storage, tenant: TenantId, count: usize) {
    let events = (0..count).map(|_| event("message.sent", NOW)).collect();
    accept(storage, told(tenant, events)).await.unwrap();
}

/// All that has happened since, on its way to a webhook.
async fn advance(storage: &Storage, webhook: &Webhook) -> WebhookAdvance {
    let events = behind(storage, webhook.tenant, webhook.position).await;
    let delivery = |event: &crate::event::Event| NewWebhookDelivery {
        id: WebhookDeliveryId::new(NOW),
        event: event.id,
        position: event.position,
        kind: event.kind.clone(),
    };
    let jobs = events.iter().map(|_| work(webhook.tenant)).collect();
    let to = events.last().map_or(webhook.position, |event| event.position);
    let deliveries = events.iter().map(delivery).collect();
    WebhookAdvance { webhook: webhook.id, from: webhook.position, to, deliveries, jobs }
}

fn work(tenant: TenantId) -> NewJob {
    NewJob { id: JobId::new(NOW), ..job(tenant, NOW) }
}

/// A webhook with one delivery that is pending.
async fn pending(storage: &Storage, domain: &str) -> (Person, Webhook, WebhookDelivery) {
    let alice = alice(storage, domain).await;
    let webhook = made(storage, alice.tenant).await;
    happens(storage, alice.tenant, 1).await;
    let advance = advance(storage, &webhook).await;
    let id = advance.deliveries[0].id;
    assert!(storage.webhooks().advance(alice.tenant, advance).await.unwrap());
    let delivery = storage.webhooks().delivery(alice.tenant, id).await.unwrap().unwrap();
    (alice, webhook, delivery)
}

fn attempt(at: Timestamp, error: Option<&str>) -> WebhookAttempt {
    let response = Some("\u{0}é\"".to_owned());
    WebhookAttempt { at, status: Some(500), took_ms: 12, error: error.map(str::to_owned), response }
}

/// A webhook is read back as it was made and changed.
pub async fn keeps_webhooks(storage: Storage) {
    let (alice, webhooks) = (alice(&storage, "a.example").await, storage.webhooks());
    happens(&storage, alice.tenant, 2).await;
    let given = new(&["message.sent", "message.bounced"]);
    let made = webhooks.create(alice.tenant, given.clone()).await.unwrap();
    let Webhook { id, tenant, ref url, ref description, ref kinds, ref state, position, .. } = made;
    assert_eq!(
        (id, tenant, url, description, kinds),
        (given.id, alice.tenant, &given.url, &given.description, &given.kinds)
    );
    assert_eq!((state, position), (&WebhookState::Enabled, 2));
    assert!(made.wants("message.sent") && !made.wants("message.received"));
    assert_eq!(webhooks.list(alice.tenant).await.unwrap(), std::slice::from_ref(&made));
    assert_eq!(webhooks.get(alice.tenant, id).await.unwrap().as_ref(), Some(&made));
    assert_eq!(kind(webhooks.create(alice.tenant, given).await), StoreErrorKind::AlreadyExists);
    let url = Some("https://other.example/".to_owned());
    let change = WebhookChange { url: url.clone(), kinds: Some(Vec::new()), ..WebhookChange::default() };
    let changed = webhooks.change(alice.tenant, id, &change).await.unwrap();
    assert_eq!((Some(changed.url.clone()), &changed.description), (url, &made.description));
    assert!(changed.wants("message.received"));
    assert_eq!(webhooks.get(alice.tenant, id).await.unwrap(), Some(changed));
    let nobody = WebhookId::new(NOW);
    assert_eq!(webhooks.get(alice.tenant, nobody).await.unwrap(), None);
    let missing = webhooks.change(alice.tenant, nobody, &WebhookChange::default()).await;
    assert_eq!(kind(missing), StoreErrorKind::NotFound);
}

/// What is too long, and too many.
pub async fn refuses_odd_webhooks(storage: Storage) {
    let (alice, webhooks) = (alice(&storage, "a.example").await, storage.webhooks());
    let odd = [
        NewWebhook { url: String::new(), ..new(&[]) },
        NewWebhook { url: "x".repeat(2_049), ..new(&[]) },
        NewWebhook { description: "x".repeat(501), ..new(&[]) },
        new(&["Message Sent"]),
        new(&["a"; 33]),
    ];
    for odd in odd {
        let change = WebhookChange {
            url: Some(odd.url.clone()),
            description: Some(odd.description.clone()),
            kinds: Some(odd.kinds.clone()),
            state: None,
        };
        assert_eq!(kind(webhooks.create(alice.tenant, odd).await), StoreErrorKind::Invalid);
        assert_eq!(kind(webhooks.change(alice.tenant, WebhookId::new(NOW), &change).await), StoreErrorKind::Invalid);
    }
    for _ in 0..MAX_WEBHOOKS {
        made(&storage, alice.tenant).await;
    }
    assert_eq!(kind(webhooks.create(alice.tenant, new(&[])).await), StoreErrorKind::Conflict);
    assert_eq!(kind(webhooks.create(TenantId::new(NOW), new(&[])).await), StoreErrorKind::NotFound);
}

/// Until all events were looked at for it.
pub async fn is_behind_until_it_moves_on(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let (first, second) = (made(&storage, alice.tenant).await, made(&storage, alice.tenant).await);
    assert_eq!(storage.webhooks().behind(10).await.unwrap(), []);
    happens(&storage, alice.tenant, 2).await;
    assert_eq!(storage.webhooks().behind(1).await.unwrap().len(), 1);
    let before = queue_stats(&storage, NOW).await.ready;
    let all = advance(&storage, &first).await;
    assert!(storage.webhooks().advance(alice.tenant, all.clone()).await.unwrap());
    assert_eq!(storage.webhooks().behind(10).await.unwrap(), [second]);
    assert_eq!(queue_stats(&storage, NOW).await.ready - before, 2);
    for new in all.deliveries {
        let made = storage.webhooks().delivery(alice.tenant, new.id).await.unwrap().unwrap();
        assert_eq!(
            (made.webhook, made.event, made.position, &made.kind),
            (first.id, new.event, new.position, &new.kind)
        );
        assert_eq!((made.state, made.tries, &made.attempts), (WebhookDeliveryState::Pending, 0, &Vec::new()));
    }
}

/// Whoever comes second does nothing.
pub async fn moves_on_once(storage: Storage) {
    let (alice, webhooks) = (alice(&storage, "a.example").await, storage.webhooks());
    let webhook = made(&storage, alice.tenant).await;
    happens(&storage, alice.tenant, 1).await;
    let (one, other) = (advance(&storage, &webhook).await, advance(&storage, &webhook).await);
    let second = other.deliveries[0].id;
    assert!(webhooks.advance(alice.tenant, one).await.unwrap());
    assert!(!webhooks.advance(alice.tenant, other).await.unwrap());
    assert_eq!(webhooks.delivery(alice.tenant, second).await.unwrap(), None);
    assert_eq!(queue_stats(&storage, NOW).await.ready, 1);
}

/// What happened while it was disabled does not come to it afterwards.
pub async fn enabling_skips_what_was_missed(storage: Storage) {
    let (alice, webhooks) = (alice(&storage, "a.example").await, storage.webhooks());
    let webhook = made(&storage, alice.tenant).await;
    happens(&storage, alice.tenant, 1).await;
    let late = advance(&storage, &webhook).await;
    let disable =
        WebhookChange { state: Some(WebhookState::Disabled("no use".to_owned())), ..WebhookChange::default() };
    let disabled = webhooks.change(alice.tenant, webhook.id, &disable).await.unwrap();
    assert_eq!((disabled.state.reason(), disabled.position), (Some("no use"), 0));
    assert_eq!(webhooks.behind(10).await.unwrap(), []);
    assert!(!webhooks.advance(alice.tenant, late).await.unwrap());
    let enable = WebhookChange { state: Some(WebhookState::Enabled), ..WebhookChange::default() };
    let enabled = webhooks.change(alice.tenant, webhook.id, &enable).await.unwrap();
    assert_eq!((enabled.state, enabled.position), (WebhookState::Enabled, 1));
    happens(&storage, alice.tenant, 1).await;
    // It is enabled already: nothing is skipped.
    assert_eq!(webhooks.change(alice.tenant, webhook.id, &enable).await.unwrap().position, 1);
    assert_eq!(webhooks.behind(10).await.unwrap().len(), 1);
}

/// Attempts and the state, and none of it once it has ended.
pub async fn records_what_became_of_deliveries(storage: Storage) {
    let (alice, _, mut delivery) = pending(&storage, "a.example").await;
    let later = NOW.plus(Duration::from_secs(30));
    delivery.add_attempt(attempt(NOW, Some("it says 500")));
    delivery.next_attempt = Some(later);
    assert!(storage.webhooks().record(&delivery).await.unwrap());
    let read = async || storage.webhooks().delivery(alice.tenant, delivery.id).await.unwrap().unwrap();
    let WebhookDelivery { state, tries, attempts, next_attempt, .. } = read().await;
    assert_eq!((state, tries, next_attempt), (WebhookDeliveryState::Pending, 1, Some(later)));
    assert_eq!(attempts, delivery.attempts);
    let mut ended = read().await;
    for _ in 0..WebhookDelivery::MAX_ATTEMPTS {
        ended.add_attempt(attempt(later, None));
    }
    (ended.state, ended.next_attempt) = (WebhookDeliveryState::Delivered, None);
    assert!(storage.webhooks().record(&ended).await.unwrap());
    let kept = read().await;
    assert_eq!((kept.state, kept.next_attempt), (WebhookDeliveryState::Delivered, None));
    assert!(kept.attempts.len() == WebhookDelivery::MAX_ATTEMPTS && kept.attempts[0].at == later);
    assert_eq!(kept.tries as usize, 1 + WebhookDelivery::MAX_ATTEMPTS);
    assert!(!storage.webhooks().record(&delivery).await.unwrap(), "it has ended");
    assert_eq!(read().await, kept);
}

/// One that has ended, with its attempts.
pub async fn begins_deliveries_again(storage: Storage) {
    let (alice, webhook, mut delivery) = pending(&storage, "a.example").await;
    let webhooks = storage.webhooks();
    let busy = webhooks.replay(alice.tenant, delivery.id, work(alice.tenant)).await;
    assert_eq!(kind(busy), StoreErrorKind::Conflict);
    delivery.add_attempt(attempt(NOW, Some("no")));
    (delivery.state, delivery.next_attempt) = (WebhookDeliveryState::Failed, None);
    assert!(webhooks.record(&delivery).await.unwrap());
    let before = queue_stats(&storage, NOW).await.ready;
    webhooks.replay(alice.tenant, delivery.id, work(alice.tenant)).await.unwrap();
    let again = webhooks.delivery(alice.tenant, delivery.id).await.unwrap().unwrap();
    assert_eq!((again.state, again.tries, again.attempts.len()), (WebhookDeliveryState::Pending, 0, 1));
    assert!(again.next_attempt.is_some());
    assert_eq!(queue_stats(&storage, NOW).await.ready, before + 1);
    let unknown = webhooks.replay(alice.tenant, WebhookDeliveryId::new(NOW), work(alice.tenant)).await;
    assert_eq!(kind(unknown), StoreErrorKind::NotFound);
    // One more, for a webhook that need not be enabled.
    let new = NewWebhookDelivery {
        id: WebhookDeliveryId::new(NOW),
        event: delivery.event,
        position: 1,
        kind: "a".to_owned(),
    };
    webhooks.deliver(alice.tenant, webhook.id, new.clone(), work(alice.tenant)).await.unwrap();
    assert!(webhooks.delivery(alice.tenant, new.id).await.unwrap().is_some());
    let new = NewWebhookDelivery { id: WebhookDeliveryId::new(NOW), ..new };
    let nowhere = webhooks.deliver(alice.tenant, WebhookId::new(NOW), new.clone(), work(alice.tenant)).await;
    assert_eq!(kind(nowhere), StoreErrorKind::NotFound);
    assert_eq!(queue_stats(&storage, NOW).await.ready, before + 2);
    assert_eq!(webhooks.delivery(alice.tenant, new.id).await.unwrap(), None);
}

/// Newest first, in pages.
pub async fn lists_deliveries(storage: Storage) {
    let alice = alice(&storage, "a.example").await;
    let (webhook, other) = (made(&storage, alice.tenant).await, made(&storage, alice.tenant).await);
    happens(&storage, alice.tenant, 5).await;
    for webhook in [&webhook, &other] {
        let all = advance(&storage, webhook).await;
        storage.webhooks().advance(alice.tenant, all).await.unwrap();
    }
    let list = async |query: WebhookDeliveryQuery| {
        let page = storage.webhooks().list_deliveries(alice.tenant, webhook.id, &query).await.unwrap();
        (page.items, page.has_more)
    };
    let (all, _) = list(WebhookDeliveryQuery { limit: 10, ..WebhookDeliveryQuery::default() }).await;
    assert_eq!(all.len(), 5);
    assert!(all.is_sorted_by(|one, next| one.id > next.id) && all.iter().all(|one| one.webhook == webhook.id));
    let query = WebhookDeliveryQuery { before: Some(all[1].id), limit: 2, ..WebhookDeliveryQuery::default() };
    assert_eq!(list(query).await, (all[2..4].to_vec(), true));
    let failed = WebhookDelivery { state: WebhookDeliveryState::Failed, ..all[3].clone() };
    assert!(storage.webhooks().record(&failed).await.unwrap());
    let query = |state| WebhookDeliveryQuery { state: Some(state), limit: 4, ..WebhookDeliveryQuery::default() };
    assert_eq!(list(query(WebhookDeliveryState::Failed)).await.0.len(), 1);
    assert_eq!(list(query(WebhookDeliveryState::Pending)).await.0.len(), 4);
}

/// Its deliveries, and nothing else.
pub async fn removes_all_of_a_webhook(storage: Storage) {
    let (alice, webhook, delivery) = pending(&storage, "a.example").await;
    let other = made(&storage, alice.tenant).await;
    let webhooks = storage.webhooks();
    webhooks.delete(alice.tenant, webhook.id).await.unwrap();
    assert_eq!(webhooks.list(alice.tenant).await.unwrap(), [other]);
    assert_eq!(webhooks.delivery(alice.tenant, delivery.id).await.unwrap(), None);
    assert!(!webhooks.record(&delivery).await.unwrap());
    assert_eq!(kind(webhooks.delete(alice.tenant, webhook.id).await), StoreErrorKind::NotFound);
}

/// What has ended long ago; what is pending stays.
pub async fn forgets_old_deliveries(storage: Storage) {
    let (alice, webhook, delivery) = pending(&storage, "a.example").await;
    let one_more = NewWebhookDelivery {
        id: WebhookDeliveryId::new(NOW),
        event: delivery.event,
        position: 1,
        kind: "a".to_owned(),
    };
    let still = one_more.id;
    storage.webhooks().deliver(alice.tenant, webhook.id, one_more, work(alice.tenant)).await.unwrap();
    let ended = WebhookDelivery { state: WebhookDeliveryState::Failed, ..delivery };
    assert!(storage.webhooks().record(&ended).await.unwrap());
    let kept = storage.webhooks().delivery(alice.tenant, ended.id).await.unwrap().unwrap();
    storage.events().purge(alice.tenant, kept.updated_at, 10).await.unwrap();
    assert!(storage.webhooks().delivery(alice.tenant, ended.id).await.unwrap().is_some());
    let later = kept.updated_at.plus(Duration::from_secs(1));
    assert_eq!(storage.events().tenants_to_purge(later).await.unwrap(), [alice.tenant]);
    storage.events().purge(alice.tenant, later, 10).await.unwrap();
    assert!(!storage.events().tenants_to_purge(later).await.unwrap().contains(&alice.tenant));
    assert_eq!(storage.webhooks().delivery(alice.tenant, ended.id).await.unwrap(), None);
    assert!(storage.webhooks().delivery(alice.tenant, still).await.unwrap().is_some());
}

/// A caller that goes away leaves a webhook and its jobs as they were, or as they should become.
pub async fn changes_whole_or_not_at_all_when_dropped(storage: Storage) {
    let (alice, webhooks) = (alice(&storage, "a.example").await, storage.webhooks());
    let webhook = made(&storage, alice.tenant).await;
    for round in 0..8 {
        happens(&storage, alice.tenant, 1).await;
        let now = webhooks.get(alice.tenant, webhook.id).await.unwrap().unwrap();
        let next = advance(&storage, &now).await;
        again(round, || webhooks.advance(alice.tenant, next.clone())).await;
        let id = next.deliveries[0].id;
        let mut delivery = webhooks.delivery(alice.tenant, id).await.unwrap().unwrap();
        assert_eq!(webhooks.get(alice.tenant, webhook.id).await.unwrap().unwrap().position, next.to);
        delivery.state = WebhookDeliveryState::Failed;
        again(round, || webhooks.record(&delivery)).await;
        let work = work(alice.tenant);
        again(round, || async {
            // Of the call that was dropped.
            let is_done = |error: &StoreError| error.kind() == StoreErrorKind::Conflict;
            webhooks
                .replay(alice.tenant, id, work.clone())
                .await
                .or_else(|error| is_done(&error).then_some(()).ok_or(error))
        })
        .await;
        assert_eq!(queue_stats(&storage, NOW).await.ready, 2 * (u64::from(round) + 1));
    }
    again(1, || webhooks.delete(alice.tenant, webhook.id)).await;
    assert_eq!(webhooks.list(alice.tenant).await.unwrap(), []);
}

/// Every method with a tenant argument, tried by another tenant.
pub async fn hides_webhooks_from_other_tenants(storage: Storage) {
    let (alice, webhook, delivery) = pending(&storage, "a.example").await;
    let other = self::alice(&storage, "b.example").await.tenant;
    let (webhooks, missing) = (storage.webhooks(), StoreErrorKind::NotFound);
    assert_eq!(webhooks.list(other).await.unwrap(), []);
    assert_eq!(webhooks.get(other, webhook.id).await.unwrap(), None);
    assert_eq!(webhooks.delivery(other, delivery.id).await.unwrap(), None);
    let query = WebhookDeliveryQuery { limit: 10, ..WebhookDeliveryQuery::default() };
    assert_eq!(webhooks.list_deliveries(other, webhook.id, &query).await.unwrap().items, []);
    let change = WebhookChange { url: Some("https://evil.example/".to_owned()), ..WebhookChange::default() };
    assert_eq!(kind(webhooks.change(other, webhook.id, &change).await), missing);
    assert_eq!(kind(webhooks.delete(other, webhook.id).await), missing);
    happens(&storage, alice.tenant, 1).await;
    let now = webhooks.get(alice.tenant, webhook.id).await.unwrap().unwrap();
    let mut theirs = advance(&storage, &now).await;
    theirs.jobs = vec![work(other)];
    assert!(!webhooks.advance(other, theirs).await.unwrap());
    let new = NewWebhookDelivery {
        id: WebhookDeliveryId::new(NOW),
        event: delivery.event,
        position: 1,
        kind: "a".to_owned(),
    };
    assert_eq!(kind(webhooks.deliver(other, webhook.id, new, work(other)).await), missing);
    let forged = WebhookDelivery { tenant: other, state: WebhookDeliveryState::Failed, ..delivery.clone() };
    assert!(!webhooks.record(&forged).await.unwrap());
    assert_eq!(kind(webhooks.replay(other, delivery.id, work(other)).await), missing);
    assert_eq!(webhooks.delivery(alice.tenant, delivery.id).await.unwrap(), Some(delivery));
    assert_eq!(webhooks.get(alice.tenant, webhook.id).await.unwrap(), Some(now));
}
