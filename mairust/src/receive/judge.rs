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
use crate::hooks::{BoundHooks, Wanted};

/// What is kept apart.
const QUARANTINE: (Folder, MessageStatus) = (Folder::Quarantine, MessageStatus::Quarantined);

/// A message of one tenant, and what is to become of it.
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
    /// Why it is not to be taken, if so. If it has to be, since other tenants take theirs, it goes into quarantine.
    pub(crate) refusal: Option<Rejection>,
}

/// Refuses what the scanner wants refused, and asks the hooks about the rest, as long as the client is there. What
/// verification puts into quarantine stays there, whatever the others say.
///
/// # Errors
/// When it can't be told what is to become of the message, for the fault is ours.
pub(crate) async fn judge(scanned: Scanned, hooks: &BoundHooks, hang_up: &HangUp) -> Result<Judged, Rejection> {
    let report = scanned.report().cloned();
    if let Some(rejection) = report.as_ref().and_then(refusal) {
        return Ok(Judged::refused(scanned.verified, report, Vec::new(), rejection));
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
                Err(Abandoned { runs }) => return Ok(Judged::refused(verified, report, runs, hung_up())),
            };
            let merged = possible(asked.merged, stage.point);
            let verdict = merged.verdict.clone();
            outcomes.clone_from(&merged.outcomes);
            wanted.add(merged, &asked.runs);
            runs = asked.runs;
            verdict
        }
        None => Verdict::Allow,
    };
    let (folder, status) = match (verdict, &verified.quarantine) {
        (Verdict::Reject(rejection) | Verdict::Tempfail(rejection), _) => {
            return Ok(Judged::refused(verified, report, runs, rejection));
        }
        (Verdict::Quarantine { reason }, _) => quarantine(&reason),
        (Verdict::Allow, Some(reason)) => quarantine(reason),
        (Verdict::Allow, None) => place(report.as_ref(), wanted.folder),
    };
    Ok(Judged { verified, report, runs, outcomes, wanted, folder, status, refusal: None })
}

impl Judged {
    fn refused(verified: Verified, report: Option<ScanReport>, runs: Vec<HookRun>, refusal: Rejection) -> Self {
        let (outcomes, wanted) = (Vec::new(), Wanted::default());
        let (folder, status) = QUARANTINE;
        Self { verified, report, runs, outcomes, wanted, folder, status, refusal: Some(refusal) }
    }
}

fn quarantine(reason: &str) -> (Folder, MessageStatus) {
    tracing::info!(component = "receive", reason, "message goes into quarantine");
    QUARANTINE
}

/// Where a message goes that nobody objects to but the scanner: into the folder that a hook wants, if it may.
fn place(report: Option<&ScanReport>, wanted: Option<Folder>) -> (Folder, MessageStatus) {
    match (report.map(|report| report.action), wanted) {
        (Some(ScanAction::Quarantine), _) => QUARANTINE,
        (_, Some(folder)) => (folder, MessageStatus::Stored),
        (Some(ScanAction::Junk), None) => (Folder::Junk, MessageStatus::Stored),
        (_, None) => (Folder::Inbox, MessageStatus::Stored),
    }
}
