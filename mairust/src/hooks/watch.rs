//! What whoever runs hooks is to know of them, besides what metrics count.

use std::sync::{Arc, OnceLock};

use mairust_hooks::breaker::{BreakerState, OpenReason, Transition};
use mairust_hooks::{FailureKind, HookObserver, HookPoint, HookRun, Observed, RunOutcome};

use super::alerts::{Alert, Alerts, Reason};
use crate::audit::Recorder;

/// Hears what hooks do, tells the audit log, and raises alerts.
#[derive(Debug)]
pub(crate) struct HookWatch {
    recorder: OnceLock<Arc<Recorder>>,
    alerts: Alerts,
}

impl HookWatch {
    pub(super) fn new(alerts: Alerts) -> Self {
        Self { recorder: OnceLock::new(), alerts }
    }

    /// Tells this audit log from now on.
    pub(crate) fn record(&self, recorder: Arc<Recorder>) {
        // A server has one.
        let _ = self.recorder.set(recorder);
    }

    pub(crate) fn alerts(&self) -> &Alerts {
        &self.alerts
    }
}

impl HookObserver for HookWatch {
    fn called(&self, hook: &Observed<'_>, run: &HookRun) {
        // What is stored already does not pass anything.
        if let Some(recorder) = self.recorder.get().filter(|_| run.let_pass && !run.point.is_async()) {
            recorder.hook_skipped(hook, run);
        }
        if let Some((reason, detail)) = wrong(run) {
            let invocation = Some(run.id.as_str());
            self.alerts.raise(hook, Alert { reason, point: run.point, detail: &detail, invocation });
        }
    }

    fn breaker_changed(&self, hook: &Observed<'_>, point: HookPoint, change: &Transition) {
        if let Some(recorder) = self.recorder.get() {
            recorder.hook_breaker_changed(hook, point, change);
        }
        // At `post_receive` no mail passes anything.
        if let BreakerState::Open { because, .. } = change.to
            && hook.required
            && !point.is_async()
            && because != OpenReason::Forced
            && change.from == BreakerState::Closed.as_str()
        {
            let detail = format!("no mail passes without it, and it is left alone: {}", because.as_str());
            self.alerts.raise(hook, Alert { reason: Reason::BreakerOpen, point, detail: &detail, invocation: None });
        }
    }
}

/// What is wrong with a hook that does not go away by itself, if a call shows that.
fn wrong(run: &HookRun) -> Option<(Reason, String)> {
    match &run.outcome {
        RunOutcome::Failed(FailureKind::Auth, text) => Some((Reason::Auth, format!("{text}: the keys differ"))),
        RunOutcome::Failed(FailureKind::Gone, text) if run.point.is_async() => {
            Some((Reason::Gone, format!("{text}, and is disabled")))
        }
        RunOutcome::Failed(FailureKind::Gone, text) => Some((Reason::Gone, text.clone())),
        RunOutcome::Failed(FailureKind::NoLeave, text) => Some((Reason::VerdictDenied, text.clone())),
        RunOutcome::Done(_) => {
            let verdict = run.answer.as_ref()?.denied_verdict()?;
            Some((Reason::VerdictDenied, format!("it has no leave to decide {verdict}, so the message went on")))
        }
        _ => None,
    }
}
