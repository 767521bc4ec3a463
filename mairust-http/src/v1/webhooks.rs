//! Webhooks: the list, one of them, making, changing and removing them.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use mairust_core::{WebhookDeliveryId, WebhookId};
use mairust_hooks::{EndpointUrl, EventKind, SigningSecret};
use mairust_store::webhook::{MAX_WEBHOOK_DESCRIPTION, MAX_WEBHOOKS, keys};
use mairust_store::{NewWebhook, Sealer, StoreErrorKind, Webhook, WebhookChange};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::auth::{Authenticated, Caller, Principal, Scope};
use crate::body::json;
use crate::openapi::{AccessErrors, BodyErrors, MissingErrors, StateErrors};
use crate::problem::{ErrorCode, FieldError, Problem};
use crate::state::ApiState;
use crate::v1::InPath;
use crate::v1::events::known_kinds;

/// The webhooks of the tenant, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WebhookList {
    items: Vec<WebhookEntry>,
}

/// A program elsewhere that is told of events.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WebhookEntry {
    id: String,
    url: String,
    description: String,
    /// The types of events that it is told of; none for all.
    types: Vec<String>,
    enabled: bool,
    /// Why it is not enabled.
    disabled_because: Option<String>,
    created_at: String,
    updated_at: String,
}

/// A webhook that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedWebhook {
    #[serde(flatten)]
    webhook: WebhookEntry,
    /// The key that requests are signed with. It is not shown again.
    #[schema(example = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")]
    secret: String,
}

/// A webhook that is to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookRequest {
    /// Where requests go: `https://…`.
    url: String,
    /// What it is for; up to 500 octets.
    #[serde(default)]
    description: String,
    /// The types of events that it is told of; none for all.
    #[serde(default)]
    types: Vec<String>,
}

/// What is to be changed; what is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookPatch {
    #[schema(nullable = false)]
    url: Option<String>,
    #[schema(nullable = false)]
    description: Option<String>,
    #[schema(nullable = false)]
    types: Option<Vec<String>>,
}

/// A webhook, and one of its deliveries.
pub(crate) type WebhookPath = InPath<WebhookId, WebhookDeliveryId>;

impl WebhookPath {
    /// The webhook, if the tenant has it.
    pub(super) async fn find(&self, state: &ApiState, principal: &Principal) -> Result<Webhook, Problem> {
        let found = state.storage().webhooks().get(principal.tenant, self.id()?).await;
        found.map_err(|error| Problem::store(&error))?.ok_or_else(Problem::not_found)
    }
}

/// List webhooks
#[utoipa::path(
    get, path = "/webhooks", tag = "webhooks", operation_id = "list_webhooks", security(("api_key" = ["hooks:read"])),
    responses((status = 200, description = "The webhooks", body = WebhookList), AccessErrors)
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
) -> Result<Json<WebhookList>, Problem> {
    principal.require(Scope::HooksRead)?;
    let found = state.storage().webhooks().list(principal.tenant).await.map_err(|error| Problem::store(&error))?;
    Ok(Json(WebhookList { items: found.iter().map(WebhookEntry::from).collect() }))
}

/// Make a webhook
///
/// It is told of what happens from now on. The answer has the key that requests are signed with, and is the only one
/// that has it.
#[utoipa::path(
    post, path = "/webhooks", tag = "webhooks", operation_id = "create_webhook",
    request_body = WebhookRequest, security(("api_key" = ["hooks:write"])),
    responses(
        (status = 201, description = "The webhook and its key", body = CreatedWebhook,
            headers(("Location" = String, description = "Where it is"))),
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
    let WebhookRequest { url, description, types } = json(request).await?;
    check(&state, Some(&url), Some(&description), Some(&types))?;
    let new = NewWebhook { id: WebhookId::new(state.now()), url, description, kinds: types };
    let made = keys::create(state.storage(), sealer(&state)?, principal.tenant, new).await;
    let (webhook, key) = made.map_err(|error| match error.kind() {
        StoreErrorKind::Conflict => {
            Problem::new(ErrorCode::InvalidState, format!("there are {MAX_WEBHOOKS} webhooks already; remove one"))
        }
        _ => Problem::store(&error),
    })?;
    caller.changed_webhook(&state, &principal, "created", webhook.id, (None, Some(facts(&webhook))));
    let location = format!("/api/v1/webhooks/{}", webhook.id);
    let made = CreatedWebhook { webhook: WebhookEntry::from(&webhook), secret: reveal(key.expose())? };
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(made)).into_response())
}

/// Read a webhook
#[utoipa::path(
    get, path = "/webhooks/{id}", tag = "webhooks", operation_id = "read_webhook",
    params(("id" = String, Path, description = "The webhook")), security(("api_key" = ["hooks:read"])),
    responses((status = 200, description = "The webhook", body = WebhookEntry), MissingErrors, AccessErrors)
)]
pub(crate) async fn read(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    path: WebhookPath,
) -> Result<Json<WebhookEntry>, Problem> {
    principal.require(Scope::HooksRead)?;
    Ok(Json(WebhookEntry::from(&path.find(&state, &principal).await?)))
}

