//! Hooks: the list, one of them, binding, changing and removing them.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{ETAG, IF_MATCH, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use mairust_core::HookId;
use mairust_hooks::{HookSettings, SettingsError};
use mairust_store::hook::{MAX_HOOKS, is_plugin_id, keys};
use mairust_store::{HookBinding, HookChange, HookState, NewHookBinding, StoreError, StoreErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::auth::{Authenticated, Caller, Principal, Scope};
use crate::body::json_object;
use crate::download;
use crate::openapi::{AccessErrors, BodyErrors, CacheHeaders, MatchErrors, MatchHeaders, MissingErrors, StateErrors};
use crate::problem::{ErrorCode, FieldError, Problem};
use crate::state::ApiState;
use crate::v1::InPath;
use crate::v1::hook_fields::HookFields;
use crate::v1::hook_health::HookHealthEntry;
use crate::v1::webhooks::{reveal, sealer};

/// The hooks of the tenant, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HookList {
    items: Vec<HookEntry>,
}

/// A program that is asked about mail.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HookEntry {
    id: String,
    /// The name of the program.
    #[schema(example = "com.example.spam-filter")]
    plugin_id: String,
    enabled: bool,
    /// Why it is not enabled.
    disabled_because: Option<String>,
    /// Counts changes; the entity tag is made of it.
    generation: u64,
    created_at: String,
    updated_at: String,
    #[serde(flatten)]
    settings: HookFields,
}

/// A hook, and how it does.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HookDetails {
    #[serde(flatten)]
    hook: HookEntry,
    /// What it said when it was asked; null if it was not, or can't be. Does not change the entity tag.
    health: Option<HookHealthEntry>,
}

/// A hook that was bound.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedHook {
    #[serde(flatten)]
    hook: HookEntry,
    /// The key that requests are signed with. It is not shown again.
    #[schema(example = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")]
    secret: String,
}

/// A hook that is to be bound.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct HookRequest {
    /// The name of the program, unique in the tenant: labels of letters a to z, digits and hyphens with dots between
    /// them.
    plugin_id: String,
    /// Whether it is called.
    #[schema(default = true)]
    enabled: Option<bool>,
    #[serde(flatten)]
    settings: HookFields,
}

/// A hook, and one of its calls.
pub(crate) type HookPath = InPath<HookId, String>;

impl HookPath {
    /// The hook, if the tenant has it.
    pub(super) async fn find(&self, state: &ApiState, principal: &Principal) -> Result<HookBinding, Problem> {
        let found = state.storage().hooks().get(principal.tenant, self.id()?).await;
        found.map_err(|error| Problem::store(&error))?.ok_or_else(Problem::not_found)
    }
}

/// List hooks
#[utoipa::path(
    get, path = "/hooks", tag = "hooks", operation_id = "list_hooks", security(("api_key" = ["hooks:read"])),
    responses((status = 200, description = "The hooks", body = HookList), AccessErrors)
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
) -> Result<Json<HookList>, Problem> {
    principal.require(Scope::HooksRead)?;
    let found = state.storage().hooks().list(principal.tenant).await.map_err(|error| Problem::store(&error))?;
    Ok(Json(HookList { items: found.iter().map(HookEntry::new).collect::<Result<_, _>>()? }))
}

/// Bind a hook
///
/// It is asked about mail from the next message on. The answer has the key that requests are signed with, and is the
/// only one that has it. Programs that the server starts, private addresses, `before_policy` and the leave to decide
/// `reject` are for whoever runs the server: `mairust hook add`.
#[utoipa::path(
    post, path = "/hooks", tag = "hooks", operation_id = "create_hook",
    request_body = HookRequest, security(("api_key" = ["hooks:write"])),
    responses(
        (status = 201, description = "The hook and its key", body = CreatedHook,
            headers(("Location" = String, description = "Where it is"), ("ETag" = String))),
        BodyErrors, StateErrors, AccessErrors,
    )
)]
pub(crate) async fn create(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    principal.require(Scope::HooksWrite)?;
    let mut fields = json_object(request).await?;
    let (name, enabled) = (fields.remove("plugin_id"), fields.remove("enabled").unwrap_or(Value::Bool(true)));
    let (settings, name, enabled) = check_new(&state, &fields, name.as_ref(), &enabled)?;
    for_the_host(&settings, None)?;
    let off = || HookState::Disabled("not enabled yet".to_owned());
    let new = NewHookBinding {
        id: HookId::new(state.now()),
        plugin_id: name,
        settings: settings.to_json(),
        state: if enabled { HookState::Enabled } else { off() },
    };
    let made = keys::create(state.storage(), sealer(&state)?, principal.tenant, new).await;
    let (hook, key) = made.map_err(|error| match error.kind() {
        StoreErrorKind::AlreadyExists => Problem::new(ErrorCode::AlreadyExists, "there is a hook of this name already"),
        StoreErrorKind::Conflict => {
            Problem::new(ErrorCode::InvalidState, format!("there are {MAX_HOOKS} hooks already; remove one"))
        }
        _ => refused(&error),
    })?;
    caller.changed_hook(&state, &principal, "created", hook.id, (None, Some(facts(&hook))));
    let headers = [(LOCATION, format!("/api/v1/hooks/{}", hook.id)), (ETAG, tag(&hook))];
    let made = CreatedHook { hook: HookEntry::new(&hook)?, secret: reveal(key.expose())? };
    Ok((StatusCode::CREATED, headers, Json(made)).into_response())
}

