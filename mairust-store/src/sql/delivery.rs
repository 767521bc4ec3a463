//! Recipients of outgoing mail.

use async_trait::async_trait;
use mairust_core::{
    EmailAddress, MessageId, Notify, OriginalRecipient, RecipientDsn, RecipientId, TenantId, Timestamp,
};
use uuid::Uuid;

use super::driver::{Columns, Query, Row, Rows, Transaction, failed};
use super::message::next_modseq;
use super::storage::Parts;
use crate::delivery::{Attempt, AttemptOutcome, Deliveries, DeliveryRow, DeliveryState, NewRecipient};
use crate::error::{StoreError, StoreErrorKind};
use crate::invariant::{Invariant, InvariantCheck, InvariantPage, InvariantPosition};
use crate::message::MessageStatus;
use crate::sql::statement;

#[async_trait]
impl Deliveries for Parts {
    async fn recipients(&self, tenant: TenantId, message: MessageId) -> Result<Vec<DeliveryRow>, StoreError> {
        let query = Query::new(statement::message::RECIPIENTS).bind(tenant.as_bytes()).bind(message.as_bytes());
        let rows = self.database.look_up(tenant, query).await.map_err(failed("read recipients", message))?;
        rows.iter().map(|row| recipient(&Columns::new("read recipients", row))).collect()
    }

    async fn recipient(&self, tenant: TenantId, id: RecipientId) -> Result<Option<DeliveryRow>, StoreError> {
        let query = Query::new(statement::message::RECIPIENT).bind(tenant.as_bytes()).bind(id.as_bytes());
        let row = self.database.fetch_optional(tenant, query).await.map_err(failed("read recipient", id))?;
        row.map(|row| recipient(&Columns::new("read recipient", &row))).transpose()
    }

    async fn attempts(&self, tenant: TenantId, message: MessageId) -> Result<Vec<Attempt>, StoreError> {
        let rows = self
            .database
            .fetch_all(
                tenant,
                Query::new(statement::message::ATTEMPTS).bind(tenant.as_bytes()).bind(message.as_bytes()),
            )
            .await
            .map_err(failed("read attempts", message))?;
        rows.iter().map(|row| attempt(&Columns::new("read attempts", row))).collect()
    }

    async fn check_invariant(
        &self,
        invariant: Invariant,
        check: &InvariantCheck,
        after: Option<InvariantPosition>,
        limit: u32,
    ) -> Result<InvariantPage, StoreError> {
        self.check_rows(invariant, check, after, limit).await
    }
}

/// The statements that add recipients.
pub(super) fn insert_recipients<'a>(
    recipients: impl IntoIterator<Item = (TenantId, &'a NewRecipient)>,
    now: Timestamp,
) -> Vec<Query> {
    let mut inserts = Rows::to_insert(statement::message::INSERT_RECIPIENTS, 8);
    for (tenant, recipient) in recipients {
        inserts
            .bind(tenant.as_bytes())
            .bind(recipient.id.as_bytes())
            .bind(recipient.message.as_bytes())
            .bind(recipient.address.to_string())
            .bind(recipient.state.as_str())
            .bind(now)
            .bind(recipient.dsn.notify.map(|notify| notify.to_string()))
            .bind(recipient.dsn.original.as_ref().map(ToString::to_string));
    }
    inserts.queries()
}

