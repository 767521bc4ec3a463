//! What the API says about itself.

use axum::Json;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::download;
use crate::openapi::{CacheHeaders, FailureErrors};
use crate::state::ApiState;

/// Which program answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Version {
    /// Always `mairust`.
    name: &'static str,
    /// The version of the program.
    version: &'static str,
    /// The version of the API.
    api: &'static str,
}

/// Read the version
#[utoipa::path(
    get, path = "/version", tag = "meta", operation_id = "read_version",
    responses((status = 200, description = "The version", body = Version), FailureErrors)
)]
pub(crate) async fn version() -> Json<Version> {
    Json(Version { name: "mairust", version: env!("CARGO_PKG_VERSION"), api: "v1" })
}

/// Read this description
#[utoipa::path(
    get, path = "/openapi.json", tag = "meta", operation_id = "read_openapi",
    params(CacheHeaders),
    responses(
        (status = 200, description = "The description (OpenAPI 3.1)", body = Object),
        (status = 304, description = "The client has it"),
        FailureErrors,
    )
)]
pub(crate) async fn document(State(state): State<ApiState>, request: HeaderMap) -> Response {
    let document = state.document();
    let mut response = if download::is_current(&request, &document.etag) {
        download::not_modified(document.etag.clone())
    } else {
        let kind = HeaderValue::from_static("application/json");
        ([(CONTENT_TYPE, kind), (ETAG, document.etag.clone())], document.json.clone()).into_response()
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
