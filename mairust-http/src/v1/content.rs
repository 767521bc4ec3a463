//! The bytes of a message: as stored, as text, and of one attachment.
//!
//! All of it was written by strangers: browsers are told to neither guess a type nor run
//! anything in it.

use axum::extract::State;
use axum::http::header::CONTENT_DISPOSITION;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use mairust_core::{Body, Content, MessageId, content};
use mairust_store::MessageRow;

use crate::auth::{Authenticated, Caller, Principal, Scope};
use crate::download::{self, disposition, etag, guarded, media_type};
use crate::openapi::{AccessErrors, Binary, CacheHeaders, MissingContentErrors, RangeErrors, RangeHeaders};
use crate::problem::Problem;
use crate::state::ApiState;
use crate::v1::MessagePath;

/// Download a message
///
/// The stored bytes, exactly: the header fields that MaiRust added, then the message as received.
#[utoipa::path(
    get, path = "/messages/{id}/raw", tag = "messages", operation_id = "download_message",
    params(
        ("id" = String, Path, description = "The message"),
        RangeHeaders, CacheHeaders,
    ),
    security(("api_key" = ["messages:content"])),
    responses(
        (status = 200, description = "The message", body = inline(Binary), content_type = "message/rfc822",
            headers(("ETag" = String, description = "`\"sha256-…\"`"))),
        (status = 206, description = "The range", body = inline(Binary), content_type = "message/rfc822"),
        (status = 304, description = "The client has it"),
        RangeErrors, MissingContentErrors, AccessErrors,
    )
)]
pub(crate) async fn raw(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: MessagePath,
    request: HeaderMap,
) -> Result<Response, Problem> {
    principal.require(Scope::MessagesContent)?;
    let row = row(&state, &principal, &path).await?;
    let tag = etag(&row.sha256);
    if download::is_current(&request, &tag) {
        return Ok(download::not_modified(tag));
    }
    let body = open(&state, &principal, row.id).await?;
    caller.saw(&state, &principal, row.id);
    Ok(guarded(HeaderValue::from_static("message/rfc822"), download::serve(&request, tag, &body)))
}

/// Read the text of a message
///
/// HTML is reduced to text when there is nothing else. Empty if the message has no text.
#[utoipa::path(
    get, path = "/messages/{id}/text", tag = "messages", operation_id = "read_message_text",
    params(("id" = String, Path, description = "The message")), security(("api_key" = ["messages:content"])),
    responses(
        (status = 200, description = "The text", body = String, content_type = "text/plain; charset=utf-8"),
        MissingContentErrors, AccessErrors,
    )
)]
pub(crate) async fn text(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: MessagePath,
) -> Result<Response, Problem> {
    principal.require(Scope::MessagesContent)?;
    let row = row(&state, &principal, &path).await?;
    let text = read_content(&state, &principal, row.id, content::text).await?;
    caller.saw(&state, &principal, row.id);
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    Ok(guarded(kind, text.unwrap_or_default().into_response()))
}

/// Download an attachment
///
/// Its bytes as they were attached, with the transfer encoding undone.
#[utoipa::path(
    get, path = "/messages/{id}/attachments/{index}", tag = "messages", operation_id = "download_attachment",
    params(
        ("id" = String, Path, description = "The message"),
        ("index" = u64, Path, description = "`index` of the attachment"),
        RangeHeaders, CacheHeaders,
    ),
    security(("api_key" = ["messages:content"])),
    responses(
        (status = 200, description = "The attachment", body = inline(Binary), content_type = "application/octet-stream",
            headers(("ETag" = String, description = "`\"sha256-…\"`"))),
        (status = 206, description = "The range", body = inline(Binary), content_type = "application/octet-stream"),
        (status = 304, description = "The client has it"),
        RangeErrors, MissingContentErrors, AccessErrors,
    )
)]
pub(crate) async fn attachment(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    caller: Caller,
    path: MessagePath,
    request: HeaderMap,
) -> Result<Response, Problem> {
    principal.require(Scope::MessagesContent)?;
    let row = row(&state, &principal, &path).await?;
    let index = path.part()?;
    let read = move |raw: &[u8]| {
        let attachment = Content::parse(raw).attachments.into_iter().nth(index)?;
        Some((attachment, content::attachment_bytes(raw, index)?))
    };
    let found = read_content(&state, &principal, row.id, read).await?;
    let (attachment, bytes) = found.ok_or_else(Problem::not_found)?;
    caller.saw(&state, &principal, row.id);
    let tag = etag(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes).as_ref());
    let answer = if download::is_current(&request, &tag) {
        download::not_modified(tag)
    } else {
        download::serve(&request, tag, &Body::from(bytes))
    };
    let mut response = guarded(media_type(&attachment), answer);
    response.headers_mut().insert(CONTENT_DISPOSITION, disposition(&attachment, index));
    Ok(response)
}

/// The row of the message in the path.
pub(super) async fn row(state: &ApiState, principal: &Principal, path: &MessagePath) -> Result<MessageRow, Problem> {
    let row = state.storage().messages().get(principal.tenant, path.id()?).await;
    row.map_err(|error| Problem::store(&error))?.ok_or_else(Problem::not_found)
}

/// Runs `read` over the bytes of a message, on a blocking thread: it parses.
pub(super) async fn read_content<T: Send + 'static>(
    state: &ApiState,
    principal: &Principal,
    id: MessageId,
    read: impl FnOnce(&[u8]) -> T + Send + 'static,
) -> Result<T, Problem> {
    let body = open(state, principal, id).await?;
    let task = tokio::task::spawn_blocking(move || body.read_all().map(|bytes| read(&bytes)));
    task.await.map_err(std::io::Error::other).flatten().map_err(|error| {
        tracing::error!(%error, message = %id, "a body can't be read");
        Problem::unreadable()
    })
}

async fn open(state: &ApiState, principal: &Principal, id: MessageId) -> Result<Body, Problem> {
    state.storage().messages().body(principal.tenant, id).await.map_err(|error| Problem::body(&error))
}
