//! What became of events on their way to a webhook.

use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mairust_store::webhook::work::webhook_job;
use mairust_store::{
    StoreErrorKind, Webhook, WebhookAttempt, WebhookDelivery, WebhookDeliveryQuery, WebhookDeliveryState,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::auth::{Authenticated, Caller, Principal, Scope};
use crate::openapi::{AccessErrors, MissingErrors, QueryErrors, StateErrors};
use crate::page::{self, CursorContext};
use crate::problem::{ErrorCode, Problem};
use crate::state::ApiState;
use crate::v1::events::EventItem;
use crate::v1::messages::{page_limit, parse};
use crate::v1::webhooks::WebhookPath;

/// The query of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeliveriesQuery {
    /// Number of entries on a page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before, with the same filters.
    cursor: Option<String>,
    /// Of which this became: `pending`, `delivered` or `failed`.
    state: Option<String>,
}

/// A page of deliveries, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryList {
    items: Vec<DeliveryEntry>,
    /// For the query parameter `cursor` of the next page.
    next_cursor: Option<String>,
    /// Always null: lists are walked forwards.
    prev_cursor: Option<String>,
    has_more: bool,
}

/// One event on its way to the webhook.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryEntry {
    id: String,
    /// The id of its requests: `webhook-id` and `X-MaiRust-Request-Id`.
    request_id: String,
    event_id: String,
    /// The type of the event.
    event_type: String,
    /// `pending`, `delivered` or `failed`.
    state: &'static str,
    /// Attempts since it was made, or begun again.
    attempts: u32,
    /// The HTTP status of the last answer.
    last_status: Option<u16>,
    /// Why the last attempt failed.
    last_error: Option<String>,
    /// When it is tried next (RFC 3339).
    next_attempt_at: Option<String>,
    created_at: String,
    updated_at: String,
}

/// One event on its way to the webhook, in full.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryDetail {
    #[serde(flatten)]
    delivery: DeliveryEntry,
    /// The event; null if it was removed because it is old.
    event: Option<EventItem>,
    /// The last attempts, oldest first.
    history: Vec<AttemptEntry>,
}

/// One request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AttemptEntry {
    /// When it was made (RFC 3339).
    at: String,
    /// The HTTP status of the answer, if there was one.
    status: Option<u16>,
    /// How long it took, in milliseconds.
    ms: u64,
    /// Why it failed.
    error: Option<String>,
    /// The beginning of the body of the answer, up to 1 KiB.
    response: Option<String>,
}

/// List the deliveries of a webhook
///
/// Newest first.
#[utoipa::path(
    get, path = "/webhooks/{id}/deliveries", tag = "webhooks", operation_id = "list_webhook_deliveries",
    params(("id" = String, Path, description = "The webhook"), DeliveriesQuery), security(("api_key" = ["hooks:read"])),
    responses(
        (status = 200, description = "A page of deliveries", body = DeliveryList,
            headers(("Link" = String, description = "The next page, `rel=\"next\"`"))),
        QueryErrors, MissingErrors, AccessErrors,
    )
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    OriginalUri(uri): OriginalUri,
    path: WebhookPath,
) -> Result<Response, Problem> {
    principal.require(Scope::HooksRead)?;
    let webhook = path.find(&state, &principal).await?;
    let query: DeliveriesQuery = page::parse_query(&uri)?;
    let limit = page_limit(query.limit)?;
    let wanted = parse("state", query.state.as_deref(), WebhookDeliveryState::parse)?;
    let name = Some(format!("deliveries of {}", webhook.id));
    let filter_hash = page::filter_hash(&[name, wanted.map(|state| state.as_str().to_owned())]);
    let cursors = CursorContext { key: state.server_key(), tenant: principal.tenant, filter_hash };
    let before = query.cursor.as_deref().map(|cursor| cursors.decode(cursor)).transpose()?;
    let query = WebhookDeliveryQuery { state: wanted, before, limit };
    let found = state.storage().webhooks().list_deliveries(principal.tenant, webhook.id, &query).await;
    let found = found.map_err(|error| Problem::store(&error))?;
    let next_cursor = found.items.last().filter(|_| found.has_more).map(|last| cursors.encode(&last.id));
    let items = found.items.iter().map(DeliveryEntry::from).collect();
    let list = DeliveryList { items, has_more: next_cursor.is_some(), prev_cursor: None, next_cursor };
    Ok(page::with_next_link(&uri, list.next_cursor.clone().as_deref(), Json(list)))
}

