//! Waiting for a message.

use std::time::Duration;

use axum::http::StatusCode;

use super::support::{START, World, mail};

#[tokio::test]
async fn a_later_message_ends_the_wait() {
    let world = World::new().await;
    let waiting = world.get("/api/v1/messages/wait?to=alice&subject=code&timeout=60");
    let coming = async {
        // Whether these come before or after the first look makes no difference.
        tokio::task::yield_now().await;
        world.receive(&world.bob, mail("x@x.example", "code of bob"), START).await;
        world.receive(&world.alice, mail("x@x.example", "something else"), START).await;
        tokio::task::yield_now().await;
        world.receive(&world.alice, mail("x@x.example", "Your CODE"), START.plus(Duration::from_secs(1))).await
    };
    let (answer, id) = tokio::join!(waiting, coming);
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["id"], id.to_string());
}

#[tokio::test]
async fn the_newest_that_is_there_is_answered_at_once() {
    let world = World::new().await;
    world.receive(&world.alice, mail("x@x.example", "older"), START).await;
    let newer = world.receive(&world.alice, mail("x@x.example", "newer"), START.plus(Duration::from_secs(1))).await;
    let answer = world.get("/api/v1/messages/wait?since=2025-11-22T03:04:06Z&from=x.example&timeout=0").await;
    assert_eq!(answer.json()["id"], newer.to_string());
}

#[tokio::test(start_paused = true)]
async fn a_wait_without_a_message_ends_empty() {
    let world = World::new().await;
    world.receive(&world.alice, mail("x@x.example", "before the request"), START).await;
    world.clock.advance(Duration::from_secs(1));
    let began = tokio::time::Instant::now();
    let answer = world.get("/api/v1/messages/wait?timeout=45").await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::NO_CONTENT, 0));
    assert_eq!(began.elapsed().as_secs(), 45, "the paused clock jumps from timer to timer");
}
