//! What became of mail that was sent.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use mairust_core::MessageId;
use mairust_store::queue::change_all;
use mairust_store::{Attempt, DeliveryRow, Direction, MessageRow, QueueAction, QueueFilter, QueueTotal};
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::{Authenticated, Caller, Principal, Scope};
use crate::openapi::{AccessErrors, MissingErrors, StateErrors};
use crate::problem::{ErrorCode, Problem};
use crate::state::ApiState;
use crate::trace::Arrival;
use crate::v1::MessagePath;
use crate::v1::lifecycle::kept;

/// A message that was sent, and what became of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Submission {
    id: String,
    /// The field Message-ID, with angle brackets.
    message_id: Option<String>,
    status: &'static str,
    created_at: String,
    /// When it was to be sent; absent if that was at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    send_at: Option<String>,
    recipients: Vec<RecipientState>,
    /// All attempts, oldest first.
    attempts: Vec<AttemptResult>,
}

/// One recipient.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecipientState {
    email: String,
    status: &'static str,
    /// Number of attempts.
    attempts: u32,
    last_result: Option<String>,
    /// When the status was entered.
    updated_at: String,
}

/// One attempt for one recipient.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AttemptResult {
    email: String,
    at: String,
    /// `begun`, `cancelled`, `deferred`, `delivered`, `failed`, `in_doubt`, or `reported` if the message came back
    /// after a host had taken it.
    outcome: &'static str,
    /// The host that answered, or reported.
    host: Option<String>,
    result: String,
}

/// Read what became of a message
#[utoipa::path(
    get, path = "/sends/{id}", tag = "sending", operation_id = "read_submission",
    params(("id" = String, Path, description = "`id` from the answer of `/send`")),
    security(("api_key" = ["sends:read"])),
    responses((status = 200, description = "What became of it", body = Submission), MissingErrors, AccessErrors)
)]
pub(crate) async fn submission(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    path: MessagePath,
) -> Result<Json<Submission>, Problem> {
    principal.require(Scope::SendsRead)?;
    read(&state, &principal, path.id()?).await
}

/// Cancel a message
///
/// Recipients who wait do not get it, and nobody is told. Those who have it keep it; for those to whom it is being
/// delivered at this moment nothing changes.
#[utoipa::path(
    post, path = "/sends/{id}/cancel", tag = "sending", operation_id = "cancel_submission",
    params(("id" = String, Path, description = "`id` from the answer of `/send`")),
    security(("api_key" = ["send:write"])),
    responses(
        (status = 200, description = "What became of it", body = Submission), MissingErrors, StateErrors, AccessErrors,
    )
)]
pub(crate) async fn cancel(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: MessagePath,
) -> Result<Json<Submission>, Problem> {
    change(&state, &principal, &caller, &path, (&QueueAction::cancel(), "cancelled")).await
}

/// Try a message at once
///
/// Also one that was to be sent later. What is held is not released.
#[utoipa::path(
    post, path = "/sends/{id}/retry", tag = "sending", operation_id = "retry_submission",
    params(("id" = String, Path, description = "`id` from the answer of `/send`")),
    security(("api_key" = ["send:write"])),
    responses(
        (status = 200, description = "What became of it", body = Submission), MissingErrors, StateErrors, AccessErrors,
    )
)]
pub(crate) async fn retry(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: MessagePath,
) -> Result<Json<Submission>, Problem> {
    change(&state, &principal, &caller, &path, (&QueueAction::Retry, "retried")).await
}

/// Does something to all deliveries of a message; at least one must allow it.
async fn change(
    state: &ApiState,
    principal: &Principal,
    caller: &Caller,
    path: &MessagePath,
    (action, done): (&QueueAction, &'static str),
) -> Result<Json<Submission>, Problem> {
    principal.require(Scope::SendWrite)?;
    let id = path.id()?;
    sent(state, principal, id).await?;
    let (filter, mut total) = (QueueFilter { message: Some(id), ..QueueFilter::default() }, QueueTotal::default());
    let queue = state.storage().queue();
    let outcome = change_all(queue, principal.tenant, (&filter, action), state.now(), &mut total).await;
    if total.changed > 0 {
        caller.changed_queue(state, principal, done, &filter.to_string(), total.changed);
    }
    outcome.map_err(|error| Problem::store(&error))?;
    if total.changed == 0 {
        let message = match total.busy {
            0 => "no recipient waits for it in a way that allows this",
            _ => "it is being delivered at the moment",
        };
        let status = sent(state, principal, id).await?.status;
        return Err(Problem::new(ErrorCode::InvalidState, message).detail("state", status.as_str()));
    }
    read(state, principal, id).await
}

/// A message that was sent, also if it is deleted: deleting a message does not take it from its recipients.
pub(super) async fn sent(state: &ApiState, principal: &Principal, id: MessageId) -> Result<MessageRow, Problem> {
    let row = kept(state, principal, id).await?;
    if row.direction == Direction::Outbound { Ok(row) } else { Err(Problem::not_found()) }
}

async fn read(state: &ApiState, principal: &Principal, id: MessageId) -> Result<Json<Submission>, Problem> {
    let row = sent(state, principal, id).await?;
    let deliveries = state.storage().deliveries();
    let recipients = deliveries.recipients(principal.tenant, row.id).await.map_err(|error| Problem::store(&error))?;
    let attempts = deliveries.attempts(principal.tenant, row.id).await.map_err(|error| Problem::store(&error))?;
    Ok(Json(Submission {
        id: row.id.to_string(),
        message_id: row.message_id.map(|id| format!("<{id}>")),
        status: row.status.as_str(),
        created_at: row.received_at.to_rfc3339(),
        send_at: row.arrival.as_deref().and_then(Arrival::read).and_then(|arrival| arrival.send_at),
        attempts: attempt_results(&recipients, attempts),
        recipients: recipients.into_iter().map(RecipientState::from).collect(),
    }))
}

impl From<DeliveryRow> for RecipientState {
    fn from(row: DeliveryRow) -> Self {
        Self {
            email: row.address.to_string(),
            status: row.state.as_str(),
            attempts: row.attempts,
            last_result: row.last_result,
            updated_at: row.updated_at.to_rfc3339(),
        }
    }
}

pub(super) fn attempt_results(recipients: &[DeliveryRow], attempts: Vec<Attempt>) -> Vec<AttemptResult> {
    let addresses: HashMap<_, _> = recipients.iter().map(|row| (row.id, row.address.to_string())).collect();
    let result = |attempt: Attempt| {
        Some(AttemptResult {
            email: addresses.get(&attempt.recipient)?.clone(),
            at: attempt.at.to_rfc3339(),
            outcome: attempt.outcome.as_str(),
            host: attempt.host,
            result: attempt.result,
        })
    };
    attempts.into_iter().filter_map(result).collect()
}
