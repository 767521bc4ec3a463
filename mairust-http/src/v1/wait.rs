//! Waiting for a message: how tests of other programs see the mail that these send.

use std::time::Duration;

use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mairust_core::Timestamp;
use mairust_store::MessageQuery;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::auth::{Authenticated, Scope};
use crate::openapi::{AccessErrors, QueryErrors};
use crate::page::parse_query;
use crate::problem::Problem;
use crate::state::ApiState;
use crate::v1::messages::{MessageSummary, parse};

const DEFAULT_TIMEOUT: u64 = 30;
const MAX_TIMEOUT: u64 = 60;

/// The query.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WaitQuery {
    /// To, Cc or the envelope recipient holds this text.
    to: Option<String>,
    /// Subject holds this text.
    subject: Option<String>,
    /// From holds this text.
    from: Option<String>,
    /// Received at or after (RFC 3339); without it, at or after the time of the request.
    since: Option<String>,
    /// How long to wait, in seconds; 0 looks once.
    #[param(minimum = 0, maximum = 60, default = 30)]
    timeout: Option<u64>,
}

/// Wait for a message
///
/// Answers with the newest message that matches, as soon as there is one.
#[utoipa::path(
    get, path = "/messages/wait", tag = "messages", operation_id = "wait_for_message",
    params(WaitQuery), security(("api_key" = ["messages:read"])),
    responses(
        (status = 200, description = "The message", body = MessageSummary),
        (status = 204, description = "None came in time"),
        QueryErrors, AccessErrors,
    )
)]
pub(crate) async fn wait(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, Problem> {
    principal.require(Scope::MessagesRead)?;
    let query: WaitQuery = parse_query(&uri)?;
    let timeout = query.timeout.unwrap_or(DEFAULT_TIMEOUT);
    if timeout > MAX_TIMEOUT {
        return Err(Problem::invalid_query(format!("timeout: must be 0 to {MAX_TIMEOUT} seconds")));
    }
    let since = parse("since", query.since.as_deref(), Timestamp::parse_rfc3339)?;
    let filter = MessageQuery {
        from: query.from,
        to: query.to,
        subject: query.subject,
        since: Some(since.unwrap_or_else(|| state.now())),
        limit: 1,
        ..MessageQuery::default()
    };
    let messages = state.storage().messages();
    let mut timeout = std::pin::pin!(tokio::time::sleep(Duration::from_secs(timeout)));
    loop {
        // Read before looking: what comes in between is seen as a change.
        let seen = messages.version(principal.tenant);
        let found = messages.list(principal.tenant, &filter).await.map_err(|error| Problem::store(&error))?;
        if let Some(row) = found.items.into_iter().next() {
            return Ok(Json(MessageSummary::from(row)).into_response());
        }
        tokio::select! {
            _ = messages.changed(principal.tenant, seen) => {}
            () = &mut timeout => return Ok(StatusCode::NO_CONTENT.into_response()),
        }
    }
}