/// Records an attempt; the message whose recipient it moved on. `Conflict` if it is to tell of a delay, or that mail
/// came back, and there is nothing to tell any more.
pub(super) async fn insert_attempt(
    transaction: &mut Transaction,
    tenant: TenantId,
    attempt: &Attempt,
) -> Result<Option<MessageId>, StoreError> {
    let Some(state) = attempt.outcome.state() else {
        return begin_attempt(transaction, tenant, attempt).await.map(|()| None);
    };
    if attempt.outcome == AttemptOutcome::Reported {
        return insert_report(transaction, tenant, attempt).await.map(Some);
    }
    let moved = transaction
        .fetch_optional(
            Query::new(statement::message::MOVE_RECIPIENT)
                .bind(tenant.as_bytes())
                .bind(attempt.recipient.as_bytes())
                .bind(state.as_str())
                .bind(attempt.result.as_str())
                .bind(attempt.at)
                .bind(attempt.tells_of_delay())
                .bind(i64::from(attempt.is_a_try())),
        )
        .await
        .map_err(failed("accept", attempt.recipient))?;
    let moves = moved.is_some();
    let row = match moved {
        Some(row) => row,
        None if attempt.tells_of_delay() => {
            known_recipient(transaction, tenant, attempt).await?;
            return Err(attempt.told_before());
        }
        // A job may run twice: what is settled stays as it is, and the history tells the rest.
        None => known_recipient(transaction, tenant, attempt).await?,
    };
    let message = MessageId::from_bytes(Columns::new("accept", &row).id("message_id")?);
    let ended = transaction
        .execute(
            Query::new(statement::message::END_ATTEMPT)
                .bind(tenant.as_bytes())
                .bind(attempt.recipient.as_bytes())
                .bind(attempt.at)
                .bind(attempt.outcome.as_str())
                .bind(attempt.host.as_deref())
                .bind(attempt.result.as_str())
                .bind(notice_id(attempt))
                .bind(attempt.facts.as_deref()),
        )
        .await
        .map_err(failed("accept", attempt.recipient))?;
    if ended == 0 {
        insert(transaction, tenant, message, attempt).await?;
    }
    Ok(moves.then_some(message))
}

/// Records that mail came back; its message.
async fn insert_report(
    transaction: &mut Transaction,
    tenant: TenantId,
    attempt: &Attempt,
) -> Result<MessageId, StoreError> {
    let query = Query::new(statement::message::MOVE_REPORTED)
        .bind(tenant.as_bytes())
        .bind(attempt.recipient.as_bytes())
        .bind(attempt.result.as_str())
        .bind(attempt.at);
    let Some(row) = transaction.fetch_optional(query).await.map_err(failed("accept", attempt.recipient))? else {
        known_recipient(transaction, tenant, attempt).await?;
        return Err(attempt.told_before());
    };
    let message = MessageId::from_bytes(Columns::new("accept", &row).id("message_id")?);
    insert(transaction, tenant, message, attempt).await?;
    Ok(message)
}

/// Records that an attempt has begun, for a recipient who waits.
async fn begin_attempt(transaction: &mut Transaction, tenant: TenantId, attempt: &Attempt) -> Result<(), StoreError> {
    let row = known_recipient(transaction, tenant, attempt).await?;
    let columns = Columns::new("accept", &row);
    if columns.parsed("state", DeliveryState::parse)?.is_settled() {
        return Err(StoreError::new(StoreErrorKind::Conflict, "accept", attempt.recipient));
    }
    insert(transaction, tenant, MessageId::from_bytes(columns.id("message_id")?), attempt).await
}

async fn insert(
    transaction: &mut Transaction,
    tenant: TenantId,
    message: MessageId,
    attempt: &Attempt,
) -> Result<(), StoreError> {
    let query = Query::new(statement::message::INSERT_ATTEMPT)
        .bind(tenant.as_bytes())
        .bind(message.as_bytes())
        .bind(attempt.recipient.as_bytes())
        .bind(attempt.at)
        .bind(attempt.outcome.as_str())
        .bind(attempt.host.as_deref())
        .bind(attempt.result.as_str())
        .bind(notice_id(attempt))
        .bind(attempt.facts.as_deref());
    transaction.execute(query).await.map_err(failed("accept", attempt.recipient))?;
    Ok(())
}

fn notice_id(attempt: &Attempt) -> Option<Uuid> {
    attempt.notice.map(|notice| Uuid::from_bytes(*notice.as_bytes()))
}

