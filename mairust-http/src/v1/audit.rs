//! The audit log of the tenant: the list, one entry, all of it, and whether it is whole.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{OriginalUri, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::stream;
use mairust_core::{AuditId, Timestamp};
use mairust_store::audit::{AuditOrder, AuditProblem, AuditVerification};
use mairust_store::{AuditEntry, AuditLogExt, AuditQuery, Owner, StoreError};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::{Authenticated, Scope};
use crate::download::hex;
use crate::openapi::{AccessErrors, MissingErrors, QueryErrors};
use crate::page::{self, CursorContext};
use crate::problem::Problem;
use crate::state::ApiState;
use crate::v1::InPath;

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;
/// How many entries are read together for the export.
const EXPORT_PAGE: u32 = 500;

/// The query of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Number of entries on a page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before, with the same filters.
    cursor: Option<String>,
    /// Of this type, for example `user.created`.
    #[serde(rename = "type")]
    event_type: Option<String>,
    /// Done by this one: `actor.id`.
    actor: Option<String>,
    /// Done to this: `target.id`.
    target: Option<String>,
    /// At this time or later (RFC 3339).
    since: Option<String>,
    /// Before this time (RFC 3339).
    until: Option<String>,
}

/// The query of the export.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportQuery {
    /// At this time or later (RFC 3339).
    since: Option<String>,
    /// Before this time (RFC 3339).
    until: Option<String>,
}

/// A page of entries, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditList {
    items: Vec<AuditItem>,
    /// For the query parameter `cursor` of the next page.
    next_cursor: Option<String>,
    /// Always null: lists are walked forwards.
    prev_cursor: Option<String>,
    has_more: bool,
}

/// Something that happened.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditItem {
    id: String,
    /// The number in the chain of the tenant.
    sequence: u64,
    /// When it happened (RFC 3339).
    timestamp: String,
    /// For example `user.created`. More may be added.
    event_type: String,
    actor: AuditActor,
    target: Option<AuditTarget>,
    /// What it was before, without secrets.
    before: Option<serde_json::Value>,
    /// What it is since then, without secrets.
    after: Option<serde_json::Value>,
    /// The request that asked for it.
    request_id: Option<String>,
    /// SHA-256 of this entry and of the one before, in hexadecimal.
    hash: String,
}

/// Who did it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditActor {
    /// For example `user`, `api_key`, `operator`, `system` or `anonymous`.
    #[serde(rename = "type")]
    kind: String,
    id: Option<String>,
    ip: Option<String>,
}

/// To what it was done.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditTarget {
    /// For example `domain`.
    #[serde(rename = "type")]
    kind: String,
    id: String,
}

/// Whether the chain of the tenant is whole.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditReport {
    /// Whether nothing was changed, removed or cut off.
    whole: bool,
    /// Number of entries that were read.
    entries: u64,
    /// The number of the last entry.
    sequence: u64,
    /// Its hash. Who keeps it elsewhere finds out if all of this is put back to an earlier state.
    hash: Option<String>,
    /// What is wrong, for people.
    problems: Vec<String>,
}

/// List what happened
///
/// Newest first. All filters must hold.
#[utoipa::path(
    get, path = "/audit", tag = "audit", operation_id = "list_audit",
    params(ListQuery), security(("api_key" = ["audit:read"])),
    responses(
        (status = 200, description = "A page of entries", body = AuditList,
            headers(("Link" = String, description = "The next page, `rel=\"next\"`"))),
        QueryErrors, AccessErrors,
    )
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, Problem> {
    principal.require(Scope::AuditRead)?;
    let query: ListQuery = page::parse_query(&uri)?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::invalid_query(format!("limit: must be 1 to {MAX_LIMIT}")));
    }
    let cursors = CursorContext { key: state.server_key(), tenant: principal.tenant, filter_hash: query.hash() };
    let wanted = AuditQuery {
        event_type: query.event_type,
        actor: query.actor,
        target: query.target,
        since: time("since", query.since.as_deref())?,
        until: time("until", query.until.as_deref())?,
        after: query.cursor.as_deref().map(|cursor| cursors.decode(cursor)).transpose()?,
        order: AuditOrder::NewestFirst,
        limit,
    };
    let found = state.storage().audit().list(principal.tenant.into(), &wanted).await;
    let found = found.map_err(|error| Problem::store(&error))?;
    let last = found.items.last().filter(|_| found.has_more);
    let next_cursor = last.map(|entry| cursors.encode(&entry.sequence));
    let items = found.items.iter().map(AuditItem::from).collect();
    let list = AuditList { items, has_more: next_cursor.is_some(), prev_cursor: None, next_cursor };
    Ok(page::with_next_link(&uri, list.next_cursor.clone().as_deref(), Json(list)))
}

