//! Who mail really comes from, and what follows from it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use mairust::{AuthOutcome, Authentication, Enforcement, Mail, ServerBuilder, StorageBackend, Verdict};
use mairust_smtp::client::Outcome;
use mairust_smtp::dns::FakeResolver;
use mairust_store::Folder;

use crate::TestServer;

const ALICE: &[&str] = &["alice@example.com"];

/// Mail comes from 127.0.0.1, says `sender.example`, and is sent by bob@sender.example.
fn zone() -> FakeResolver {
    let client: IpAddr = "127.0.0.1".parse().unwrap();
    let records = [
        ("sender.example", "v=spf1 ip4:127.0.0.1 -all"),
        ("_dmarc.sender.example", "v=DMARC1; p=reject"),
        ("_dmarc.bank.example", "v=DMARC1; p=reject"),
        ("_dmarc.shop.example", "v=DMARC1; p=quarantine"),
        ("_dmarc.a.co.jp", "v=DMARC1; p=reject"),
    ];
    records
        .into_iter()
        .fold(FakeResolver::new(), |zone, (name, text)| zone.with_txt(name, Ok(vec![text.as_bytes().to_vec()])))
        .with_names(client, Ok(vec!["sender.example".to_owned()]))
        .with_addresses("sender.example", Ok(vec![client]))
        .with_failure("_dmarc.down.example")
}

fn verifying(builder: ServerBuilder) -> ServerBuilder {
    builder.authentication(Authentication::default()).resolver(Arc::new(zone()))
}

fn from(author: &str) -> String {
    format!("From: {author}\r\nSubject: x\r\n\r\nx\r\n")
}

async fn stored(server: &TestServer, count: usize) -> Vec<(Folder, String)> {
    let mut found = Vec::new();
    for row in server.messages(|rows| rows.len() == count).await {
        let body = server.storage.messages().body(server.tenant, row.id).await.unwrap().read_all().unwrap();
        found.push((row.folder, String::from_utf8(body.to_vec()).unwrap()));
    }
    found
}

#[tokio::test]
async fn the_header_field_tells_and_dmarc_decides_the_folder() {
    let server = TestServer::start(verifying).await;
    for author in
        ["bob@sender.example", "bob@bank.example", "bob@shop.example", "bob@down.example", "bob@other.example"]
    {
        assert_eq!(server.send(ALICE, &from(author)).await[0].outcome, Outcome::Delivered, "{author}");
    }
    let stored = stored(&server, 5).await;
    for (author, folder, result) in [
        ("sender", Folder::Inbox, "dmarc=pass header.from=sender.example polrec.p=reject"),
        ("bank", Folder::Quarantine, "dmarc=fail header.from=bank.example polrec.p=reject"),
        ("shop", Folder::Quarantine, "dmarc=fail header.from=shop.example polrec.p=quarantine"),
        ("down", Folder::Inbox, "dmarc=temperror"),
        ("other", Folder::Inbox, "dmarc=none header.from=other.example"),
    ] {
        let wanted = format!("From: bob@{author}.example\r\n");
        let (found, text) = stored.iter().find(|(_, text)| text.contains(&wanted)).unwrap();
        assert_eq!(*found, folder, "{text}");
        let field = "Return-Path: <bob@sender.example>\r\nAuthentication-Results: mx.example.com;\r\n\tiprev=pass \
                     policy.iprev=127.0.0.1 (sender.example);\r\n\tspf=pass smtp.helo=sender.example;\r\n\tspf=pass \
                     smtp.mailfrom=bob@sender.example;\r\n\tdkim=none;\r\n\t";
        assert!(text.starts_with(field), "{text}");
        assert!(text.contains(result), "{result} in\n{text}");
        assert!(text.contains(";\r\n\tarc=none\r\nReceived: from sender.example ([127.0.0.1])\r\n"), "{text}");
    }
}

#[tokio::test]
async fn what_dmarc_asks_for_is_done_where_the_settings_say_so() {
    let mut settings = Authentication::default();
    settings.dmarc_reject = Enforcement::Reject;
    settings.dmarc_quarantine = Enforcement::Tag;
    let server = TestServer::start(|builder| verifying(builder).authentication(settings)).await;
    let answer = |author: &'static str| {
        let server = &server;
        async move { server.send(ALICE, &from(author)).await.remove(0).detail }
    };
    assert!(answer("x@bank.example").await.starts_with("550 5.7.1 Refused by the policy of bank.example"));
    assert!(answer("x@a.co.jp").await.starts_with("550 5.7.1 "));
    assert!(answer("\"bob@sender.example\" <x@bank.example>").await.starts_with("550 5.7.1 "));
    assert!(answer("bob@sender.example, x@bank.example").await.starts_with("550 5.7.1 "));
    assert!(answer("bob@shop.example").await.starts_with("250 "));
    assert_eq!(stored(&server, 1).await[0].0, Folder::Inbox);
}

#[tokio::test]
async fn hooks_see_the_results_and_can_not_undo_a_quarantine() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = seen.clone();
    let server = TestServer::start(|builder| {
        verifying(builder).pre_receive("notes", move |mail: Mail| {
            let results = mail.auth_results().cloned().unwrap();
            notes.lock().unwrap().push((results.spf.unwrap().outcome, results.dmarc.unwrap().outcome));
            async { Verdict::Allow }
        })
    })
    .await;
    server.send(ALICE, &from("x@bank.example")).await;
    assert_eq!(stored(&server, 1).await[0].0, Folder::Quarantine);
    assert_eq!(*seen.lock().unwrap(), [(AuthOutcome::Pass, AuthOutcome::Fail)]);
}

#[tokio::test]
async fn nobody_else_speaks_in_our_name() {
    let forged = "Authentication-Results: MX.example.com;\r\n\tdmarc=pass header.from=bank.example\r\n";
    let foreign = "Authentication-Results: mx.other.example; dmarc=fail\r\n";
    let message = format!("{forged}{foreign}{}", from("bob@other.example"));
    let large = format!("{message}{}", "line\r\n".repeat(100_000));
    // With and without verification: a reader can't know which of them was on.
    for verify in [true, false] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let notes = seen.clone();
        let hook = move |mail: Mail| {
            let fields = mail.content().headers.iter().filter(|(name, _)| name == "Authentication-Results");
            notes.lock().unwrap().extend(fields.map(|(_, value)| value.clone()));
            async {}
        };
        let server = TestServer::start(|builder| {
            let builder = builder.pre_receive("notes", hook);
            if verify { verifying(builder) } else { builder }
        })
        .await;
        server.send(ALICE, &message).await;
        server.send(ALICE, &large).await;
        assert_eq!(*seen.lock().unwrap(), ["mx.other.example; dmarc=fail"; 2]);
        for (_, text) in stored(&server, 2).await {
            assert!(!text.contains("header.from=bank.example") && text.contains(foreign), "{}", &text[..2_000]);
            assert_eq!(text.contains("Authentication-Results: mx.example.com;"), verify);
            let sent = if text.len() > 10_000 { &large } else { &message };
            assert!(text.ends_with(&sent[forged.len()..]), "the rest is as it was");
        }
    }
}
