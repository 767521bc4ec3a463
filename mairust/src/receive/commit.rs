//! Last stage: the message becomes durable, with the jobs that follow from it.

use mairust_core::{MessageId, Rejection};
use mairust_hooks::{HookPoint, HookRunner};
use mairust_store::{Acceptance, Direction, NewJob, NewMessage, Placement};

use super::judge::Judged;
use super::recipient::Destination;
use super::trace::{Trace, return_path};
use super::{Receiver, refuse_for_store};
use crate::work::job::Job;

/// Stores the message; after this, and only after this, 250 may be said.
pub(crate) async fn commit(judged: Judged, receiver: &Receiver) -> Result<MessageId, Rejection> {
    let now = receiver.clock.now();
    let placements = placements(&judged, now);
    let (Some(first), Some((tenant, _))) =
        (placements.first(), judged.inspected.destinations.iter().find_map(Destination::local))
    else {
        return Err(Rejection::unavailable("a message without a recipient here came to its end"));
    };
    let id = first.id;
    let (inspected, report) = (judged.inspected, judged.report);
    let trace = Trace {
        hostname: &receiver.hostname,
        origin: &inspected.origin,
        protocol: inspected.protocol,
        id,
        recipient: only(&inspected.envelope.recipients),
        at: now,
    };
    // What stands above our Received was written by us.
    let spam = report.as_ref().map(|report| super::scan::fields(report, &receiver.hostname)).unwrap_or_default();
    let prefix = return_path(&inspected.envelope.sender) + &spam + &trace.received();
    let acceptance = Acceptance {
        tenant,
        jobs: placements.iter().flat_map(|placement| hook_jobs(&receiver.hooks, tenant, placement.id, now)).collect(),
        messages: vec![NewMessage {
            prefix: prefix.into(),
            body: inspected.body,
            content: inspected.content,
            sender: inspected.envelope.sender,
            received_at: now,
            placements,
        }],
        recipients: Vec::new(),
        attempts: Vec::new(),
    };
    accept(receiver, acceptance).await?;
    tracing::info!(component = "receive", message_id = %id, tenant_id = %tenant, "message stored");
    Ok(id)
}

async fn accept(receiver: &Receiver, acceptance: Acceptance) -> Result<(), Rejection> {
    let answer = receiver.storage.messages().accept(vec![acceptance]).await.pop();
    answer.unwrap_or_else(|| Err(crate::error::no_answer())).map_err(|error| refuse_for_store(&error))
}

/// One row per mailbox, however many of its addresses are recipients.
fn placements(judged: &Judged, now: mairust_core::Timestamp) -> Vec<Placement> {
    let mut placements: Vec<Placement> = Vec::new();
    for destination in &judged.inspected.destinations {
        if let Destination::Mailbox { mailbox, address, .. } = destination
            && placements.iter().all(|placement| placement.mailbox != *mailbox)
        {
            placements.push(Placement {
                id: MessageId::new(now),
                mailbox: *mailbox,
                folder: judged.folder,
                address: address.clone(),
                direction: Direction::Inbound,
                status: judged.status,
            });
        }
    }
    placements
}

/// One job for each `post_receive` hook.
pub(crate) fn hook_jobs(
    hooks: &HookRunner,
    tenant: mairust_core::TenantId,
    message: MessageId,
    now: mairust_core::Timestamp,
) -> Vec<NewJob> {
    let names = hooks.names(HookPoint::PostReceive);
    names.into_iter().map(|hook| Job::PostReceive { message, hook: hook.to_owned() }.queued(tenant, now)).collect()
}

/// The recipient, if there is just one.
fn only<T>(list: &[T]) -> Option<&T> {
    match list {
        [only] => Some(only),
        _ => None,
    }
}
