//! The timeline of a message, from what was recorded about it. Nothing is guessed: what was not recorded
//! is left out.

mod entry;
mod facts;

use std::collections::HashMap;

use mairust_core::{EmailAddress, MessageId, RecipientId, TenantId};
use mairust_store::{
    Attempt, AttemptOutcome, DeliveryRow, Direction, ItemState, MessageRow, QueueFilter, QueueItem, StorageBackend,
    StoreError,
};

pub use self::entry::{NoticeAbout, Trace, TraceEntry, TraceEvent};
pub use self::facts::{
    Arrival, HookCall, HostFacts, HostTls, PolicyFacts, RuleFacts, ScanFacts, SessionFacts, SignalFacts, TlsSession,
};

/// What happened to a message, also to one that is deleted; `None` if the tenant has none of this id.
///
/// # Errors
/// When the store fails.
pub async fn trace(storage: &dyn StorageBackend, tenant: TenantId, id: MessageId) -> Result<Option<Trace>, StoreError> {
    let Some(row) = storage.lifecycle().kept(tenant, id).await? else { return Ok(None) };
    let deliveries = storage.deliveries();
    // Before the recipients: work ends when they are settled, not the other way round.
    let about = QueueFilter { message: Some(id), ..QueueFilter::default() };
    let pending = storage.queue().items(tenant, &about, None, u32::MAX).await?;
    let recipients = deliveries.recipients(tenant, id).await?;
    let attempts = deliveries.attempts(tenant, id).await?;
    let mut entries = arrival(&row, &recipients);
    entries.extend(tried(&recipients, &attempts));
    entries.extend(ended(&row, &recipients));
    // What has the same time stays in this order.
    entries.sort_by_key(|entry| entry.at);
    entries.extend(to_come(&recipients, &pending));
    Ok(Some(Trace { id: id.to_string(), direction: row.direction.as_str(), status: row.status.as_str(), entries }))
}

/// From the session to the promise.
fn arrival(row: &MessageRow, recipients: &[DeliveryRow]) -> Vec<TraceEntry> {
    let arrival = row.arrival.as_deref().and_then(Arrival::read);
    let (session, send_at, scan, policy, hooks) = match arrival {
        Some(Arrival { session, send_at, scan, policy, hooks }) => (Some(session), send_at, scan, policy, hooks),
        None => (None, None, None, None, Vec::new()),
    };
    let results = row.auth_results.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let scanned = row.spam.map(|spam| (spam.score, spam.verdict.as_str()));
    let queued: Vec<_> = recipients.iter().map(|recipient| recipient.address.to_string()).collect();
    let events = session
        .map(TraceEvent::Received)
        .into_iter()
        .chain(results.map(|results| TraceEvent::Authentication { results }))
        .chain(scanned.map(|(score, verdict)| TraceEvent::Scan { score, verdict, facts: scan }))
        .chain(policy.map(TraceEvent::Policy))
        .chain(hooks.into_iter().map(TraceEvent::Hook))
        .chain([TraceEvent::Stored {
            mailbox_id: row.mailbox.to_string(),
            folder: row.folder.as_str(),
            size: row.size,
        }])
        .chain((!queued.is_empty()).then_some(TraceEvent::Queued { recipients: queued, send_at }));
    events.map(|event| TraceEntry { at: row.received_at, event }).collect()
}

/// Attempts, each time followed by the notices that tell of them.
fn tried(recipients: &[DeliveryRow], attempts: &[Attempt]) -> Vec<TraceEntry> {
    let addresses: HashMap<RecipientId, &EmailAddress> = recipients.iter().map(|row| (row.id, &row.address)).collect();
    let address = |attempt: &Attempt| addresses.get(&attempt.recipient).map(|address| address.to_string());
    let mut entries = Vec::new();
    for at_once in attempts.chunk_by(|a, b| a.at == b.at) {
        for attempt in at_once {
            let Some(recipient) = address(attempt) else { continue };
            let event = TraceEvent::Attempt {
                recipient,
                outcome: attempt.outcome.as_str(),
                host: attempt.host.clone(),
                result: attempt.result.clone(),
                facts: attempt.facts.as_deref().and_then(HostFacts::read),
            };
            entries.push(TraceEntry { at: attempt.at, event });
        }
        entries.extend(notices(at_once, address));
    }
    entries
}