/// Read an entry
#[utoipa::path(
    get, path = "/audit/{id}", tag = "audit", operation_id = "read_audit_entry",
    params(("id" = String, Path, description = "The entry")), security(("api_key" = ["audit:read"])),
    responses((status = 200, description = "The entry", body = AuditItem), MissingErrors, AccessErrors)
)]
pub(crate) async fn entry(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    path: InPath<AuditId>,
) -> Result<Json<AuditItem>, Problem> {
    principal.require(Scope::AuditRead)?;
    let found = state.storage().audit().entry(principal.tenant.into(), path.id()?).await;
    let found = found.map_err(|error| Problem::store(&error))?;
    found.as_ref().map(AuditItem::from).map(Json).ok_or_else(Problem::not_found)
}

/// Export what happened
///
/// One entry a line, oldest first. Whoever has all of them can check the hashes.
#[utoipa::path(
    get, path = "/audit/export", tag = "audit", operation_id = "export_audit",
    params(ExportQuery), security(("api_key" = ["audit:read"])),
    responses(
        (status = 200, description = "The entries", body = String, content_type = "application/x-ndjson"),
        QueryErrors, AccessErrors,
    )
)]
pub(crate) async fn export(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, Problem> {
    principal.require(Scope::AuditRead)?;
    let query: ExportQuery = page::parse_query(&uri)?;
    let wanted = AuditQuery {
        since: time("since", query.since.as_deref())?,
        until: time("until", query.until.as_deref())?,
        order: AuditOrder::OldestFirst,
        limit: EXPORT_PAGE,
        ..AuditQuery::default()
    };
    let owner = Owner::from(principal.tenant);
    // The first page is read before the answer begins, so that a failure is an error object.
    let first = lines(&state, owner, wanted).await.map_err(|error| Problem::store(&error))?;
    let pages = stream::try_unfold(Some(first), move |page| {
        let state = state.clone();
        async move {
            let Some((lines, next)) = page else { return Ok::<_, StoreError>(None) };
            let next = match next {
                Some(wanted) => Some(self::lines(&state, owner, wanted).await?),
                None => None,
            };
            Ok(Some((lines, next)))
        }
    });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(pages)).into_response())
}

/// Find out whether the chain is whole
///
/// Reads all of it. An entry that was changed, removed or cut off is a problem.
#[utoipa::path(
    get, path = "/audit/verify", tag = "audit", operation_id = "verify_audit",
    security(("api_key" = ["audit:read"])),
    responses((status = 200, description = "What was found", body = AuditReport), AccessErrors)
)]
pub(crate) async fn verify(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
) -> Result<Json<AuditReport>, Problem> {
    principal.require(Scope::AuditRead)?;
    let key = state.server_key().audit_key();
    let found = state.storage().audit().verify(principal.tenant.into(), &key).await;
    Ok(Json(found.map_err(|error| Problem::store(&error))?.into()))
}

/// A page of the export as lines, and the query for the next one.
async fn lines(
    state: &ApiState,
    owner: Owner,
    mut wanted: AuditQuery,
) -> Result<(Bytes, Option<AuditQuery>), StoreError> {
    let page = state.storage().audit().list(owner, &wanted).await?;
    let lines: String = page.items.iter().map(|entry| format!("{}\n", entry.to_json())).collect();
    wanted.after = page.items.last().map(|entry| entry.sequence);
    let next = (page.has_more && wanted.after.is_some()).then_some(wanted);
    Ok((lines.into(), next))
}

fn time(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let invalid = || Problem::invalid_query(format!("{name}: must be a time such as 2025-11-22T03:04:06Z"));
    text.map(|text| Timestamp::parse_rfc3339(text).ok_or_else(invalid)).transpose()
}

impl ListQuery {
    fn hash(&self) -> [u8; 32] {
        // The name of the list, so that no cursor of another one fits.
        let name = Some("audit".to_owned());
        let filters = [&self.event_type, &self.actor, &self.target, &self.since, &self.until];
        page::filter_hash(&std::iter::once(name).chain(filters.into_iter().cloned()).collect::<Vec<_>>())
    }
}

impl From<&AuditEntry> for AuditItem {
    fn from(entry: &AuditEntry) -> Self {
        let actor = &entry.actor;
        Self {
            id: entry.id.to_string(),
            sequence: entry.sequence,
            timestamp: entry.at.to_rfc3339(),
            event_type: entry.event_type.clone(),
            actor: AuditActor { kind: actor.kind.clone(), id: actor.id.clone(), ip: actor.ip.map(|ip| ip.to_string()) },
            target: entry
                .target
                .as_ref()
                .map(|target| AuditTarget { kind: target.kind.clone(), id: target.id.clone() }),
            before: entry.before_value(),
            after: entry.after_value(),
            request_id: entry.request_id.clone(),
            hash: hex(&entry.hash),
        }
    }
}

impl From<AuditVerification> for AuditReport {
    fn from(found: AuditVerification) -> Self {
        Self {
            whole: found.is_whole(),
            entries: found.entries,
            sequence: found.head.map_or(0, |head| head.sequence),
            hash: found.head.map(|head| hex(&head.hash)),
            problems: found.problems.iter().map(AuditProblem::to_string).collect(),
        }
    }
}
