//! What programs want done, and what they tell.

use axum::extract::{Request, State};
use axum::response::Response;
use mairust_hooks::HookPoint;
use mairust_hooks::protocol::{Action, HookResponse, LateResult};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::repeats::Begun;
use super::token::InCall;
use crate::body::object;
use crate::callbacks::OpenCall;
use crate::openapi::{BodyErrors, CallbackErrors, IdempotencyErrors, IdempotencyHeaders, MissingErrors};
use crate::problem::{FieldError, Problem};
use crate::state::ApiState;
use crate::v1::InPath;

/// The most entries for the log in one request.
const MAX_ENTRIES: usize = 100;

/// What is to be done with a message.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct ActionsRequest {
    /// As in the answer of a hook.
    #[schema(value_type = Vec<Object>)]
    actions: Vec<Value>,
}

/// What became of actions.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct ActionsAnswer {
    /// One for each action, in order.
    results: Vec<ActionReport>,
}

/// What became of one action.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct ActionReport {
    /// What it was, for example `tag.add`.
    op: String,
    /// `applied`, `denied` (the tenant has not granted it), `conflict` (another one was first), `impossible` (there is
    /// no such folder, or a stored message can't be changed so) or `recorded` (the program is on trial).
    result: String,
}

/// The result of a call that was answered with 202.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct CompleteRequest {
    /// `done` or `failed`.
    status: String,
    /// As in the answer of a hook, as are `verdict`, which is `allow` if it is left out, `score` and `reason`.
    #[schema(value_type = Vec<Object>)]
    actions: Option<Vec<Value>>,
    /// Why it failed: `code` and `message`.
    #[schema(value_type = Option<Object>)]
    error: Option<Value>,
}

/// What was told.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct CompleteAnswer {
    /// The call.
    invocation_id: String,
    /// `done` or `failed`.
    status: String,
}

/// How long there is time.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct ProgressAnswer {
    /// When the result has to be there (RFC 3339).
    result_by: String,
}

/// Something for the log of the server.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogEntry {
    /// `trace`, `debug`, `info`, `warn` or `error`.
    level: String,
    /// The text.
    msg: String,
    /// What else there is to tell.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    fields: Option<Map<String, Value>>,
}

/// How much was logged.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct LogsAnswer {
    /// Entries. Those that come too fast are counted, and not written.
    logged: usize,
}

/// Change a message
///
/// At once, if the message is stored: a program that somebody waits for says what it wants in its answer.
#[utoipa::path(
    post, path = "/messages/{id}/actions", tag = "callback", operation_id = "callback_actions",
    params(("id" = String, Path, description = "The message"), IdempotencyHeaders),
    request_body = ActionsRequest, security(("invocation_token" = [])),
    responses(
        (status = 200, description = "What became of them", body = ActionsAnswer),
        MissingErrors, BodyErrors, IdempotencyErrors, CallbackErrors,
    )
)]
pub(crate) async fn actions(
    State(state): State<ApiState>,
    InCall(call): InCall,
    path: InPath<String>,
    request: Request,
) -> Result<Response, Problem> {
    if path.id()? != call.facts().message_name() {
        return Err(Problem::not_found());
    }
    once(&state, &*call, request, |value| act(&*call, value)).await
}

/// Tell the result of a call
///
/// Once, for a call that was answered with 202.
#[utoipa::path(
    post, path = "/invocations/{id}/complete", tag = "callback", operation_id = "callback_complete",
    params(("id" = String, Path, description = "The call"), IdempotencyHeaders),
    request_body = CompleteRequest, security(("invocation_token" = [])),
    responses(
        (status = 200, description = "It is known now", body = CompleteAnswer),
        MissingErrors, BodyErrors, IdempotencyErrors, CallbackErrors,
    )
)]
pub(crate) async fn complete(
    State(state): State<ApiState>,
    InCall(call): InCall,
    path: InPath<String>,
    request: Request,
) -> Result<Response, Problem> {
    is_of(&*call, &path.id()?)?;
    once(&state, &*call, request, |value| settle(&*call, value)).await
}

/// Ask for more time for a result
///
/// As much again as there was from the beginning, up to twice as much in all and up to a day.
#[utoipa::path(
    post, path = "/invocations/{id}/progress", tag = "callback", operation_id = "callback_progress",
    params(("id" = String, Path, description = "The call"), IdempotencyHeaders),
    security(("invocation_token" = [])),
    responses(
        (status = 200, description = "How long there is time now", body = ProgressAnswer),
        MissingErrors, IdempotencyErrors, CallbackErrors,
    )
)]
pub(crate) async fn progress(
    State(state): State<ApiState>,
    InCall(call): InCall,
    path: InPath<String>,
    request: Request,
) -> Result<Response, Problem> {
    is_of(&*call, &path.id()?)?;
    once(&state, &*call, request, |_| async {
        let until = call.progress().await?;
        Ok(json!({"result_by": until.to_rfc3339()}))
    })
    .await
}

