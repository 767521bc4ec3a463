//! Deliveries in which each recipient has a return path of their own, and so a transaction of their own (VERP).

use std::slice;

use mairust_core::{Body, Domain};
use mairust_smtp::client::{Outcome, RecipientReport, Route};
use mairust_store::{AttemptOutcome, DeliveryRow, Lease, MessageRow, StoreError};

use super::deliver::{Attempted, Delivery, Ended, outgoing};
use super::doubt::Begin;
use super::lanes::is_too_much;
use super::tried::{Tried, tried};
use super::{Disposition, Workers};
use crate::return_path::{ReturnPath, ReturnPaths};

/// A delivery that goes to each recipient apart.
pub(super) struct Apart<'a> {
    pub(super) lease: &'a Lease,
    pub(super) delivery: &'a Delivery,
    pub(super) body: &'a Body,
    pub(super) route: Route,
    /// The domain of the return paths.
    pub(super) domain: Domain,
    /// Whether there is no further attempt.
    pub(super) last: bool,
}

impl Workers {
    /// The domain of return paths for the recipients of a message; `None` if all of them get the sender's address.
    pub(super) async fn return_domain(&self, row: &MessageRow) -> Result<Option<Domain>, StoreError> {
        match &self.return_paths {
            Some(paths) if self.settings.return_path == ReturnPath::Verp => paths.domain(row).await,
            _ => Ok(None),
        }
    }

    /// Sends the message to one recipient after the other. Who has it while others have to wait is recorded at once:
    /// a crash must not leave them in doubt. What came of the others is left to the caller.
    pub(super) async fn attempt_apart(&self, apart: Apart<'_>) -> Vec<Tried> {
        let waiting = &*apart.delivery.waiting;
        let mut results = Vec::new();
        for (place, row) in waiting.iter().enumerate() {
            let rest = &waiting[place + 1..];
            if place > 0 {
                self.lanes.one_more(row.address.domain().as_str());
            }
            let reports = self.send_to_one(&apart, row).await;
            let of_host = reports.iter().find(|report| !is_about_recipient(report)).cloned();
            let ended = tried(slice::from_ref(row), reports, apart.last, self.settings.in_doubt);
            let is_delivered = ended.iter().all(|one| one.outcome == AttemptOutcome::Delivered);
            if is_delivered && !rest.is_empty() {
                self.record_one(&apart, ended).await;
            } else {
                results.extend(ended);
            }
            if let Some(report) = of_host {
                results.extend(not_tried(&report, rest, apart.last));
                break;
            }
        }
        results
    }

    async fn send_to_one(&self, apart: &Apart<'_>, row: &DeliveryRow) -> Vec<RecipientReport> {
        let to = slice::from_ref(row);
        let mut message = outgoing(&apart.delivery.row, to, apart.body);
        let sender = |paths: &ReturnPaths| paths.sender(row.id, &apart.domain);
        message.sender = self.return_paths.as_deref().map_or(message.sender, sender);
        let (storage, clock, tenant) = (&*self.storage, &*self.clock, apart.lease.tenant);
        let begin = Begin { storage, clock, tenant, waiting: to };
        self.client.deliver(&apart.route, &message, &begin).await
    }

    /// Records a result while the job goes on.
    async fn record_one(&self, apart: &Apart<'_>, ended: Vec<Tried>) {
        let Apart { lease, delivery, body, .. } = *apart;
        self.log(delivery.row.id, &ended);
        ended.iter().for_each(|one| self.learn(one.address.domain(), slice::from_ref(one)));
        let (attempted, disposition) = (Attempted::from(ended), Disposition::Complete);
        self.record(Ended { lease, delivery, attempted: &attempted, original: body, disposition: &disposition }).await;
    }
}

/// Whether a report tells nothing of how others at the same domain would fare: it is a host's answer, and the host
/// neither closes the connection with it (RFC 5321 §3.8) nor says that it gets too much.
fn is_about_recipient(report: &RecipientReport) -> bool {
    let of_host = report.reply.as_ref().filter(|_| report.host.is_some());
    of_host.is_some_and(|reply| reply.code() != 421 && !is_too_much(reply))
}

/// The others, who have not been tried since no host was reached, or the one that was wants no more.
fn not_tried(report: &RecipientReport, rest: &[DeliveryRow], last: bool) -> Vec<Tried> {
    let outcome = match report.outcome {
        // There is no host for the domain.
        Outcome::Failed => AttemptOutcome::Failed,
        _ => AttemptOutcome::Deferred,
    };
    rest.iter().map(|row| Tried::new(row, outcome, report.detail.clone(), last)).collect()
}
