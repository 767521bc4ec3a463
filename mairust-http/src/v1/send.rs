//! Sending a message.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mairust_core::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::auth::{Authenticated, Scope};
use crate::body::json_object;
use crate::openapi::{AccessErrors, BodyErrors};
use crate::problem::Problem;
use crate::state::ApiState;
use crate::submit::{Preview, Submitted};
use crate::trace::PolicyFacts;
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
    /// Whether nothing is to be sent: the answer is that of `/send/preview`.
    #[schema(required = false)]
    pub(super) dry_run: bool,
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

/// What would become of a message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PreviewAnswer {
    /// The field Message-ID, with angle brackets. Without one of its own, a message gets another one with each try.
    message_id: String,
    /// In bytes.
    size: usize,
    /// When it would be sent; absent if that is at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    send_at: Option<String>,
    policy: PolicyFacts,
    recipients: Vec<PreviewedAnswer>,
    /// The message as it would be sent, signed.
    raw: String,
}

/// Where a message would go for one recipient.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PreviewedAnswer {
    email: String,
    /// Whether it stays here.
    kept: bool,
    /// Addresses elsewhere that it would be sent to: this one, or those that an alias leads to.
    sent_to: Vec<String>,
}

/// Send a message
///
/// On 202 the message is durable, and every recipient will end in exactly one state. With `dry_run` nothing is sent,
/// and the answer is that of `/send/preview`.
#[utoipa::path(
    post, path = "/send", tag = "sending", operation_id = "send_message",
    request_body = SendRequest, security(("api_key" = ["send:write"])),
    responses(
        (status = 200, description = "What would become of it", body = PreviewAnswer),
        (status = 202, description = "Taken", body = SendAnswer), BodyErrors, AccessErrors,
    )
)]
pub(crate) async fn send(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    request: Request,
) -> Result<Response, Problem> {
    principal.require(Scope::SendWrite)?;
    let (draft, dry_run) = draft::check(json_object(request).await?)?;
    if dry_run {
        let preview = state.submitter().preview(&principal, draft).await?;
        return Ok(Json(PreviewAnswer::from(preview)).into_response());
    }
    let submitted = state.submitter().submit(&principal, draft).await?;
    Ok((StatusCode::ACCEPTED, Json(SendAnswer::from(submitted))).into_response())
}

/// See what would become of a message
///
/// It is checked, written and signed as if it were sent, its recipients are looked up, and the policy is asked;
/// nothing is sent, kept or counted.
#[utoipa::path(
    post, path = "/send/preview", tag = "sending", operation_id = "preview_message",
    request_body = SendRequest, security(("api_key" = ["send:write"])),
    responses((status = 200, description = "What would become of it", body = PreviewAnswer), BodyErrors, AccessErrors)
)]
pub(crate) async fn preview(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    request: Request,
) -> Result<Json<PreviewAnswer>, Problem> {
    principal.require(Scope::SendWrite)?;
    let (draft, _) = draft::check(json_object(request).await?)?;
    Ok(Json(state.submitter().preview(&principal, draft).await?.into()))
}

impl From<Preview> for PreviewAnswer {
    fn from(preview: Preview) -> Self {
        let recipients = preview.recipients.into_iter().map(|recipient| PreviewedAnswer {
            email: recipient.address.to_string(),
            kept: recipient.kept,
            sent_to: recipient.sent_to.iter().map(ToString::to_string).collect(),
        });
        Self {
            message_id: format!("<{}>", preview.message_id),
            size: preview.raw.len(),
            send_at: preview.send_at.map(Timestamp::to_rfc3339),
            policy: preview.policy,
            recipients: recipients.collect(),
            raw: preview.raw,
        }
    }
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
