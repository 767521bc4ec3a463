//! Requests to programs elsewhere: webhooks, hooks, and the policies of other domains.
//!
//! In reading order: [`HttpClient`] (whom a request may reach), `dial` (one connection), `connection` (one request and
//! its answer), `answer` (what the fields of an answer say).
//!
//! Deliberately absent: redirects, proxies, cookies, HTTP/2. The address that was checked is the one that is connected
//! to, so that no other answer of DNS leads elsewhere.

mod answer;
mod connection;
mod dial;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mairust_hooks::{EndpointHost, EndpointUrl, EndpointUrlError};
use mairust_smtp::dns::{ResolveError, Resolver};
use mairust_smtp::tls::Roots;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;

pub(crate) use self::answer::{media_type, retry_after};
pub(crate) use self::connection::{Connection, SendError};
pub(crate) use self::dial::{DialError, dial};

/// Time to connect to one address, where nobody waits.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);

/// Connects to programs elsewhere, with the DNS and the authorities of deliveries. Cheap to clone.
#[derive(Clone)]
pub struct HttpClient {
    resolver: Arc<dyn Resolver>,
    tls: TlsConnector,
}

/// Why there is no connection to the host of a URL.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// No address answers.
    #[error(transparent)]
    Dial(DialError),
    /// Nobody speaks HTTP there.
    #[error(transparent)]
    Http(hyper::Error),
    /// The name is no name of a host.
    #[error("the host has no name that a certificate could be for")]
    Name,
    /// The host has no address, or none that may be reached.
    #[error("the host has no address that may be reached")]
    Nowhere,
    /// DNS does not know the host.
    #[error(transparent)]
    Resolve(ResolveError),
    /// Its certificate is not believed, or it speaks no TLS.
    #[error(transparent)]
    Tls(io::Error),
    /// The URL must not be asked.
    #[error(transparent)]
    Url(EndpointUrlError),
}

impl HttpClient {
    /// A client that believes these authorities and asks this resolver.
    pub fn new(roots: &Roots, resolver: Arc<dyn Resolver>) -> Self {
        Self { resolver, tls: TlsConnector::from(roots.client_config()) }
    }

    /// Connects to the host of a URL, at an address that may be reached. `patience` says how long each address is
    /// given.
    ///
    /// # Errors
    /// When none may be reached, or none answers.
    pub(crate) async fn connect(
        &self,
        url: &EndpointUrl,
        allow_private: bool,
        patience: impl Fn(IpAddr) -> Duration,
    ) -> Result<Connection, ConnectError> {
        url.check(allow_private).map_err(ConnectError::Url)?;
        let addresses = self.addresses(url, allow_private).await?;
        let stream = dial(addresses, url.port(), patience).await.map_err(ConnectError::Dial)?;
        if !url.is_secure() {
            return Connection::over(stream).await.map_err(ConnectError::Http);
        }
        let name = match url.host() {
            EndpointHost::Address(address) => ServerName::from(*address),
            EndpointHost::Name(name) => ServerName::try_from(name.clone()).map_err(|_| ConnectError::Name)?,
        };
        let stream = self.tls.connect(name, stream).await.map_err(ConnectError::Tls)?;
        Connection::over(stream).await.map_err(ConnectError::Http)
    }

    /// The addresses that a request may go to; at least one.
    async fn addresses(&self, url: &EndpointUrl, allow_private: bool) -> Result<Vec<IpAddr>, ConnectError> {
        let mut found = match url.host() {
            EndpointHost::Address(address) => vec![*address],
            EndpointHost::Name(name) => self.resolver.addresses(name).await.map_err(ConnectError::Resolve)?,
        };
        found.retain(|address| url.may_reach(*address, allow_private));
        if found.is_empty() { Err(ConnectError::Nowhere) } else { Ok(found) }
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}
