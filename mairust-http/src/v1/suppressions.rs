//! The suppression list: addresses to which the tenant sends nothing.

use axum::Json;
use axum::extract::{OriginalUri, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mairust_core::{EmailAddress, SuppressionId, Timestamp};
use mairust_store::suppression::MAX_SUPPRESSION_DETAIL;
use mairust_store::{NewSuppression, StoreErrorKind, Suppression, SuppressionReason};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::{Authenticated, Caller, Principal, Scope};
use crate::body::json;
use crate::openapi::{AccessErrors, BodyErrors, ConflictErrors, MissingErrors, QueryErrors};
use crate::page::{self, CursorContext};
use crate::problem::{ErrorCode, FieldError, Problem};
use crate::state::ApiState;
use crate::v1::InPath;
use crate::v1::messages::page_limit;

/// The query of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Number of entries on a page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A page of the list, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SuppressionList {
    items: Vec<SuppressionEntry>,
    /// For the query parameter `cursor` of the next page.
    next_cursor: Option<String>,
    /// Always null: lists are walked forwards.
    prev_cursor: Option<String>,
    has_more: bool,
}

/// An address to which nothing is sent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SuppressionEntry {
    id: String,
    email: String,
    /// `bounce`: its server has said that there is no such mailbox; `complaint`; `manual`.
    reason: &'static str,
    /// More about it, for people; the reply of the server for a bounce.
    detail: Option<String>,
    /// Since when (RFC 3339).
    created_at: String,
    /// From when on it holds no more (RFC 3339); it is forgotten then.
    expires_at: Option<String>,
}

/// An address to which nothing is to be sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SuppressionRequest {
    #[schema(example = "bob@example.com")]
    email: String,
    /// `bounce`, `complaint` or `manual`, which is the default.
    reason: Option<String>,
    /// More about it, for people; up to 1,000 bytes.
    detail: Option<String>,
    /// From when on it holds no more (RFC 3339). Without it, it holds until it is removed.
    expires_at: Option<String>,
}

type SuppressionPath = InPath<SuppressionId>;

/// List the suppressed addresses
///
/// In the order in which they were added.
#[utoipa::path(
    get, path = "/suppressions", tag = "suppressions", operation_id = "list_suppressions",
    params(ListQuery), security(("api_key" = ["suppressions:read"])),
    responses(
        (status = 200, description = "A page of the list", body = SuppressionList,
            headers(("Link" = String, description = "The next page, `rel=\"next\"`"))),
        QueryErrors, AccessErrors,
    )
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, Problem> {
    principal.require(Scope::SuppressionsRead)?;
    let query: ListQuery = page::parse_query(&uri)?;
    let limit = page_limit(query.limit)?;
    // The name of the list, so that no cursor of another one fits.
    let filter_hash = page::filter_hash(&[Some("suppressions".to_owned())]);
    let cursors = CursorContext { key: state.server_key(), tenant: principal.tenant, filter_hash };
    let after = query.cursor.as_deref().map(|cursor| cursors.decode(cursor)).transpose()?;
    let found = state.storage().suppressions().list(principal.tenant, after, limit).await;
    let found = found.map_err(|error| Problem::store(&error))?;
    let next_cursor = found.items.last().filter(|_| found.has_more).map(|entry| cursors.encode(&entry.id));
    let items = found.items.into_iter().map(SuppressionEntry::from).collect();
    let list = SuppressionList { items, has_more: next_cursor.is_some(), prev_cursor: None, next_cursor };
    Ok(page::with_next_link(&uri, list.next_cursor.clone().as_deref(), Json(list)))
}

/// Read a suppressed address
#[utoipa::path(
    get, path = "/suppressions/{id}", tag = "suppressions", operation_id = "read_suppression",
    params(("id" = String, Path, description = "The entry")), security(("api_key" = ["suppressions:read"])),
    responses((status = 200, description = "The entry", body = SuppressionEntry), MissingErrors, AccessErrors)
)]
pub(crate) async fn suppression(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    path: SuppressionPath,
) -> Result<Json<SuppressionEntry>, Problem> {
    principal.require(Scope::SuppressionsRead)?;
    Ok(Json(find(&state, &principal, &path).await?.into()))
}

