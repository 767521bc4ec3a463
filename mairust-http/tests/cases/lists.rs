//! The list of messages, one message, and what became of sent ones.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;

use super::support::{START, World, mail};

#[tokio::test]
async fn a_message_is_shown_as_documented() {
    let world = World::new().await;
    let raw = "From: =?utf-8?B?5L2Q6Jek?= <a@sender.example>\r\nTo: alice@a.example\r\nCc: C <c@c.example>\r\n\
        Subject: Hello\r\nMessage-ID: <x@sender.example>\r\nDate: Sat, 22 Nov 2025 03:04:05 +0000\r\n\r\nThe text\r\n";
    let id = world.receive(&world.alice, raw, START).await.to_string();
    let list = world.get("/api/v1/messages").await.json();
    let expected = json!({
        "id": id, "mailbox_id": world.alice.user.mailbox.to_string(), "address": "alice@a.example",
        "folder": "INBOX", "direction": "inbound", "status": "stored", "subject": "Hello",
        "from": [{"name": "佐藤", "address": "a@sender.example"}],
        "to": [{"name": null, "address": "alice@a.example"}],
        "cc": [{"name": "C", "address": "c@c.example"}],
        "date": "2025-11-22T03:04:05.000Z", "received_at": "2025-11-22T03:04:06.123Z",
        "size": raw.len() + "Return-Path: <s@sender.example>\r\n".len(),
        "message_id": "<x@sender.example>", "thread_id": id, "preview": "The text",
        "has_attachments": false, "flags": [], "tags": [], "spam": {"score": 0.5, "verdict": "ham"},
        "deleted_at": null, "legal_hold": false, "archived": false,
    });
    assert_eq!(list, json!({"items": [expected], "next_cursor": null, "prev_cursor": null, "has_more": false}));

    let mut detail = world.get(&format!("/api/v1/messages/{id}")).await.json();
    let fields = detail.as_object_mut().unwrap();
    let headers = fields.remove("headers").unwrap();
    assert_eq!(headers[0], json!({"name": "Return-Path", "value": "<s@sender.example>"}));
    assert_eq!(headers[4], json!({"name": "Subject", "value": "Hello"}));
    let envelope = json!({"sender": "s@sender.example", "recipients": ["alice@a.example"]});
    assert_eq!(fields.remove("envelope"), Some(envelope));
    assert_eq!(fields.remove("auth_results"), Some(json!({"spf": {"result": "pass"}})));
    assert_eq!(fields.remove("attachments"), Some(json!([])));
    assert_eq!(fields.remove("metadata"), Some(json!({})));
    let at = format!("/api/v1/messages/{id}");
    let links = json!({"raw": format!("{at}/raw"), "text": format!("{at}/text"),
        "attachments": format!("{at}/attachments"), "trace": format!("{at}/trace")});
    assert_eq!(fields.remove("links"), Some(links));
    assert_eq!(detail, expected);
}