/// Write into the log of the server
#[utoipa::path(
    post, path = "/logs", tag = "callback", operation_id = "callback_logs",
    params(IdempotencyHeaders), request_body = Vec<LogEntry>, security(("invocation_token" = [])),
    responses(
        (status = 200, description = "They were taken", body = LogsAnswer),
        BodyErrors, IdempotencyErrors, CallbackErrors,
    )
)]
pub(crate) async fn logs(
    State(state): State<ApiState>,
    InCall(call): InCall,
    request: Request,
) -> Result<Response, Problem> {
    once(&state, &*call, request, |value| std::future::ready(log(&*call, value))).await
}

/// Carries a request out, unless it was carried out before.
async fn once<Done>(
    state: &ApiState,
    call: &dyn OpenCall,
    request: Request,
    carry_out: impl FnOnce(Value) -> Done,
) -> Result<Response, Problem>
where
    Done: Future<Output = Result<Value, Problem>>,
{
    let callers = state.callers().ok_or_else(Problem::not_found)?;
    match callers.repeats().begin(call.facts(), request, state.now()).await? {
        Begun::Repeated(response) => Ok(response),
        Begun::First(turn, value) => Ok(turn.end(carry_out(value).await)),
    }
}

/// A token is good for one call; others are not there.
fn is_of(call: &dyn OpenCall, id: &str) -> Result<(), Problem> {
    if call.facts().invocation.as_str() == id { Ok(()) } else { Err(Problem::not_found()) }
}

async fn act(call: &dyn OpenCall, value: Value) -> Result<Value, Problem> {
    let done = call.act(read_actions(value)?).await?;
    let reports = done.iter().map(|done| json!({"op": done.op, "result": done.result.as_str()}));
    Ok(json!({"results": reports.collect::<Vec<_>>()}))
}

async fn settle(call: &dyn OpenCall, value: Value) -> Result<Value, Problem> {
    let result = LateResult::parse(object(value)?).map_err(|error| wrong("", error))?;
    let status = match result {
        LateResult::Done(_) => "done",
        LateResult::Failed(_) | LateResult::Missing => "failed",
    };
    call.complete(result).await?;
    Ok(json!({"invocation_id": call.facts().invocation.as_str(), "status": status}))
}

/// Reads actions as in the answer of a hook, and nothing beside them.
fn read_actions(value: Value) -> Result<Vec<Action>, Problem> {
    let mut fields = object(value)?;
    let actions = fields.remove("actions").ok_or_else(|| wrong("/actions", "there are none"))?;
    if let Some(other) = fields.keys().next() {
        return Err(wrong(&format!("/{other}"), "is not known"));
    }
    let answer = json!({"verdict": "allow", "actions": actions}).to_string();
    let answer = HookResponse::parse(answer.as_bytes(), HookPoint::PostReceive);
    Ok(answer.map_err(|error| wrong("/actions", error))?.actions)
}

fn log(call: &dyn OpenCall, value: Value) -> Result<Value, Problem> {
    let entries: Vec<LogEntry> = serde_json::from_value(value).map_err(|error| wrong("", error))?;
    if entries.len() > MAX_ENTRIES {
        return Err(wrong("", format_args!("there may be {MAX_ENTRIES} entries at most")));
    }
    let mut read = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let level = match entry.level.as_str() {
            "trace" => tracing::Level::TRACE,
            "debug" => tracing::Level::DEBUG,
            "info" => tracing::Level::INFO,
            "warn" => tracing::Level::WARN,
            "error" => tracing::Level::ERROR,
            _ => return Err(wrong(&format!("/{index}/level"), "is trace, debug, info, warn or error")),
        };
        read.push((level, entry.msg, entry.fields.map(|fields| Value::Object(fields).to_string())));
    }
    read.iter().for_each(|(level, text, fields)| call.log(*level, text, fields.as_deref()));
    Ok(json!({"logged": read.len()}))
}

fn wrong(path: &str, message: impl std::fmt::Display) -> Problem {
    let message = message.to_string();
    Problem::validation(&[FieldError { path: path.to_owned(), code: "invalid_value", message }])
}
