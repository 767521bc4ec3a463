//! Sending.

use axum::body::Body;
use axum::http::StatusCode;
use mairust_core::{EmailAddress, Timestamp};
use mairust_http::{Draft, DraftAddress, DraftAttachment};
use serde_json::{Value, json};

use super::support::{World, call, request};

fn address(name: Option<&str>, text: &str) -> DraftAddress {
    DraftAddress { name: name.map(str::to_owned), address: EmailAddress::parse(text).unwrap() }
}

/// A body that is fine, with these fields changed; null takes one out.
fn body(changes: Value) -> Value {
    let mut body = json!({"from": "alice@a.example", "to": ["t@x.example"], "subject": "s", "text": "x"});
    let Value::Object(changes) = changes else { panic!("changes are an object") };
    for (name, value) in changes {
        body[name] = value;
    }
    body
}

#[tokio::test]
async fn a_message_reaches_the_submitter_whole() {
    let world = World::new().await;
    let sent = json!({
        "from": {"email": "alice@a.example", "name": "アリス"},
        "to": ["t@x.example", {"email": "u@x.example", "name": "U"}], "cc": ["c@x.example"], "bcc": ["b@x.example"],
        "reply_to": ["r@a.example"], "subject": "件名", "text": "a\r\nb", "html": "<p>a</p>",
        "headers": {"X-Campaign": "summer", "List-Id": "<l.a.example>"},
        "attachments": [
            {"filename": "a.bin", "content_type": "application/octet-stream", "content": "AAEC/w=="},
            {"filename": "i.png", "content_type": "image/png", "content": "AA", "content_id": "<i@x>", "disposition": "inline"},
        ],
        "in_reply_to": "<one@x.example>", "references": ["zero@x.example", "<one@x.example>"],
        "send_at": "2030-01-01T09:00:00+09:00",
    });
    let answer = world.post("/api/v1/send", &sent).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let answer = answer.json();
    assert!(answer["id"].is_string());
    assert_eq!(answer["send_at"], "2030-01-01T00:00:00.000Z");
    assert_eq!((&answer["message_id"], &answer["status"]), (&json!("<new@a.example>"), &json!("queued")));
    let recipients =
        json!([{"email": "t@x.example", "status": "pending"}, {"email": "u@x.example", "status": "pending"}]);
    assert_eq!(answer["recipients"], recipients);

    let (principal, draft) = world.submitter.0.lock().unwrap().pop().unwrap();
    assert_eq!(principal.tenant, world.alice.user.tenant);
    let attachment = |filename: &str, content_type: &str, content: &[u8]| DraftAttachment {
        filename: filename.to_owned(),
        content_type: content_type.to_owned(),
        content: content.to_vec(),
        content_id: None,
        inline: false,
    };
    let image =
        DraftAttachment { content_id: Some("i@x".to_owned()), inline: true, ..attachment("i.png", "image/png", &[0]) };
    let expected = Draft {
        from: address(Some("アリス"), "alice@a.example"),
        to: vec![address(None, "t@x.example"), address(Some("U"), "u@x.example")],
        cc: vec![address(None, "c@x.example")],
        bcc: vec![address(None, "b@x.example")],
        reply_to: vec![address(None, "r@a.example")],
        subject: "件名".to_owned(),
        text: Some("a\r\nb".to_owned()),
        html: Some("<p>a</p>".to_owned()),
        headers: vec![
            ("List-Id".to_owned(), "<l.a.example>".to_owned()),
            ("X-Campaign".to_owned(), "summer".to_owned()),
        ],
        attachments: vec![attachment("a.bin", "application/octet-stream", &[0, 1, 2, 255]), image],
        in_reply_to: Some("one@x.example".to_owned()),
        references: vec!["zero@x.example".to_owned(), "one@x.example".to_owned()],
        send_at: Timestamp::parse_rfc3339("2030-01-01T00:00:00Z"),
    };
    assert_eq!(draft, expected);
}

