//! A hook over HTTP, with nothing of MaiRust: hyper, serde_json and an HMAC.
//!
//! ```sh
//! HOOK_SECRET=whsec_… HOOK_PLUGIN_ID=com.example.sample \
//!     cargo run -p mairust-examples --example http_hook_sample 127.0.0.1:8081
//! ```
//!
//! HOOK_SECRET may have several keys, separated by commas: while one takes over from another, both are good.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::{constant_time, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Seconds that a request may be old, or early.
const WINDOW: u64 = 300;
/// How long an answer is kept, in case the same request comes again.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Octets of a request.
const LONGEST: usize = 4 << 20;

struct Hook {
    keys: Vec<Vec<u8>>,
    plugin_id: String,
    answers: Mutex<HashMap<String, (Instant, Value)>>,
}

/// A status instead of an answer, and why.
type Refused = (u16, &'static str);

fn field<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The signature of these parts: HMAC-SHA256 over what stands between dots.
fn sign(key: &[u8], parts: &[&[u8]]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &parts.join(&b'.'));
    let digits: String = tag.as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
    format!("sha256={digits}")
}

impl Hook {
    /// The key that signed the request. Nothing of the body is believed before.
    fn verify(&self, headers: &HeaderMap, body: &[u8], now: u64) -> Result<&[u8], Refused> {
        let (id, timestamp) = (field(headers, "x-mairust-request-id"), field(headers, "x-mairust-timestamp"));
        if timestamp.parse::<u64>().map_or(true, |seconds| now.abs_diff(seconds) > WINDOW) {
            return Err((401, "the request is too old or too early"));
        }
        let is_by = |key: &Vec<u8>| {
            let wanted = sign(key, &[id.as_bytes(), timestamp.as_bytes(), body]);
            // All are compared, each in constant time.
            let is_equal = |signature: &str| {
                constant_time::verify_slices_are_equal(wanted.as_bytes(), signature.as_bytes()).is_ok()
            };
            field(headers, "x-mairust-signature").split(", ").fold(false, |found, one| is_equal(one) | found)
        };
        self.keys.iter().find(|key| is_by(key)).map(Vec::as_slice).ok_or((401, "the signature is wrong"))
    }

    fn answer(&self, body: &[u8]) -> Result<Value, Refused> {
        let wrong = (400, "not a request of the hook protocol");
        let request: Value = serde_json::from_slice(body).map_err(|_| wrong)?;
        if request["plugin"]["id"] != *self.plugin_id {
            return Err((403, "this is another hook"));
        }
        let id = request["invocation_id"].as_str().ok_or(wrong)?;
        let (mut answers, now) = (self.answers.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        answers.retain(|_, (at, _)| now.duration_since(*at) < REMEMBERED);
        Ok(answers.entry(id.to_owned()).or_insert_with(|| (now, decide(&request))).1.clone())
    }

    async fn serve(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Refused> {
        let (head, body) = request.into_parts();
        let is_health = match (&head.method, head.uri.path()) {
            (&Method::GET, "/health") => true,
            (&Method::POST, "/hook") => false,
            _ => return Err((404, "not found")),
        };
        let body = Limited::new(body, LONGEST).collect().await.map_err(|_| (413, "too long"))?.to_bytes();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let key = self.verify(&head.headers, &body, now)?;
        let answer = if is_health { json!({"status": "ok", "details": "ready"}) } else { self.answer(&body)? };
        let answer = answer.to_string();
        let (id, timestamp) =
            (field(&head.headers, "x-mairust-request-id"), field(&head.headers, "x-mairust-timestamp"));
        let signature = sign(key, &[b"resp", id.as_bytes(), timestamp.as_bytes(), answer.as_bytes()]);
        let response = Response::builder()
            .header("content-type", "application/json")
            .header("x-mairust-response-signature", signature);
        response.body(Full::from(answer)).map_err(|_| (500, "no answer could be made"))
    }
}

/// What is to become of the message. Parts that may not be seen are absent.
fn decide(request: &Value) -> Value {
    let list = |part: &str| request["message"][part].as_array().cloned().unwrap_or_default();
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_lowercase();
    let headers = list("headers");
    if headers.iter().any(|header| text(header, "name") == "x-test-reject") {
        let smtp = json!({"code": 550, "enhanced": "5.7.1", "text": "refused by the sample hook"});
        return json!({"verdict": "reject", "smtp": smtp, "reason": "X-Test-Reject"});
    }
    if list("attachments").iter().any(|attachment| text(attachment, "filename").ends_with(".exe")) {
        return json!({"verdict": "quarantine", "reason": "a program is attached"});
    }
    let is_invoice = |header: &Value| text(header, "name") == "subject" && text(header, "value").contains("invoice");
    if headers.iter().any(is_invoice) {
        return json!({"verdict": "allow", "actions": [{"op": "tag.add", "tags": ["invoice"]}]});
    }
    json!({"verdict": "allow"})
}

fn read_keys(text: &str) -> Option<Vec<Vec<u8>>> {
    text.split(',').map(|part| STANDARD.decode(part.trim().trim_start_matches("whsec_")).ok()).collect()
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let setting = |name: &str| std::env::var(name).map_err(|_| std::io::Error::other(format!("{name} is not set")));
    let keys = read_keys(&setting("HOOK_SECRET")?).ok_or_else(|| std::io::Error::other("HOOK_SECRET has no keys"))?;
    let hook = Arc::new(Hook { keys, plugin_id: setting("HOOK_PLUGIN_ID")?, answers: Mutex::default() });
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8081".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let hook = hook.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| async {
                let served = hook.serve(request).await;
                Ok::<_, Infallible>(served.unwrap_or_else(|(status, why)| {
                    let mut response = Response::new(Full::from(why));
                    *response.status_mut() = status.try_into().unwrap_or_default();
                    response
                }))
            });
            // Whoever asks may break off.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
