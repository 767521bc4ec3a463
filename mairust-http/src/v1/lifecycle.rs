//! What clients do with messages that are there: delete, restore, archive.

use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::http::StatusCode;
use mairust_core::MessageId;
use mairust_store::{MessageRow, Purge};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::auth::{Authenticated, Caller, Principal, Scope};
use crate::openapi::{AccessErrors, MissingContentErrors, MissingErrors, QueryErrors, StateErrors};
use crate::page::parse_query;
use crate::problem::{ErrorCode, Problem};
use crate::state::ApiState;
use crate::v1::MessagePath;
use crate::v1::messages::MessageSummary;

/// The query of a deletion.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeleteQuery {
    /// Whether to remove it for good, with its content; also when it was deleted before.
    #[param(default = false)]
    permanent: Option<bool>,
}

/// Delete a message
///
/// It is hidden, and can be restored until it is removed for good: after the number of days that the
/// server or the tenant keeps deleted messages, or at once with `permanent`. Nothing happens if it was
/// deleted before. Recipients who wait for it get it all the same; until then, and while it is on legal
/// hold, it can't be removed for good.
#[utoipa::path(
    delete, path = "/messages/{id}", tag = "messages", operation_id = "delete_message",
    params(("id" = String, Path, description = "The message"), DeleteQuery),
    security(("api_key" = ["messages:write"])),
    responses((status = 204, description = "It is deleted"), QueryErrors, MissingErrors, StateErrors, AccessErrors)
)]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: MessagePath,
    OriginalUri(uri): OriginalUri,
) -> Result<StatusCode, Problem> {
    principal.require(Scope::MessagesWrite)?;
    let query: DeleteQuery = parse_query(&uri)?;
    let id = path.id()?;
    if query.permanent == Some(true) {
        purge(&state, &principal, &caller, id).await?;
    } else {
        let deleted = state.storage().lifecycle().delete(principal.tenant, id, state.now()).await;
        deleted.map_err(|error| Problem::store(&error))?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Restore a message
///
/// Brings a deleted message back into its folder. Nothing happens if it is not deleted.
#[utoipa::path(
    post, path = "/messages/{id}/restore", tag = "messages", operation_id = "restore_message",
    params(("id" = String, Path, description = "The message")), security(("api_key" = ["messages:write"])),
    responses((status = 200, description = "The message", body = MessageSummary), MissingErrors, AccessErrors)
)]
pub(crate) async fn restore(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    path: MessagePath,
) -> Result<Json<MessageSummary>, Problem> {
    principal.require(Scope::MessagesWrite)?;
    let id = path.id()?;
    let restored = state.storage().lifecycle().restore(principal.tenant, id).await;
    restored.map_err(|error| Problem::store(&error))?;
    kept(&state, &principal, id).await.map(|row| Json(row.into()))
}

/// Archive a message
///
/// Moves its content to where the storage keeps what is seldom read. Nothing else changes about it.
/// Nothing happens if it is archived already.
#[utoipa::path(
    post, path = "/messages/{id}/archive", tag = "messages", operation_id = "archive_message",
    params(("id" = String, Path, description = "The message")), security(("api_key" = ["messages:write"])),
    responses((status = 200, description = "The message", body = MessageSummary), MissingContentErrors, AccessErrors)
)]
pub(crate) async fn archive(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    path: MessagePath,
) -> Result<Json<MessageSummary>, Problem> {
    principal.require(Scope::MessagesWrite)?;
    let row = super::content::row(&state, &principal, &path).await?;
    let archived = state.storage().lifecycle().archive(principal.tenant, row.id).await;
    archived.map_err(|error| Problem::body(&error))?;
    kept(&state, &principal, row.id).await.map(|row| Json(row.into()))
}

/// The row of a message, deleted or not.
pub(super) async fn kept(state: &ApiState, principal: &Principal, id: MessageId) -> Result<MessageRow, Problem> {
    let row = state.storage().lifecycle().kept(principal.tenant, id).await;
    row.map_err(|error| Problem::store(&error))?.ok_or_else(Problem::not_found)
}

async fn purge(state: &ApiState, principal: &Principal, caller: &Caller, id: MessageId) -> Result<(), Problem> {
    // Before it is gone, for the audit log.
    let row = kept(state, principal, id).await?;
    let purged = state.storage().lifecycle().purge(principal.tenant, id).await;
    let (at, message) = match purged.map_err(|error| Problem::store(&error))? {
        Purge::Done => {
            caller.purged(state, principal, &row);
            return Ok(());
        }
        Purge::OnHold => ("legal_hold", "the message is on legal hold: it can be deleted, but not for good"),
        _ => ("in_use", "the message is still on its way; delete it for good when it has arrived"),
    };
    Err(Problem::new(ErrorCode::InvalidState, message).detail("state", at))
}
