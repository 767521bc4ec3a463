//! What becomes of mail while the storage fails, and that all goes on by itself when it works again.

use std::net::SocketAddr;
use std::time::Duration;

use mairust::testkit::{Mishap, Server, ServerSetup, StoreErrorKind};
use mairust::{DirectoryExt, EmailAddress, Relay, RetryPolicy, ServerKey, TenantId};
use mairust_http::{ApiKeyToken, Scope, random_key_id};
use mairust_store::{MessageRow, MessageStatus, NewAlias};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{TestServer, within};

const ALICE: &str = "alice@here.example";
const BOB: &str = "bob@sender.example";
const LEASE: Duration = Duration::from_secs(1);
const UNAVAILABLE: Mishap = Mishap::Fail(StoreErrorKind::Unavailable);
const FULL: Mishap = Mishap::Fail(StoreErrorKind::Full);
const LOST: Mishap = Mishap::LoseAnswer(StoreErrorKind::Unavailable);

/// A server with one user, `alice@here.example`, and its API.
struct UnreliableServer {
    server: Server,
    tenant: TenantId,
    key: String,
}

impl std::ops::Deref for UnreliableServer {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl UnreliableServer {
    async fn start(adjust: impl FnOnce(ServerSetup) -> ServerSetup) -> Self {
        let server_key = ServerKey::new([7; 32]);
        let (key, row) = ApiKeyToken::issue(&server_key, &random_key_id(), "tests", &Scope::ALL);
        let setup = Server::builder().user(ALICE, "correct horse");
        let setup = setup.with(move |builder| builder.http("127.0.0.1:0").server_key(server_key));
        let server = adjust(setup).start().await.unwrap();
        let directory = server.storage().directory();
        let tenant = directory.tenants().await.unwrap().remove(0).id;
        directory.create_api_key(tenant, row).await.unwrap();
        Self { server, tenant, key: key.expose().clone() }
    }

    /// The beginning of the answer to one message: its code and its enhanced code.
    async fn send(&self, to: &str, subject: &str) -> String {
        let message = format!("Subject: {subject}\r\n\r\nx\r\n");
        let replies = within(self.receive(BOB, &[to], message)).await.unwrap();
        replies[0].to_string().chars().take(9).collect()
    }

    async fn answer(&self, subject: &str) -> String {
        self.send(ALICE, subject).await
    }

    async fn subjects(&self) -> Vec<String> {
        self.inbox(ALICE).await.unwrap().into_iter().filter_map(|message| message.row.subject).collect()
    }

