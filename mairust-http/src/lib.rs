//! The REST API of MaiRust as an [`axum::Router`] that any application can mount.
//!
//! [`router`] takes an [`ApiState`]: a store, a [`Submitter`] for mail that clients send, the
//! [`ServerKey`] under which API keys and cursors are made, and a clock. In reading order:
//! `state`, `submit`, `hooks` and `callbacks` (what an application hands in), `auth` (who asks), `problem` (how errors
//! look), `page` and `download` (lists and large bodies), `trace` (what happened to a message), `queue`
//! (what deliveries look like), `given_up` (calls of hooks that are made once more), `v1`, `plugin` and `ops` (the endpoints),
//! `openapi` (their description), `middleware` (what all answers have in common).
//!
//! Deliberately absent: listeners and TLS, rate limits (but see [`KeyGuard`]), sessions and
//! cookies, CORS. Mounting it and listening is the application's business.

mod auth;
mod body;
mod callbacks;
mod download;
mod given_up;
mod hooks;
mod middleware;
mod openapi;
mod ops;
mod page;
mod plugin;
mod problem;
pub mod queue;
mod state;
mod streams;
mod submit;
pub mod trace;
mod v1;

use axum::{Router, middleware as layers};
use utoipa_axum::router::OpenApiRouter;

pub use auth::{
    ApiKeyToken, AuditSink, ContentView, HookOperation, KeyGuard, Principal, PurgedMessage, QueueOperation, RefusedKey,
    Scope, ServerKey, SuppressionChange, WebhookOperation, random_key_id, token_hash,
};
pub use callbacks::{CallFacts, CallbackApi, CallbackError, OpenCall};
pub use given_up::retry_given_up;
pub use hooks::{CircuitState, HookControl, HookControlError, HookTrial, Shown, Subject};
pub use openapi::openapi_json;
pub use state::{ApiState, MetricsSource, SearchFallback};
pub use streams::EventStreams;
pub use submit::{
    Draft, DraftAddress, DraftAttachment, Preview, PreviewedRecipient, SubmitError, Submitted, SubmittedRecipient,
    Submitter,
};

/// The whole API: `/api/v1/…`, `/api/plugin/v1/…` for programs that are called as hooks, `/health/…` and, if the state has a [`MetricsSource`], `/metrics`.
///
/// Every answer carries `X-Request-Id`; every error is an `application/problem+json` (RFC 9457).
pub fn router(state: ApiState) -> Router {
    let plugin = plugin::routes().route_layer(layers::from_fn_with_state(state.clone(), plugin::admit));
    let (routes, _) = routes(state.metrics().is_some(), plugin).split_for_parts();
    let context = layers::from_fn_with_state(state.clone(), middleware::context);
    routes
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(context)
        .with_state(state)
}

/// All routes and their description.
fn routes(with_metrics: bool, plugin: OpenApiRouter<ApiState>) -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(openapi::base())
        .nest("/api/v1", v1::routes())
        .nest(plugin::BASE, plugin)
        .merge(ops::routes(with_metrics))
}
