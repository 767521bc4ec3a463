//! What whoever runs hooks is told of them: a whole server with a hook that a tenant has bound.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use mairust::testkit::{Mishap, Server, StoreErrorKind};
use mairust::{Clock, LocalKeys, Sealer, Secret, ServerKey};
use mairust_core::{HookId, TenantId};
use mairust_store::hook::keys;
use mairust_store::{AuditEntry, AuditQuery, EventQuery, HookChange, HookState, NewHookBinding, StorageBackend};
use serde_json::{Value, json};

use super::{Act, Got, PLUGIN, Stand, response};

const ALICE: &str = "alice@here.example";
/// Longer than a breaker is open the first time.
const OPEN: Duration = Duration::from_secs(70);

/// A server, and a program that answers its calls by this status.
struct World {
    server: Server,
    stand: Stand,
    status: Arc<AtomicU16>,
    /// What it says when it is asked how it does.
    health: Arc<Mutex<&'static str>>,
    tenant: TenantId,
    hook: HookId,
}

impl World {
    /// With a hook that is bound by these settings, apart from the transport; `asked` says that it can be asked how it
    /// does.
    async fn new(status: u16, mut settings: Value) -> Self {
        let status = Arc::new(AtomicU16::new(status));
        let health = Arc::new(Mutex::new("ok"));
        let (now, healthy) = (status.clone(), health.clone());
        let answer = move |got: &Got| match got.line.starts_with("GET ") {
            true => does(*healthy.lock().unwrap()),
            false => says(now.load(Ordering::SeqCst)),
        };
        let answer: super::Serve = Arc::new(answer);
        let stand = Stand::start(move |_| Act::Serve(answer.clone())).await;
        let sealer = Sealer::new(Arc::new(LocalKeys::new(&Secret::new([1; 32]))));
        let given = sealer.clone();
        let setup = Server::builder()
            .user(ALICE, "correct horse")
            .with(move |builder| builder.sealer(given).server_key(ServerKey::new([7; 32])));
        let server = setup.start().await.unwrap();
        let tenant = server.storage().directory().tenants().await.unwrap()[0].id;
        settings["transport"] = json!({
            "kind": "http",
            "endpoint": stand.url("/in"),
            "response_signature": "off",
            "private_address": true,
        });
        if settings.as_object_mut().unwrap().remove("asked").is_some() {
            settings["transport"]["health_endpoint"] = json!(stand.url("/health"));
        }
        let hook = HookId::new(server.clock().now());
        let new = NewHookBinding { id: hook, plugin_id: PLUGIN.to_owned(), settings, state: HookState::Enabled };
        keys::create(server.storage(), &sealer, tenant, new).await.unwrap();
        Self { server, stand, status, health, tenant, hook }
    }

    fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// A message comes; the code of the reply.
    async fn receive(&self, text: &str) -> u16 {
        let letter = format!("From: bob@remote.example\r\n\r\n{text}\r\n");
        let replies = self.server.receive("bob@remote.example", &[ALICE], letter).await.unwrap();
        self.server.settled().await.unwrap();
        replies[0].code()
    }

    /// Ends the server; its storage.
    async fn stop(self) -> Arc<dyn StorageBackend> {
        let storage = self.server.storage().clone();
        self.server.stop().await.unwrap();
        storage
    }
}

fn does(status: &str) -> Response<Full<Bytes>> {
    let body = json!({"status": status, "details": "three of four filters"}).to_string();
    response(200).body(Full::from(body)).unwrap()
}

