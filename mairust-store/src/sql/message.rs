//! Messages: reading, listing, changing. How they get there is in [`super::accept`].

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::{
    Body, EmailAddress, EnvelopeId, FolderId, MailboxId, MessageDsn, MessageId, Return, TenantId, Timestamp, TlsWish,
};

use super::changes::Change;
use super::driver::{Columns, Dialect, Query, Scope, Transaction, failed};
use super::lifecycle::Reach;
use super::marks;
use super::storage::Parts;
use crate::body::verify;
use crate::error::{StoreError, StoreErrorKind};
use crate::mark::Metadata;
use crate::matching;
use crate::message::{
    Acceptance, Direction, Folder, MessageChange, MessageQuery, MessageRow, MessageStatus, MessageStore, Page, Spam,
    SpamVerdict,
};
use crate::sql::{codec, statement};

/// The messages of a [`SqlStorage`](super::SqlStorage), each batch committed for itself.
#[derive(Debug)]
pub(super) struct SqlMessages(Arc<Parts>);

impl SqlMessages {
    pub(super) fn new(parts: Arc<Parts>) -> Self {
        Self(parts)
    }
}

#[async_trait]
impl MessageStore for SqlMessages {
    async fn accept(&self, batch: Vec<Acceptance>) -> Vec<Result<(), StoreError>> {
        self.0.accept(batch).await
    }

    async fn fingerprints(&self, since: Timestamp) -> Result<Vec<([u8; 32], MessageId)>, StoreError> {
        let query = Query::new(statement::message::FINGERPRINTS).bind(since);
        let rows = self.0.database.fetch_all(Scope::All, query).await.map_err(failed("read fingerprints", "read"))?;
        let fingerprint = |row| {
            let columns = Columns::new("read fingerprints", row);
            Ok((columns.bytes("fingerprint")?, MessageId::from_bytes(columns.id("id")?)))
        };
        rows.iter().map(fingerprint).collect()
    }

    async fn list(&self, tenant: TenantId, query: &MessageQuery) -> Result<Page<MessageRow>, StoreError> {
        let database = &self.0.database;
        let rows = database.fetch_all(tenant, select(database.dialect(), tenant, query)).await;
        let rows = rows.map_err(failed("list messages", "read"))?;
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let items = rows.iter().take(limit).map(|row| message(&Columns::new("list messages", row)));
        Ok(Page { items: items.collect::<Result<_, _>>()?, has_more: rows.len() > limit })
    }

    async fn get(&self, tenant: TenantId, id: MessageId) -> Result<Option<MessageRow>, StoreError> {
        read_row(&self.0, tenant, id, Reach::There).await
    }

    async fn get_all(&self, tenant: TenantId, ids: &[MessageId]) -> Result<Vec<MessageRow>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let database = &self.0.database;
        let rows = database.fetch_all(tenant, select_named(database.dialect(), tenant, ids)).await;
        let rows = rows.map_err(failed("read messages", "read"))?;
        let read = rows.iter().map(|row| message(&Columns::new("read messages", row)).map(|row| (row.id, row)));
        let mut read: HashMap<MessageId, MessageRow> = read.collect::<Result<_, _>>()?;
        Ok(ids.iter().filter_map(|id| read.remove(id)).collect())
    }

    async fn body(&self, tenant: TenantId, id: MessageId) -> Result<Body, StoreError> {
        read_body(&self.0, tenant, id, Reach::There).await
    }

    async fn change(&self, tenant: TenantId, id: MessageId, change: &MessageChange) -> Result<(), StoreError> {
        let mut transaction = self.0.database.begin(tenant).await.map_err(failed("change message", id))?;
        marks::change(&mut transaction, tenant, id, change).await?;
        let change = Change::Messages(tenant);
        self.0.changes.tell(&mut transaction, change).await.map_err(failed("change message", id))?;
        transaction.commit().await.map_err(failed("change message", id))?;
        self.0.changes.announce(change);
        Ok(())
    }

    async fn metadata(&self, tenant: TenantId, id: MessageId) -> Result<Vec<Metadata>, StoreError> {
        let query = marks::of(statement::message::METADATA, tenant, id);
        let rows = self.0.database.look_up(tenant, query).await.map_err(failed("read metadata", id))?;
        rows.iter().map(marks::read_metadata).collect()
    }

    fn version(&self, tenant: TenantId) -> u64 {
        self.0.changes.messages.version(tenant)
    }

    async fn changed(&self, tenant: TenantId, seen: u64) -> u64 {
        self.0.changes.messages.changed(tenant, seen).await
    }
}

