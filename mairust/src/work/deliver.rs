//! Brings an outbound message to its recipients at one domain, and tells the sender about those
//! who could not be reached.

use std::time::Duration;

use mairust_core::{Body, Domain, MessageId, ReversePath, Timestamp};
use mairust_smtp::client::{LineEnds, Outgoing, Relay, Route, TlsRule};
use mairust_store::{
    Acceptance, AttemptOutcome, DeliveryRow, HoldReason, Lease, MessageRow, StoreError, StoreErrorKind, pause,
};

use super::apart::Apart;
use super::doubt::{Begin, InDoubt};
use super::dsn::Report;
use super::local::Places;
use super::retry::{Next, jitter};
use super::tried::{Tried, failed, receiver, tried};
use super::{Disposition, Workers};
use crate::acceptance::accept;

/// Wait before a job is tried again when the fault is ours.
const OWN_FAULT_PAUSE: Duration = Duration::from_secs(10);

/// A message on its way, and those of its recipients who are waiting.
pub(super) struct Delivery {
    pub(super) row: MessageRow,
    /// Or why it can't be read.
    body: Result<Body, StoreError>,
    pub(super) waiting: Vec<DeliveryRow>,
    /// When it was due first: when it came in, unless it was held until then.
    pub(super) due: Timestamp,
    /// Whether a worker that is gone may have brought it to one of them.
    in_doubt: bool,
}

/// The way of a delivery.
enum Way {
    /// To places here.
    Here(Places),
    /// To another server.
    There(Route),
}

/// What came of an attempt.
pub(super) struct Attempted {
    pub(super) results: Vec<Tried>,
    /// Copies that become durable with the results; of other tenants, before them.
    pub(super) copies: Vec<Acceptance>,
}

impl From<Vec<Tried>> for Attempted {
    fn from(results: Vec<Tried>) -> Self {
        Self { results, copies: Vec::new() }
    }
}

impl Workers {
    pub(super) async fn deliver(&self, lease: &Lease, message: MessageId, domain: &Domain) -> Disposition {
        if lease.give_up {
            return self.give_up(lease, message, domain, "given up by an operator").await;
        }
        let (delivery, way) = match self.begin(lease, message, domain).await {
            Ok(Ok(begun)) => begun,
            Ok(Err(disposition)) => return disposition,
            Err(error) => {
                let reason = crate::error::chain(&error);
                tracing::error!(component = "deliver", message_id = %message, error = reason, "not tried, the store fails");
                return Disposition::Retry(OWN_FAULT_PAUSE, reason);
            }
        };
        let age = self.clock.now().since(delivery.due);
        // Each recipient has been tried as often as the job was leased, or less.
        let next = self.settings.retry.next(lease.attempts, age, jitter(lease.job, lease.attempts));
        let (attempted, original) = match &delivery.body {
            Ok(body) => match self.attempt(lease, &delivery, body, way, next == Next::GiveUp).await {
                Ok(attempted) => (attempted, body.clone()),
                Err(error) => return Disposition::Retry(OWN_FAULT_PAUSE, crate::error::chain(&error)),
            },
            Err(error) => {
                let reason = crate::error::chain(error);
                tracing::error!(component = "deliver", message_id = %message, error = reason, "the stored message can't be read");
                match next {
                    Next::After(wait) if error.kind() != StoreErrorKind::Corrupt => {
                        return Disposition::Retry(wait, reason);
                    }
                    _ => {
                        let results = failed(&delivery.waiting, "the message was damaged in our storage");
                        (results.into(), Body::from(Vec::new()))
                    }
                }
            }
        };
        self.log(message, &attempted.results);
        self.learn(domain, &attempted.results);
        let disposition = self.after(&attempted.results, next);
        let (delivery, attempted, original) = (&delivery, &attempted, &original);
        self.record(Ended { lease, delivery, attempted, original, disposition: &disposition }).await;
        disposition
    }

