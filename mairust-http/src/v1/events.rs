//! What happened: in pages, and as a stream of server-sent events.

use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{OriginalUri, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response};
use futures::stream;
use mairust_core::TenantId;
use mairust_hooks::{EventBody, EventKind};
use mairust_store::{Event, EventQuery, EventSpan, StoreError};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::{Authenticated, Principal, Scope};
use crate::openapi::{AccessErrors, GoneErrors, QueryErrors};
use crate::page::{self, CursorContext};
use crate::problem::{ErrorCode, Problem};
use crate::state::ApiState;
use crate::streams::OpenStream;
use crate::v1::messages::page_limit;

/// After so much silence a stream shows that it is alive, and looks whether it may go on.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Events that a stream reads at a time.
const STREAM_PAGE: u32 = 100;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The query of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// Number of entries on a page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before, with the same types.
    cursor: Option<String>,
    /// Of these types only, separated by commas, for example `message.sent,message.bounced`.
    types: Option<String>,
}

/// The query of the stream.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StreamQuery {
    /// Of these types only, separated by commas.
    types: Option<String>,
}

/// The header field of a client that was here before.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct StreamHeaders {
    /// The `position` of the last event that the client has, or 0 for all that are still there. Without it the stream
    /// begins with what happens next.
    #[param(rename = "Last-Event-ID")]
    last_event_id: Option<u64>,
}

/// A page of events, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventList {
    items: Vec<EventItem>,
    /// For the query parameter `cursor` of the next page: also on the last page, for what happens later. Null if nothing
    /// ever happened.
    next_cursor: Option<String>,
    /// Always null: lists are walked forwards.
    prev_cursor: Option<String>,
    has_more: bool,
}

/// Something that happened.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventItem {
    /// Its place among the events of the tenant: they count up without gaps.
    position: u64,
    /// The version of this form: 1.
    v: u32,
    id: String,
    /// For example `message.received`. More may be added.
    #[serde(rename = "type")]
    kind: String,
    /// When it happened (RFC 3339).
    timestamp: String,
    tenant_id: String,
    /// What there is to tell; depends on the type.
    #[schema(value_type = Object)]
    data: serde_json::Value,
}

/// A stream under way.
struct Following {
    state: ApiState,
    principal: Principal,
    kinds: Vec<String>,
    /// What the client has, or does not want.
    position: u64,
    open: OpenStream,
}

/// List events
///
/// Oldest first; events are kept for 30 days, or as long as the server is configured.
#[utoipa::path(
    get, path = "/events", tag = "events", operation_id = "list_events",
    params(EventsQuery), security(("api_key" = ["events:read"])),
    responses(
        (status = 200, description = "A page of events", body = EventList,
            headers(("Link" = String, description = "The next page, `rel=\"next\"`"))),
        QueryErrors, GoneErrors, AccessErrors,
    )
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, Problem> {
    principal.require(Scope::EventsRead)?;
    let query: EventsQuery = page::parse_query(&uri)?;
    let (limit, kinds) = (page_limit(query.limit)?, kinds(query.types.as_deref())?);
    let filter_hash = page::filter_hash(&[Some("events".to_owned()), Some(kinds.join(","))]);
    let cursors = CursorContext { key: state.server_key(), tenant: principal.tenant, filter_hash };
    let after: Option<u64> = query.cursor.as_deref().map(|cursor| cursors.decode(cursor)).transpose()?;
    let span = span(&state, principal.tenant).await?;
    let after = match after {
        Some(after) => still_there(after, span)?,
        None => span.dropped,
    };
    let found = state.storage().events().list(principal.tenant, &EventQuery { after, kinds, limit }).await;
    let found = found.map_err(|error| Problem::store(&error))?;
    // Behind the last page stands what happens after it was asked for.
    let last =
        if found.has_more { found.items.last().map(|event| event.position) } else { Some(span.newest.max(after)) };
    let last = found.items.last().map(|event| event.position).max(last).filter(|position| *position > 0);
    let next_cursor = last.map(|position| cursors.encode(&position));
    let items = found.items.into_iter().map(|event| EventItem::new(principal.tenant, event)).collect();
    let link = next_cursor.clone().filter(|_| found.has_more);
    let list = EventList { items, has_more: found.has_more, prev_cursor: None, next_cursor };
    Ok(page::with_next_link(&uri, link.as_deref(), Json(list)))
}

