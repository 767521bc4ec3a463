//! What whoever runs hooks is to know of them, besides what metrics count.

use std::sync::{Arc, OnceLock};

use mairust_hooks::breaker::Transition;
use mairust_hooks::{HookObserver, HookPoint, HookRun, Observed};

use crate::audit::Recorder;

/// Hears what hooks do, and tells the audit log.
#[derive(Debug, Default)]
pub(crate) struct HookWatch {
    recorder: OnceLock<Arc<Recorder>>,
}

impl HookWatch {
    /// Tells this audit log from now on.
    pub(crate) fn record(&self, recorder: Arc<Recorder>) {
        // A server has one.
        let _ = self.recorder.set(recorder);
    }
}

impl HookObserver for HookWatch {
    fn called(&self, hook: &Observed<'_>, run: &HookRun) {
        // What is stored already does not pass anything.
        if let Some(recorder) = self.recorder.get().filter(|_| run.let_pass && !run.point.is_async()) {
            recorder.hook_skipped(hook, run);
        }
    }

    fn breaker_changed(&self, hook: &Observed<'_>, point: HookPoint, change: &Transition) {
        if let Some(recorder) = self.recorder.get() {
            recorder.hook_breaker_changed(hook, point, change);
        }
    }
}