#[tokio::test]
async fn each_fault_is_named() {
    let world = World::new().await;
    let attachment = |changes: Value| {
        let mut attachment = json!({"filename": "a", "content_type": "a/b", "content": "AA=="});
        attachment.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        json!({"attachments": [attachment]})
    };
    let many: Vec<_> = (0..60).map(|index| format!("r{index}@x.example")).collect();
    let headers: Value =
        (0..51).map(|index| (format!("X-{index}"), json!("v"))).collect::<serde_json::Map<_, _>>().into();
    let cases = [
        (json!({"from": null}), "/from", "required"),
        (json!({"from": 1}), "/from", "invalid_type"),
        (json!({"from": "nobody"}), "/from", "invalid_address"),
        (json!({"from": {"email": "a@b.c", "name": "x\r\ny"}}), "/from/name", "control_character"),
        (json!({"from": {"email": "a@b.c", "colour": "red"}}), "/from", "invalid_type"),
        (json!({"to": null}), "/to", "required"),
        (json!({"to": []}), "/to", "required"),
        (json!({"to": "t@x.example"}), "/to", "invalid_type"),
        (json!({"to": ["t@x.example", "x"]}), "/to/1", "invalid_address"),
        (json!({"cc": [{"email": "x"}]}), "/cc/0/email", "invalid_address"),
        (json!({"to": many, "bcc": many}), "/to", "too_many"),
        (json!({"bcc": vec!["b@x.example"; 101]}), "/bcc", "too_many"),
        (json!({"text": null}), "/text", "required"),
        (json!({"subject": "a\nb"}), "/subject", "control_character"),
        (json!({"subject": ["a"]}), "/subject", "invalid_type"),
        (json!({"colour": "red"}), "/colour", "unknown_field"),
        (json!({"headers": {"Received": "x"}}), "/headers/Received", "reserved_header"),
        (json!({"headers": {"content-type": "x"}}), "/headers/content-type", "reserved_header"),
        (json!({"headers": {"A B": "x"}}), "/headers/A B", "invalid_header_name"),
        (json!({"headers": {"": "x"}}), "/headers/", "invalid_header_name"),
        (json!({"headers": {"X-A": "x\r\nBcc: y"}}), "/headers/X-A", "control_character"),
        (json!({"headers": {"X-A": "x\u{0}"}}), "/headers/X-A", "control_character"),
        (json!({"headers": {"X-A": 1}}), "/headers/X-A", "invalid_type"),
        (json!({"headers": headers}), "/headers", "too_many"),
        (attachment(json!({"content": "!"})), "/attachments/0/content", "invalid_base64"),
        (attachment(json!({"content_type": "a"})), "/attachments/0/content_type", "invalid_media_type"),
        (attachment(json!({"filename": "a\nb"})), "/attachments/0/filename", "control_character"),
        (attachment(json!({"content_id": "a b"})), "/attachments/0/content_id", "invalid_message_id"),
        (attachment(json!({"disposition": "hidden"})), "/attachments/0", "invalid_type"),
        (attachment(json!({"upload_id": "x"})), "/attachments/0", "invalid_type"),
        (json!({"in_reply_to": "a b"}), "/in_reply_to", "invalid_message_id"),
        (json!({"references": ["a@b", "<>"]}), "/references/1", "invalid_message_id"),
        (json!({"send_at": "tomorrow"}), "/send_at", "invalid_value"),
        (json!({"send_at": "2030-01-01T09:00:00"}), "/send_at", "invalid_value"),
        (json!({"send_at": 1}), "/send_at", "invalid_type"),
        (json!({"subject": "time", "send_at": "2030-01-01T09:00:00Z"}), "/send_at", "invalid_value"),
    ];
    for (changes, path, code) in cases {
        let problem = world.post("/api/v1/send", &body(changes.clone())).await.expect_problem(422, "validation_failed");
        let errors = problem["details"]["errors"].as_array().unwrap();
        assert_eq!(errors.len(), 1, "{changes}: {problem}");
        assert_eq!((&errors[0]["path"], &errors[0]["code"]), (&json!(path), &json!(code)), "{changes}");
        assert!(errors[0]["message"].as_str().is_some_and(|message| !message.is_empty()));
    }
    assert!(world.submitter.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn all_faults_are_named_at_once() {
    let world = World::new().await;
    let wrong = json!({"from": "x", "to": ["y"], "subject": 1, "colour": "red", "headers": {"To": "z"}});
    let problem = world.post("/api/v1/send", &wrong).await.expect_problem(422, "validation_failed");
    let mut paths: Vec<_> =
        problem["details"]["errors"].as_array().unwrap().iter().map(|error| error["path"].as_str().unwrap()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/colour", "/from", "/headers/To", "/subject", "/text", "/to/0"]);
}

#[tokio::test]
async fn answers_to_large_nonsense_are_small() {
    let world = World::new().await;
    let mut wrong = body(json!({"to": "x".repeat(100_000)}));
    for index in 0..10_000 {
        wrong[format!("unknown{index}")] = json!(1);
    }
    let answer = world.post("/api/v1/send", &wrong).await;
    answer.expect_problem(422, "validation_failed");
    assert!(answer.body.len() < 20_000, "{}", answer.body.len());
}

#[tokio::test]
async fn what_is_no_json_object_is_refused() {
    let world = World::new().await;
    let post = async |kind: &str, body: Vec<u8>| {
        let mut request = request("POST", "/api/v1/send", &world.alice.key, &[("content-type", kind)]);
        *request.body_mut() = Body::from(body);
        call(&world.app, request).await
    };
    for text in ["", "{", "{\"from\":}", "nonsense", &"[".repeat(500)] {
        post("application/json", text.into()).await.expect_problem(400, "malformed_json");
    }
    post("application/json", vec![b'"', 0xff, b'"']).await.expect_problem(400, "malformed_json");
    post("application/json", b"[]".to_vec()).await.expect_problem(422, "validation_failed");
    post("text/plain", b"{}".to_vec()).await.expect_problem(415, "unsupported_media_type");
    let taken = post("Application/JSON; charset=utf-8", body(json!({})).to_string().into()).await;
    assert_eq!(taken.status, StatusCode::ACCEPTED);
    post("application/json", vec![b' '; 35 * 1024 * 1024 + 1]).await.expect_problem(413, "payload_too_large");
    let large = body(json!({"text": "x".repeat(25 * 1024 * 1024 + 1)}));
    post("application/json", large.to_string().into()).await.expect_problem(413, "payload_too_large");
}

#[tokio::test]
async fn who_comes_too_often_or_writes_to_the_wrong_people_hears_how_to_go_on() {
    let world = World::new().await;
    let answer = world.post("/api/v1/send", &body(json!({"subject": "rate"}))).await;
    assert_eq!(answer.header("retry-after"), "61");
    assert_eq!(answer.expect_problem(429, "rate_limited")["message"], "too much mail");
    let answer = world.post("/api/v1/send", &body(json!({"subject": "suppressed", "to": ["b@x.example"]}))).await;
    let problem = answer.expect_problem(422, "recipient_suppressed");
    assert_eq!(problem["details"], json!({"recipients": ["b@x.example"]}));
}

#[tokio::test]
async fn refusals_of_the_submitter_have_their_codes() {
    let world = World::new().await;
    let cases = [
        ("sender", 403, "sender_not_allowed"),
        ("policy", 403, "policy_denied"),
        ("unprocessable", 422, "unprocessable_message"),
        ("store", 503, "database_unavailable"),
        ("panic", 500, "internal_error"),
    ];
    for (subject, status, code) in cases {
        let answer = world.post("/api/v1/send", &body(json!({"subject": subject}))).await;
        let problem = answer.expect_problem(status, code);
        assert!(!problem.to_string().contains("secret"), "{problem}");
    }
    let answer = world.post("/api/v1/send", &body(json!({"subject": "later"}))).await;
    assert_eq!(answer.expect_problem(503, "policy_deferred")["message"], "not now");
    assert_eq!(answer.header("retry-after"), "61");
}

#[tokio::test]
async fn a_dry_run_sends_nothing() {
    let world = World::new().await;
    let expected = json!({
        "message_id": "<new@a.example>", "size": "Subject: 件名\r\n".len(), "raw": "Subject: 件名\r\n",
        "policy": {"decision": "allow", "score": 0.0},
        "recipients": [{"email": "t@x.example", "kept": true, "sent_to": []}],
    });
    for (path, more) in [("/api/v1/send/preview", json!({})), ("/api/v1/send", json!({"dry_run": true}))] {
        let answer = world.post(path, &body(more)).await;
        assert_eq!((answer.status, answer.json()), (StatusCode::OK, expected.clone()), "{path}");
        let refused = world.post(path, &body(json!({"subject": "policy", "dry_run": true}))).await;
        refused.expect_problem(403, "policy_denied");
    }
    assert!(world.submitter.0.lock().unwrap().is_empty());
    let wrong = world.post("/api/v1/send/preview", &body(json!({"from": "x", "dry_run": "yes"}))).await;
    let problem = wrong.expect_problem(422, "validation_failed");
    let paths: Vec<_> = problem["details"]["errors"].as_array().unwrap().iter().map(|error| &error["path"]).collect();
    assert_eq!(paths, [&json!("/dry_run"), &json!("/from")]);
}
