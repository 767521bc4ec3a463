//! Last stage: the message becomes durable, in mailboxes and to be sent on, with the jobs that follow
//! from it.

use mairust_core::{Envelope, MessageDsn, MessageId, Rejection, ScanReport, TenantId, Timestamp, TlsWish};
use mairust_hooks::HookRun;
use mairust_hooks::protocol::ActionOutcome;
use mairust_http::trace::Arrival;
use mairust_store::{Acceptance, Direction, Folder, NewJob, Placement, Spam, SpamVerdict};

use super::judge::Judged;
use super::results::to_json;
use super::trace::Trace;
use super::verify::Verified;
use super::{Receiver, refuse_for_store};
use crate::acceptance::{accept, together};
use crate::distribution::{Distribution, Keeping, Original};
use crate::hooks::About;
use crate::receipts::Fingerprint;
use crate::return_path::Returned;
use crate::timeline;
use crate::work::job::Job;

/// What is kept for one tenant.
struct Copy {
    tenant: TenantId,
    id: MessageId,
    envelope: Envelope,
    runs: Vec<HookRun>,
    outcomes: Vec<ActionOutcome>,
}

/// Stores the message for all its tenants in one step; after this, and only after this, 250 may be said.
pub(crate) async fn commit(
    judged: Vec<Judged>,
    fingerprint: Fingerprint,
    receiver: &Receiver,
) -> Result<MessageId, Rejection> {
    let now = receiver.clock.now();
    let returned = match &judged[..] {
        [Judged { verified: Verified { inspected, .. }, .. }] => {
            Returned::read(&inspected.destinations, &inspected.body).await?
        }
        // Mail that comes back has one recipient.
        _ => None,
    };
    let is_kept = returned.as_ref().is_none_or(Returned::is_kept);
    let (mut copies, mut acceptances) = (Vec::with_capacity(judged.len()), Vec::with_capacity(judged.len()));
    for one in judged {
        let (copy, acceptance) = copy(one, is_kept, fingerprint, receiver, now)?;
        copies.push(copy);
        acceptances.push(acceptance);
    }
    let (Some(Copy { tenant, id, .. }), Some(acceptance)) = (copies.first(), together(acceptances)) else {
        return Err(nobody());
    };
    receiver.receipts.begin(fingerprint, *tenant, *id, now);
    match (&receiver.return_paths, &returned) {
        (Some(paths), Some(returned)) => paths.accept(returned, acceptance).await?,
        _ => accept(&*receiver.storage, acceptance).await.map_err(|error| refuse_for_store(&error))?,
    }
    for Copy { tenant, id, envelope, runs, outcomes } in &copies {
        let (sender, recipients) = (&envelope.sender, &envelope.recipients[..]);
        receiver
            .hooks
            .note(runs, &About { tenant: *tenant, sender, recipients, message: Some(*id), actions: outcomes });
        tracing::info!(component = "receive", message_id = %id, tenant_id = %tenant, "message stored");
    }
    Ok(*id)
}

/// What the message becomes in its tenant. `is_kept` says whether its recipient wants to see it.
fn copy(
    judged: Judged,
    is_kept: bool,
    fingerprint: Fingerprint,
    receiver: &Receiver,
    now: Timestamp,
) -> Result<(Copy, Acceptance), Rejection> {
    let Judged { verified, report, runs, outcomes, wanted, folder, status, .. } = judged;
    let Verified { inspected, auth_results, .. } = verified;
    let keeping = Keeping { folder, status, ..Keeping::inbox(receiver.outbound, now) };
    let distribution = if is_kept { Distribution::of(&inspected.destinations, keeping).pop() } else { None };
    let tenant = inspected.tenant().ok_or_else(nobody)?;
    // A report that nobody wants to see has an id all the same.
    let id = distribution.as_ref().and_then(Distribution::id).unwrap_or_else(|| MessageId::new(now));
    let trace = Trace {
        hostname: &receiver.hostname,
        origin: &inspected.origin,
        protocol: inspected.protocol,
        id,
        recipient: only(&inspected.envelope.recipients),
        at: now,
    };
    // What stands above our Received was written by us.
    let results = auth_results.as_ref().map(|results| results.header_field(receiver.authserv_id().as_str()));
    let fields = report.as_ref().map(|report| super::scan::fields(report, &receiver.hostname));
    let scan = report.as_ref().map(timeline::scan);
    let arrival = Arrival {
        session: inspected.session,
        scan,
        hooks: runs.iter().map(timeline::hook_call).collect(),
        ..Arrival::default()
    };
    let tls = TlsWish::of(inspected.require_tls, &inspected.content);
    let original = Original {
        prefix: results.unwrap_or_default() + &fields.unwrap_or_default() + &trace.received() + &wanted.fields,
        body: inspected.body,
        content: inspected.content,
        sender: inspected.envelope.sender.clone(),
        dsn: MessageDsn::default(),
        tls,
        auth_results: auth_results.as_ref().map(|results| to_json(results).to_string()),
        spam: report.as_ref().map(spam),
        arrival: Some(arrival.to_json()),
        fingerprint: Some(fingerprint),
        received_at: now,
        marks: wanted.marks,
    };
    let mut acceptance = distribution.map_or_else(
        || Acceptance::new(tenant),
        |distribution| distribution.acceptance(&original, receiver.hooks.runner()),
    );
    acceptance.jobs.extend(catch_up(&runs, &acceptance, now));
    Ok((Copy { tenant, id, envelope: inspected.envelope, runs, outcomes }, acceptance))
}

fn nobody() -> Rejection {
    Rejection::unavailable("a message without a recipient here came to its end")
}

/// Asks hooks later that had no answer, about each copy that is here and not in quarantine already.
fn catch_up(runs: &[HookRun], acceptance: &Acceptance, now: Timestamp) -> Vec<NewJob> {
    let places = || acceptance.messages.iter().flat_map(|message| &message.placements);
    let here = |place: &&Placement| place.direction == Direction::Inbound && place.folder != Folder::Quarantine;
    let late = runs.iter().filter(|run| run.catch_up);
    let jobs = late
        .flat_map(|run| places().filter(here).map(|place| Job::CatchUp { message: place.id, hook: run.hook.clone() }));
    jobs.map(|job| job.queued(acceptance.tenant, now)).collect()
}

/// What is kept of a report.
fn spam(report: &ScanReport) -> Spam {
    Spam::new(report.score, if report.is_spam() { SpamVerdict::Spam } else { SpamVerdict::Ham })
}

/// The recipient, if there is just one.
fn only<T>(list: &[T]) -> Option<&T> {
    match list {
        [only] => Some(only),
        _ => None,
    }
}
