//! Events: in pages, and as a stream.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::http::StatusCode;
use futures::StreamExt;
use mairust_core::Timestamp;
use mairust_http::{ApiState, ServerKey, router};
use mairust_store::EventLog;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::support::{SERVER_KEY, START, World, request};

fn positions(page: &Value) -> Vec<u64> {
    page["items"].as_array().unwrap().iter().map(|item| item["position"].as_u64().unwrap()).collect()
}

/// A day after everything happened.
fn tomorrow() -> Timestamp {
    START.plus(Duration::from_secs(86_400))
}

#[tokio::test]
async fn pages_go_on_where_the_last_one_ended() {
    let world = World::new().await;
    let none = world.get("/api/v1/events").await.json();
    assert_eq!((positions(&none), &none["next_cursor"]), (vec![], &Value::Null));
    world.happens(&world.alice, "message.sent", 2).await;
    world.happens(&world.alice, "message.bounced", 1).await;
    world.happens(&world.bob, "message.sent", 4).await;
    let answer = world.get("/api/v1/events?limit=2").await;
    let first = answer.json();
    assert_eq!((positions(&first), &first["has_more"]), (vec![1, 2], &json!(true)));
    let item = &first["items"][0];
    assert_eq!((&item["v"], &item["type"], &item["data"]), (&json!(1), &json!("message.sent"), &json!({"a": 1})));
    assert_eq!(item["timestamp"], START.to_rfc3339());
    assert_eq!(item["tenant_id"], world.alice.user.tenant.to_string());
    let cursor = first["next_cursor"].as_str().unwrap();
    assert!(answer.header("link").contains(cursor));
    let answer = world.get(&format!("/api/v1/events?cursor={cursor}")).await;
    let last = answer.json();
    assert_eq!((positions(&last), &last["has_more"], answer.header("link")), (vec![3], &json!(false), ""));
    // What happens later comes with the cursor of the last page.
    let cursor = last["next_cursor"].as_str().unwrap().to_owned();
    assert_eq!(positions(&world.get(&format!("/api/v1/events?cursor={cursor}")).await.json()), [0; 0]);
    world.happens(&world.alice, "message.sent", 1).await;
    assert_eq!(positions(&world.get(&format!("/api/v1/events?cursor={cursor}")).await.json()), [4]);
    let bounced = world.get("/api/v1/events?types=message.bounced,message.held").await.json();
    assert_eq!(positions(&bounced), [3]);
    let other = format!("/api/v1/events?types=message.bounced&cursor={cursor}");
    world.get(&other).await.expect_problem(400, "invalid_cursor");
    for odd in ["types=odd", "types=", "limit=201", "odd=1"] {
        world.get(&format!("/api/v1/events?{odd}")).await.expect_problem(400, "invalid_query");
    }
    world
        .get_as(&world.bob.key, &format!("/api/v1/events?cursor={cursor}"))
        .await
        .expect_problem(400, "invalid_cursor");
}

#[tokio::test]
async fn who_comes_too_late_is_told_so() {
    let world = World::new().await;
    world.happens(&world.alice, "message.sent", 3).await;
    let cursor = world.get("/api/v1/events?limit=1").await.json()["next_cursor"].as_str().unwrap().to_owned();
    world.storage.purge(world.alice.user.tenant, tomorrow(), 2).await.unwrap();
    world.get(&format!("/api/v1/events?cursor={cursor}")).await.expect_problem(410, "gone");
    world.get_with("/api/v1/events/stream", &[("last-event-id", "1")]).await.expect_problem(410, "gone");
    assert_eq!(positions(&world.get("/api/v1/events").await.json()), [3]);
    for odd in ["4", "x", "-1"] {
        let answer = world.get_with("/api/v1/events/stream", &[("last-event-id", odd)]).await;
        answer.expect_problem(400, "invalid_query");
    }
}

/// A stream that was opened: what came of it, piece by piece.
struct Stream(BodyDataStream);

