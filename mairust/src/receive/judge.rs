//! Second stage: the `pre_receive` hooks decide.

use mairust_core::{Mail, Rejection};
use mairust_hooks::{HookPoint, HookRunner, Verdict};
use mairust_store::{Folder, MessageStatus};

use super::inspect::Inspected;
use super::recipient::Destination;
use crate::metrics::Metrics;

/// A message that is to be kept.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) inspected: Inspected,
    /// Where in the mailbox.
    pub(crate) folder: Folder,
    /// In which state.
    pub(crate) status: MessageStatus,
}

/// Asks the hooks; a refusal is the answer to the peer.
pub(crate) async fn judge(inspected: Inspected, hooks: &HookRunner, metrics: &Metrics) -> Result<Judged, Rejection> {
    let verdict = match tenant_mail(&inspected) {
        Some(mail) if hooks.has(HookPoint::PreReceive) => {
            let (verdict, runs) = hooks.pre_receive(&mail).await;
            for run in runs {
                metrics.hook_called(HookPoint::PreReceive, &run);
                tracing::debug!(component = "hooks", hook = run.hook, outcome = ?run.outcome, "pre_receive");
            }
            verdict
        }
        _ => Verdict::Allow,
    };
    match verdict {
        Verdict::Allow => Ok(Judged { inspected, folder: Folder::Inbox, status: MessageStatus::Stored }),
        Verdict::Quarantine { reason } => {
            tracing::info!(component = "receive", reason, "message goes into quarantine");
            Ok(Judged { inspected, folder: Folder::Quarantine, status: MessageStatus::Quarantined })
        }
        Verdict::Reject(rejection) | Verdict::Tempfail(rejection) => Err(rejection),
    }
}

/// The message as its tenant's hooks see it; all recipients are of one tenant.
fn tenant_mail(inspected: &Inspected) -> Option<Mail> {
    let (tenant, _) = inspected.destinations.iter().find_map(Destination::local)?;
    Some(Mail::new(
        tenant,
        inspected.envelope.clone(),
        inspected.origin.clone(),
        inspected.body.clone(),
        inspected.content.clone(),
    ))
}
