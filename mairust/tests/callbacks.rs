//! The callback API: results that hooks tell later, by a whole server whose clock stands still.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mairust::testkit::Server;
use mairust::{Clock, LocalKeys, Sealer, Secret, ServerKey, TenantHookSettings};
use mairust_core::{HookId, TenantId};
use mairust_hooks::HookSettings;
use mairust_http::retry_given_up;
use mairust_store::hook::keys;
use mairust_store::{HookChange, HookInvocationQuery, HookState, NewHookBinding};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::receiver::{Got, Receiver};

const ALICE: &str = "alice@here.example";
const HOOK: &str = "com.example.later";
const MINUTE: Duration = Duration::from_secs(60);

/// A server with a hook over HTTP that answers later.
struct World {
    server: Server,
    tenant: TenantId,
    hook: HookId,
    receiver: Receiver,
}

/// What the callback API answered.
#[derive(Debug, PartialEq)]
struct Answered {
    status: u16,
    body: Value,
}

impl World {
    /// The hook is called at `post_receive`, and has a minute for results.
    async fn new() -> Self {
        let sealer = Sealer::new(Arc::new(LocalKeys::new(&Secret::new([1; 32]))));
        let (given, mut settings) = (sealer.clone(), TenantHookSettings::default());
        settings.allow_private_addresses = true;
        let setup = Server::builder().user(ALICE, "correct horse").with(move |builder| {
            builder.sealer(given).tenant_hooks(settings).server_key(ServerKey::new([7; 32])).http("127.0.0.1:0")
        });
        let server = setup.start().await.unwrap();
        let tenant = server.storage().directory().tenants().await.unwrap()[0].id;
        let receiver = Receiver::start(server.clock().clone()).await;
        let settings = json!({
            "points": ["post_receive"], "transport": {"kind": "http", "endpoint": receiver.url()},
            "result_timeout_ms": 60_000, "grants": {"read_headers": true, "write_tags": true, "decide": ["quarantine"]},
        });
        let settings = HookSettings::read(&settings, true).unwrap().to_json();
        let id = HookId::new(server.clock().now());
        let new = NewHookBinding { id, plugin_id: HOOK.to_owned(), settings, state: HookState::Enabled };
        keys::create(server.storage(), &sealer, tenant, new).await.unwrap();
        Self { server, tenant, hook: id, receiver }
    }

    /// A message comes, and the hook says that it tells the result later.
    async fn accepted(&self) -> Got {
        let known = self.receiver.got().len();
        self.receiver.answer(&["202 Accepted"]);
        let letter = "From: bob@remote.example\r\nSubject: x\r\n\r\nHello!\r\n";
        let replies = self.server.receive("bob@remote.example", &[ALICE], letter).await.unwrap();
        assert!(replies[0].is_positive(), "{replies:?}");
        self.server.settled().await.unwrap();
        let got = self.receiver.got();
        assert_eq!(got.len(), known + 1);
        got.last().unwrap().clone()
    }

    /// Asks the callback API, as the program that got this request.
    async fn ask(&self, got: &Got, method: &str, path: &str, key: &str, body: Value) -> Answered {
        let token = got.json()["callback"]["token"].as_str().unwrap().to_owned();
        request(self.server.addresses().http.unwrap(), &token, method, path, key, &body).await
    }

    async fn complete(&self, got: &Got, key: &str, body: Value) -> Answered {
        let call = got.json()["invocation_id"].as_str().unwrap().to_owned();
        let answered = self.ask(got, "POST", &format!("/invocations/{call}/complete"), key, body).await;
        self.server.settled().await.unwrap();
        answered
    }

    async fn tags(&self) -> Vec<String> {
        self.server.inbox(ALICE).await.unwrap()[0].row.tags.clone()
    }

    async fn jobs(&self) -> (u64, u64) {
        let stats = self.server.storage().queue().stats(self.server.clock().now()).await.unwrap();
        stats.values().fold((0, 0), |(waiting, buried), stats| (waiting + stats.waiting, buried + stats.buried))
    }
}