/// Ends the delivery of a message to those at a destination who wait.
pub(super) async fn cancel_recipients(
    transaction: &mut Transaction,
    tenant: TenantId,
    (message, destination): (MessageId, &str),
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let query = Query::new(statement::message::WAITING_RECIPIENTS).bind(tenant.as_bytes()).bind(message.as_bytes());
    let rows = transaction.fetch_all(query).await.map_err(failed("cancel", message))?;
    for row in &rows {
        let columns = Columns::new("cancel", row);
        let address = columns.parsed("address", |text| EmailAddress::parse(text).ok())?;
        if address.domain().as_str() == destination {
            let attempt = Attempt {
                recipient: RecipientId::from_bytes(columns.id("id")?),
                at: now,
                outcome: AttemptOutcome::Cancelled,
                host: None,
                result: reason.to_owned(),
                notice: None,
                facts: None,
            };
            insert_attempt(transaction, tenant, &attempt).await?;
        }
    }
    // Those at other destinations may have been settled before.
    settle(transaction, tenant, message).await
}

async fn known_recipient(
    transaction: &mut Transaction,
    tenant: TenantId,
    attempt: &Attempt,
) -> Result<Row, StoreError> {
    let found = transaction
        .fetch_optional(
            Query::new(statement::message::MESSAGE_OF_RECIPIENT)
                .bind(tenant.as_bytes())
                .bind(attempt.recipient.as_bytes()),
        )
        .await
        .map_err(failed("accept", attempt.recipient))?;
    found.ok_or_else(|| StoreError::new(StoreErrorKind::NotFound, "accept", attempt.recipient))
}

/// Moves a message on when all its recipients are settled.
pub(super) async fn settle(
    transaction: &mut Transaction,
    tenant: TenantId,
    message: MessageId,
) -> Result<(), StoreError> {
    let error = || failed("accept", message);
    let counts = transaction
        .fetch_one(Query::new(statement::message::COUNT_RECIPIENTS).bind(tenant.as_bytes()).bind(message.as_bytes()))
        .await
        .map_err(error())?;
    let columns = Columns::new("accept", &counts);
    if columns.value::<i64>("unsettled")? > 0 {
        return Ok(());
    }
    let status = match (columns.value::<i64>("bounced")?, columns.value::<i64>("cancelled")?) {
        (1.., _) => MessageStatus::Failed,
        (_, 1..) => MessageStatus::Cancelled,
        _ => MessageStatus::Sent,
    };
    let modseq = next_modseq(transaction, tenant, message).await?;
    transaction
        .execute(
            Query::new(statement::message::SET_STATUS)
                .bind(tenant.as_bytes())
                .bind(message.as_bytes())
                .bind(modseq)
                .bind(status.as_str()),
        )
        .await
        .map_err(error())?;
    Ok(())
}

fn recipient(columns: &Columns<'_>) -> Result<DeliveryRow, StoreError> {
    Ok(DeliveryRow {
        id: RecipientId::from_bytes(columns.id("id")?),
        message: MessageId::from_bytes(columns.id("message_id")?),
        address: columns.parsed("address", |text| EmailAddress::parse(text).ok())?,
        state: columns.parsed("state", DeliveryState::parse)?,
        attempts: columns.number("attempts")?,
        last_result: columns.value("last_result")?,
        updated_at: columns.time("updated_at")?,
        dsn: RecipientDsn {
            notify: columns.optional("dsn_notify", Notify::parse)?,
            original: columns.optional("dsn_orcpt", OriginalRecipient::parse)?,
        },
        delay_told_at: columns.optional_time("delay_told_at")?,
    })
}

fn attempt(columns: &Columns<'_>) -> Result<Attempt, StoreError> {
    Ok(Attempt {
        recipient: RecipientId::from_bytes(columns.id("recipient_id")?),
        at: columns.time("at")?,
        outcome: columns.parsed("outcome", AttemptOutcome::parse)?,
        host: columns.value("host")?,
        result: columns.value("result")?,
        notice: columns.optional_id("notice_id")?.map(MessageId::from_bytes),
        facts: columns.value("facts")?,
    })
}
