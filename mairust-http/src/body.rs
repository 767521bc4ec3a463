//! Request bodies in JSON.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::problem::{ErrorCode, FieldError, Problem};

/// Reads the body as an object of this form. No body at all is an empty object.
pub(crate) async fn json<T: DeserializeOwned>(request: Request) -> Result<T, Problem> {
    let (_, value) = json_value(request).await?;
    T::deserialize(Value::Object(object(value)?)).map_err(|error| {
        Problem::validation(&[FieldError { path: String::new(), code: "invalid_value", message: error.to_string() }])
    })
}

/// Reads the body as a JSON object.
pub(crate) async fn json_object(request: Request) -> Result<Map<String, Value>, Problem> {
    object(read(request).await?.1)
}

/// Reads the body as JSON, and keeps it as it came. No body at all is an empty object.
pub(crate) async fn json_value(request: Request) -> Result<(Bytes, Value), Problem> {
    if is_empty(&request) {
        return Ok((Bytes::new(), Value::Object(Map::new())));
    }
    read(request).await
}

fn is_empty(request: &Request) -> bool {
    use axum::body::HttpBody;
    request.body().is_end_stream()
}

async fn read(request: Request) -> Result<(Bytes, Value), Problem> {
    if !is_json(request.headers()) {
        return Err(Problem::new(ErrorCode::UnsupportedMediaType, "the body must be application/json"));
    }
    let body = Bytes::from_request(request, &()).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(ErrorCode::PayloadTooLarge, "the body is too large"),
        _ => Problem::new(ErrorCode::MalformedJson, "the body could not be read"),
    })?;
    let value = serde_json::from_slice(&body);
    let value = value.map_err(|error| Problem::new(ErrorCode::MalformedJson, error.to_string()))?;
    Ok((body, value))
}

/// The fields of an object.
pub(crate) fn object(value: Value) -> Result<Map<String, Value>, Problem> {
    match value {
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
