//! The suppression list.

use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use axum::http::StatusCode;
use mairust_http::Scope;
use serde_json::{Value, json};

use super::support::{Answer, World, call, request};

const AT: &str = "/api/v1/suppressions";

async fn add(world: &World, body: Value) -> Answer {
    world.post(AT, &body).await
}

async fn delete(world: &World, key: &str, id: &str) -> Answer {
    call(&world.app, request("DELETE", &format!("{AT}/{id}"), key, &[])).await
}

#[tokio::test]
async fn addresses_are_added_read_and_removed() {
    let world = World::new().await;
    let given = json!({
        "email": "Bob@x.example", "reason": "complaint", "detail": "a call", "expires_at": "2036-01-01T00:00:00Z",
    });
    let added = add(&world, given).await;
    assert_eq!(added.status, StatusCode::CREATED);
    let entry = added.json();
    let id = entry["id"].as_str().unwrap();
    let shown = json!({
        "id": id, "email": "Bob@x.example", "reason": "complaint", "detail": "a call",
        "created_at": "2025-11-22T03:04:06.123Z", "expires_at": "2036-01-01T00:00:00.000Z",
    });
    assert_eq!(entry, shown);
    assert_eq!(world.get(&format!("{AT}/{id}")).await.json(), shown);
    assert_eq!(world.get(AT).await.json()["items"], json!([shown]));
    add(&world, json!({"email": "bob@X.example"})).await.expect_problem(409, "already_exists");
    let plain = add(&world, json!({"email": "eve@x.example"})).await.json();
    assert_eq!(
        (&plain["reason"], &plain["detail"], &plain["expires_at"]),
        (&json!("manual"), &Value::Null, &Value::Null)
    );
    assert_eq!(delete(&world, &world.alice.key, id).await.status, StatusCode::NO_CONTENT);
    delete(&world, &world.alice.key, id).await.expect_problem(404, "not_found");
    world.get(&format!("{AT}/{id}")).await.expect_problem(404, "not_found");
    assert_eq!(add(&world, json!({"email": "bob@x.example"})).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn pages_hold_each_address_once() {
    let world = World::new().await;
    for number in 0..5 {
        add(&world, json!({"email": format!("r{number}@x.example")})).await;
    }
    let (mut found, mut at) = (Vec::new(), format!("{AT}?limit=2"));
    loop {
        let page = world.get(&at).await.json();
        found.extend(page["items"].as_array().unwrap().iter().map(|entry| entry["id"].clone()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        at = format!("{AT}?limit=2&cursor={cursor}");
    }
    found.dedup();
    assert_eq!(found.len(), 5);
    for odd in ["limit=0", "limit=201", "odd=1"] {
        world.get(&format!("{AT}?{odd}")).await.expect_problem(400, "invalid_query");
    }
    world.get(&format!("{AT}?cursor=odd")).await.expect_problem(400, "invalid_cursor");
}

#[tokio::test]
async fn all_that_is_wrong_is_told() {
    let world = World::new().await;
    let wrong = json!({
        "email": "nobody", "reason": "dislike", "detail": "x".repeat(1_001), "expires_at": "2020-01-01T00:00:00Z",
    });
    let problem = add(&world, wrong).await.expect_problem(422, "validation_failed");
    let paths: Vec<_> = problem["details"]["errors"].as_array().unwrap().iter().map(|error| &error["path"]).collect();
    assert_eq!(paths, ["/email", "/reason", "/detail", "/expires_at"]);
    add(&world, json!({})).await.expect_problem(422, "validation_failed");
    add(&world, json!({"email": "a@x.example", "odd": 1})).await.expect_problem(422, "validation_failed");
    add(&world, json!({"email": "a@x.example", "expires_at": "soon"})).await.expect_problem(422, "validation_failed");
}

#[tokio::test]
async fn who_may_read_may_not_write_and_others_see_nothing() {
    let world = World::new().await;
    let id = add(&world, json!({"email": "bob@x.example"})).await.json()["id"].as_str().unwrap().to_owned();
    let (reader, writer) = (world.key(&[Scope::SuppressionsRead]).await, world.key(&[Scope::SuppressionsWrite]).await);
    assert_eq!(world.get_as(&reader, AT).await.status, StatusCode::OK);
    delete(&world, &reader, &id).await.expect_problem(403, "insufficient_scope");
    assert_eq!(world.get_as(&world.bob.key, AT).await.json()["items"], json!([]));
    world.get_as(&world.bob.key, &format!("{AT}/{id}")).await.expect_problem(404, "not_found");
    delete(&world, &world.bob.key, &id).await.expect_problem(404, "not_found");
    assert_eq!(world.get_as(&writer, &format!("{AT}/{id}")).await.status, StatusCode::OK);
    assert_eq!(delete(&world, &writer, &id).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn changes_are_answered_for() {
    let world = World::new().await;
    let (app, notes) = world.audited();
    let client = ConnectInfo(SocketAddr::from(([192, 0, 2, 7], 4711)));
    let id = add(&world, json!({"email": "bob@x.example"})).await.json()["id"].as_str().unwrap().to_owned();
    let mut removal = request("DELETE", &format!("{AT}/{id}"), &world.alice.key, &[("x-request-id", "req-1")]);
    removal.extensions_mut().insert(client);
    assert_eq!(call(&app, removal).await.status, StatusCode::NO_CONTENT);
    let all = notes.all();
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].starts_with("removed bob@x.example by ") && all[0].contains("from 192.0.2.7 in "), "{all:?}");
}
