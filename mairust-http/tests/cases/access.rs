//! Who gets in, and what errors have in common.

use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use axum::http::{Method, StatusCode};
use mairust_core::MessageId;
use mairust_http::Scope;
use mairust_store::StoreErrorKind;
use serde_json::{Value, json};

use super::audit::append;
use super::support::{Failure, START, World, call, mail, request};

const WITH_ID: [&str; 9] = [
    "/api/v1/audit/{id}",
    "/api/v1/messages/{id}",
    "/api/v1/messages/{id}/raw",
    "/api/v1/messages/{id}/trace",
    "/api/v1/messages/{id}/text",
    "/api/v1/messages/{id}/attachments",
    "/api/v1/messages/{id}/attachments/0",
    "/api/v1/sends/{id}",
    "/api/v1/sends/{id}/events",
];

#[tokio::test]
async fn nobody_gets_in_without_a_key() {
    let world = World::new().await;
    let id = world.receive(&world.alice, mail("x@x.example", "s"), START).await.to_string();
    let paths = WITH_ID.iter().map(|path| path.replace("{id}", &id));
    for path in paths.chain(["/api/v1/messages".to_owned(), "/api/v1/messages/wait?timeout=0".to_owned()]) {
        let answer = world.get_as("", &path).await;
        answer.expect_problem(401, "unauthenticated");
        assert_eq!(answer.header("www-authenticate"), "Bearer", "{path}");
    }
    call(&world.app, request("POST", "/api/v1/send", "", &[])).await.expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn only_genuine_keys_are_taken() {
    let world = World::new().await;
    let genuine = &world.alice.key;
    let (other_id, _) = world.bob.key.rsplit_once('_').unwrap();
    let (_, secret) = genuine.rsplit_once('_').unwrap();
    let flipped = if genuine.ends_with('a') { 'b' } else { 'a' };
    let wrong = [
        format!("{}{flipped}", &genuine[..genuine.len() - 1]),
        format!("{other_id}_{secret}"),
        format!("mrk_nobody_{secret}"),
        "mrk_x".to_owned(),
        "nonsense".to_owned(),
    ];
    for key in wrong {
        let answer = world.get_as(&key, "/api/v1/messages").await;
        answer.expect_problem(401, "invalid_credentials");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    let basic = request("GET", "/api/v1/messages", "", &[("authorization", "Basic YTpi")]);
    call(&world.app, basic).await.expect_problem(401, "unauthenticated");
    let lower = request("GET", "/api/v1/messages", "", &[("authorization", &format!("bearer {genuine}"))]);
    assert_eq!(call(&world.app, lower).await.status, StatusCode::OK);
}

#[tokio::test]
async fn each_operation_needs_its_scope() {
    let world = World::new().await;
    let id = world.receive(&world.alice, mail("x@x.example", "s"), START).await;
    let entry = append(&world, &world.alice, "test", "1").await;
    let app = world.with_metrics();
    let cases = [
        ("GET", "/api/v1/messages".to_owned(), Scope::MessagesRead),
        ("GET", "/api/v1/messages/wait".to_owned(), Scope::MessagesRead),
        ("GET", format!("/api/v1/messages/{id}"), Scope::MessagesRead),
        ("GET", format!("/api/v1/messages/{id}/attachments"), Scope::MessagesRead),
        ("GET", format!("/api/v1/messages/{id}/trace"), Scope::MessagesRead),
        ("GET", format!("/api/v1/messages/{id}/raw"), Scope::MessagesContent),
        ("GET", format!("/api/v1/messages/{id}/text"), Scope::MessagesContent),
        ("GET", format!("/api/v1/messages/{id}/attachments/0"), Scope::MessagesContent),
        ("POST", "/api/v1/send".to_owned(), Scope::SendWrite),
        ("POST", "/api/v1/send/preview".to_owned(), Scope::SendWrite),
        ("GET", format!("/api/v1/sends/{id}"), Scope::SendsRead),
        ("GET", format!("/api/v1/sends/{id}/events"), Scope::SendsRead),
        ("POST", format!("/api/v1/sends/{id}/cancel"), Scope::SendWrite),
        ("POST", format!("/api/v1/sends/{id}/retry"), Scope::SendWrite),
        ("GET", "/metrics".to_owned(), Scope::MetricsRead),
        ("GET", "/api/v1/audit".to_owned(), Scope::AuditRead),
        ("GET", "/api/v1/events".to_owned(), Scope::EventsRead),
        ("GET", "/api/v1/events/stream".to_owned(), Scope::EventsRead),
        ("GET", "/api/v1/webhooks".to_owned(), Scope::HooksRead),
        ("POST", "/api/v1/webhooks".to_owned(), Scope::HooksWrite),
        ("GET", format!("/api/v1/audit/{entry}"), Scope::AuditRead),
        ("GET", "/api/v1/audit/export".to_owned(), Scope::AuditRead),
        ("GET", "/api/v1/audit/verify".to_owned(), Scope::AuditRead),
        ("GET", "/api/v1/suppressions".to_owned(), Scope::SuppressionsRead),
        ("POST", "/api/v1/suppressions".to_owned(), Scope::SuppressionsWrite),
        ("GET", format!("/api/v1/suppressions/{id}"), Scope::SuppressionsRead),
        ("DELETE", format!("/api/v1/suppressions/{id}"), Scope::SuppressionsWrite),
    ];
    for (method, path, needed) in cases {
        let others: Vec<_> = Scope::ALL.into_iter().filter(|scope| !scope.implies(needed)).collect();
        let key = world.key(&others).await;
        let problem = call(&app, request(method, &path, &key, &[])).await.expect_problem(403, "insufficient_scope");
        assert_eq!(problem["details"], json!({"required_scope": needed.as_str()}), "{path}");
    }
    let writer = world.key(&[Scope::MessagesWrite]).await;
    assert_eq!(world.get_as(&writer, "/api/v1/messages").await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_belongs_to_others_looks_like_nothing() {
    let world = World::new().await;
    let received = world.receive(&world.alice, mail("x@x.example", "s"), START).await.to_string();
    let sent = world.sent(&world.alice).await.to_string();
    let entry = append(&world, &world.alice, "test", "1").await;
    let unknown = MessageId::new(START).to_string();
    for path in WITH_ID {
        let owned = match path {
            path if path.contains("sends") => &sent,
            path if path.contains("audit") => &entry,
            _ => &received,
        };
        let mut twins = Vec::new();
        for id in [owned.as_str(), &unknown, "no-id", "%ff"] {
            let mut answer = world.get_as(&world.bob.key, &path.replace("{id}", id)).await;
            let mut problem = answer.expect_problem(404, "not_found");
            answer.headers.remove("x-request-id");
            problem.as_object_mut().unwrap().remove("request_id");
            let text = String::from_utf8(answer.body.to_vec()).unwrap();
            let (before, _) = text.split_once("\"request_id\"").unwrap();
            twins.push((problem, answer.headers, before.to_owned(), answer.body.len()));
        }
        assert!(twins.windows(2).all(|pair| pair[0] == pair[1]), "{path}: {twins:?}");
    }
    let list = world.get_as(&world.bob.key, "/api/v1/messages").await.json();
    assert_eq!(list["items"], json!([]));
    assert_eq!(world.get("/api/v1/messages").await.json()["items"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn who_failed_too_often_waits() {
    let world = World::new().await;
    let (app, guard) = world.guarded();
    let from = async |address: Option<&str>, key: &str| {
        let mut request = request("GET", "/api/v1/messages", key, &[]);
        if let Some(address) = address {
            let address: SocketAddr = format!("{address}:1024").parse().unwrap();
            request.extensions_mut().insert(ConnectInfo(address));
        }
        call(&app, request).await
    };
    let wrong = format!("mrk_nobody_{}", "a".repeat(43));
    for key in [wrong.as_str(), "nonsense"] {
        from(Some("192.0.2.1"), key).await.expect_problem(401, "invalid_credentials");
    }
    for key in [&wrong, &world.alice.key] {
        let answer = from(Some("192.0.2.1"), key).await;
        answer.expect_problem(429, "rate_limited");
        assert_eq!(answer.header("retry-after"), "91");
    }
    from(Some("192.0.2.1"), "").await.expect_problem(401, "unauthenticated");
    assert_eq!(from(Some("192.0.2.2"), &world.alice.key).await.status, StatusCode::OK);
    assert_eq!(from(None, &world.alice.key).await.status, StatusCode::OK);
    assert_eq!(guard.failures(), 2, "neither a lock nor a missing key is a failure");
}

#[tokio::test]
async fn unknown_paths_and_methods_get_error_objects() {
    let world = World::new().await;
    for path in ["/", "/api", "/api/v1", "/api/v1/nothing", "/api/v2/messages", "/metrics", "/api/v1/messages/"] {
        world.get(path).await.expect_problem(404, "not_found");
    }
    for (method, path) in [("DELETE", "/api/v1/messages"), ("PUT", "/api/v1/send"), ("POST", "/health/live")] {
        let answer = call(&world.app, request(method, path, &world.alice.key, &[])).await;
        answer.expect_problem(405, "method_not_allowed");
        assert!(!answer.header("allow").is_empty(), "{method} {path}");
    }
    let index = format!("/api/v1/messages/{}/attachments/x", world.receive(&world.alice, mail("a", "b"), START).await);
    world.get(&index).await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn request_ids_are_echoed_or_made() {
    let world = World::new().await;
    let long = "x".repeat(65);
    let echoed = world.get_with("/api/v1/messages", &[("x-request-id", "from-client-1")]).await;
    assert_eq!(echoed.header("x-request-id"), "from-client-1");
    assert_eq!(echoed.header("cache-control"), "no-store");
    for unfit in ["", "a b", &long] {
        let made = world.get_with("/health/live", &[("x-request-id", unfit)]).await;
        assert_eq!(made.header("x-request-id").len(), 36, "{unfit}");
    }
    let error = world.get_with("/nothing", &[("x-request-id", "r")]).await;
    assert_eq!(error.expect_problem(404, "not_found")["request_id"], "r");
}

#[tokio::test]
async fn failures_of_the_store_keep_their_reasons_private() {
    let world = World::new().await;
    let id = world.receive(&world.alice, mail("x@x.example", "s"), START).await;
    let raw = format!("/api/v1/messages/{id}/raw");
    let cases = [
        (Failure::Lists(StoreErrorKind::Unavailable), "/api/v1/messages", 503, "database_unavailable"),
        (Failure::Lists(StoreErrorKind::Invalid), "/api/v1/messages", 500, "internal_error"),
        (Failure::Bodies(StoreErrorKind::NotFound), &raw, 410, "gone"),
        (Failure::Bodies(StoreErrorKind::Corrupt), &raw, 503, "storage_unavailable"),
        (Failure::Bodies(StoreErrorKind::Unavailable), &raw, 503, "storage_unavailable"),
    ];
    for (failure, path, status, code) in cases {
        let answer = call(&world.failing(failure), request("GET", path, &world.alice.key, &[])).await;
        let problem: Value = answer.expect_problem(status, code);
        assert!(!problem.to_string().contains("secret"), "{problem}");
    }
}

#[tokio::test]
async fn what_is_known_of_a_message_is_told_without_its_content() {
    let world = World::new().await;
    let id = world.receive(&world.alice, mail("x@x.example", "s"), START).await;
    let path = format!("/api/v1/messages/{id}");
    for kind in [StoreErrorKind::Unavailable, StoreErrorKind::Corrupt] {
        let app = world.failing(Failure::Bodies(kind));
        let answer = call(&app, request("GET", &path, &world.alice.key, &[])).await;
        let message: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status.as_u16(), &message["subject"]), (200, &Value::from("s")), "{message}");
        assert_eq!((&message["headers"], &message["attachments"]), (&Value::Null, &Value::Null), "{message}");
    }
    let gone = world.failing(Failure::Bodies(StoreErrorKind::NotFound));
    call(&gone, request("GET", &path, &world.alice.key, &[])).await.expect_problem(410, "gone");
}

#[tokio::test]
async fn heads_have_the_headers_of_gets() {
    let world = World::new().await;
    let id = world.receive(&world.alice, mail("x@x.example", "s"), START).await;
    let path = format!("/api/v1/messages/{id}/raw");
    let mut head = request("GET", &path, &world.alice.key, &[]);
    *head.method_mut() = Method::HEAD;
    let (head, get) = (call(&world.app, head).await, world.get(&path).await);
    assert_eq!(head.header("content-length"), get.body.len().to_string());
    assert!(head.body.is_empty());
    assert_eq!(head.header("etag"), get.header("etag"));
}
