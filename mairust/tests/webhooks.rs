//! Webhooks over days, told by a whole server, and taken by one that follows a script.

use std::sync::Arc;
use std::time::Duration;

use mairust::testkit::{Mishap, Server, ServerSetup, Sink, Step, StoreErrorKind};
use mairust::{Clock, LocalKeys, Sealer, Secret, ServerKey, Timestamp, WebhookSettings};
use mairust_core::{TenantId, WebhookId};
use mairust_hooks::{Signable, SigningSecret};
use mairust_store::webhook::{keys, work};
use mairust_store::{
    AuditQuery, EventQuery, NewWebhook, SigningKey, WebhookChange, WebhookDelivery, WebhookDeliveryQuery,
    WebhookDeliveryState, WebhookState,
};
use serde_json::{Value, json};

use crate::receiver::{Got, Receiver};

const ALICE: &str = "alice@here.example";
const BOB: &str = "bob@remote.example";
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const MESSAGE: &str = "From: alice@here.example\r\nMessage-ID: <m1@here.example>\r\nSubject: secret\r\n\r\nHello!\r\n";

impl Got {
    /// The request is signed with exactly these keys, in both forms.
    #[track_caller]
    fn check_signed(&self, keys: &[&SigningKey]) {
        let id = self.field("webhook-id");
        let seconds = self.field("webhook-timestamp");
        let secrets: Vec<_> = keys.iter().map(|key| SigningSecret::from_bytes(key.expose()).unwrap()).collect();
        let at = Timestamp::from_unix(seconds.parse().unwrap());
        let wanted = Signable { id: &id, at, body: &self.body }.sign(&secrets);
        assert_eq!(self.field("webhook-signature"), wanted.standard);
        assert_eq!(self.field("x-mairust-signature"), wanted.hex);
        assert_eq!((self.field("x-mairust-timestamp"), self.field("x-mairust-request-id")), (seconds, id));
    }
}

/// A server that tells webhooks.
struct World {
    server: Server,
    sealer: Sealer,
    tenant: TenantId,
    receiver: Receiver,
}

impl World {
    async fn new() -> Self {
        Self::with(|setup| setup, true).await
    }

    async fn with(adjust: impl FnOnce(ServerSetup) -> ServerSetup, allow_private: bool) -> Self {
        let sealer = Sealer::new(Arc::new(LocalKeys::new(&Secret::new([1; 32]))));
        let (given, mut settings) = (sealer.clone(), WebhookSettings::default());
        settings.allow_private_addresses = allow_private;
        let setup = Server::builder().user(ALICE, "correct horse");
        let setup = adjust(setup)
            .with(move |builder| builder.sealer(given).webhooks(settings).server_key(ServerKey::new([7; 32])));
        let server = setup.start().await.unwrap();
        let tenant = server.storage().directory().tenants().await.unwrap()[0].id;
        let receiver = Receiver::start(server.clock().clone()).await;
        Self { server, sealer, tenant, receiver }
    }

    async fn add(&self, url: &str, kinds: &[&str]) -> (WebhookId, SigningKey) {
        let kinds = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        let (id, url) = (WebhookId::new(self.server.clock().now()), url.to_owned());
        let new = NewWebhook { id, url, description: String::new(), kinds };
        let made = keys::create(self.server.storage(), &self.sealer, self.tenant, new).await.unwrap();
        (made.0.id, made.1)
    }

    /// A message comes for Alice.
    async fn receive(&self) {
        let replies = self.server.receive("bob@sender.example", &[ALICE], MESSAGE).await.unwrap();
        assert!(replies[0].is_positive(), "{replies:?}");
        self.server.settled().await.unwrap();
    }

    async fn deliveries(&self, webhook: WebhookId) -> Vec<WebhookDelivery> {
        let query = WebhookDeliveryQuery { limit: 100, ..WebhookDeliveryQuery::default() };
        self.server.storage().webhooks().list_deliveries(self.tenant, webhook, &query).await.unwrap().items
    }

    async fn disable(&self, webhook: WebhookId) {
        let state = Some(WebhookState::Disabled("for the test".to_owned()));
        let change = WebhookChange { state, ..WebhookChange::default() };
        self.server.storage().webhooks().change(self.tenant, webhook, &change).await.unwrap();
    }
}

