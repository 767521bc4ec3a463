//! Search: messages by what they say.

use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::response::Response;
use mairust_core::{MailboxId, TenantId};
use mairust_store::search::scan::scan;
use mairust_store::{
    MessagePosition, MessageRow, QueryError, SearchQuery, SearchRequest, StorageBackend, StoreError, StoreErrorKind,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::{Authenticated, Scope};
use crate::openapi::{AccessErrors, QueryErrors, SearchErrors};
use crate::page::{self, CursorContext};
use crate::problem::{ErrorCode, Problem};
use crate::state::{ApiState, SearchFallback};
use crate::v1::messages::{MessageSummary, page_limit, parse};

/// What answers when rows are read instead of an index.
const ROWS: &str = "rows";

/// The query of a search.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SearchParameters {
    /// What to look for. Words, `"words in a row"`, `-not`, `this OR that`, `(groups)`, and conditions:
    /// `from:` `to:` `cc:` `subject:` `body:` `filename:` `tag:` `in:` `is:spam|quarantined|bounced`
    /// `has:attachment|html|remote` `domain:` `status:` `msgid:` `before:` `after:` `newer:` `older:`
    /// `larger:` `smaller:`.
    #[param(example = "from:tanaka 請求書 after:2026-11-01 -tag:paid")]
    q: String,
    /// In this mailbox.
    mailbox_id: Option<String>,
    /// Number of entries on a page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before, with the same query.
    cursor: Option<String>,
}

/// A page of messages that were found, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SearchResults {
    items: Vec<MessageSummary>,
    /// For the query parameter `cursor` of the next page. With `degraded`, a page may be short or empty
    /// and have one.
    next_cursor: Option<String>,
    /// Always null: results are walked forwards.
    prev_cursor: Option<String>,
    has_more: bool,
    /// What answered: the name of an index, or `rows` where messages were looked at without one.
    backend: &'static str,
    /// Whether there may be more: the index is being made again, or only the beginnings of texts were
    /// looked at.
    degraded: bool,
}

/// What was found.
struct Found {
    rows: Vec<MessageRow>,
    /// Behind what the next page begins.
    next: Option<MessagePosition>,
    backend: &'static str,
    degraded: bool,
}

/// Search messages
///
/// Newest first. A message is found a moment after it was received. Words are found as wholes, whatever
/// their case and width; where a language puts no spaces between words, any part of a text is found.
#[utoipa::path(
    get, path = "/search", tag = "messages", operation_id = "search_messages",
    params(SearchParameters), security(("api_key" = ["messages:read"])),
    responses(
        (status = 200, description = "A page of messages", body = SearchResults,
            headers(("Link" = String, description = "The next page, `rel=\"next\"`"))),
        QueryErrors, AccessErrors, SearchErrors,
    )
)]
pub(crate) async fn search(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, Problem> {
    principal.require(Scope::MessagesRead)?;
    let parameters: SearchParameters = page::parse_query(&uri)?;
    let query: SearchQuery = parameters.q.parse().map_err(|error| grammar_problem(&error))?;
    let filter_hash = page::filter_hash(&[Some(query.to_string()), parameters.mailbox_id.clone()]);
    let cursors = CursorContext { key: state.server_key(), tenant: principal.tenant, filter_hash };
    let mut request = SearchRequest::new(query, state.now());
    request.mailbox = parse("mailbox_id", parameters.mailbox_id.as_deref(), |text| text.parse::<MailboxId>().ok())?;
    request.after = parameters.cursor.as_deref().map(|cursor| cursors.decode(cursor)).transpose()?;
    request.limit = page_limit(parameters.limit)?;
    let found = find(&state, principal.tenant, &request).await?;
    let next_cursor = found.next.map(|position| cursors.encode(&position));
    let results = SearchResults {
        items: found.rows.into_iter().map(MessageSummary::from).collect(),
        has_more: next_cursor.is_some(),
        prev_cursor: None,
        next_cursor,
        backend: found.backend,
        degraded: found.degraded,
    };
    Ok(page::with_next_link(&uri, results.next_cursor.clone().as_deref(), Json(results)))
}

async fn find(state: &ApiState, tenant: TenantId, request: &SearchRequest) -> Result<Found, Problem> {
    match in_index(state.storage(), tenant, request).await {
        Err(error) if state.search_fallback() == SearchFallback::Rows => {
            tracing::warn!(%error, "the search index does not answer, rows are read instead");
            in_rows(state.storage(), tenant, request).await
        }
        found => found.map_err(|error| {
            tracing::error!(%error, "the search index does not answer");
            Problem::new(ErrorCode::SearchUnavailable, "search is not available now")
        }),
    }
}

async fn in_index(
    storage: &dyn StorageBackend,
    tenant: TenantId,
    request: &SearchRequest,
) -> Result<Found, StoreError> {
    let page = storage.search_index().search(tenant, request).await?;
    let next = page.items.last().filter(|_| page.has_more).copied();
    let ids: Vec<_> = page.items.iter().map(|position| position.id).collect();
    // What was removed in the meantime is left out.
    let rows = storage.messages().get_all(tenant, &ids).await?;
    let degraded = storage.search_outbox().is_rebuilding().await?;
    Ok(Found { rows, next, backend: storage.search_index().name(), degraded })
}

async fn in_rows(storage: &dyn StorageBackend, tenant: TenantId, request: &SearchRequest) -> Result<Found, Problem> {
    let scanned = scan(storage.messages(), tenant, request).await.map_err(|error| match error.kind() {
        StoreErrorKind::Invalid => {
            Problem::new(ErrorCode::SearchUnavailable, "has:html, has:remote and filename: can't be searched now")
        }
        _ => Problem::store(&error),
    })?;
    Ok(Found { rows: scanned.items, next: scanned.next, backend: ROWS, degraded: true })
}

fn grammar_problem(error: &QueryError) -> Problem {
    Problem::invalid_query(format!("q: {error}")).detail("position", error.position)
}
