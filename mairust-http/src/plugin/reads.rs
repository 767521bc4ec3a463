//! What programs may ask about a call and its message. They are shown what hooks are shown, and no more.

use axum::Json;
use axum::extract::OriginalUri;
use axum::http::header::CONTENT_DISPOSITION;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use mairust_core::{Body, Content, Mail, content};
use mairust_hooks::protocol::request::{Plugin, Tenant};
use mairust_hooks::protocol::view::{WholeText, whole_text};
use mairust_hooks::protocol::{AttachmentGrant, BodyGrant, Grants, MailFacts, VERSION, View};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::token::InCall;
use super::{BODY_LIMIT, denied};
use crate::callbacks::{BURST, OpenCall, REQUESTS_PER_SECOND};
use crate::download::{self, disposition, etag, guarded, media_type};
use crate::openapi::{Binary, CacheHeaders, CallbackErrors, MissingContentErrors, RangeErrors, RangeHeaders};
use crate::page;
use crate::problem::Problem;
use crate::v1::InPath;

/// Who asks, and about what.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OwnView {
    /// The version of the protocol.
    protocol: u32,
    /// The program, with its settings.
    #[schema(value_type = Object)]
    plugin: Plugin,
    /// Whose mail it is about.
    #[schema(value_type = Object)]
    tenant: Tenant,
    /// What the program may see and do.
    #[schema(value_type = Object)]
    granted: Grants,
    /// The call that the token is for.
    invocation_id: String,
    /// Where in the way of the message it is: `pre_receive`, `post_receive` or `pre_send`.
    hook: &'static str,
    /// What becomes of the answer: `enforce`, `shadow`, `test`, `replay` or `catch_up`.
    mode: &'static str,
    /// The name of the message in paths.
    message_id: String,
    /// Until when the token is good (RFC 3339).
    expires_at: String,
    /// What may be asked.
    limits: Limits,
}

/// What may be asked.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Limits {
    /// Requests in a second, for all calls of the program about the mail of the tenant together.
    requests_per_second: u32,
    /// So many may come at once.
    burst: u32,
    /// Octets of a request.
    max_request_bytes: usize,
}

/// Which text.
#[derive(Debug, Deserialize)]
pub(crate) struct BodyQuery {
    part: Option<String>,
}

/// Read what a token is for
#[utoipa::path(
    get, path = "/self", tag = "callback", operation_id = "callback_self",
    security(("invocation_token" = [])),
    responses((status = 200, description = "The program and its call", body = OwnView), CallbackErrors)
)]
pub(crate) async fn own(InCall(call): InCall) -> Json<OwnView> {
    let facts = call.facts();
    Json(OwnView {
        protocol: VERSION,
        plugin: facts.plugin.clone(),
        tenant: Tenant { id: facts.tenant.to_string() },
        granted: facts.granted.clone(),
        invocation_id: facts.invocation.to_string(),
        hook: facts.point.as_str(),
        mode: facts.mode.as_str(),
        message_id: facts.message_name(),
        expires_at: facts.expires_at.to_rfc3339(),
        limits: Limits { requests_per_second: REQUESTS_PER_SECOND, burst: BURST, max_request_bytes: BODY_LIMIT },
    })
}

/// Read a message as hooks see it
///
/// The fields of a request to a hook that tell of the message, as far as the program may see them now.
#[utoipa::path(
    get, path = "/messages/{id}", tag = "callback", operation_id = "callback_message",
    params(("id" = String, Path, description = "The message")), security(("invocation_token" = [])),
    responses(
        (status = 200, description = "The message", body = Object),
        MissingContentErrors, CallbackErrors,
    )
)]
pub(crate) async fn message(InCall(call): InCall, path: InPath<String>) -> Result<Json<Value>, Problem> {
    let id = path.id()?;
    let (mail, facts) = mail(&*call, &id).await?;
    let (hook, granted) = (call.facts().point, call.facts().granted.clone());
    let links = format!("messages/{id}");
    let body = mail.body().clone();
    let seen = read(body, move |octets| {
        let view = View { hook, mail: &mail, octets, facts: &facts, links: Some(&links) };
        serde_json::to_value(view.under(&granted))
    });
    let seen = seen.await?.map_err(|error| {
        tracing::error!(%error, "a view can't be written");
        Problem::internal()
    })?;
    Ok(Json(seen))
}