/// 299 stands for a verdict that it has no leave to say.
fn says(status: u16) -> Response<Full<Bytes>> {
    let (status, body) = match status {
        200 => (200, r#"{"verdict":"allow"}"#),
        299 => (200, r#"{"verdict":"quarantine"}"#),
        other => (other, ""),
    };
    response(status).body(Full::from(body)).unwrap()
}

/// The events about hooks, oldest first: the reason, the point and the detail of each.
async fn alerts(storage: &dyn StorageBackend, tenant: TenantId, hook: HookId) -> Vec<(String, String, String)> {
    let query = EventQuery { kinds: vec!["hook.alert".to_owned()], limit: 100, ..EventQuery::default() };
    let events = storage.events().list(tenant, &query).await.unwrap().items;
    let told = |data: &Value| {
        assert_eq!((&data["hook_id"], &data["plugin_id"]), (&json!(hook.to_string()), &json!(PLUGIN)));
        let text = |name: &str| data[name].as_str().unwrap().to_owned();
        (text("reason"), text("point"), text("detail"))
    };
    events.iter().map(|event| told(&event.data)).collect()
}

fn alert(reason: &str, point: &str, detail: &str) -> (String, String, String) {
    (reason.to_owned(), point.to_owned(), detail.to_owned())
}

/// What the audit log says about hooks, oldest first.
async fn audited(storage: &dyn StorageBackend, tenant: TenantId) -> Vec<AuditEntry> {
    let query = AuditQuery { limit: 100, ..AuditQuery::default() };
    let mut entries = storage.audit().list(tenant.into(), &query).await.unwrap().items;
    entries.sort_by_key(|entry| entry.sequence);
    entries.into_iter().filter(|entry| entry.event_type.starts_with("hook.")).collect()
}

fn after(entry: &AuditEntry) -> Value {
    serde_json::from_str(entry.after.as_ref().unwrap()).unwrap()
}

#[tokio::test]
async fn the_audit_log_tells_of_breakers_and_of_mail_that_passed() {
    let world = World::new(500, json!({"points": ["pre_receive"]})).await;
    for text in ["a", "b", "c", "d"] {
        assert_eq!(world.receive(text).await, 250);
    }
    assert_eq!(world.stand.got().len(), 3);
    world.answer(200);
    world.server.pass(OPEN).await.unwrap();
    for text in ["e", "f"] {
        assert_eq!(world.receive(text).await, 250);
    }
    let (tenant, hook) = (world.tenant, world.hook);
    let entries = audited(&*world.stop().await, tenant).await;
    let told: Vec<_> = entries.iter().map(|entry| (entry.event_type.as_str(), after(entry))).collect();
    let skipped = told[0].1.clone();
    assert_eq!((&skipped["outcome"], &skipped["plugin_id"]), (&json!("http"), &json!(PLUGIN)));
    let mut repeated = skipped.clone();
    repeated["repeated"] = json!(3);
    let opened = json!({"plugin_id": PLUGIN, "point": "pre_receive", "reason": "consecutive"});
    let closed = json!({"plugin_id": PLUGIN, "point": "pre_receive"});
    let wanted = [
        ("hook.skipped", skipped),
        ("hook.breaker_opened", opened),
        ("hook.breaker_closed", closed),
        ("hook.skipped", repeated),
    ];
    assert_eq!(told, wanted);
    for entry in entries {
        assert_eq!((entry.actor.kind.as_str(), entry.target.unwrap().id), ("system", hook.to_string()));
    }
}

#[tokio::test]
async fn the_audit_log_tells_of_a_hook_that_is_gone() {
    let world = World::new(410, json!({"points": ["post_receive"]})).await;
    assert_eq!(world.receive("a").await, 250);
    let (tenant, hook) = (world.tenant, world.hook);
    let storage = world.stop().await;
    assert_eq!(storage.hooks().get(tenant, hook).await.unwrap().unwrap().state.reason(), Some("it answered 410 Gone"));
    let entries = audited(&*storage, tenant).await;
    let told: Vec<_> = entries.iter().map(|entry| (&*entry.event_type, &*entry.actor.kind, after(entry))).collect();
    let wanted = json!({"plugin_id": PLUGIN, "reason": "it answered 410 Gone"});
    assert_eq!(told, [("hook.disabled", "system", wanted)]);
}

#[tokio::test]
async fn what_is_wrong_is_told_once_an_hour() {
    let world = World::new(401, json!({"points": ["pre_receive"], "circuit": "disabled"})).await;
    for status in [401, 403, 410, 410, 299, 299, 500] {
        world.answer(status);
        assert_eq!(world.receive(&status.to_string()).await, 250);
    }
    world.server.pass(Duration::from_secs(3_600)).await.unwrap();
    world.answer(403);
    world.receive("again").await;
    let (tenant, hook) = (world.tenant, world.hook);
    let storage = world.stop().await;
    let wanted = [
        alert("auth", "pre_receive", "it answered 401: the keys differ"),
        alert("gone", "pre_receive", "it answered 410"),
        alert("verdict_denied", "pre_receive", "the manifest of the plugin does not ask for leave to quarantine"),
        alert("auth", "pre_receive", "it answered 403: the keys differ"),
    ];
    assert_eq!(alerts(&*storage, tenant, hook).await, wanted);
    assert!(storage.hooks().get(tenant, hook).await.unwrap().unwrap().state.is_enabled());
}

#[tokio::test]
async fn a_required_hook_that_is_left_alone_is_told_of() {
    let world = World::new(500, json!({"points": ["pre_receive", "post_receive"], "required": true})).await;
    for text in ["a", "b", "c"] {
        assert_eq!(world.receive(text).await, 451);
    }
    // That it stays open is no news.
    world.server.pass(OPEN).await.unwrap();
    assert_eq!(world.receive("d").await, 451);
    let (tenant, hook) = (world.tenant, world.hook);
    let wanted = alert("breaker_open", "pre_receive", "no mail passes without it, and it is left alone: consecutive");
    assert_eq!(alerts(&*world.stop().await, tenant, hook).await, [wanted]);
}

#[tokio::test]
async fn a_hook_that_is_gone_is_told_of_once_for_each_time_that_it_is_bound() {
    let world = World::new(410, json!({"points": ["post_receive"]})).await;
    let (tenant, hook) = (world.tenant, world.hook);
    let storage = world.server.storage().clone();
    for text in ["a", "b"] {
        assert_eq!(world.receive(text).await, 250);
        let change = HookChange { state: Some(HookState::Enabled), ..HookChange::default() };
        storage.hooks().change(tenant, hook, &change).await.unwrap();
    }
    let wanted = alert("gone", "post_receive", "it answered 410, and is disabled");
    assert_eq!(alerts(&*world.stop().await, tenant, hook).await, [wanted.clone(), wanted]);
}

#[tokio::test]
async fn alerts_wait_for_the_storage() {
    let world = World::new(401, json!({"points": ["pre_receive"]})).await;
    let mishaps = world.server.mishaps().clone();
    mishaps.once("allowances.take", Mishap::Fail(StoreErrorKind::Unavailable));
    assert_eq!(world.receive("a").await, 250);
    mishaps.until(async || mishaps.calls("allowances.take") > 0).await;
    let (tenant, hook) = (world.tenant, world.hook);
    let wanted = alert("auth", "pre_receive", "it answered 401: the keys differ");
    assert_eq!(alerts(&*world.stop().await, tenant, hook).await, [wanted]);
}

#[tokio::test]
async fn how_a_hook_does_is_kept() {
    let world = World::new(200, json!({"points": ["pre_receive"], "asked": true})).await;
    let (storage, mishaps) = (world.server.storage().clone(), world.server.mishaps().clone());
    let (tenant, hook) = (world.tenant, world.hook);
    let mut rounds = mishaps.calls("hooks.record_health");
    for status in ["ok", "degraded", "degraded"] {
        *world.health.lock().unwrap() = status;
        // It is asked about every 30 seconds.
        world.server.pass(Duration::from_secs(40)).await.unwrap();
        mishaps.until(async || mishaps.calls("hooks.record_health") > rounds).await;
        rounds = mishaps.calls("hooks.record_health");
    }
    mishaps.until(async || storage.hooks().health(tenant, Some(hook)).await.unwrap()[0].results.len() >= 3).await;
    let health = storage.hooks().health(tenant, Some(hook)).await.unwrap().remove(0);
    let said: Vec<_> = health.results.iter().rev().map(|result| result.status.as_str()).collect();
    assert_eq!((said, health.status.as_str()), (vec!["ok", "degraded", "degraded"], "degraded"));
    assert_eq!((health.since, health.results[0].details.as_str()), (health.results[1].at, "three of four filters"));
}

#[tokio::test]
async fn a_hook_that_says_it_does_not_work_sees_no_probe() {
    let world = World::new(500, json!({"points": ["pre_receive"], "asked": true})).await;
    *world.health.lock().unwrap() = "error";
    for text in ["a", "b", "c"] {
        world.receive(text).await;
    }
    let calls = || world.stand.got().iter().filter(|got| got.line.starts_with("POST ")).count();
    assert_eq!(calls(), 3);
    world.answer(200);
    world.server.pass(OPEN).await.unwrap();
    assert_eq!((world.receive("d").await, calls()), (250, 3));
    *world.health.lock().unwrap() = "ok";
    world.server.pass(2 * OPEN).await.unwrap();
    assert_eq!((world.receive("d").await, calls()), (250, 4));
}
