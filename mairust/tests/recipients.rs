//! Where mail for an address goes: aliases, what is sent on, quotas, the postmaster.

use std::net::SocketAddr;

use mairust::{DeliverySettings, Directory, Domain, EmailAddress, Mail, Relay, StorageBackend, Verdict};
use mairust_core::MailboxId;
use mairust_smtp::client::Outcome;
use mairust_store::{
    Direction, DomainChange, Folder, MessageRow, MessageStatus, NewAlias, NewUser, PasswordRecord, QuotaLimit,
    TenantChange, UserChange,
};

use crate::TestServer;

const MESSAGE: &str = "From: bob@sender.example\r\nSubject: x\r\n\r\nx\r\n";

#[tokio::test]
async fn a_list_reaches_everybody_once_and_the_sender_stays() {
    let outside = TestServer::start(|builder| builder).await;
    let server = relaying(outside.smtp).await;
    user(&server, "dave@example.com").await;
    alias(&server, "team@example.com", &["alice@example.com", "dave+team@example.com", "all@example.com"]).await;
    outside.directory().create_domain(outside.tenant, &domain("example.org")).await.unwrap();
    user(&outside, "carol@example.org").await;
    alias(&server, "all@example.com", &["team@example.com", "carol@example.org", "Carol@example.org"]).await;
    let reports = server.send(&["all@example.com", "alice@example.com", "team@example.com"], MESSAGE).await;
    assert!(reports.iter().all(|report| report.outcome == Outcome::Delivered), "{reports:?}");
    let rows = server.messages(|rows| rows.iter().any(|row| row.status == MessageStatus::Sent)).await;
    let mut kept: Vec<_> = rows.iter().map(|row| (row.direction, row.folder, row.address.to_string())).collect();
    kept.sort_by_key(|(direction, ..)| *direction == Direction::Outbound);
    let inbox = |address: &str| (Direction::Inbound, Folder::Inbox, address.to_owned());
    assert_eq!(kept[..2], [inbox("all@example.com"), inbox("all@example.com")]);
    assert_eq!(kept[2..], [(Direction::Outbound, Folder::Sent, "all@example.com".to_owned())]);
    let arrived = outside.messages(|rows| !rows.is_empty()).await;
    assert_eq!((arrived.len(), arrived[0].sender.to_string().as_str()), (1, "<bob@sender.example>"));
    let raw = text(&outside, &arrived[0]).await;
    assert_eq!(raw.matches("Return-Path:").count(), 1, "{raw}");
    assert_eq!(raw.matches("Received:").count(), 2, "{raw}");
}

#[tokio::test]
async fn a_sender_hears_of_what_could_not_be_sent_on() {
    // Takes what is for sender.example, and knows nobody at gone.example.
    let outside = TestServer::start(|builder| builder).await;
    outside.directory().create_domain(outside.tenant, &domain("sender.example")).await.unwrap();
    user(&outside, "bob@sender.example").await;
    let server = relaying(outside.smtp).await;
    alias(&server, "away@example.com", &["alice@gone.example"]).await;
    assert_eq!(server.send(&["away@example.com"], MESSAGE).await[0].outcome, Outcome::Delivered);
    let notices = outside.messages(|rows| !rows.is_empty()).await;
    assert_eq!(notices[0].sender.to_string(), "<>");
    let notice = text(&outside, &notices[0]).await;
    assert!(notice.contains("Final-Recipient: rfc822; alice@gone.example"), "{notice}");
    let rows = server.messages(|rows| rows.iter().all(|row| row.status != MessageStatus::Queued)).await;
    let mut states: Vec<_> = rows.iter().map(|row| row.status.as_str()).collect();
    states.sort_unstable();
    assert_eq!(states, ["failed", "sent"], "what was sent on, and the notice");
}

#[tokio::test]
async fn a_sender_who_is_here_gets_the_notice_in_the_mailbox() {
    let outside = TestServer::start(|builder| builder).await;
    let server = relaying(outside.smtp).await;
    alias(&server, "away@example.com", &["x@gone.example"]).await;
    crate::send_from("alice@example.com", server.smtp, &["away@example.com"], MESSAGE).await;
    let rows = server.messages(|rows| rows.iter().any(|row| row.direction == Direction::Inbound)).await;
    let notice = rows.iter().find(|row| row.direction == Direction::Inbound).unwrap();
    assert_eq!((notice.address.to_string().as_str(), notice.folder), ("alice@example.com", Folder::Inbox));
    assert_eq!(notice.mailbox, mailbox(&server, "alice@example.com").await);
}

