//! Deliveries of which nobody knows how they ended: the end of the message was sent, or was about to be, and no
//! answer to it was recorded.
//!
//! Before the end of a message is sent, it is recorded that the attempt has begun; the result takes the place of
//! that. A worker that finds an attempt begun by another one, whose lease has ended, knows that it is in doubt.

use async_trait::async_trait;
use mairust_core::{Clock, TenantId};
use mairust_hooks::EventKind;
use mairust_smtp::client::{BeforeFinalDot, Handover};
use mairust_store::{
    Acceptance, Attempt, AttemptOutcome, DeliveryRow, Lease, MessageRow, NewEvent, StorageBackend, StoreError,
};

use super::Workers;
use crate::acceptance::accept;
use crate::events::{self, Told};
use crate::timeline;

/// What becomes of a delivery that is in doubt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum InDoubt {
    /// It is held until an operator releases or cancels it: recipients get the message twice only if somebody
    /// wants it.
    Hold,
    /// It is tried again: recipients get the message, some of them twice.
    #[default]
    Resend,
}

/// Records that attempts begin.
pub(super) struct Begin<'a> {
    pub(super) storage: &'a dyn StorageBackend,
    pub(super) clock: &'a dyn Clock,
    pub(super) tenant: TenantId,
    pub(super) waiting: &'a [DeliveryRow],
}

#[async_trait]
impl BeforeFinalDot for Begin<'_> {
    async fn permit(&self, handover: &Handover<'_>) -> Result<(), String> {
        let (at, facts) = (self.clock.now(), timeline::host(handover.facts).map(|facts| facts.to_json()));
        let begun = |place: &usize| {
            Some(Attempt {
                recipient: self.waiting.get(*place)?.id,
                at,
                outcome: AttemptOutcome::Begun,
                host: Some(handover.host.to_owned()),
                result: "the end of the message is being sent".to_owned(),
                notice: None,
                facts: facts.clone(),
            })
        };
        let attempts = handover.accepted.iter().filter_map(begun).collect();
        let recorded = accept(self.storage, Acceptance { attempts, ..Acceptance::new(self.tenant) }).await;
        recorded.map_err(|error| format!("not sent, for it can't be recorded: {}", crate::error::chain(&error)))
    }
}

impl Workers {
    /// Says of the attempts that another worker has begun that they are in doubt; whether there are any.
    pub(super) async fn doubt(
        &self,
        lease: &Lease,
        row: &MessageRow,
        waiting: &[DeliveryRow],
    ) -> Result<bool, StoreError> {
        // The first worker of a job finds nothing of others.
        if lease.attempts < 2 {
            return Ok(false);
        }
        let now = self.clock.now();
        let mut attempts = self.storage.deliveries().attempts(lease.tenant, row.id).await?;
        attempts.retain(|attempt| {
            attempt.outcome == AttemptOutcome::Begun && waiting.iter().any(|row| row.id == attempt.recipient)
        });
        for attempt in &mut attempts {
            attempt.outcome = AttemptOutcome::InDoubt;
            attempt.result =
                format!("broke off at {} when the end of the message was being sent", attempt.at.to_rfc3339());
            attempt.at = now;
            self.metrics.delivery_attempted(attempt.outcome);
            tracing::warn!(
                component = "deliver",
                message_id = %row.id,
                recipient_id = %attempt.recipient,
                host = attempt.host.as_deref().unwrap_or("none"),
                "an attempt is in doubt: the recipient may have the message"
            );
        }
        let any = !attempts.is_empty();
        if any {
            let events = match self.settings.in_doubt {
                InDoubt::Hold => attempts.iter().filter_map(|attempt| held(row, waiting, attempt)).collect(),
                InDoubt::Resend => Vec::new(),
            };
            accept(&*self.storage, Acceptance { attempts, events, ..Acceptance::new(lease.tenant) }).await?;
        }
        Ok(any)
    }
}

/// What there is to tell about an attempt that is in doubt.
fn held(row: &MessageRow, waiting: &[DeliveryRow], attempt: &Attempt) -> Option<NewEvent> {
    let recipient = waiting.iter().find(|recipient| recipient.id == attempt.recipient)?;
    let told = Told {
        kind: EventKind::MessageHeld,
        recipient: recipient.address.to_string(),
        attempt: recipient.attempts + 1,
        host: attempt.host.as_deref(),
        reply: None,
        result: &attempt.result,
        next_attempt: None,
        notice: None,
        late: false,
    };
    Some(events::delivery(row, told, attempt.at))
}
