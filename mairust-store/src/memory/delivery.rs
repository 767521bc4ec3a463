//! Recipients of outgoing mail, in memory.

use async_trait::async_trait;
use mairust_core::{MessageId, RecipientId, TenantId};

use super::{MemoryStorage, State};
use crate::delivery::{Attempt, AttemptOutcome, Deliveries, DeliveryRow, DeliveryState};
use crate::error::StoreError;
use crate::invariant::{Invariant, InvariantCheck, InvariantPage, InvariantPosition};
use crate::message::MessageStatus;

#[async_trait]
impl Deliveries for MemoryStorage {
    async fn recipients(&self, tenant: TenantId, message: MessageId) -> Result<Vec<DeliveryRow>, StoreError> {
        let state = self.state();
        Ok(state.recipients_of(tenant, message).map(|row| state.shown(tenant, row)).collect())
    }

    async fn recipient(&self, tenant: TenantId, id: RecipientId) -> Result<Option<DeliveryRow>, StoreError> {
        let state = self.state();
        Ok(state.recipients.get(&(tenant, id)).map(|row| state.shown(tenant, row)))
    }

    async fn attempts(&self, tenant: TenantId, message: MessageId) -> Result<Vec<Attempt>, StoreError> {
        let state = self.state();
        let of_message = state.attempts.iter().filter(|(owner, of, _)| (*owner, *of) == (tenant, message));
        let mut attempts: Vec<_> = of_message.map(|(_, _, attempt)| attempt.clone()).collect();
        attempts.sort_by_key(|attempt| attempt.at);
        Ok(attempts)
    }

    async fn check_invariant(
        &self,
        invariant: Invariant,
        check: &InvariantCheck,
        after: Option<InvariantPosition>,
        limit: u32,
    ) -> Result<InvariantPage, StoreError> {
        Ok(self.state().check_invariant(invariant, check, after, limit))
    }
}

impl State {
    /// A recipient as it is shown: held if its job is.
    fn shown(&self, tenant: TenantId, row: &DeliveryRow) -> DeliveryRow {
        let waits = matches!(row.state, DeliveryState::Deferred | DeliveryState::Pending);
        let is_held = waits && self.jobs.holds_delivery(tenant, row.message, row.address.domain().as_str());
        DeliveryRow { state: if is_held { DeliveryState::Held } else { row.state }, ..row.clone() }
    }

    /// Whether a report that mail came back changes what became of a recipient.
    pub(super) fn takes_report(&self, tenant: TenantId, recipient: RecipientId) -> bool {
        let row = self.recipients.get(&(tenant, recipient));
        row.is_some_and(|row| matches!(row.state, DeliveryState::Delivered | DeliveryState::InDoubt))
            && self.begun(tenant, recipient).is_none()
    }

    /// Records an attempt and moves its recipient and its message on. Ignored if the tenant has
    /// no such recipient, which the caller has made sure of.
    pub(super) fn record(&mut self, tenant: TenantId, attempt: Attempt) {
        let Some(recipient) = self.recipients.get_mut(&(tenant, attempt.recipient)) else { return };
        let message = recipient.message;
        let Some(state) = attempt.outcome.state() else {
            self.attempts.push((tenant, message, attempt));
            return;
        };
        // A job may run twice: what is settled stays as it is, and the history tells the rest. The caller has made
        // sure of reports.
        let is_report = attempt.outcome == AttemptOutcome::Reported;
        let moves = is_report || !recipient.state.is_settled();
        if moves {
            recipient.state = state;
            recipient.attempts += u32::from(attempt.is_a_try());
            recipient.last_result = Some(attempt.result.clone());
            recipient.updated_at = attempt.at;
            if attempt.tells_of_delay() {
                recipient.delay_told_at = Some(attempt.at);
            }
        }
        match self.begun(tenant, attempt.recipient).filter(|_| !is_report) {
            Some(place) => self.attempts[place].2 = attempt,
            None => self.attempts.push((tenant, message, attempt)),
        }
        if moves {
            self.settle(tenant, message);
        }
    }

    /// The place of the attempt of a recipient whose result is not known yet.
    pub(super) fn begun(&self, tenant: TenantId, recipient: RecipientId) -> Option<usize> {
        self.attempts.iter().position(|(owner, _, attempt)| {
            (*owner, attempt.recipient, attempt.outcome) == (tenant, recipient, AttemptOutcome::Begun)
        })
    }

    fn settle(&mut self, tenant: TenantId, message: MessageId) {
        if self.recipients_of(tenant, message).any(|recipient| !recipient.state.is_settled()) {
            return;
        }
        let any = |state| self.recipients_of(tenant, message).any(|recipient| recipient.state == state);
        let (failed, cancelled) = (any(DeliveryState::Bounced), any(DeliveryState::Cancelled));
        let Some(row) = self.messages.get_mut(&(tenant, message)) else { return };
        row.status = match (failed, cancelled) {
            (true, _) => MessageStatus::Failed,
            (false, true) => MessageStatus::Cancelled,
            (false, false) => MessageStatus::Sent,
        };
        if let Some(folder) = self.folders.get_mut(&(tenant, row.mailbox, row.folder)) {
            folder.modseq += 1;
            row.modseq = folder.modseq;
        }
    }

    pub(super) fn recipients_of(&self, tenant: TenantId, message: MessageId) -> impl Iterator<Item = &DeliveryRow> {
        let of_message =
            self.recipients.iter().filter(move |((owner, _), row)| (*owner, row.message) == (tenant, message));
        of_message.map(|(_, row)| row)
    }
}
