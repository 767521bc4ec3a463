//! Large bodies: entity tags, `304`, and single byte ranges (RFC 9110 §8.8.3, §13, §14); and what keeps browsers from
//! running what strangers wrote.

use std::io;

use axum::body::Body as HttpBody;
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE,
    RANGE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use mairust_core::{Attachment, Body};

use crate::problem::{ErrorCode, Problem};

/// How much is read at once: large enough that changing threads costs little.
const CHUNK: usize = 64 * 1024;

/// The bytes of a range: from `start` up to, not including, `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: u64,
    end: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Everything,
    Nothing,
    Part(Span),
}

/// The strong entity tag of bytes with this SHA-256.
pub(crate) fn etag(sha256: &[u8]) -> HeaderValue {
    HeaderValue::from_str(&format!("\"sha256-{}\"", hex(sha256))).expect("hexadecimal digits are legal in a header")
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the client has these bytes already (RFC 9110 §13.1.2).
pub(crate) fn is_current(request: &HeaderMap, etag: &HeaderValue) -> bool {
    let candidates = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    candidates
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag.as_bytes())
}

/// Answers 304 with the tag.
pub(crate) fn not_modified(etag: HeaderValue) -> Response {
    (StatusCode::NOT_MODIFIED, [(ETAG, etag)]).into_response()
}

/// Answers with a body or the range of it that the client asks for.
pub(crate) fn serve(request: &HeaderMap, etag: HeaderValue, body: &Body) -> Response {
    let length = body.len();
    let (status, span) = match wanted(request, &etag, length) {
        Wanted::Everything => (StatusCode::OK, Span { start: 0, end: length }),
        Wanted::Part(span) => (StatusCode::PARTIAL_CONTENT, span),
        Wanted::Nothing => {
            let problem = Problem::new(ErrorCode::RangeNotSatisfiable, "the range lies outside the content");
            return ([(CONTENT_RANGE, format!("bytes */{length}"))], problem.detail("size", length)).into_response();
        }
    };
    let mut response = (status, stream_of(body.clone(), span)).into_response();
    let headers = response.headers_mut();
    headers.insert(ETAG, etag);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(span.end - span.start));
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {}-{}/{length}", span.start, span.end - 1);
        headers.insert(CONTENT_RANGE, HeaderValue::from_str(&range).expect("digits are legal in a header"));
    }
    response
}

/// What the client asks for. Several ranges, other units and broken ones count as no range at all
/// (RFC 9110 §14.2).
fn wanted(request: &HeaderMap, etag: &HeaderValue, length: u64) -> Wanted {
    let outdated = request.get(IF_RANGE).is_some_and(|tag| tag != etag);
    let range = request.get(RANGE).and_then(|value| value.to_str().ok());
    match range.and_then(|range| range.trim().strip_prefix("bytes=")) {
        Some(range) if !outdated => parse_range(range.trim(), length).unwrap_or(Wanted::Everything),
        _ => Wanted::Everything,
    }
}

/// `first-last`, `first-` or `-count`; `None` if it is none of them.
fn parse_range(range: &str, length: u64) -> Option<Wanted> {
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| -> Option<u64> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (start, end) = match (first, last) {
        ("", count) => (length.saturating_sub(number(count)?), length),
        (first, "") => (number(first)?, length),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            (first, last.saturating_add(1).min(length))
        }
    };
    Some(if start < end { Wanted::Part(Span { start, end }) } else { Wanted::Nothing })
}

fn stream_of(body: Body, span: Span) -> HttpBody {
    if let Some(bytes) = body.in_memory() {
        let (start, end) = (usize::try_from(span.start), usize::try_from(span.end));
        return match (start, end) {
            (Ok(start), Ok(end)) if start <= end && end <= bytes.len() => HttpBody::from(bytes.slice(start..end)),
            _ => HttpBody::empty(),
        };
    }
    HttpBody::from_stream(stream::try_unfold((body, span), |(body, span)| async move {
        if span.start >= span.end {
            return Ok(None);
        }
        let (chunk, body) = read_chunk(body, span).await?;
        let rest = Span { start: span.start + chunk.len() as u64, end: span.end };
        Ok::<_, io::Error>(Some((chunk, (body, rest))))
    }))
}

