//! What is done to hooks: enabled, disabled, given another key, left alone, shown a message.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use mairust_core::MessageId;
use mairust_hooks::breaker::BreakerState;
use mairust_hooks::{Circuit, HookPoint, HookSettings};
use mairust_store::hook::keys;
use mairust_store::{HookBinding, HookChange, HookState, StoreErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::auth::{Authenticated, Caller, Scope};
use crate::body;
use crate::hooks::{CircuitState, HookControl, HookControlError, HookTrial, Shown, Subject};
use crate::openapi::{
    AccessErrors, BodyErrors, GoneErrors, MatchErrors, MatchHeaders, MissingErrors, StateErrors, UpstreamErrors,
};
use crate::problem::{ErrorCode, FieldError, Problem};
use crate::state::ApiState;
use crate::v1::hooks::{HookEntry, HookPath, apply, expected};
use crate::v1::webhook_actions::{GRACE, NewSecret, RotateRequest, grace};
use crate::v1::webhooks::{reveal, sealer};

/// When a hook is left alone.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CircuitAnswer {
    /// What somebody wants: `automatic`, `disabled` (breakers count, and never open) or `forced_open` (the hook is not
    /// called).
    wanted: &'static str,
    /// How it is now, for each point at which it is called; none if this server does not call it.
    points: Vec<PointState>,
}

/// How the breaker of a hook is at a point.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PointState {
    /// `pre_receive`, `post_receive` or `pre_send`.
    point: &'static str,
    /// `closed`, `half_open`, `open` or `disabled`.
    state: &'static str,
    /// Why it is open: `consecutive`, `rate`, `crash_loop`, `unhealthy`, or `forced`.
    reason: Option<&'static str>,
    /// Until when it is open (RFC 3339); null if until somebody says something else.
    until: Option<String>,
}

/// What is wanted of the breakers of a hook.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CircuitRequest {
    /// `automatic`, `disabled` or `forced_open`.
    wanted: String,
}

/// What is shown to a hook; without a message, one that the server has for this.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TestRequest {
    /// Where it is called; by default the first of its points.
    #[schema(nullable = false, example = "pre_receive")]
    point: Option<String>,
    /// A message of the tenant.
    #[schema(nullable = false)]
    message_id: Option<String>,
    /// A message as it would come by SMTP.
    #[schema(nullable = false, example = "From: a@b.example\r\nSubject: test\r\n\r\ntest\r\n")]
    sample: Option<String>,
}

/// What a hook said about a message that was shown to it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TrialAnswer {
    /// The id of the call, as in `GET /hooks/{id}/deliveries/{delivery_id}`.
    delivery_id: String,
    /// What it was asked, without a way to call back.
    #[schema(value_type = Object)]
    request: Value,
    /// How the call ended: the name of a verdict, or `accepted` for 202.
    outcome: String,
    /// What it said, without what it may not say; null for 202.
    #[schema(value_type = Option<Object>)]
    response: Option<Value>,
    /// What it wanted and may not do.
    denied: Vec<String>,
    /// How long it took, in milliseconds.
    ms: u64,
}

/// Enable a hook
#[utoipa::path(
    post, path = "/hooks/{id}/enable", tag = "hooks", operation_id = "enable_hook",
    params(("id" = String, Path, description = "The hook"), MatchHeaders), security(("api_key" = ["hooks:write"])),
    responses(
        (status = 200, description = "The hook", body = HookEntry, headers(("ETag" = String))),
        MissingErrors, StateErrors, MatchErrors, AccessErrors,
    )
)]
pub(crate) async fn enable(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: HookPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    principal.require(Scope::HooksWrite)?;
    let before = path.find(&state, &principal).await?;
    let expected = expected(&headers, &before)?;
    let change = HookChange { state: Some(HookState::Enabled), ..HookChange::default() };
    apply(&state, &principal, &caller, &before, (change, expected), "enabled").await
}

/// Disable a hook
///
/// It is not called from the next message on, also if it is required.
#[utoipa::path(
    post, path = "/hooks/{id}/disable", tag = "hooks", operation_id = "disable_hook",
    params(("id" = String, Path, description = "The hook"), MatchHeaders), security(("api_key" = ["hooks:write"])),
    responses(
        (status = 200, description = "The hook", body = HookEntry, headers(("ETag" = String))),
        MissingErrors, StateErrors, MatchErrors, AccessErrors,
    )
)]
pub(crate) async fn disable(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: HookPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    principal.require(Scope::HooksWrite)?;
    let before = path.find(&state, &principal).await?;
    let expected = expected(&headers, &before)?;
    let off = HookState::Disabled("disabled by an operator".to_owned());
    let change = HookChange { state: Some(off), ..HookChange::default() };
    apply(&state, &principal, &caller, &before, (change, expected), "disabled").await
}