    /// What becomes of the job after these results.
    fn after(&self, results: &[Tried], next: Next) -> Disposition {
        let reason = |outcome| results.iter().find(|result| result.outcome == outcome).map(|r| r.detail.clone());
        match (reason(AttemptOutcome::InDoubt), reason(AttemptOutcome::Deferred), next) {
            (Some(reason), _, _) if self.settings.in_doubt == InDoubt::Hold => {
                Disposition::Hold(HoldReason::InDoubt, reason)
            }
            (Some(reason), _, Next::After(wait)) | (None, Some(reason), Next::After(wait)) => {
                Disposition::Retry(wait, reason)
            }
            _ => Disposition::Completed,
        }
    }

    /// What is to be delivered and which way, or what becomes of the job because there is nothing to do now.
    async fn begin(
        &self,
        lease: &Lease,
        message: MessageId,
        domain: &Domain,
    ) -> Result<Result<(Delivery, Way), Disposition>, StoreError> {
        if pause::paused(&*self.storage, lease.tenant).await?.covers(domain.as_str()) {
            let reason = "this destination is paused".to_owned();
            return Ok(Err(Disposition::Hold(HoldReason::Paused, reason)));
        }
        let Some(delivery) = self.load(lease, message, domain).await? else {
            return Ok(Err(Disposition::Complete));
        };
        if delivery.in_doubt && self.settings.in_doubt == InDoubt::Hold {
            let reason = "a recipient may have the message already".to_owned();
            return Ok(Err(Disposition::Hold(HoldReason::InDoubt, reason)));
        }
        if lease.route.is_none()
            && let Some(places) = self.places(&delivery.row, &delivery.waiting).await?
        {
            return Ok(Ok((delivery, Way::Here(places))));
        }
        Ok(match self.route(lease, domain) {
            Ok(route) => Ok((delivery, Way::There(route))),
            Err(reason) => Err(Disposition::Hold(HoldReason::Operator, reason)),
        })
    }

    /// Ends a delivery that is not tried any more: everybody who waits has failed.
    pub(super) async fn give_up(
        &self,
        lease: &Lease,
        message: MessageId,
        domain: &Domain,
        reason: &str,
    ) -> Disposition {
        match self.load(lease, message, domain).await {
            Ok(None) => Disposition::Complete,
            Ok(Some(delivery)) => {
                let attempted = Attempted::from(failed(&delivery.waiting, reason));
                let original = delivery.body.as_ref().map_or_else(|_| Body::from(Vec::new()), Body::clone);
                self.log(message, &attempted.results);
                let (delivery, attempted, original) = (&delivery, &attempted, &original);
                self.record(Ended { lease, delivery, attempted, original, disposition: &Disposition::Completed }).await;
                Disposition::Completed
            }
            Err(error) => Disposition::Retry(OWN_FAULT_PAUSE, crate::error::chain(&error)),
        }
    }

    async fn attempt(
        &self,
        lease: &Lease,
        delivery: &Delivery,
        body: &Body,
        way: Way,
        last: bool,
    ) -> Result<Attempted, StoreError> {
        let route = match way {
            Way::Here(places) => return self.put(delivery, body, places, last).await,
            Way::There(route) => route,
        };
        if let Some(domain) = self.return_domain(&delivery.row).await? {
            let apart = Apart { lease, delivery, body, route, domain, last };
            return Ok(self.attempt_apart(apart).await.into());
        }
        let outgoing = outgoing(&delivery.row, &delivery.waiting, body);
        let (storage, clock, waiting) = (&*self.storage, &*self.clock, &*delivery.waiting);
        let begin = Begin { storage, clock, tenant: lease.tenant, waiting };
        let reports = self.client.deliver(&route, &outgoing, &begin).await;
        Ok(tried(waiting, reports, last, self.settings.in_doubt).into())
    }

