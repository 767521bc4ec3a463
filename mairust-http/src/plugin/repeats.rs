//! What programs ask for under an `Idempotency-Key` is done once: the answer is kept, and given again.
//!
//! Answers are kept in memory. After a restart, or at another server, a request is carried out again, which does no
//! harm: whatever can be asked for here comes to the same when it is asked for twice.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Json;
use axum::extract::Request;
use axum::http::header::HeaderName;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use mairust_core::{HookId, TenantId, Timestamp};
use serde_json::Value;

use crate::body;
use crate::callbacks::CallFacts;
use crate::problem::{ErrorCode, Problem};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// For how long answers are kept.
const KEPT_FOR: Duration = Duration::from_secs(86_400);
/// So many answers to one program are kept; beyond that, the oldest are forgotten.
const KEPT: usize = 1_000;
/// The longest key in octets.
const LONGEST_KEY: usize = 255;

/// What programs have asked for.
#[derive(Default)]
pub(crate) struct Repeats(Mutex<HashMap<(TenantId, HookId), Asked>>);

/// What one program has asked for.
#[derive(Default)]
struct Asked {
    known: HashMap<String, Known>,
    /// Keys, with when they came, the oldest first.
    order: VecDeque<(Timestamp, String)>,
}

/// One request.
struct Known {
    /// SHA-256 of the path and the body.
    hash: [u8; 32],
    /// `None` while it is being carried out.
    answer: Option<Result<Value, Problem>>,
}

/// A request that is carried out. Dropped without an answer, it can be made again.
pub(super) struct Turn<'a> {
    repeats: &'a Repeats,
    caller: (TenantId, HookId),
    key: String,
    is_answered: bool,
}

/// What there is to do about a request.
pub(super) enum Begun<'a> {
    /// It is carried out.
    First(Turn<'a>, Value),
    /// It was answered before.
    Repeated(Response),
}

impl Repeats {
    /// Reads a request, and looks whether it was made before.
    pub(super) async fn begin(
        &self,
        facts: &CallFacts,
        request: Request,
        now: Timestamp,
    ) -> Result<Begun<'_>, Problem> {
        let key = key(&request)?;
        let path = request.uri().path().to_owned();
        let (octets, fields) = body::json_value(request).await?;
        let (caller, hash) = ((facts.tenant, facts.hook), hash(&path, &octets));
        let mut asked = self.asked();
        asked.retain(|_, asked| asked.forget(now));
        let asked = asked.entry(caller).or_default();
        match asked.known.get(&key) {
            Some(known) if known.hash != hash => {
                let message = "this key was used for another request";
                Err(Problem::new(ErrorCode::IdempotencyConflict, message))
            }
            Some(Known { answer: None, .. }) => {
                Err(Problem::new(ErrorCode::InProgress, "the same request is being carried out"))
            }
            Some(Known { answer: Some(answer), .. }) => Ok(Begun::Repeated(response(answer.clone()))),
            None => {
                asked.known.insert(key.clone(), Known { hash, answer: None });
                asked.order.push_back((now, key.clone()));
                Ok(Begun::First(Turn { repeats: self, caller, key, is_answered: false }, fields))
            }
        }
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<(TenantId, HookId), Asked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Answers, and keeps the answer; but what went wrong here may go well the next time.
    pub(super) fn end(mut self, answer: Result<Value, Problem>) -> Response {
        let is_final = answer.as_ref().err().is_none_or(|problem| !problem.code().status().is_server_error());
        if is_final {
            self.is_answered = true;
            if let Some(asked) = self.repeats.asked().get_mut(&self.caller)
                && let Some(known) = asked.known.get_mut(&self.key)
            {
                known.answer = Some(answer.clone());
            }
        }
        response(answer)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.is_answered
            && let Some(asked) = self.repeats.asked().get_mut(&self.caller)
        {
            asked.known.remove(&self.key);
            asked.order.retain(|(_, key)| *key != self.key);
        }
    }
}

impl Asked {
    /// Forgets what is old, or too much; whether anything is left.
    fn forget(&mut self, now: Timestamp) -> bool {
        let is_old = |at: Timestamp| now.since(at) >= KEPT_FOR;
        while self.order.len() >= KEPT || self.order.front().is_some_and(|(at, _)| is_old(*at)) {
            let Some((_, key)) = self.order.pop_front() else { break };
            self.known.remove(&key);
        }
        !self.order.is_empty()
    }
}

fn key(request: &Request) -> Result<String, Problem> {
    let key = request.headers().get(IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok()).unwrap_or_default();
    if (1..=LONGEST_KEY).contains(&key.len()) && key.bytes().all(|octet| octet.is_ascii_graphic()) {
        return Ok(key.to_owned());
    }
    let message = format!("this needs an Idempotency-Key of 1 to {LONGEST_KEY} visible ASCII characters");
    Err(Problem::new(ErrorCode::IdempotencyKeyRequired, message)
        .hint("Send a new key with each thing to be done, and the same one when you try again"))
}

fn hash(path: &str, octets: &Bytes) -> [u8; 32] {
    let asked = [path.as_bytes(), b"\0", octets].concat();
    digest(&SHA256, &asked).as_ref().try_into().expect("SHA-256 has 32 octets")
}

fn response(answer: Result<Value, Problem>) -> Response {
    match answer {
        Ok(value) => Json(value).into_response(),
        Err(problem) => problem.into_response(),
    }
}

impl fmt::Debug for Repeats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Repeats")
    }
}
