//! Request bodies in JSON.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::problem::{ErrorCode, FieldError, Problem};

/// Reads the body as an object of this form. No body at all is an empty object.
pub(super) async fn json<T: DeserializeOwned>(request: Request) -> Result<T, Problem> {
    let fields = match is_empty(&request) {
        true => Map::new(),
        false => json_object(request).await?,
    };
    T::deserialize(Value::Object(fields)).map_err(|error| {
        Problem::validation(&[FieldError { path: String::new(), code: "invalid_value", message: error.to_string() }])
    })
}

fn is_empty(request: &Request) -> bool {
    use axum::body::HttpBody;
    request.body().is_end_stream()
}

/// Reads the body as a JSON object.
pub(super) async fn json_object(request: Request) -> Result<Map<String, Value>, Problem> {
    if !is_json(request.headers()) {
        return Err(Problem::new(ErrorCode::UnsupportedMediaType, "the body must be application/json"));
    }
    let body = Bytes::from_request(request, &()).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(ErrorCode::PayloadTooLarge, "the body is too large"),
        _ => Problem::new(ErrorCode::MalformedJson, "the body could not be read"),
    })?;
    let value = serde_json::from_slice(&body);
    match value.map_err(|error| Problem::new(ErrorCode::MalformedJson, error.to_string()))? {
        Value::Object(fields) => Ok(fields),
        _ => {
            let message = "must be an object".to_owned();
            Err(Problem::validation(&[FieldError { path: String::new(), code: "invalid_type", message }]))
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}