impl Stream {
    async fn open(app: &Router, key: &str, path: &str, last: Option<&str>) -> Self {
        let headers: Vec<_> = last.map(|last| ("last-event-id", last)).into_iter().collect();
        let response = app.clone().oneshot(request("GET", path, key, &headers)).await.unwrap();
        assert_eq!(
            (response.status(), &response.headers()["content-type"]),
            (StatusCode::OK, &"text/event-stream".parse().unwrap())
        );
        let mut stream = Self(Body::into_data_stream(response.into_body()));
        assert_eq!(stream.next().await.as_deref(), Some(": begin\n\n"));
        stream
    }

    async fn next(&mut self) -> Option<String> {
        let next = tokio::time::timeout(Duration::from_secs(60), self.0.next()).await.unwrap();
        next.map(|chunk| String::from_utf8(chunk.unwrap().to_vec()).unwrap())
    }

    /// The positions of the events that come next.
    async fn positions(&mut self) -> Vec<u64> {
        let text = self.next().await.unwrap();
        text.lines().filter_map(|line| line.strip_prefix("id: ")).map(|id| id.parse().unwrap()).collect()
    }
}

#[tokio::test]
async fn a_stream_goes_on_without_gap_or_repeat() {
    let world = World::new().await;
    world.happens(&world.alice, "message.sent", 2).await;
    let key = &world.alice.key;
    let mut stream = Stream::open(&world.app, key, "/api/v1/events/stream", None).await;
    world.happens(&world.bob, "message.sent", 1).await;
    world.happens(&world.alice, "message.bounced", 1).await;
    let text = stream.next().await.unwrap();
    let mut lines = text.lines();
    assert_eq!((lines.next(), lines.next()), (Some("id: 3"), Some("event: message.bounced")));
    let data: Value = serde_json::from_str(lines.next().unwrap().strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!((&data["type"], &data["data"]), (&json!("message.bounced"), &json!({"a": 1})));
    drop(stream);
    world.happens(&world.alice, "message.sent", 2).await;
    let mut again = Stream::open(&world.app, key, "/api/v1/events/stream", Some("3")).await;
    assert_eq!(again.positions().await, [4, 5]);
    let mut all = Stream::open(&world.app, key, "/api/v1/events/stream?types=message.sent", Some("0")).await;
    assert_eq!(all.positions().await, [1, 2, 4, 5]);
    world.happens(&world.alice, "message.bounced", 1).await;
    world.happens(&world.alice, "message.sent", 1).await;
    assert_eq!(all.positions().await, [7]);
    assert_eq!(again.positions().await[0], 6);
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_by_signs_of_life() {
    let world = World::new().await;
    let mut stream = Stream::open(&world.app, &world.alice.key, "/api/v1/events/stream", None).await;
    for _ in 0..3 {
        assert_eq!(stream.next().await.as_deref(), Some(": still here\n\n"));
    }
}

#[tokio::test]
async fn a_key_has_a_few_streams_and_they_end_with_the_server() {
    let world = World::new().await;
    let state =
        ApiState::new(world.storage.clone(), world.submitter.clone(), ServerKey::new(SERVER_KEY), world.clock.clone());
    let (app, streams) = (router(state.clone()), state.streams().clone());
    let mut open = Vec::new();
    for _ in 0..5 {
        open.push(Stream::open(&app, &world.alice.key, "/api/v1/events/stream", None).await);
    }
    let sixth = request("GET", "/api/v1/events/stream", &world.alice.key, &[]);
    super::support::call(&app, sixth).await.expect_problem(429, "rate_limited");
    Stream::open(&app, &world.bob.key, "/api/v1/events/stream", None).await;
    open.pop();
    open.push(Stream::open(&app, &world.alice.key, "/api/v1/events/stream", None).await);
    streams.end();
    for mut stream in open {
        assert_eq!(stream.next().await, None);
    }
    let mut late = Stream::open(&app, &world.alice.key, "/api/v1/events/stream", None).await;
    assert_eq!(late.next().await, None);
}