    /// Status and body of the answer of the API.
    async fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.key,
            body.len()
        );
        let mut stream = TcpStream::connect(self.addresses().http.unwrap()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_that_is_not_kept() {
    let server = UnreliableServer::start(|setup| setup).await;
    for (mishap, answer) in [(UNAVAILABLE, "451 4.3.0"), (FULL, "452 4.3.1")] {
        server.mishaps().always("messages.accept", mishap);
        assert_eq!(server.answer("refused").await, answer);
    }
    server.mishaps().clear();
    server.mishaps().always("directory", UNAVAILABLE);
    assert_eq!(server.answer("refused").await, "451 4.3.0");
    assert_eq!(server.subjects().await, Vec::<String>::new());
    server.mishaps().clear();
    assert_eq!(server.answer("taken").await, "250 2.0.0");
    assert_eq!(server.subjects().await, ["taken"]);
}

#[tokio::test]
async fn a_storage_that_hangs_keeps_its_sessions_waiting_and_nobody_else() {
    let server = UnreliableServer::start(|setup| setup).await;
    server.mishaps().once("messages.accept", Mishap::Hang);
    let waiting = server.answer("hangs");
    let meanwhile = async {
        server.mishaps().called("messages.accept", 1).await;
        assert_eq!(server.answer("meanwhile").await, "250 2.0.0");
        server.mishaps().clear();
    };
    assert_eq!(Box::pin(within(futures::future::join(waiting, meanwhile))).await.0, "451 4.3.0");
    assert_eq!(server.subjects().await, ["meanwhile"]);
}

#[tokio::test]
async fn a_message_whose_acceptance_was_not_confirmed_is_kept_once() {
    let server = UnreliableServer::start(|setup| setup).await;
    server.mishaps().once("messages.accept", LOST);
    assert_eq!(server.answer("twice").await, "451 4.3.0");
    // The storage has to answer before anything is said about a message that it may have.
    server.mishaps().always("lifecycle.kept", UNAVAILABLE);
    assert_eq!(server.answer("twice").await, "451 4.3.0");
    server.mishaps().clear();
    assert_eq!(server.answer("twice").await, "250 2.0.0");
    assert_eq!(server.subjects().await, ["twice"]);
    // The client has heard by now. Who sends the same again means it.
    assert_eq!(server.answer("twice").await, "250 2.0.0");
    assert_eq!(server.subjects().await, ["twice", "twice"]);
}

#[tokio::test]
async fn a_message_that_was_not_accepted_the_first_time_is_accepted_the_second() {
    let server = UnreliableServer::start(|setup| setup).await;
    server.mishaps().once("messages.accept", UNAVAILABLE);
    assert_eq!(server.answer("again").await, "451 4.3.0");
    assert_eq!(server.answer("again").await, "250 2.0.0");
    assert_eq!(server.subjects().await, ["again"]);
}

#[tokio::test]
async fn the_api_says_what_is_down() {
    let server = UnreliableServer::start(|setup| setup).await;
    let draft = r#"{"from": "alice@here.example", "to": ["alice@here.example"], "subject": "x", "text": "x"}"#;
    let list = "/api/v1/messages";
    for (call, mishap, method, path, body, code) in [
        ("messages.accept", UNAVAILABLE, "POST", "/api/v1/send", draft, "database_unavailable"),
        ("messages.accept", FULL, "POST", "/api/v1/send", draft, "storage_unavailable"),
        ("messages.list", UNAVAILABLE, "GET", list, "", "database_unavailable"),
        ("directory.api_key", UNAVAILABLE, "GET", list, "", "database_unavailable"),
        ("search_index.search", UNAVAILABLE, "GET", "/api/v1/search?q=x", "", "search_unavailable"),
    ] {
        server.mishaps().once(call, mishap);
        let (status, answer) = server.call(method, path, body).await;
        assert!(status == 503 && answer.contains(code), "{call} {mishap:?}: {answer}");
    }
    server.mishaps().always("health", UNAVAILABLE);
    assert_eq!(server.call("GET", "/health/ready", "").await.0, 503);
    assert_eq!(server.call("GET", "/health/live", "").await.0, 200);
    server.mishaps().clear();
    assert_eq!(server.subjects().await, Vec::<String>::new());
    assert_eq!(server.call("POST", "/api/v1/send", draft).await.0, 202);
    assert_eq!(server.call("GET", list, "").await.0, 200);
    assert_eq!(server.call("GET", "/health/ready", "").await.0, 200);
}

/// A server that sends mail for `out@here.example` on to `to`, by `relay`.
async fn forwarder(relay: SocketAddr, to: &str) -> UnreliableServer {
    let relay = Relay::new(relay.ip().to_string(), relay.port());
    let retry = RetryPolicy::new(Duration::from_millis(20), Duration::from_millis(40), Duration::from_secs(60));
    let server = UnreliableServer::start(|setup| {
        setup.delivery(|delivery| (delivery.relay, delivery.lease, delivery.retry) = (Some(relay), LEASE, retry))
    })
    .await;
    let address = |text| EmailAddress::parse(text).unwrap();
    let new = NewAlias { address: address("out@here.example"), targets: vec![address(to)] };
    server.storage().directory().create_alias(server.tenant, new).await.unwrap();
    server
}

#[tokio::test]
async fn deliveries_go_on_when_the_queue_answers_again() {
    let remote = TestServer::start(|builder| builder).await;
    let server = forwarder(remote.smtp, "alice@example.com").await;
    server.mishaps().always("queue", UNAVAILABLE);
    let before = server.mishaps().calls("queue.lease_within");
    assert_eq!(server.send("out@here.example", "waits").await, "250 2.0.0");
    within(server.mishaps().called("queue.lease_within", before + 2)).await;
    assert!(remote.messages(|_| true).await.is_empty());
    server.mishaps().clear();
    remote.messages(|rows| rows.len() == 1).await;
}

#[tokio::test]
async fn who_was_reached_is_not_sent_to_again_when_the_record_of_it_was_not_confirmed() {
    let remote = TestServer::start(|builder| builder).await;
    let server = forwarder(remote.smtp, "alice@example.com").await;
    // The job waits until the mishap is planned.
    server.mishaps().always("queue.lease_within", UNAVAILABLE);
    assert_eq!(server.send("out@here.example", "once").await, "250 2.0.0");
    let accepted = server.mishaps().calls("messages.accept");
    server.mishaps().clear();
    // First it is recorded that the attempt begins.
    server.mishaps().once_after(1, "messages.accept", LOST);
    within(server.mishaps().called("messages.accept", accepted + 3)).await;
    let is_sent = |rows: &[MessageRow]| rows.iter().any(|row| row.status == MessageStatus::Sent);
    crate::messages(&**server.storage(), server.tenant, is_sent).await;
    // A lease that was left behind would end, and the job be done again.
    server.clock().advance(LEASE);
    let is_done = || async { server.storage().queue().next_due().await.is_ok_and(|due| due.is_none()) };
    within(server.mishaps().until(is_done)).await;
    assert_eq!(remote.messages(|rows| !rows.is_empty()).await.len(), 1);
}

#[tokio::test]
async fn a_failure_is_told_once_when_the_record_of_it_was_not_confirmed() {
    let remote = TestServer::start(|builder| builder).await;
    // Bob, who sends it, has his mailbox here, so that the notice comes to it.
    let server = forwarder(remote.smtp, "nobody@example.com").await;
    server.storage().directory().ensure_user(BOB, "correct horse").await.unwrap();
    server.mishaps().always("queue.lease_within", UNAVAILABLE);
    assert_eq!(server.send("out@here.example", "bounces").await, "250 2.0.0");
    let accepted = server.mishaps().calls("messages.accept");
    server.mishaps().clear();
    server.mishaps().once("messages.accept", LOST);
    within(server.mishaps().called("messages.accept", accepted + 2)).await;
    let rows = crate::messages(&**server.storage(), server.tenant, |rows| rows.len() >= 2).await;
    assert_eq!(rows.len(), 2, "{rows:#?}");
    assert!(rows.iter().any(|row| row.status == MessageStatus::Failed));
}
