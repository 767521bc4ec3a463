//! One request to a webhook.
//!
//! Deliberately absent: redirects, proxies, cookies, a pool of connections. The address that was checked is the one
//! that is connected to, so that no other answer of DNS leads elsewhere.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use mairust_core::Timestamp;
use mairust_hooks::{RequestSignature, WebhookHost, WebhookUrl};
use mairust_smtp::dns::Resolver;
use mairust_smtp::tls::Roots;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::dial::dial;
use crate::error::chain;

/// Time until the head of the answer is there.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Time for what is kept of its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// So much of the body of an answer is read and kept, in octets.
const KEPT: usize = 1_024;

/// Posts to webhooks, with the DNS and the authorities of deliveries.
pub(crate) struct WebhookClient {
    resolver: Arc<dyn Resolver>,
    tls: TlsConnector,
    allow_private: bool,
}

/// What is posted.
pub(crate) struct Post<'a> {
    pub(crate) url: &'a WebhookUrl,
    /// The same however often it is tried.
    pub(crate) request_id: &'a str,
    /// Counted from 1.
    pub(crate) attempt: u32,
    pub(crate) signature: &'a RequestSignature,
    pub(crate) body: Vec<u8>,
}

/// What a webhook answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// When it wants to be asked again.
    pub(crate) retry_after: Option<Duration>,
    /// The beginning of the body, as text.
    pub(crate) text: String,
}

impl WebhookClient {
    pub(super) fn new(roots: &Roots, resolver: Arc<dyn Resolver>, allow_private: bool) -> Self {
        Self { resolver, tls: TlsConnector::from(roots.client_config()), allow_private }
    }

    /// Posts, and waits for the answer; `now` is what it makes of times in it.
    ///
    /// # Errors
    /// Why there was none, for people.
    pub(crate) async fn post(&self, post: Post<'_>, now: Timestamp) -> Result<Answer, String> {
        let posted = Box::pin(timeout(TIMEOUT, self.try_post(post))).await;
        let mut head = posted.map_err(|_| format!("not answered within {} s", TIMEOUT.as_secs()))??;
        let (status, retry_after) = (head.response.status().as_u16(), retry_after(head.response.headers(), now));
        Ok(Answer { status, retry_after, text: beginning(head.response.body_mut()).await })
    }

    async fn try_post(&self, post: Post<'_>) -> Result<Head, String> {
        let url = post.url;
        url.check(self.allow_private).map_err(|error| error.to_string())?;
        let stream = dial(self.addresses(url).await?, url.port(), self.nowhere(url)).await?;
        let request = post.request().map_err(|error| chain(&error))?;
        if !url.is_secure() {
            return exchange(stream, request).await;
        }
        let name = match url.host() {
            WebhookHost::Address(address) => ServerName::from(*address),
            WebhookHost::Name(name) => ServerName::try_from(name.clone()).map_err(|error| chain(&error))?,
        };
        let stream = self.tls.connect(name, stream).await.map_err(|error| chain(&error))?;
        exchange(stream, request).await
    }

    /// The addresses that a request may go to.
    async fn addresses(&self, url: &WebhookUrl) -> Result<Vec<IpAddr>, String> {
        let found = match url.host() {
            WebhookHost::Address(address) => vec![*address],
            WebhookHost::Name(name) => self.resolver.addresses(name).await.map_err(|error| chain(&error))?,
        };
        Ok(found.into_iter().filter(|address| url.may_reach(*address, self.allow_private)).collect())
    }

    fn nowhere(&self, url: &WebhookUrl) -> String {
        let host = url.host();
        match (self.allow_private, url.is_secure()) {
            (false, _) => {
                format!("{host} has no public address; for private ones set webhooks.allow_private_addresses")
            }
            (true, false) => format!("{host} has no private address, and http is for these only; write https://"),
            (true, true) => format!("{host} has no address"),
        }
    }
}

impl Post<'_> {
    fn request(self) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let signature = self.signature;
        Request::post(self.url.target())
            .header(HOST, self.url.authority())
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            .header(USER_AGENT, concat!("MaiRust/", env!("CARGO_PKG_VERSION"), " (webhook)"))
            .header("webhook-id", self.request_id)
            .header("webhook-timestamp", &signature.timestamp)
            .header("webhook-signature", &signature.standard)
            .header("x-mairust-request-id", self.request_id)
            .header("x-mairust-timestamp", &signature.timestamp)
            .header("x-mairust-signature", &signature.hex)
            .header("x-mairust-attempt", self.attempt)
            .body(Full::from(self.body))
    }
}

/// The head of an answer, and the connection, which ends with it.
struct Head {
    response: Response<Incoming>,
    _connection: JoinSet<hyper::Result<()>>,
}

/// Sends a request, and waits for the head of the answer.
async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Head, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| chain(&error))?;
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let response = sender.send_request(request).await.map_err(|error| chain(&error))?;
    Ok(Head { response, _connection: connections })
}

/// The beginning of a body. The status has decided already: what breaks off or takes too long is as long as it is.
async fn beginning(body: &mut Incoming) -> String {
    let mut kept = Vec::new();
    let reading = async {
        while kept.len() < KEPT
            && let Some(Ok(frame)) = body.frame().await
        {
            kept.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        }
    };
    let _ = timeout(BODY_TIMEOUT, reading).await;
    kept.truncate(KEPT);
    readable(kept)
}

/// Text up to where it was cut off; octets that are no text are escaped, so that none is lost.
fn readable(mut octets: Vec<u8>) -> String {
    // UTF-8 that ends within a character says so, and is not called wrong.
    if let Err(error) = str::from_utf8(&octets)
        && error.error_len().is_none()
    {
        octets.truncate(error.valid_up_to());
    }
    String::from_utf8(octets).unwrap_or_else(|error| error.as_bytes().escape_ascii().to_string())
}

/// RFC 9110 §10.2.3: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = mail_parser::DateTime::parse_rfc822(value)?;
    Some(Timestamp::from_unix(date.to_timestamp()).since(now))
}

impl fmt::Debug for WebhookClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookClient").field("allow_private", &self.allow_private).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_answered() {
        assert_eq!(readable("はい".into()), "はい");
        assert_eq!(readable("はい".as_bytes()[..5].to_vec()), "は");
        assert_eq!(readable(b"no \xff\n".to_vec()), r"no \xff\n");
    }

    #[test]
    fn reads_when_to_come_again() {
        let now = Timestamp::from_unix(784_111_777);
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(read("Sun, 06 Nov 1994 08:48:37 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
