//! The queue: deliveries that wait, are being done, or are held.

use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::response::Response;
use mairust_core::{Domain, JobId, MessageId};
use mairust_store::{DestinationStats, HoldReason, ItemState, QueueFilter, QueueItem, pause};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::{Authenticated, Principal, Scope};
use crate::openapi::{AccessErrors, MissingErrors, QueryErrors};
use crate::page::{self, CursorContext};
use crate::problem::Problem;
use crate::queue::{DestinationTotals, QueueEntry, QueueTotals};
use crate::state::ApiState;
use crate::v1::InPath;
use crate::v1::messages::{page_limit, parse};
use crate::v1::sends::{AttemptResult, attempt_results};

/// How many destinations are counted.
const DESTINATIONS: u32 = 1_000;

/// What there is in the queue.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueueOverview {
    /// By state, over the 1,000 destinations with the most deliveries.
    totals: QueueTotals,
    /// When the oldest delivery was queued.
    oldest_at: Option<String>,
    paused: PausedDestinations,
}

/// The destinations that are paused.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PausedDestinations {
    all: bool,
    destinations: Vec<String>,
}

/// Destinations, those with the most deliveries first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DestinationList {
    items: Vec<DestinationTotals>,
}

/// A page of deliveries, in the order of their messages.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueueItemList {
    items: Vec<QueueEntry>,
    /// For the query parameter `cursor` of the next page.
    next_cursor: Option<String>,
    /// Always null: lists are walked forwards.
    prev_cursor: Option<String>,
    has_more: bool,
}

/// All attempts of a delivery, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AttemptList {
    items: Vec<AttemptResult>,
}

/// The query of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ItemsQuery {
    /// Number of entries on a page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before, with the same filters.
    cursor: Option<String>,
    /// Of this message.
    message_id: Option<String>,
    /// To this domain.
    destination: Option<String>,
    /// In this state: `ready`, `waiting`, `leased`, `held` or `buried`.
    state: Option<String>,
    /// Held for this reason: `hook`, `operator`, `paused`, `policy` or `in_doubt`.
    held_because: Option<String>,
}

/// A delivery in the queue.
pub(crate) type ItemPath = InPath<JobId>;

/// Look at the queue
#[utoipa::path(
    get, path = "/queue", tag = "queue", operation_id = "read_queue", security(("api_key" = ["queue:read"])),
    responses((status = 200, description = "What there is", body = QueueOverview), AccessErrors)
)]
pub(crate) async fn overview(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
) -> Result<Json<QueueOverview>, Problem> {
    principal.require(Scope::QueueRead)?;
    let found = counted(&state, &principal).await?;
    let mut totals = QueueTotals::default();
    found.iter().for_each(|stats| totals.add(stats));
    let oldest_at = found.iter().map(|stats| stats.oldest).min().map(|at| at.to_rfc3339());
    let paused = paused(&state, &principal).await?;
    Ok(Json(QueueOverview { totals, oldest_at, paused: paused.into() }))
}

/// List destinations
///
/// Those with the most deliveries first, 1,000 at most.
#[utoipa::path(
    get, path = "/queue/destinations", tag = "queue", operation_id = "list_queue_destinations",
    security(("api_key" = ["queue:read"])),
    responses((status = 200, description = "The destinations", body = DestinationList), AccessErrors)
)]
pub(crate) async fn destinations(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
) -> Result<Json<DestinationList>, Problem> {
    principal.require(Scope::QueueRead)?;
    let (found, paused) = (counted(&state, &principal).await?, paused(&state, &principal).await?);
    let items = found.into_iter().map(|stats| DestinationTotals::new(stats, &paused)).collect();
    Ok(Json(DestinationList { items }))
}

