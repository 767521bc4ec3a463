//! The queue: what there is, and what is done to it.

use axum::http::StatusCode;
use mairust_core::JobId;
use mairust_http::Scope;
use mairust_store::{NewJob, Priority, QueueBackend, QueueFilter};
use serde_json::{Value, json};

use super::support::{START, World, call, request};

/// The world with a message that is queued for `x.example`; the ids of the delivery and of the message.
async fn queued() -> (World, String, String) {
    let world = World::new().await;
    let message = world.sent(&world.alice).await;
    let job = NewJob {
        id: JobId::new(START),
        tenant: world.alice.user.tenant,
        kind: "deliver".to_owned(),
        payload: json!({}),
        not_before: START,
        priority: Priority::Normal,
        destination: Some("x.example".to_owned()),
        message: Some(message),
        held: None,
    };
    let id = job.id.to_string();
    world.storage.enqueue(vec![job]).await.unwrap();
    (world, id, message.to_string())
}

#[tokio::test]
async fn shows_what_there_is() {
    let (world, id, message) = queued().await;
    let overview = world.get("/api/v1/queue").await.json();
    assert_eq!(overview["totals"], json!({"ready": 1, "waiting": 0, "leased": 0, "held": 0, "buried": 0}));
    assert_eq!(overview["paused"], json!({"all": false, "destinations": []}));
    let destinations = world.get("/api/v1/queue/destinations").await.json();
    let of_x = &destinations["items"][0];
    assert_eq!(
        (&of_x["destination"], &of_x["ready"], &of_x["paused"]),
        (&json!("x.example"), &json!(1), &json!(false))
    );
    let items = world.get("/api/v1/queue/items?destination=X.example&state=ready").await.json();
    let item = &items["items"][0];
    assert_eq!((&item["id"], &item["message_id"], &item["state"]), (&json!(id), &json!(message), &json!("ready")));
    assert_eq!((&items["has_more"], &items["next_cursor"]), (&json!(false), &Value::Null));
    assert_eq!(&world.get(&format!("/api/v1/queue/items/{id}")).await.json(), item);
    let attempts = world.get(&format!("/api/v1/queue/items/{id}/attempts")).await.json();
    assert_eq!(attempts["items"][0]["result"], "451 4.3.0 later");
    for none in ["destination=y.example", "state=held", "held_because=operator"] {
        assert_eq!(world.get(&format!("/api/v1/queue/items?{none}")).await.json()["items"], json!([]), "{none}");
    }
    for odd in ["state=odd", "held_because=odd", "message_id=odd", "limit=0", "destination=..", "odd=1"] {
        world.get(&format!("/api/v1/queue/items?{odd}")).await.expect_problem(400, "invalid_query");
    }
    world.get(&format!("/api/v1/queue/items/{message}")).await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn pages_hold_each_delivery_once() {
    let (world, ..) = queued().await;
    for _ in 0..4 {
        let message = Some(world.sent(&world.alice).await);
        let tenant = world.alice.user.tenant;
        let destination = Some("x.example".to_owned());
        let (kind, payload, priority) = ("deliver".to_owned(), json!({}), Priority::Normal);
        let id = JobId::new(START);
        let job = NewJob { id, tenant, kind, payload, not_before: START, priority, destination, message, held: None };
        world.storage.enqueue(vec![job]).await.unwrap();
    }
    let (mut found, mut path) = (Vec::new(), "/api/v1/queue/items?limit=2".to_owned());
    loop {
        let page = world.get(&path).await.json();
        found.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].to_string()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/api/v1/queue/items?limit=2&cursor={cursor}");
    }
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 5);
    world.get(&format!("{path}&state=held")).await.expect_problem(400, "invalid_cursor");
}

#[tokio::test]
async fn holds_releases_and_cancels() {
    let (world, id, message) = queued().await;
    let (app, notes) = world.audited();
    let act = async |action: &str| {
        let path = format!("/api/v1/queue/items/{id}/{action}");
        call(&app, request("POST", &path, &world.alice.key, &[])).await
    };
    assert_eq!(act("release").await.expect_problem(409, "invalid_state")["details"]["state"], "ready");
    let held = act("hold").await.json();
    assert_eq!((&held["state"], &held["held_because"]), (&json!("held"), &json!("operator")));
    act("retry").await.expect_problem(409, "invalid_state");
    let sends = world.get(&format!("/api/v1/sends/{message}")).await.json();
    assert_eq!(sends["recipients"][0]["status"], "held");
    assert_eq!(act("release").await.json()["state"], "ready");
    assert_eq!(act("retry").await.json()["state"], "ready");
    assert_eq!(act("cancel").await.json()["item"], Value::Null);
    act("cancel").await.expect_problem(404, "not_found");
    let sends = world.get(&format!("/api/v1/sends/{message}")).await.json();
    assert_eq!((&sends["status"], &sends["recipients"][1]["status"]), (&json!("cancelled"), &json!("cancelled")));
    let key = world.alice.key.split('_').nth(1).unwrap().to_owned();
    let noted: Vec<_> = notes.all().iter().map(|note| note.split(" by ").next().unwrap().to_owned()).collect();
    assert_eq!(noted, ["held", "released", "retried", "cancelled"].map(|done| format!("{done} {id} (1)")));
    assert!(notes.all().iter().all(|note| note.contains(&key)));
}

