//! Recipients of outgoing mail, in SQLite.

use async_trait::async_trait;
use mairust_core::{EmailAddress, MessageId, Notify, OriginalRecipient, RecipientDsn, RecipientId, TenantId};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::Parts;
use super::message::next_modseq;
use super::row::{Columns, failed};
use crate::delivery::{Attempt, AttemptOutcome, Deliveries, DeliveryRow, DeliveryState, NewRecipient};
use crate::error::{StoreError, StoreErrorKind};
use crate::message::MessageStatus;
use crate::sql;

#[async_trait]
impl Deliveries for Parts {
    async fn recipients(&self, tenant: TenantId, message: MessageId) -> Result<Vec<DeliveryRow>, StoreError> {
        let rows = sqlx::query(sql::message::RECIPIENTS)
            .bind(&tenant.as_bytes()[..])
            .bind(&message.as_bytes()[..])
            .fetch_all(&self.reader)
            .await
            .map_err(failed("read recipients", message))?;
        rows.iter().map(|row| recipient(&Columns::new("read recipients", row))).collect()
    }

    async fn attempts(&self, tenant: TenantId, message: MessageId) -> Result<Vec<Attempt>, StoreError> {
        let rows = sqlx::query(sql::message::ATTEMPTS)
            .bind(&tenant.as_bytes()[..])
            .bind(&message.as_bytes()[..])
            .fetch_all(&self.reader)
            .await
            .map_err(failed("read attempts", message))?;
        rows.iter().map(|row| attempt(&Columns::new("read attempts", row))).collect()
    }
}

/// Adds a recipient within a transaction.
pub(super) async fn insert_recipient(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    recipient: &NewRecipient,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query(sql::message::INSERT_RECIPIENT)
        .bind(&tenant.as_bytes()[..])
        .bind(&recipient.id.as_bytes()[..])
        .bind(&recipient.message.as_bytes()[..])
        .bind(recipient.address.to_string())
        .bind(recipient.state.as_str())
        .bind(now)
        .bind(recipient.dsn.notify.map(|notify| notify.to_string()))
        .bind(recipient.dsn.original.as_ref().map(ToString::to_string))
        .execute(connection)
        .await
        .map_err(failed("accept", recipient.id))?;
    Ok(())
}

/// Records an attempt; the message whose recipient it moved on.
pub(super) async fn insert_attempt(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    attempt: &Attempt,
) -> Result<Option<MessageId>, StoreError> {
    let moved = sqlx::query(sql::message::MOVE_RECIPIENT)
        .bind(&tenant.as_bytes()[..])
        .bind(&attempt.recipient.as_bytes()[..])
        .bind(attempt.outcome.state().as_str())
        .bind(attempt.result.as_str())
        .bind(attempt.at.as_micros())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed("accept", attempt.recipient))?;
    let moves = moved.is_some();
    let row = match moved {
        Some(row) => row,
        // A job may run twice: what is settled stays as it is, and the history tells the rest.
        None => known_recipient(connection, tenant, attempt).await?,
    };
    let message = MessageId::from_bytes(Columns::new("accept", &row).bytes("message_id")?);
    sqlx::query(sql::message::INSERT_ATTEMPT)
        .bind(&tenant.as_bytes()[..])
        .bind(&message.as_bytes()[..])
        .bind(&attempt.recipient.as_bytes()[..])
        .bind(attempt.at.as_micros())
        .bind(attempt.outcome.as_str())
        .bind(attempt.host.as_deref())
        .bind(attempt.result.as_str())
        .execute(connection)
        .await
        .map_err(failed("accept", attempt.recipient))?;
    Ok(moves.then_some(message))
}

async fn known_recipient(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    attempt: &Attempt,
) -> Result<SqliteRow, StoreError> {
    let found = sqlx::query(sql::message::MESSAGE_OF_RECIPIENT)
        .bind(&tenant.as_bytes()[..])
        .bind(&attempt.recipient.as_bytes()[..])
        .fetch_optional(connection)
        .await
        .map_err(failed("accept", attempt.recipient))?;
    found.ok_or_else(|| StoreError::new(StoreErrorKind::NotFound, "accept", attempt.recipient))
}

/// Moves a message on when all its recipients are settled.
pub(super) async fn settle(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    message: MessageId,
) -> Result<(), StoreError> {
    let error = || failed("accept", message);
    let counts = sqlx::query(sql::message::COUNT_RECIPIENTS)
        .bind(&tenant.as_bytes()[..])
        .bind(&message.as_bytes()[..])
        .fetch_one(&mut *connection)
        .await
        .map_err(error())?;
    let columns = Columns::new("accept", &counts);
    if columns.value::<i64>("unsettled")? > 0 {
        return Ok(());
    }
    let failed = columns.value::<i64>("bounced")? > 0;
    let status = if failed { MessageStatus::Failed } else { MessageStatus::Sent };
    let modseq = next_modseq(connection, tenant, message).await.map_err(error())?;
    sqlx::query(sql::message::SET_STATUS)
        .bind(&tenant.as_bytes()[..])
        .bind(&message.as_bytes()[..])
        .bind(modseq)
        .bind(status.as_str())
        .execute(connection)
        .await
        .map_err(error())?;
    Ok(())
}

fn recipient(columns: &Columns<'_>) -> Result<DeliveryRow, StoreError> {
    Ok(DeliveryRow {
        id: RecipientId::from_bytes(columns.bytes("id")?),
        message: MessageId::from_bytes(columns.bytes("message_id")?),
        address: columns.parsed("address", |text| EmailAddress::parse(text).ok())?,
        state: columns.parsed("state", DeliveryState::parse)?,
        attempts: columns.number("attempts")?,
        last_result: columns.value("last_result")?,
        updated_at: columns.time("updated_at")?,
        dsn: RecipientDsn {
            notify: columns.optional("dsn_notify", Notify::parse)?,
            original: columns.optional("dsn_orcpt", OriginalRecipient::parse)?,
        },
    })
}

fn attempt(columns: &Columns<'_>) -> Result<Attempt, StoreError> {
    Ok(Attempt {
        recipient: RecipientId::from_bytes(columns.bytes("recipient_id")?),
        at: columns.time("at")?,
        outcome: columns.parsed("outcome", AttemptOutcome::parse)?,
        host: columns.value("host")?,
        result: columns.value("result")?,
    })
}
