//! What happened to a message.

use axum::Json;
use axum::extract::State;
use mairust_core::MessageId;

use crate::auth::{Authenticated, Principal, Scope};
use crate::openapi::{AccessErrors, MissingErrors};
use crate::problem::Problem;
use crate::state::ApiState;
use crate::trace::Trace;
use crate::v1::MessagePath;
use crate::v1::sends::sent;

/// Read what happened to a message
///
/// Its timeline, from what was recorded, the oldest first: the session that brought it, what was found out
/// about it, the attempts to deliver it and the notices about them. Entries of the kind `next_attempt` at the
/// end tell why it is still here. Also for messages that are deleted.
#[utoipa::path(
    get, path = "/messages/{id}/trace", tag = "messages", operation_id = "trace_message",
    params(("id" = String, Path, description = "The message")), security(("api_key" = ["messages:read"])),
    responses((status = 200, description = "The timeline", body = Trace), MissingErrors, AccessErrors)
)]
pub(crate) async fn trace(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    path: MessagePath,
) -> Result<Json<Trace>, Problem> {
    principal.require(Scope::MessagesRead)?;
    read(&state, &principal, path.id()?).await
}

/// Read what happened to a message that was sent
///
/// Its timeline, as in `GET /messages/{id}/trace`, for keys that may not read messages.
#[utoipa::path(
    get, path = "/sends/{id}/events", tag = "sending", operation_id = "trace_submission",
    params(("id" = String, Path, description = "`id` from the answer of `/send`")),
    security(("api_key" = ["sends:read"])),
    responses((status = 200, description = "The timeline", body = Trace), MissingErrors, AccessErrors)
)]
pub(crate) async fn submission(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    path: MessagePath,
) -> Result<Json<Trace>, Problem> {
    principal.require(Scope::SendsRead)?;
    let id = path.id()?;
    sent(&state, &principal, id).await?;
    read(&state, &principal, id).await
}

async fn read(state: &ApiState, principal: &Principal, id: MessageId) -> Result<Json<Trace>, Problem> {
    let trace = crate::trace::trace(state.storage(), principal.tenant, id).await;
    trace.map_err(|error| Problem::store(&error))?.map(Json).ok_or_else(Problem::not_found)
}
