//! What calls of a hook came to.

use axum::Json;
use axum::extract::{OriginalUri, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use mairust_core::{MessageId, Timestamp};
use mairust_hooks::HookPoint;
use mairust_store::{HookBinding, HookInvocation, HookInvocationQuery, HookReport};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::auth::{Authenticated, Caller, Principal, Scope};
use crate::body;
use crate::given_up;
use crate::hooks::{Shown, Subject};
use crate::openapi::{AccessErrors, BodyErrors, GoneErrors, MissingErrors, QueryErrors, StateErrors, UpstreamErrors};
use crate::page::{self, CursorContext};
use crate::problem::{ErrorCode, FieldError, Problem};
use crate::state::ApiState;
use crate::v1::hook_actions::{TrialAnswer, control};
use crate::v1::hooks::HookPath;
use crate::v1::messages::{page_limit, parse};

/// The query of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CallsQuery {
    /// Number of entries on a page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before, with the same filters.
    cursor: Option<String>,
    /// How they ended: `accepted`, `allow`, `quarantine`, `tempfail`, `reject`, `timeout`, `connect`, `http`, `busy`, `auth`,
    /// `protocol`, `crash`, `gone`, `cancelled`, `budget`, `overload`, `breaker_open` or `poison`.
    outcome: Option<String>,
    /// About this message.
    message_id: Option<String>,
    /// From this time on (RFC 3339).
    since: Option<String>,
    /// Before this time (RFC 3339).
    until: Option<String>,
}

/// A page of calls, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CallList {
    items: Vec<CallEntry>,
    /// For the query parameter `cursor` of the next page.
    next_cursor: Option<String>,
    /// Always null: lists are walked forwards.
    prev_cursor: Option<String>,
    has_more: bool,
}

/// One call of the hook about one message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CallEntry {
    /// `inv_…`, as it stands in replies to senders and in requests to the hook.
    id: String,
    /// `pre_receive`, `post_receive` or `pre_send`.
    point: String,
    /// What became of the answer: `enforce`, `shadow`, `test`, `replay` or `catch_up`.
    mode: String,
    /// The number of the last attempt.
    attempt: u32,
    /// How it ended: a verdict, or what went wrong.
    outcome: String,
    /// What the hook said; null if it did not answer.
    verdict: Option<String>,
    /// Whether the message went on as if the hook had allowed it, although it did not answer.
    let_pass: bool,
    /// What became of the message without an answer, while somebody waited: `allow`, `quarantine`, `tempfail` or
    /// `reject`; null if it answered.
    instead: Option<String>,
    /// What said so: `on_failure`, `on_open`; `poison`, since it had failed at the message before; `cancelled`, since
    /// nobody waited any more; `internal`, since the server itself wrote it.
    instead_because: Option<String>,
    /// How long it took, in milliseconds.
    ms: u64,
    /// The message, if it was stored by then.
    message_id: Option<String>,
    /// The sender; null for notices.
    mail_from: Option<String>,
    /// The recipients that the hook was told of.
    rcpt_to: Vec<String>,
    /// Why it failed, or the reason that the hook gave.
    detail: Option<String>,
    /// When the last attempt began (RFC 3339).
    at: String,
}

/// One call of the hook, in full.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CallDetail {
    #[serde(flatten)]
    call: CallEntry,
    /// Octets of the request.
    request_bytes: Option<u64>,
    /// The HTTP status of the answer.
    status: Option<u16>,
    /// How much speaks against the message, on the hook's own scale.
    score: Option<f64>,
    /// What it wanted done.
    actions: Vec<CallAction>,
    /// What it wanted and may not do.
    denied: Vec<String>,
    /// The beginning of the answer as it came, up to 4 KiB.
    response: Option<String>,
}

/// Calls that are made again: those whose last attempt began then. Without a time, all.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RetrySpan {
    /// From this time on (RFC 3339).
    since: Option<String>,
    /// Before this time (RFC 3339).
    until: Option<String>,
}

/// How many calls are made again.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RetryAnswer {
    /// Calls that were given up.
    retried: u64,
}

/// Something that a hook wanted done.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CallAction {
    /// What it is.
    #[schema(example = "tag.add")]
    op: String,
    /// What became of it.
    #[schema(example = "applied")]
    result: String,
}