/// Reads one message.
pub(super) async fn read_row(
    parts: &Parts,
    tenant: TenantId,
    id: MessageId,
    reach: Reach,
) -> Result<Option<MessageRow>, StoreError> {
    let mut query = Query::new(statement::message::select_messages(parts.database.dialect()));
    query.push_bind(tenant.as_bytes()).push(" AND m.id = ").push_bind(id.as_bytes()).push(reach.condition());
    let found = parts.database.look_up(tenant, query).await.map_err(failed("read message", id))?;
    found.first().map(|row| message(&Columns::new("read message", row))).transpose()
}

/// Reads the stored object of a message.
pub(super) async fn read_body(
    parts: &Parts,
    tenant: TenantId,
    id: MessageId,
    reach: Reach,
) -> Result<Body, StoreError> {
    let found = find_object(parts, tenant, id, reach).await?;
    let (key, sha256) = (found.key.clone(), found.sha256);
    let body = match open_object(parts, found).await {
        // It may have been archived since its key was read.
        Err(error) if error.kind() == StoreErrorKind::NotFound => {
            let found = find_object(parts, tenant, id, reach).await?;
            if found.key == key {
                return Err(error);
            }
            open_object(parts, found).await?
        }
        opened => opened?,
    };
    verify(body, sha256, id.to_string()).await
}

/// Where the object of a message is.
struct Found {
    key: String,
    /// The object itself, if it waits in the database.
    spooled: Option<Body>,
    sha256: [u8; 32],
}

async fn find_object(parts: &Parts, tenant: TenantId, id: MessageId, reach: Reach) -> Result<Found, StoreError> {
    let mut query = Query::new(statement::message::OBJECT_OF_MESSAGE).bind(tenant.as_bytes()).bind(id.as_bytes());
    query.push(reach.condition());
    let found = parts.database.fetch_optional(tenant, query).await.map_err(failed("read body", id))?;
    let row = found.ok_or_else(|| StoreError::new(StoreErrorKind::NotFound, "read body", id))?;
    let columns = Columns::new("read body", &row);
    let spooled = columns.value::<Option<&[u8]>>("data")?.map(|data| Body::from(data.to_vec()));
    Ok(Found { key: columns.value("object_key")?, spooled, sha256: columns.bytes("sha256")? })
}

async fn open_object(parts: &Parts, found: Found) -> Result<Body, StoreError> {
    match found.spooled {
        Some(body) => Ok(body),
        None => parts.bodies.open(&found.key).await,
    }
}

/// Counts a change in the folder of a message; `None` if the tenant has no such message.
pub(super) async fn next_modseq(
    transaction: &mut Transaction,
    tenant: TenantId,
    id: MessageId,
) -> Result<Option<i64>, StoreError> {
    let query = Query::new(statement::message::NEXT_MODSEQ).bind(tenant.as_bytes()).bind(id.as_bytes());
    let row = transaction.fetch_optional(query).await.map_err(failed("change message", id))?;
    row.map(|row| Columns::new("change message", &row).value("modseq")).transpose()
}

/// The statement for messages that are named.
pub(super) fn select_named(dialect: Dialect, tenant: TenantId, ids: &[MessageId]) -> Query {
    let mut select = Query::new(statement::message::select_messages(dialect));
    select.push_bind(tenant.as_bytes());
    for (index, id) in ids.iter().enumerate() {
        select.push(if index == 0 { " AND m.id IN (" } else { ", " }).push_bind(id.as_bytes());
    }
    select.push(")").push(Reach::There.condition());
    select
}