/// Follow events
///
/// A stream of server-sent events: `id` is the position, `event` the type, `data` the event as webhooks get it. A client
/// that comes back with `Last-Event-ID` misses nothing and gets nothing twice. After 15 seconds of silence comes a
/// comment. A key may have 5 streams open.
#[utoipa::path(
    get, path = "/events/stream", tag = "events", operation_id = "follow_events",
    params(StreamQuery, StreamHeaders), security(("api_key" = ["events:read"])),
    responses(
        (status = 200, description = "The events", body = String, content_type = "text/event-stream"),
        QueryErrors, GoneErrors, AccessErrors,
    )
)]
pub(crate) async fn stream(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    principal.require(Scope::EventsRead)?;
    let query: StreamQuery = page::parse_query(&uri)?;
    let kinds = kinds(query.types.as_deref())?;
    let span = span(&state, principal.tenant).await?;
    let position = match headers.get(LAST_EVENT_ID) {
        None => span.newest,
        Some(value) => {
            let number = value.to_str().ok().and_then(|text| text.parse().ok()).filter(|number| *number <= span.newest);
            let odd = || Problem::invalid_query("Last-Event-ID: must be the id of an event of this stream, or 0");
            match number.ok_or_else(odd)? {
                0 => span.dropped,
                number => still_there(number, span)?,
            }
        }
    };
    let open = state.streams().open(&principal.key_id)?;
    let following = Following { state, principal, kinds, position, open };
    // The head of the answer is not to wait for the first event.
    let begin = stream::iter([Ok(Bytes::from_static(b": begin\n\n"))]);
    let events = stream::try_unfold(following, async |mut following| {
        let chunk: Result<_, StoreError> = following.next().await;
        chunk.map(|chunk| chunk.map(|chunk| (chunk, following)))
    });
    let body = Body::from_stream(futures::StreamExt::chain(begin, events));
    // Proxies that gather answers would keep events from the client.
    let unbuffered = (HeaderName::from_static("x-accel-buffering"), "no");
    Ok(([(CONTENT_TYPE, "text/event-stream"), unbuffered], body).into_response())
}

impl Following {
    /// What comes next: events, or a sign of life; `None` if the stream ends.
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let (state, tenant) = (self.state.clone(), self.principal.tenant);
        let events = state.storage().events();
        loop {
            // Read before looking, so that an event that comes in between is not slept over.
            let (seen, newest) = (events.version_of(tenant), events.span(tenant).await?.newest);
            let query = EventQuery { after: self.position, kinds: self.kinds.clone(), limit: STREAM_PAGE };
            let found = events.list(tenant, &query).await?.items;
            if let Some(last) = found.last() {
                self.position = last.position;
                return Ok(Some(found.into_iter().map(|event| message(tenant, event)).collect::<String>().into()));
            }
            // None of those up to here is wanted.
            self.position = self.position.max(newest);
            tokio::select! {
                _ = events.changed_of(tenant, seen) => {}
                () = self.open.ended() => return Ok(None),
                () = tokio::time::sleep(HEARTBEAT) => {
                    let is_allowed = self.is_allowed().await?;
                    return Ok(is_allowed.then(|| Bytes::from_static(b": still here\n\n")));
                }
            }
        }
    }

    /// Whether the key is still good.
    async fn is_allowed(&self) -> Result<bool, StoreError> {
        let key = self.state.storage().directory().api_key(&self.principal.key_id).await?;
        Ok(key.is_some_and(|key| key.tenant == self.principal.tenant))
    }
}

/// An event as a stream has it.
fn message(tenant: TenantId, event: Event) -> String {
    let Event { position, id, kind, at, data, .. } = event;
    let body = EventBody::new(id, &kind, at, tenant, data).to_json();
    format!("id: {position}\nevent: {kind}\ndata: {body}\n\n")
}

async fn span(state: &ApiState, tenant: TenantId) -> Result<EventSpan, Problem> {
    state.storage().events().span(tenant).await.map_err(|error| Problem::store(&error))
}

/// A position behind which nothing was removed.
fn still_there(position: u64, span: EventSpan) -> Result<u64, Problem> {
    if position >= span.dropped {
        return Ok(position);
    }
    let message = format!("events were removed because they are old, the last of them at position {}", span.dropped);
    Err(Problem::new(ErrorCode::Gone, message).hint("Begin again without a cursor or with Last-Event-ID: 0"))
}

/// The types in a query; none for all.
fn kinds(types: Option<&str>) -> Result<Vec<String>, Problem> {
    let Some(types) = types else { return Ok(Vec::new()) };
    let kind = |name: &str| EventKind::parse(name).map(|kind| kind.as_str().to_owned());
    let odd = |name: &str| Problem::invalid_query(format!("types: there is no type {name:?}; {}", known_kinds()));
    types.split(',').map(|name| kind(name).ok_or_else(|| odd(name))).collect()
}

/// What types there are, for people.
pub(super) fn known_kinds() -> String {
    let names: Vec<_> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
    format!("there are {}", names.join(", "))
}

impl EventItem {
    pub(super) fn new(tenant: TenantId, event: Event) -> Self {
        let EventBody { v, id, kind, timestamp, tenant_id, data } =
            EventBody::new(event.id, &event.kind, event.at, tenant, event.data);
        Self { position: event.position, v, id, kind, timestamp, tenant_id, data }
    }
}
