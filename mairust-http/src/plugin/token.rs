//! Who asks: the program that holds the token of a call.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use mairust_core::{HookId, Rate, TenantId, Timestamp, TokenBucket};

use super::{BASE, Repeats};
use crate::auth::bearer;
use crate::callbacks::{BURST, CallbackApi, OpenCall, REFILLED_IN};
use crate::problem::{ErrorCode, Problem};
use crate::state::ApiState;

/// So many programs are kept in mind; beyond that, those that have not asked for a while are forgotten.
const KEPT: usize = 1_000;

/// The programs that may ask, and what they have asked so far.
pub(crate) struct Callers {
    api: Arc<dyn CallbackApi>,
    buckets: Mutex<HashMap<(TenantId, HookId), TokenBucket>>,
    repeats: Repeats,
}

/// An extractor: the call whose token came with the request. [`admit`] has looked at it.
#[derive(Debug, Clone)]
pub(crate) struct InCall(pub(crate) Arc<dyn OpenCall>);

impl Callers {
    pub(crate) fn new(api: Arc<dyn CallbackApi>) -> Self {
        Self { api, buckets: Mutex::default(), repeats: Repeats::default() }
    }

    pub(super) fn repeats(&self) -> &Repeats {
        &self.repeats
    }

    /// Takes one request from what the program has left.
    fn take(&self, caller: (TenantId, HookId), now: Timestamp) -> Result<(), Duration> {
        let rate = Rate::new(BURST, REFILLED_IN);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= KEPT && !buckets.contains_key(&caller) {
            buckets.retain(|_, bucket| bucket.is_full_at() > now);
        }
        buckets.entry(caller).or_insert_with(|| TokenBucket::full(now)).take(&rate, now)
    }
}

/// Lets requests through whose token is good, as many as may come, and tells what they were answered.
///
/// Nobody is slowed down for a wrong token: there is nothing to guess in 256 random bits, and a program that comes too
/// late with one is no attacker.
pub(crate) async fn admit(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    let Some(callers) = state.callers() else { return Problem::not_found().into_response() };
    let token = bearer(request.headers()).map(str::to_owned);
    let call = match find(callers, token).await {
        Ok(call) => call,
        Err(problem) => return problem.into_response(),
    };
    let facts = call.facts();
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = path.as_deref().map_or("", |path| path.strip_prefix(BASE).unwrap_or(path));
    let response = match callers.take((facts.tenant, facts.hook), state.now()) {
        Ok(()) => {
            request.extensions_mut().insert(InCall(call.clone()));
            next.run(request).await
        }
        Err(wait) => Problem::rate_limited("there are too many requests of this program", wait).into_response(),
    };
    callers.api.answered(&facts.plugin.id, route, response.status().as_u16());
    response
}

async fn find(callers: &Callers, token: Option<String>) -> Result<Arc<dyn OpenCall>, Problem> {
    let missing = || {
        Problem::new(ErrorCode::Unauthenticated, "this needs the token of a call")
            .hint("Send the header Authorization: Bearer mrc_… with the callback.token of the request")
    };
    let token = token.ok_or_else(missing)?;
    let found = callers.api.find(&token).await.map_err(|error| Problem::store(&error))?;
    found.ok_or_else(|| Problem::new(ErrorCode::InvalidCredentials, "this token is not good, or not any more"))
}

impl FromRequestParts<ApiState> for InCall {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, Problem> {
        parts.extensions.get().cloned().ok_or_else(Problem::not_found)
    }
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callers").field("api", &self.api).finish_non_exhaustive()
    }
}
