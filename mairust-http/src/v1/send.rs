//! Sending a message.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use mairust_core::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::auth::{Authenticated, Scope};
use crate::openapi::{AccessErrors, BodyErrors};
use crate::problem::Problem;
use crate::state::ApiState;
use crate::submit::Submitted;
use crate::v1::body::json_object;
use crate::v1::draft;

/// A message to be sent. At least one recipient, and at least one of `text`, `html` and
/// `attachments` is needed; at most 100 recipients and 25 MiB.
// Read field by field (see `draft`), so that all faults are found; an entry that is wrong in
// itself is None. What is derived from the attributes of serde is the description.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SendRequest {
    #[schema(required, value_type = AddressInput)]
    pub(super) from: Option<AddressInput>,
    #[schema(required = false, value_type = Vec<AddressInput>)]
    pub(super) to: Vec<Option<AddressInput>>,
    #[schema(required = false, value_type = Vec<AddressInput>)]
    pub(super) cc: Vec<Option<AddressInput>>,
    #[schema(required = false, value_type = Vec<AddressInput>)]
    pub(super) bcc: Vec<Option<AddressInput>>,
    #[schema(required = false, value_type = Vec<AddressInput>)]
    pub(super) reply_to: Vec<Option<AddressInput>>,
    pub(super) subject: Option<String>,
    pub(super) text: Option<String>,
    pub(super) html: Option<String>,
    /// Further header fields, at most 50; not those that MaiRust writes itself.
    #[schema(required = false, value_type = std::collections::BTreeMap<String, String>)]
    pub(super) headers: Map<String, Value>,
    #[schema(required = false, value_type = Vec<AttachmentInput>)]
    pub(super) attachments: Vec<Option<AttachmentInput>>,
    /// The Message-ID of the message that this one answers.
    pub(super) in_reply_to: Option<String>,
    /// The Message-IDs of the conversation, oldest first.
    #[schema(required = false, value_type = Vec<String>)]
    pub(super) references: Vec<Option<String>>,
    /// When it is to be sent (RFC 3339); at once without it. How far ahead it may lie, the server says
    /// (`delivery.max_future_release`, 30 days unless changed).
    #[schema(example = "2026-12-01T09:00:00+09:00")]
    pub(super) send_at: Option<String>,
}

/// An address, with or without a name.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged, expecting = "must be an address or an object with email and name")]
pub(crate) enum AddressInput {
    /// The address alone.
    Address(String),
    /// With a name.
    Named(NamedInput),
}

/// An address and the name to show with it.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamedInput {
    pub(super) email: String,
    pub(super) name: Option<String>,
}

/// A file to attach.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AttachmentInput {
    pub(super) filename: String,
    /// A media type.
    #[schema(example = "application/pdf")]
    pub(super) content_type: String,
    /// Base64.
    #[schema(content_encoding = "base64")]
    pub(super) content: String,
    /// For references from the HTML (`cid:`).
    pub(super) content_id: Option<String>,
    /// `attachment`, which is the default, or `inline`.
    pub(super) disposition: Option<Disposition>,
}

/// How an attachment is to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Disposition {
    Attachment,
    Inline,
}

/// What became of it so far.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SendAnswer {
    /// For `GET /sends/{id}`.
    id: String,
    /// The field Message-ID, with angle brackets.
    message_id: String,
    status: &'static str,
    /// When it is to be sent; absent if that is at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    send_at: Option<String>,
    recipients: Vec<RecipientAnswer>,
}

/// What became of one recipient so far.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecipientAnswer {
    email: String,
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    code: Option<String>,
}

/// Send a message
///
/// On 202 the message is durable, and every recipient will end in exactly one state.
#[utoipa::path(
    post, path = "/send", tag = "sending", operation_id = "send_message",
    request_body = SendRequest, security(("api_key" = ["send:write"])),
    responses((status = 202, description = "Taken", body = SendAnswer), BodyErrors, AccessErrors)
)]
pub(crate) async fn send(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    request: Request,
) -> Result<impl IntoResponse, Problem> {
    principal.require(Scope::SendWrite)?;
    let draft = draft::check(json_object(request).await?)?;
    let submitted = state.submitter().submit(&principal, draft).await?;
    Ok((StatusCode::ACCEPTED, Json(SendAnswer::from(submitted))))
}

impl From<Submitted> for SendAnswer {
    fn from(submitted: Submitted) -> Self {
        let recipients = submitted.recipients.into_iter().map(|recipient| RecipientAnswer {
            email: recipient.address.to_string(),
            status: recipient.status,
            code: recipient.code,
        });
        Self {
            id: submitted.id.to_string(),
            message_id: format!("<{}>", submitted.message_id),
            status: submitted.status.as_str(),
            send_at: submitted.send_at.map(Timestamp::to_rfc3339),
            recipients: recipients.collect(),
        }
    }
}
