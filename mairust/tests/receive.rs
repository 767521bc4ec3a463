//! The stages between the final dot and 250.

use mairust::{Domain, EmailAddress, Mail, StorageBackend, Verdict};
use mairust_smtp::client::Outcome;
use mairust_store::{Folder, MessageStatus, NewTenant, NewUser, PasswordRecord};

use crate::TestServer;

const ALICE: &[&str] = &["alice@example.com"];

#[tokio::test]
async fn a_hook_decides_before_the_message_is_stored() {
    let server = TestServer::start(|builder| {
        builder.pre_receive("by-subject", |mail: Mail| async move {
            match mail.subject() {
                Some("refuse") => Verdict::reject("not welcome"),
                Some("later") => Verdict::tempfail("not now"),
                Some("odd") => Verdict::quarantine("looks odd"),
                _ => Verdict::Allow,
            }
        })
    })
    .await;
    let answer = |subject: &str| {
        let message = format!("Subject: {subject}\r\n\r\nx\r\n");
        let server = &server;
        async move { server.send(ALICE, &message).await.remove(0) }
    };
    let refused = answer("refuse").await;
    assert_eq!((refused.outcome, refused.detail.as_str()), (Outcome::Failed, "550 5.7.1 not welcome"));
    let later = answer("later").await;
    assert_eq!((later.outcome, later.detail.as_str()), (Outcome::Deferred, "451 4.7.1 not now"));
    assert_eq!(answer("odd").await.outcome, Outcome::Delivered);
    assert_eq!(answer("fine").await.outcome, Outcome::Delivered);
    let rows = server.messages(|rows| rows.len() == 2).await;
    let kept: Vec<_> = rows.iter().map(|row| (row.subject.as_deref(), row.folder, row.status)).collect();
    assert!(kept.contains(&(Some("odd"), Folder::Quarantine, MessageStatus::Quarantined)), "{kept:?}");
    assert!(kept.contains(&(Some("fine"), Folder::Inbox, MessageStatus::Stored)), "{kept:?}");
}

#[tokio::test]
async fn a_message_that_loops_is_refused() {
    let server = TestServer::start(|b| b).await;
    let looping = "Received: from a by b; now\r\n".repeat(51) + "Subject: x\r\n\r\nx\r\n";
    let report = server.send(ALICE, &looping).await.remove(0);
    assert_eq!(report.outcome, Outcome::Failed);
    assert!(report.detail.starts_with("554 5.4.6"), "{}", report.detail);
}

#[tokio::test]
async fn recipients_of_two_tenants_come_in_two_transactions() {
    let server = TestServer::start(|b| b).await;
    let directory = server.storage.directory();
    let mut tenant = NewTenant::default();
    tenant.name = "other".to_owned();
    let other = directory.create_tenant(tenant).await.unwrap();
    directory.create_domain(other.id, &Domain::parse("other.example").unwrap()).await.unwrap();
    let address = EmailAddress::parse("carol@other.example").unwrap();
    let carol = NewUser { address, login: None, password: PasswordRecord::of_hash("hash") };
    directory.create_user(other.id, carol).await.unwrap();

    let reports = server.send(&["alice@example.com", "carol@other.example"], "Subject: x\r\n\r\nx\r\n").await;
    assert_eq!(reports[0].outcome, Outcome::Delivered);
    assert_eq!(reports[1].outcome, Outcome::Deferred);
    assert!(reports[1].detail.starts_with("452 4.5.3"), "{}", reports[1].detail);
    assert_eq!(server.send(&["carol@other.example"], "Subject: x\r\n\r\nx\r\n").await[0].outcome, Outcome::Delivered);
}

#[tokio::test]
async fn one_body_for_several_recipients() {
    let server = TestServer::start(|b| b).await;
    let directory = server.storage.directory();
    let address = EmailAddress::parse("dave@example.com").unwrap();
    directory
        .create_user(server.tenant, NewUser { address, login: None, password: PasswordRecord::of_hash("hash") })
        .await
        .unwrap();
    server.send(&["alice@example.com", "dave@example.com"], "Subject: both\r\n\r\nx\r\n").await;
    let rows = server.messages(|rows| rows.len() == 2).await;
    assert_eq!(rows[0].object_key, rows[1].object_key);
    let body = server.storage.messages().body(server.tenant, rows[0].id).await.unwrap().read_all().unwrap();
    // Several recipients: none of them is named in the Received field.
    assert!(!body.windows(5).any(|window| window == b"for <"), "{}", body.escape_ascii());
}
