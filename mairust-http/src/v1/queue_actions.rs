//! What is done to deliveries in the queue.

use axum::Json;
use axum::extract::{Request, State};
use mairust_core::{Domain, JobId, MessageId};
use mairust_store::queue::change_all;
use mairust_store::{HoldReason, ItemState, QueueAction, QueueFilter, QueueTotal, pause};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::{Authenticated, Caller, Principal, Scope};
use crate::body::json;
use crate::openapi::{AccessErrors, BodyErrors, MissingErrors, StateErrors};
use crate::problem::{ErrorCode, FieldError, Problem};
use crate::queue::QueueEntry;
use crate::state::ApiState;
use crate::v1::queue::{ItemPath, PausedDestinations, find, paused};

/// How a delivery is cancelled.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CancelRequest {
    /// Whether the sender gets a notice that it failed.
    bounce: bool,
}

/// What became of a delivery that was cancelled.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CancelAnswer {
    /// The delivery, if it is still there: it ends as soon as a worker has written the notice.
    item: Option<QueueEntry>,
}

/// What is done to many deliveries.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchRequest {
    filter: BatchFilter,
    action: BatchAction,
}

/// Which deliveries; all conditions must hold. None at all is every delivery.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchFilter {
    /// One of these, 1,000 at most.
    ids: Option<Vec<String>>,
    message_id: Option<String>,
    destination: Option<String>,
    /// `ready`, `waiting`, `held` or `buried`.
    state: Option<String>,
    /// `hook`, `operator`, `paused`, `policy` or `in_doubt`.
    held_because: Option<String>,
}

/// What is done to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BatchAction {
    /// As cancelling with `bounce`.
    Bounce,
    Cancel,
    Hold,
    Release,
    Retry,
}

/// What became of them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchAnswer {
    /// Deliveries to which it was done.
    changed: u64,
    /// Deliveries that were left alone because they are being done at the moment.
    busy: u64,
}

/// Which destination; none is all of them.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PauseRequest {
    /// A domain.
    destination: Option<String>,
}

/// What is paused now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PauseAnswer {
    paused: PausedDestinations,
    /// Deliveries that were held and go on.
    released: u64,
}

/// Try a delivery at once
///
/// One that is held has to be released instead.
#[utoipa::path(
    post, path = "/queue/items/{id}/retry", tag = "queue", operation_id = "retry_queue_item",
    params(("id" = String, Path, description = "The delivery")), security(("api_key" = ["queue:write"])),
    responses((status = 200, description = "The delivery", body = QueueEntry), MissingErrors, StateErrors, AccessErrors)
)]
pub(crate) async fn retry(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: ItemPath,
) -> Result<Json<QueueEntry>, Problem> {
    let id = one(&state, &principal, &caller, &path, BatchAction::Retry).await?;
    Ok(Json(find(&state, &principal, id).await?.into()))
}

/// Hold a delivery
///
/// It waits until it is released. Nothing happens if it is held already.
#[utoipa::path(
    post, path = "/queue/items/{id}/hold", tag = "queue", operation_id = "hold_queue_item",
    params(("id" = String, Path, description = "The delivery")), security(("api_key" = ["queue:write"])),
    responses((status = 200, description = "The delivery", body = QueueEntry), MissingErrors, StateErrors, AccessErrors)
)]
pub(crate) async fn hold(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: ItemPath,
) -> Result<Json<QueueEntry>, Problem> {
    let id = one(&state, &principal, &caller, &path, BatchAction::Hold).await?;
    Ok(Json(find(&state, &principal, id).await?.into()))
}

/// Release a delivery
///
/// It is due at once.
#[utoipa::path(
    post, path = "/queue/items/{id}/release", tag = "queue", operation_id = "release_queue_item",
    params(("id" = String, Path, description = "The delivery")), security(("api_key" = ["queue:write"])),
    responses((status = 200, description = "The delivery", body = QueueEntry), MissingErrors, StateErrors, AccessErrors)
)]
pub(crate) async fn release(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: ItemPath,
) -> Result<Json<QueueEntry>, Problem> {
    let id = one(&state, &principal, &caller, &path, BatchAction::Release).await?;
    Ok(Json(find(&state, &principal, id).await?.into()))
}

