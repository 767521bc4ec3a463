//! Mail that looks like abuse goes slowly, or not at all; what an engine holds waits for somebody.

use std::time::Duration;

use mairust::testkit::{Folder, Server, ServerSetup, Sink};
use mairust::{Clock, TenantId};
use mairust::{Content, Decision, EmailAddress, PolicyEngine, PolicyError, PolicyRequest, Score, Scoring, Timestamp};
use mairust_http::trace::{PolicyFacts, TraceEvent};
use mairust_store::{EventQuery, HoldReason, ItemState, MessageQuery, QueueAction, QueueFilter};
use serde_json::Value;

const ALICE: &str = "alice@here.example";
const CAROL: &str = "carol@here.example";
const MINUTE: Duration = Duration::from_secs(60);
const LETTER: &str = "From: alice@here.example\r\nSubject: hello\r\n\r\nHello!\r\n";
const PHISHING: &str = "From: alice@here.example\r\nSubject: hello\r\n\r\nYour mailbox is almost FULL!\r\n";

fn here() -> ServerSetup {
    let scoring = |builder: mairust::ServerBuilder| {
        let mut scoring = Scoring::default();
        scoring.suspend_for = Some(Duration::from_secs(24 * 3_600));
        scoring.patterns = vec!["almost full".to_owned()];
        builder.scoring(Some(scoring))
    };
    Server::builder().user(ALICE, "correct horse").user(CAROL, "battery staple").with(scoring)
}

/// Sends to so many elsewhere, and to Carol; whether it was taken, or the answer.
async fn send(server: &Server, to: usize, letter: &str) -> String {
    let mut to: Vec<_> = (0..to).map(|number| format!("r{number}@remote.example")).collect();
    to.push(CAROL.to_owned());
    let to: Vec<_> = to.iter().map(String::as_str).collect();
    let mut replies = server.submit(ALICE, &to, letter).await.unwrap();
    let last = replies.pop().unwrap();
    assert!(replies.iter().all(|reply| reply.code() == last.code()));
    if last.is_positive() { "taken".to_owned() } else { last.to_string() }
}

async fn tenant(server: &Server) -> TenantId {
    server.storage().directory().tenants().await.unwrap()[0].id
}

/// What the timeline of what was sent last says about the policy.
async fn policy(server: &Server) -> PolicyFacts {
    let (tenant, directory) = (tenant(server).await, server.storage().directory());
    let alice = directory.user_by_address(tenant, &EmailAddress::parse(ALICE).unwrap()).await.unwrap().unwrap();
    let query = MessageQuery { mailbox: Some(alice.mailbox), limit: 1, ..MessageQuery::default() };
    let last = server.storage().messages().list(tenant, &query).await.unwrap().items.remove(0);
    let trace = mairust_http::trace::trace(&**server.storage(), tenant, last.id).await.unwrap().unwrap();
    let facts = trace.entries.into_iter().find_map(|entry| match entry.event {
        TraceEvent::Policy(facts) => Some(facts),
        _ => None,
    });
    facts.unwrap()
}

async fn events(server: &Server, kind: &str) -> Vec<Value> {
    let query = EventQuery { kinds: vec![kind.to_owned()], limit: 100, ..EventQuery::default() };
    let page = server.storage().events().list(tenant(server).await, &query).await.unwrap();
    page.items.into_iter().map(|event| event.data).collect()
}

#[tokio::test]
async fn what_looks_like_abuse_goes_slowly() {
    for setup in [here(), here().sqlite()] {
        let server = setup.start().await.unwrap();
        let remote = server.fleet().domain("remote.example", Sink::builder()).await.unwrap();
        for _ in 0..2 {
            assert_eq!(send(&server, 24, PHISHING).await, "taken");
        }
        let facts = policy(&server).await;
        assert_eq!((facts.decision.as_str(), facts.reason.as_deref(), facts.score), ("slow", Some("score"), 0.5));
        assert_eq!(facts.signals[0].name, "pattern");
        let told = events(&server, "sending.slowed").await;
        assert_eq!(told.len(), 1, "once an hour");
        assert_eq!((&told[0]["account"], &told[0]["score"]), (&Value::from(ALICE), &Value::from(0.5)));
        server.pass(10 * MINUTE - Duration::from_secs(1)).await.unwrap();
        assert_eq!((remote.messages().len(), server.inbox(CAROL).await.unwrap().len()), (0, 0));
        assert_eq!(send(&server, 1, LETTER).await, "taken", "other mail goes at once");
        remote.wait_for(1).await;
        assert_eq!(policy(&server).await.decision, "allow");
        server.pass(Duration::from_secs(1)).await.unwrap();
        server.settled().await.unwrap();
        assert_eq!((remote.messages().len(), server.inbox(CAROL).await.unwrap().len()), (2, 2));
        // Twenty recipients an hour: the first 25 take 75 minutes.
        server.pass(74 * MINUTE).await.unwrap();
        assert_eq!(remote.messages().len(), 2);
        server.pass(MINUTE).await.unwrap();
        server.settled().await.unwrap();
        assert_eq!((remote.messages().len(), server.inbox(CAROL).await.unwrap().len()), (3, 3));
    }
}