#[tokio::test]
async fn what_is_held_back_is_not_sent_on() {
    let server = TestServer::start(|builder| {
        builder.capture_outbound().pre_receive("suspicious", |mail: Mail| async move {
            match mail.subject() {
                Some("odd") => Verdict::quarantine("looks odd"),
                _ => Verdict::Allow,
            }
        })
    })
    .await;
    alias(&server, "away@example.com", &["x@remote.example"]).await;
    for subject in ["odd", "fine"] {
        let message = format!("Subject: {subject}\r\n\r\nx\r\n");
        assert_eq!(server.send(&["away@example.com"], &message).await[0].outcome, Outcome::Delivered);
    }
    let rows = server.messages(|rows| rows.len() == 2).await;
    let find = |subject: &str| rows.iter().find(|row| row.subject.as_deref() == Some(subject)).unwrap();
    let (odd, fine) = (find("odd"), find("fine"));
    assert_eq!((odd.folder, odd.status), (Folder::Quarantine, MessageStatus::Quarantined));
    assert_eq!((fine.folder, fine.status), (Folder::Sent, MessageStatus::Captured));
    assert_eq!(odd.mailbox, fine.mailbox);
    let deliveries = server.storage.deliveries();
    assert!(deliveries.recipients(server.tenant, odd.id).await.unwrap().is_empty());
    let sent_on = deliveries.recipients(server.tenant, fine.id).await.unwrap();
    assert_eq!(sent_on.iter().map(|row| row.address.to_string()).collect::<Vec<_>>(), ["x@remote.example"]);
}

#[tokio::test]
async fn addresses_that_lead_nowhere_are_refused() {
    let server = TestServer::start(|builder| builder).await;
    alias(&server, "a@example.com", &["b@example.com"]).await;
    alias(&server, "b@example.com", &["a@example.com"]).await;
    alias(&server, "gone@example.com", &["nobody@example.com"]).await;
    user(&server, "dave@example.com").await;
    change(&server, "dave@example.com", |change| change.enabled = Some(false)).await;
    for (to, answer) in [
        ("a@example.com", "550 5.4.6"),
        ("gone@example.com", "550 5.2.4"),
        ("nobody@example.com", "550 5.1.1"),
        ("dave@example.com", "550 5.2.1"),
        ("dave+tag@example.com", "550 5.2.1"),
        ("x@remote.example", "550 5.7.1"),
    ] {
        let report = server.send(&[to], MESSAGE).await.remove(0);
        assert!(report.detail.starts_with(answer), "{to}: {}", report.detail);
    }
}

#[tokio::test]
async fn a_full_mailbox_takes_no_more() {
    let server = TestServer::start(|builder| builder.mailbox_quota(1_000)).await;
    user(&server, "dave@example.com").await;
    alias(&server, "both@example.com", &["alice@example.com", "dave@example.com"]).await;
    let large = format!("Subject: large\r\n\r\n{}\r\n", "x".repeat(900));
    assert_eq!(server.send(&["alice@example.com"], &large).await[0].outcome, Outcome::Delivered);
    let answer = |to: &'static str| {
        let server = &server;
        async move { server.send(&[to], MESSAGE).await.remove(0).detail }
    };
    assert!(answer("alice@example.com").await.starts_with("452 4.2.2"));
    assert!(answer("both@example.com").await.starts_with("250"), "one of them has room");
    assert!(answer("postmaster@example.com").await.starts_with("250"), "this one is always heard");
    change(&server, "alice@example.com", |change| change.quota = Some(QuotaLimit::Unlimited)).await;
    assert!(answer("alice@example.com").await.starts_with("250"));
    change(&server, "alice@example.com", |change| change.quota = Some(QuotaLimit::Bytes(10))).await;
    assert!(answer("alice@example.com").await.starts_with("552 5.2.2"), "SIZE says that it never fits");
}

