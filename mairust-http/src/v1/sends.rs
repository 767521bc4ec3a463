//! What became of mail that was sent.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use mairust_store::{Attempt, DeliveryRow, Direction};
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::{Authenticated, Scope};
use crate::openapi::{AccessErrors, MissingErrors};
use crate::problem::Problem;
use crate::state::ApiState;
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
    /// `begun`, `cancelled`, `deferred`, `delivered`, `failed` or `in_doubt`.
    outcome: &'static str,
    /// The host that answered.
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
    // Deleting a message does not take it from its recipients.
    let row = kept(&state, &principal, path.id()?).await?;
    if row.direction != Direction::Outbound {
        return Err(Problem::not_found());
    }
    let deliveries = state.storage().deliveries();
    let recipients = deliveries.recipients(principal.tenant, row.id).await.map_err(|error| Problem::store(&error))?;
    let attempts = deliveries.attempts(principal.tenant, row.id).await.map_err(|error| Problem::store(&error))?;
    Ok(Json(Submission {
        id: row.id.to_string(),
        message_id: row.message_id.map(|id| format!("<{id}>")),
        status: row.status.as_str(),
        created_at: row.received_at.to_rfc3339(),
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
