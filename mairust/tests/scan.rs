//! What becomes of mail that a scanner has looked at.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use mairust::{
    Mail, RuleHit, ScanAction, ScanError, ScanReport, ScanRequest, Scanner, ServerBuilder, StorageBackend, Verdict,
};
use mairust_smtp::client::{Outcome, RecipientReport};
use mairust_store::{Folder, MessageRow, MessageStatus};

use crate::TestServer;

/// Does what the Subject says.
#[derive(Debug)]
struct BySubject;

#[async_trait]
impl Scanner for BySubject {
    fn name(&self) -> &str {
        "by-subject"
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanReport, ScanError> {
        let action = match request.mail.subject() {
            Some("tag") => ScanAction::Tag,
            Some("junk") => ScanAction::Junk,
            Some("quarantine") => ScanAction::Quarantine,
            Some("defer") => ScanAction::Defer,
            Some("reject") => ScanAction::Reject,
            Some("panic") => panic!("on purpose"),
            Some("fail") => return Err(ScanError::Http(500)),
            _ => ScanAction::Accept,
        };
        let mut report = ScanReport::new("by-subject", action, 3.5);
        report.hits.push(RuleHit::new("SUBJECT", 3.5, "does what it says"));
        report.headers.push(("X-Scanned".to_owned(), "by a test".to_owned()));
        Ok(report)
    }
}

async fn start(adjust: impl FnOnce(ServerBuilder) -> ServerBuilder) -> TestServer {
    TestServer::start(|builder| adjust(builder.scanner(BySubject))).await
}

async fn send(server: &TestServer, subject: &str) -> RecipientReport {
    server
        .send(&["alice@example.com"], &format!("Subject: {subject}\r\nX-Spam-Status: No\r\n\r\nx\r\n"))
        .await
        .remove(0)
}

async fn only(server: &TestServer, subject: &str) -> MessageRow {
    assert_eq!(send(server, subject).await.outcome, Outcome::Delivered, "{subject}");
    let rows = server.messages(|rows| rows.iter().any(|row| row.subject.as_deref() == Some(subject))).await;
    rows.into_iter().find(|row| row.subject.as_deref() == Some(subject)).unwrap()
}

#[tokio::test]
async fn every_action_has_its_place() {
    let server = start(|builder| builder).await;
    for (subject, folder, status, verdict) in [
        ("fine", Folder::Inbox, MessageStatus::Stored, "No"),
        ("tag", Folder::Inbox, MessageStatus::Stored, "Yes"),
        ("junk", Folder::Junk, MessageStatus::Stored, "Yes"),
        ("quarantine", Folder::Quarantine, MessageStatus::Quarantined, "Yes"),
    ] {
        let row = only(&server, subject).await;
        assert_eq!((row.folder, row.status), (folder, status), "{subject}");
        let body = server.storage.messages().body(server.tenant, row.id).await.unwrap().read_all().unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        let first = text.lines().find(|line| line.starts_with("X-Spam-Status: ")).unwrap();
        assert!(first.starts_with(&format!("X-Spam-Status: {verdict}, score=3.50 ")), "{first}");
        assert!(
            text.contains("host=mx.example.com tests=SUBJECT(3.50)\r\nX-Scanned: by a test\r\nReceived: "),
            "{text}"
        );
        assert!(text.ends_with(&format!("Subject: {subject}\r\nX-Spam-Status: No\r\n\r\nx\r\n")), "{text}");
    }
}

#[tokio::test]
async fn a_refusal_does_not_name_the_rules() {
    let server = start(|builder| builder).await;
    assert_eq!(send(&server, "reject").await.detail, "550 5.7.1 Message refused by policy");
    assert_eq!(send(&server, "defer").await.detail, "451 4.7.1 Please try again later");
}

#[tokio::test]
async fn without_a_report_the_message_comes_again() {
    let server = start(|builder| builder).await;
    for subject in ["fail", "panic"] {
        let answer = send(&server, subject).await;
        assert_eq!(answer.outcome, Outcome::Deferred, "{subject}");
        assert_eq!(answer.detail, "451 4.3.0 Temporary failure, please try again later");
    }
}

#[tokio::test]
async fn hooks_see_the_report_and_may_be_stricter() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sight = seen.clone();
    let server = start(|builder| {
        builder.pre_receive("looks", move |mail: Mail| {
            let report = mail.scan().unwrap();
            sight.lock().unwrap().push((report.action, report.hits[0].rule.clone()));
            let verdict = match mail.subject() {
                Some("junk") => Verdict::quarantine("worse than junk"),
                _ => Verdict::Allow,
            };
            async move { verdict }
        })
    })
    .await;
    assert_eq!(only(&server, "junk").await.folder, Folder::Quarantine);
    assert_eq!(only(&server, "quarantine").await.folder, Folder::Quarantine, "a hook does not undo it");
    send(&server, "reject").await;
    let rule = || "SUBJECT".to_owned();
    let expected = [(ScanAction::Junk, rule()), (ScanAction::Quarantine, rule())];
    assert_eq!(*seen.lock().unwrap(), expected, "what is refused does not come to the hooks");
}
