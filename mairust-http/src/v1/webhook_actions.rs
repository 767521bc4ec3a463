//! What is done to webhooks: enabled, disabled, tested, given another key.

use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use mairust_core::parse_duration;
use mairust_hooks::EventKind;
use mairust_hooks::event::WebhookTest;
use mairust_store::webhook::{keys, work};
use mairust_store::{StoreErrorKind, WebhookChange, WebhookState};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::auth::{Authenticated, Caller, Scope};
use crate::body;
use crate::openapi::{AccessErrors, BodyErrors, MissingErrors, StateErrors};
use crate::problem::{ErrorCode, FieldError, Problem};
use crate::state::ApiState;
use crate::v1::webhooks::{WebhookEntry, WebhookPath, apply, reveal, sealer};

/// For how long the key before a new one is good, unless something else is asked for.
pub(super) const GRACE: Duration = Duration::from_secs(24 * 3_600);

/// The longest time for which it is.
const GRACE_AT_MOST: Duration = Duration::from_secs(30 * 24 * 3_600);

/// How a key is replaced.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RotateRequest {
    /// For how long requests are signed with the key before it, too, for example `24h`, which is the default; up to
    /// `30d`. With `0s` older keys end at once.
    #[schema(nullable = false, example = "24h")]
    pub(super) grace: Option<String>,
}

/// A key that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NewSecret {
    /// The key that requests are signed with. It is not shown again.
    pub(super) secret: String,
    /// Until when requests are signed with the key before it, too (RFC 3339); null if they are not.
    pub(super) previous_until: Option<String>,
}

/// A test that was begun.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TestAnswer {
    /// The delivery, as in `GET /webhooks/{id}/deliveries/{delivery_id}`.
    delivery_id: String,
}

/// Enable a webhook
///
/// It is told of what happens from now on, not of what happened meanwhile.
#[utoipa::path(
    post, path = "/webhooks/{id}/enable", tag = "webhooks", operation_id = "enable_webhook",
    params(("id" = String, Path, description = "The webhook")), security(("api_key" = ["hooks:write"])),
    responses((status = 200, description = "The webhook", body = WebhookEntry), MissingErrors, AccessErrors)
)]
pub(crate) async fn enable(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: WebhookPath,
) -> Result<Json<WebhookEntry>, Problem> {
    principal.require(Scope::HooksWrite)?;
    let before = path.find(&state, &principal).await?;
    let change = WebhookChange { state: Some(WebhookState::Enabled), ..WebhookChange::default() };
    Ok(Json(apply(&state, &principal, &caller, &before, &change, "enabled").await?))
}

/// Disable a webhook
///
/// It is told of nothing until it is enabled. What is on its way to it ends as failed.
#[utoipa::path(
    post, path = "/webhooks/{id}/disable", tag = "webhooks", operation_id = "disable_webhook",
    params(("id" = String, Path, description = "The webhook")), security(("api_key" = ["hooks:write"])),
    responses((status = 200, description = "The webhook", body = WebhookEntry), MissingErrors, AccessErrors)
)]
pub(crate) async fn disable(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: WebhookPath,
) -> Result<Json<WebhookEntry>, Problem> {
    principal.require(Scope::HooksWrite)?;
    let before = path.find(&state, &principal).await?;
    let reason = WebhookState::Disabled("disabled by an operator".to_owned());
    let change = WebhookChange { state: Some(reason), ..WebhookChange::default() };
    Ok(Json(apply(&state, &principal, &caller, &before, &change, "disabled").await?))
}

/// Replace the key of a webhook
///
/// For a while requests are signed with both keys. There are never more than two.
#[utoipa::path(
    post, path = "/webhooks/{id}/rotate-secret", tag = "webhooks", operation_id = "rotate_webhook_secret",
    params(("id" = String, Path, description = "The webhook")), request_body = RotateRequest,
    security(("api_key" = ["hooks:write"])),
    responses(
        (status = 200, description = "The new key", body = NewSecret), BodyErrors, MissingErrors, StateErrors, AccessErrors,
    )
)]
pub(crate) async fn rotate(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: WebhookPath,
    request: Request,
) -> Result<Json<NewSecret>, Problem> {
    principal.require(Scope::HooksWrite)?;
    let webhook = path.find(&state, &principal).await?;
    let request: RotateRequest = body::json(request).await?;
    let grace = request.grace.as_deref().map_or(Ok(GRACE), grace)?;
    let (id, now) = ((principal.tenant, webhook.id), state.now());
    let made = keys::rotate(state.storage(), sealer(&state)?, id, grace, now).await;
    let key = made.map_err(|error| match error.kind() {
        StoreErrorKind::Conflict => Problem::new(ErrorCode::InvalidState, "it has two keys already")
            .hint("Wait until the older one has ended, or end it at once with the grace 0s"),
        _ => Problem::store(&error),
    })?;
    let previous_until = (!grace.is_zero()).then(|| now.plus(grace).to_rfc3339());
    let after = Some(json!({"previous_until": previous_until}));
    caller.changed_webhook(&state, &principal, "secret_rotated", webhook.id, (None, after));
    Ok(Json(NewSecret { secret: reveal(key.expose())?, previous_until }))
}

/// Test a webhook
///
/// Sends it an event of the type `webhook.test`, whatever types it is told of, and also if it is not enabled.
#[utoipa::path(
    post, path = "/webhooks/{id}/test", tag = "webhooks", operation_id = "test_webhook",
    params(("id" = String, Path, description = "The webhook")), security(("api_key" = ["hooks:write"])),
    responses(
        (status = 202, description = "The delivery", body = TestAnswer,
            headers(("Location" = String, description = "Where to look what becomes of it"))),
        MissingErrors, AccessErrors,
    )
)]
pub(crate) async fn test(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: WebhookPath,
) -> Result<Response, Problem> {
    principal.require(Scope::HooksWrite)?;
    let webhook = path.find(&state, &principal).await?;
    let data = json!(WebhookTest { webhook_id: webhook.id.to_string() });
    let begun = work::test(state.storage(), &webhook, EventKind::WebhookTest.as_str(), data, state.now()).await;
    let id = begun.map_err(|error| Problem::store(&error))?;
    let after = Some(json!({"delivery_id": id.to_string()}));
    caller.changed_webhook(&state, &principal, "tested", webhook.id, (None, after));
    let location = format!("/api/v1/webhooks/{}/deliveries/{id}", webhook.id);
    let answer = TestAnswer { delivery_id: id.to_string() };
    Ok((StatusCode::ACCEPTED, [(LOCATION, location)], Json(answer)).into_response())
}

/// Reads for how long the key before a new one is good.
pub(super) fn grace(text: &str) -> Result<Duration, Problem> {
    let message = "must be a time such as 24h, up to 30d; 0s ends older keys at once".to_owned();
    let error = FieldError { path: "/grace".to_owned(), code: "invalid_value", message };
    let parsed = parse_duration(text).ok().filter(|grace| *grace <= GRACE_AT_MOST);
    parsed.ok_or_else(|| Problem::validation(&[error]))
}
