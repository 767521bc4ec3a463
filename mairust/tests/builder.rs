//! What the builder finds.

use std::sync::Arc;

use mairust::{
    DeliverySettings, ListenerConfig, Mail, MemoryStorage, ProxyProtocol, ReturnPath, Server, Service, SystemClock,
};

use crate::{TestServer, send};

fn behind_proxy() -> ListenerConfig {
    let mut listener = ListenerConfig::from(Service::Mx);
    listener.proxy_protocol = ProxyProtocol::Required;
    listener
}

#[test]
fn every_problem_is_reported_at_once() {
    let storage = MemoryStorage::new(Arc::new(SystemClock));
    let built = Server::builder("not a name", storage)
        .smtp("localhost")
        .listen(behind_proxy(), "127.0.0.1:0")
        .http("127.0.0.1:0")
        .pre_receive("same", |_: Mail| async {})
        .pre_receive("same", |_: Mail| async {})
        .build();
    let problems = built.unwrap_err().problems().join("\n");
    for part in ["not a name", "localhost", "proxies(..)", "server_key", "two hooks named \"same\""] {
        assert!(problems.contains(part), "{part} in\n{problems}");
    }
}

#[test]
fn return_paths_need_a_key() {
    let storage = MemoryStorage::new(Arc::new(SystemClock));
    let mut delivery = DeliverySettings::default();
    delivery.return_path = ReturnPath::Verp;
    let built = Server::builder("mx.example.com", storage).smtp("127.0.0.1:0").delivery(delivery).build();
    assert!(built.unwrap_err().to_string().contains("delivery.return_path needs server_key(..)"));
}

#[test]
fn a_server_that_listens_nowhere_is_a_mistake() {
    let storage = MemoryStorage::new(Arc::new(SystemClock));
    let error = Server::builder("mx.example.com", storage).build().unwrap_err();
    assert!(error.to_string().contains("listens nowhere"), "{error}");
}

#[tokio::test]
async fn two_servers_in_one_process_know_nothing_of_each_other() {
    let (first, second) = (TestServer::start(|b| b).await, TestServer::start(|b| b).await);
    send(first.smtp, &["alice@example.com"], "Subject: one\r\n\r\nx\r\n").await;
    send(second.smtp, &["alice@example.com"], "Subject: two\r\n\r\nx\r\n").await;
    assert_eq!(first.messages(|rows| !rows.is_empty()).await[0].subject.as_deref(), Some("one"));
    assert_eq!(second.messages(|rows| !rows.is_empty()).await[0].subject.as_deref(), Some("two"));
}
