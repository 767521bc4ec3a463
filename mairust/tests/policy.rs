//! Who may send how much, who may not send at all, and to whom nothing is sent.

use std::time::Duration;

use mairust::testkit::{Act, Folder, Mishap, Server, ServerSetup, Sink, Step, StoreErrorKind};
use mairust::{
    Clock, Decision, EmailAddress, PolicyEngine, PolicyError, PolicyRequest, SendingLimits, TenantId, Timestamp,
};
use mairust_core::SuppressionId;
use mairust_store::{NewSuppression, Suppression, SuppressionReason, Suspension, UserChange};

const ALICE: &str = "alice@here.example";
const CAROL: &str = "carol@here.example";
const BOB: &str = "bob@remote.example";
const HOUR: Duration = Duration::from_secs(3_600);

fn here() -> ServerSetup {
    Server::builder().user(ALICE, "correct horse").user(CAROL, "battery staple")
}

fn hourly(recipients: u32) -> impl FnOnce(mairust::ServerBuilder) -> mairust::ServerBuilder {
    move |builder| {
        let mut limits = SendingLimits::none();
        limits.user_hourly = recipients;
        builder.sending_limits(limits)
    }
}

/// The reply for each recipient, without the id of a message that was taken.
async fn send(server: &Server, from: &str, to: &[&str]) -> Vec<String> {
    let replies = server.submit(from, to, format!("From: {from}\r\nSubject: hello\r\n\r\nHello!\r\n")).await.unwrap();
    let text = |reply: &mairust::Reply| if reply.is_positive() { "250".to_owned() } else { reply.to_string() };
    replies.iter().map(text).collect()
}

async fn tenant(server: &Server) -> TenantId {
    server.storage().directory().tenants().await.unwrap()[0].id
}

async fn suppressed(server: &Server) -> Vec<Suppression> {
    server.storage().suppressions().list(tenant(server).await, None, 10).await.unwrap().items
}

#[tokio::test]
async fn who_sends_too_much_waits_and_nobody_else() {
    for setup in [here(), here().sqlite()] {
        let server = setup.with(hourly(3)).start().await.unwrap();
        let busy = Sink::builder().on(Step::Connect, Act::reply("421 4.3.2 busy").times(3));
        let remote = server.fleet().domain("remote.example", busy).await.unwrap();
        assert_eq!(send(&server, ALICE, &[BOB, "eve@remote.example"]).await, ["250", "250"]);
        assert_eq!(send(&server, ALICE, &[CAROL]).await, ["250"], "who is here counts, too");
        let refused = "451 4.7.1 Too much mail: at most 3 recipients in 1h from alice@here.example, \
            please try again in 20m";
        assert_eq!(send(&server, ALICE, &[BOB]).await, [refused]);
        assert_eq!(send(&server, CAROL, &[BOB]).await, ["250"]);
        for _ in 0..10 {
            server.receive(BOB, &[ALICE], "Subject: hello\r\n\r\nHello!\r\n").await.unwrap();
        }
        assert_eq!(server.inbox(ALICE).await.unwrap().len(), 10, "mail from elsewhere is not limited");
        server.pass(HOUR / 3).await.unwrap();
        assert_eq!(send(&server, ALICE, &[BOB]).await, ["250"], "what the queue tries again does not count");
        assert!(send(&server, ALICE, &[BOB]).await[0].starts_with("451 4.7.1"));
        server.settled().await.unwrap();
        assert_eq!(remote.messages().len(), 3);
        let many = ["a@remote.example", "b@remote.example", "c@remote.example", "d@remote.example"];
        let refused = "550 5.7.1 Too many recipients: at most 3 recipients in 1h from alice@here.example";
        assert_eq!(send(&server, ALICE, &many).await, [refused; 4], "they would never be few enough");
    }
}

#[tokio::test]
async fn whoever_is_suspended_sends_nothing_until_it_ends() {
    let server = here().start().await.unwrap();
    let directory = server.storage().directory();
    let alice = directory.user_by_address(tenant(&server).await, &EmailAddress::parse(ALICE).unwrap()).await;
    let alice = alice.unwrap().unwrap();
    let suspension = Suspension { since: server.clock().now(), reason: "a stolen password".to_owned(), until: None };
    for (state, expected) in [
        (Some(suspension), "550 5.7.1 Sending is suspended for this account, please ask your administrator"),
        (None, "250"),
    ] {
        let mut change = UserChange::default();
        change.suspension = Some(state);
        directory.change_user(alice.tenant, alice.id, &change).await.unwrap();
        assert_eq!(send(&server, ALICE, &[CAROL]).await, [expected]);
        assert_eq!(send(&server, CAROL, &[ALICE]).await, ["250"], "others send, and mail comes in");
    }
    assert_eq!(server.inbox(ALICE).await.unwrap().len(), 2);
}

