//! Fetches MTA-STS policies over HTTPS (RFC 8461 §3.3).
//!
//! Deliberately absent: redirects, proxies, a pool of connections: a policy is fetched once in days.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use mairust_core::{Domain, is_this_machine};
use mairust_smtp::client::PolicyFetcher;
use mairust_smtp::dns::Resolver;
use mairust_smtp::tls::Roots;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::outgoing_http::{CONNECT_TIMEOUT, Connection, DialError, dial, media_type};
use crate::work::DeliverySettings;

/// The longest policy that is read.
const MAX_LENGTH: usize = 64 << 10;

/// Time for all of it (RFC 8461 §3.3 suggests a minute; a delivery waits for it).
const TIMEOUT: Duration = Duration::from_secs(30);

/// Fetches policies with the DNS and the authorities of deliveries.
pub(crate) struct HttpsPolicies {
    resolver: Arc<dyn Resolver>,
    tls: TlsConnector,
    port: u16,
    allow_loopback: bool,
}

impl HttpsPolicies {
    pub(crate) fn new(settings: &DeliverySettings, roots: &Roots, resolver: Arc<dyn Resolver>) -> Self {
        let (port, allow_loopback) = (settings.mta_sts_port, settings.allow_loopback);
        Self { resolver, tls: TlsConnector::from(roots.client_config()), port, allow_loopback }
    }

    async fn get(&self, domain: &Domain) -> Result<Vec<u8>, String> {
        let host = format!("mta-sts.{domain}");
        // Ends with this call, however the call ends.
        let mut connection = Connection::over(self.connect(&host).await?).await.map_err(|error| text(&error))?;
        let authority = if self.port == 443 { host } else { format!("{host}:{}", self.port) };
        let request = Request::get("/.well-known/mta-sts.txt")
            .header(HOST, authority)
            .header(ACCEPT, "text/plain")
            .header(USER_AGENT, concat!("MaiRust/", env!("CARGO_PKG_VERSION")))
            .body(Full::default())
            .map_err(|error| text(&error))?;
        read(connection.send(request).await.map_err(|failed| text(&failed.error))?).await
    }

    async fn connect(&self, host: &str) -> Result<TlsStream<TcpStream>, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| text(&error))?;
        let found = self.resolver.addresses(host).await.map_err(|error| text(&error))?;
        let usable = found.into_iter().filter(|address| self.allow_loopback || !is_this_machine(*address));
        let stream = dial(usable, self.port, |_| CONNECT_TIMEOUT).await.map_err(|error| match error {
            DialError::Nowhere => format!("{host} has no address that other hosts could use"),
            other => other.to_string(),
        })?;
        self.tls.connect(name, stream).await.map_err(|error| text(&error))
    }
}

#[async_trait]
impl PolicyFetcher for HttpsPolicies {
    async fn fetch(&self, domain: &Domain) -> Result<Vec<u8>, String> {
        let got = Box::pin(timeout(TIMEOUT, self.get(domain))).await;
        got.map_err(|_| format!("not answered within {} s", TIMEOUT.as_secs()))?
    }
}

impl fmt::Debug for HttpsPolicies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsPolicies").field("port", &self.port).finish_non_exhaustive()
    }
}

/// RFC 8461 §3.3: anything but 200 is no policy, redirects included.
async fn read(response: Response<Incoming>) -> Result<Vec<u8>, String> {
    if response.status() != StatusCode::OK {
        return Err(format!("the answer is {}", response.status()));
    }
    let media_type = media_type(response.headers());
    if !media_type.eq_ignore_ascii_case("text/plain") {
        return Err(format!("the answer is of the type {media_type:?}, not text/plain"));
    }
    let body = Limited::new(response.into_body(), MAX_LENGTH).collect().await;
    Ok(body.map_err(|error| error.to_string())?.to_bytes().to_vec())
}

fn text(error: &(dyn std::error::Error + 'static)) -> String {
    crate::error::chain(error)
}
