//! Messages: the list, one of them, its attachments.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::response::Response;
use mairust_core::content::map_attachments;
use mairust_core::{Attachment, Content, MailboxId, NamedAddress, Timestamp};
use mairust_store::{DeliveryRow, Direction, Folder, MessagePosition, MessageQuery, MessageRow, MessageStatus, Spam};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::{Authenticated, Scope};
use crate::download::hex;
use crate::openapi::{AccessErrors, MissingContentErrors, QueryErrors};
use crate::page::{self, CursorContext};
use crate::problem::{ErrorCode, Problem};
use crate::state::ApiState;
use crate::v1::MessagePath;
use crate::v1::content::{read_content, row};

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;

/// The query of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Number of entries on a page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before, with the same filters.
    cursor: Option<String>,
    /// Only messages that are deleted and can be restored, instead of only those that are not deleted.
    #[param(default = false)]
    deleted: Option<bool>,
    /// In this mailbox.
    mailbox_id: Option<String>,
    /// In this folder: `INBOX`, `Junk`, `Quarantine`, `Sent` or `Trash`.
    folder: Option<String>,
    /// `inbound` or `outbound`.
    direction: Option<String>,
    /// `captured`, `failed`, `quarantined`, `queued`, `sent` or `stored`.
    status: Option<String>,
    /// From holds this text.
    from: Option<String>,
    /// To, Cc or the envelope recipient holds this text.
    to: Option<String>,
    /// Subject holds this text.
    subject: Option<String>,
    /// Received at or after (RFC 3339).
    since: Option<String>,
    /// Received before (RFC 3339).
    until: Option<String>,
}

/// A page of messages, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MessageList {
    items: Vec<MessageSummary>,
    /// For the query parameter `cursor` of the next page.
    next_cursor: Option<String>,
    /// Always null: lists are walked forwards.
    prev_cursor: Option<String>,
    has_more: bool,
}

/// A message in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MessageSummary {
    id: String,
    mailbox_id: String,
    /// Inbound: the envelope recipient. Outbound: the sender; for mail that is sent on for an alias,
    /// the alias.
    address: String,
    folder: &'static str,
    direction: &'static str,
    status: &'static str,
    subject: Option<String>,
    from: Vec<AddressEntry>,
    to: Vec<AddressEntry>,
    cc: Vec<AddressEntry>,
    /// The field Date (RFC 3339).
    date: Option<String>,
    /// When MaiRust took it (RFC 3339).
    received_at: String,
    /// Bytes.
    size: u64,
    /// The field Message-ID, with angle brackets.
    message_id: Option<String>,
    /// The message that began the conversation.
    thread_id: String,
    /// The beginning of the text.
    preview: String,
    has_attachments: bool,
    flags: Vec<String>,
    tags: Vec<String>,
    /// Null if it was not looked at.
    spam: Option<SpamInfo>,
    /// When it was deleted (RFC 3339); null if it is not.
    deleted_at: Option<String>,
    /// Whether it is on a legal hold of its own, and so can't be removed for good.
    legal_hold: bool,
    /// Whether its content lies in the archive.
    archived: bool,
}

/// Whether a message is spam.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SpamInfo {
    /// The higher, the more likely.
    score: f64,
    /// `ham` or `spam`.
    verdict: &'static str,
}

/// A name and an address as they stand in the message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AddressEntry {
    name: Option<String>,
    address: String,
}

/// One message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MessageDetail {
    #[serde(flatten)]
    summary: MessageSummary,
    /// All header fields in order, decoded. Null while the content can't be read.
    headers: Option<Vec<HeaderField>>,
    envelope: EnvelopeInfo,
    /// What was found out about the sender: SPF, DKIM, DMARC and others by name. Null if it was not
    /// looked at.
    #[schema(value_type = Option<Object>)]
    auth_results: Option<serde_json::Value>,
    /// Null while the content can't be read.
    attachments: Option<Vec<AttachmentInfo>>,
    /// What hooks keep with it, by the name of the hook. What the server itself has to say is under `_core`:
    /// `hook_skipped` names hooks without whose answer the message passed.
    metadata: BTreeMap<String, serde_json::Map<String, serde_json::Value>>,
    links: Links,
}

/// One header field.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HeaderField {
    name: String,
    value: String,
}

/// Who sent it to whom, apart from what the header fields say.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EnvelopeInfo {
    /// MAIL FROM; empty for `<>`.
    sender: String,
    /// RCPT TO, as far as it concerns this message.
    recipients: Vec<String>,
}

/// One attachment.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AttachmentInfo {
    index: usize,
    filename: Option<String>,
    content_type: String,
    /// Bytes, its transfer encoding undone.
    size: u64,
    /// Of these bytes, in hexadecimal.
    sha256: String,
}

