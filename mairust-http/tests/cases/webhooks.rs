//! Webhooks: made, changed, tested, removed, and what became of deliveries.

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use mairust_core::WebhookDeliveryId;
use mairust_http::Scope;
use mairust_store::{QueueBackend, WebhookAttempt, WebhookDelivery, WebhookDeliveryState, Webhooks};
use serde_json::{Value, json};

use super::support::{Answer, START, World, call, request};

const URL: &str = "https://hooks.example/in";

async fn send(app: &Router, key: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
    let mut request = request(method, path, key, &[]);
    if let Some(body) = body {
        request.headers_mut().insert("content-type", "application/json".parse().unwrap());
        *request.body_mut() = Body::from(body.to_string());
    }
    call(app, request).await
}

async fn make(app: &Router, key: &str, types: Value) -> Value {
    let answer = send(app, key, "POST", "/api/v1/webhooks", Some(json!({"url": URL, "types": types}))).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.body);
    let made = answer.json();
    assert_eq!(answer.header("location"), format!("/api/v1/webhooks/{}", made["id"].as_str().unwrap()));
    made
}

fn path(webhook: &Value) -> String {
    format!("/api/v1/webhooks/{}", webhook["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_key_is_shown_once() {
    let world = World::new().await;
    let (app, notes) = world.with_webhooks(false);
    let key = &world.alice.key;
    let mut made = make(&app, key, json!(["message.sent"])).await;
    let secret = made.as_object_mut().unwrap().remove("secret").unwrap();
    assert!(secret.as_str().unwrap().starts_with("whsec_"));
    assert_eq!((&made["url"], &made["types"], &made["enabled"]), (&json!(URL), &json!(["message.sent"]), &json!(true)));
    assert_eq!(send(&app, key, "GET", &path(&made), None).await.json(), made);
    let list = send(&app, key, "GET", "/api/v1/webhooks", None).await.json();
    assert_eq!(list, json!({"items": [made]}));

    let rotate = format!("{}/rotate-secret", path(&made));
    let second = send(&app, key, "POST", &rotate, Some(json!({"grace": "1h"}))).await.json();
    assert!(second["secret"] != secret && second["previous_until"].is_string());
    send(&app, key, "POST", &rotate, None).await.expect_problem(409, "invalid_state");
    for odd in ["soon", "31d", "-1h"] {
        let answer = send(&app, key, "POST", &rotate, Some(json!({"grace": odd}))).await;
        answer.expect_problem(422, "validation_failed");
    }
    let third = send(&app, key, "POST", &rotate, Some(json!({"grace": "0s"}))).await.json();
    assert!(third["secret"] != second["secret"] && third["previous_until"].is_null());
    let notes = notes.all();
    assert_eq!(notes.iter().filter(|note| note.contains("secret_rotated webhook")).count(), 2, "{notes:?}");
    assert!(!notes.iter().any(|note| note.contains("whsec_")));
}

#[tokio::test]
async fn what_is_wrong_is_said_at_once() {
    let world = World::new().await;
    let (app, _) = world.with_webhooks(false);
    let key = &world.alice.key;
    let body =
        json!({"url": "ftp://x", "types": ["message.sent", "odd", "message.sent"], "description": "x".repeat(501)});
    let made = make(&app, key, json!([])).await;
    for (method, path) in [("POST", "/api/v1/webhooks".to_owned()), ("PATCH", path(&made))] {
        let problem = send(&app, key, method, &path, Some(body.clone())).await.expect_problem(422, "validation_failed");
        let paths: Vec<_> =
            problem["details"]["errors"].as_array().unwrap().iter().map(|error| &error["path"]).collect();
        assert_eq!(paths, ["/url", "/description", "/types/1", "/types/2"]);
    }
    for private in ["http://hooks.example/", "https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/latest"] {
        let body = json!({"url": private});
        let answer = send(&app, key, "POST", "/api/v1/webhooks", Some(body.clone())).await;
        answer.expect_problem(422, "validation_failed");
        let (allowing, _) = world.with_webhooks(true);
        let answer = send(&allowing, key, "POST", "/api/v1/webhooks", Some(body)).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{private}");
    }
    send(&app, key, "POST", "/api/v1/webhooks", Some(json!({"url": URL, "odd": 1})))
        .await
        .expect_problem(422, "validation_failed");
    let keyless = send(&world.app, key, "POST", "/api/v1/webhooks", Some(json!({"url": URL}))).await;
    keyless.expect_problem(409, "invalid_state");
}

#[tokio::test]
async fn changes_are_made_and_told() {
    let world = World::new().await;
    let (app, notes) = world.with_webhooks(false);
    let key = &world.alice.key;
    let made = make(&app, key, json!([])).await;
    let body = json!({"description": "x", "types": ["message.bounced"]});
    let changed = send(&app, key, "PATCH", &path(&made), Some(body)).await.json();
    assert_eq!((&changed["url"], &changed["description"]), (&json!(URL), &json!("x")));
    let disabled = send(&app, key, "POST", &format!("{}/disable", path(&made)), None).await.json();
    assert_eq!(
        (&disabled["enabled"], &disabled["disabled_because"]),
        (&json!(false), &json!("disabled by an operator"))
    );
    let enabled = send(&app, key, "POST", &format!("{}/enable", path(&made)), None).await.json();
    assert_eq!((&enabled["enabled"], &enabled["disabled_because"]), (&json!(true), &Value::Null));
    assert_eq!(send(&app, key, "DELETE", &path(&made), None).await.status, StatusCode::NO_CONTENT);
    send(&app, key, "GET", &path(&made), None).await.expect_problem(404, "not_found");
    let actions: Vec<_> = notes.all().iter().map(|note| note.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(actions, ["created", "changed", "disabled", "enabled", "removed"]);
}

#[tokio::test]
async fn a_test_is_a_delivery_that_can_be_looked_at_and_begun_again() {
    let world = World::new().await;
    let (app, notes) = world.with_webhooks(false);
    let (key, webhooks) = (&world.alice.key, world.storage.clone());
    let made = make(&app, key, json!(["message.sent"])).await;
    let answer = send(&app, key, "POST", &format!("{}/test", path(&made)), None).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let location = answer.header("location").to_owned();
    let found = send(&app, key, "GET", &location, None).await.json();
    assert_eq!((&found["state"], &found["event_type"]), (&json!("pending"), &json!("webhook.test")));
    assert_eq!((&found["event"]["type"], &found["event"]["data"]["webhook_id"]), (&json!("webhook.test"), &made["id"]));
    assert_eq!(found["request_id"], format!("inv_{}", found["id"].as_str().unwrap()));
    let replay = format!("{location}/replay");
    send(&app, key, "POST", &replay, None).await.expect_problem(409, "invalid_state");

    let id: WebhookDeliveryId = found["id"].as_str().unwrap().parse().unwrap();
    let mut delivery = webhooks.delivery(world.alice.user.tenant, id).await.unwrap().unwrap();
    let (error, response) = (Some("it answered 500".to_owned()), Some("no".to_owned()));
    delivery.add_attempt(WebhookAttempt { at: START, status: Some(500), took_ms: 7, error, response });
    (delivery.state, delivery.next_attempt) = (WebhookDeliveryState::Failed, None);
    assert!(webhooks.record(&delivery).await.unwrap());
    let failed = send(&app, key, "GET", &location, None).await.json();
    assert_eq!((&failed["last_status"], &failed["last_error"]), (&json!(500), &json!("it answered 500")));
    let attempt =
        json!({"at": START.to_rfc3339(), "status": 500, "ms": 7, "error": "it answered 500", "response": "no"});
    assert_eq!(failed["history"], json!([attempt]));
    let again = send(&app, key, "POST", &replay, None).await;
    assert_eq!((again.status, &again.json()["state"]), (StatusCode::ACCEPTED, &json!("pending")));
    assert!(notes.all().iter().any(|note| note.starts_with("replayed webhook")));
    assert_eq!(webhooks.stats(START).await.unwrap()["webhook"].ready, 2);
    // Deliveries to webhooks are no deliveries of mail.
    assert_eq!(send(&app, key, "GET", "/api/v1/queue/items", None).await.json()["items"], json!([]));
    assert_eq!(send(&app, key, "GET", "/api/v1/queue/destinations", None).await.json()["items"], json!([]));
    send(&app, key, "POST", &format!("{}/disable", path(&made)), None).await;
    send(&app, key, "POST", &replay, None).await.expect_problem(409, "invalid_state");
}

#[tokio::test]
async fn deliveries_come_in_pages() {
    let world = World::new().await;
    let (app, _) = world.with_webhooks(false);
    let key = &world.alice.key;
    let made = make(&app, key, json!([])).await;
    for _ in 0..3 {
        send(&app, key, "POST", &format!("{}/test", path(&made)), None).await;
    }
    let list = format!("{}/deliveries", path(&made));
    let first = send(&app, key, "GET", &format!("{list}?limit=2&state=pending"), None).await;
    let cursor = first.json()["next_cursor"].as_str().unwrap().to_owned();
    assert!(first.header("link").contains(&cursor));
    let rest = send(&app, key, "GET", &format!("{list}?state=pending&cursor={cursor}"), None).await.json();
    assert_eq!((first.json()["items"].as_array().unwrap().len(), rest["items"].as_array().unwrap().len()), (2, 1));
    assert_eq!((&rest["has_more"], &rest["next_cursor"]), (&json!(false), &Value::Null));
    send(&app, key, "GET", &format!("{list}?cursor={cursor}"), None).await.expect_problem(400, "invalid_cursor");
    send(&app, key, "GET", &format!("{list}?state=odd"), None).await.expect_problem(400, "invalid_query");
    let other = make(&app, key, json!([])).await;
    let theirs = format!("{}/deliveries?state=pending&cursor={cursor}", path(&other));
    send(&app, key, "GET", &theirs, None).await.expect_problem(400, "invalid_cursor");
}

#[tokio::test]
async fn webhooks_of_others_look_like_nothing() {
    let world = World::new().await;
    let (app, _) = world.with_webhooks(false);
    let made = make(&app, &world.alice.key, json!([])).await;
    let other = make(&app, &world.alice.key, json!([])).await;
    let test = send(&app, &world.alice.key, "POST", &format!("{}/test", path(&made)), None).await;
    let delivery = test.header("location").to_owned();
    let (at, id) = (path(&made), delivery.rsplit('/').next().unwrap().to_owned());
    let bob = &world.bob.key;
    for (method, path) in [
        ("GET", at.clone()),
        ("PATCH", at.clone()),
        ("DELETE", at.clone()),
        ("POST", format!("{at}/enable")),
        ("POST", format!("{at}/disable")),
        ("POST", format!("{at}/rotate-secret")),
        ("POST", format!("{at}/test")),
        ("GET", format!("{at}/deliveries")),
        ("GET", delivery.clone()),
        ("POST", format!("{delivery}/replay")),
    ] {
        send(&app, bob, method, &path, None).await.expect_problem(404, "not_found");
        let nothing = path.replace(made["id"].as_str().unwrap(), "no-id");
        send(&app, bob, method, &nothing, None).await.expect_problem(404, "not_found");
        let (read, write) = (world.key(&[Scope::HooksRead]).await, world.key(&[Scope::EventsRead]).await);
        let refused = if method == "GET" { write } else { read };
        send(&app, &refused, method, &path, None).await.expect_problem(403, "insufficient_scope");
    }
    assert_eq!(send(&app, bob, "GET", "/api/v1/webhooks", None).await.json()["items"], json!([]));
    // A delivery of another webhook of the same tenant is none of this one.
    let elsewhere = format!("{}/deliveries/{id}", path(&other));
    send(&app, &world.alice.key, "GET", &elsewhere, None).await.expect_problem(404, "not_found");
    let delivery: WebhookDelivery =
        world.storage.delivery(world.alice.user.tenant, id.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(delivery.state, WebhookDeliveryState::Pending);
}
