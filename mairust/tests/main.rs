//! Whole servers in this process, put together by the builder, with mail sent over TCP.
#![expect(clippy::unwrap_used, reason = "these are tests; clippy knows only functions marked as such")]

mod authentication;
mod builder;
mod callbacks;
mod deliver;
mod hang_up;
mod hooks;
mod http_hooks;
mod internal;
mod policy;
mod process;
mod queue;
mod receive;
mod receiver;
mod recipients;
mod returns;
mod scan;
mod scheduled;
mod score;
mod tenants;
mod trace;
mod unreliable;
mod webhooks;
mod work;

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use mairust::{
    Body, DirectoryExt, Domain, EmailAddress, MemoryStorage, MessageQuery, ReversePath, Server, ServerBuilder, Service,
    StorageBackend, SystemClock, TenantId,
};
use mairust_smtp::client::{Client, ClientConfig, FakeResolver, Outgoing, RecipientReport, Relay, Route};
use mairust_store::MessageRow;

/// A server with one user, `alice@example.com`, in memory.
struct TestServer {
    storage: Arc<MemoryStorage>,
    smtp: SocketAddr,
    tenant: TenantId,
}

impl TestServer {
    /// Starts what `adjust` makes of a builder. It ends with the runtime of the test.
    async fn start(adjust: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        let storage = Arc::new(MemoryStorage::new(Arc::new(SystemClock)));
        let tenant = storage.directory().ensure_user("alice@example.com", "correct horse").await.unwrap().tenant;
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let smtp = socket.local_addr().unwrap();
        let builder = Server::builder("mx.example.com", storage.clone()).listen_on(Service::Mx, socket);
        let running = adjust(builder).build().unwrap().start().await.unwrap();
        tokio::spawn(running.run_until(std::future::pending()));
        Self { storage, smtp, tenant }
    }

    async fn send(&self, to: &[&str], message: &str) -> Vec<RecipientReport> {
        send(self.smtp, to, message).await
    }

    /// The messages of the first tenant, once `wanted` holds for them.
    async fn messages(&self, wanted: impl Fn(&[MessageRow]) -> bool) -> Vec<MessageRow> {
        messages(&self.storage, self.tenant, wanted).await
    }
}

async fn send(server: SocketAddr, to: &[&str], message: &str) -> Vec<RecipientReport> {
    send_from("bob@sender.example", server, to, message).await
}

async fn send_from(sender: &str, server: SocketAddr, to: &[&str], message: &str) -> Vec<RecipientReport> {
    let mut config = ClientConfig::new(Domain::parse("sender.example").unwrap());
    // With QUIT, the server knows that its answer was heard.
    config.idle_time = std::time::Duration::ZERO;
    let client = Client::new(config, Arc::new(FakeResolver::new()));
    let route = Route::Relay(Relay::new(server.ip().to_string(), server.port()));
    let sender = ReversePath::Address(EmailAddress::parse(sender).unwrap());
    let recipients = to.iter().map(|address| EmailAddress::parse(address).unwrap());
    let outgoing = Outgoing::new(sender, recipients, Body::from(message.as_bytes().to_vec()));
    within(client.deliver(&route, &outgoing, &())).await
}

/// A test that hangs is to fail with its name, not with the whole run.
/// The messages of a tenant, once they are as `wanted`.
async fn messages(
    storage: &dyn StorageBackend,
    tenant: TenantId,
    wanted: impl Fn(&[MessageRow]) -> bool,
) -> Vec<MessageRow> {
    let (store, query) = (storage.messages(), MessageQuery { limit: 100, ..MessageQuery::default() });
    within(async {
        loop {
            let seen = store.version(tenant);
            let rows = store.list(tenant, &query).await.unwrap().items;
            if wanted(&rows) {
                return rows;
            }
            store.changed(tenant, seen).await;
        }
    })
    .await
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(30), future).await.expect("it should not take that long")
}
