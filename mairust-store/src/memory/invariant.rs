//! The rules about accepted mail, in memory.

use mairust_core::{JobId, MessageId, RecipientId, TenantId};

use super::State;
use super::queue::{JobRecord, JobState};
use crate::delivery::DeliveryRow;
use crate::invariant::{Invariant, InvariantCheck, InvariantPage, InvariantPosition, InvariantViolation};
use crate::message::{MessageRow, MessageStatus};

/// A row that a rule is about: where it stands, and the violation if it breaks the rule.
type Looked = (InvariantPosition, Option<InvariantViolation>);

impl State {
    pub(super) fn check_invariant(
        &self,
        invariant: Invariant,
        check: &InvariantCheck,
        after: Option<InvariantPosition>,
        limit: u32,
    ) -> InvariantPage {
        let mut rows = self.look_at(invariant, check);
        rows.sort_unstable_by_key(|(position, _)| *position);
        let behind = rows.partition_point(|(position, _)| after.is_some_and(|after| *position <= after));
        let rows = rows.split_off(behind);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let last = limit.checked_sub(1).filter(|_| rows.len() > limit);
        let next = last.map(|last| rows[last].0);
        InvariantPage {
            violations: rows.into_iter().take(limit).filter_map(|(_, violation)| violation).collect(),
            next,
        }
    }

    fn look_at(&self, invariant: Invariant, check: &InvariantCheck) -> Vec<Looked> {
        match invariant {
            Invariant::JobAge => {
                let ends = |job: &JobRecord| !matches!(job.state, JobState::Buried | JobState::Held(_));
                self.jobs_looked_at(invariant, |job| ends(job) && job.created_at < check.oldest())
            }
            Invariant::JobPurpose => self.jobs_looked_at(invariant, |job| {
                let overdue = matches!(job.state, JobState::Ready | JobState::Waiting) && job.due() < check.patience();
                overdue && !self.has_purpose(job)
            }),
            Invariant::LeaseOwner => self.jobs_looked_at(
                invariant,
                |job| matches!(job.state, JobState::Leased { until } if until < check.patience()),
            ),
            Invariant::MessageStatus => self.queued().map(|row| self.message_looked_at(row)).collect(),
            Invariant::RecipientJob => {
                self.recipients_looked_at(invariant, |tenant, recipient| self.has_job(tenant, recipient))
            }
            Invariant::RecipientMessage => self.recipients_looked_at(invariant, |tenant, recipient| {
                let message = self.messages.get(&(tenant, recipient.message));
                message.is_some_and(|row| row.status == MessageStatus::Queued)
            }),
        }
    }

    fn jobs_looked_at(&self, invariant: Invariant, breaks: impl Fn(&JobRecord) -> bool) -> Vec<Looked> {
        let look = |job: &JobRecord| {
            let (tenant, id, message) = (job.job.tenant, job.job.id, job.job.message);
            let violation = InvariantViolation { invariant, tenant, job: Some(id), message, recipient: None };
            (position(id), breaks(job).then_some(violation))
        };
        self.jobs.records().map(look).collect()
    }

    /// Whether what a job is about is still there and waits for it.
    fn has_purpose(&self, job: &JobRecord) -> bool {
        let (tenant, Some(message)) = (job.job.tenant, job.job.message) else { return true };
        let waits = |domain: &str| {
            self.recipients_of(tenant, message)
                .any(|row| !row.state.is_settled() && row.address.domain().as_str() == domain)
        };
        self.messages.contains_key(&(tenant, message)) && job.job.destination.as_deref().is_none_or(waits)
    }

    fn queued(&self) -> impl Iterator<Item = &MessageRow> {
        self.messages.values().filter(|row| row.status == MessageStatus::Queued)
    }

    fn message_looked_at(&self, row: &MessageRow) -> Looked {
        let waits = self.recipients_of(row.tenant, row.id).any(|recipient| !recipient.state.is_settled());
        let position = InvariantPosition { tenant: row.tenant, id: *row.id.as_bytes() };
        let invariant = Invariant::MessageStatus;
        let violation =
            InvariantViolation { invariant, tenant: row.tenant, job: None, message: Some(row.id), recipient: None };
        (position, (!waits).then_some(violation))
    }

    fn recipients_looked_at(
        &self,
        invariant: Invariant,
        keeps: impl Fn(TenantId, &DeliveryRow) -> bool,
    ) -> Vec<Looked> {
        let waiting = self.recipients.iter().filter(|(_, row)| !row.state.is_settled());
        let look = |(&(tenant, id), row): (&(TenantId, RecipientId), &DeliveryRow)| {
            let position = InvariantPosition { tenant, id: *id.as_bytes() };
            let message = Some(row.message);
            let violation = InvariantViolation { invariant, tenant, job: None, message, recipient: Some(id) };
            (position, (!keeps(tenant, row)).then_some(violation))
        };
        waiting.map(look).collect()
    }

    fn has_job(&self, tenant: TenantId, recipient: &DeliveryRow) -> bool {
        let about = |job: &JobRecord| {
            let about: (_, Option<MessageId>) = (job.job.tenant, job.job.message);
            about == (tenant, Some(recipient.message))
                && job.job.destination.as_deref() == Some(recipient.address.domain().as_str())
                && job.state != JobState::Buried
        };
        self.jobs.records().any(about)
    }
}

/// Jobs stand in the order of their ids alone.
fn position(id: JobId) -> InvariantPosition {
    InvariantPosition { tenant: TenantId::from_bytes([0; 16]), id: *id.as_bytes() }
}
