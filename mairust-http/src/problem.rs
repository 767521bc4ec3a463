//! Errors as clients see them: `application/problem+json` (RFC 9457).

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use mairust_core::EmailAddress;
use mairust_store::{StoreError, StoreErrorKind};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::submit::SubmitError;

/// The media type of an error.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! error_codes {
    ($($variant:ident $code:literal $status:ident $title:literal;)*) => {
        /// What went wrong, as a word that never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum ErrorCode { $($variant),* }

        impl ErrorCode {
            /// As written in `code`.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),* }
            }

            /// The status of the answer.
            pub(crate) fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status),* }
            }

            fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),* }
            }
        }
    };
}

error_codes! {
    AlreadyExists "already_exists" CONFLICT "Already exists";
    DatabaseUnavailable "database_unavailable" SERVICE_UNAVAILABLE "Database unavailable";
    Forbidden "forbidden" FORBIDDEN "Forbidden";
    Gone "gone" GONE "Gone";
    HookUnavailable "hook_unavailable" SERVICE_UNAVAILABLE "Hook unavailable";
    IdempotencyConflict "idempotency_conflict" CONFLICT "Key used for something else";
    IdempotencyKeyRequired "idempotency_key_required" BAD_REQUEST "Idempotency-Key required";
    InProgress "in_progress" CONFLICT "In progress";
    InsufficientScope "insufficient_scope" FORBIDDEN "Insufficient scope";
    InternalError "internal_error" INTERNAL_SERVER_ERROR "Internal error";
    InvalidCredentials "invalid_credentials" UNAUTHORIZED "Invalid credentials";
    InvalidCursor "invalid_cursor" BAD_REQUEST "Invalid cursor";
    InvalidQuery "invalid_query" BAD_REQUEST "Invalid query";
    InvalidState "invalid_state" CONFLICT "Invalid state";
    MalformedJson "malformed_json" BAD_REQUEST "Malformed JSON";
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED "Method not allowed";
    NotFound "not_found" NOT_FOUND "Not found";
    PayloadTooLarge "payload_too_large" PAYLOAD_TOO_LARGE "Payload too large";
    PermissionDenied "permission_denied" FORBIDDEN "Permission denied";
    PluginError "plugin_error" BAD_GATEWAY "Plugin error";
    PolicyDeferred "policy_deferred" SERVICE_UNAVAILABLE "Deferred by policy";
    PolicyDenied "policy_denied" FORBIDDEN "Denied by policy";
    PreconditionFailed "precondition_failed" PRECONDITION_FAILED "Precondition failed";
    RangeNotSatisfiable "range_not_satisfiable" RANGE_NOT_SATISFIABLE "Range not satisfiable";
    RateLimited "rate_limited" TOO_MANY_REQUESTS "Too many requests";
    RecipientSuppressed "recipient_suppressed" UNPROCESSABLE_ENTITY "Recipient suppressed";
    SearchUnavailable "search_unavailable" SERVICE_UNAVAILABLE "Search unavailable";
    SenderNotAllowed "sender_not_allowed" FORBIDDEN "Sender not allowed";
    StorageUnavailable "storage_unavailable" SERVICE_UNAVAILABLE "Storage unavailable";
    Unauthenticated "unauthenticated" UNAUTHORIZED "Not authenticated";
    UnprocessableMessage "unprocessable_message" UNPROCESSABLE_ENTITY "Unprocessable message";
    UpstreamTimeout "upstream_timeout" GATEWAY_TIMEOUT "Timeout elsewhere";
    UnsupportedMediaType "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE "Unsupported media type";
    ValidationFailed "validation_failed" UNPROCESSABLE_ENTITY "Validation failed";
}

/// When a client may come again whose message a hook does not want now: hooks don't say.
const DEFERRED: Duration = Duration::from_secs(60);

/// An error on its way to the client. As a response it has no body yet: the outermost layer knows
/// the id of the request and writes the body with [`render`].
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    code: ErrorCode,
    message: String,
    details: Map<String, Value>,
    hint: Option<&'static str>,
    /// When the client may come again.
    retry_after: Option<Duration>,
}

/// The error object.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody<'a> {
    /// A URI that names the kind of problem.
    #[serde(rename = "type")]
    #[schema(example = "https://mairust.dev/errors/not_found")]
    kind: String,
    /// The kind of problem, for people.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// The kind of problem, for programs. More codes may be added.
    #[schema(example = "not_found")]
    code: &'a str,
    /// What happened, for people.
    message: &'a str,
    /// Facts for programs; depends on `code`.
    #[schema(value_type = Object)]
    details: &'a Map<String, Value>,
    /// The value of `X-Request-Id`.
    request_id: &'a str,
    /// What may help.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    hint: Option<&'a str>,
}