/// Make a new key for a hook
///
/// For a while requests are signed with both keys. There are never more than two.
#[utoipa::path(
    post, path = "/hooks/{id}/rotate-secret", tag = "hooks", operation_id = "rotate_hook_secret",
    params(("id" = String, Path, description = "The hook")), request_body = RotateRequest,
    security(("api_key" = ["hooks:write"])),
    responses(
        (status = 200, description = "The new key", body = NewSecret), BodyErrors, MissingErrors, StateErrors, AccessErrors,
    )
)]
pub(crate) async fn rotate(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: HookPath,
    request: Request,
) -> Result<Json<NewSecret>, Problem> {
    principal.require(Scope::HooksWrite)?;
    let hook = path.find(&state, &principal).await?;
    let request: RotateRequest = body::json(request).await?;
    let grace = request.grace.as_deref().map_or(Ok(GRACE), grace)?;
    let (id, now) = ((principal.tenant, hook.id), state.now());
    let made = keys::rotate(state.storage(), sealer(&state)?, id, grace, now).await;
    let key = made.map_err(|error| match error.kind() {
        StoreErrorKind::Conflict => Problem::new(ErrorCode::InvalidState, "it has two keys already")
            .hint("Wait until the older one has ended, or end it at once: …/rotate-secret/revoke-previous"),
        StoreErrorKind::NotFound => no_key(),
        _ => Problem::store(&error),
    })?;
    let previous_until = (!grace.is_zero()).then(|| now.plus(grace).to_rfc3339());
    let after = Some(json!({"previous_until": previous_until}));
    caller.changed_hook(&state, &principal, "secret_rotated", hook.id, (None, after));
    Ok(Json(NewSecret { secret: reveal(key.expose())?, previous_until }))
}

/// End the key before the current one of a hook
///
/// At once. If there is none, nothing is done.
#[utoipa::path(
    post, path = "/hooks/{id}/rotate-secret/revoke-previous", tag = "hooks",
    operation_id = "revoke_previous_hook_secret",
    params(("id" = String, Path, description = "The hook")), security(("api_key" = ["hooks:write"])),
    responses(
        (status = 204, description = "Only one key signs"), MissingErrors, StateErrors, AccessErrors,
    )
)]
pub(crate) async fn revoke(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: HookPath,
) -> Result<StatusCode, Problem> {
    principal.require(Scope::HooksWrite)?;
    let hook = path.find(&state, &principal).await?;
    let revoked = keys::revoke_previous(state.storage(), sealer(&state)?, (principal.tenant, hook.id)).await;
    let revoked = revoked.map_err(|error| match error.kind() {
        StoreErrorKind::Conflict => Problem::new(ErrorCode::InvalidState, "somebody else replaces its key; try again"),
        StoreErrorKind::NotFound => no_key(),
        _ => Problem::store(&error),
    })?;
    if revoked {
        let after = Some(json!({"previous_until": null}));
        caller.changed_hook(&state, &principal, "secret_revoked", hook.id, (None, after));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Read when a hook is left alone
#[utoipa::path(
    get, path = "/hooks/{id}/circuit", tag = "hooks", operation_id = "read_hook_circuit",
    params(("id" = String, Path, description = "The hook")), security(("api_key" = ["hooks:read"])),
    responses((status = 200, description = "Its breakers", body = CircuitAnswer), MissingErrors, AccessErrors)
)]
pub(crate) async fn circuit(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    path: HookPath,
) -> Result<Json<CircuitAnswer>, Problem> {
    principal.require(Scope::HooksRead)?;
    let hook = path.find(&state, &principal).await?;
    let points = match state.hook_control() {
        Some(control) => control.circuit(&hook).await?,
        None => Vec::new(),
    };
    Ok(Json(CircuitAnswer {
        wanted: settings(&hook)?.circuit.as_str(),
        points: points.into_iter().map(Into::into).collect(),
    }))
}

/// Say when a hook is left alone
///
/// Breakers open and close by themselves, never open, or stay open until something else is said.
#[utoipa::path(
    post, path = "/hooks/{id}/circuit", tag = "hooks", operation_id = "set_hook_circuit",
    params(("id" = String, Path, description = "The hook")), request_body = CircuitRequest,
    security(("api_key" = ["hooks:write"])),
    responses(
        (status = 200, description = "The hook", body = HookEntry, headers(("ETag" = String))),
        BodyErrors, MissingErrors, StateErrors, AccessErrors,
    )
)]
pub(crate) async fn set_circuit(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: HookPath,
    request: Request,
) -> Result<Response, Problem> {
    principal.require(Scope::HooksWrite)?;
    let before = path.find(&state, &principal).await?;
    let request: CircuitRequest = body::json(request).await?;
    let mut settings = settings(&before)?;
    settings.circuit = Circuit::parse(&request.wanted)
        .ok_or_else(|| invalid("/wanted", "must be automatic, disabled or forced_open"))?;
    let change = HookChange { settings: Some(settings.to_json()), ..HookChange::default() };
    apply(&state, &principal, &caller, &before, (change, None), "circuit_changed").await
}

