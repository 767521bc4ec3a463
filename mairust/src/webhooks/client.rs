//! One request to a webhook.
//!
//! Deliberately absent: connections that are kept. A webhook is seldom told two things at a time.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, Response};
use mairust_core::Timestamp;
use mairust_hooks::{EndpointUrl, RequestSignature};
use tokio::time::timeout;

use crate::error::chain;
use crate::outgoing_http::{CONNECT_TIMEOUT, ConnectError, Connection, HttpClient, retry_after};

/// Time until the head of the answer is there.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Time for what is kept of its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// So much of the body of an answer is read and kept, in octets.
const KEPT: usize = 1_024;

/// Posts to webhooks.
#[derive(Debug)]
pub(crate) struct WebhookClient {
    http: HttpClient,
    allow_private: bool,
}

/// What is posted.
pub(crate) struct Post<'a> {
    pub(crate) url: &'a EndpointUrl,
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
    pub(super) fn new(http: HttpClient, allow_private: bool) -> Self {
        Self { http, allow_private }
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
        let connected = self.http.connect(url, self.allow_private, |_| CONNECT_TIMEOUT).await;
        let mut connection = connected.map_err(|error| match error {
            ConnectError::Nowhere => self.nowhere(url),
            other => chain(&other),
        })?;
        let request = post.request().map_err(|error| chain(&error))?;
        let response = connection.send(request).await.map_err(|failed| chain(&failed.error))?;
        Ok(Head { response, _connection: connection })
    }

    fn nowhere(&self, url: &EndpointUrl) -> String {
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
    _connection: Connection,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_answered() {
        assert_eq!(readable("はい".into()), "はい");
        assert_eq!(readable("はい".as_bytes()[..5].to_vec()), "は");
        assert_eq!(readable(b"no \xff\n".to_vec()), r"no \xff\n");
    }
}
