//! Archiving: the object is copied, then all messages that share it are given the copy in one
//! transaction, then the original is removed. A copy that no message was given is removed after a while,
//! for that is noted before it is made.

use bytes::Bytes;
use mairust_core::{Body, MessageId, TenantId};

use super::removal::LATE;
use super::{Owner, Reach, begin};
use crate::body::{BodyStore, NewObject, verify};
use crate::error::{StoreError, StoreErrorKind};
use crate::lifecycle::ARCHIVE;
use crate::message::MessageRow;
use crate::sql::driver::{Query, failed};
use crate::sql::message::{read_body, read_row};
use crate::sql::statement;
use crate::sql::storage::Parts;

impl Parts {
    pub(super) async fn archive(&self, tenant: TenantId, id: MessageId) -> Result<bool, StoreError> {
        let missing = || StoreError::new(StoreErrorKind::NotFound, "archive message", id);
        let row = read_row(self, tenant, id, Reach::Kept).await?.ok_or_else(missing)?;
        if row.is_archived() {
            return Ok(false);
        }
        let to = format!("{ARCHIVE}{}", row.object_key);
        self.plan_removal(&row, &to).await?;
        let body = read_body(self, tenant, id, Reach::Kept).await?;
        self.put_copy(&row, &to, body).await?;
        if !self.give_copy(&row, &to).await? {
            // Somebody else was faster: with archiving, or with purging.
            return match read_row(self, tenant, id, Reach::Kept).await? {
                Some(row) if row.is_archived() => Ok(false),
                Some(_) => Err(busy(&row)),
                None => Err(missing()),
            };
        }
        // What can't be removed now is noted, and removed later.
        if let Err(error) = self.remove_objects(tenant, 1).await {
            tracing::warn!(component = "store", %error, "an object is still there beside its archived copy");
        }
        Ok(true)
    }

    /// Has the copy removed later, unless messages are given it.
    async fn plan_removal(&self, row: &MessageRow, to: &str) -> Result<(), StoreError> {
        let query = Query::new(statement::lifecycle::PLAN_REMOVAL).bind(row.tenant.as_bytes()).bind(to);
        let planned = self.database.execute(row.tenant, query.bind(self.clock.now().plus(LATE))).await;
        match planned.map_err(failed("archive message", row.id))? {
            0 => Err(busy(row)),
            _ => Ok(()),
        }
    }

    async fn put_copy(&self, row: &MessageRow, to: &str, body: Body) -> Result<(), StoreError> {
        let object = NewObject { key: to.to_owned(), prefix: Bytes::new(), body };
        let lost = || StoreError::new(StoreErrorKind::Unavailable, "archive message", "the writer was interrupted");
        match self.bodies.put(vec![object]).await.pop().ok_or_else(lost)? {
            // Another try has left it, or is just about to give it to the messages.
            Err(error) if error.kind() == StoreErrorKind::AlreadyExists => {
                let found = self.bodies.open(to).await?;
                verify(found, row.sha256, row.id.to_string()).await.map(drop)
            }
            put => put.map(drop),
        }
    }

    /// Gives all messages that share an object the copy; `false` if there is none any more, or the copy
    /// was given away or is being removed.
    async fn give_copy(&self, row: &MessageRow, to: &str) -> Result<bool, StoreError> {
        let (tenant, error) = (row.tenant, || failed("archive message", row.id));
        let mut transaction = begin(self, "archive message", tenant, row.id).await?;
        Owner::lock("archive message", &mut transaction, tenant).await?;
        let query = Query::new(statement::lifecycle::CANCEL_REMOVAL).bind(tenant.as_bytes()).bind(to);
        if transaction.execute(query).await.map_err(error())? == 0 {
            return Ok(false);
        }
        let query = Query::new(statement::lifecycle::MOVE_OBJECT).bind(tenant.as_bytes()).bind(row.received_at);
        let moved = transaction.execute(query.bind(row.object_key.as_str()).bind(to)).await.map_err(error())?;
        if moved == 0 {
            return Ok(false);
        }
        self.give_up_object(&mut transaction, tenant, &row.object_key).await?;
        transaction.commit().await.map_err(error())?;
        Ok(true)
    }
}

fn busy(row: &MessageRow) -> StoreError {
    let why = format!("{}: an earlier try is being cleaned up, try again in a minute", row.id);
    StoreError::new(StoreErrorKind::Unavailable, "archive message", why)
}