/// List deliveries
///
/// In the order of their messages, oldest first. All filters must hold.
#[utoipa::path(
    get, path = "/queue/items", tag = "queue", operation_id = "list_queue_items",
    params(ItemsQuery), security(("api_key" = ["queue:read"])),
    responses(
        (status = 200, description = "A page of deliveries", body = QueueItemList,
            headers(("Link" = String, description = "The next page, `rel=\"next\"`"))),
        QueryErrors, AccessErrors,
    )
)]
pub(crate) async fn items(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, Problem> {
    principal.require(Scope::QueueRead)?;
    let query: ItemsQuery = page::parse_query(&uri)?;
    let limit = page_limit(query.limit)?;
    let filter = query.filter()?;
    let cursors = CursorContext { key: state.server_key(), tenant: principal.tenant, filter_hash: hash(&filter) };
    let after = query.cursor.as_deref().map(|cursor| cursors.decode(cursor)).transpose()?;
    let found = state.storage().queue().items(principal.tenant, &filter, after, limit + 1).await;
    let mut found = found.map_err(|error| Problem::store(&error))?;
    let has_more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next_cursor = found.last().filter(|_| has_more).map(|item| cursors.encode(&item.position()));
    let items = found.into_iter().map(QueueEntry::from).collect();
    let list = QueueItemList { items, has_more, prev_cursor: None, next_cursor };
    Ok(page::with_next_link(&uri, list.next_cursor.clone().as_deref(), Json(list)))
}

/// Read a delivery
#[utoipa::path(
    get, path = "/queue/items/{id}", tag = "queue", operation_id = "read_queue_item",
    params(("id" = String, Path, description = "The delivery")), security(("api_key" = ["queue:read"])),
    responses((status = 200, description = "The delivery", body = QueueEntry), MissingErrors, AccessErrors)
)]
pub(crate) async fn item(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    path: ItemPath,
) -> Result<Json<QueueEntry>, Problem> {
    principal.require(Scope::QueueRead)?;
    Ok(Json(find(&state, &principal, path.id()?).await?.into()))
}

/// List the attempts of a delivery
#[utoipa::path(
    get, path = "/queue/items/{id}/attempts", tag = "queue", operation_id = "list_queue_item_attempts",
    params(("id" = String, Path, description = "The delivery")), security(("api_key" = ["queue:read"])),
    responses((status = 200, description = "The attempts", body = AttemptList), MissingErrors, AccessErrors)
)]
pub(crate) async fn attempts(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    path: ItemPath,
) -> Result<Json<AttemptList>, Problem> {
    principal.require(Scope::QueueRead)?;
    let item = find(&state, &principal, path.id()?).await?;
    let deliveries = state.storage().deliveries();
    let recipients = deliveries.recipients(item.tenant, item.message).await;
    let mut recipients = recipients.map_err(|error| Problem::store(&error))?;
    recipients.retain(|recipient| recipient.address.domain().as_str() == item.destination);
    let attempts = deliveries.attempts(item.tenant, item.message).await.map_err(|error| Problem::store(&error))?;
    Ok(Json(AttemptList { items: attempt_results(&recipients, attempts) }))
}

/// One delivery of the tenant.
pub(super) async fn find(state: &ApiState, principal: &Principal, id: JobId) -> Result<QueueItem, Problem> {
    let found = state.storage().queue().items(principal.tenant, &QueueFilter::one(id), None, 1).await;
    found.map_err(|error| Problem::store(&error))?.pop().ok_or_else(Problem::not_found)
}

async fn counted(state: &ApiState, principal: &Principal) -> Result<Vec<DestinationStats>, Problem> {
    let found = state.storage().queue().destinations(principal.tenant, state.now(), DESTINATIONS).await;
    found.map_err(|error| Problem::store(&error))
}

pub(super) async fn paused(state: &ApiState, principal: &Principal) -> Result<pause::Paused, Problem> {
    pause::paused(state.storage(), principal.tenant).await.map_err(|error| Problem::store(&error))
}

impl ItemsQuery {
    fn filter(&self) -> Result<QueueFilter, Problem> {
        let domain = |text: &str| Domain::parse(text).ok();
        Ok(QueueFilter {
            ids: None,
            message: parse("message_id", self.message_id.as_deref(), |text| text.parse::<MessageId>().ok())?,
            destination: parse("destination", self.destination.as_deref(), domain)?
                .map(|name| name.as_str().to_owned()),
            state: parse("state", self.state.as_deref(), ItemState::name)?,
            held: parse("held_because", self.held_because.as_deref(), HoldReason::parse)?,
        })
    }
}

/// Filters that mean the same have the same hash.
fn hash(filter: &QueueFilter) -> [u8; 32] {
    page::filter_hash(&[
        // The name of the list, so that no cursor of another one fits.
        Some("queue".to_owned()),
        filter.message.map(|message| message.to_string()),
        filter.destination.clone(),
        filter.state.map(str::to_owned),
        filter.held.map(|reason| reason.as_str().to_owned()),
    ])
}

impl From<pause::Paused> for PausedDestinations {
    fn from(paused: pause::Paused) -> Self {
        Self { all: paused.all, destinations: paused.destinations.into_iter().collect() }
    }
}