async fn request(address: SocketAddr, token: &str, method: &str, path: &str, key: &str, body: &Value) -> Answered {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} /api/plugin/v1{path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
        idempotency-key: {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answered { status, body: serde_json::from_str(body).unwrap() }
}

fn tagged(tag: &str) -> Value {
    json!({"status": "done", "actions": [{"op": "tag.add", "tags": [tag]}]})
}

#[tokio::test]
async fn a_result_that_is_told_later_is_taken_up() {
    let world = World::new().await;
    let got = world.accepted().await;
    let request = got.json();
    assert_eq!(request["callback"]["base"], format!("http://{}/api/plugin/v1", world.server.addresses().http.unwrap()));
    assert_eq!((world.jobs().await, world.tags().await), ((1, 0), vec![]));
    let own = world.ask(&got, "GET", "/self", "-", Value::Null).await;
    assert_eq!(
        (own.status, &own.body["plugin"]["id"], &own.body["message_id"]),
        (200, &json!(HOOK), &request["message"]["id"])
    );
    let told = world.complete(&got, "k1", tagged("late")).await;
    assert_eq!(
        told,
        Answered { status: 200, body: json!({"invocation_id": request["invocation_id"], "status": "done"}) }
    );
    assert_eq!((world.jobs().await, world.tags().await), ((0, 0), vec!["late".to_owned()]));
    // Told again, it is the same; another one comes too late.
    assert_eq!(world.complete(&got, "k1", tagged("late")).await, told);
    assert_eq!(world.complete(&got, "k2", tagged("late")).await, told);
    let other = world.complete(&got, "k3", tagged("other")).await;
    assert_eq!((other.status, &other.body["code"]), (409, &json!("invalid_state")));
    let misused = world.complete(&got, "k1", tagged("other")).await;
    assert_eq!((misused.status, &misused.body["code"]), (409, &json!("idempotency_conflict")));
    world.server.pass(MINUTE * 60).await.unwrap();
    assert_eq!((world.receiver.got().len(), world.tags().await), (1, vec!["late".to_owned()]));
    // The token is good for a day.
    assert_eq!(world.ask(&got, "GET", "/self", "-", Value::Null).await.status, 200);
    world.server.pass(MINUTE * 60 * 23).await.unwrap();
    assert_eq!(world.ask(&got, "GET", "/self", "-", Value::Null).await.status, 401);
}

#[tokio::test]
async fn a_result_that_does_not_come_is_a_failure() {
    let world = World::new().await;
    let first = world.accepted().await;
    world.receiver.answer(&["202 Accepted", "202 Accepted", "202 Accepted"]);
    world.server.pass(MINUTE - Duration::from_secs(1)).await.unwrap();
    assert_eq!(world.receiver.got().len(), 1);
    // One minute for each result, and the waits between attempts.
    world.server.pass(Duration::from_secs(4 * 60 + 36 + 144 + 720)).await.unwrap();
    let got = world.receiver.got();
    let attempts: Vec<_> = got.iter().map(|got| got.json()["attempt"].clone()).collect();
    assert_eq!(attempts, [1, 2, 3, 4]);
    assert!(got.iter().all(|got| got.json()["invocation_id"] == first.json()["invocation_id"]));
    assert_eq!(world.jobs().await, (0, 1), "given up");
    for got in got {
        assert_eq!(world.complete(&got, "late", tagged("late")).await.status, 401, "each attempt had its own token");
    }
    assert_eq!(world.tags().await, Vec::<String>::new());
    // Somebody has mended the program: each call that was given up is made once more.
    let query = HookInvocationQuery { binding: Some(HOOK.to_owned()), ..HookInvocationQuery::default() };
    let (storage, now) = (world.server.storage(), world.server.clock().now());
    world.receiver.answer(&["500 Not yet"]);
    for (retried, after) in [(1, (0, 1)), (1, (0, 0)), (0, (0, 0))] {
        assert_eq!(retry_given_up(storage, world.tenant, query.clone(), now).await.unwrap(), retried);
        world.server.settled().await.unwrap();
        assert_eq!(world.jobs().await, after);
    }
    let attempts = world.receiver.got().iter().map(|got| got.json()["attempt"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(attempts, [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn a_program_that_fails_at_last_is_called_again() {
    let world = World::new().await;
    let first = world.accepted().await;
    let failed = json!({"status": "failed", "error": {"code": "no_model", "message": "not today"}});
    assert_eq!(world.complete(&first, "k", failed).await.status, 200);
    assert_eq!((world.receiver.got().len(), world.jobs().await), (1, (1, 0)));
    world.server.pass(Duration::from_secs(37)).await.unwrap();
    assert_eq!((world.receiver.got().len(), world.jobs().await), (2, (0, 0)), "it answered with 204 at once");
}

#[tokio::test]
async fn progress_puts_a_result_off_up_to_twice_the_time() {
    let world = World::new().await;
    let got = world.accepted().await;
    let path = format!("/invocations/{}/progress", got.json()["invocation_id"].as_str().unwrap());
    let start = world.server.clock().now();
    for (number, (after, until)) in [(50, 110), (100, 120), (110, 120)].into_iter().enumerate() {
        let at = start.plus(Duration::from_secs(after));
        world.server.pass(at.since(world.server.clock().now())).await.unwrap();
        let answered = world.ask(&got, "POST", &path, &number.to_string(), Value::Null).await;
        let until = start.plus(Duration::from_secs(until)).to_rfc3339();
        assert_eq!(answered, Answered { status: 200, body: json!({"result_by": until}) });
    }
    assert_eq!((world.receiver.got().len(), world.jobs().await), (1, (1, 0)));
    world.server.pass(Duration::from_secs(10)).await.unwrap();
    let late = world.ask(&got, "POST", &path, "4", Value::Null).await;
    assert_eq!(late.status, 401, "{late:?}");
}

#[tokio::test]
async fn what_is_not_granted_can_neither_be_read_nor_done() {
    let world = World::new().await;
    let got = world.accepted().await;
    let id = got.json()["message"]["id"].as_str().unwrap().to_owned();
    for (place, permission) in
        [("body", "read_body: full"), ("attachments/0", "read_attachments: full"), ("raw", "read_body: full")]
    {
        let refused = world.ask(&got, "GET", &format!("/messages/{id}/{place}"), "-", Value::Null).await;
        assert_eq!((refused.status, &refused.body["code"]), (403, &json!("permission_denied")));
        assert_eq!(refused.body["details"]["permission"], permission);
    }
    let seen = world.ask(&got, "GET", &format!("/messages/{id}"), "-", Value::Null).await;
    assert_eq!((seen.status, &seen.body["redacted"]), (200, &got.json()["redacted"]));
    assert_eq!(seen.body["message"], got.json()["message"]);
    for other in ["0197b0a1-0000-7000-8000-000000000000", "x"] {
        assert_eq!(world.ask(&got, "GET", &format!("/messages/{other}"), "-", Value::Null).await.status, 404);
    }
    let actions = json!({"actions": [{"op": "tag.add", "tags": ["now"]}, {"op": "flag.add", "flags": ["\\Seen"]}]});
    let done = world.ask(&got, "POST", &format!("/messages/{id}/actions"), "a", actions).await;
    let results = json!([{"op": "tag.add", "result": "applied"}, {"op": "flag.add", "result": "denied"}]);
    assert_eq!(done, Answered { status: 200, body: json!({"results": results}) });
    assert_eq!(world.tags().await, ["now"]);
    let reject = json!({"status": "done", "verdict": "reject"});
    let refused = world.complete(&got, "c", reject).await;
    assert_eq!((refused.status, &refused.body["code"]), (403, &json!("permission_denied")));
    assert_eq!(world.complete(&got, "d", json!({"status": "done", "verdict": "quarantine"})).await.status, 200);
    assert_eq!(world.server.inbox(ALICE).await.unwrap().len(), 0, "it went into quarantine");
}

#[tokio::test]
async fn a_hook_that_is_let_go_can_ask_no_more() {
    let world = World::new().await;
    let got = world.accepted().await;
    assert_eq!(world.ask(&got, "GET", "/self", "-", Value::Null).await.status, 200);
    let change = HookChange { state: Some(HookState::Disabled("on holiday".to_owned())), ..HookChange::default() };
    world.server.storage().hooks().change(world.tenant, world.hook, &change).await.unwrap();
    assert_eq!(world.complete(&got, "k", tagged("late")).await.status, 401);
}

#[tokio::test]
async fn odd_requests_are_refused() {
    let world = World::new().await;
    let got = world.accepted().await;
    let address = world.server.addresses().http.unwrap();
    for token in ["", "mrc_", "mrc_AAAA", &format!("mrc_{}", "A".repeat(43))] {
        assert_eq!(request(address, token, "GET", "/self", "-", &Value::Null).await.status, 401, "{token}");
    }
    let id = got.json()["message"]["id"].as_str().unwrap().to_owned();
    let (actions, call) = (format!("/messages/{id}/actions"), got.json()["invocation_id"].as_str().unwrap().to_owned());
    let complete = format!("/invocations/{call}/complete");
    let cases = [
        (&actions, "", json!({"actions": []}), 400, "idempotency_key_required"),
        (&actions, "1", json!({}), 422, "validation_failed"),
        (&actions, "2", json!({"actions": [{"op": "explode"}]}), 422, "validation_failed"),
        (&actions, "3", json!({"actions": [], "verdict": "reject"}), 422, "validation_failed"),
        (&complete, "4", json!({"status": "perhaps"}), 422, "validation_failed"),
        (&complete, "5", json!({"status": "done", "error": {"code": "x", "message": ""}}), 422, "validation_failed"),
        (&complete, "6", json!([]), 422, "validation_failed"),
        (&"/logs".to_owned(), "7", json!([{"level": "loud", "msg": "x"}]), 422, "validation_failed"),
        (
            &"/invocations/inv_01JABCDEFGHJKMNPQRSTVWXYZ0/complete".to_owned(),
            "8",
            json!({"status": "done"}),
            404,
            "not_found",
        ),
    ];
    // Not even what is no text is answered by anything but an error object.
    for (path, status) in [(format!("/messages/{id}/body?part=a&part=b"), 400), ("/messages/%ff".to_owned(), 404)] {
        assert_eq!(world.ask(&got, "GET", &path, "-", Value::Null).await.body["status"], status, "{path}");
    }
    for (path, key, body, status, code) in cases {
        let answered = world.ask(&got, "POST", path, key, body.clone()).await;
        assert_eq!((answered.status, &answered.body["code"]), (status, &json!(code)), "{path} {body}");
    }
    assert_eq!(
        world.ask(&got, "POST", "/logs", "9", json!([{"level": "warn", "msg": "hm", "fields": {"a": 1}}])).await.status,
        200
    );
    let statuses: Vec<_> =
        futures::future::join_all((0..60).map(|_| world.ask(&got, "GET", "/self", "-", Value::Null))).await;
    let refused: Vec<_> = statuses.iter().filter(|answered| answered.status == 429).collect();
    assert!(!refused.is_empty() && refused.iter().all(|answered| answered.body["code"] == "rate_limited"));
}
