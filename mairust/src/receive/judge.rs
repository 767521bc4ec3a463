//! Fourth stage: sender authentication, the scanner's report and the `pre_receive` hooks decide.

use mairust_core::{Rejection, ScanAction, ScanReport};
use mairust_hooks::protocol::ActionOutcome;
use mairust_hooks::{Abandoned, HookPoint, HookRun, Stage, Verdict};
use mairust_smtp::server::HangUp;
use mairust_store::{Folder, MessageStatus};

use super::scan::{Scanned, refusal};
use super::verify::Verified;
use super::{hung_up, refuse_for_store};
use crate::hooks::wanted::possible;
use crate::hooks::{About, BoundHooks, Wanted};

/// A message that is to be kept.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) verified: Verified,
    /// What a scanner says about it, if there is one.
    pub(crate) report: Option<ScanReport>,
    /// The hooks that were called.
    pub(crate) runs: Vec<HookRun>,
    /// What became of what they want done.
    pub(crate) outcomes: Vec<ActionOutcome>,
    /// What they want done with it.
    pub(crate) wanted: Wanted,
    /// Where in the mailbox.
    pub(crate) folder: Folder,
    /// In which state.
    pub(crate) status: MessageStatus,
}

/// Refuses what the scanner wants refused, and asks the hooks about the rest, as long as the client is there; a refusal is
/// the answer to the peer. What verification puts into quarantine stays there, whatever the others say.
pub(crate) async fn judge(scanned: Scanned, hooks: &BoundHooks, hang_up: &HangUp) -> Result<Judged, Rejection> {
    let report = scanned.report().cloned();
    if let Some(rejection) = report.as_ref().and_then(refusal) {
        return Err(rejection);
    }
    let verified = scanned.verified;
    let runner = hooks.current().await.map_err(|error| refuse_for_store(&error))?;
    let of_tenant = verified.inspected.tenant().map(|tenant| runner.of(tenant));
    let of_tenant = of_tenant.filter(|hooks| hooks.has(HookPoint::PreReceive));
    let asked = of_tenant.and_then(|hooks| Some((hooks, scanned.mail.or_else(|| verified.mail())?)));
    let (mut runs, mut outcomes, mut wanted) = (Vec::new(), Vec::new(), Wanted::default());
    let verdict = match asked {
        Some((of_tenant, mail)) => {
            let point = HookPoint::PreReceive;
            let facts = verified.inspected.way.facts(&mail).await?;
            let stage = Stage { deadline: of_tenant.deadline(point), ..Stage::new(point, mail, facts) };
            let asked = match of_tenant.ask(&stage, hang_up.wait()).await {
                Ok(asked) => asked,
                Err(Abandoned { runs }) => {
                    hooks.note(&runs, &About::mail(&stage.mail));
                    return Err(hung_up());
                }
            };
            let merged = possible(asked.merged, stage.point);
            let verdict = merged.verdict.clone();
            if verdict.reply().is_some() {
                hooks.note(&asked.runs, &About::mail(&stage.mail));
            }
            outcomes.clone_from(&merged.outcomes);
            wanted.add(merged, &asked.runs);
            runs = asked.runs;
            verdict
        }
        None => Verdict::Allow,
    };
    let (folder, status) = match (verdict, &verified.quarantine) {
        (Verdict::Reject(rejection) | Verdict::Tempfail(rejection), _) => return Err(rejection),
        (Verdict::Quarantine { reason }, _) => quarantine(&reason),
        (Verdict::Allow, Some(reason)) => quarantine(reason),
        (Verdict::Allow, None) => place(report.as_ref(), wanted.folder),
    };
    Ok(Judged { verified, report, runs, outcomes, wanted, folder, status })
}

fn quarantine(reason: &str) -> (Folder, MessageStatus) {
    tracing::info!(component = "receive", reason, "message goes into quarantine");
    (Folder::Quarantine, MessageStatus::Quarantined)
}

/// Where a message goes that nobody objects to but the scanner: into the folder that a hook wants, if it may.
fn place(report: Option<&ScanReport>, wanted: Option<Folder>) -> (Folder, MessageStatus) {
    match (report.map(|report| report.action), wanted) {
        (Some(ScanAction::Quarantine), _) => (Folder::Quarantine, MessageStatus::Quarantined),
        (_, Some(folder)) => (folder, MessageStatus::Stored),
        (Some(ScanAction::Junk), None) => (Folder::Junk, MessageStatus::Stored),
        (_, None) => (Folder::Inbox, MessageStatus::Stored),
    }
}