/// Read a hook
#[utoipa::path(
    get, path = "/hooks/{id}", tag = "hooks", operation_id = "read_hook",
    params(("id" = String, Path, description = "The hook"), CacheHeaders), security(("api_key" = ["hooks:read"])),
    responses(
        (status = 200, description = "The hook", body = HookDetails, headers(("ETag" = String))),
        (status = 304, description = "It is as the client knows it"),
        MissingErrors, AccessErrors,
    )
)]
pub(crate) async fn read(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    path: HookPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    principal.require(Scope::HooksRead)?;
    let hook = path.find(&state, &principal).await?;
    match HeaderValue::try_from(tag(&hook)) {
        Ok(tag) if download::is_current(&headers, &tag) => Ok(download::not_modified(tag)),
        _ => {
            let health = health(&state, &hook).await?;
            let details = HookDetails { hook: HookEntry::new(&hook)?, health };
            Ok(([(ETAG, tag(&hook))], Json(details)).into_response())
        }
    }
}

/// Change a hook
///
/// The body is a merge patch (RFC 7396): null stands for the default. The next message is treated by it.
#[utoipa::path(
    patch, path = "/hooks/{id}", tag = "hooks", operation_id = "change_hook",
    params(("id" = String, Path, description = "The hook"), MatchHeaders), request_body = HookFields,
    security(("api_key" = ["hooks:write"])),
    responses(
        (status = 200, description = "The hook", body = HookEntry, headers(("ETag" = String))),
        BodyErrors, MissingErrors, StateErrors, MatchErrors, AccessErrors,
    )
)]
pub(crate) async fn change(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: HookPath,
    request: Request,
) -> Result<Response, Problem> {
    principal.require(Scope::HooksWrite)?;
    let before = path.find(&state, &principal).await?;
    let expected = expected(request.headers(), &before)?;
    let patch = json_object(request).await?;
    let kept = HookSettings::kept(&before.settings).map_err(|error| {
        tracing::error!(error, "settings of a hook can't be read");
        Problem::internal()
    })?;
    let settings = kept.patched(&patch, state.allows_private_hooks()).map_err(|errors| invalid(&errors))?;
    for_the_host(&settings, Some(&kept))?;
    let change = HookChange { settings: Some(settings.to_json()), ..HookChange::default() };
    apply(&state, &principal, &caller, &before, (change, expected), "changed").await
}

/// Remove a hook
///
/// With its key. What is known about its calls is kept.
#[utoipa::path(
    delete, path = "/hooks/{id}", tag = "hooks", operation_id = "delete_hook",
    params(("id" = String, Path, description = "The hook"), MatchHeaders), security(("api_key" = ["hooks:write"])),
    responses((status = 204, description = "It is gone"), MissingErrors, MatchErrors, AccessErrors)
)]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: HookPath,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    principal.require(Scope::HooksWrite)?;
    let hook = path.find(&state, &principal).await?;
    let expected = expected(&headers, &hook)?;
    let removed = keys::remove(state.storage(), (principal.tenant, hook.id), expected).await;
    removed.map_err(|error| refused(&error))?;
    caller.changed_hook(&state, &principal, "removed", hook.id, (Some(facts(&hook)), None));
    Ok(StatusCode::NO_CONTENT)
}

/// Changes a hook, and tells the audit log of it. Without an expected generation, it is the one that was just read.
pub(super) async fn apply(
    state: &ApiState,
    principal: &Principal,
    caller: &Caller,
    before: &HookBinding,
    (change, expected): (HookChange, Option<u64>),
    action: &'static str,
) -> Result<Response, Problem> {
    let change = HookChange { expected: Some(expected.unwrap_or(before.generation)), ..change };
    let changed = state.storage().hooks().change(principal.tenant, before.id, &change).await;
    let after = changed.map_err(|error| match error.kind() {
        StoreErrorKind::Conflict if expected.is_none() => {
            Problem::new(ErrorCode::InvalidState, "somebody else has changed it meanwhile; try again")
        }
        _ => refused(&error),
    })?;
    caller.changed_hook(state, principal, action, after.id, (Some(facts(before)), Some(facts(&after))));
    answer(&after)
}

