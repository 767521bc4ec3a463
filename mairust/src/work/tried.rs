//! How an attempt ended for each recipient, and what is recorded and told of it.

use mairust_core::{EmailAddress, MessageId, RecipientDsn, RecipientId, Reply, Timestamp};
use mairust_hooks::EventKind;
use mairust_smtp::client::{AttemptFacts, Notices, Outcome, Receiver, RecipientReport};
use mairust_store::{Attempt, AttemptOutcome, DeliveryRow, MessageRow, NewEvent};

use super::Disposition;
use super::doubt::InDoubt;
use super::dsn::{Action, Report};
use crate::events::{self, Told};
use crate::suppress::no_such_mailbox;
use crate::timeline;

/// How an attempt ended for one recipient, and whether it was the last.
pub(super) struct Tried {
    pub(super) recipient: RecipientId,
    pub(super) address: EmailAddress,
    pub(super) outcome: AttemptOutcome,
    pub(super) host: Option<String>,
    pub(super) reply: Option<Reply>,
    pub(super) detail: String,
    /// The number of the attempt, counted from 1.
    pub(super) number: u32,
    pub(super) dsn: RecipientDsn,
    /// Whether the sender knows that it is late.
    pub(super) told_of_delay: bool,
    /// What the sender may hear if it was delivered.
    pub(super) arrived: Option<Action>,
    pub(super) facts: AttemptFacts,
}

impl Tried {
    /// What came of an attempt that got to no host. When it was the `last`, what would be tried again has failed.
    pub(super) fn new(row: &DeliveryRow, outcome: AttemptOutcome, detail: String, last: bool) -> Self {
        let again = matches!(outcome, AttemptOutcome::Deferred | AttemptOutcome::InDoubt);
        let (outcome, detail) = match last && again {
            true => (AttemptOutcome::Failed, format!("given up after {} attempts: {detail}", row.attempts + 1)),
            false => (outcome, detail),
        };
        Self {
            recipient: row.id,
            address: row.address.clone(),
            outcome,
            host: None,
            reply: None,
            detail,
            number: row.attempts + 1,
            dsn: row.dsn.clone(),
            told_of_delay: row.delay_told_at.is_some(),
            arrived: None,
            facts: AttemptFacts::default(),
        }
    }

    /// What the sender is told about it, if anything. `late` says until when it is tried if it is late.
    pub(super) fn report(&self, late: Option<Timestamp>) -> Option<Report> {
        let action = match self.outcome {
            AttemptOutcome::Failed => Action::Failed,
            AttemptOutcome::Delivered => self.arrived?,
            AttemptOutcome::Deferred => Action::Delayed(late.filter(|_| !self.told_of_delay)?),
            AttemptOutcome::Begun | AttemptOutcome::Cancelled | AttemptOutcome::InDoubt | AttemptOutcome::Reported => {
                return None;
            }
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

    /// The address and the reply of its host, if that says that there is no such mailbox.
    pub(super) fn bounced(&self) -> Option<(EmailAddress, String)> {
        let reply = self.reply.as_ref().filter(|reply| no_such_mailbox(reply.enhanced()))?;
        let failed = self.outcome == AttemptOutcome::Failed && self.host.is_some();
        failed.then(|| (self.address.clone(), reply.to_string()))
    }

    /// Whether the host refused the recipient for good.
    pub(super) fn is_refused(&self) -> bool {
        let refused = self.reply.as_ref().is_some_and(Reply::is_permanent);
        self.outcome == AttemptOutcome::Failed && self.host.is_some() && refused
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
            (AttemptOutcome::Begun | AttemptOutcome::Cancelled | AttemptOutcome::Reported, _) => return None,
        };
        let (host, reply) = (self.host.as_deref(), self.reply.as_ref());
        let (recipient, attempt, result) = (self.address.to_string(), self.number, self.detail.as_str());
        let told = Told { kind, recipient, attempt, host, reply, result, next_attempt, notice, late: false };
        Some(events::delivery(row, told, now))
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
        let last = last && (outcome != AttemptOutcome::InDoubt || in_doubt == InDoubt::Resend);
        Tried {
            host: report.host,
            reply: report.reply,
            arrived: (report.notices == Notices::StayHere).then_some(Action::Relayed),
            facts: report.facts,
            ..Tried::new(row, outcome, report.detail, last)
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
    let fail = |row: &DeliveryRow| Tried::new(row, AttemptOutcome::Failed, detail.to_owned(), false);
    waiting.iter().map(fail).collect()
}
