//! Deleting, restoring and archiving messages.

use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use axum::http::StatusCode;
use mairust_http::Scope;
use mairust_store::{Directory, Lifecycle, MessageStore, TenantChange};
use serde_json::{Value, json};

use super::support::{Answer, START, World, call, mail, request};

#[tokio::test]
async fn what_is_deleted_is_hidden_until_it_is_restored() {
    let world = World::new().await;
    let id = world.receive(&world.alice, mail("a@x.example", "gone"), START).await.to_string();
    let other = world.receive(&world.alice, mail("a@x.example", "there"), START).await.to_string();
    let at = format!("/api/v1/messages/{id}");
    for _ in 0..2 {
        let answer = send(&world, "DELETE", &at).await;
        assert_eq!((answer.status, answer.body.len()), (StatusCode::NO_CONTENT, 0));
    }
    for path in ["", "/raw", "/text", "/attachments", "/attachments/0"] {
        world.get(&format!("{at}{path}")).await.expect_problem(404, "not_found");
    }
    send(&world, "POST", &format!("{at}/archive")).await.expect_problem(404, "not_found");
    assert_eq!(ids(&world.get("/api/v1/messages").await.json()), [other.as_str()]);
    let deleted = world.get("/api/v1/messages?deleted=true").await.json();
    assert_eq!(ids(&deleted), [id.as_str()]);
    assert_eq!(deleted["items"][0]["deleted_at"], json!("2025-11-22T03:04:06.123Z"));
    assert_eq!(ids(&world.get("/api/v1/messages?deleted=false").await.json()), [other.as_str()]);
    world.get("/api/v1/messages?deleted=perhaps").await.expect_problem(400, "invalid_query");
    for _ in 0..2 {
        let restored = send(&world, "POST", &format!("{at}/restore")).await;
        let restored = (restored.status, restored.json());
        assert_eq!(
            (restored.0, &restored.1["id"], &restored.1["deleted_at"]),
            (StatusCode::OK, &json!(id), &Value::Null)
        );
    }
    assert_eq!(world.get(&at).await.status, StatusCode::OK);
    assert!(ids(&world.get("/api/v1/messages?deleted=true").await.json()).is_empty());
}

#[tokio::test]
async fn a_cursor_belongs_to_one_of_both_lists() {
    let world = World::new().await;
    for _ in 0..3 {
        world.receive(&world.alice, mail("a@x.example", "x"), START).await;
    }
    let page = world.get("/api/v1/messages?limit=1").await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    let other = format!("/api/v1/messages?limit=1&deleted=true&cursor={cursor}");
    world.get(&other).await.expect_problem(400, "invalid_cursor");
    let same = format!("/api/v1/messages?limit=1&deleted=false&cursor={cursor}");
    assert_eq!(world.get(&same).await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_is_removed_for_good_is_gone_and_answered_for() {
    let world = World::new().await;
    let (app, notes) = world.audited();
    let mut removed = Vec::new();
    for first in [false, true] {
        let id = world.receive(&world.alice, mail("a@x.example", "gone"), START).await;
        let path = format!("/api/v1/messages/{id}");
        if first {
            assert_eq!(
                call(&app, request("DELETE", &path, &world.alice.key, &[])).await.status,
                StatusCode::NO_CONTENT
            );
        }
        let mut purge =
            request("DELETE", &format!("{path}?permanent=true"), &world.alice.key, &[("x-request-id", "r1")]);
        purge.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 7], 1))));
        assert_eq!(call(&app, purge).await.status, StatusCode::NO_CONTENT);
        let again = call(&app, request("DELETE", &format!("{path}?permanent=true"), &world.alice.key, &[])).await;
        again.expect_problem(404, "not_found");
        send(&world, "DELETE", &path).await.expect_problem(404, "not_found");
        send(&world, "POST", &format!("{path}/restore")).await.expect_problem(404, "not_found");
        let key = world.alice.key.split('_').nth(1).unwrap();
        removed.push(format!("purged {id} by {key} from 192.0.2.7 in r1"));
    }
    assert_eq!(notes.all(), removed);
    assert!(ids(&world.get("/api/v1/messages?deleted=true").await.json()).is_empty());
}