/// Read the whole text of a message
///
/// As UTF-8, with the transfer encoding undone. Without a part, it is the plain text, or HTML reduced to text if there
/// is no other. Needs `read_body: full`.
#[utoipa::path(
    get, path = "/messages/{id}/body", tag = "callback", operation_id = "callback_body",
    params(
        ("id" = String, Path, description = "The message"),
        ("part" = Option<String>, Query, description = "`text`, the default, or `html`"),
        RangeHeaders, CacheHeaders,
    ),
    security(("invocation_token" = [])),
    responses(
        (status = 200, description = "The text", body = String, content_type = "text/plain; charset=utf-8"),
        (status = 206, description = "The range", body = String, content_type = "text/plain; charset=utf-8"),
        (status = 304, description = "The client has it"),
        RangeErrors, MissingContentErrors, CallbackErrors,
    )
)]
pub(crate) async fn body(
    InCall(call): InCall,
    path: InPath<String>,
    OriginalUri(uri): OriginalUri,
    request: HeaderMap,
) -> Result<Response, Problem> {
    let id = path.id()?;
    let query: BodyQuery = page::parse_query(&uri)?;
    let is_html = match query.part.as_deref() {
        None | Some("text") => false,
        Some("html") => true,
        Some(_) => return Err(Problem::invalid_query("part is text or html")),
    };
    needs(call.facts().granted.read_body == BodyGrant::Full, "read_body: full")?;
    let (mail, _) = mail(&*call, &id).await?;
    let WholeText { text, html, .. } = read(mail.body().clone(), whole_text).await?;
    let kind = if is_html { "text/html; charset=utf-8" } else { "text/plain; charset=utf-8" };
    let found = if is_html { html } else { text }.ok_or_else(Problem::not_found)?;
    Ok(guarded(HeaderValue::from_static(kind), serve(&request, found.into_bytes())))
}

/// Read an attachment
///
/// Its bytes, with the transfer encoding undone. Needs `read_attachments: full`.
#[utoipa::path(
    get, path = "/messages/{id}/attachments/{index}", tag = "callback", operation_id = "callback_attachment",
    params(
        ("id" = String, Path, description = "The message"),
        ("index" = u64, Path, description = "`index` of the attachment"),
        RangeHeaders, CacheHeaders,
    ),
    security(("invocation_token" = [])),
    responses(
        (status = 200, description = "The attachment", body = inline(Binary), content_type = "application/octet-stream"),
        (status = 206, description = "The range", body = inline(Binary), content_type = "application/octet-stream"),
        (status = 304, description = "The client has it"),
        RangeErrors, MissingContentErrors, CallbackErrors,
    )
)]
pub(crate) async fn attachment(
    InCall(call): InCall,
    path: InPath<String>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    needs(call.facts().granted.read_attachments == AttachmentGrant::Full, "read_attachments: full")?;
    let (mail, _) = mail(&*call, &path.id()?).await?;
    let index = path.part()?;
    let found = read(mail.body().clone(), move |octets| {
        let attachment = Content::parse(octets).attachments.into_iter().nth(index)?;
        Some((attachment, content::attachment_bytes(octets, index)?))
    });
    let (attachment, octets) = found.await?.ok_or_else(Problem::not_found)?;
    let mut response = guarded(media_type(&attachment), serve(&request, octets));
    response.headers_mut().insert(CONTENT_DISPOSITION, disposition(&attachment, index));
    Ok(response)
}

/// Read a message as it is
///
/// Its bytes (RFC 5322). Needs all of `read_headers`, `read_body: full` and `read_attachments: full`.
#[utoipa::path(
    get, path = "/messages/{id}/raw", tag = "callback", operation_id = "callback_raw",
    params(("id" = String, Path, description = "The message"), RangeHeaders, CacheHeaders),
    security(("invocation_token" = [])),
    responses(
        (status = 200, description = "The message", body = inline(Binary), content_type = "message/rfc822"),
        (status = 206, description = "The range", body = inline(Binary), content_type = "message/rfc822"),
        (status = 304, description = "The client has it"),
        RangeErrors, MissingContentErrors, CallbackErrors,
    )
)]
pub(crate) async fn raw(InCall(call): InCall, path: InPath<String>, request: HeaderMap) -> Result<Response, Problem> {
    let id = path.id()?;
    let granted = &call.facts().granted;
    needs(granted.read_headers && granted.read_headers_only.is_none(), "read_headers: all of them")?;
    needs(granted.read_body == BodyGrant::Full, "read_body: full")?;
    needs(granted.read_attachments == AttachmentGrant::Full, "read_attachments: full")?;
    let (mail, facts) = mail(&*call, &id).await?;
    let tag = etag(&facts.fingerprint.0);
    if download::is_current(&request, &tag) {
        return Ok(download::not_modified(tag));
    }
    Ok(guarded(HeaderValue::from_static("message/rfc822"), download::serve(&request, tag, mail.body())))
}

/// The message of the call, if it is the one in the path.
async fn mail(call: &dyn OpenCall, id: &str) -> Result<(Mail, std::sync::Arc<MailFacts>), Problem> {
    if id != call.facts().message_name() {
        return Err(Problem::not_found());
    }
    Ok(call.mail().await?)
}

fn needs(has: bool, permission: &str) -> Result<(), Problem> {
    if has { Ok(()) } else { Err(denied(permission)) }
}

/// Runs `read` over the bytes of a message, on a blocking thread: it parses.
async fn read<T: Send + 'static>(body: Body, read: impl FnOnce(&[u8]) -> T + Send + 'static) -> Result<T, Problem> {
    let task = tokio::task::spawn_blocking(move || body.read_all().map(|octets| read(&octets)));
    task.await.map_err(std::io::Error::other).flatten().map_err(|error| {
        tracing::error!(%error, "a body can't be read");
        Problem::unreadable()
    })
}

fn serve(request: &HeaderMap, octets: Vec<u8>) -> Response {
    let tag = etag(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &octets).as_ref());
    match download::is_current(request, &tag) {
        true => download::not_modified(tag),
        false => download::serve(request, tag, &Body::from(octets)),
    }
}