#[tokio::test]
async fn tells_what_becomes_of_mail() {
    let world = World::new().await;
    let (server, receiver) = (&world.server, &world.receiver);
    let (_, key) = world.add(&receiver.url(), &[]).await;
    let script = Sink::builder()
        .on(Step::Rcpt, mairust::testkit::Act::reply("451 4.7.1 come back").times(1))
        .on(Step::Rcpt, mairust::testkit::Act::reply("250 2.1.5 fine").times(1))
        .on(Step::Rcpt, "550 5.1.1 nobody here");
    server.fleet().domain("remote.example", script).await.unwrap();
    for _ in 0..2 {
        assert!(server.submit(ALICE, &[BOB], MESSAGE).await.unwrap()[0].is_positive());
        server.settled().await.unwrap();
        server.pass(HOUR).await.unwrap();
    }
    world.receive().await;
    let got = receiver.got();
    let mut ids = std::collections::BTreeSet::new();
    for (place, request) in (1..).zip(&got) {
        request.check_signed(&[&key]);
        assert!(request.head.starts_with("POST /in?x=1 HTTP/1.1\r\n"), "{}", request.head);
        assert_eq!(request.field("x-mairust-attempt"), "1");
        assert!(ids.insert(request.json()["id"].to_string()), "request {place} tells of nothing new");
        let text = String::from_utf8(request.body.clone()).unwrap();
        assert!(!text.contains("secret") && !text.contains("Hello!"), "what mail says stays here: {text}");
    }
    let kinds: Vec<_> = got.iter().map(|request| request.json()["type"].as_str().unwrap().to_owned()).collect();
    // The notice about the second message comes into Alice's mailbox.
    let wanted = ["accepted", "deferred", "sent", "accepted", "bounced", "received", "received"];
    let mut sorted = kinds.clone();
    sorted.sort_unstable();
    let mut wanted: Vec<_> = wanted.iter().map(|kind| format!("message.{kind}")).collect();
    wanted.sort_unstable();
    assert_eq!(sorted, wanted, "{kinds:?}");
    let find = |kind: &str| got.iter().map(Got::json).find(|event| event["type"] == kind).unwrap()["data"].clone();
    let accepted = find("message.accepted");
    assert_eq!((&accepted["mail_from"], &accepted["recipients"]), (&json!(ALICE), &json!([BOB])));
    assert_eq!(
        (&accepted["status"], &accepted["message"]["message_id"]),
        (&json!("queued"), &json!("m1@here.example"))
    );
    let deferred = find("message.deferred");
    assert_eq!(deferred["reply"], json!({"code": 451, "enhanced": "4.7.1", "text": "come back"}));
    assert_eq!((&deferred["recipient"], &deferred["attempt"]), (&json!(BOB), &json!(1)));
    assert!(deferred["next_attempt_at"].is_string() && deferred["host"].is_string());
    let sent = find("message.sent");
    assert_eq!((&sent["attempt"], &sent["message"]["id"]), (&json!(2), &deferred["message"]["id"]));
    let bounced = find("message.bounced");
    assert_eq!((&bounced["reply"]["code"], &bounced["next_attempt_at"]), (&json!(550), &Value::Null));
    let notice = server.inbox(ALICE).await.unwrap().into_iter().find(|message| message.contains("5.1.1")).unwrap();
    assert_eq!(bounced["notice_id"], notice.row.id.to_string());
    let of_notice = got.iter().map(Got::json).find(|event| event["data"]["message"]["id"] == bounced["notice_id"]);
    let of_notice = of_notice.unwrap();
    assert_eq!((&of_notice["type"], &of_notice["data"]["mail_from"]), (&json!("message.received"), &Value::Null));
    assert_eq!((&of_notice["data"]["folder"], &of_notice["data"]["recipient"]), (&json!("INBOX"), &json!(ALICE)));
}

