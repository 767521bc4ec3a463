//! Hooks: bound, changed, left alone, tested, removed, and what their calls came to.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use mairust_core::MessageId;
use mairust_hooks::HookPoint;
use mairust_hooks::breaker::{BreakerState, OpenReason};
use mairust_http::{CircuitState, HookControl, HookControlError, HookTrial, Scope, Shown, Subject};
use mairust_store::{HookActionReport, HookBinding, HookInvocation, HookReport, HookStore, NewHookHealth};
use serde_json::{Value, json};

use super::support::{Answer, START, World, call, mail, request};

const URL: &str = "https://spam.example/hook";

/// Says what it was asked.
#[derive(Debug, Default)]
struct Control {
    shown: Mutex<Vec<Shown>>,
    fails: Mutex<Option<&'static str>>,
}

#[async_trait]
impl HookControl for Control {
    async fn circuit(&self, _: &HookBinding) -> Result<Vec<CircuitState>, HookControlError> {
        let open = BreakerState::Open { until: Some(START), because: OpenReason::Consecutive };
        let (one, other) = (HookPoint::PreReceive, HookPoint::PostReceive);
        Ok(vec![CircuitState { point: one, state: open }, CircuitState { point: other, state: BreakerState::Closed }])
    }

    async fn show(&self, _: &HookBinding, shown: Shown) -> Result<HookTrial, HookControlError> {
        self.shown.lock().unwrap().push(shown);
        let fails = *self.fails.lock().unwrap();
        match fails {
            Some("gone") => return Err(HookControlError::Gone),
            Some("unusable") => return Err(HookControlError::Unusable("no key".to_owned())),
            _ => {}
        }
        Ok(HookTrial {
            id: "inv_1".to_owned(),
            request: json!({"v": 1}),
            outcome: fails.unwrap_or("quarantine").to_owned(),
            response: fails.is_none().then(|| json!({"verdict": "quarantine"})),
            denied: vec!["move".to_owned()],
            error: fails.map(|_| "it is down".to_owned()),
            ms: 7,
        })
    }
}

async fn send(app: &Router, key: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
    send_with(app, key, method, path, body, &[]).await
}

async fn send_with(
    app: &Router,
    key: &str,
    method: &str,
    path: &str,
    body: Option<Value>,
    headers: &[(&str, &str)],
) -> Answer {
    let mut request = request(method, path, key, headers);
    if let Some(body) = body {
        request.headers_mut().insert("content-type", "application/json".parse().unwrap());
        *request.body_mut() = Body::from(body.to_string());
    }
    call(app, request).await
}

fn body(name: &str, fields: Value) -> Value {
    let transport = json!({"kind": "http", "endpoint": URL});
    let mut body = json!({"plugin_id": name, "points": ["pre_receive"], "transport": transport});
    if let (Value::Object(body), Value::Object(fields)) = (&mut body, fields) {
        body.extend(fields);
    }
    body
}

async fn make(app: &Router, key: &str, name: &str) -> Value {
    let answer = send(app, key, "POST", "/api/v1/hooks", Some(body(name, json!({})))).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.body);
    let made = answer.json();
    assert_eq!(answer.header("location"), path(&made));
    assert_eq!(answer.header("etag"), "\"1\"");
    made
}

fn path(hook: &Value) -> String {
    format!("/api/v1/hooks/{}", hook["id"].as_str().unwrap())
}