/// How a hook does; `None` if it was not asked, or can't be any more.
async fn health(state: &ApiState, hook: &HookBinding) -> Result<Option<HookHealthEntry>, Problem> {
    if !HookSettings::kept(&hook.settings).is_ok_and(|settings| settings.transport.tells_health()) {
        return Ok(None);
    }
    let found = state.storage().hooks().health(hook.tenant, Some(hook.id)).await;
    Ok(found.map_err(|error| Problem::store(&error))?.into_iter().next().map(HookHealthEntry::from))
}

fn answer(hook: &HookBinding) -> Result<Response, Problem> {
    Ok(([(ETAG, tag(hook))], Json(HookEntry::new(hook)?)).into_response())
}

/// The strong entity tag of a hook.
fn tag(hook: &HookBinding) -> String {
    format!("\"{}\"", hook.generation)
}

/// The generation that a client expects, if it says so.
pub(super) fn expected(headers: &HeaderMap, hook: &HookBinding) -> Result<Option<u64>, Problem> {
    let mut tags = headers.get_all(IF_MATCH).iter().filter_map(|value| value.to_str().ok()).peekable();
    if tags.peek().is_none() {
        return Ok(None);
    }
    let tag = tag(hook);
    let fits = tags.flat_map(|value| value.split(',')).map(str::trim).any(|one| one == "*" || one == tag);
    if fits { Ok(Some(hook.generation)) } else { Err(Problem::precondition_failed()) }
}

/// An error of the store about a hook that was looked at before.
fn refused(error: &StoreError) -> Problem {
    match error.kind() {
        StoreErrorKind::Conflict => Problem::precondition_failed(),
        StoreErrorKind::Invalid => Problem::validation(&[FieldError {
            path: String::new(),
            code: "invalid_value",
            message: "the settings are too long".to_owned(),
        }]),
        _ => Problem::store(error),
    }
}

/// Reads what is to be bound, and says all that is wrong at once.
fn check_new(
    state: &ApiState,
    fields: &Map<String, Value>,
    name: Option<&Value>,
    enabled: &Value,
) -> Result<(HookSettings, String, bool), Problem> {
    let read = HookSettings::made(fields, state.allows_private_hooks());
    let name = name.and_then(Value::as_str).filter(|name| is_plugin_id(name));
    match (read, name, enabled.as_bool()) {
        (Ok(settings), Some(name), Some(enabled)) => Ok((settings, name.to_owned(), enabled)),
        (read, name, enabled) => {
            let error =
                |path: &str, message: &str| SettingsError { path: path.to_owned(), message: message.to_owned() };
            let mut errors = read.err().unwrap_or_default();
            if name.is_none() {
                let message = "must be labels of letters a to z, digits and hyphens with dots between them";
                errors.push(error("/plugin_id", message));
            }
            if enabled.is_none() {
                errors.push(error("/enabled", "must be true or false"));
            }
            Err(invalid(&errors))
        }
    }
}

fn invalid(errors: &[SettingsError]) -> Problem {
    Problem::validation(&errors.iter().map(field_error).collect::<Vec<_>>())
}

fn field_error(error: &SettingsError) -> FieldError {
    FieldError { path: error.path.clone(), code: "invalid_value", message: error.message.clone() }
}

/// Refuses what only whoever runs the server may set.
fn for_the_host(settings: &HookSettings, before: Option<&HookSettings>) -> Result<(), Problem> {
    let errors: Vec<_> = settings.for_the_host(before).iter().map(field_error).collect();
    let Some(first) = errors.first() else { return Ok(()) };
    let problem = Problem::new(ErrorCode::Forbidden, format!("{}: {}", first.path, first.message))
        .detail("errors", serde_json::to_value(&errors).unwrap_or_default())
        .hint("Whoever runs the server can: mairust hook add, mairust hook change");
    Err(problem)
}

/// What the audit log says about a hook.
fn facts(hook: &HookBinding) -> Value {
    json!({
        "plugin_id": hook.plugin_id,
        "enabled": hook.state.is_enabled(),
        "generation": hook.generation,
        "settings": hook.settings,
    })
}

impl HookEntry {
    fn new(hook: &HookBinding) -> Result<Self, Problem> {
        Ok(Self {
            id: hook.id.to_string(),
            plugin_id: hook.plugin_id.clone(),
            enabled: hook.state.is_enabled(),
            disabled_because: hook.state.reason().map(str::to_owned),
            generation: hook.generation,
            created_at: hook.created_at.to_rfc3339(),
            updated_at: hook.updated_at.to_rfc3339(),
            settings: HookFields::kept(&hook.settings)?,
        })
    }
}