/// One thing that is wrong with a request body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FieldError {
    /// Where: a JSON pointer (RFC 6901).
    pub(crate) path: String,
    /// What, for programs.
    pub(crate) code: &'static str,
    /// What, for people.
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Map::new(), hint: None, retry_after: None }
    }

    /// The one answer for everything that is not there, or not there for this client.
    pub(crate) fn not_found() -> Self {
        Self::new(ErrorCode::NotFound, "there is no such resource")
    }

    /// What the client wants to change is not what it knows any more.
    pub(crate) fn precondition_failed() -> Self {
        Self::new(ErrorCode::PreconditionFailed, "it was changed since; read it again")
    }

    /// A fault of ours; the log says which.
    pub(crate) fn internal() -> Self {
        Self::new(ErrorCode::InternalError, "something went wrong")
    }

    /// There was too much of something; the client may come again after `wait`.
    pub(crate) fn rate_limited(message: impl Into<String>, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..Self::new(ErrorCode::RateLimited, message) }
    }

    /// Nothing is sent to these recipients, and nothing was sent to the others.
    fn suppressed(recipients: &[EmailAddress]) -> Self {
        let named: Vec<_> = recipients.iter().map(ToString::to_string).collect();
        let message = format!("on the suppression list: {}", named.join(", "));
        Self::new(ErrorCode::RecipientSuppressed, message)
            .detail("recipients", named)
            .hint("Leave them out, or take them off the list: DELETE /api/v1/suppressions/{id}")
    }

    pub(crate) fn invalid_query(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidQuery, message)
    }

    /// All that is wrong with a request body.
    pub(crate) fn validation(errors: &[FieldError]) -> Self {
        let message = match errors {
            [only] => format!("{}: {}", only.path, only.message),
            several => format!("{} problems in the request body", several.len()),
        };
        Self::new(ErrorCode::ValidationFailed, message)
            .detail("errors", serde_json::to_value(errors).unwrap_or_default())
    }

    /// An error of a store that has nothing to do with a body.
    pub(crate) fn store(error: &StoreError) -> Self {
        let (code, message) = match error.kind() {
            StoreErrorKind::NotFound => return Self::not_found(),
            StoreErrorKind::AlreadyExists => (ErrorCode::AlreadyExists, "there is one already"),
            StoreErrorKind::Corrupt => (ErrorCode::StorageUnavailable, "stored data can't be read"),
            StoreErrorKind::Full => (ErrorCode::StorageUnavailable, "the storage is full"),
            StoreErrorKind::Unavailable => (ErrorCode::DatabaseUnavailable, "the database doesn't answer"),
            _ => (ErrorCode::InternalError, "something went wrong"),
        };
        let cause = std::error::Error::source(error).map(ToString::to_string);
        tracing::error!(%error, cause, kind = ?error.kind(), "the store failed");
        Self::new(code, message)
    }

    /// An error of a store while a body of an existing message was opened.
    pub(crate) fn body(error: &StoreError) -> Self {
        match error.kind() {
            StoreErrorKind::NotFound => Self::new(ErrorCode::Gone, "the content of this message is gone"),
            StoreErrorKind::Unavailable => {
                tracing::error!(%error, "a body can't be opened");
                Self::unreadable()
            }
            _ => Self::store(error),
        }
    }

    /// A body can't be read.
    pub(crate) fn unreadable() -> Self {
        Self::new(ErrorCode::StorageUnavailable, "the content of this message can't be read now")
    }

    pub(crate) fn code(&self) -> ErrorCode {
        self.code
    }

    pub(crate) fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    fn to_json(&self, request_id: &str) -> Vec<u8> {
        let body = ProblemBody {
            kind: format!("https://mairust.dev/errors/{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            code: self.code.as_str(),
            message: &self.message,
            details: &self.details,
            request_id,
            hint: self.hint,
        };
        serde_json::to_vec(&body).expect("strings and JSON values always serialise")
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::HookUnavailable(text) => Self::new(ErrorCode::HookUnavailable, text),
            SubmitError::PolicyDeferred(text) => {
                Self { retry_after: Some(DEFERRED), ..Self::new(ErrorCode::PolicyDeferred, text) }
            }
            SubmitError::PolicyDenied(text) => Self::new(ErrorCode::PolicyDenied, text),
            SubmitError::RateLimited { text, retry_after } => Self::rate_limited(text, retry_after),
            SubmitError::RecipientSuppressed(recipients) => Self::suppressed(&recipients),
            SubmitError::SenderNotAllowed(text) => Self::new(ErrorCode::SenderNotAllowed, text),
            SubmitError::SendAt(message) => {
                let path = "/send_at".to_owned();
                Self::validation(&[FieldError { path, code: "invalid_value", message }])
            }
            // Whatever was not found, it was not what the client asked for.
            SubmitError::Store(error) if error.kind() == StoreErrorKind::NotFound => {
                tracing::error!(%error, "a message could not be submitted");
                Self::internal()
            }
            SubmitError::Store(error) => Self::store(&error),
            SubmitError::Unprocessable(text) => Self::new(ErrorCode::UnprocessableMessage, text),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        if self.code.status() == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = self.retry_after {
            // Whole seconds, and never too few.
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the body of a response that stands for a [`Problem`]; leaves others alone.
pub(crate) fn render(response: &mut Response, request_id: &str) {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return };
    *response.body_mut() = Body::from(problem.to_json(request_id));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    // The routes below have counted the empty body already.
    response.headers_mut().remove(CONTENT_LENGTH);
}

/// For paths that nothing is mounted at.
pub(crate) async fn not_found() -> Problem {
    Problem::not_found()
}

/// For paths that know other methods only.
pub(crate) async fn method_not_allowed() -> Problem {
    Problem::new(ErrorCode::MethodNotAllowed, "this resource doesn't know the method")
}