/// The notices that tell of these attempts, in order of their first ones.
fn notices(attempts: &[Attempt], address: impl Fn(&Attempt) -> Option<String>) -> Vec<TraceEntry> {
    let mut notices: Vec<(MessageId, Vec<&Attempt>)> = Vec::new();
    for attempt in attempts {
        let Some(id) = attempt.notice else { continue };
        match notices.iter_mut().find(|(known, _)| *known == id) {
            Some((_, about)) => about.push(attempt),
            None => notices.push((id, vec![attempt])),
        }
    }
    let entry = |(id, told): (MessageId, Vec<&Attempt>)| {
        let at = told.first()?.at;
        let about = |attempt: &&Attempt| Some(NoticeAbout { recipient: address(attempt)?, what: what(attempt)? });
        let about = told.iter().filter_map(about).collect();
        Some(TraceEntry { at, event: TraceEvent::Notice { message_id: id.to_string(), about } })
    };
    notices.into_iter().filter_map(entry).collect()
}

/// What a notice tells of an attempt, if there is one.
fn what(attempt: &Attempt) -> Option<&'static str> {
    match attempt.outcome {
        AttemptOutcome::Deferred => Some("delay"),
        AttemptOutcome::Delivered => Some("success"),
        AttemptOutcome::Failed | AttemptOutcome::Reported => Some("failure"),
        AttemptOutcome::Begun | AttemptOutcome::Cancelled | AttemptOutcome::InDoubt => None,
    }
}

fn ended(row: &MessageRow, recipients: &[DeliveryRow]) -> Vec<TraceEntry> {
    let waits = recipients.iter().any(|recipient| !recipient.state.is_settled());
    let settled = (row.direction == Direction::Outbound && !waits).then(|| TraceEntry {
        at: recipients.iter().map(|recipient| recipient.updated_at).max().unwrap_or(row.received_at),
        event: TraceEvent::Settled { status: row.status.as_str() },
    });
    let deleted = row.deleted_at.map(|at| TraceEntry { at, event: TraceEvent::Deleted });
    settled.into_iter().chain(deleted).collect()
}

/// Recipients who wait, a domain at a time, the one that is tried first before the others.
fn to_come(recipients: &[DeliveryRow], pending: &[QueueItem]) -> Vec<TraceEntry> {
    let mut waiting: Vec<(&str, Vec<&DeliveryRow>)> = Vec::new();
    for row in recipients.iter().filter(|row| !row.state.is_settled()) {
        let domain = row.address.domain().as_str();
        match waiting.iter_mut().find(|(known, _)| *known == domain) {
            Some((_, rows)) => rows.push(row),
            None => waiting.push((domain, vec![row])),
        }
    }
    let entry = |(domain, rows): (&str, Vec<&DeliveryRow>)| {
        let work = pending.iter().find(|work| work.destination == domain);
        let tried = rows.iter().filter(|row| row.last_result.is_some());
        let told = tried.max_by_key(|row| row.updated_at).and_then(|row| row.last_result.clone());
        let at = work.map(|work| work.not_before).or_else(|| rows.iter().map(|row| row.updated_at).max());
        let event = TraceEvent::NextAttempt {
            recipients: rows.iter().map(|row| row.address.to_string()).collect(),
            destination: domain.to_owned(),
            state: work.map_or("missing", |work| work.state.as_str()),
            held_because: work.and_then(|work| match work.state {
                ItemState::Held(reason) => Some(reason.as_str()),
                _ => None,
            }),
            attempts: work.map_or(0, |work| work.attempts),
            reason: work.and_then(|work| work.last_error.clone()).or(told),
        };
        at.map(|at| TraceEntry { at, event })
    };
    let mut entries: Vec<_> = waiting.into_iter().filter_map(entry).collect();
    entries.sort_by_key(|entry| entry.at);
    entries
}