/// Where more is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Links {
    raw: String,
    text: String,
    attachments: String,
    trace: String,
}

/// The attachments of a message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AttachmentList {
    items: Vec<AttachmentInfo>,
}

/// List messages
///
/// Newest first, then by id. All filters must hold; texts match anywhere, whatever the case. Deleted
/// messages are listed with `deleted=true` only.
#[utoipa::path(
    get, path = "/messages", tag = "messages", operation_id = "list_messages",
    params(ListQuery), security(("api_key" = ["messages:read"])),
    responses(
        (status = 200, description = "A page of messages", body = MessageList,
            headers(("Link" = String, description = "The next page, `rel=\"next\"`"))),
        QueryErrors, AccessErrors,
    )
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, Problem> {
    principal.require(Scope::MessagesRead)?;
    let query: ListQuery = page::parse_query(&uri)?;
    let limit = page_limit(query.limit)?;
    let mut filter = query.filter()?;
    let filter_hash = filter_hash(&filter);
    let cursors = CursorContext { key: state.server_key(), tenant: principal.tenant, filter_hash };
    filter.after = query.cursor.as_deref().map(|cursor| cursors.decode(cursor)).transpose()?;
    filter.limit = limit;
    let found = state.storage().messages().list(principal.tenant, &filter).await;
    let found = found.map_err(|error| Problem::store(&error))?;
    let last = found.items.last().filter(|_| found.has_more);
    let next_cursor = last.map(|row| cursors.encode(&MessagePosition { received_at: row.received_at, id: row.id }));
    let items = found.items.into_iter().map(MessageSummary::from).collect();
    let list = MessageList { items, has_more: next_cursor.is_some(), prev_cursor: None, next_cursor };
    Ok(page::with_next_link(&uri, list.next_cursor.clone().as_deref(), Json(list)))
}

/// Read a message
///
/// What the list says, with all header fields, the envelope and the attachments. What comes from the
/// content is null while that can't be read.
#[utoipa::path(
    get, path = "/messages/{id}", tag = "messages", operation_id = "read_message",
    params(("id" = String, Path, description = "The message")), security(("api_key" = ["messages:read"])),
    responses((status = 200, description = "The message", body = MessageDetail), MissingContentErrors, AccessErrors)
)]
pub(crate) async fn message(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    path: MessagePath,
) -> Result<Json<MessageDetail>, Problem> {
    principal.require(Scope::MessagesRead)?;
    let row = row(&state, &principal, &path).await?;
    let read = |raw: &[u8]| (Content::parse(raw), attachment_hashes(raw));
    let content = match read_content(&state, &principal, row.id, read).await {
        Err(problem) if problem.code() == ErrorCode::StorageUnavailable => None,
        read => Some(read?),
    };
    let recipients = match row.direction {
        Direction::Inbound => vec![row.address.to_string()],
        Direction::Outbound => {
            let rows = state.storage().deliveries().recipients(principal.tenant, row.id).await;
            let rows: Vec<DeliveryRow> = rows.map_err(|error| Problem::store(&error))?;
            rows.iter().map(|row| row.address.to_string()).collect()
        }
    };
    let sender = row.sender.address().map(ToString::to_string).unwrap_or_default();
    let at = format!("/api/v1/messages/{}", row.id);
    let auth_results = row.auth_results.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let (headers, attachments) = content
        .map(|(content, hashes)| {
            let headers = content.headers.into_iter().map(|(name, value)| HeaderField { name, value }).collect();
            (headers, attachment_infos(content.attachments, hashes))
        })
        .unzip();
    let kept = state.storage().messages().metadata(principal.tenant, row.id).await;
    let mut metadata: BTreeMap<String, serde_json::Map<String, serde_json::Value>> = BTreeMap::new();
    for kept in kept.map_err(|error| Problem::store(&error))? {
        metadata.entry(kept.owner).or_default().insert(kept.key, kept.value);
    }
    Ok(Json(MessageDetail {
        summary: row.into(),
        headers,
        envelope: EnvelopeInfo { sender, recipients },
        auth_results,
        attachments,
        metadata,
        links: Links {
            raw: format!("{at}/raw"),
            text: format!("{at}/text"),
            attachments: format!("{at}/attachments"),
            trace: format!("{at}/trace"),
        },
    }))
}