/// List the calls of a hook
///
/// Newest first.
#[utoipa::path(
    get, path = "/hooks/{id}/deliveries", tag = "hooks", operation_id = "list_hook_deliveries",
    params(("id" = String, Path, description = "The hook"), CallsQuery), security(("api_key" = ["hooks:read"])),
    responses(
        (status = 200, description = "A page of calls", body = CallList,
            headers(("Link" = String, description = "The next page, `rel=\"next\"`"))),
        QueryErrors, MissingErrors, AccessErrors,
    )
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    OriginalUri(uri): OriginalUri,
    path: HookPath,
) -> Result<Response, Problem> {
    principal.require(Scope::HooksRead)?;
    let hook = path.find(&state, &principal).await?;
    let query: CallsQuery = page::parse_query(&uri)?;
    let limit = page_limit(query.limit)?;
    let since = parse("since", query.since.as_deref(), Timestamp::parse_rfc3339)?;
    let until = parse("until", query.until.as_deref(), Timestamp::parse_rfc3339)?;
    let message = parse("message_id", query.message_id.as_deref(), |text| text.parse::<MessageId>().ok())?;
    let time = |time: Option<Timestamp>| time.map(|time| time.as_micros().to_string());
    let filter_hash = page::filter_hash(&[
        Some(format!("calls of {}", hook.id)),
        query.outcome.clone(),
        message.map(|id| id.to_string()),
        time(since),
        time(until),
    ]);
    let cursors = CursorContext { key: state.server_key(), tenant: principal.tenant, filter_hash };
    let before = query.cursor.as_deref().map(|cursor| cursors.decode(cursor)).transpose()?;
    let (binding, outcome) = (Some(hook.plugin_id), query.outcome);
    let query = HookInvocationQuery { binding, message, outcome, since, until, before, limit };
    let found = state.storage().hooks().invocations(principal.tenant, &query).await;
    let found = found.map_err(|error| Problem::store(&error))?;
    let next_cursor = found.items.last().filter(|_| found.has_more).map(|last| cursors.encode(&last.id));
    let items = found.items.into_iter().map(|call| CallDetail::from(call).call).collect();
    let list = CallList { items, has_more: next_cursor.is_some(), prev_cursor: None, next_cursor };
    Ok(page::with_next_link(&uri, list.next_cursor.clone().as_deref(), Json(list)))
}

/// Read a call of a hook
#[utoipa::path(
    get, path = "/hooks/{id}/deliveries/{delivery_id}", tag = "hooks", operation_id = "read_hook_delivery",
    params(("id" = String, Path, description = "The hook"), ("delivery_id" = String, Path, description = "The call: `inv_…`")),
    security(("api_key" = ["hooks:read"])),
    responses((status = 200, description = "The call", body = CallDetail), MissingErrors, AccessErrors)
)]
pub(crate) async fn read(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    path: HookPath,
) -> Result<Json<CallDetail>, Problem> {
    principal.require(Scope::HooksRead)?;
    let (_, call) = find(&state, &principal, &path).await?;
    Ok(Json(call.into()))
}

/// Show a message to a hook again
///
/// Asks it again about the message of a call, as it is granted to see it now. Nothing comes of what it says, and the
/// answer is a call of its own.
#[utoipa::path(
    post, path = "/hooks/{id}/deliveries/{delivery_id}/replay", tag = "hooks", operation_id = "replay_hook_delivery",
    params(("id" = String, Path, description = "The hook"), ("delivery_id" = String, Path, description = "The call: `inv_…`")),
    security(("api_key" = ["hooks:write"])),
    responses(
        (status = 200, description = "What it was asked and said", body = TrialAnswer),
        MissingErrors, StateErrors, GoneErrors, UpstreamErrors, AccessErrors,
    )
)]
pub(crate) async fn replay(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: HookPath,
) -> Result<Json<TrialAnswer>, Problem> {
    principal.require(Scope::HooksWrite)?;
    let (hook, call) = find(&state, &principal, &path).await?;
    let unknown = || Problem::new(ErrorCode::InvalidState, "the message of this call was not kept, or is not known");
    let subject = Subject::Kept(call.message.ok_or_else(unknown)?);
    let point = HookPoint::parse(&call.point).ok_or_else(Problem::internal)?;
    let trial = control(&state)?.show(&hook, Shown { point, subject, again: true }).await?;
    let after = Some(json!({"delivery_id": trial.id, "replayed": call.id}));
    caller.changed_hook(&state, &principal, "replayed", hook.id, (None, after));
    TrialAnswer::of(trial).map(Json)
}

