//! One request.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request};
use mairust_core::Timestamp;
use mairust_hooks::protocol::InvocationId;
use mairust_hooks::{EndpointUrl, HttpHook, Signable};
use tokio::time::Instant;

/// A request that is to be sent, perhaps twice.
pub(super) struct Letter<'a> {
    pub(super) url: &'a EndpointUrl,
    pub(super) id: InvocationId,
    /// When it was handed over.
    pub(super) begun: Instant,
    pub(super) deadline: Instant,
    /// The longest answer, in octets.
    pub(super) max_answer: usize,
    method: Method,
    hook: &'static str,
    attempt: u32,
    body: Bytes,
}

impl<'a> Letter<'a> {
    /// Asks about a message: by this id, at this point, for so many times.
    pub(super) fn post(
        url: &'a EndpointUrl,
        (id, hook, attempt): (InvocationId, &'static str, u32),
        deadline: Instant,
        body: Vec<u8>,
        max_answer: usize,
    ) -> Self {
        let (method, begun) = (Method::POST, Instant::now());
        Self { url, id, begun, deadline, max_answer, method, hook, attempt, body: body.into() }
    }

    /// Asks whether the hook works.
    pub(super) fn get(url: &'a EndpointUrl, id: InvocationId, deadline: Instant, max_answer: usize) -> Self {
        let (method, begun) = (Method::GET, Instant::now());
        Self { url, id, begun, deadline, max_answer, method, hook: "health", attempt: 1, body: Bytes::new() }
    }

    /// The request as it is sent now, signed with the keys that are used at this time.
    pub(super) fn request(&self, hook: &HttpHook, at: Timestamp) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let signature = Signable { id: self.id.as_str(), at, body: &self.body }.sign(hook.live_keys(at));
        let left = self.deadline.saturating_duration_since(Instant::now()).as_millis();
        let request = Request::builder()
            .method(self.method.clone())
            .uri(self.url.target())
            .header(HOST, self.url.authority())
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("MaiRust/", env!("CARGO_PKG_VERSION"), " (hook)"))
            .header("x-mairust-signature", signature.hex)
            .header("x-mairust-timestamp", &signature.timestamp)
            .header("x-mairust-plugin-id", &hook.plugin_id)
            .header("x-mairust-request-id", self.id.as_str())
            .header("x-mairust-hook", self.hook)
            .header("x-mairust-attempt", self.attempt)
            .header("x-mairust-deadline-ms", left.to_string())
            .header("webhook-id", self.id.as_str())
            .header("webhook-timestamp", signature.timestamp)
            .header("webhook-signature", signature.standard)
            .header("traceparent", self.traceparent());
        let is_post = self.method == Method::POST;
        let request = if is_post { request.header(CONTENT_TYPE, "application/json; charset=utf-8") } else { request };
        request.body(Full::new(self.body.clone()))
    }

    /// What the hook does belongs to the call, under a number of this request (W3C Trace Context §3.2). Nobody here
    /// records it, so that it is not sampled.
    fn traceparent(&self) -> String {
        let (trace, span) = (u128::from_be_bytes(self.id.to_bytes()), rand::random_range(1..=u64::MAX));
        format!("00-{trace:032x}-{span:016x}-00")
    }

    /// Whether at least half of the time is left.
    pub(super) fn has_half_of_its_time(&self) -> bool {
        let now = Instant::now();
        self.deadline.saturating_duration_since(now) >= now.saturating_duration_since(self.begun)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn half_of_the_time_is_left_until_it_is_not() {
        let url = EndpointUrl::parse("https://hooks.example/").unwrap();
        let deadline = Instant::now() + Duration::from_secs(2);
        let letter = Letter::get(&url, InvocationId::new(Timestamp::default()), deadline, 1);
        assert!(letter.has_half_of_its_time());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(letter.has_half_of_its_time());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!letter.has_half_of_its_time());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!letter.has_half_of_its_time());
    }
}
