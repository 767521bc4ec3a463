//! The description of the API (OpenAPI 3.1), collected from the handlers.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use axum::http::HeaderValue;
use bytes::Bytes;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Response, ResponseBuilder,
};
use utoipa::{IntoParams, IntoResponses, PartialSchema, ToSchema};

use crate::download::etag;
use crate::problem::{PROBLEM_JSON, ProblemBody};

/// The description as it is served.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) json: Bytes,
    pub(crate) etag: HeaderValue,
}

impl Document {
    pub(crate) fn new() -> Self {
        let json = openapi_json();
        let etag = etag(digest::digest(&digest::SHA256, json.as_bytes()).as_ref());
        Self { json: json.into(), etag }
    }
}

/// The description of the whole API, `/metrics` included, as indented JSON with a final line end.
/// The same for every state, so that a copy of it can be kept under version control.
pub fn openapi_json() -> String {
    let document = crate::routes(true, crate::plugin::routes()).into_openapi();
    let mut json = document.to_pretty_json().expect("a description holds only strings, lists and maps");
    json.push('\n');
    json
}

/// What the description says before any handler is added to it.
pub(crate) fn base() -> OpenApi {
    let info = InfoBuilder::new()
        .title("MaiRust")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "The REST API of the MaiRust mail platform. Enumerations may grow; ignore fields you don't know.",
        ))
        .build();
    let key = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("mrk_<key id>_<secret>")
        .description(Some("An API key. Each operation lists the scope that it needs."))
        .build();
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("mrc_<secret>")
        .description(Some("The token of one call of a hook, as the request says in `callback.token`."))
        .build();
    let components = ComponentsBuilder::new()
        .schema("Problem", ProblemBody::schema())
        .security_scheme("api_key", SecurityScheme::Http(key))
        .security_scheme("invocation_token", SecurityScheme::Http(token))
        .build();
    OpenApiBuilder::new().info(info).components(Some(components)).build()
}

/// Bytes that are not JSON.
#[derive(Debug, ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct Binary(Vec<u8>);

/// The header fields of a request for what the client may have already.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct CacheHeaders {
    /// Entity tags that the client has.
    #[param(rename = "If-None-Match")]
    if_none_match: Option<String>,
}

/// The header fields of a request that changes what the client knows.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct MatchHeaders {
    /// The entity tag of what the client knows; without it, whatever there is gets changed.
    #[param(rename = "If-Match")]
    if_match: Option<String>,
}

/// The header fields of a request for a part.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "they are only described")]
pub(crate) struct RangeHeaders {
    /// One range of bytes.
    #[param(rename = "Range")]
    range: Option<String>,
    /// The entity tag for which the range is meant.
    #[param(rename = "If-Range")]
    if_range: Option<String>,
}

/// The header fields of a request that is carried out once.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct IdempotencyHeaders {
    /// Tells the request from others for a day: sent again under the same key, it gets the same answer.
    #[param(rename = "Idempotency-Key")]
    idempotency_key: String,
}

macro_rules! error_sets {
    ($($(#[$doc:meta])* $name:ident { $($status:literal $description:literal,)* })*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                BTreeMap::from([$(($status.to_owned(), problem($description))),*])
            }
        }
    )*};
}

error_sets! {
    /// Of all operations.
    FailureErrors {
        "500" "`internal_error`",
    }
    /// Of all operations that need an API key.
    AccessErrors {
        "401" "`unauthenticated`, `invalid_credentials`",
        "403" "`insufficient_scope`, `forbidden`, `sender_not_allowed`, `policy_denied`",
        "429" "`rate_limited`",
        "500" "`internal_error`",
        "503" "`database_unavailable`, `storage_unavailable`, `hook_unavailable`, `policy_deferred`",
    }
    /// Of all operations of programs that are called as hooks.
    CallbackErrors {
        "401" "`unauthenticated`, `invalid_credentials`",
        "403" "`permission_denied`",
        "429" "`rate_limited`",
        "500" "`internal_error`",
        "503" "`database_unavailable`, `storage_unavailable`",
    }
    /// Of operations that are carried out once.
    IdempotencyErrors {
        "400" "`idempotency_key_required`, `malformed_json`",
        "409" "`idempotency_conflict`, `in_progress`, `invalid_state`",
    }
    /// Of operations with a query.
    QueryErrors {
        "400" "`invalid_query`, `invalid_cursor`",
    }
    /// Of operations that need the search index.
    SearchErrors {
        "503" "`search_unavailable`, `database_unavailable`",
    }
    /// Of operations with an id.
    MissingErrors {
        "404" "`not_found`",
    }
    /// Of operations that not every state allows.
    StateErrors {
        "409" "`invalid_state`",
    }
    /// Of operations that change what the client knows.
    MatchErrors {
        "412" "`precondition_failed`",
    }
    /// Of operations that ask programs elsewhere.
    UpstreamErrors {
        "502" "`plugin_error`",
        "504" "`upstream_timeout`",
    }
    /// Of operations that read on where something may have been removed meanwhile.
    GoneErrors {
        "410" "`gone`",
    }
    /// Of operations that read the body of a message.
    MissingContentErrors {
        "404" "`not_found`",
        "410" "`gone`",
    }
    /// Of operations that take ranges.
    RangeErrors {
        "416" "`range_not_satisfiable`",
    }
    /// Of operations that take JSON.
    BodyErrors {
        "400" "`malformed_json`",
        "413" "`payload_too_large`",
        "415" "`unsupported_media_type`",
        "422" "`validation_failed`, `unprocessable_message`, `recipient_suppressed`",
    }
    /// Of operations that add something.
    ConflictErrors {
        "409" "`already_exists`",
    }
}

fn problem(description: &str) -> RefOr<Response> {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description(description).content(PROBLEM_JSON, content).build().into()
}
