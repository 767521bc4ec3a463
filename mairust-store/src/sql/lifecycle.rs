//! What becomes of messages after they were accepted.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{Body, MessageId, TenantId, Timestamp};

use super::changes::Change;
use super::driver::{Columns, Dialect, Query, Row, Scope, Transaction, failed};
use super::message::{next_modseq, read_body, read_row};
use super::search::{Search, insert_notes};
use super::storage::Parts;
use crate::error::{StoreError, StoreErrorKind};
use crate::lifecycle::{Lifecycle, Purge, Retention};
use crate::message::MessageRow;
use crate::sql::statement;

mod archive;
mod purge;
mod removal;

/// Which messages are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Those that are not deleted.
    There,
    /// All that are not purged.
    Kept,
}

impl Reach {
    /// What is appended to the conditions for a row `m`.
    pub(super) fn condition(self) -> &'static str {
        match self {
            Self::There => " AND m.deleted_at IS NULL",
            Self::Kept => "",
        }
    }
}

/// How often something is tried, and the pause between two tries, while a message is locked: whoever
/// accepts the result of a delivery locks the message before its folder, and we can't wait for it with
/// the folder in our hands.
const TRIES: u32 = 500;
const PAUSE: Duration = Duration::from_millis(10);

/// The lifecycle of the messages of a [`SqlStorage`](super::SqlStorage).
#[derive(Debug)]
pub(super) struct SqlLifecycle(Arc<Parts>);

impl SqlLifecycle {
    pub(super) fn new(parts: Arc<Parts>) -> Self {
        Self(parts)
    }
}

#[async_trait]
impl Lifecycle for SqlLifecycle {
    async fn kept(&self, tenant: TenantId, id: MessageId) -> Result<Option<MessageRow>, StoreError> {
        read_row(&self.0, tenant, id, Reach::Kept).await
    }

    async fn kept_body(&self, tenant: TenantId, id: MessageId) -> Result<Body, StoreError> {
        read_body(&self.0, tenant, id, Reach::Kept).await
    }

    async fn delete(&self, tenant: TenantId, id: MessageId, at: Timestamp) -> Result<bool, StoreError> {
        let mut transaction = begin(&self.0, "delete message", tenant, id).await?;
        let deleted = delete(&mut transaction, tenant, id, at).await?;
        self.0.commit_change("delete message", transaction, tenant, id, deleted).await
    }

    async fn restore(&self, tenant: TenantId, id: MessageId) -> Result<bool, StoreError> {
        for _ in 0..TRIES {
            let mut transaction = begin(&self.0, "restore message", tenant, id).await?;
            if let Some(restored) = restore(&mut transaction, tenant, id).await? {
                return self.0.commit_change("restore message", transaction, tenant, id, restored).await;
            }
            drop(transaction);
            tokio::time::sleep(PAUSE).await;
        }
        Err(busy("restore message", id))
    }

    async fn set_legal_hold(&self, tenant: TenantId, id: MessageId, on_hold: bool) -> Result<bool, StoreError> {
        let query = Query::new(statement::lifecycle::SET_LEGAL_HOLD).bind(tenant.as_bytes()).bind(id.as_bytes());
        let changed = self.0.database.execute(tenant, query.bind(on_hold)).await.map_err(failed("hold message", id))?;
        if changed == 0 && self.kept(tenant, id).await?.is_none() {
            return Err(StoreError::new(StoreErrorKind::NotFound, "hold message", id));
        }
        Ok(changed > 0)
    }

    async fn archive(&self, tenant: TenantId, id: MessageId) -> Result<bool, StoreError> {
        self.0.archive(tenant, id).await
    }

    async fn purge(&self, tenant: TenantId, id: MessageId) -> Result<Purge, StoreError> {
        self.0.purge(tenant, id).await
    }

    async fn purge_deleted(&self, tenant: TenantId, retention: Retention, max: u32) -> Result<u32, StoreError> {
        self.0.purge_deleted(tenant, retention, max).await
    }

    async fn remove_objects(&self, tenant: TenantId, max: u32) -> Result<u32, StoreError> {
        self.0.remove_objects(tenant, max).await
    }

    async fn tenants_to_clean(&self, retention: Retention) -> Result<Vec<TenantId>, StoreError> {
        let now = self.0.clock.now();
        let rows = self.0.database.fetch_all(Scope::All, Query::new(statement::lifecycle::TENANTS_TO_CLEAN)).await;
        let rows = rows.map_err(failed("find tenants to clean", "read"))?;
        let mut tenants = Vec::new();
        for row in &rows {
            let columns = Columns::new("find tenants to clean", row);
            let owner = Owner::read(row)?;
            let deleted_at = columns.optional_time("deleted_at")?.filter(|_| !owner.is_on_hold);
            let is_due = deleted_at.is_some_and(|at| at <= retention.until(owner.deleted_messages_days))
                || columns.optional_time("due_at")?.is_some_and(|due| due <= now);
            if is_due {
                tenants.push(TenantId::from_bytes(columns.id("id")?));
            }
        }
        Ok(tenants)
    }
}

/// What a tenant has decided about its messages.
struct Owner {
    is_on_hold: bool,
    deleted_messages_days: Option<u32>,
}

