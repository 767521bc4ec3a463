//! How attempts ended, recipient by recipient.

use mairust_core::{EmailAddress, MessageId, RecipientDsn, RecipientId, Timestamp};
use mairust_hooks::EventKind;
use mairust_smtp::client::{AttemptFacts, Notices, Outcome, Receiver, RecipientReport};
use mairust_store::{Attempt, AttemptOutcome, DeliveryRow, MessageRow, NewEvent};

use super::Disposition;
use super::doubt::InDoubt;
use super::dsn::{Action, Report};
use crate::events::{self, Told};
use crate::timeline;

/// How an attempt ended for one recipient, and whether it was the last.
pub(super) struct Tried {
    recipient: RecipientId,
    pub(super) address: EmailAddress,
    pub(super) outcome: AttemptOutcome,
    pub(super) host: Option<String>,
    reply: Option<mairust_core::Reply>,
    pub(super) detail: String,
    /// The number of the attempt, counted from 1.
    number: u32,
    dsn: RecipientDsn,
    /// Whether the sender knows that it is late.
    told_of_delay: bool,
    notices: Notices,
    pub(super) facts: AttemptFacts,
}

impl Tried {
    /// What the sender is told about it, if anything. `late` says until when it is tried if it is late.
    pub(super) fn report(&self, late: Option<Timestamp>) -> Option<Report> {
        let action = match (self.outcome, self.notices) {
            (AttemptOutcome::Failed, _) => Action::Failed,
            (AttemptOutcome::Delivered, Notices::StayHere) => Action::Relayed,
            (AttemptOutcome::Deferred, _) => Action::Delayed(late.filter(|_| !self.told_of_delay)?),
            (AttemptOutcome::Delivered, Notices::PassedOn)
            | (AttemptOutcome::Begun | AttemptOutcome::Cancelled | AttemptOutcome::InDoubt, _) => return None,
        };
        action.is_wanted(&self.dsn).then(|| Report {
            recipient: self.address.clone(),
            dsn: self.dsn.clone(),
            action,
            host: self.host.clone(),
            reply: self.reply.clone(),
            detail: self.detail.clone(),
        })
    }

    pub(super) fn attempt(&self, at: Timestamp, notice: Option<MessageId>) -> Attempt {
        Attempt {
            recipient: self.recipient,
            at,
            outcome: self.outcome,
            host: self.host.clone(),
            result: self.detail.clone(),
            notice,
            facts: timeline::host(&self.facts).map(|facts| facts.to_json()),
        }
    }

    /// What there is to tell about it, when this becomes of the job.
    pub(super) fn event(
        &self,
        row: &MessageRow,
        disposition: &Disposition,
        notice: Option<MessageId>,
        now: Timestamp,
    ) -> Option<NewEvent> {
        let (kind, next_attempt) = match (self.outcome, disposition) {
            (AttemptOutcome::Delivered, _) => (EventKind::MessageSent, None),
            (AttemptOutcome::Failed, _) => (EventKind::MessageBounced, None),
            (AttemptOutcome::InDoubt, Disposition::Hold(..)) => (EventKind::MessageHeld, None),
            (AttemptOutcome::Deferred | AttemptOutcome::InDoubt, Disposition::Retry(wait, _)) => {
                (EventKind::MessageDeferred, Some(now.plus(*wait)))
            }
            // Another recipient's delivery is in doubt, and all of the job is held.
            (AttemptOutcome::Deferred | AttemptOutcome::InDoubt, _) => (EventKind::MessageDeferred, None),
            (AttemptOutcome::Begun | AttemptOutcome::Cancelled, _) => return None,
        };
        let (host, reply) = (self.host.as_deref(), self.reply.as_ref());
        let (recipient, attempt, result) = (self.address.to_string(), self.number, self.detail.as_str());
        Some(events::delivery(row, Told { kind, recipient, attempt, host, reply, result, next_attempt, notice }, now))
    }
}

/// A recipient as the client knows it.
pub(super) fn receiver(row: &DeliveryRow) -> Receiver {
    Receiver { address: row.address.clone(), dsn: row.dsn.clone() }
}

/// Joins recipients with their reports. When it was the last attempt, what would be tried again has failed.
pub(super) fn tried(
    waiting: &[DeliveryRow],
    reports: Vec<RecipientReport>,
    last: bool,
    in_doubt: InDoubt,
) -> Vec<Tried> {
    let join = |(row, report): (&DeliveryRow, RecipientReport)| {
        let outcome = recorded(report.outcome);
        let again =
            outcome == AttemptOutcome::Deferred || (outcome == AttemptOutcome::InDoubt && in_doubt == InDoubt::Resend);
        let (outcome, detail) = match last && again {
            true => {
                (AttemptOutcome::Failed, format!("given up after {} attempts: {}", row.attempts + 1, report.detail))
            }
            false => (outcome, report.detail),
        };
        Tried {
            recipient: row.id,
            address: row.address.clone(),
            outcome,
            host: report.host,
            reply: report.reply,
            detail,
            number: row.attempts + 1,
            dsn: row.dsn.clone(),
            told_of_delay: row.delay_told_at.is_some(),
            notices: report.notices,
            facts: report.facts,
        }
    };
    waiting.iter().zip(reports).map(join).collect()
}

/// What is recorded of an outcome.
fn recorded(outcome: Outcome) -> AttemptOutcome {
    match outcome {
        Outcome::Deferred => AttemptOutcome::Deferred,
        Outcome::Delivered => AttemptOutcome::Delivered,
        Outcome::Failed => AttemptOutcome::Failed,
        Outcome::InDoubt => AttemptOutcome::InDoubt,
    }
}

/// Everybody who waits for a message that is given up.
pub(super) fn failed(waiting: &[DeliveryRow], detail: &str) -> Vec<Tried> {
    let fail = |row: &DeliveryRow| Tried {
        recipient: row.id,
        address: row.address.clone(),
        outcome: AttemptOutcome::Failed,
        host: None,
        reply: None,
        detail: detail.to_owned(),
        number: row.attempts + 1,
        dsn: row.dsn.clone(),
        told_of_delay: row.delay_told_at.is_some(),
        notices: Notices::StayHere,
        facts: AttemptFacts::default(),
    };
    waiting.iter().map(fail).collect()
}