/// List the attachments of a message
#[utoipa::path(
    get, path = "/messages/{id}/attachments", tag = "messages", operation_id = "list_attachments",
    params(("id" = String, Path, description = "The message")), security(("api_key" = ["messages:read"])),
    responses((status = 200, description = "The attachments", body = AttachmentList), MissingContentErrors, AccessErrors)
)]
pub(crate) async fn attachments(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    path: MessagePath,
) -> Result<Json<AttachmentList>, Problem> {
    principal.require(Scope::MessagesRead)?;
    let row = row(&state, &principal, &path).await?;
    let read = |raw: &[u8]| attachment_infos(Content::parse(raw).attachments, attachment_hashes(raw));
    Ok(Json(AttachmentList { items: read_content(&state, &principal, row.id, read).await? }))
}

impl ListQuery {
    fn filter(&self) -> Result<MessageQuery, Problem> {
        Ok(MessageQuery {
            deleted: self.deleted.unwrap_or_default(),
            mailbox: parse("mailbox_id", self.mailbox_id.as_deref(), |text| text.parse::<MailboxId>().ok())?,
            folder: parse("folder", self.folder.as_deref(), Folder::parse)?,
            direction: parse("direction", self.direction.as_deref(), Direction::parse)?,
            status: parse("status", self.status.as_deref(), MessageStatus::parse)?,
            from: self.from.clone(),
            to: self.to.clone(),
            subject: self.subject.clone(),
            since: parse("since", self.since.as_deref(), Timestamp::parse_rfc3339)?,
            until: parse("until", self.until.as_deref(), Timestamp::parse_rfc3339)?,
            ..MessageQuery::default()
        })
    }
}

impl From<MessageRow> for MessageSummary {
    fn from(row: MessageRow) -> Self {
        let archived = row.is_archived();
        Self {
            id: row.id.to_string(),
            mailbox_id: row.mailbox.to_string(),
            address: row.address.to_string(),
            folder: row.folder.as_str(),
            direction: row.direction.as_str(),
            status: row.status.as_str(),
            subject: row.subject,
            from: entries(row.from),
            to: entries(row.to),
            cc: entries(row.cc),
            date: row.date.map(Timestamp::to_rfc3339),
            received_at: row.received_at.to_rfc3339(),
            size: row.size,
            message_id: row.message_id.map(|id| format!("<{id}>")),
            thread_id: row.thread.to_string(),
            preview: row.preview,
            has_attachments: row.attachments > 0,
            flags: row.flags,
            tags: row.tags,
            spam: row.spam.map(SpamInfo::from),
            deleted_at: row.deleted_at.map(Timestamp::to_rfc3339),
            legal_hold: row.legal_hold,
            archived,
        }
    }
}

impl From<Spam> for SpamInfo {
    fn from(spam: Spam) -> Self {
        Self { score: spam.score, verdict: spam.verdict.as_str() }
    }
}

/// How many entries a page has.
pub(super) fn page_limit(limit: Option<u32>) -> Result<u32, Problem> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::invalid_query(format!("limit: must be 1 to {MAX_LIMIT}")));
    }
    Ok(limit)
}

/// Parses one field of a query.
pub(super) fn parse<T>(
    name: &str,
    text: Option<&str>,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, Problem> {
    let parsed =
        text.map(|text| parse(text).ok_or_else(|| Problem::invalid_query(format!("{name}: not a valid value"))));
    parsed.transpose()
}

/// Filters that mean the same have the same hash, however they were written.
fn filter_hash(filter: &MessageQuery) -> [u8; 32] {
    let time = |at: Option<Timestamp>| at.map(|at| at.as_micros().to_string());
    page::filter_hash(&[
        filter.mailbox.map(|mailbox| mailbox.to_string()),
        filter.folder.map(|folder| folder.as_str().to_owned()),
        filter.direction.map(|direction| direction.as_str().to_owned()),
        filter.status.map(|status| status.as_str().to_owned()),
        filter.from.clone(),
        filter.to.clone(),
        filter.subject.clone(),
        time(filter.since),
        time(filter.until),
        filter.deleted.then(|| "deleted".to_owned()),
    ])
}

fn entries(addresses: Vec<NamedAddress>) -> Vec<AddressEntry> {
    addresses.into_iter().map(|entry| AddressEntry { name: entry.name, address: entry.address }).collect()
}

fn attachment_hashes(raw: &[u8]) -> Vec<String> {
    map_attachments(raw, |bytes| hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref()))
}

fn attachment_infos(attachments: Vec<Attachment>, hashes: Vec<String>) -> Vec<AttachmentInfo> {
    let numbered = attachments.into_iter().zip(hashes).enumerate();
    numbered
        .map(|(index, (attachment, sha256))| AttachmentInfo {
            index,
            filename: attachment.filename,
            content_type: attachment.content_type,
            size: attachment.size,
            sha256,
        })
        .collect()
}