fn paths(problem: &Value) -> Vec<&str> {
    problem["details"]["errors"].as_array().unwrap().iter().map(|error| error["path"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_key_is_shown_once() {
    let world = World::new().await;
    let (app, notes) = world.with_hooks(false, None);
    let key = &world.alice.key;
    let mut made = make(&app, key, "com.example.spam").await;
    let secret = made.as_object_mut().unwrap().remove("secret").unwrap();
    assert!(secret.as_str().unwrap().starts_with("whsec_"));
    let expected = json!([true, "enforce", 100, null, {"kind": "http", "endpoint": URL, "private_address": false}]);
    let found = json!([made["enabled"], made["mode"], made["priority"], made["timeout_ms"], made["transport"]]);
    assert_eq!(found, expected);
    let mut read = send(&app, key, "GET", &path(&made), None).await.json();
    assert_eq!(read.as_object_mut().unwrap().remove("health"), Some(Value::Null));
    assert_eq!(read, made);
    assert_eq!(send(&app, key, "GET", "/api/v1/hooks", None).await.json(), json!({"items": [made]}));

    let rotate = format!("{}/rotate-secret", path(&made));
    let second = send(&app, key, "POST", &rotate, Some(json!({"grace": "1h"}))).await.json();
    assert!(second["secret"] != secret && second["previous_until"].is_string());
    send(&app, key, "POST", &rotate, None).await.expect_problem(409, "invalid_state");
    let revoke = format!("{rotate}/revoke-previous");
    for _ in 0..2 {
        assert_eq!(send(&app, key, "POST", &revoke, None).await.status, StatusCode::NO_CONTENT);
    }
    send(&app, key, "POST", &rotate, Some(json!({"grace": "soon"}))).await.expect_problem(422, "validation_failed");
    assert_eq!(send(&app, key, "POST", &rotate, Some(json!({"grace": "0s"}))).await.status, StatusCode::OK);
    // The server has to begin anew with each new key.
    assert_eq!(send(&app, key, "GET", &path(&made), None).await.json()["generation"], 4);
    let notes = notes.all();
    let count = |action: &str| notes.iter().filter(|note| note.starts_with(action)).count();
    assert_eq!((count("secret_rotated hook"), count("secret_revoked hook")), (2, 1), "{notes:?}");
    assert!(!notes.iter().any(|note| note.contains("whsec_")));
}

#[tokio::test]
async fn what_is_wrong_is_said_at_once() {
    let world = World::new().await;
    let (app, _) = world.with_hooks(false, None);
    let key = &world.alice.key;
    let odd = json!({"priority": 2000, "on_failure": "reject", "grants": {"write_tags": true}, "odd": 1});
    for (body, expected) in [
        (json!({}), &["/transport/endpoint", "/points", "/plugin_id"][..]),
        (body("A B", odd.clone()), &["/odd", "/plugin_id"]),
        (
            body("a", json!({"priority": 2000, "on_failure": "reject", "grants": {"write_tags": true}})),
            &["/priority", "/on_failure", "/grants/write_tags"],
        ),
        (body("a", json!({"enabled": "yes"})), &["/enabled"]),
        (
            body("a", json!({"transport": {"kind": "http", "endpoint": "http://spam.example/"}})),
            &["/transport/endpoint"],
        ),
        (body("a", json!({"transport": {"kind": "http", "endpoint": "https://127.0.0.1/"}})), &["/transport/endpoint"]),
    ] {
        let answer = send(&app, key, "POST", "/api/v1/hooks", Some(body.clone())).await;
        assert_eq!(paths(&answer.expect_problem(422, "validation_failed")), expected, "{body}");
    }
    let made = make(&app, key, "a").await;
    let answer = send(&app, key, "PATCH", &path(&made), Some(json!({"priority": 2000, "timeout_ms": 4000}))).await;
    assert_eq!(paths(&answer.expect_problem(422, "validation_failed")), ["/priority", "/timeout_ms"]);
    let config = json!({"x": "x".repeat(70_000)});
    let answer = send(&app, key, "PATCH", &path(&made), Some(json!({"config": config}))).await;
    answer.expect_problem(422, "validation_failed");
    let again = send(&app, key, "POST", "/api/v1/hooks", Some(body("a", json!({})))).await;
    again.expect_problem(409, "already_exists");
    let keyless = send(&world.app, key, "POST", "/api/v1/hooks", Some(body("b", json!({})))).await;
    keyless.expect_problem(409, "invalid_state");

    let (allowing, _) = world.with_hooks(true, None);
    let local = json!({"transport": {"kind": "http", "endpoint": "http://127.0.0.1:8081/hook"}});
    let answer = send(&allowing, key, "POST", "/api/v1/hooks", Some(body("b", local))).await;
    assert_eq!(answer.status, StatusCode::CREATED);
}

#[tokio::test]
async fn some_of_it_is_for_whoever_runs_the_server() {
    let world = World::new().await;
    let (app, _) = world.with_hooks(false, None);
    let key = &world.alice.key;
    let process = json!({"transport": {"kind": "process", "command": ["/bin/sh"]}});
    let local = json!({"kind": "http", "endpoint": "http://127.0.0.1/", "private_address": true});
    for (fields, at) in [
        (process, "/transport"),
        (json!({"transport": local}), "/transport/private_address"),
        (json!({"points": ["pre_send"], "before_policy": true}), "/before_policy"),
        (json!({"grants": {"decide": ["reject"]}}), "/grants/decide"),
    ] {
        let answer = send(&app, key, "POST", "/api/v1/hooks", Some(body("a", fields.clone()))).await;
        assert_eq!(paths(&answer.expect_problem(403, "forbidden")), [at], "{fields}");
    }
    let made = make(&app, key, "a").await;
    let answer = send(&app, key, "PATCH", &path(&made), Some(json!({"grants": {"decide": ["reject"]}}))).await;
    answer.expect_problem(403, "forbidden");
    assert_eq!(send(&app, key, "GET", &path(&made), None).await.json()["generation"], 1);
}

#[tokio::test]
async fn changes_are_made_and_told() {
    let world = World::new().await;
    let (app, notes) = world.with_hooks(false, None);
    let key = &world.alice.key;
    let made = make(&app, key, "a").await;
    let patch = json!({"timeout_ms": 500, "config": {"x": 1}, "grants": {"read_headers": true}});
    let answer = send(&app, key, "PATCH", &path(&made), Some(patch)).await;
    let changed = answer.json();
    assert_eq!((answer.header("etag"), &changed["generation"]), ("\"2\"", &json!(2)));
    assert_eq!(
        json!([changed["timeout_ms"], changed["config"], changed["points"]]),
        json!([500, {"x": 1}, ["pre_receive"]])
    );
    let changed = send(&app, key, "PATCH", &path(&made), Some(json!({"timeout_ms": null}))).await.json();
    assert_eq!(json!([changed["timeout_ms"], changed["grants"]["read_headers"]]), json!([null, true]));
    let disabled = send(&app, key, "POST", &format!("{}/disable", path(&made)), None).await.json();
    assert_eq!(json!([disabled["enabled"], disabled["disabled_because"]]), json!([false, "disabled by an operator"]));
    let enabled = send(&app, key, "POST", &format!("{}/enable", path(&made)), None).await.json();
    assert_eq!(json!([enabled["enabled"], enabled["disabled_because"]]), json!([true, null]));
    let circuit = format!("{}/circuit", path(&made));
    let forced = send(&app, key, "POST", &circuit, Some(json!({"wanted": "forced_open"}))).await.json();
    assert_eq!((&forced["circuit"], &forced["generation"]), (&json!("forced_open"), &json!(6)));
    send(&app, key, "POST", &circuit, Some(json!({"wanted": "ajar"}))).await.expect_problem(422, "validation_failed");
    let reset = send(&app, key, "POST", &format!("{circuit}/reset"), None).await.json();
    assert_eq!((&reset["circuit"], &reset["generation"]), (&json!("forced_open"), &json!(7)));
    assert_eq!(send(&app, key, "DELETE", &path(&made), None).await.status, StatusCode::NO_CONTENT);
    send(&app, key, "GET", &path(&made), None).await.expect_problem(404, "not_found");
    let actions: Vec<_> = notes.all().iter().map(|note| note.split(' ').next().unwrap().to_owned()).collect();
    let expected =
        ["created", "changed", "changed", "disabled", "enabled", "circuit_changed", "circuit_reset", "removed"];
    assert_eq!(actions, expected);
}

#[tokio::test]
async fn a_hook_is_shown_with_how_it_does() {
    let world = World::new().await;
    let (app, _) = world.with_hooks(false, None);
    let key = &world.alice.key;
    let made = make(&app, key, "a").await;
    let health = async || send(&app, key, "GET", &path(&made), None).await.json()["health"].clone();
    assert_eq!(health().await, Value::Null);
    let hook = made["id"].as_str().unwrap().parse().unwrap();
    let said = |status: &str, seconds| NewHookHealth {
        tenant: world.alice.user.tenant,
        hook,
        at: START.plus(std::time::Duration::from_secs(seconds)),
        status: status.to_owned(),
        details: "three of four filters".to_owned(),
    };
    for (status, seconds) in [("ok", 1), ("degraded", 2), ("degraded", 3)] {
        HookStore::record_health(&*world.storage, vec![said(status, seconds)]).await.unwrap();
    }
    assert_eq!(health().await, Value::Null, "it can't be asked");
    let transport = json!({"kind": "http", "endpoint": URL, "health_endpoint": "https://spam.example/health"});
    send(&app, key, "PATCH", &path(&made), Some(json!({"transport": transport}))).await;
    let health = health().await;
    let at = |seconds| START.plus(std::time::Duration::from_secs(seconds)).to_rfc3339();
    assert_eq!((&health["status"], &health["since"]), (&json!("degraded"), &json!(at(2))));
    let newest = json!({"at": at(3), "status": "degraded", "details": "three of four filters"});
    assert_eq!((health["results"].as_array().unwrap().len(), &health["results"][0]), (3, &newest));
}

#[tokio::test]
async fn what_the_client_knows_may_be_old() {
    let world = World::new().await;
    let (app, _) = world.with_hooks(false, None);
    let key = &world.alice.key;
    let made = make(&app, key, "a").await;
    let at = path(&made);
    let known = send_with(&app, key, "GET", &at, None, &[("if-none-match", "\"1\"")]).await;
    assert_eq!(known.status, StatusCode::NOT_MODIFIED);
    let patch = || Some(json!({"priority": 5}));
    let stale = send_with(&app, key, "PATCH", &at, patch(), &[("if-match", "\"7\"")]).await;
    stale.expect_problem(412, "precondition_failed");
    let fresh = send_with(&app, key, "PATCH", &at, patch(), &[("if-match", "\"7\", \"1\"")]).await;
    assert_eq!((fresh.status, fresh.header("etag")), (StatusCode::OK, "\"2\""));
    for method in ["enable", "disable"] {
        let stale = send_with(&app, key, "POST", &format!("{at}/{method}"), None, &[("if-match", "\"1\"")]).await;
        stale.expect_problem(412, "precondition_failed");
    }
    let stale = send_with(&app, key, "DELETE", &at, None, &[("if-match", "\"1\"")]).await;
    stale.expect_problem(412, "precondition_failed");
    let gone = send_with(&app, key, "DELETE", &at, None, &[("if-match", "*")]).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn whoever_runs_hooks_is_asked() {
    let world = World::new().await;
    let control = Arc::new(Control::default());
    let (app, notes) = world.with_hooks(false, Some(control.clone()));
    let key = &world.alice.key;
    let made = make(&app, key, "a").await;
    let circuit = send(&app, key, "GET", &format!("{}/circuit", path(&made)), None).await.json();
    let open = json!({"point": "pre_receive", "state": "open", "reason": "consecutive", "until": START.to_rfc3339()});
    let closed = json!({"point": "post_receive", "state": "closed", "reason": null, "until": null});
    assert_eq!(circuit, json!({"wanted": "automatic", "points": [open, closed]}));

    let test = format!("{}/test", path(&made));
    let answer = send(&app, key, "POST", &test, None).await.json();
    let expected = json!({"delivery_id": "inv_1", "request": {"v": 1}, "outcome": "quarantine",
        "response": {"verdict": "quarantine"}, "denied": ["move"], "ms": 7});
    assert_eq!(answer, expected);
    send(&app, key, "POST", &test, Some(json!({"sample": "Subject: é\r\n\r\n", "point": "pre_receive"}))).await;
    let kept = world.receive(&world.alice, mail("b@b.example", "one"), START).await;
    send(&app, key, "POST", &test, Some(json!({"message_id": kept.to_string()}))).await;
    let subjects: Vec<_> = control.shown.lock().unwrap().drain(..).map(|shown| (shown.subject, shown.again)).collect();
    let text = "Subject: é\r\n\r\n".as_bytes().to_vec();
    assert_eq!(subjects, [(Subject::Sample, false), (Subject::Text(text), false), (Subject::Kept(kept), false)]);
    for odd in [
        json!({"sample": "x", "message_id": kept.to_string()}),
        json!({"message_id": "x"}),
        json!({"message_id": MessageId::new(START).to_string()}),
        json!({"point": "pre_send"}),
        json!({"point": "odd"}),
        json!({"odd": 1}),
    ] {
        send(&app, key, "POST", &test, Some(odd)).await.expect_problem(422, "validation_failed");
    }
    for (fails, status, code) in [
        ("gone", 410, "gone"),
        ("unusable", 409, "invalid_state"),
        ("timeout", 504, "upstream_timeout"),
        ("connect", 502, "plugin_error"),
    ] {
        *control.fails.lock().unwrap() = Some(fails);
        let problem = send(&app, key, "POST", &test, None).await.expect_problem(status, code);
        if status > 500 {
            assert_eq!(json!([problem["details"]["request"], problem["details"]["outcome"]]), json!([{"v": 1}, fails]));
        }
    }
    assert_eq!(notes.all().iter().filter(|note| note.starts_with("tested hook")).count(), 5);
    let (without, _) = world.with_hooks(false, None);
    send(&without, key, "POST", &test, None).await.expect_problem(409, "invalid_state");
    let circuit = send(&without, key, "GET", &format!("{}/circuit", path(&made)), None).await.json();
    assert_eq!(circuit, json!({"wanted": "automatic", "points": []}));
}

fn invocation(world: &World, number: u32, outcome: &str, message: Option<MessageId>) -> HookInvocation {
    HookInvocation {
        id: format!("inv_{number}"),
        tenant: world.alice.user.tenant,
        binding: "a".to_owned(),
        hook: None,
        point: "pre_receive".to_owned(),
        outcome: outcome.to_owned(),
        message,
        at: START,
        report: HookReport {
            mode: "enforce".to_owned(),
            attempt: 1,
            mail_from: Some("a@b.example".to_owned()),
            rcpt_to: vec!["alice@a.example".to_owned()],
            duration_ms: 12,
            detail: Some("it said so".to_owned()),
            score: Some(7.5),
            actions: vec![HookActionReport { op: "tag.add".to_owned(), result: "applied".to_owned() }],
            ..HookReport::default()
        },
    }
}

#[tokio::test]
async fn calls_are_listed_read_and_made_again() {
    let world = World::new().await;
    let control = Arc::new(Control::default());
    let (app, notes) = world.with_hooks(false, Some(control.clone()));
    let key = &world.alice.key;
    let (made, other) = (make(&app, key, "a").await, make(&app, key, "b").await);
    let message = MessageId::new(START);
    let calls = (1..4).map(|number| invocation(&world, number, if number == 2 { "timeout" } else { "allow" }, None));
    let kept = invocation(&world, 4, "allow", Some(message));
    world.storage.record(calls.chain([kept]).collect()).await.unwrap();
    let list = format!("{}/deliveries", path(&made));
    let ids = |answer: &Value| -> Vec<String> {
        answer["items"].as_array().unwrap().iter().map(|call| call["id"].as_str().unwrap().to_owned()).collect()
    };
    let first = send(&app, key, "GET", &format!("{list}?limit=3"), None).await;
    assert_eq!(ids(&first.json()), ["inv_4", "inv_3", "inv_2"]);
    let cursor = first.json()["next_cursor"].as_str().unwrap().to_owned();
    let rest = send(&app, key, "GET", &format!("{list}?limit=3&cursor={cursor}"), None).await.json();
    assert_eq!((ids(&rest), &rest["has_more"]), (vec!["inv_1".to_owned()], &json!(false)));
    let theirs = format!("{}/deliveries", path(&other));
    send(&app, key, "GET", &format!("{theirs}?cursor={cursor}"), None).await.expect_problem(400, "invalid_cursor");
    assert_eq!(ids(&send(&app, key, "GET", &theirs, None).await.json()), [""; 0]);
    for (filter, expected) in [
        ("outcome=timeout".to_owned(), &["inv_2"][..]),
        (format!("message_id={message}"), &["inv_4"]),
        ("until=2020-01-01T00:00:00Z".to_owned(), &[]),
        ("since=2020-01-01T00:00:00Z&outcome=timeout".to_owned(), &["inv_2"]),
    ] {
        assert_eq!(ids(&send(&app, key, "GET", &format!("{list}?{filter}"), None).await.json()), expected, "{filter}");
    }
    for odd in ["message_id=x", "since=then", "odd=1", "limit=0"] {
        send(&app, key, "GET", &format!("{list}?{odd}"), None).await.expect_problem(400, "invalid_query");
    }
    let one = send(&app, key, "GET", &format!("{list}/inv_4"), None).await.json();
    let action = json!({"op": "tag.add", "result": "applied"});
    let found = json!([one["message_id"], one["score"], one["actions"], one["ms"], one["response"]]);
    assert_eq!(found, json!([message.to_string(), 7.5, [action], 12, null]));
    for odd in [format!("{list}/inv_9"), format!("{theirs}/inv_4")] {
        send(&app, key, "GET", &odd, None).await.expect_problem(404, "not_found");
    }

    let again = send(&app, key, "POST", &format!("{list}/inv_4/replay"), None).await;
    assert_eq!((again.status, &again.json()["delivery_id"]), (StatusCode::OK, &json!("inv_1")));
    let shown = Shown { point: HookPoint::PreReceive, subject: Subject::Kept(message), again: true };
    assert_eq!(*control.shown.lock().unwrap(), [shown]);
    send(&app, key, "POST", &format!("{list}/inv_1/replay"), None).await.expect_problem(409, "invalid_state");
    assert!(notes.all().iter().any(|note| note.starts_with("replayed hook")));
}

#[tokio::test]
async fn hooks_of_others_look_like_nothing() {
    let world = World::new().await;
    let (app, _) = world.with_hooks(false, Some(Arc::new(Control::default())));
    let made = make(&app, &world.alice.key, "a").await;
    world.storage.record(vec![invocation(&world, 1, "allow", None)]).await.unwrap();
    let (at, bob) = (path(&made), &world.bob.key);
    let (read, events) = (world.key(&[Scope::HooksRead]).await, world.key(&[Scope::EventsRead]).await);
    for (method, path) in [
        ("GET", at.clone()),
        ("PATCH", at.clone()),
        ("DELETE", at.clone()),
        ("POST", format!("{at}/enable")),
        ("POST", format!("{at}/disable")),
        ("POST", format!("{at}/rotate-secret")),
        ("POST", format!("{at}/rotate-secret/revoke-previous")),
        ("GET", format!("{at}/circuit")),
        ("POST", format!("{at}/circuit")),
        ("POST", format!("{at}/circuit/reset")),
        ("POST", format!("{at}/test")),
        ("GET", format!("{at}/deliveries")),
        ("GET", format!("{at}/deliveries/inv_1")),
        ("POST", format!("{at}/deliveries/inv_1/replay")),
    ] {
        send(&app, bob, method, &path, None).await.expect_problem(404, "not_found");
        let nothing = path.replace(made["id"].as_str().unwrap(), "no-id");
        send(&app, bob, method, &nothing, None).await.expect_problem(404, "not_found");
        let refused = if method == "GET" { &events } else { &read };
        send(&app, refused, method, &path, None).await.expect_problem(403, "insufficient_scope");
    }
    assert_eq!(send(&app, bob, "GET", "/api/v1/hooks", None).await.json()["items"], json!([]));
    // Names are those of each tenant.
    make(&app, bob, "a").await;
    assert_eq!(send(&app, &world.alice.key, "GET", &at, None).await.json()["generation"], 1);
}
