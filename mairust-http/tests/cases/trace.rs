//! Timelines of messages.

use std::time::Duration;

use axum::http::StatusCode;
use mairust_core::MessageId;
use mairust_http::trace::{Arrival, HookCall, HostFacts, SessionFacts};
use mairust_store::{Attempt, AttemptOutcome, Deliveries, DeliveryRow, Lifecycle, NewJob, Priority, QueueBackend};
use serde_json::{Value, json};

use super::support::{START, World, commit, empty, mail};

const LATER: Duration = Duration::from_secs(120);

fn kinds(trace: &Value) -> Vec<&str> {
    trace["entries"].as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect()
}

async fn trace(world: &World, id: MessageId) -> Value {
    world.get(&format!("/api/v1/messages/{id}/trace")).await.json()
}

#[tokio::test]
async fn tells_how_a_message_came_in() {
    let world = World::new().await;
    let session = SessionFacts {
        service: "mx".to_owned(),
        protocol: "ESMTP".to_owned(),
        client: Some("192.0.2.7".to_owned()),
        helo: Some("mx.sender.example".to_owned()),
        ..SessionFacts::default()
    };
    let hook = HookCall {
        point: "pre_receive".to_owned(),
        hook: "no-promo".to_owned(),
        outcome: "allow".to_owned(),
        reason: None,
        ms: 3,
        ..HookCall::default()
    };
    let arrival = Arrival { session, hooks: vec![hook], ..Arrival::default() };
    let id = world.arrived(&world.alice, arrival.to_json()).await;
    let shown = trace(&world, id).await;
    let at = "2025-11-22T03:04:06.123Z";
    let entries = &shown["entries"];
    assert_eq!((&shown["direction"], &shown["status"]), (&json!("inbound"), &json!("stored")));
    assert_eq!(kinds(&shown), ["received", "authentication", "scan", "hook", "stored"]);
    assert_eq!(
        entries[0],
        json!({"at": at, "kind": "received", "service": "mx", "protocol": "ESMTP", "client": "192.0.2.7",
               "helo": "mx.sender.example"})
    );
    assert_eq!(entries[1], json!({"at": at, "kind": "authentication", "results": {"spf": {"result": "pass"}}}));
    assert_eq!(entries[2], json!({"at": at, "kind": "scan", "score": 0.5, "verdict": "ham"}));
    assert_eq!(
        entries[3],
        json!({"at": at, "kind": "hook", "point": "pre_receive", "hook": "no-promo", "outcome": "allow", "ms": 3})
    );
    assert_eq!(entries[4]["folder"], "INBOX");
}

#[tokio::test]
async fn leaves_out_what_was_not_recorded() {
    let world = World::new().await;
    let id = world.receive(&world.alice, mail("a@x.example", "old"), START).await;
    assert_eq!(kinds(&trace(&world, id).await), ["authentication", "scan", "stored"]);
    let id = world.arrived(&world.alice, r#"{"v": 99}"#.to_owned()).await;
    assert_eq!(kinds(&trace(&world, id).await), ["authentication", "scan", "stored"]);
}

#[tokio::test]
async fn tells_why_a_message_is_still_here_and_what_became_of_it() {
    let world = World::new().await;
    let (tenant, id) = (world.alice.user.tenant, world.sent(&world.alice).await);
    let job = NewJob {
        id: mairust_core::JobId::new(START),
        tenant,
        kind: "deliver".to_owned(),
        payload: json!({}),
        not_before: START,
        priority: Priority::Normal,
        destination: Some("x.example".to_owned()),
        message: Some(id),
        held: None,
    };
    world.storage.enqueue(vec![job]).await.unwrap();
    let lease = world.storage.lease(START, 1, LATER).await.unwrap().remove(0);
    world.storage.retry(&lease, START.plus(LATER), "451 4.3.0 later").await.unwrap();
    let shown = trace(&world, id).await;
    assert_eq!(kinds(&shown), ["authentication", "scan", "stored", "queued", "attempt", "next_attempt"]);
    assert_eq!(
        shown["entries"][4],
        json!({"at": "2025-11-22T03:04:06.123Z", "kind": "attempt", "recipient": "one@x.example",
               "outcome": "deferred", "host": "mx.x.example", "result": "451 4.3.0 later"})
    );
    assert_eq!(
        shown["entries"][5],
        json!({"at": "2025-11-22T03:06:06.123Z", "kind": "next_attempt", "destination": "x.example",
               "recipients": ["one@x.example", "two@x.example"], "state": "waiting", "attempts": 1,
               "reason": "451 4.3.0 later"})
    );

    let of_the_sender = world.get(&format!("/api/v1/sends/{id}/events")).await.json();
    assert_eq!(of_the_sender, shown);
    let received = world.receive(&world.alice, mail("a@x.example", "s"), START).await;
    world.get(&format!("/api/v1/sends/{received}/events")).await.expect_problem(404, "not_found");

    let rows = world.storage.recipients(tenant, id).await.unwrap();
    let notice = MessageId::new(START);
    let facts = HostFacts { name: Some("mx.x.example".to_owned()), ms: 7, ..HostFacts::default() };
    let attempt = |row: &DeliveryRow, outcome, notice| Attempt {
        recipient: row.id,
        at: START.plus(LATER),
        outcome,
        host: None,
        result: "done".to_owned(),
        notice,
        facts: Some(facts.to_json()),
    };
    let attempts = vec![
        attempt(&rows[0], AttemptOutcome::Failed, Some(notice)),
        attempt(&rows[1], AttemptOutcome::Delivered, None),
    ];
    commit(&world.storage, mairust_store::Acceptance { attempts, ..empty(tenant) }).await;
    assert!(Lifecycle::delete(&world.storage, tenant, id, START.plus(2 * LATER)).await.unwrap());
    let shown = trace(&world, id).await;
    let (entries, at) = (shown["entries"].as_array().unwrap(), "2025-11-22T03:06:06.123Z");
    assert_eq!(kinds(&shown)[5..], ["attempt", "attempt", "notice", "settled", "deleted"]);
    assert_eq!(entries[5]["facts"], json!({"name": "mx.x.example", "reused": false, "ms": 7}));
    assert_eq!(
        entries[7],
        json!({"at": at, "kind": "notice", "message_id": notice.to_string(),
               "about": [{"recipient": "one@x.example", "what": "failure"}]})
    );
    assert_eq!(entries[8], json!({"at": at, "kind": "settled", "status": "failed"}));
    assert_eq!(entries[9], json!({"at": "2025-11-22T03:08:06.123Z", "kind": "deleted"}));
}

#[tokio::test]
async fn says_when_nothing_is_queued_for_somebody_who_waits() {
    let world = World::new().await;
    let shown = trace(&world, world.sent(&world.alice).await).await;
    let last = shown["entries"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["kind"], &last["state"]), (&json!("next_attempt"), &json!("missing")));
    assert_eq!(last["reason"], "451 4.3.0 later");
}

#[tokio::test]
async fn messages_link_to_their_timelines() {
    let world = World::new().await;
    let id = world.receive(&world.alice, mail("a@x.example", "x"), START).await;
    let message = world.get(&format!("/api/v1/messages/{id}")).await.json();
    let at = message["links"]["trace"].as_str().unwrap();
    assert_eq!(world.get(at).await.status, StatusCode::OK);
    world.get("/api/v1/messages/0/trace").await.expect_problem(404, "not_found");
}