/// Have the breakers of a hook begin anew
///
/// They forget what failed. Those that were told to stay open or never to open stay so.
#[utoipa::path(
    post, path = "/hooks/{id}/circuit/reset", tag = "hooks", operation_id = "reset_hook_circuit",
    params(("id" = String, Path, description = "The hook")), security(("api_key" = ["hooks:write"])),
    responses(
        (status = 200, description = "The hook", body = HookEntry, headers(("ETag" = String))),
        MissingErrors, StateErrors, AccessErrors,
    )
)]
pub(crate) async fn reset_circuit(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: HookPath,
) -> Result<Response, Problem> {
    principal.require(Scope::HooksWrite)?;
    let before = path.find(&state, &principal).await?;
    apply(&state, &principal, &caller, &before, (HookChange::default(), None), "circuit_reset").await
}

/// Test a hook
///
/// Shows it a message and answers what it says, whether it is enabled or not. Nothing comes of it.
#[utoipa::path(
    post, path = "/hooks/{id}/test", tag = "hooks", operation_id = "test_hook",
    params(("id" = String, Path, description = "The hook")), request_body = TestRequest,
    security(("api_key" = ["hooks:write"])),
    responses(
        (status = 200, description = "What it was asked and said", body = TrialAnswer),
        BodyErrors, MissingErrors, StateErrors, GoneErrors, UpstreamErrors, AccessErrors,
    )
)]
pub(crate) async fn test(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: HookPath,
    request: Request,
) -> Result<Json<TrialAnswer>, Problem> {
    principal.require(Scope::HooksWrite)?;
    let hook = path.find(&state, &principal).await?;
    let TestRequest { point, message_id, sample } = body::json(request).await?;
    let subject = match (message_id, sample) {
        (Some(_), Some(_)) => return Err(invalid("/sample", "there is a message_id already")),
        (Some(id), None) => {
            let id: MessageId = id.parse().map_err(|_| invalid("/message_id", "is no id of a message"))?;
            let kept = state.storage().messages().get(principal.tenant, id).await;
            kept.map_err(|error| Problem::store(&error))?
                .ok_or_else(|| invalid("/message_id", "there is no such message"))?;
            Subject::Kept(id)
        }
        (None, Some(text)) => Subject::Text(text.into_bytes()),
        (None, None) => Subject::Sample,
    };
    let wanted =
        point.map(|name| HookPoint::parse(&name).ok_or_else(|| invalid("/point", "is no point"))).transpose()?;
    let points = settings(&hook)?.points;
    let point = match wanted {
        Some(point) if points.contains(&point) => point,
        Some(_) => return Err(invalid("/point", "the hook is not called there")),
        None => *points.first().ok_or_else(Problem::internal)?,
    };
    let trial = control(&state)?.show(&hook, Shown { point, subject, again: false }).await?;
    let after = Some(json!({"delivery_id": trial.id}));
    caller.changed_hook(&state, &principal, "tested", hook.id, (None, after));
    TrialAnswer::of(trial).map(Json)
}

/// Whoever runs hooks.
pub(super) fn control(state: &ApiState) -> Result<&dyn HookControl, Problem> {
    let none = || Problem::new(ErrorCode::InvalidState, "this server runs no hooks of tenants");
    state.hook_control().ok_or_else(none)
}

fn settings(hook: &HookBinding) -> Result<HookSettings, Problem> {
    HookSettings::kept(&hook.settings).map_err(|error| {
        tracing::error!(error, "settings of a hook can't be read");
        Problem::internal()
    })
}

fn invalid(path: &str, message: &str) -> Problem {
    Problem::validation(&[FieldError { path: path.to_owned(), code: "invalid_value", message: message.to_owned() }])
}

fn no_key() -> Problem {
    Problem::new(ErrorCode::InvalidState, "it has no key: only requests by HTTP are signed")
}

impl TrialAnswer {
    /// What a hook said, or that it said nothing.
    pub(super) fn of(trial: HookTrial) -> Result<Self, Problem> {
        let HookTrial { id, request, outcome, response, denied, error, ms } = trial;
        let Some(error) = error else {
            return Ok(Self { delivery_id: id, request, outcome, response, denied, ms });
        };
        let code = if outcome == "timeout" { ErrorCode::UpstreamTimeout } else { ErrorCode::PluginError };
        let message = format!("the hook had no answer: {error}");
        let problem = Problem::new(code, message).detail("delivery_id", id).detail("outcome", outcome);
        Err(problem.detail("request", request).detail("ms", ms))
    }
}

impl From<CircuitState> for PointState {
    fn from(found: CircuitState) -> Self {
        let CircuitState { point, state } = found;
        let (reason, until) = match state {
            BreakerState::Open { until, because } => (Some(because.as_str()), until.map(|at| at.to_rfc3339())),
            _ => (None, None),
        };
        Self { point: point.as_str(), state: state.as_str(), reason, until }
    }
}

impl From<HookControlError> for Problem {
    fn from(error: HookControlError) -> Self {
        match error {
            HookControlError::Gone => Self::new(ErrorCode::Gone, "the message is gone"),
            HookControlError::Unusable(why) => Self::new(ErrorCode::InvalidState, format!("it can't be called: {why}")),
            HookControlError::Store(error) => Self::body(&error),
        }
    }
}
