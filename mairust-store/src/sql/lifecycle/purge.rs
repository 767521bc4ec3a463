//! Purging: rows go in one transaction, and with the last one that names an object a note that the
//! object is to be removed.

use std::collections::BTreeSet;

use mairust_core::{MessageId, TenantId, Timestamp};

use super::{Owner, PAUSE, TRIES, begin, busy, delete};
use crate::error::{StoreError, StoreErrorKind};
use crate::lifecycle::{Purge, Retention};
use crate::sql::changes::Change;
use crate::sql::driver::{Columns, Dialect, Query, Row, Transaction, failed};
use crate::sql::search::{Search, insert_notes};
use crate::sql::statement;
use crate::sql::storage::Parts;

/// A message that is about to go.
struct Doomed {
    id: MessageId,
    object_key: String,
    received_at: Timestamp,
}

impl Parts {
    pub(super) async fn purge(&self, tenant: TenantId, id: MessageId) -> Result<Purge, StoreError> {
        for _ in 0..TRIES {
            if let Some(purge) = self.try_purge(tenant, id).await? {
                return Ok(purge);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(busy("purge message", id))
    }

    /// Purges a message; `None` if it is locked.
    async fn try_purge(&self, tenant: TenantId, id: MessageId) -> Result<Option<Purge>, StoreError> {
        let error = || failed("purge message", id);
        let mut transaction = begin(self, "purge message", tenant, id).await?;
        let missing = || StoreError::new(StoreErrorKind::NotFound, "purge message", id);
        let owner = Owner::lock("purge message", &mut transaction, tenant).await?.ok_or_else(missing)?;
        // First, as the lock of the folder comes before that of the message.
        delete(&mut transaction, tenant, id, self.clock.now()).await?;
        let query = Query::new(statement::lifecycle::to_purge(transaction.dialect())).bind(tenant.as_bytes());
        let row = transaction.fetch_optional(query.bind(id.as_bytes())).await.map_err(error())?;
        let Some(row) = row else { return Ok(None) };
        let columns = Columns::new("purge message", &row);
        if owner.is_on_hold || columns.value("on_hold")? {
            return Ok(Some(Purge::OnHold));
        }
        if columns.value("in_use")? {
            return Ok(Some(Purge::InUse));
        }
        self.purge_all(transaction, tenant, &[Doomed::read(&row)?]).await?;
        // What can't be removed now is noted, and removed later.
        if let Err(error) = self.remove_objects(tenant, 1).await {
            tracing::warn!(component = "store", %error, "the object of a purged message is still there");
        }
        Ok(Some(Purge::Done))
    }

    pub(super) async fn purge_deleted(
        &self,
        tenant: TenantId,
        retention: Retention,
        max: u32,
    ) -> Result<u32, StoreError> {
        let error = || failed("purge messages", tenant);
        let mut transaction = self.database.begin(tenant).await.map_err(error())?;
        let owner = match Owner::lock("purge messages", &mut transaction, tenant).await? {
            Some(owner) if !owner.is_on_hold => owner,
            _ => return Ok(0),
        };
        let query = Query::new(statement::lifecycle::due(transaction.dialect())).bind(tenant.as_bytes());
        let query = query.bind(retention.until(owner.deleted_messages_days)).bind(max);
        let rows = transaction.fetch_all(query).await.map_err(error())?;
        if rows.is_empty() {
            return Ok(0);
        }
        let doomed: Vec<_> = rows.iter().map(Doomed::read).collect::<Result<_, _>>()?;
        self.purge_all(transaction, tenant, &doomed).await?;
        Ok(u32::try_from(doomed.len()).unwrap_or(u32::MAX))
    }

    /// Removes the rows of messages, notes what else is to be removed, and commits.
    async fn purge_all(
        &self,
        mut transaction: Transaction,
        tenant: TenantId,
        doomed: &[Doomed],
    ) -> Result<(), StoreError> {
        let error = || failed("purge messages", tenant);
        for text in statement::lifecycle::FORGET_MESSAGES {
            transaction.execute(about(text, tenant, doomed)).await.map_err(error())?;
        }
        if transaction.dialect() == Dialect::Postgres {
            let documents = about(statement::lifecycle::FORGET_DOCUMENTS, tenant, doomed);
            transaction.execute(documents).await.map_err(error())?;
        }
        if !matches!(self.search, Search::Off) {
            let notes = insert_notes(doomed.iter().map(|message| (tenant, message.id)));
            transaction.execute_all(notes).await.map_err(error())?;
        }
        let objects: BTreeSet<_> =
            doomed.iter().map(|message| (message.object_key.as_str(), message.received_at)).collect();
        for (key, received_at) in objects {
            let query = Query::new(statement::lifecycle::IS_NAMED).bind(tenant.as_bytes()).bind(received_at).bind(key);
            let row = transaction.fetch_one(query).await.map_err(error())?;
            if !Columns::new("purge messages", &row).value::<bool>("found")? {
                self.give_up_object(&mut transaction, tenant, key).await?;
            }
        }
        let change = Change::Messages(tenant);
        self.changes.tell(&mut transaction, change).await.map_err(error())?;
        transaction.commit().await.map_err(error())?;
        self.changes.announce(change);
        self.changes.search.bump();
        Ok(())
    }
}

impl Doomed {
    fn read(row: &Row) -> Result<Self, StoreError> {
        let columns = Columns::new("purge messages", row);
        Ok(Self {
            id: MessageId::from_bytes(columns.id("id")?),
            object_key: columns.value("object_key")?,
            received_at: columns.time("received_at")?,
        })
    }
}

/// A statement about messages that are named.
fn about(text: &'static str, tenant: TenantId, messages: &[Doomed]) -> Query {
    let mut query = Query::new(text).bind(tenant.as_bytes());
    for (index, message) in messages.iter().enumerate() {
        query.push(if index == 0 { "" } else { ", " }).push_bind(message.id.as_bytes());
    }
    query.push(")");
    query
}