#[tokio::test]
async fn senders_retry_and_cancel_what_they_sent() {
    let (world, _, message) = queued().await;
    let (app, notes) = world.audited();
    let act = async |action: &str| {
        let path = format!("/api/v1/sends/{message}/{action}");
        call(&app, request("POST", &path, &world.alice.key, &[])).await
    };
    assert_eq!(act("retry").await.json()["status"], "queued");
    let cancelled = act("cancel").await.json();
    assert_eq!(
        (&cancelled["status"], &cancelled["recipients"][1]["status"]),
        (&json!("cancelled"), &json!("cancelled"))
    );
    for action in ["cancel", "retry"] {
        assert_eq!(act(action).await.expect_problem(409, "invalid_state")["details"]["state"], "cancelled");
    }
    let noted: Vec<_> = notes.all().iter().map(|note| note.split(" by ").next().unwrap().to_owned()).collect();
    assert_eq!(noted, ["retried", "cancelled"].map(|done| format!("{done} message {message} (1)")));
}

#[tokio::test]
async fn what_is_being_delivered_is_left_alone() {
    let (world, id, _) = queued().await;
    let ttl = std::time::Duration::from_secs(60);
    assert_eq!(world.storage.lease(START.plus(ttl), 1, 100 * ttl).await.unwrap().len(), 1);
    for action in ["retry", "hold", "release", "cancel"] {
        let refused = world.post(&format!("/api/v1/queue/items/{id}/{action}"), &json!({})).await;
        assert_eq!(refused.expect_problem(409, "invalid_state")["details"]["state"], "leased", "{action}");
    }
    let batch = json!({"filter": {}, "action": "cancel"});
    assert_eq!(world.post("/api/v1/queue/batch", &batch).await.json(), json!({"changed": 0, "busy": 1}));
}

#[tokio::test]
async fn changes_many_at_once() {
    let (world, id, _) = queued().await;
    let batch = async |filter: Value, action: &str| {
        world.post("/api/v1/queue/batch", &json!({"filter": filter, "action": action})).await
    };
    let done = |changed: u64| json!({"changed": changed, "busy": 0});
    assert_eq!(batch(json!({"destination": "y.example"}), "hold").await.json(), done(0));
    assert_eq!(batch(json!({"ids": [id]}), "hold").await.json(), done(1));
    assert_eq!(batch(json!({"held_because": "operator"}), "release").await.json(), done(1));
    assert_eq!(batch(json!({}), "bounce").await.json(), done(1));
    assert_eq!(world.get(&format!("/api/v1/queue/items/{id}")).await.json()["gives_up"], true);
    let wrong = batch(json!({"ids": ["odd"], "state": "odd"}), "hold").await;
    let paths: Vec<_> = wrong.expect_problem(422, "validation_failed")["details"]["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["path"].clone())
        .collect();
    assert_eq!(paths, ["/filter/ids/0", "/filter/state"]);
    batch(json!({}), "dance").await.expect_problem(422, "validation_failed");
    world.post("/api/v1/queue/batch", &json!({})).await.expect_problem(422, "validation_failed");
}

#[tokio::test]
async fn pauses_and_resumes() {
    let (world, ..) = queued().await;
    let pause = json!({"destination": "X.example"});
    let paused = world.post("/api/v1/queue/pause", &pause).await.json();
    assert_eq!(paused, json!({"paused": {"all": false, "destinations": ["x.example"]}, "released": 0}));
    assert_eq!(world.get("/api/v1/queue/destinations").await.json()["items"][0]["paused"], true);
    assert_eq!(world.post("/api/v1/queue/pause", &json!({})).await.json()["paused"]["all"], true);
    let resumed = world.post("/api/v1/queue/resume", &json!({})).await.json();
    assert_eq!(resumed, json!({"paused": {"all": false, "destinations": []}, "released": 0}));
    world.post("/api/v1/queue/pause", &json!({"destination": ".."})).await.expect_problem(422, "validation_failed");
}

#[tokio::test]
async fn needs_its_scopes_and_keeps_tenants_apart() {
    let (world, id, _) = queued().await;
    let reader = world.key(&[Scope::QueueRead]).await;
    assert_eq!(world.get_as(&reader, "/api/v1/queue/items").await.status, StatusCode::OK);
    let path = format!("/api/v1/queue/items/{id}/hold");
    call(&world.app, request("POST", &path, &reader, &[])).await.expect_problem(403, "insufficient_scope");
    let other = world.key(&[Scope::MessagesRead]).await;
    world.get_as(&other, "/api/v1/queue").await.expect_problem(403, "insufficient_scope");
    for action in ["", "/attempts"] {
        let path = format!("/api/v1/queue/items/{id}{action}");
        world.get_as(&world.bob.key, &path).await.expect_problem(404, "not_found");
    }
    call(&world.app, request("POST", &path, &world.bob.key, &[])).await.expect_problem(404, "not_found");
    let left = world.storage.items(world.alice.user.tenant, &QueueFilter::default(), None, 10).await.unwrap();
    assert_eq!(left.len(), 1);
}