/// Cancel a delivery
///
/// The recipients who wait do not get the message. With `bounce` the sender gets a notice that says so;
/// otherwise nobody is told.
#[utoipa::path(
    post, path = "/queue/items/{id}/cancel", tag = "queue", operation_id = "cancel_queue_item",
    params(("id" = String, Path, description = "The delivery")), security(("api_key" = ["queue:write"])),
    request_body = CancelRequest,
    responses(
        (status = 200, description = "What became of it", body = CancelAnswer),
        BodyErrors, MissingErrors, StateErrors, AccessErrors,
    )
)]
pub(crate) async fn cancel(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: ItemPath,
    request: Request,
) -> Result<Json<CancelAnswer>, Problem> {
    principal.require(Scope::QueueWrite)?;
    let CancelRequest { bounce } = json(request).await?;
    let action = if bounce { BatchAction::Bounce } else { BatchAction::Cancel };
    let id = one(&state, &principal, &caller, &path, action).await?;
    let left = state.storage().queue().items(principal.tenant, &QueueFilter::one(id), None, 1).await;
    let item = left.map_err(|error| Problem::store(&error))?.pop().map(QueueEntry::from);
    Ok(Json(CancelAnswer { item }))
}

/// Do something to many deliveries
///
/// In steps: what was done before an error is done. Deliveries that are being done are left alone.
#[utoipa::path(
    post, path = "/queue/batch", tag = "queue", operation_id = "change_queue",
    request_body = BatchRequest, security(("api_key" = ["queue:write"])),
    responses((status = 200, description = "What became of them", body = BatchAnswer), BodyErrors, AccessErrors)
)]
pub(crate) async fn batch(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    request: Request,
) -> Result<Json<BatchAnswer>, Problem> {
    principal.require(Scope::QueueWrite)?;
    let BatchRequest { filter, action } = json(request).await?;
    let filter = filter.check()?;
    let (queue, mut total) = (state.storage().queue(), QueueTotal::default());
    let outcome = change_all(queue, principal.tenant, (&filter, &action.of()), state.now(), &mut total).await;
    if total.changed > 0 {
        caller.changed_queue(&state, &principal, action.done(), &filter.to_string(), total.changed);
    }
    outcome.map_err(|error| Problem::store(&error))?;
    Ok(Json(BatchAnswer { changed: total.changed, busy: total.busy }))
}

/// Pause a destination
///
/// Nothing is delivered to it until it is resumed; what is being delivered goes on. Without a destination, all.
#[utoipa::path(
    post, path = "/queue/pause", tag = "queue", operation_id = "pause_queue",
    request_body = PauseRequest, security(("api_key" = ["queue:write"])),
    responses((status = 200, description = "What is paused now", body = PauseAnswer), BodyErrors, AccessErrors)
)]
pub(crate) async fn pause(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    request: Request,
) -> Result<Json<PauseAnswer>, Problem> {
    principal.require(Scope::QueueWrite)?;
    let destination = destination(json(request).await?)?;
    let changed = pause::pause(state.storage(), principal.tenant, destination.as_deref()).await;
    if changed.map_err(|error| Problem::store(&error))? {
        caller.changed_queue(&state, &principal, "paused", destination.as_deref().unwrap_or("*"), 0);
    }
    Ok(Json(PauseAnswer { paused: paused(&state, &principal).await?.into(), released: 0 }))
}

/// Resume a destination
///
/// Deliveries that were held because it was paused are due at once. Without a destination, all pauses end.
#[utoipa::path(
    post, path = "/queue/resume", tag = "queue", operation_id = "resume_queue",
    request_body = PauseRequest, security(("api_key" = ["queue:write"])),
    responses((status = 200, description = "What is paused now", body = PauseAnswer), BodyErrors, AccessErrors)
)]
pub(crate) async fn resume(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    request: Request,
) -> Result<Json<PauseAnswer>, Problem> {
    principal.require(Scope::QueueWrite)?;
    let destination = destination(json(request).await?)?;
    let released = pause::resume(state.storage(), principal.tenant, destination.as_deref(), state.now()).await;
    let released = released.map_err(|error| Problem::store(&error))?;
    caller.changed_queue(&state, &principal, "resumed", destination.as_deref().unwrap_or("*"), released);
    Ok(Json(PauseAnswer { paused: paused(&state, &principal).await?.into(), released }))
}

