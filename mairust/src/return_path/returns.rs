//! Mail that came back: what the reports of hosts change, and whether the sender gets to see them.

use std::io::Read;

use mairust_core::report::READ_BYTES;
use mairust_core::{
    Body, DeliveryReport, MessageId, RecipientStatus, Rejection, Reply, ReportedAction, TenantId, Timestamp,
};
use mairust_hooks::EventKind;
use mairust_store::{
    Acceptance, Attempt, AttemptOutcome, DeliveryRow, DeliveryState, HoldReason, MessageRow, NewEvent, NewMessage,
    QueueAction, QueueFilter, StoreError, StoreErrorKind,
};

use super::ReturnPaths;
use crate::acceptance::accept;
use crate::distribution::{Destination, LocalDestination, ReturnedDestination};
use crate::events::{self, Told};
use crate::receive::refuse_for_store;
use crate::suppress::no_such_mailbox;

/// How often is looked anew when something else happened to a recipient meanwhile.
const TRIES: usize = 3;

/// A message that came back to a return path. It is its only recipient.
#[derive(Debug)]
pub(crate) struct Returned {
    to: ReturnedDestination,
    /// What it reports, if it is a report.
    report: Option<DeliveryReport>,
}

/// A recipient whose delivery has failed after all.
#[derive(Debug)]
struct Bounce<'r> {
    recipient: DeliveryRow,
    message: MessageRow,
    status: &'r RecipientStatus,
    reporter: Option<&'r str>,
    /// The copy for the sender.
    notice: Option<MessageId>,
}

impl Returned {
    /// Reads what came back; `None` if the message is for no return path.
    ///
    /// # Errors
    /// When the body can't be read.
    pub(crate) async fn read(destinations: &[Destination], body: &Body) -> Result<Option<Self>, Rejection> {
        let Some(to) = destinations.iter().find_map(Destination::returned).cloned() else { return Ok(None) };
        let body = body.clone();
        let read = move || {
            let mut front = Vec::new();
            body.reader().take(READ_BYTES as u64).read_to_end(&mut front)?;
            Ok::<_, std::io::Error>(DeliveryReport::parse(&front))
        };
        let report = tokio::task::spawn_blocking(read).await.map_err(Rejection::unavailable)?;
        Ok(Some(Self { to, report: report.map_err(Rejection::unavailable)? }))
    }

    /// Whether it is kept: the sender of the message that came back may not want to hear what a report says
    /// (RFC 3461 §4.1).
    pub(crate) fn is_kept(&self) -> bool {
        let (Some(report), Some(notify)) = (&self.report, self.to.notify) else { return true };
        report.recipients.iter().any(|status| match status.action {
            ReportedAction::Delayed => notify.delay,
            ReportedAction::Failed => notify.failure,
            ReportedAction::Delivered | ReportedAction::Expanded | ReportedAction::Relayed => notify.success,
        })
    }

    /// The failure that it reports, if it does.
    fn failure(&self) -> Option<&RecipientStatus> {
        self.report.as_ref().and_then(|report| report.failure(&self.to.was_for))
    }
}

impl ReturnPaths {
    /// Accepts what is kept of a message that came back, together with what it changes. A report changes something
    /// once, however often it comes.
    ///
    /// # Errors
    /// For the peer: the store fails, the delivery has not ended yet, or the sender takes no mail.
    pub(crate) async fn accept(&self, returned: &Returned, kept: Acceptance) -> Result<(), Rejection> {
        let refuse = |error: StoreError| refuse_for_store(&error);
        for _ in 0..TRIES {
            let (mut acceptance, tenant) = (kept.clone(), kept.tenant);
            let Some(bounce) = self.bounce(returned, &kept).await? else {
                self.keep(returned, acceptance).await?;
                self.metrics.came_back(match (&returned.report, returned.failure()) {
                    (None, _) => "no_report",
                    (Some(_), None) => "no_failure",
                    (Some(_), Some(_)) => "known",
                });
                return Ok(());
            };
            let now = self.clock.now();
            acceptance.attempts.push(bounce.attempt(now));
            acceptance.events.push(bounce.event(now));
            if no_such_mailbox(bounce.status.code()) {
                let address = vec![(bounce.recipient.address.clone(), bounce.said())];
                acceptance.suppressions = self.suppressing.lacking(tenant, address, now).await.map_err(refuse)?;
            }
            let suppressions = acceptance.suppressions.clone();
            match accept(&*self.storage, acceptance).await {
                // Something else was recorded about the recipient meanwhile.
                Err(error) if error.kind() == StoreErrorKind::Conflict => {}
                answer => {
                    answer.map_err(refuse)?;
                    self.suppressing.tell(tenant, suppressions);
                    self.tell(tenant, &bounce).await;
                    return Ok(());
                }
            }
        }
        Err(Rejection::unavailable("a recipient whose mail came back does not come to rest"))
    }