    /// The message and its waiting recipients; `None` if there is nothing to do any more.
    async fn load(&self, lease: &Lease, message: MessageId, domain: &Domain) -> Result<Option<Delivery>, StoreError> {
        let Some(row) = self.storage.lifecycle().kept(lease.tenant, message).await? else { return Ok(None) };
        let mut waiting = self.storage.deliveries().recipients(lease.tenant, message).await?;
        waiting.retain(|recipient| !recipient.state.is_settled() && recipient.address.domain() == domain);
        if waiting.is_empty() {
            return Ok(None);
        }
        let in_doubt = self.doubt(lease, &row, &waiting).await?;
        let body = self.storage.lifecycle().kept_body(lease.tenant, message).await;
        Ok(Some(Delivery { row, body, waiting, due: lease.created_at, in_doubt }))
    }

    /// The way that a delivery goes, or why there is none.
    fn route(&self, lease: &Lease, domain: &Domain) -> Result<Route, String> {
        match (&lease.route, &self.settings.relay) {
            (Some(named), _) => {
                let unreadable = |error| format!("it can't be sent by way of {named}, as it was told to: {error}");
                detour(named).map(Route::Relay).map_err(unreadable)
            }
            (None, Some(relay)) => Ok(Route::Relay(relay.clone())),
            (None, None) => Ok(Route::Mx { domain: domain.clone(), port: self.settings.mx_port }),
        }
    }

    pub(super) fn log(&self, message: MessageId, results: &[Tried]) {
        for result in results {
            self.metrics.delivery_attempted(result.outcome);
            tracing::info!(
                component = "deliver",
                message_id = %message,
                recipient = %result.address,
                outcome = result.outcome.as_str(),
                host = result.host.as_deref().unwrap_or("none"),
                source = result.facts.source.map(tracing::field::display),
                tls = %result.facts.tls,
                tls_rule = result.facts.rule.map(TlsRule::as_str),
                reused = result.facts.reused,
                took_ms = result.facts.elapsed.as_millis() as u64,
                result = result.detail,
                "delivery attempt"
            );
        }
    }

    /// Learns from what the hosts of a domain answered whether they get too much.
    pub(super) fn learn(&self, domain: &Domain, results: &[Tried]) {
        let of_hosts = results.iter().filter(|result| result.host.is_some());
        of_hosts
            .filter_map(|result| result.reply.as_ref())
            .for_each(|reply| self.lanes.answered(domain.as_str(), reply));
    }