/// Read a delivery of a webhook
///
/// With the event and the last attempts.
#[utoipa::path(
    get, path = "/webhooks/{id}/deliveries/{delivery_id}", tag = "webhooks", operation_id = "read_webhook_delivery",
    params(("id" = String, Path, description = "The webhook"), ("delivery_id" = String, Path, description = "The delivery")),
    security(("api_key" = ["hooks:read"])),
    responses((status = 200, description = "The delivery", body = DeliveryDetail), MissingErrors, AccessErrors)
)]
pub(crate) async fn read(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    path: WebhookPath,
) -> Result<Json<DeliveryDetail>, Problem> {
    principal.require(Scope::HooksRead)?;
    let (_, delivery) = find(&state, &principal, &path).await?;
    let event = state.storage().events().at(principal.tenant, delivery.position).await;
    let event = event.map_err(|error| Problem::store(&error))?.filter(|event| event.id == delivery.event);
    Ok(Json(DeliveryDetail {
        event: event.map(|event| EventItem::new(principal.tenant, event)),
        history: delivery.attempts.iter().map(AttemptEntry::from).collect(),
        delivery: DeliveryEntry::from(&delivery),
    }))
}

/// Deliver an event to a webhook again
///
/// Begins a delivery again that has ended: with the same id, by which the webhook knows that it is the same.
#[utoipa::path(
    post, path = "/webhooks/{id}/deliveries/{delivery_id}/replay", tag = "webhooks",
    operation_id = "replay_webhook_delivery",
    params(("id" = String, Path, description = "The webhook"), ("delivery_id" = String, Path, description = "The delivery")),
    security(("api_key" = ["hooks:write"])),
    responses((status = 202, description = "The delivery", body = DeliveryEntry), MissingErrors, StateErrors, AccessErrors)
)]
pub(crate) async fn replay(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: WebhookPath,
) -> Result<Response, Problem> {
    principal.require(Scope::HooksWrite)?;
    let (webhook, delivery) = find(&state, &principal, &path).await?;
    if !webhook.state.is_enabled() {
        let problem = Problem::new(ErrorCode::InvalidState, "the webhook is disabled; enable it first");
        return Err(problem.detail("state", "disabled"));
    }
    let job = webhook_job(principal.tenant, webhook.id, delivery.id, state.now());
    let begun = state.storage().webhooks().replay(principal.tenant, delivery.id, job).await;
    begun.map_err(|error| match error.kind() {
        StoreErrorKind::Conflict => {
            Problem::new(ErrorCode::InvalidState, "it has not ended yet").detail("state", delivery.state.as_str())
        }
        _ => Problem::store(&error),
    })?;
    let after = Some(json!({"delivery_id": delivery.id.to_string()}));
    caller.changed_webhook(&state, &principal, "replayed", webhook.id, (None, after));
    let (_, delivery) = find(&state, &principal, &path).await?;
    Ok((StatusCode::ACCEPTED, Json(DeliveryEntry::from(&delivery))).into_response())
}

/// The webhook and the delivery in a path.
async fn find(
    state: &ApiState,
    principal: &Principal,
    path: &WebhookPath,
) -> Result<(Webhook, WebhookDelivery), Problem> {
    let webhook = path.find(state, principal).await?;
    let found = state.storage().webhooks().delivery(principal.tenant, path.part()?).await;
    let found = found.map_err(|error| Problem::store(&error))?.filter(|delivery| delivery.webhook == webhook.id);
    Ok((webhook, found.ok_or_else(Problem::not_found)?))
}

impl From<&WebhookDelivery> for DeliveryEntry {
    fn from(delivery: &WebhookDelivery) -> Self {
        let last = delivery.attempts.last();
        Self {
            id: delivery.id.to_string(),
            request_id: delivery.request_id(),
            event_id: delivery.event.to_string(),
            event_type: delivery.kind.clone(),
            state: delivery.state.as_str(),
            attempts: delivery.tries,
            last_status: last.and_then(|attempt| attempt.status),
            last_error: last.and_then(|attempt| attempt.error.clone()),
            next_attempt_at: delivery.next_attempt.map(|at| at.to_rfc3339()),
            created_at: delivery.created_at.to_rfc3339(),
            updated_at: delivery.updated_at.to_rfc3339(),
        }
    }
}

impl From<&WebhookAttempt> for AttemptEntry {
    fn from(attempt: &WebhookAttempt) -> Self {
        Self {
            at: attempt.at.to_rfc3339(),
            status: attempt.status,
            ms: attempt.took_ms,
            error: attempt.error.clone(),
            response: attempt.response.clone(),
        }
    }
}