#[tokio::test]
async fn somebody_is_the_postmaster_everywhere() {
    let server = TestServer::start(|builder| builder).await;
    let directory = server.directory();
    let mut tenant = mairust_store::NewTenant::default();
    tenant.name = "other".to_owned();
    let other = directory.create_tenant(tenant).await.unwrap().id;
    directory.create_domain(other, &domain("other.example")).await.unwrap();
    let alice = mailbox(&server, "alice@example.com").await;
    // Nobody is in the other tenant yet: it is up to whoever runs the server.
    for to in ["postmaster@example.com", "PostMaster@other.example"] {
        assert_eq!(server.send(&[to], MESSAGE).await[0].outcome, Outcome::Delivered, "{to}");
    }
    assert_eq!(server.messages(|rows| rows.len() == 2).await[0].mailbox, alice);
    let new =
        NewUser { address: address("carol@other.example"), login: None, password: PasswordRecord::of_hash("hash") };
    directory.create_user(other, new).await.unwrap();
    assert_eq!(server.send(&["postmaster@other.example"], MESSAGE).await[0].outcome, Outcome::Delivered);
    let query = mairust::MessageQuery { limit: 10, ..Default::default() };
    assert_eq!(server.storage.messages().list(other, &query).await.unwrap().items.len(), 1);
    directory.change_tenant(other, &suspended()).await.unwrap();
    assert_eq!(server.send(&["postmaster@other.example"], MESSAGE).await[0].outcome, Outcome::Delivered);
    assert!(server.send(&["carol@other.example"], MESSAGE).await[0].detail.starts_with("550 5.2.1"));
    server.messages(|rows| rows.len() == 3).await;
}

#[tokio::test]
async fn a_configured_postmaster_and_a_catch_all() {
    let server = TestServer::start(|builder| builder.postmaster(address("dave@example.com"))).await;
    let dave = user(&server, "dave@example.com").await;
    let catch_all = user(&server, "erin@example.com").await;
    server.send(&["postmaster@example.com"], MESSAGE).await;
    assert_eq!(server.messages(|rows| !rows.is_empty()).await[0].mailbox, dave);
    let mut change = DomainChange::default();
    change.catch_all = Some(Some(address("erin@example.com")));
    server.directory().change_domain(server.tenant, &domain("example.com"), &change).await.unwrap();
    server.send(&["postmaster@example.com"], MESSAGE).await;
    let rows = server.messages(|rows| rows.len() == 2).await;
    assert_eq!(rows.iter().filter(|row| row.mailbox == catch_all).count(), 1);
}

/// A server that sends everything on through another one.
async fn relaying(to: SocketAddr) -> TestServer {
    let mut delivery = DeliverySettings::default();
    delivery.relay = Some(Relay::new(to.ip().to_string(), to.port()));
    TestServer::start(|builder| builder.delivery(delivery)).await
}

impl TestServer {
    fn directory(&self) -> &dyn Directory {
        self.storage.directory()
    }
}

async fn user(server: &TestServer, text: &str) -> MailboxId {
    let new = NewUser { address: address(text), login: None, password: PasswordRecord::of_hash("hash") };
    server.directory().create_user(server.tenant, new).await.unwrap().mailbox
}

async fn alias(server: &TestServer, text: &str, targets: &[&str]) {
    let new = NewAlias { address: address(text), targets: targets.iter().map(|text| address(text)).collect() };
    server.directory().create_alias(server.tenant, new).await.unwrap();
}

async fn change(server: &TestServer, text: &str, adjust: impl FnOnce(&mut UserChange)) {
    let user = server.directory().user_by_address(server.tenant, &address(text)).await.unwrap().unwrap();
    let mut change = UserChange::default();
    adjust(&mut change);
    server.directory().change_user(server.tenant, user.id, &change).await.unwrap();
}

async fn mailbox(server: &TestServer, text: &str) -> MailboxId {
    server.directory().user_by_address(server.tenant, &address(text)).await.unwrap().unwrap().mailbox
}

async fn text(server: &TestServer, row: &MessageRow) -> String {
    let body = server.storage.messages().body(server.tenant, row.id).await.unwrap();
    String::from_utf8_lossy(&body.read_all().unwrap()).into_owned()
}

fn suspended() -> TenantChange {
    let mut change = TenantChange::default();
    change.enabled = Some(false);
    change
}

fn address(text: &str) -> EmailAddress {
    EmailAddress::parse(text).unwrap()
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}
