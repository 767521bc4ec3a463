//! The rules about accepted mail.

use mairust_core::{JobId, MessageId, RecipientId, TenantId};
use uuid::Uuid;

use super::driver::{Columns, Query, Row, Scope, failed};
use super::storage::Parts;
use crate::error::StoreError;
use crate::invariant::{Invariant, InvariantCheck, InvariantPage, InvariantPosition, InvariantViolation};
use crate::sql::statement;

impl Parts {
    pub(super) async fn check_rows(
        &self,
        invariant: Invariant,
        check: &InvariantCheck,
        after: Option<InvariantPosition>,
        limit: u32,
    ) -> Result<InvariantPage, StoreError> {
        let query = look_at(invariant, check, after, limit);
        let rows = self.database.fetch_all(Scope::All, query).await.map_err(failed("check", invariant.as_str()))?;
        let mut page = InvariantPage::default();
        for row in &rows {
            let columns = Columns::new("check", row);
            if columns.value("broken")? {
                page.violations.push(violation(invariant, &columns)?);
            }
        }
        if rows.len() >= limit as usize {
            page.next = rows.last().map(position).transpose()?;
        }
        Ok(page)
    }
}

/// The statement that looks at the rows of a rule.
pub(super) fn look_at(
    invariant: Invariant,
    check: &InvariantCheck,
    after: Option<InvariantPosition>,
    limit: u32,
) -> Query {
    let after = after.unwrap_or(InvariantPosition { tenant: TenantId::from_bytes([0; 16]), id: [0; 16] });
    let jobs = |text, before| Query::new(text).bind(&after.id).bind(limit).bind(before);
    let others = |text| Query::new(text).bind(after.tenant.as_bytes()).bind(&after.id).bind(limit);
    match invariant {
        Invariant::JobAge => jobs(statement::invariant::JOB_AGE, check.oldest()),
        Invariant::JobPurpose => jobs(statement::invariant::JOB_PURPOSE, check.patience()),
        Invariant::LeaseOwner => jobs(statement::invariant::LEASE_OWNER, check.patience()),
        Invariant::MessageStatus => others(statement::invariant::MESSAGE_STATUS),
        Invariant::RecipientJob => others(statement::invariant::RECIPIENT_JOB),
        Invariant::RecipientMessage => others(statement::invariant::RECIPIENT_MESSAGE),
    }
}

fn position(row: &Row) -> Result<InvariantPosition, StoreError> {
    let columns = Columns::new("check", row);
    Ok(InvariantPosition { tenant: TenantId::from_bytes(columns.id("tenant_id")?), id: columns.id("position")? })
}

fn violation(invariant: Invariant, columns: &Columns<'_>) -> Result<InvariantViolation, StoreError> {
    let id = |column| columns.value::<Option<Uuid>>(column).map(|id| id.map(Uuid::into_bytes));
    Ok(InvariantViolation {
        invariant,
        tenant: TenantId::from_bytes(columns.id("tenant_id")?),
        job: id("job_id")?.map(JobId::from_bytes),
        message: id("message_id")?.map(MessageId::from_bytes),
        recipient: id("recipient_id")?.map(RecipientId::from_bytes),
    })
}
