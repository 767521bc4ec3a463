//! Messages, in SQLite: reading, listing, changing. How they get there is in [`super::accept`].

use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::{
    Body, EmailAddress, EnvelopeId, FolderId, MailboxId, MessageDsn, MessageId, Return, TenantId, Timestamp,
};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::Parts;
use super::row::{Columns, failed};
use crate::body::{BodyStore, verify};
use crate::error::{StoreError, StoreErrorKind};
use crate::matching;
use crate::message::{
    Acceptance, Direction, Folder, MessageChange, MessageQuery, MessageRow, MessageStatus, MessageStore, Page, Spam,
    SpamVerdict,
};
use crate::sql;

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

    async fn list(&self, tenant: TenantId, query: &MessageQuery) -> Result<Page<MessageRow>, StoreError> {
        let rows = select(tenant, query).build().fetch_all(&self.0.reader).await;
        let rows = rows.map_err(failed("list messages", "read"))?;
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let items = rows.iter().take(limit).map(|row| message(&Columns::new("list messages", row)));
        Ok(Page { items: items.collect::<Result<_, _>>()?, has_more: rows.len() > limit })
    }

    async fn get(&self, tenant: TenantId, id: MessageId) -> Result<Option<MessageRow>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(sql::message::SELECT_MESSAGES);
        query.push_bind(tenant.as_bytes().to_vec()).push(" AND m.id = ").push_bind(id.as_bytes().to_vec());
        let found = query.build().fetch_optional(&self.0.reader).await.map_err(failed("read message", id))?;
        found.map(|row| message(&Columns::new("read message", &row))).transpose()
    }

    async fn body(&self, tenant: TenantId, id: MessageId) -> Result<Body, StoreError> {
        let found = sqlx::query(sql::message::OBJECT_OF_MESSAGE)
            .bind(&tenant.as_bytes()[..])
            .bind(&id.as_bytes()[..])
            .fetch_optional(&self.0.reader)
            .await
            .map_err(failed("read body", id))?;
        let row = found.ok_or_else(|| StoreError::new(StoreErrorKind::NotFound, "read body", id))?;
        let columns = Columns::new("read body", &row);
        let body = self.0.bodies.open(columns.value("object_key")?).await?;
        verify(body, columns.bytes("sha256")?, id.to_string()).await
    }

    async fn change(&self, tenant: TenantId, id: MessageId, change: &MessageChange) -> Result<(), StoreError> {
        let begun = self.0.writer.begin_with("BEGIN IMMEDIATE").await;
        let mut transaction = begun.map_err(failed("change message", id))?;
        add_tags(&mut transaction, tenant, id, &change.add_tags).await?;
        transaction.commit().await.map_err(failed("change message", id))?;
        self.0.messages_changed.bump(tenant);
        Ok(())
    }

    fn version(&self, tenant: TenantId) -> u64 {
        self.0.messages_changed.version(tenant)
    }

    async fn changed(&self, tenant: TenantId, seen: u64) -> u64 {
        self.0.messages_changed.changed(tenant, seen).await
    }
}

/// Counts a change in the folder of a message; `None` if the tenant has no such message.
pub(super) async fn next_modseq(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    id: MessageId,
) -> Result<Option<i64>, sqlx::Error> {
    let query = sqlx::query_scalar(sql::message::NEXT_MODSEQ).bind(&tenant.as_bytes()[..]).bind(&id.as_bytes()[..]);
    query.fetch_optional(connection).await
}

async fn add_tags(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    id: MessageId,
    tags: &[String],
) -> Result<(), StoreError> {
    let exists = sqlx::query_scalar(sql::message::MESSAGE_EXISTS).bind(&tenant.as_bytes()[..]).bind(&id.as_bytes()[..]);
    if !exists.fetch_one(&mut *connection).await.map_err(failed("change message", id))? {
        return Err(StoreError::new(StoreErrorKind::NotFound, "change message", id));
    }
    let mut added = 0;
    for tag in tags {
        let query = sqlx::query(sql::message::INSERT_TAG).bind(&tenant.as_bytes()[..]).bind(&id.as_bytes()[..]);
        let done = query.bind(tag.as_str()).execute(&mut *connection).await.map_err(failed("change message", id))?;
        added += done.rows_affected();
    }
    if added == 0 {
        return Ok(());
    }
    let modseq = next_modseq(connection, tenant, id).await.map_err(failed("change message", id))?;
    let query = sqlx::query(sql::message::SET_MODSEQ).bind(&tenant.as_bytes()[..]).bind(&id.as_bytes()[..]);
    query.bind(modseq).execute(connection).await.map_err(failed("change message", id)).map(drop)
}