/// Suppress an address
///
/// From now on nothing is sent to it. What is on its way already still is.
#[utoipa::path(
    post, path = "/suppressions", tag = "suppressions", operation_id = "add_suppression",
    request_body = SuppressionRequest, security(("api_key" = ["suppressions:write"])),
    responses(
        (status = 201, description = "The entry", body = SuppressionEntry),
        BodyErrors, ConflictErrors, AccessErrors,
    )
)]
pub(crate) async fn add(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    principal.require(Scope::SuppressionsWrite)?;
    let new = json::<SuppressionRequest>(request).await?.check(state.now())?;
    let address = new.address.clone();
    let added =
        state.storage().suppressions().add(principal.tenant, new).await.map_err(|error| match error.kind() {
            StoreErrorKind::AlreadyExists => {
                Problem::new(ErrorCode::AlreadyExists, format!("{address} is on the suppression list already"))
            }
            _ => Problem::store(&error),
        })?;
    caller.changed_suppression(&state, &principal, &added, true);
    Ok((StatusCode::CREATED, Json(SuppressionEntry::from(added))).into_response())
}

/// Remove a suppressed address
///
/// Mail may be sent to it again.
#[utoipa::path(
    delete, path = "/suppressions/{id}", tag = "suppressions", operation_id = "remove_suppression",
    params(("id" = String, Path, description = "The entry")), security(("api_key" = ["suppressions:write"])),
    responses((status = 204, description = "It is removed"), MissingErrors, AccessErrors)
)]
pub(crate) async fn remove(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: SuppressionPath,
) -> Result<StatusCode, Problem> {
    principal.require(Scope::SuppressionsWrite)?;
    let entry = find(&state, &principal, &path).await?;
    let removed = state.storage().suppressions().remove(principal.tenant, entry.id).await;
    removed.map_err(|error| Problem::store(&error))?;
    caller.changed_suppression(&state, &principal, &entry, false);
    Ok(StatusCode::NO_CONTENT)
}

async fn find(state: &ApiState, principal: &Principal, path: &SuppressionPath) -> Result<Suppression, Problem> {
    let found = state.storage().suppressions().get(principal.tenant, path.id()?).await;
    found.map_err(|error| Problem::store(&error))?.ok_or_else(Problem::not_found)
}

impl SuppressionRequest {
    /// What is to be added, or all that is wrong with it.
    fn check(self, now: Timestamp) -> Result<NewSuppression, Problem> {
        let mut errors = Vec::new();
        let mut wrong = |path: &str, code, message| errors.push(FieldError { path: path.to_owned(), code, message });
        let address = EmailAddress::parse(&self.email);
        let address = address.map_err(|error| wrong("/email", "invalid_address", error.to_string())).ok();
        let reason = match self.reason.as_deref() {
            None => Some(SuppressionReason::Manual),
            Some(name) => SuppressionReason::parse(name),
        };
        if reason.is_none() {
            wrong("/reason", "invalid_value", "must be bounce, complaint or manual".to_owned());
        }
        if self.detail.as_ref().is_some_and(|detail| detail.len() > MAX_SUPPRESSION_DETAIL) {
            wrong("/detail", "too_long", format!("must have {MAX_SUPPRESSION_DETAIL} bytes at most"));
        }
        let expires_at = self.expires_at.as_deref().map(Timestamp::parse_rfc3339);
        if expires_at.is_some_and(|at| at.is_none_or(|at| at <= now)) {
            wrong("/expires_at", "invalid_value", "must be a time to come such as 2036-11-22T03:04:06Z".to_owned());
        }
        match (address, reason) {
            (Some(address), Some(reason)) if errors.is_empty() => Ok(NewSuppression {
                id: SuppressionId::new(now),
                address,
                reason,
                detail: self.detail,
                created_at: now,
                expires_at: expires_at.flatten(),
            }),
            _ => Err(Problem::validation(&errors)),
        }
    }
}

impl From<Suppression> for SuppressionEntry {
    fn from(entry: Suppression) -> Self {
        Self {
            id: entry.id.to_string(),
            email: entry.address.to_string(),
            reason: entry.reason.as_str(),
            detail: entry.detail,
            created_at: entry.created_at.to_rfc3339(),
            expires_at: entry.expires_at.map(Timestamp::to_rfc3339),
        }
    }
}