async fn read_chunk(body: Body, span: Span) -> io::Result<(Bytes, Body)> {
    let read = move || {
        let count = usize::try_from(span.end - span.start).map_or(CHUNK, |left| left.min(CHUNK));
        let mut buffer = vec![0; count];
        let count = body.read_at(span.start, &mut buffer)?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        buffer.truncate(count);
        Ok((Bytes::from(buffer), body))
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}

/// Adds the headers that keep browsers from making more of the bytes than bytes; errors, which
/// are ours, keep their own type.
pub(crate) fn guarded(content_type: HeaderValue, mut response: Response) -> Response {
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
pub(crate) fn media_type(attachment: &Attachment) -> HeaderValue {
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
pub(crate) fn disposition(attachment: &Attachment, index: usize) -> HeaderValue {
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
    use std::sync::Arc;

    use mairust_core::BodySource;

    use super::*;

    #[test]
    fn ranges() {
        let part = |start, end| Some(Wanted::Part(Span { start, end }));
        assert_eq!(parse_range("0-0", 10), part(0, 1));
        assert_eq!(parse_range("2-", 10), part(2, 10));
        assert_eq!(parse_range("-3", 10), part(7, 10));
        assert_eq!(parse_range("-99", 10), part(0, 10));
        assert_eq!(parse_range("5-99999999999999999999999", 10), part(5, 10));
        for nothing in ["10-", "10-12", "-0", "99999999999999999999999-"] {
            assert_eq!(parse_range(nothing, 10), Some(Wanted::Nothing), "{nothing}");
        }
        for broken in ["", "-", "a-b", "3-2", "0-1,3-4", "+1-2", "1"] {
            assert_eq!(parse_range(broken, 10), None, "{broken}");
        }
        assert_eq!(parse_range("0-", 0), Some(Wanted::Nothing));
    }

    #[test]
    fn an_outdated_if_range_asks_for_everything() {
        let mut request = HeaderMap::new();
        request.insert(RANGE, HeaderValue::from_static("bytes=0-1"));
        request.insert(IF_RANGE, etag(&[1]));
        assert_eq!(wanted(&request, &etag(&[1]), 9), Wanted::Part(Span { start: 0, end: 2 }));
        assert_eq!(wanted(&request, &etag(&[2]), 9), Wanted::Everything);
    }

    #[test]
    fn tags_match_weakly_and_in_lists() {
        let tag = etag(&[0xab]);
        assert_eq!(tag, "\"sha256-ab\"");
        for value in ["*", "\"sha256-ab\"", "\"x\", W/\"sha256-ab\""] {
            let mut request = HeaderMap::new();
            request.insert(IF_NONE_MATCH, HeaderValue::from_static(value));
            assert!(is_current(&request, &tag), "{value}");
            assert!(!is_current(&request, &etag(&[0xcd])) || value == "*");
        }
    }

    /// Bytes that are not in memory as far as a [`Body`] knows.
    #[derive(Debug)]
    struct Elsewhere(Vec<u8>);

    impl BodySource for Elsewhere {
        fn len(&self) -> u64 {
            self.0.len() as u64
        }
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            Body::from(self.0.clone()).read_at(offset, buffer)
        }
    }

    #[tokio::test]
    async fn a_source_is_streamed_over_several_chunks() {
        let bytes: Vec<u8> = (0..CHUNK * 2 + 77).map(|index| u8::try_from(index % 251).unwrap()).collect();
        let body = Body::from_source(Arc::new(Elsewhere(bytes.clone())));
        let whole = serve(&HeaderMap::new(), etag(&[1]), &body);
        assert_eq!(whole.headers()[CONTENT_LENGTH], bytes.len().to_string());
        assert_eq!(axum::body::to_bytes(whole.into_body(), usize::MAX).await.unwrap(), bytes);
        let mut request = HeaderMap::new();
        request.insert(RANGE, HeaderValue::from_static("bytes=65000-66000"));
        let part = serve(&request, etag(&[1]), &body);
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(axum::body::to_bytes(part.into_body(), usize::MAX).await.unwrap(), bytes[65_000..=66_000]);
    }

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
