//! Search.

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use mairust_http::Scope;
use mairust_store::{StorageBackend, StoreErrorKind};
use serde_json::Value;

use super::support::{Answer, Failure, START, World, call, mail, request};

const TANAKA: &str = "from%3Atanaka";

#[tokio::test]
async fn finds_what_the_list_shows() {
    let world = World::new().await;
    let id = world.receive(&world.alice, mail("Tanaka <tanaka@x.example>", "Report"), START).await;
    world.receive(&world.alice, mail("sato@x.example", "Lunch"), START).await;
    assert_eq!(ids(&search(&world, TANAKA).await), [""; 0], "nothing is found before it is indexed");
    world.index().await;
    let mut answer = search(&world, TANAKA).await.json();
    assert_eq!((&answer["backend"], &answer["degraded"]), (&Value::from("memory"), &Value::from(false)));
    let listed = world.get("/api/v1/messages?from=tanaka").await.json();
    for field in ["backend", "degraded"] {
        answer.as_object_mut().unwrap().remove(field);
    }
    assert_eq!(answer, listed);
    assert_eq!(ids(&search(&world, "-from%3Atanaka+lunch+OR+report").await).len(), 1);
    let mailbox = world.alice.user.mailbox;
    assert_eq!(ids(&search(&world, &format!("{TANAKA}&mailbox_id={mailbox}")).await), [id.to_string()]);
    let other = world.bob.user.mailbox;
    assert_eq!(ids(&search(&world, &format!("{TANAKA}&mailbox_id={other}")).await), [""; 0]);
    let bob = call(&world.app, request("GET", &path(TANAKA), &world.bob.key, &[])).await;
    assert_eq!(ids(&bob), [""; 0]);
}

#[tokio::test]
async fn pages_of_results_show_each_message_once() {
    let world = World::new().await;
    let mut newest_first = Vec::new();
    for index in 0..7_u64 {
        let at = START.plus(Duration::from_secs(index));
        newest_first.insert(0, world.receive(&world.alice, mail("x@x.example", "walk"), at).await.to_string());
    }
    world.index().await;
    let (mut seen, mut query) = (Vec::new(), "walk&limit=3".to_owned());
    loop {
        let answer = search(&world, &query).await;
        seen.extend(ids(&answer));
        let page = answer.json();
        assert_eq!(page["has_more"], page["next_cursor"].is_string());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("walk&limit=3&cursor={cursor}");
        assert_eq!(answer.header("link"), format!("<{}>; rel=\"next\"", path(&query)));
        // The same words, written otherwise, are the same query; other words are not.
        assert_eq!(search(&world, &format!("%22walk%22&cursor={cursor}")).await.status, StatusCode::OK);
        search(&world, &format!("walks&cursor={cursor}")).await.expect_problem(400, "invalid_cursor");
        let foreign = call(&world.app, request("GET", &path(&query), &world.bob.key, &[])).await;
        foreign.expect_problem(400, "invalid_cursor");
    }
    assert_eq!(seen, newest_first);
}

#[tokio::test]
async fn faults_of_the_grammar_say_where() {
    let world = World::new().await;
    for (query, position) in
        [("", 0), ("%E4%BC%9A+%28a", 2), ("a+header%3AX%3Db", 2), ("is%3Aunread", 0), ("a+%22b", 2)]
    {
        let problem = search(&world, query).await.expect_problem(400, "invalid_query");
        assert_eq!(problem["details"]["position"], position, "{query}: {problem}");
        assert!(problem["message"].as_str().is_some_and(|message| message.starts_with("q: ")));
    }
    for query in ["a&limit=0", "a&limit=201", "a&mailbox_id=x", "a&sort=x", "a&q=b"] {
        search(&world, query).await.expect_problem(400, "invalid_query");
    }
    call(&world.app, request("GET", "/api/v1/search", &world.alice.key, &[]))
        .await
        .expect_problem(400, "invalid_query");
}

#[tokio::test]
async fn needs_a_key_that_may_read() {
    let world = World::new().await;
    let key = world.key(&[Scope::MessagesContent, Scope::SendsRead]).await;
    let answer = call(&world.app, request("GET", &path("a"), &key, &[])).await;
    assert_eq!(answer.expect_problem(403, "insufficient_scope")["details"]["required_scope"], "messages:read");
    call(&world.app, request("GET", &path("a"), "", &[])).await.expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn an_index_that_is_down_is_said_so() {
    let world = World::new().await;
    world.receive(&world.alice, mail("Tanaka <tanaka@x.example>", "Report"), START).await;
    for kind in [StoreErrorKind::Unavailable, StoreErrorKind::Corrupt] {
        let app = world.failing(Failure::Index(kind));
        let problem = ask(&app, &world, TANAKA).await.expect_problem(503, "search_unavailable");
        assert!(!problem.to_string().contains("secret"));
    }
    let list = call(
        &world.failing(Failure::Index(StoreErrorKind::Unavailable)),
        request("GET", "/api/v1/messages", &world.alice.key, &[]),
    )
    .await;
    assert_eq!(list.status, StatusCode::OK);
}

#[tokio::test]
async fn rows_stand_in_for_the_index() {
    let world = World::new().await;
    let id = world.receive(&world.alice, mail("Tanaka <tanaka@x.example>", "会議 report"), START).await;
    world.receive(&world.alice, mail("sato@x.example", "Lunch"), START).await;
    let app = world.falling_back();
    for query in [TANAKA, "%E4%BC%9A%E8%AD%B0", "body%3Atext+-lunch"] {
        let answer = ask(&app, &world, query).await;
        assert_eq!(ids(&answer), [id.to_string()], "{query}");
        let answer = answer.json();
        assert_eq!((&answer["backend"], &answer["degraded"]), (&Value::from("rows"), &Value::from(true)));
    }
    let first = ask(&app, &world, "text&limit=1").await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    assert_eq!(ids(&ask(&app, &world, &format!("text&limit=1&cursor={cursor}")).await).len(), 1);
    for query in ["filename%3Aa", "has%3Ahtml"] {
        ask(&app, &world, query).await.expect_problem(503, "search_unavailable");
    }
}

#[tokio::test]
async fn an_index_that_is_being_made_again_says_so() {
    let world = World::new().await;
    world.receive(&world.alice, mail("tanaka@x.example", "Report"), START).await;
    world.index().await;
    world.storage.search_outbox().rebuild().await.unwrap();
    assert_eq!(search(&world, TANAKA).await.json()["degraded"], true);
    while world.storage.search_outbox().refill(10).await.unwrap() > 0 {}
    assert_eq!(search(&world, TANAKA).await.json()["degraded"], false);
}

fn path(query: &str) -> String {
    format!("/api/v1/search?q={query}")
}

async fn search(world: &World, query: &str) -> Answer {
    world.get(&path(query)).await
}

async fn ask(app: &Router, world: &World, query: &str) -> Answer {
    call(app, request("GET", &path(query), &world.alice.key, &[])).await
}

fn ids(answer: &Answer) -> Vec<String> {
    let json = answer.json();
    let items = json["items"].as_array().unwrap_or_else(|| panic!("{json}"));
    items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}