impl Owner {
    /// Reads it, and has others who do wait until the transaction ends; see
    /// [`lock_tenant`](statement::lifecycle::lock_tenant).
    async fn lock(
        operation: &'static str,
        transaction: &mut Transaction,
        tenant: TenantId,
    ) -> Result<Option<Self>, StoreError> {
        let query = Query::new(statement::lifecycle::lock_tenant(transaction.dialect())).bind(tenant.as_bytes());
        let found = transaction.fetch_optional(query).await.map_err(failed(operation, tenant))?;
        found.as_ref().map(Self::read).transpose()
    }

    fn read(row: &Row) -> Result<Self, StoreError> {
        let columns = Columns::new("read tenant", row);
        Ok(Self {
            is_on_hold: columns.value("legal_hold")?,
            deleted_messages_days: super::directory::retention(&columns)?,
        })
    }
}

impl Parts {
    /// Commits a change of one message, if there was one, and tells others of it.
    async fn commit_change(
        &self,
        operation: &'static str,
        mut transaction: Transaction,
        tenant: TenantId,
        id: MessageId,
        changed: bool,
    ) -> Result<bool, StoreError> {
        if !changed {
            return Ok(false);
        }
        if !matches!(self.search, Search::Off) {
            let notes = insert_notes([(tenant, id)].into_iter());
            transaction.execute_all(notes).await.map_err(failed(operation, id))?;
        }
        let change = Change::Messages(tenant);
        self.changes.tell(&mut transaction, change).await.map_err(failed(operation, id))?;
        transaction.commit().await.map_err(failed(operation, id))?;
        self.changes.announce(change);
        self.changes.search.bump();
        Ok(true)
    }
}

fn busy(operation: &'static str, id: MessageId) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, operation, format_args!("{id} is being changed, try again"))
}

async fn begin(
    parts: &Parts,
    operation: &'static str,
    tenant: TenantId,
    id: MessageId,
) -> Result<Transaction, StoreError> {
    parts.database.begin(tenant).await.map_err(failed(operation, id))
}

/// Deletes a message; `false` if it was before. Folders are locked before messages and those before
/// mailboxes, as by whoever accepts mail.
async fn delete(
    transaction: &mut Transaction,
    tenant: TenantId,
    id: MessageId,
    at: Timestamp,
) -> Result<bool, StoreError> {
    let missing = || StoreError::new(StoreErrorKind::NotFound, "delete message", id);
    let modseq = next_modseq(transaction, tenant, id).await?.ok_or_else(missing)?;
    let query = Query::new(statement::lifecycle::DELETE).bind(tenant.as_bytes()).bind(id.as_bytes());
    let deleted = transaction.fetch_optional(query.bind(at).bind(modseq)).await;
    match deleted.map_err(failed("delete message", id))? {
        Some(row) => change_use(transaction, "delete message", tenant, &row, -1).await.map(|()| true),
        None => Ok(false),
    }
}

/// Restores a message; `None` if it is locked.
async fn restore(transaction: &mut Transaction, tenant: TenantId, id: MessageId) -> Result<Option<bool>, StoreError> {
    let error = || failed("restore message", id);
    let place = Query::new(statement::lifecycle::TAKE_PLACE).bind(tenant.as_bytes()).bind(id.as_bytes());
    let Some(place) = transaction.fetch_optional(place).await.map_err(error())? else {
        let exists = Query::new(statement::message::MESSAGE_EXISTS).bind(tenant.as_bytes()).bind(id.as_bytes());
        let row = transaction.fetch_one(exists).await.map_err(error())?;
        return match Columns::new("restore message", &row).value::<bool>("found")? {
            true => Ok(Some(false)),
            false => Err(StoreError::new(StoreErrorKind::NotFound, "restore message", id)),
        };
    };
    if transaction.dialect() == Dialect::Postgres {
        let lock = Query::new(statement::lifecycle::LOCK_MESSAGE).bind(tenant.as_bytes()).bind(id.as_bytes());
        if transaction.fetch_optional(lock).await.map_err(error())?.is_none() {
            return Ok(None);
        }
    }
    let place = Columns::new("restore message", &place);
    let (uid, modseq): (i64, i64) = (place.value("uid")?, place.value("modseq")?);
    let query = Query::new(statement::lifecycle::RESTORE).bind(tenant.as_bytes()).bind(id.as_bytes());
    match transaction.fetch_optional(query.bind(uid).bind(modseq)).await.map_err(error())? {
        Some(row) => change_use(transaction, "restore message", tenant, &row, 1).await.map(|()| Some(true)),
        // Somebody else did, in the same moment.
        None => Ok(Some(false)),
    }
}

/// Adds the size of a message to the use of its mailbox, or takes it off.
async fn change_use(
    transaction: &mut Transaction,
    operation: &'static str,
    tenant: TenantId,
    row: &Row,
    sign: i64,
) -> Result<(), StoreError> {
    let columns = Columns::new(operation, row);
    let (mailbox, size) = (columns.id("mailbox_id")?, columns.value::<i64>("size")?);
    let query = Query::new(statement::lifecycle::CHANGE_USE).bind(tenant.as_bytes()).bind(&mailbox);
    let changed = transaction.execute(query.bind(sign * size)).await;
    changed.map_err(failed(operation, "count the use of the mailbox")).map(drop)
}
