//! What happens after 250.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use mairust::{Answer, DeliverySettings, EmailAddress, Mail, Resolver, RetryPolicy, StorageBackend};
use mairust_smtp::dns::{MxHost, ResolveError, SrvHost};
use mairust_store::{DeliveryState, MessageStatus, NewAlias};

use crate::TestServer;

#[tokio::test]
async fn a_post_receive_hook_puts_tags_on_a_stored_message() {
    let server = TestServer::start(|builder| {
        builder.post_receive("tagger", |mail: Mail| async move {
            assert!(mail.id().is_some(), "the message is stored");
            let name = mail.header("x-kind").unwrap_or("none").to_owned();
            Answer::allow().tag(format!("kind:{name}"))
        })
    })
    .await;
    server.send(&["alice@example.com"], "Subject: x\r\nX-Kind: invoice\r\n\r\nx\r\n").await;
    let rows = server.messages(|rows| rows.iter().any(|row| !row.tags.is_empty())).await;
    assert_eq!(rows[0].tags, ["kind:invoice"]);
}

#[tokio::test]
async fn a_job_for_each_hook_and_a_panic_harms_nobody_else() {
    let calls = Arc::new(AtomicU32::new(0));
    let counter = calls.clone();
    let server = TestServer::start(|builder| {
        builder
            .post_receive("a-panics", move |_: Mail| {
                counter.fetch_add(1, Ordering::SeqCst);
                async { if std::hint::black_box(true) { panic!("on purpose") } else { Answer::allow() } }
            })
            .post_receive("b-tags", |_: Mail| async { Answer::allow().tag("done") })
    })
    .await;
    server.send(&["alice@example.com"], "Subject: x\r\n\r\nx\r\n").await;
    let rows = server.messages(|rows| rows.iter().any(|row| !row.tags.is_empty())).await;
    assert_eq!(rows[0].tags, ["done"]);
    assert!(calls.load(Ordering::SeqCst) <= 1, "a failed hook is called again later, not at once");
}

#[tokio::test]
async fn a_slow_start_comes_to_all_jobs() {
    let mut delivery = DeliverySettings::default();
    delivery.ramp_up = 1;
    let tag = |name: &'static str| move |_: Mail| async move { Answer::allow().tag(name) };
    let server = TestServer::start(|builder| {
        let builder = builder.delivery(delivery).post_receive("a", tag("a"));
        builder.post_receive("b", tag("b")).post_receive("c", tag("c"))
    })
    .await;
    server.send(&["alice@example.com"], "Subject: x\r\n\r\nx\r\n").await;
    let rows = server.messages(|rows| rows.iter().any(|row| row.tags.len() == 3)).await;
    assert_eq!(rows[0].tags, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_delivery_that_panics_is_tried_again_and_given_up_in_the_end() {
    let mut delivery = DeliverySettings::default();
    delivery.retry = RetryPolicy::new(Duration::from_millis(20), Duration::from_millis(40), Duration::from_millis(300));
    let resolver = Arc::new(PanickingResolver::default());
    let asked = resolver.clone();
    let server = TestServer::start(|builder| builder.delivery(delivery).resolver(resolver)).await;
    let address = |text| EmailAddress::parse(text).unwrap();
    let new = NewAlias { address: address("out@example.com"), targets: vec![address("carol@remote.example")] };
    server.storage.directory().create_alias(server.tenant, new).await.unwrap();
    server.send(&["out@example.com"], "Subject: x\r\n\r\nx\r\n").await;
    let rows = server.messages(|rows| rows.iter().any(|row| row.status == MessageStatus::Failed)).await;
    let failed = rows.iter().find(|row| row.status == MessageStatus::Failed).unwrap();
    let recipients = server.storage.deliveries().recipients(server.tenant, failed.id).await.unwrap();
    assert_eq!(recipients[0].state, DeliveryState::Bounced);
    assert_eq!(recipients[0].last_result.as_deref(), Some("given up after repeated faults of our system"));
    assert!(asked.0.load(Ordering::SeqCst) > 1, "it is tried again");
}

/// Panics whenever it is asked.
#[derive(Debug, Default)]
struct PanickingResolver(AtomicU32);

impl PanickingResolver {
    fn fail<T>(&self) -> Result<T, ResolveError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        if std::hint::black_box(true) { panic!("on purpose") } else { Err(ResolveError::NotFound) }
    }
}

#[async_trait]
impl Resolver for PanickingResolver {
    async fn mx(&self, _: &str) -> Result<Vec<MxHost>, ResolveError> {
        self.fail()
    }
    async fn ipv4(&self, _: &str) -> Result<Vec<Ipv4Addr>, ResolveError> {
        self.fail()
    }
    async fn ipv6(&self, _: &str) -> Result<Vec<Ipv6Addr>, ResolveError> {
        self.fail()
    }
    async fn txt(&self, _: &str) -> Result<Vec<Vec<u8>>, ResolveError> {
        self.fail()
    }
    async fn srv(&self, _: &str) -> Result<Vec<SrvHost>, ResolveError> {
        self.fail()
    }
    async fn names(&self, _: IpAddr) -> Result<Vec<String>, ResolveError> {
        self.fail()
    }
}