#[tokio::test]
async fn without_an_answer_nothing_is_let_through() {
    let server = here().start().await.unwrap();
    let unavailable = ["451 4.3.0 Temporary failure, please try again later"];
    for call in ["allowances.take", "allowances.spend", "suppressions.which"] {
        server.mishaps().always(call, Mishap::Fail(StoreErrorKind::Unavailable));
        assert_eq!(send(&server, ALICE, &[CAROL]).await, unavailable);
        server.receive(BOB, &[ALICE], "Subject: hello\r\n\r\nHello!\r\n").await.unwrap();
        server.mishaps().clear();
    }
    assert!(server.folder(ALICE, Folder::Sent).await.unwrap().is_empty());
    assert_eq!(server.inbox(ALICE).await.unwrap().len(), 3, "mail from elsewhere asks none of them");
    assert_eq!(send(&server, ALICE, &[CAROL]).await, ["250"]);
}

/// Lets nobody write to Bob, and does not know about Eve.
#[derive(Debug)]
struct NotToBob;

#[async_trait::async_trait]
impl PolicyEngine for NotToBob {
    async fn evaluate(&self, request: &PolicyRequest, _: Timestamp) -> Result<Decision, PolicyError> {
        assert_eq!((request.account.to_string().as_str(), request.user.is_some()), (ALICE, true));
        match request.recipients[0].local().as_str() {
            "bob" => Ok(Decision::reject("bob", "Bob wants to be alone")),
            "eve" => Err(PolicyError::new("who is Eve?")),
            _ => Ok(Decision::Allow),
        }
    }
}

#[tokio::test]
async fn an_application_brings_its_own_policy() {
    let limited = here().with(hourly(1)).with(|builder| builder.policy(NotToBob)).start().await.unwrap();
    assert_eq!(send(&limited, ALICE, &[BOB, CAROL]).await, ["550 5.7.1 Bob wants to be alone"; 2]);
    let eve = send(&limited, ALICE, &["eve@remote.example"]).await;
    assert_eq!(eve, ["451 4.3.0 Temporary failure, please try again later"]);
    for _ in 0..2 {
        assert_eq!(send(&limited, ALICE, &[CAROL]).await, ["250"], "it takes the place of the limits");
    }
}

#[tokio::test]
async fn nothing_is_sent_to_who_is_suppressed() {
    let server = here().start().await.unwrap();
    let remote = server.fleet().domain("remote.example", Sink::builder()).await.unwrap();
    let now = server.clock().now();
    let entry = NewSuppression {
        id: SuppressionId::new(now),
        address: EmailAddress::parse("Bob@remote.example").unwrap(),
        reason: SuppressionReason::Complaint,
        detail: None,
        created_at: now,
        expires_at: Some(now.plus(HOUR)),
    };
    server.storage().suppressions().add(tenant(&server).await, entry).await.unwrap();
    let both = [BOB, "eve@remote.example"];
    let refused = "550 5.7.1 bob@remote.example is on the suppression list";
    assert_eq!(send(&server, ALICE, &both).await, [refused, "250"]);
    server.settled().await.unwrap();
    assert_eq!(remote.messages().len(), 1);
    server.clock().advance(HOUR);
    assert_eq!(send(&server, ALICE, &both).await, ["250", "250"]);
}

#[tokio::test]
async fn who_does_not_exist_is_suppressed() {
    for (setup, reply, listed) in [
        (here(), "550 5.1.1 No such user", 1),
        (here().sqlite(), "550 5.1.1 No such user", 1),
        (here(), "550 5.7.1 Go away", 0),
        (here(), "550 No such user", 0),
        (here(), "450 4.1.1 Not now", 0),
        (here().delivery(|delivery| delivery.suppress_bounced = false), "550 5.1.1 No such user", 0),
    ] {
        let server = setup.start().await.unwrap();
        let refusing = Sink::builder().on(Step::Rcpt, reply);
        server.fleet().domain("remote.example", refusing).await.unwrap();
        assert_eq!(send(&server, ALICE, &[BOB]).await, ["250"]);
        server.settled().await.unwrap();
        let found = suppressed(&server).await;
        assert_eq!(found.len(), listed, "{reply}");
        if let Some(entry) = found.first() {
            let kept = (entry.address.to_string(), entry.reason, entry.detail.as_deref());
            assert_eq!(kept, (BOB.to_owned(), SuppressionReason::Bounce, Some(reply)));
            assert!(send(&server, ALICE, &[BOB]).await[0].starts_with("550 5.7.1 bob@remote.example is on"));
        }
    }
}