#[tokio::test]
async fn tries_for_a_day_and_a_half_and_gives_up() {
    let world = World::new().await;
    let (webhook, key) = world.add(&world.receiver.url(), &["message.received"]).await;
    world.receiver.answer(&["500 Oops"; 7]);
    world.receive().await;
    world.server.pass(3 * DAY).await.unwrap();
    let got = world.receiver.got();
    let waits: Vec<_> = got.windows(2).map(|pair| pair[1].at.since(pair[0].at).as_secs_f64()).collect();
    let wanted = [30.0, 120.0, 600.0, 3_600.0, 21_600.0, 86_400.0];
    assert_eq!(waits.len(), wanted.len());
    for (wait, wanted) in waits.iter().zip(wanted) {
        assert!((0.8 * wanted..=1.2 * wanted).contains(wait), "{wait} s instead of {wanted} s");
    }
    for (number, request) in (1..).zip(&got) {
        request.check_signed(&[&key]);
        assert_eq!(request.field("webhook-id"), got[0].field("webhook-id"));
        assert_eq!(
            (request.body.clone(), request.field("x-mairust-attempt")),
            (got[0].body.clone(), number.to_string())
        );
        assert_eq!(request.field("webhook-timestamp"), request.at.to_unix().0.to_string());
    }
    let delivery = world.deliveries(webhook).await.remove(0);
    assert_eq!((delivery.state, delivery.tries), (WebhookDeliveryState::Failed, 7));
    let last = delivery.attempts.last().unwrap();
    assert_eq!(
        (last.status, last.error.as_deref(), last.response.as_deref()),
        (Some(500), Some("it answered 500"), Some("hm"))
    );

    // Begun again by somebody who has mended the webhook.
    let (storage, now) = (world.server.storage(), world.server.clock().now());
    let job = work::webhook_job(world.tenant, webhook, delivery.id, now);
    storage.webhooks().replay(world.tenant, delivery.id, job).await.unwrap();
    world.server.settled().await.unwrap();
    let again = world.receiver.got().pop().unwrap();
    assert_eq!((again.field("webhook-id"), again.body), (got[0].field("webhook-id"), got[0].body.clone()));
    assert_eq!(world.deliveries(webhook).await[0].state, WebhookDeliveryState::Delivered);
}

#[tokio::test]
async fn comes_back_when_it_is_asked_to() {
    let world = World::new().await;
    world.add(&world.receiver.url(), &[]).await;
    world.receiver.answer(&[
        "503 Busy\r\nRetry-After: 7",
        "429 Slow\r\nRetry-After: 86400",
        "307 Elsewhere\r\nLocation: /",
    ]);
    world.receive().await;
    world.server.pass(DAY).await.unwrap();
    let got = world.receiver.got();
    let waits: Vec<_> = got.windows(2).map(|pair| pair[1].at.since(pair[0].at)).collect();
    assert_eq!(waits[..2], [Duration::from_secs(7), HOUR]);
    assert_eq!(got.len(), 4, "a redirect is not followed, but a failure like others");
    assert!(got.iter().all(|request| request.head.starts_with("POST /in?x=1 ")));
}

#[tokio::test]
async fn signs_with_both_keys_while_one_takes_over() {
    let world = World::new().await;
    let (webhook, first) = world.add(&world.receiver.url(), &[]).await;
    let now = world.server.clock().now();
    let id = (world.tenant, webhook);
    let second = keys::rotate(world.server.storage(), &world.sealer, id, DAY, now).await.unwrap();
    world.receive().await;
    world.server.pass(DAY).await.unwrap();
    world.receive().await;
    let got = world.receiver.got();
    got[0].check_signed(&[&second, &first]);
    got[1].check_signed(&[&second]);
}

#[tokio::test]
async fn who_is_gone_is_told_nothing_more() {
    let world = World::new().await;
    let (webhook, _) = world.add(&world.receiver.url(), &[]).await;
    world.receiver.answer(&["500 Oops", "410 Gone"]);
    world.receive().await;
    world.receive().await;
    world.server.pass(DAY).await.unwrap();
    world.receive().await;
    assert_eq!(world.receiver.got().len(), 2);
    let storage = world.server.storage().clone();
    let now = storage.webhooks().get(world.tenant, webhook).await.unwrap().unwrap();
    assert_eq!(now.state.reason(), Some("it answered 410 Gone"));
    let deliveries = world.deliveries(webhook).await;
    assert!(deliveries.len() == 2 && deliveries.iter().all(|delivery| delivery.state == WebhookDeliveryState::Failed));
    let errors: Vec<_> = deliveries.iter().map(|delivery| delivery.attempts.last().unwrap().error.clone()).collect();
    assert!(errors.contains(&Some("the webhook is disabled".to_owned())), "{errors:?}");
    let tenant = world.tenant;
    world.server.stop().await.unwrap();
    let wanted = AuditQuery { event_type: Some("webhook.disabled".to_owned()), limit: 10, ..AuditQuery::default() };
    let entry = storage.audit().list(tenant.into(), &wanted).await.unwrap().items.remove(0);
    assert_eq!((entry.actor.kind.as_str(), entry.target.unwrap().id), ("system", webhook.to_string()));
}

