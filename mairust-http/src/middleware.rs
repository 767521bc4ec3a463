//! What all answers have in common: a request id, a span, `Cache-Control`, and no panics.

use std::panic::AssertUnwindSafe;

use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, HeaderName};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use mairust_core::Timestamp;
use tracing::Instrument;
use uuid::{NoContext, Uuid};

use crate::problem::{self, Problem};
use crate::state::ApiState;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request, among its extensions.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

/// The outermost layer.
pub(crate) async fn context(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    let request_id = client_request_id(request.headers()).unwrap_or_else(|| new_request_id(state.now()));
    let span = tracing::info_span!(
        "request",
        component = "http",
        request_id,
        method = %request.method(),
        path = request.uri().path(),
    );
    request.extensions_mut().insert(RequestId(request_id.clone()));
    let answer = async {
        let mut response = run(request, next).await;
        finish(&mut response, &request_id);
        tracing::info!(status = response.status().as_u16(), "answered");
        response
    };
    answer.instrument(span).await
}

async fn run(request: Request, next: Next) -> Response {
    AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
        tracing::error!(panic = text, "a handler panicked");
        Problem::internal().into_response()
    })
}

fn finish(response: &mut Response, request_id: &str) {
    problem::render(response, request_id);
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value);
    }
}

/// The client's own id, if it is fit to be written into logs: up to 64 visible ASCII characters.
fn client_request_id(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(REQUEST_ID)?.to_str().ok()?;
    let fits = (1..=64).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| value.to_owned())
}

fn new_request_id(now: Timestamp) -> String {
    let (seconds, nanos) = now.to_unix();
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanos)).to_string()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn takes_ids_that_fit_a_log_line() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(value).unwrap());
            client_request_id(&headers)
        };
        assert_eq!(with("abc-1"), Some("abc-1".to_owned()));
        assert_eq!(with(&"x".repeat(64)).map(|id| id.len()), Some(64));
        for value in [String::new(), "a b".to_owned(), "x".repeat(65)] {
            assert_eq!(with(&value), None, "{value:?}");
        }
    }

    #[test]
    fn an_error_object_names_its_request() {
        let mut response = Problem::not_found().into_response();
        finish(&mut response, "r1");
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(response.headers()[REQUEST_ID], "r1");
        assert_ne!(axum::body::HttpBody::size_hint(response.body()).exact(), Some(0));
        let mut plain = Response::new(Body::from("x"));
        finish(&mut plain, "r2");
        assert_eq!(axum::body::HttpBody::size_hint(plain.body()).exact(), Some(1));
    }
}