/// Does something to one delivery.
async fn one(
    state: &ApiState,
    principal: &Principal,
    caller: &Caller,
    path: &ItemPath,
    action: BatchAction,
) -> Result<JobId, Problem> {
    principal.require(Scope::QueueWrite)?;
    let id = path.id()?;
    let (filter, now) = (QueueFilter::one(id), state.now());
    let change = state.storage().queue().change(principal.tenant, &filter, &action.of(), now, None, 1).await;
    let change = change.map_err(|error| Problem::store(&error))?;
    if change.changed > 0 {
        caller.changed_queue(state, principal, action.done(), &id.to_string(), 1);
        return Ok(id);
    }
    // Why not: it is not there, it is being done, or there is nothing to do.
    let item = find(state, principal, id).await?;
    let message = match item.state {
        ItemState::Leased { .. } => "it is being delivered at the moment",
        ItemState::Held(_) => "it is held; release it",
        ItemState::Buried => "it was given up; retry it, or cancel it",
        _ => "it is not held",
    };
    Err(Problem::new(ErrorCode::InvalidState, message).detail("state", item.state.as_str()))
}

fn destination(request: PauseRequest) -> Result<Option<String>, Problem> {
    let Some(text) = request.destination else { return Ok(None) };
    match Domain::parse(&text) {
        Ok(domain) => Ok(Some(domain.as_str().to_owned())),
        Err(_) => Err(Problem::validation(&[invalid("/destination")])),
    }
}

impl BatchAction {
    fn of(self) -> QueueAction {
        match self {
            Self::Bounce => QueueAction::GiveUp,
            Self::Cancel => QueueAction::cancel(),
            Self::Hold => QueueAction::Hold(HoldReason::Operator),
            Self::Release => QueueAction::Release,
            Self::Retry => QueueAction::Retry,
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Bounce => "bounced",
            Self::Cancel => "cancelled",
            Self::Hold => "held",
            Self::Release => "released",
            Self::Retry => "retried",
        }
    }
}

impl BatchFilter {
    fn check(&self) -> Result<QueueFilter, Problem> {
        let mut errors = Vec::new();
        let ids = self.ids.as_ref().map(|ids| {
            if ids.len() > QueueFilter::MAX_IDS {
                errors.push(invalid("/filter/ids"));
            }
            let id = |(index, text): (usize, &String)| {
                let id = text.parse::<JobId>().ok();
                if id.is_none() {
                    errors.push(invalid(&format!("/filter/ids/{index}")));
                }
                id
            };
            ids.iter().enumerate().filter_map(id).collect()
        });
        let filter = QueueFilter {
            ids,
            message: read(&mut errors, "message_id", self.message_id.as_deref(), |text| text.parse::<MessageId>().ok()),
            destination: read(&mut errors, "destination", self.destination.as_deref(), |text| {
                Domain::parse(text).ok().map(|domain| domain.as_str().to_owned())
            }),
            state: read(&mut errors, "state", self.state.as_deref(), ItemState::name),
            held: read(&mut errors, "held_because", self.held_because.as_deref(), HoldReason::parse),
        };
        if errors.is_empty() { Ok(filter) } else { Err(Problem::validation(&errors)) }
    }
}

/// Reads one field of the filter.
fn read<T>(
    errors: &mut Vec<FieldError>,
    name: &str,
    text: Option<&str>,
    read: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    let value = read(text?);
    if value.is_none() {
        errors.push(invalid(&format!("/filter/{name}")));
    }
    value
}

fn invalid(path: &str) -> FieldError {
    FieldError { path: path.to_owned(), code: "invalid_value", message: "not a valid value".to_owned() }
}