/// Change a webhook
#[utoipa::path(
    patch, path = "/webhooks/{id}", tag = "webhooks", operation_id = "change_webhook",
    params(("id" = String, Path, description = "The webhook")), request_body = WebhookPatch,
    security(("api_key" = ["hooks:write"])),
    responses((status = 200, description = "The webhook", body = WebhookEntry), BodyErrors, MissingErrors, AccessErrors)
)]
pub(crate) async fn change(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: WebhookPath,
    request: Request,
) -> Result<Json<WebhookEntry>, Problem> {
    principal.require(Scope::HooksWrite)?;
    let before = path.find(&state, &principal).await?;
    let WebhookPatch { url, description, types } = json(request).await?;
    check(&state, url.as_deref(), description.as_deref(), types.as_deref())?;
    let change = WebhookChange { url, description, kinds: types, state: None };
    Ok(Json(apply(&state, &principal, &caller, &before, &change, "changed").await?))
}

/// Remove a webhook
///
/// With its key, and with what is known about its deliveries. What is on its way may still come.
#[utoipa::path(
    delete, path = "/webhooks/{id}", tag = "webhooks", operation_id = "delete_webhook",
    params(("id" = String, Path, description = "The webhook")), security(("api_key" = ["hooks:write"])),
    responses((status = 204, description = "It is gone"), MissingErrors, AccessErrors)
)]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: WebhookPath,
) -> Result<StatusCode, Problem> {
    principal.require(Scope::HooksWrite)?;
    let webhook = path.find(&state, &principal).await?;
    let removed = keys::remove(state.storage(), principal.tenant, webhook.id).await;
    removed.map_err(|error| Problem::store(&error))?;
    caller.changed_webhook(&state, &principal, "removed", webhook.id, (Some(facts(&webhook)), None));
    Ok(StatusCode::NO_CONTENT)
}

/// Changes a webhook, and tells the audit log of it.
pub(super) async fn apply(
    state: &ApiState,
    principal: &Principal,
    caller: &Caller,
    before: &Webhook,
    change: &WebhookChange,
    action: &'static str,
) -> Result<WebhookEntry, Problem> {
    let changed = state.storage().webhooks().change(principal.tenant, before.id, change).await;
    let after = changed.map_err(|error| Problem::store(&error))?;
    caller.changed_webhook(state, principal, action, after.id, (Some(facts(before)), Some(facts(&after))));
    Ok(WebhookEntry::from(&after))
}

/// What keeps the keys of webhooks.
pub(super) fn sealer(state: &ApiState) -> Result<&Sealer, Problem> {
    let none = || Problem::new(ErrorCode::InvalidState, "this server has no master key to keep keys of webhooks under");
    state.sealer().ok_or_else(none)
}

/// A key, as it is shown once.
pub(super) fn reveal(key: &[u8; 32]) -> Result<String, Problem> {
    SigningSecret::from_bytes(key).map(|secret| secret.reveal()).ok_or_else(Problem::internal)
}

/// What the audit log says about a webhook.
fn facts(webhook: &Webhook) -> Value {
    json!({
        "url": webhook.url,
        "description": webhook.description,
        "types": webhook.kinds,
        "enabled": webhook.state.is_enabled(),
    })
}

/// Refuses what a webhook can't be, with all that is wrong.
fn check(
    state: &ApiState,
    url: Option<&str>,
    description: Option<&str>,
    types: Option<&[String]>,
) -> Result<(), Problem> {
    let error = |path: String, message: String| FieldError { path, code: "invalid_value", message };
    let mut errors = Vec::new();
    let checked = url.map(|url| EndpointUrl::parse(url).and_then(|url| url.check(state.allows_private_webhooks())));
    if let Some(Err(refusal)) = checked {
        errors.push(error("/url".to_owned(), refusal.to_string()));
    }
    if description.is_some_and(|text| text.len() > MAX_WEBHOOK_DESCRIPTION) {
        let message = format!("is longer than {MAX_WEBHOOK_DESCRIPTION} octets");
        errors.push(error("/description".to_owned(), message));
    }
    let types = types.unwrap_or_default();
    for (index, name) in types.iter().enumerate() {
        if EventKind::parse(name).is_none() {
            let message = format!("is no type of event; {}", known_kinds());
            errors.push(error(format!("/types/{index}"), message));
        } else if types[..index].contains(name) {
            errors.push(error(format!("/types/{index}"), "is there twice".to_owned()));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::validation(&errors)) }
}

impl From<&Webhook> for WebhookEntry {
    fn from(webhook: &Webhook) -> Self {
        Self {
            id: webhook.id.to_string(),
            url: webhook.url.clone(),
            description: webhook.description.clone(),
            types: webhook.kinds.clone(),
            enabled: webhook.state.is_enabled(),
            disabled_because: webhook.state.reason().map(str::to_owned),
            created_at: webhook.created_at.to_rfc3339(),
            updated_at: webhook.updated_at.to_rfc3339(),
        }
    }
}