    /// Keeps a message that changes nothing, if its sender takes mail.
    async fn keep(&self, returned: &Returned, kept: Acceptance) -> Result<(), Rejection> {
        match &returned.to.refused {
            // The sender does not want to see it.
            _ if kept.messages.is_empty() => Ok(()),
            Some(rejection) => Err(rejection.clone()),
            None => accept(&*self.storage, kept).await.map_err(|error| refuse_for_store(&error)),
        }
    }

    /// What a report of failure changes now, if it does.
    async fn bounce<'r>(&self, returned: &'r Returned, kept: &Acceptance) -> Result<Option<Bounce<'r>>, Rejection> {
        let Some(status) = returned.failure() else { return Ok(None) };
        let Some((recipient, message)) = self.find(kept.tenant, &returned.to).await? else { return Ok(None) };
        let reporter = returned.report.as_ref().and_then(|report| report.reporter.as_deref());
        let notice = copy_for(&kept.messages, &returned.to.local);
        Ok(Some(Bounce { recipient, message, status, reporter, notice }))
    }

    /// The recipient and the message as they are now, if a report changes what became of them.
    async fn find(
        &self,
        tenant: TenantId,
        returned: &ReturnedDestination,
    ) -> Result<Option<(DeliveryRow, MessageRow)>, Rejection> {
        let refuse = |error: StoreError| refuse_for_store(&error);
        let (deliveries, lifecycle, id) = (self.storage.deliveries(), self.storage.lifecycle(), returned.recipient);
        let Some(recipient) = deliveries.recipient(tenant, id).await.map_err(refuse)? else { return Ok(None) };
        let Some(message) = lifecycle.kept(tenant, recipient.message).await.map_err(refuse)? else { return Ok(None) };
        if !recipient.state.is_settled() {
            let attempts = deliveries.attempts(tenant, message.id).await.map_err(refuse)?;
            let begun = |attempt: &Attempt| attempt.recipient == id && attempt.outcome == AttemptOutcome::Begun;
            if attempts.iter().any(begun) {
                // The host was faster than we are.
                return Err(Rejection::unavailable("mail came back before its delivery was recorded"));
            }
        }
        let was_taken = matches!(recipient.state, DeliveryState::Delivered | DeliveryState::InDoubt);
        Ok(was_taken.then_some((recipient, message)))
    }

    /// Tells of what is durable now.
    async fn tell(&self, tenant: TenantId, bounce: &Bounce<'_>) {
        self.metrics.came_back("bounced");
        bounce.log();
        let is_refused = bounce.status.reply.as_ref().is_some_and(Reply::is_permanent);
        if let (Some(sender), true) = (bounce.message.sender.address(), is_refused) {
            self.policy.bounced(tenant, sender, 1, self.clock.now()).await;
        }
        if bounce.recipient.state != DeliveryState::InDoubt {
            return;
        }
        if let Err(error) = self.end_held(tenant, &bounce.recipient).await {
            let error = crate::error::chain(&error);
            tracing::error!(component = "return_path", error, "a delivery without a purpose may stay held");
        }
    }

    /// Releases the delivery that was held since it was in doubt, if nobody waits for it any more: a worker ends it.
    async fn end_held(&self, tenant: TenantId, recipient: &DeliveryRow) -> Result<(), StoreError> {
        let destination = recipient.address.domain();
        let waits = |row: &DeliveryRow| !row.state.is_settled() && row.address.domain() == destination;
        if self.storage.deliveries().recipients(tenant, recipient.message).await?.iter().any(waits) {
            return Ok(());
        }
        let filter = QueueFilter {
            message: Some(recipient.message),
            destination: Some(destination.as_str().to_owned()),
            held: Some(HoldReason::InDoubt),
            ..QueueFilter::default()
        };
        self.storage.queue().change(tenant, &filter, &QueueAction::Release, self.clock.now(), None, 1).await.map(drop)
    }
}