/// Make a call again that was given up
///
/// At `post_receive`, or to catch up: what comes of it is done. It is tried once; the id stays the same.
#[utoipa::path(
    post, path = "/hooks/{id}/deliveries/{delivery_id}/retry", tag = "hooks", operation_id = "retry_hook_delivery",
    params(("id" = String, Path, description = "The hook"), ("delivery_id" = String, Path, description = "The call: `inv_…`")),
    security(("api_key" = ["hooks:write"])),
    responses(
        (status = 202, description = "It is made", body = RetryAnswer),
        MissingErrors, StateErrors, AccessErrors,
    )
)]
pub(crate) async fn retry(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: HookPath,
) -> Result<(StatusCode, Json<RetryAnswer>), Problem> {
    principal.require(Scope::HooksWrite)?;
    let (hook, call) = find(&state, &principal, &path).await?;
    let jobs: Vec<_> = given_up::job(&call).into_iter().collect();
    let retried = state.storage().queue().retry_buried(principal.tenant, &jobs, state.now()).await;
    if retried.map_err(|error| Problem::store(&error))? == 0 {
        return Err(Problem::new(ErrorCode::InvalidState, "this call was not given up"));
    }
    caller.changed_hook(&state, &principal, "retried", hook.id, (None, Some(json!({"delivery_id": call.id}))));
    Ok((StatusCode::ACCEPTED, Json(RetryAnswer { retried: 1 })))
}

/// Make calls again that were given up
///
/// As many as there are; each is tried once.
#[utoipa::path(
    post, path = "/hooks/{id}/retry", tag = "hooks", operation_id = "retry_hook",
    params(("id" = String, Path, description = "The hook")), request_body = RetrySpan,
    security(("api_key" = ["hooks:write"])),
    responses(
        (status = 202, description = "They are made", body = RetryAnswer),
        MissingErrors, BodyErrors, AccessErrors,
    )
)]
pub(crate) async fn retry_all(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: HookPath,
    request: Request,
) -> Result<(StatusCode, Json<RetryAnswer>), Problem> {
    principal.require(Scope::HooksWrite)?;
    let hook = path.find(&state, &principal).await?;
    let span: RetrySpan = body::json(request).await?;
    let time = |path: &str, text: Option<&String>| {
        let read = |text: &String| {
            let message = "must be a time (RFC 3339)".to_owned();
            let wrong = FieldError { path: path.to_owned(), code: "invalid_value", message };
            Timestamp::parse_rfc3339(text).ok_or_else(|| Problem::validation(&[wrong]))
        };
        text.map(read).transpose()
    };
    let (since, until) = (time("/since", span.since.as_ref())?, time("/until", span.until.as_ref())?);
    let query = HookInvocationQuery { binding: Some(hook.plugin_id), since, until, ..HookInvocationQuery::default() };
    let retried = given_up::retry_given_up(state.storage(), principal.tenant, query, state.now()).await;
    let retried = retried.map_err(|error| Problem::store(&error))?;
    if retried > 0 {
        let after = json!({"retried": retried, "since": span.since, "until": span.until});
        caller.changed_hook(&state, &principal, "retried", hook.id, (None, Some(after)));
    }
    Ok((StatusCode::ACCEPTED, Json(RetryAnswer { retried })))
}

/// The hook and the call in a path.
async fn find(
    state: &ApiState,
    principal: &Principal,
    path: &HookPath,
) -> Result<(HookBinding, HookInvocation), Problem> {
    let hook = path.find(state, principal).await?;
    let found = state.storage().hooks().invocation(principal.tenant, &path.part()?).await;
    let found = found.map_err(|error| Problem::store(&error))?.filter(|call| call.binding == hook.plugin_id);
    Ok((hook, found.ok_or_else(Problem::not_found)?))
}

impl From<HookInvocation> for CallDetail {
    fn from(call: HookInvocation) -> Self {
        let HookInvocation { id, point, outcome, message, at, report, .. } = call;
        let HookReport { mode, attempt, verdict, let_pass, mail_from, rcpt_to, detail, .. } = report;
        let (instead, instead_because) = (report.instead, report.instead_because);
        let actions = report.actions.into_iter();
        Self {
            call: CallEntry {
                id,
                point,
                mode,
                attempt,
                outcome,
                verdict,
                let_pass,
                instead,
                instead_because,
                ms: report.duration_ms,
                message_id: message.map(|id| id.to_string()),
                mail_from,
                rcpt_to,
                detail,
                at: at.to_rfc3339(),
            },
            request_bytes: report.request_bytes,
            status: report.status,
            score: report.score,
            actions: actions.map(|action| CallAction { op: action.op, result: action.result }).collect(),
            denied: report.denied,
            response: report.response,
        }
    }
}