#[tokio::test]
async fn a_test_goes_to_one_webhook_whatever_its_state() {
    let world = World::new().await;
    let (webhook, key) = world.add(&world.receiver.url(), &["message.sent"]).await;
    world.add(&world.receiver.url(), &[]).await;
    world.disable(webhook).await;
    let row = world.server.storage().webhooks().get(world.tenant, webhook).await.unwrap().unwrap();
    let now = world.server.clock().now();
    work::test(world.server.storage(), &row, "webhook.test", json!({"webhook_id": "x"}), now).await.unwrap();
    world.server.settled().await.unwrap();
    let got = world.receiver.got();
    assert_eq!((got.len(), &got[0].json()["type"]), (1, &json!("webhook.test")));
    got[0].check_signed(&[&key]);
    assert_eq!(world.deliveries(webhook).await[0].state, WebhookDeliveryState::Delivered);
}

#[tokio::test]
async fn private_addresses_are_not_reached() {
    let world = World::with(|setup| setup, false).await;
    for address in ["127.0.0.1", "10.0.0.1"] {
        world.server.dns().add_address("hooks.example", address.parse::<std::net::IpAddr>().unwrap());
    }
    let port = world.receiver.address.port();
    let (webhook, _) = world.add(&format!("https://hooks.example:{port}/"), &[]).await;
    let (plain, _) = world.add(&world.receiver.url(), &[]).await;
    world.receive().await;
    for (webhook, wanted) in [(webhook, "has no public address"), (plain, "http is for private addresses")] {
        let delivery = world.deliveries(webhook).await.remove(0);
        let error = delivery.attempts[0].error.clone().unwrap();
        assert!(error.contains(wanted) && error.contains("webhooks.allow_private_addresses"), "{error}");
        assert_eq!(delivery.state, WebhookDeliveryState::Pending, "the address may become another");
    }
    assert!(world.receiver.got().is_empty());
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_when_storage_fails() {
    let world = World::with(ServerSetup::sqlite, true).await;
    let (webhook, _) = world.add(&world.receiver.url(), &[]).await;
    let mishaps = world.server.mishaps();
    for mishap in [Mishap::Fail(StoreErrorKind::Unavailable), Mishap::LoseAnswer(StoreErrorKind::Unavailable)] {
        mishaps.once("webhooks.advance", mishap);
        world.receive().await;
    }
    let events = world.server.storage().events();
    let all = events.list(world.tenant, &EventQuery { limit: 10, ..EventQuery::default() }).await.unwrap().items;
    let got: Vec<_> = world.receiver.got().iter().map(|request| request.json()["id"].clone()).collect();
    assert_eq!(got, all.iter().map(|event| json!(event.id.to_string())).collect::<Vec<_>>());
    assert_eq!((got.len(), world.deliveries(webhook).await.len()), (2, 2));
}

#[tokio::test]
async fn a_webhook_that_does_not_answer_keeps_nobody_waiting() {
    let world = World::with(|setup| setup.delivery(|delivery| delivery.workers = 4), true).await;
    let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.add(&format!("http://{}/", dead.local_addr().unwrap()), &["message.received"]).await;
    let remote = world.server.fleet().domain("remote.example", Sink::builder()).await.unwrap();
    for _ in 0..3 {
        world.server.receive("bob@sender.example", &[ALICE], MESSAGE).await.unwrap();
    }
    assert!(world.server.submit(ALICE, &[BOB], MESSAGE).await.unwrap()[0].is_positive());
    // Mail goes out although all requests to the dead one hang.
    assert_eq!(crate::within(remote.wait_for(1)).await.len(), 1);
}
