//! Hooks over HTTP: version 1 of the hook protocol, posted to an endpoint.
//!
//! In reading order: [`HttpTransport`] (what an answer means), `letter` (one request), `exchange` (getting it there and
//! the answer back), `pool` (connections that are kept).
//!
//! Deliberately absent: a second attempt after a timeout, or after anything was sent. Whoever waits decides what
//! becomes of mail without an answer, and jobs come again by themselves.

mod exchange;
mod letter;
mod pool;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use mairust_core::{Clock, Timestamp};
use mairust_hooks::protocol::{HookResponse, InvocationId};
use mairust_hooks::{
    FailureKind, HealthReport, HealthStatus, HookError, HttpHook, HttpHookError, Incoming, Outgoing, ResponseSignature,
    SignableResponse, Transport,
};
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};

use self::letter::Letter;
use self::pool::Pool;
use crate::outgoing_http::{HttpClient, media_type, retry_after};

/// Time for a hook to say whether it works.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest answer to that, in octets.
const MAX_HEALTH: usize = 16 << 10;

/// The field that shows who answered.
const RESPONSE_SIGNATURE: &str = "x-mairust-response-signature";

/// The way to a hook over HTTP.
///
/// Requests are signed, and so are answers if the settings want it. Connections are kept for the next request; each
/// goes to an address that was checked when it was made.
#[derive(Debug)]
pub struct HttpTransport {
    hook: HttpHook,
    http: HttpClient,
    clock: Arc<dyn Clock>,
    pool: Pool,
}

/// What came back, before anybody has looked at it.
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    /// The body, if the status is one whose body counts.
    body: Vec<u8>,
    /// When the request was signed.
    at: Timestamp,
}

impl HttpTransport {
    /// A way to this hook. `clock` says when requests are made and which keys are still used.
    ///
    /// # Errors
    /// When it could not be asked, or must not be.
    pub fn new(hook: HttpHook, http: HttpClient, clock: Arc<dyn Clock>) -> Result<Self, HttpHookError> {
        hook.check()?;
        Ok(Self { hook, http, clock, pool: Pool::default() })
    }

    fn incoming(&self, reply: Reply, id: &InvocationId) -> Result<Incoming, HookError> {
        let status = reply.status;
        let failed = |kind| HookError::of(kind, format_args!("it answered {}", status.as_u16()));
        match status {
            StatusCode::OK => {
                self.verify(&reply, id)?;
                json(&reply)?;
                Ok(Incoming::Answer(reply.body))
            }
            StatusCode::NO_CONTENT => self.verify(&reply, id).map(|()| Incoming::Nothing),
            StatusCode::ACCEPTED => self.verify(&reply, id).map(|()| Incoming::Accepted),
            // What switches a hook off is not believed more easily than what decides about a message.
            StatusCode::GONE => self.verify(&reply, id).and(Err(failed(FailureKind::Gone))),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(failed(FailureKind::Auth)),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Err(failed(FailureKind::Busy).retry_after(retry_after(&reply.headers, self.clock.now())))
            }
            other if other.is_redirection() => {
                let text = format_args!("it answered {}; redirects are not followed", other.as_u16());
                Err(HookError::of(FailureKind::Http, text))
            }
            _ => Err(failed(FailureKind::Http)),
        }
    }

    /// Whether the answer comes from the hook, as far as that has to be known.
    fn verify(&self, reply: &Reply, id: &InvocationId) -> Result<(), HookError> {
        let wrong = |text: &str| Err(HookError::of(FailureKind::Protocol, text));
        let timestamp = reply.at.to_unix().0.to_string();
        let answer = SignableResponse { id: id.as_str(), timestamp: &timestamp, body: &reply.body };
        match (self.hook.response_signature, reply.headers.get(RESPONSE_SIGNATURE)) {
            (ResponseSignature::Off, _) | (ResponseSignature::Prefer, None) => Ok(()),
            (_, None) => wrong("its answer is not signed"),
            (_, Some(signature)) if answer.is_signed(signature.as_bytes(), self.hook.live_keys(reply.at)) => Ok(()),
            (_, Some(_)) => wrong("the signature of its answer is wrong"),
        }
    }

    async fn ask_health(&self, letter: &Letter<'_>) -> Result<HealthReport, HookError> {
        let reply = self.send(letter).await?;
        if reply.status != StatusCode::OK {
            return Err(HookError::of(FailureKind::Http, format_args!("it answered {}", reply.status.as_u16())));
        }
        self.verify(&reply, &letter.id)?;
        json(&reply)?;
        read_health(&reply.body).ok_or_else(|| {
            let wanted = r#"its answer is not {"status":"ok|degraded|error","details":"…"}"#;
            HookError::of(FailureKind::Protocol, wanted)
        })
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn exchange(&self, request: Outgoing) -> Result<Incoming, HookError> {
        let Outgoing { id, point, attempt, deadline, body, .. } = request;
        let max_answer = HookResponse::max_octets(point);
        let letter = Letter::post(&self.hook.endpoint, (id, point.as_str(), attempt), deadline, body, max_answer);
        let sent = Box::pin(timeout_at(deadline, self.send(&letter))).await;
        let reply = sent.map_err(|_| HookError::of(FailureKind::Timeout, "it did not answer in time"))??;
        self.incoming(reply, &letter.id)
    }

    async fn health(&self) -> Option<HealthReport> {
        let url = self.hook.health_endpoint.as_ref()?;
        let deadline = Instant::now() + HEALTH_TIMEOUT;
        let letter = Letter::get(url, InvocationId::new(self.clock.now()), deadline, MAX_HEALTH);
        Some(match Box::pin(timeout_at(deadline, self.ask_health(&letter))).await {
            Ok(Ok(report)) => report,
            Ok(Err(error)) => HealthReport::error(error),
            Err(_) => HealthReport::error(format_args!("no answer within {} s", HEALTH_TIMEOUT.as_secs())),
        })
    }
}

fn json(reply: &Reply) -> Result<(), HookError> {
    match media_type(&reply.headers) {
        json if json.eq_ignore_ascii_case("application/json") => Ok(()),
        other => {
            let text = format_args!("its answer is of the type {other:?}, not application/json");
            Err(HookError::of(FailureKind::Protocol, text))
        }
    }
}

/// What a hook says of itself; fields that are not known are passed over.
fn read_health(octets: &[u8]) -> Option<HealthReport> {
    let mut fields: Map<String, Value> = serde_json::from_slice(octets).ok()?;
    let status = [HealthStatus::Degraded, HealthStatus::Error, HealthStatus::Ok];
    let status = status.into_iter().find(|status| fields.get("status").is_some_and(|word| word == status.as_str()))?;
    let details = match fields.remove("details") {
        None | Some(Value::Null) => String::new(),
        // It goes to logs and terminals.
        Some(Value::String(text)) => text.replace(char::is_control, " "),
        Some(_) => return None,
    };
    Some(HealthReport { status, details })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_a_word_and_a_text() {
        let read = |text: &str| read_health(text.as_bytes()).map(|report| (report.status.as_str(), report.details));
        assert_eq!(read(r#"{"status":"ok"}"#), Some(("ok", String::new())));
        assert_eq!(
            read(r#"{"status":"degraded","details":"no\u001b[31m model\n","x":[1]}"#),
            Some(("degraded", "no [31m model ".to_owned()))
        );
        assert_eq!(read(r#" {"details":null,"status":"error"} "#), Some(("error", String::new())));
        for wrong in ["", "{}", r#"["ok",""]"#, r#"{"status":"fine"}"#, r#"{"status":"ok","details":1}"#, r#""ok""#] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
