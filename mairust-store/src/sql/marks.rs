//! What is put on messages, and changed about them.

use mairust_core::{MessageId, TenantId};

use super::driver::{Columns, Dialect, Json, Query, Row, Transaction, failed};
use super::message::next_modseq;
use crate::error::{StoreError, StoreErrorKind};
use crate::mark::{Marks, Metadata, MetadataChange, changed_flags};
use crate::message::{Folder, MessageChange, MessageStatus};
use crate::sql::{codec, statement};

const OPERATION: &str = "change message";

/// The statements that put marks on a message that is inserted, but for its flags.
pub(super) fn insert_marks(tenant: TenantId, id: MessageId, marks: &Marks) -> impl Iterator<Item = Query> {
    let tags = marks.tags.iter().map(move |tag| of(statement::message::INSERT_TAG, tenant, id).bind(tag.as_str()));
    tags.chain(marks.metadata.iter().map(move |metadata| keep(tenant, id, metadata)))
}

/// Changes a message. Its folders are locked first, as by whoever accepts mail.
pub(super) async fn change(
    transaction: &mut Transaction,
    tenant: TenantId,
    id: MessageId,
    change: &MessageChange,
) -> Result<(), StoreError> {
    if let (Some(folder), Dialect::Postgres) = (change.folder, transaction.dialect()) {
        let lock = of(statement::message::LOCK_BOTH_FOLDERS, tenant, id).bind(folder.as_str());
        transaction.fetch_all(lock).await.map_err(failed(OPERATION, id))?;
    }
    let row = transaction.fetch_optional(of(statement::message::STATE, tenant, id)).await;
    let row = row.map_err(failed(OPERATION, id))?;
    let before = State::of(&row.ok_or_else(|| StoreError::new(StoreErrorKind::NotFound, OPERATION, id))?)?;
    let mut changed = 0;
    for query in changes(&before, tenant, id, change) {
        changed += transaction.execute(query).await.map_err(failed(OPERATION, id))?;
    }
    for query in change.metadata.iter().map(|change| metadata(tenant, id, change)) {
        transaction.execute(query).await.map_err(failed(OPERATION, id))?;
    }
    let status = change.status.filter(|status| *status != before.status);
    let folder = change.folder.filter(|folder| *folder != before.folder);
    if changed == 0 && status.is_none() && folder.is_none() {
        return Ok(());
    }
    let modseq = next_modseq(transaction, tenant, id).await?;
    let query = match status {
        Some(status) => of(statement::message::SET_STATUS, tenant, id).bind(modseq).bind(status.as_str()),
        None => of(statement::message::SET_MODSEQ, tenant, id).bind(modseq),
    };
    transaction.execute(query).await.map_err(failed(OPERATION, id))?;
    match folder {
        Some(folder) => move_into(transaction, tenant, id, folder).await,
        None => Ok(()),
    }
}

/// What changes refer to.
struct State {
    flags: Vec<String>,
    folder: Folder,
    status: MessageStatus,
}

impl State {
    fn of(row: &Row) -> Result<Self, StoreError> {
        let columns = Columns::new(OPERATION, row);
        Ok(Self {
            flags: columns.json("flags")?,
            folder: columns.parsed("folder", Folder::parse)?,
            status: columns.parsed("status", MessageStatus::parse)?,
        })
    }
}

/// The statements that change tags and flags.
fn changes(before: &State, tenant: TenantId, id: MessageId, change: &MessageChange) -> Vec<Query> {
    let tag = |statement, tag: &String| of(statement, tenant, id).bind(tag.as_str());
    let mut queries: Vec<Query> =
        change.remove_tags.iter().map(|name| tag(statement::message::DELETE_TAG, name)).collect();
    queries.extend(change.add_tags.iter().map(|name| tag(statement::message::INSERT_TAG, name)));
    let flags = changed_flags(&before.flags, &change.add_flags, &change.remove_flags);
    if flags != before.flags {
        let value = codec::texts(flags.iter().map(String::as_str));
        queries.push(of(statement::message::SET_FLAGS, tenant, id).bind(value));
    }
    queries
}

/// Takes a place in the folder of this name, and moves the message there.
async fn move_into(
    transaction: &mut Transaction,
    tenant: TenantId,
    id: MessageId,
    folder: Folder,
) -> Result<(), StoreError> {
    let place = of(statement::message::TAKE_PLACE_ELSEWHERE, tenant, id).bind(folder.as_str());
    let row = transaction.fetch_one(place).await.map_err(failed(OPERATION, id))?;
    let place = Columns::new(OPERATION, &row);
    let (folder, uid, modseq): (_, i64, i64) = (place.id("id")?, place.value("uid")?, place.value("modseq")?);
    let query = of(statement::message::MOVE, tenant, id).bind(&folder).bind(uid).bind(modseq);
    transaction.execute(query).await.map_err(failed(OPERATION, id)).map(drop)
}

fn metadata(tenant: TenantId, id: MessageId, change: &MetadataChange) -> Query {
    match change {
        MetadataChange::Forget { owner, key } => {
            of(statement::message::FORGET_METADATA, tenant, id).bind(owner.as_str()).bind(key.as_str())
        }
        MetadataChange::Keep(metadata) => keep(tenant, id, metadata),
    }
}

fn keep(tenant: TenantId, id: MessageId, metadata: &Metadata) -> Query {
    let Metadata { owner, key, value } = metadata;
    let query = of(statement::message::KEEP_METADATA, tenant, id).bind(owner.as_str()).bind(key.as_str());
    query.bind(Json(value.clone()))
}

/// What is kept with a message.
pub(super) fn read_metadata(row: &Row) -> Result<Metadata, StoreError> {
    let columns = Columns::new("read metadata", row);
    Ok(Metadata { owner: columns.value("owner")?, key: columns.value("key")?, value: columns.json("value")? })
}

/// A statement about a message.
pub(super) fn of(statement: &'static str, tenant: TenantId, id: MessageId) -> Query {
    Query::new(statement).bind(tenant.as_bytes()).bind(id.as_bytes())
}
