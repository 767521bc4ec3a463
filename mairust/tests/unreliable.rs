//! What becomes of mail while the storage fails, and that all goes on by itself when it works again.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use mairust::{
    DeliverySettings, DirectoryExt, EmailAddress, MemoryStorage, Relay, RetryPolicy, Server, ServerBuilder, ServerKey,
    Service, StorageBackend, SystemClock, TenantId,
};
use mairust_http::{ApiKeyToken, Scope, random_key_id};
use mairust_smtp::client::{Outcome, RecipientReport};
use mairust_store::{
    MessageQuery, MessageRow, MessageStatus, Mishap, Mishaps, NewAlias, StoreErrorKind, UnreliableStorage,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{TestServer, send, within};

const ALICE: &[&str] = &["alice@here.example"];
const UNAVAILABLE: Mishap = Mishap::Fail(StoreErrorKind::Unavailable);
const FULL: Mishap = Mishap::Fail(StoreErrorKind::Full);
const LOST: Mishap = Mishap::LoseAnswer(StoreErrorKind::Unavailable);

/// A server with one user, `alice@here.example`, whose storage fails on demand.
struct UnreliableServer {
    mishaps: Mishaps,
    storage: Arc<MemoryStorage>,
    tenant: TenantId,
    smtp: SocketAddr,
    http: SocketAddr,
    key: String,
}

impl UnreliableServer {
    async fn start(adjust: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        let (storage, mishaps) = (Arc::new(MemoryStorage::new(Arc::new(SystemClock))), Mishaps::new());
        let tenant = storage.directory().ensure_user(ALICE[0], "correct horse").await.unwrap().tenant;
        let server_key = ServerKey::new([7; 32]);
        let (key, row) = ApiKeyToken::issue(&server_key, &random_key_id(), "tests", &Scope::ALL);
        storage.directory().create_api_key(tenant, row).await.unwrap();
        let socket = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (smtp, http) = (socket(), socket());
        let (smtp_address, http_address) = (smtp.local_addr().unwrap(), http.local_addr().unwrap());
        let builder = Server::builder("mx.here.example", UnreliableStorage::new(storage.clone(), mishaps.clone()))
            .listen_on(Service::Mx, smtp)
            .http_on(http)
            .server_key(server_key);
        let running = adjust(builder).build().unwrap().start().await.unwrap();
        tokio::spawn(running.run_until(std::future::pending()));
        Self { mishaps, storage, tenant, smtp: smtp_address, http: http_address, key: key.expose().clone() }
    }

    async fn send(&self, to: &[&str], subject: &str) -> RecipientReport {
        send(self.smtp, to, &format!("Subject: {subject}\r\n\r\nx\r\n")).await.remove(0)
    }

    /// The beginnings of the answers to one message: its code and its enhanced code.
    async fn answer(&self, subject: &str) -> String {
        self.send(ALICE, subject).await.detail.chars().take(9).collect()
    }

    async fn rows(&self) -> Vec<MessageRow> {
        let query = MessageQuery { limit: 100, ..MessageQuery::default() };
        self.storage.messages().list(self.tenant, &query).await.unwrap().items
    }

    async fn subjects(&self) -> Vec<String> {
        self.rows().await.into_iter().filter_map(|row| row.subject).collect()
    }

    /// Status and body of the answer of the API.
    async fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.key,
            body.len()
        );
        let mut stream = TcpStream::connect(self.http).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_that_is_not_kept() {
    let server = UnreliableServer::start(|builder| builder).await;
    for (mishap, answer) in [(UNAVAILABLE, "451 4.3.0"), (FULL, "452 4.3.1")] {
        server.mishaps.always("messages.accept", mishap);
        assert_eq!(server.answer("refused").await, answer);
    }
    server.mishaps.clear();
    server.mishaps.always("directory", UNAVAILABLE);
    assert_eq!(server.answer("refused").await, "451 4.3.0");
    assert_eq!(server.subjects().await, Vec::<String>::new());
    server.mishaps.clear();
    assert_eq!(server.answer("taken").await, "250 2.0.0");
    assert_eq!(server.subjects().await, ["taken"]);
}

#[tokio::test]
async fn a_storage_that_hangs_keeps_its_sessions_waiting_and_nobody_else() {
    let server = UnreliableServer::start(|builder| builder).await;
    server.mishaps.once("messages.accept", Mishap::Hang);
    let waiting = server.answer("hangs");
    let meanwhile = async {
        while server.mishaps.calls("messages.accept") == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(server.answer("meanwhile").await, "250 2.0.0");
        server.mishaps.clear();
    };
    assert_eq!(Box::pin(within(futures::future::join(waiting, meanwhile))).await.0, "451 4.3.0");
    assert_eq!(server.subjects().await, ["meanwhile"]);
}

#[tokio::test]
async fn a_message_whose_acceptance_was_not_confirmed_is_kept_once() {
    let server = UnreliableServer::start(|builder| builder).await;
    server.mishaps.once("messages.accept", LOST);
    assert_eq!(server.answer("twice").await, "451 4.3.0");
    // The storage has to answer before anything is said about a message that it may have.
    server.mishaps.always("lifecycle.kept", UNAVAILABLE);
    assert_eq!(server.answer("twice").await, "451 4.3.0");
    server.mishaps.clear();
    assert_eq!(server.answer("twice").await, "250 2.0.0");
    assert_eq!(server.subjects().await, ["twice"]);
    // The client has heard by now. Who sends the same again means it.
    assert_eq!(server.answer("twice").await, "250 2.0.0");
    assert_eq!(server.subjects().await, ["twice", "twice"]);
}

#[tokio::test]
async fn a_message_that_was_not_accepted_the_first_time_is_accepted_the_second() {
    let server = UnreliableServer::start(|builder| builder).await;
    server.mishaps.once("messages.accept", UNAVAILABLE);
    assert_eq!(server.answer("again").await, "451 4.3.0");
    assert_eq!(server.answer("again").await, "250 2.0.0");
    assert_eq!(server.subjects().await, ["again"]);
}

#[tokio::test]
async fn the_api_says_what_is_down() {
    let server = UnreliableServer::start(|builder| builder).await;
    let draft = r#"{"from": "alice@here.example", "to": ["alice@here.example"], "subject": "x", "text": "x"}"#;
    let list = "/api/v1/messages";
    for (call, mishap, method, path, body, code) in [
        ("messages.accept", UNAVAILABLE, "POST", "/api/v1/send", draft, "database_unavailable"),
        ("messages.accept", FULL, "POST", "/api/v1/send", draft, "storage_unavailable"),
        ("messages.list", UNAVAILABLE, "GET", list, "", "database_unavailable"),
        ("directory.api_key", UNAVAILABLE, "GET", list, "", "database_unavailable"),
        ("search_index.search", UNAVAILABLE, "GET", "/api/v1/search?q=x", "", "search_unavailable"),
    ] {
        server.mishaps.once(call, mishap);
        let (status, answer) = server.call(method, path, body).await;
        assert!(status == 503 && answer.contains(code), "{call} {mishap:?}: {answer}");
    }
    server.mishaps.always("health", UNAVAILABLE);
    assert_eq!(server.call("GET", "/health/ready", "").await.0, 503);
    assert_eq!(server.call("GET", "/health/live", "").await.0, 200);
    server.mishaps.clear();
    assert_eq!(server.subjects().await, Vec::<String>::new());
    assert_eq!(server.call("POST", "/api/v1/send", draft).await.0, 202);
    assert_eq!(server.call("GET", list, "").await.0, 200);
    assert_eq!(server.call("GET", "/health/ready", "").await.0, 200);
}

/// A server that sends mail for `out@here.example` on to `to`, by `relay`.
async fn forwarder(relay: SocketAddr, to: &str) -> UnreliableServer {
    let mut delivery = DeliverySettings::default();
    delivery.relay = Some(Relay::new(relay.ip().to_string(), relay.port()));
    delivery.lease = Duration::from_secs(1);
    delivery.retry = RetryPolicy::new(Duration::from_millis(20), Duration::from_millis(40), Duration::from_secs(60));
    let server = UnreliableServer::start(|builder| builder.delivery(delivery)).await;
    let address = |text| EmailAddress::parse(text).unwrap();
    let new = NewAlias { address: address("out@here.example"), targets: vec![address(to)] };
    server.storage.directory().create_alias(server.tenant, new).await.unwrap();
    server
}

#[tokio::test]
async fn deliveries_go_on_when_the_queue_answers_again() {
    let remote = TestServer::start(|builder| builder).await;
    let server = forwarder(remote.smtp, "alice@example.com").await;
    server.mishaps.always("queue", UNAVAILABLE);
    let before = server.mishaps.calls("queue.lease");
    assert_eq!(server.send(&["out@here.example"], "waits").await.outcome, Outcome::Delivered);
    within(server.mishaps.called("queue.lease", before + 2)).await;
    assert!(remote.messages(|_| true).await.is_empty());
    server.mishaps.clear();
    remote.messages(|rows| rows.len() == 1).await;
}

#[tokio::test]
async fn who_was_reached_is_not_sent_to_again_when_the_record_of_it_was_not_confirmed() {
    let remote = TestServer::start(|builder| builder).await;
    let server = forwarder(remote.smtp, "alice@example.com").await;
    // The job waits until the mishap is planned.
    server.mishaps.always("queue.lease", UNAVAILABLE);
    assert_eq!(server.send(&["out@here.example"], "once").await.outcome, Outcome::Delivered);
    let accepted = server.mishaps.calls("messages.accept");
    server.mishaps.clear();
    server.mishaps.once("messages.accept", LOST);
    server.mishaps.once("queue.complete", UNAVAILABLE);
    within(server.mishaps.called("messages.accept", accepted + 2)).await;
    // The lease has ended, and the job was looked at once more.
    within(server.mishaps.called("queue.complete", 2)).await;
    let is_sent = |rows: &[MessageRow]| rows.iter().any(|row| row.status == MessageStatus::Sent);
    crate::messages(&*server.storage, server.tenant, is_sent).await;
    assert_eq!(remote.messages(|rows| !rows.is_empty()).await.len(), 1);
}

#[tokio::test]
async fn a_failure_is_told_once_when_the_record_of_it_was_not_confirmed() {
    let remote = TestServer::start(|builder| builder).await;
    // Bob, who sends it, has his mailbox here, so that the notice comes to it.
    let server = forwarder(remote.smtp, "nobody@example.com").await;
    server.storage.directory().ensure_user("bob@sender.example", "correct horse").await.unwrap();
    server.mishaps.always("queue.lease", UNAVAILABLE);
    assert_eq!(server.send(&["out@here.example"], "bounces").await.outcome, Outcome::Delivered);
    let accepted = server.mishaps.calls("messages.accept");
    server.mishaps.clear();
    server.mishaps.once("messages.accept", LOST);
    within(server.mishaps.called("messages.accept", accepted + 2)).await;
    let rows = crate::messages(&*server.storage, server.tenant, |rows| rows.len() >= 2).await;
    assert_eq!(rows.len(), 2, "{rows:#?}");
    assert!(rows.iter().any(|row| row.status == MessageStatus::Failed));
}
