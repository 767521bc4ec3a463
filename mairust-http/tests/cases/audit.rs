//! The audit log, and what the API itself has to answer for.

use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use axum::http::StatusCode;
use mairust_http::Scope;
use mairust_store::audit::{Actor, Target};
use mairust_store::{AuditLog, NewAuditEvent};
use serde_json::{Value, json};

use super::support::{Account, SERVER_KEY, START, World, call, mail, request};

#[tokio::test]
async fn lists_in_pages_and_filters() {
    let world = World::new().await;
    for (number, event_type) in ["user.created", "user.changed", "domain.created", "user.changed"].iter().enumerate() {
        append(&world, &world.alice, event_type, &number.to_string()).await;
    }
    let first = world.get("/api/v1/audit?limit=3").await;
    assert!(first.header("link").contains("rel=\"next\""));
    let first = first.json();
    assert_eq!(numbers(&first), [4, 3, 2]);
    let item = &first["items"][0];
    assert_eq!((&item["event_type"], &item["target"]["id"]), (&json!("user.changed"), &json!("3")));
    assert_eq!((&item["actor"]["type"], &item["actor"]["ip"]), (&json!("operator"), &Value::Null));
    assert_eq!((&item["after"], &item["hash"].as_str().map(str::len)), (&json!({"enabled": true}), &Some(64)));
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = world.get(&format!("/api/v1/audit?limit=3&cursor={cursor}")).await.json();
    assert_eq!((numbers(&second), &second["has_more"]), (vec![1], &json!(false)));
    for (query, expected) in [
        ("type=user.changed", vec![4, 2]),
        ("target=2", vec![3]),
        ("actor=uid%200&type=user.created", vec![1]),
        ("since=2025-11-22T03:04:06Z", vec![4, 3, 2, 1]),
        ("until=2025-11-22T03:04:06Z", vec![]),
    ] {
        assert_eq!(numbers(&world.get(&format!("/api/v1/audit?{query}")).await.json()), expected, "{query}");
    }
    for query in ["limit=0", "limit=201", "since=yesterday", "unknown=1"] {
        world.get(&format!("/api/v1/audit?{query}")).await.expect_problem(400, "invalid_query");
    }
    let other = format!("/api/v1/audit?limit=3&type=user.changed&cursor={cursor}");
    world.get(&other).await.expect_problem(400, "invalid_cursor");
    let by_bob = world.get_as(&world.bob.key, &format!("/api/v1/audit?limit=3&cursor={cursor}")).await;
    by_bob.expect_problem(400, "invalid_cursor");
}

#[tokio::test]
async fn reads_exports_and_verifies() {
    let world = World::new().await;
    let count = 1_003;
    for number in 0..count {
        append(&world, &world.alice, "test", &number.to_string()).await;
    }
    let newest = world.get("/api/v1/audit?limit=1").await.json()["items"][0].clone();
    let single = world.get(&format!("/api/v1/audit/{}", newest["id"].as_str().unwrap())).await.json();
    assert_eq!(single, newest);
    let export = world.get("/api/v1/audit/export").await;
    assert_eq!((export.status, export.header("content-type")), (StatusCode::OK, "application/x-ndjson"));
    let lines: Vec<Value> =
        std::str::from_utf8(&export.body).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), count);
    assert_eq!((&lines[0]["sequence"], lines.last().unwrap()), (&json!(1), &newest));
    let report = world.get("/api/v1/audit/verify").await.json();
    assert_eq!((&report["whole"], &report["entries"], &report["hash"]), (&json!(true), &json!(count), &newest["hash"]));
    assert_eq!(world.get_as(&world.bob.key, "/api/v1/audit/export").await.body, "");
    let report = world.get_as(&world.bob.key, "/api/v1/audit/verify").await.json();
    assert_eq!((&report["whole"], &report["entries"]), (&json!(true), &json!(0)));
}

#[tokio::test]
async fn says_what_was_read_and_who_was_refused() {
    let world = World::new().await;
    let (app, noted) = world.audited();
    let id = world.receive(&world.alice, mail("x@x.example", "s"), START).await;
    let get = async |path: String, key: &str| {
        let mut request = request("GET", &path, key, &[("x-request-id", "r1")]);
        let address: SocketAddr = "192.0.2.1:1024".parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(address));
        call(&app, request).await
    };
    for path in ["raw", "text"] {
        assert_eq!(get(format!("/api/v1/messages/{id}/{path}"), &world.alice.key).await.status, StatusCode::OK);
    }
    // Neither what the list says nor what was not found is content.
    get(format!("/api/v1/messages/{id}"), &world.alice.key).await;
    get(format!("/api/v1/messages/{id}/raw"), &world.bob.key).await;
    get(format!("/api/v1/messages/{id}/raw"), &world.key(&[Scope::MessagesRead]).await).await;
    let (key_id, _) = world.alice.key.strip_prefix("mrk_").unwrap().rsplit_once('_').unwrap();
    let wrong = format!("mrk_{key_id}_{}", "a".repeat(43));
    get("/api/v1/messages".to_owned(), &wrong).await.expect_problem(401, "invalid_credentials");
    get("/api/v1/messages".to_owned(), "nonsense").await.expect_problem(401, "invalid_credentials");
    let viewed = format!("viewed {id} by {key_id} from 192.0.2.1 in r1");
    let refused = format!("refused Some(\"{key_id}\") of {} from 192.0.2.1", world.alice.user.tenant);
    let unknown = "refused None of nobody from 192.0.2.1".to_owned();
    assert_eq!(noted.all(), [viewed.clone(), viewed, refused, unknown]);
}

fn numbers(list: &Value) -> Vec<u64> {
    list["items"].as_array().unwrap().iter().map(|item| item["sequence"].as_u64().unwrap()).collect()
}

pub(crate) async fn append(world: &World, account: &Account, event_type: &str, target: &str) -> String {
    let event = NewAuditEvent {
        at: START,
        event_type: event_type.to_owned(),
        actor: Actor { kind: "operator".to_owned(), id: Some("uid 0".to_owned()), ip: None },
        target: Some(Target { kind: "user".to_owned(), id: target.to_owned() }),
        before: None,
        after: Some(json!({"enabled": true})),
        request_id: None,
    };
    let key = mairust_http::ServerKey::new(SERVER_KEY).audit_key();
    let entries = world.storage.append(account.user.tenant.into(), &key, vec![event]).await.unwrap();
    entries[0].id.to_string()
}