#[tokio::test]
async fn whoever_abuses_an_account_sends_nothing_more() {
    for setup in [here(), here().sqlite()] {
        let server = setup.start().await.unwrap();
        let remote = server.fleet().domain("remote.example", Sink::builder()).await.unwrap();
        let refused = "550 5.7.1 Sending is suspended for this account, please ask your administrator";
        assert_eq!(send(&server, 99, PHISHING).await, refused);
        assert_eq!(send(&server, 1, LETTER).await, refused);
        server.receive("bob@remote.example", &[ALICE], LETTER).await.unwrap();
        assert_eq!(server.inbox(ALICE).await.unwrap().len(), 1, "mail still comes in");
        let [told] = &events(&server, "sending.suspended").await[..] else { panic!("not told once") };
        assert_eq!(told["reason"], "score 0.80: recipients 1.00, pattern 1.00, burst 0.50");
        let until = server.clock().now().plus(24 * 60 * MINUTE);
        assert_eq!(told["until"], until.to_rfc3339());
        server.pass(24 * 60 * MINUTE - Duration::from_secs(1)).await.unwrap();
        assert_eq!(send(&server, 1, LETTER).await, refused);
        server.pass(Duration::from_secs(1)).await.unwrap();
        assert_eq!(send(&server, 1, LETTER).await, "taken");
        server.settled().await.unwrap();
        assert_eq!(remote.messages().len(), 1, "and nothing of what was refused");
    }
}

/// Holds what is not from a known program.
#[derive(Debug)]
struct Careful;

#[async_trait::async_trait]
impl PolicyEngine for Careful {
    async fn evaluate(&self, _: &PolicyRequest, _: Timestamp) -> Result<Decision, PolicyError> {
        Ok(Decision::Allow)
    }

    async fn score(&self, _: &PolicyRequest, content: &Content, _: Timestamp) -> Result<Score, PolicyError> {
        let known = content.header("user-agent").is_some();
        let decision = if known { Decision::Allow } else { Decision::Hold { reason: "unknown_program" } };
        Ok(Score { decision, ..Score::default() })
    }
}

#[tokio::test]
async fn what_is_held_waits_for_somebody() {
    for setup in [here(), here().sqlite()] {
        let server = setup.with(|builder| builder.policy(Careful)).start().await.unwrap();
        let remote = server.fleet().domain("remote.example", Sink::builder()).await.unwrap();
        assert_eq!(send(&server, 2, &format!("User-Agent: known\r\n{LETTER}")).await, "taken");
        server.pass(MINUTE).await.unwrap();
        assert_eq!(send(&server, 2, LETTER).await, "taken");
        assert_eq!(policy(&server).await.decision, "hold");
        server.pass(7 * 24 * 60 * MINUTE).await.unwrap();
        assert_eq!((remote.messages().len(), server.inbox(CAROL).await.unwrap().len()), (1, 1));
        let (tenant, queue) = (tenant(&server).await, server.storage().queue());
        let filter = QueueFilter { held: Some(HoldReason::Policy), ..QueueFilter::default() };
        let held = queue.items(tenant, &filter, None, 10).await.unwrap();
        let states: Vec<_> = held.iter().map(|item| item.state).collect();
        assert_eq!(states, [ItemState::Held(HoldReason::Policy); 2], "one for each domain");
        let now = server.clock().now();
        let done = queue.change(tenant, &filter, &QueueAction::Release, now, None, 10).await.unwrap();
        assert_eq!(done.changed, 2);
        server.settled().await.unwrap();
        assert_eq!((remote.messages().len(), server.inbox(CAROL).await.unwrap().len()), (2, 2));
        assert_eq!(server.folder(ALICE, Folder::Inbox).await.unwrap().len(), 0, "and nobody is told of a failure");
    }
}
