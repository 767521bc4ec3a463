//! The bytes of a message: as stored, as text, and of one attachment.
//!
//! All of it was written by strangers: browsers are told to neither guess a type nor run
//! anything in it.

use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use mairust_core::{Attachment, Body, Content, MessageId, content};
use mairust_store::MessageRow;

use crate::auth::{Authenticated, Caller, Principal, Scope};
use crate::download::{self, etag};
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

/// Adds the headers that keep browsers from making more of the bytes than bytes; errors, which
/// are ours, keep their own type.
fn guarded(content_type: HeaderValue, mut response: Response) -> Response {
    let is_content = response.status().is_success();
    let headers = response.headers_mut();
    if is_content {
        headers.insert(CONTENT_TYPE, content_type);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    response
}

/// The type and, for texts, the charset as the message says, as far as they are any.
fn media_type(attachment: &Attachment) -> HeaderValue {
    let kind = &attachment.content_type;
    let token = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    let valid = kind.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype));
    let charset = attachment.charset.as_deref().filter(|charset| token(charset));
    let kind = match (valid, charset) {
        (true, Some(charset)) if kind.starts_with("text/") => format!("{kind}; charset={charset}"),
        (true, _) => kind.clone(),
        (false, _) => String::new(),
    };
    let fallback = HeaderValue::from_static("application/octet-stream");
    if kind.is_empty() { fallback } else { HeaderValue::from_str(&kind).unwrap_or(fallback) }
}

/// `attachment` with the file name twice (RFC 6266 §4.3, Appendix D): in ASCII for old clients, in
/// UTF-8 for all others.
fn disposition(attachment: &Attachment, index: usize) -> HeaderValue {
    let name = attachment.filename.clone().filter(|name| !name.trim().is_empty());
    let name = name.unwrap_or_else(|| format!("attachment-{index}"));
    let safe = |c: char| if c.is_control() || matches!(c, '/' | '\\') { '_' } else { c };
    let name: String = name.chars().map(safe).collect();
    let plain = |c: char| if matches!(c, ' '..='~') && !matches!(c, '"' | '%') { c } else { '_' };
    let ascii: String = name.chars().map(plain).collect();
    let value = format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{}", percent_encoded(&name));
    HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static("attachment"))
}

/// RFC 8187 §3.2.1 ext-value: all but attr-char is percent-encoded.
fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        byte if b"!#$&+-.^_`|~".contains(&byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(filename: Option<&str>, content_type: &str) -> Attachment {
        Attachment {
            filename: filename.map(str::to_owned),
            content_type: content_type.to_owned(),
            charset: Some("shift_jis".to_owned()),
            size: 0,
        }
    }

    #[test]
    fn names_cannot_leave_the_header() {
        let value = |name| disposition(&attachment(name, "a/b"), 3).to_str().unwrap().to_owned();
        assert_eq!(
            value(Some("請求 \"1\".pdf")),
            "attachment; filename=\"__ _1_.pdf\"; filename*=UTF-8''%E8%AB%8B%E6%B1%82%20%221%22.pdf"
        );
        assert_eq!(value(Some("../a\r\nb")), "attachment; filename=\".._a__b\"; filename*=UTF-8''.._a__b");
        assert_eq!(value(None), "attachment; filename=\"attachment-3\"; filename*=UTF-8''attachment-3");
    }

    #[test]
    fn types_are_types() {
        let value = |kind| media_type(&attachment(None, kind));
        assert_eq!(value("application/pdf"), "application/pdf");
        assert_eq!(value("text/html"), "text/html; charset=shift_jis");
        for kind in ["", "pdf", "a/b/c", "a/b; c", "a/b\r\n", "日/本"] {
            assert_eq!(value(kind), "application/octet-stream", "{kind}");
        }
    }
}