impl Bounce<'_> {
    fn attempt(&self, at: Timestamp) -> Attempt {
        Attempt {
            recipient: self.recipient.id,
            at,
            outcome: AttemptOutcome::Reported,
            host: self.reporter.map(str::to_owned),
            result: self.result(),
            notice: self.notice,
            facts: None,
        }
    }

    fn event(&self, at: Timestamp) -> NewEvent {
        let told = Told {
            kind: EventKind::MessageBounced,
            recipient: self.recipient.address.to_string(),
            attempt: self.recipient.attempts,
            host: self.reporter,
            reply: self.status.reply.as_ref(),
            result: &self.result(),
            next_attempt: None,
            notice: self.notice,
            late: true,
        };
        events::delivery(&self.message, told, at)
    }

    /// The reply of the host that refused the message, or what else is known of the reason.
    fn said(&self) -> String {
        let RecipientStatus { reply, diagnostic, status, .. } = self.status;
        let diagnostic = || diagnostic.as_ref().map_or_else(|| status.to_string(), |text| format!("{status} {text}"));
        reply.as_ref().map_or_else(diagnostic, ToString::to_string)
    }

    fn result(&self) -> String {
        match &self.status.remote {
            Some(host) => format!("it came back: {host} said {}", self.said()),
            None => format!("it came back: {}", self.said()),
        }
    }

    fn log(&self) {
        tracing::info!(
            component = "return_path",
            message_id = %self.message.id,
            recipient = %self.recipient.address,
            reporter = self.reporter.unwrap_or("none"),
            code = self.status.code().map(tracing::field::display),
            result = self.result(),
            "mail that was taken came back"
        );
    }
}

/// The id of the copy that goes to a place.
fn copy_for(messages: &[NewMessage], place: &LocalDestination) -> Option<MessageId> {
    let sent_on = place.forwards.as_ref().map(|(mailbox, _)| mailbox);
    let mut copies = messages.iter().flat_map(|message| &message.placements);
    let is_there = |mailbox| place.mailboxes.contains(mailbox) || Some(mailbox) == sent_on;
    copies.find(|copy| is_there(&copy.mailbox)).map(|copy| copy.id)
}

#[cfg(test)]
mod tests {
    use mairust_core::{EmailAddress, MailboxId, Notify, RecipientDsn, RecipientId};

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix(1_763_780_646);

    fn returned(notify: Option<&str>) -> ReturnedDestination {
        let (tenant, address) = (TenantId::new(NOW), EmailAddress::parse("alice@here.example").unwrap());
        let (mailboxes, dsn) = (vec![MailboxId::new(NOW)], RecipientDsn::default());
        ReturnedDestination {
            address: address.clone(),
            local: LocalDestination { tenant, address, mailboxes, forwards: None, dsn },
            recipient: RecipientId::new(NOW),
            was_for: EmailAddress::parse("bob@remote.example").unwrap(),
            notify: notify.map(|text| Notify::parse(text).unwrap()),
            refused: None,
        }
    }

    fn message(action: &str) -> Body {
        let report = format!(
            "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\
             Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.remote.example\r\n\r\n\
             Final-Recipient: rfc822; bob@remote.example\r\nAction: {action}\r\nStatus: 5.1.1\r\n\r\n--b--\r\n"
        );
        Body::from(report.into_bytes())
    }

    async fn is_kept(notify: Option<&str>, message: &Body) -> bool {
        let destination = [Destination::Returned(returned(notify))];
        Returned::read(&destination, message).await.unwrap().unwrap().is_kept()
    }

    #[tokio::test]
    async fn senders_see_what_they_asked_for() {
        for (action, notify, kept) in [
            ("failed", None, true),
            ("failed", Some("NEVER"), false),
            ("failed", Some("SUCCESS,DELAY"), false),
            ("failed", Some("FAILURE"), true),
            ("delayed", Some("FAILURE"), false),
            ("delayed", Some("DELAY"), true),
            ("relayed", Some("SUCCESS"), true),
            ("delivered", Some("FAILURE"), false),
        ] {
            assert_eq!(is_kept(notify, &message(action)).await, kept, "{action} {notify:?}");
        }
        let other = Body::from(b"Subject: I am away\r\n\r\n".to_vec());
        assert!(is_kept(Some("NEVER"), &other).await, "what is no report is mail");
        let local = [Destination::Local(returned(None).local)];
        assert!(Returned::read(&local, &message("failed")).await.unwrap().is_none());
    }
}