    /// Records the results, and completes the job if that is what becomes of it. A store that fails is asked again
    /// until it takes them, or the lease is lost: a recipient who was reached must not be sent to again.
    pub(super) async fn record(&self, ended: Ended<'_>) {
        let (mut pause, mut prepared) = (Duration::from_secs(1), None);
        while let Err(error) = self.try_record(&ended, &mut prepared).await {
            let error = crate::error::chain(&error);
            let message = ended.delivery.row.id;
            tracing::error!(component = "deliver", message_id = %message, error, "results not recorded yet");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(60));
        }
        let suppressed = prepared.map(|acceptance| acceptance.suppressions).unwrap_or_default();
        self.suppressing.tell(ended.delivery.row.tenant, suppressed);
        self.tell_policy(&ended).await;
    }

    /// Tells the policy of recipients who were refused for good by their servers.
    async fn tell_policy(&self, ended: &Ended<'_>) {
        let refused = ended.attempted.results.iter().filter(|result| result.is_refused()).count();
        let row = &ended.delivery.row;
        if let (Some(sender), 1..) = (row.sender.address(), refused) {
            let refused = u32::try_from(refused).unwrap_or(u32::MAX);
            self.policy.bounced(row.tenant, sender, refused, self.clock.now()).await;
        }
    }

    /// Records the results, and the notice about them, in one step: the same however often it is tried.
    async fn try_record(&self, ended: &Ended<'_>, prepared: &mut Option<Acceptance>) -> Result<(), StoreError> {
        let copies = &ended.attempted.copies;
        let others = copies.iter().filter(|copy| copy.tenant != ended.delivery.row.tenant).cloned().collect();
        self.keep_for_others(others).await?;
        let acceptance = match prepared {
            Some(prepared) => prepared,
            None => prepared.insert(self.results(ended, self.late(ended.delivery)).await?),
        };
        match accept(&*self.storage, acceptance.clone()).await {
            // The events are there: an earlier try did its work, and its answer was lost.
            Err(error) if error.kind() == StoreErrorKind::AlreadyExists => Ok(()),
            // Whoever has the job now told the sender of a delay. Those who were not told yet are with the
            // next attempt.
            Err(error) if error.kind() == StoreErrorKind::Conflict => {
                let acceptance = prepared.insert(self.results(ended, None).await?);
                accept(&*self.storage, acceptance.clone()).await
            }
            answer => answer,
        }
    }

    /// Until when a message is tried, if it is late enough for its sender to be told.
    fn late(&self, delivery: &Delivery) -> Option<Timestamp> {
        let (after, due) = (self.settings.delay_notice_after, delivery.due);
        let is_late = after > Duration::ZERO && self.clock.now().since(due) >= after;
        is_late.then(|| due.plus(self.settings.retry.give_up_after))
    }

    /// What is recorded of results. `late` says until when they are tried that are late.
    async fn results(&self, ended: &Ended<'_>, late: Option<Timestamp>) -> Result<Acceptance, StoreError> {
        let Ended { lease, delivery: Delivery { row, .. }, attempted, original, disposition } = ended;
        let now = self.clock.now();
        let Attempted { results, copies } = attempted;
        let reports: Vec<Report> = results.iter().filter_map(|result| result.report(late)).collect();
        let mut acceptance = match &row.sender {
            ReversePath::Address(sender) if !reports.is_empty() => {
                self.notice(row, original, sender, reports, now).await?
            }
            // Nobody is told about mail that has no sender (RFC 5321 §4.5.5).
            _ => Acceptance::new(row.tenant),
        };
        let notice = acceptance.messages.first().and_then(|notice| notice.placements.first()).map(|place| place.id);
        for result in results {
            let notice = notice.filter(|_| result.report(late).is_some());
            acceptance.attempts.push(result.attempt(now, notice));
            acceptance.events.extend(result.event(row, disposition, notice, now));
        }
        for copy in copies.iter().filter(|copy| copy.tenant == acceptance.tenant).cloned() {
            acceptance.messages.extend(copy.messages);
            acceptance.recipients.extend(copy.recipients);
            acceptance.jobs.extend(copy.jobs);
            acceptance.events.extend(copy.events);
        }
        // Who answers mail without a sender may be anybody, and so may be those whom it was for.
        if matches!(row.sender, ReversePath::Address(_)) {
            let bounced = results.iter().filter_map(Tried::bounced).collect();
            acceptance.suppressions = self.suppressing.lacking(row.tenant, bounced, now).await?;
        }
        acceptance.completes = (**disposition == Disposition::Completed).then(|| (*lease).clone());
        Ok(acceptance)
    }
}

/// The message as the client sends it to these recipients.
pub(super) fn outgoing(row: &MessageRow, to: &[DeliveryRow], body: &Body) -> Outgoing {
    Outgoing {
        sender: row.sender.clone(),
        recipients: to.iter().map(receiver).collect(),
        dsn: row.dsn.clone(),
        tls: row.tls,
        body: body.clone(),
        // Only a binary message is stored with any that stand alone.
        line_ends: LineEnds::Keep,
    }
}

/// A delivery after an attempt, or after it was given up.
pub(super) struct Ended<'a> {
    pub(super) lease: &'a Lease,
    pub(super) delivery: &'a Delivery,
    pub(super) attempted: &'a Attempted,
    /// What a notice quotes.
    pub(super) original: &'a Body,
    /// What becomes of the job.
    pub(super) disposition: &'a Disposition,
}

/// The host that an operator has named for a delivery, with TLS where it offers it.
fn detour(text: &str) -> Result<Relay, String> {
    let relay: crate::config::Relay = text.parse()?;
    Ok(Relay::new(relay.host, relay.port))
}