#[tokio::test]
async fn what_is_on_hold_or_on_its_way_stays() {
    let world = World::new().await;
    let (tenant, lifecycle) = (world.alice.user.tenant, world.storage.as_ref() as &dyn Lifecycle);
    let held = world.receive(&world.alice, mail("a@x.example", "held"), START).await;
    lifecycle.set_legal_hold(tenant, held, true).await.unwrap();
    let sent = world.sent(&world.alice).await;
    for (id, state) in [(held, "legal_hold"), (sent, "in_use")] {
        let at = format!("/api/v1/messages/{id}");
        let refused = send(&world, "DELETE", &format!("{at}?permanent=true")).await;
        assert_eq!(refused.expect_problem(409, "invalid_state")["details"]["state"], state);
        assert_eq!(world.get(&at).await.json()["legal_hold"], json!(state == "legal_hold"));
        assert_eq!(send(&world, "DELETE", &at).await.status, StatusCode::NO_CONTENT);
        world.get(&at).await.expect_problem(404, "not_found");
    }
    // What became of it is told all the same.
    let submission = world.get(&format!("/api/v1/sends/{sent}")).await.json();
    assert_eq!((&submission["status"], submission["recipients"].as_array().map(Vec::len)), (&json!("queued"), Some(2)));
    lifecycle.set_legal_hold(tenant, held, false).await.unwrap();
    let mut hold = TenantChange::default();
    hold.legal_hold = Some(true);
    world.storage.change_tenant(tenant, &hold).await.unwrap();
    let at = format!("/api/v1/messages/{held}?permanent=true");
    send(&world, "DELETE", &at).await.expect_problem(409, "invalid_state");
}

#[tokio::test]
async fn archived_messages_are_read_as_before() {
    let world = World::new().await;
    let id = world.receive(&world.alice, mail("a@x.example", "old"), START).await;
    let at = format!("/api/v1/messages/{id}");
    let before = world.get(&format!("{at}/raw")).await.body;
    for _ in 0..2 {
        let archived = send(&world, "POST", &format!("{at}/archive")).await;
        assert_eq!((archived.status, &archived.json()["archived"]), (StatusCode::OK, &json!(true)));
    }
    assert_eq!(world.get(&format!("{at}/raw")).await.body, before);
    let row = world.storage.get(world.alice.user.tenant, id).await.unwrap().unwrap();
    assert!(row.is_archived());
}

#[tokio::test]
async fn it_takes_the_right_key() {
    let world = World::new().await;
    let id = world.receive(&world.alice, mail("a@x.example", "x"), START).await;
    let at = format!("/api/v1/messages/{id}");
    let reader = world.key(&[Scope::MessagesRead, Scope::MessagesContent]).await;
    let writer = world.key(&[Scope::MessagesWrite]).await;
    let requests = [
        ("DELETE", at.clone()),
        ("DELETE", format!("{at}?permanent=true")),
        ("POST", format!("{at}/restore")),
        ("POST", format!("{at}/archive")),
    ];
    for (method, path) in &requests {
        let refused = call(&world.app, request(method, path, &reader, &[])).await;
        refused.expect_problem(403, "insufficient_scope");
        call(&world.app, request(method, path, &world.bob.key, &[])).await.expect_problem(404, "not_found");
        call(&world.app, request(method, path, "", &[])).await.expect_problem(401, "unauthenticated");
    }
    let odd = send(&world, "DELETE", &format!("{at}?forever=true")).await;
    odd.expect_problem(400, "invalid_query");
    send(&world, "DELETE", "/api/v1/messages/nothing").await.expect_problem(404, "not_found");
    assert!(ids(&world.get_as(&world.bob.key, "/api/v1/messages?deleted=true").await.json()).is_empty());
    assert_eq!(call(&world.app, request("DELETE", &at, &writer, &[])).await.status, StatusCode::NO_CONTENT);
}

async fn send(world: &World, method: &str, path: &str) -> Answer {
    call(&world.app, request(method, path, &world.alice.key, &[])).await
}

fn ids(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().filter_map(|item| item["id"].as_str()).collect()
}