#[tokio::test]
async fn pages_show_each_message_once() {
    let world = World::new().await;
    let mut newest_first = Vec::new();
    for index in 0..7_u64 {
        // Two at a time share their time of receipt.
        let at = START.plus(Duration::from_secs(index / 2));
        newest_first.push((at, world.receive(&world.alice, mail("x@x.example", "walk"), at).await));
    }
    newest_first.sort_by(|a, b| b.cmp(a));
    let mut seen = Vec::new();
    let mut path = "/api/v1/messages?limit=3&subject=walk".to_owned();
    loop {
        let answer = world.get(&path).await;
        let page = answer.json();
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        assert_eq!(page["has_more"], page["next_cursor"].is_string());
        let Some(cursor) = page["next_cursor"].as_str() else {
            assert_eq!(answer.header("link"), "");
            break;
        };
        path = format!("/api/v1/messages?limit=3&subject=walk&cursor={cursor}");
        assert_eq!(answer.header("link"), format!("<{path}>; rel=\"next\""));
    }
    let expected: Vec<_> = newest_first.iter().map(|(_, id)| id.to_string()).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn cursors_are_good_for_their_own_list_only() {
    let world = World::new().await;
    for account in [&world.alice, &world.alice, &world.bob, &world.bob] {
        world.receive(account, mail("x@x.example", "s"), START).await;
    }
    let cursor = world.get("/api/v1/messages?limit=1&from=x").await.json()["next_cursor"].as_str().unwrap().to_owned();
    let walk = |cursor: &str| format!("/api/v1/messages?limit=2&from=x&cursor={cursor}");
    assert_eq!(world.get(&walk(&cursor)).await.status, StatusCode::OK);
    let first = if cursor.starts_with('B') { 'C' } else { 'B' };
    for cursor in [format!("{first}{}", &cursor[1..]), cursor[1..].to_owned(), "x".to_owned(), String::new()] {
        world.get(&walk(&cursor)).await.expect_problem(400, "invalid_cursor");
    }
    world.get(&format!("/api/v1/messages?from=y&cursor={cursor}")).await.expect_problem(400, "invalid_cursor");
    world.get(&format!("/api/v1/messages?cursor={cursor}")).await.expect_problem(400, "invalid_cursor");
    world.get_as(&world.bob.key, &walk(&cursor)).await.expect_problem(400, "invalid_cursor");
}

#[tokio::test]
async fn filters_narrow_the_list() {
    let world = World::new().await;
    let early = world.receive(&world.alice, mail("Anna <anna@x.example>", "First"), START).await;
    let later_at = START.plus(Duration::from_secs(60));
    let late = world.receive(&world.alice, mail("Bert <bert@y.example>", "Second"), later_at).await;
    let out = world.sent(&world.alice).await;
    let mailbox = world.alice.user.mailbox;
    let cases = [
        ("from=ANNA".to_owned(), vec![early]),
        ("subject=second".to_owned(), vec![late]),
        ("to=alice%40a&from=bert".to_owned(), vec![late]),
        ("direction=outbound".to_owned(), vec![out]),
        ("status=queued".to_owned(), vec![out]),
        ("folder=INBOX".to_owned(), vec![late, early]),
        (format!("folder=INBOX&mailbox_id={mailbox}"), vec![late, early]),
        ("since=2025-11-22T03:05:00Z".to_owned(), vec![late]),
        ("until=2025-11-22T03:05:00Z&folder=INBOX".to_owned(), vec![early]),
        ("from=nobody".to_owned(), vec![]),
    ];
    for (query, expected) in cases {
        let list = world.get(&format!("/api/v1/messages?{query}")).await.json();
        let ids: Vec<_> = list["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect();
        let expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
        assert_eq!(ids, expected, "{query}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let world = World::new().await;
    let queries = [
        "limit=0",
        "limit=201",
        "limit=x",
        "limit=-1",
        "mailbox_id=x",
        "folder=Nowhere",
        "direction=up",
        "status=lost",
        "since=yesterday",
        "until=",
        "colour=red",
        "limit=1&limit=2",
    ];
    for query in queries {
        world.get(&format!("/api/v1/messages?{query}")).await.expect_problem(400, "invalid_query");
    }
    for query in ["timeout=61", "timeout=x", "since=x", "limit=1"] {
        world.get(&format!("/api/v1/messages/wait?{query}")).await.expect_problem(400, "invalid_query");
    }
}

#[tokio::test]
async fn a_submission_tells_what_became_of_it() {
    let world = World::new().await;
    let id = world.sent(&world.alice).await;
    let submission = world.get(&format!("/api/v1/sends/{id}")).await.json();
    let expected = json!({
        "id": id.to_string(), "message_id": "<m1@a.example>", "status": "queued",
        "created_at": "2025-11-22T03:04:06.123Z",
        "recipients": [
            {"email": "one@x.example", "status": "deferred", "attempts": 1, "last_result": "451 4.3.0 later",
             "updated_at": "2025-11-22T03:04:06.123Z"},
            {"email": "two@x.example", "status": "pending", "attempts": 0, "last_result": null,
             "updated_at": "2025-11-22T03:04:06.123Z"},
        ],
        "attempts": [{"email": "one@x.example", "at": "2025-11-22T03:04:06.123Z", "outcome": "deferred",
            "host": "mx.x.example", "result": "451 4.3.0 later"}],
    });
    assert_eq!(submission, expected);
    let detail = world.get(&format!("/api/v1/messages/{id}")).await.json();
    assert_eq!(detail["envelope"]["recipients"].as_array().map(Vec::len), Some(2));
    let received = world.receive(&world.alice, mail("x@x.example", "s"), START).await;
    world.get(&format!("/api/v1/sends/{received}")).await.expect_problem(404, "not_found");
}