/// The statement of a list. Conditions that are not asked for are left out, so that the database
/// finds the index that fits.
pub(super) fn select(dialect: Dialect, tenant: TenantId, query: &MessageQuery) -> Query {
    let mut select = Query::new(statement::message::select_messages(dialect));
    select.push_bind(tenant.as_bytes());
    select.push(if query.deleted { " AND m.deleted_at IS NOT NULL" } else { Reach::There.condition() });
    match (query.mailbox, query.folder) {
        (Some(mailbox), Some(folder)) => {
            select.push(" AND m.folder_id = (SELECT f.id FROM folders f WHERE f.tenant_id = m.tenant_id");
            select.push(" AND f.mailbox_id = ").push_bind(mailbox.as_bytes());
            select.push(" AND f.name = ").push_bind(folder.as_str()).push(")");
        }
        (Some(mailbox), None) => {
            select.push(" AND m.mailbox_id = ").push_bind(mailbox.as_bytes());
        }
        (None, Some(folder)) => {
            select.push(" AND EXISTS (SELECT 1 FROM folders f WHERE f.tenant_id = m.tenant_id");
            select.push(" AND f.id = m.folder_id AND f.name = ").push_bind(folder.as_str()).push(")");
        }
        (None, None) => {}
    }
    if let Some(direction) = query.direction {
        select.push(" AND m.direction = ").push_bind(direction.as_str());
    }
    if let Some(status) = query.status {
        select.push(" AND m.status = ").push_bind(status.as_str());
    }
    let texts = [("from_text", &query.from), ("to_text", &query.to), ("subject_text", &query.subject)];
    for (column, wanted) in texts {
        if let Some(text) = wanted {
            // Unlike LIKE, these know no wildcards and have no limit on the length.
            let position = dialect.pick("instr", "strpos");
            select.push(format_args!(" AND {position}(m.{column}, ")).push_bind(matching::needle(text)).push(") > 0");
        }
    }
    if let Some(since) = query.since {
        select.push(" AND m.received_at >= ").push_bind(since);
    }
    if let Some(until) = query.until {
        select.push(" AND m.received_at < ").push_bind(until);
    }
    if let Some(after) = query.after {
        select.push(" AND (m.received_at, m.id) < (").push_bind(after.received_at);
        select.push(", ").push_bind(after.id.as_bytes()).push(")");
    }
    // One more than asked for tells whether there are more.
    select.push(" ORDER BY m.received_at DESC, m.id DESC LIMIT ").push_bind(i64::from(query.limit) + 1);
    select
}

fn message(columns: &Columns<'_>) -> Result<MessageRow, StoreError> {
    let mut tags: Vec<String> = columns.json("tags")?;
    tags.sort_unstable();
    Ok(MessageRow {
        id: MessageId::from_bytes(columns.id("id")?),
        tenant: TenantId::from_bytes(columns.id("tenant_id")?),
        mailbox: MailboxId::from_bytes(columns.id("mailbox_id")?),
        folder: columns.parsed("folder", Folder::parse)?,
        folder_id: FolderId::from_bytes(columns.id("folder_id")?),
        uid: columns.number("uid")?,
        modseq: columns.number("modseq")?,
        direction: columns.parsed("direction", Direction::parse)?,
        status: columns.parsed("status", MessageStatus::parse)?,
        sender: codec::read_sender(columns, "sender")?,
        address: columns.parsed("address", |text| EmailAddress::parse(text).ok())?,
        object_key: columns.value("object_key")?,
        size: columns.number("size")?,
        sha256: columns.bytes("sha256")?,
        subject: columns.value("subject")?,
        from: codec::read_addresses(columns, "from_list")?,
        to: codec::read_addresses(columns, "to_list")?,
        cc: codec::read_addresses(columns, "cc_list")?,
        date: columns.optional_time("date")?,
        received_at: columns.time("received_at")?,
        message_id: columns.value("internet_message_id")?,
        thread: MessageId::from_bytes(columns.id("thread_id")?),
        preview: columns.value("preview")?,
        attachments: columns.number("attachments")?,
        flags: columns.json("flags")?,
        tags,
        dsn: MessageDsn {
            ret: columns.optional("dsn_ret", Return::parse)?,
            envelope_id: columns.optional("dsn_envid", EnvelopeId::parse)?,
        },
        tls: columns.optional("tls", TlsWish::parse)?.unwrap_or_default(),
        auth_results: columns.value("auth_results")?,
        spam: spam(columns)?,
        arrival: columns.value("arrival")?,
        deleted_at: columns.optional_time("deleted_at")?,
        legal_hold: columns.value("legal_hold")?,
    })
}

fn spam(columns: &Columns<'_>) -> Result<Option<Spam>, StoreError> {
    let verdict = columns.optional("spam_verdict", SpamVerdict::parse)?;
    verdict.map(|verdict| Ok(Spam::new(columns.value("spam_score")?, verdict))).transpose()
}