/// The statement of a list. Conditions that are not asked for are left out, so that the database
/// finds the index that fits.
pub(super) fn select(tenant: TenantId, query: &MessageQuery) -> QueryBuilder<Sqlite> {
    let mut select = QueryBuilder::new(sql::message::SELECT_MESSAGES);
    select.push_bind(tenant.as_bytes().to_vec());
    match (query.mailbox, query.folder) {
        (Some(mailbox), Some(folder)) => {
            select.push(" AND m.folder_id = (SELECT f.id FROM folders f WHERE f.tenant_id = m.tenant_id");
            select.push(" AND f.mailbox_id = ").push_bind(mailbox.as_bytes().to_vec());
            select.push(" AND f.name = ").push_bind(folder.as_str()).push(")");
        }
        (Some(mailbox), None) => drop(select.push(" AND m.mailbox_id = ").push_bind(mailbox.as_bytes().to_vec())),
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
            // Unlike LIKE, `instr` knows no wildcards and has no limit on the length.
            select.push(format_args!(" AND instr(m.{column}, ")).push_bind(matching::needle(text)).push(") > 0");
        }
    }
    if let Some(since) = query.since {
        select.push(" AND m.received_at >= ").push_bind(since.as_micros());
    }
    if let Some(until) = query.until {
        select.push(" AND m.received_at < ").push_bind(until.as_micros());
    }
    if let Some(after) = query.after {
        select.push(" AND (m.received_at, m.id) < (").push_bind(after.received_at.as_micros());
        select.push(", ").push_bind(after.id.as_bytes().to_vec()).push(")");
    }
    // One more than asked for tells whether there are more.
    select.push(" ORDER BY m.received_at DESC, m.id DESC LIMIT ").push_bind(i64::from(query.limit) + 1);
    select
}

fn message(columns: &Columns<'_>) -> Result<MessageRow, StoreError> {
    let mut tags = columns.parsed("tags", sql::codec::texts_from_json)?;
    tags.sort_unstable();
    let sender = sql::codec::sender_from_text(columns.value("sender")?).ok_or_else(|| columns.corrupt("sender"))?;
    Ok(MessageRow {
        id: MessageId::from_bytes(columns.bytes("id")?),
        tenant: TenantId::from_bytes(columns.bytes("tenant_id")?),
        mailbox: MailboxId::from_bytes(columns.bytes("mailbox_id")?),
        folder: columns.parsed("folder", Folder::parse)?,
        folder_id: FolderId::from_bytes(columns.bytes("folder_id")?),
        uid: columns.number("uid")?,
        modseq: columns.number("modseq")?,
        direction: columns.parsed("direction", Direction::parse)?,
        status: columns.parsed("status", MessageStatus::parse)?,
        sender,
        address: columns.parsed("address", |text| EmailAddress::parse(text).ok())?,
        object_key: columns.value("object_key")?,
        size: columns.number("size")?,
        sha256: columns.bytes("sha256")?,
        subject: columns.value("subject")?,
        from: columns.parsed("from_list", sql::codec::addresses_from_json)?,
        to: columns.parsed("to_list", sql::codec::addresses_from_json)?,
        cc: columns.parsed("cc_list", sql::codec::addresses_from_json)?,
        date: columns.value::<Option<i64>>("date")?.map(Timestamp::from_micros),
        received_at: columns.time("received_at")?,
        message_id: columns.value("internet_message_id")?,
        thread: MessageId::from_bytes(columns.bytes("thread_id")?),
        preview: columns.value("preview")?,
        attachments: columns.number("attachments")?,
        flags: columns.parsed("flags", sql::codec::texts_from_json)?,
        tags,
        dsn: MessageDsn {
            ret: columns.optional("dsn_ret", Return::parse)?,
            envelope_id: columns.optional("dsn_envid", EnvelopeId::parse)?,
        },
        auth_results: columns.value("auth_results")?,
        spam: spam(columns)?,
    })
}

fn spam(columns: &Columns<'_>) -> Result<Option<Spam>, StoreError> {
    let verdict = columns.optional("spam_verdict", SpamVerdict::parse)?;
    verdict.map(|verdict| Ok(Spam::new(columns.value("spam_score")?, verdict))).transpose()
}
