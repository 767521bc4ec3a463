//! What calls of hooks came to, written down beside the flow of mail: nothing waits for it.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mairust_core::{EmailAddress, HookId, Mail, MessageId, ReversePath, TenantId};
use mairust_hooks::protocol::ActionOutcome;
use mairust_hooks::{HookRun, RunOutcome};
use mairust_store::{HookActionReport, HookInvocation, HookReport, StorageBackend};
use serde_json::json;
use tokio::sync::Notify;

/// So many wait to be written; what comes on top is lost, and said so.
const WAITING: usize = 10_000;
/// So many are written at a time.
const BATCH: usize = 500;

/// Calls that are to be written down.
#[derive(Debug)]
pub(crate) struct CallLog {
    storage: Arc<dyn StorageBackend>,
    waiting: Mutex<Waiting>,
    came: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    calls: VecDeque<HookInvocation>,
    lost: u64,
}

/// The message that calls were about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) tenant: TenantId,
    pub(crate) sender: &'a ReversePath,
    pub(crate) recipients: &'a [EmailAddress],
    /// Its id, if it is stored.
    pub(crate) message: Option<MessageId>,
    /// What became of what hooks wanted done.
    pub(crate) actions: &'a [ActionOutcome],
}

impl CallLog {
    pub(super) fn new(storage: Arc<dyn StorageBackend>) -> Self {
        Self { storage, waiting: Mutex::default(), came: Notify::new() }
    }

    pub(super) fn note(&self, calls: impl Iterator<Item = HookInvocation>) {
        let mut waiting = self.waiting();
        for call in calls {
            if waiting.calls.len() < WAITING {
                waiting.calls.push_back(call);
            } else {
                waiting.lost += 1;
            }
        }
        self.came.notify_one();
    }

    /// Writes what comes, until it is to stop. What is left then is written by [`write`](Self::write).
    pub(crate) async fn run(&self, stopped: impl Future<Output = ()> + Send) {
        let mut stopped = pin!(stopped);
        loop {
            tokio::select! {
                biased;
                () = self.came.notified() => self.write().await,
                () = &mut stopped => return,
            }
        }
    }

    /// Writes all that waits.
    pub(crate) async fn write(&self) {
        loop {
            let (batch, lost) = self.take();
            if lost > 0 {
                tracing::warn!(
                    component = "hooks",
                    lost,
                    "calls of hooks are not written down: there were too many at a time"
                );
            }
            if batch.is_empty() {
                return;
            }
            if let Err(error) = self.storage.hooks().record(batch).await {
                let error = crate::error::chain(&error);
                tracing::warn!(component = "hooks", error, "calls of hooks are not written down");
            }
        }
    }

    fn take(&self) -> (Vec<HookInvocation>, u64) {
        let mut waiting = self.waiting();
        let count = waiting.calls.len().min(BATCH);
        (waiting.calls.drain(..count).collect(), std::mem::take(&mut waiting.lost))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> About<'a> {
    /// This message.
    pub(crate) fn mail(mail: &'a Mail) -> Self {
        let (tenant, envelope) = (mail.tenant(), mail.envelope());
        let (sender, recipients) = (&envelope.sender, &envelope.recipients[..]);
        Self { tenant, sender, recipients, message: mail.id(), actions: &[] }
    }

    /// What is written down about a call; `hook` is the binding, if a tenant has bound it.
    pub(super) fn invocation(&self, run: &HookRun, hook: Option<HookId>) -> HookInvocation {
        let answer = run.answer.as_ref();
        let error = match &run.outcome {
            RunOutcome::Failed(_, reason) => Some(reason.clone()),
            RunOutcome::Open(because) => Some(because.as_str().to_owned()),
            _ => None,
        };
        let wanted = |op: &&'static str| HookActionReport { op: (*op).to_owned(), result: "denied".to_owned() };
        let done = |outcome: &ActionOutcome| HookActionReport {
            op: outcome.op.to_owned(),
            result: outcome.result.as_str().to_owned(),
        };
        let of_hook = self.actions.iter().filter(|outcome| outcome.plugin == run.hook);
        let denied = answer.map(|answer| &answer.denied[..]).unwrap_or_default();
        HookInvocation {
            id: run.id.to_string(),
            tenant: self.tenant,
            binding: run.hook.clone(),
            hook,
            point: run.point.as_str().to_owned(),
            outcome: run.outcome.as_str().to_owned(),
            message: self.message,
            at: run.at,
            report: HookReport {
                mode: run.mode.as_str().to_owned(),
                attempt: run.attempt,
                mail_from: self.sender.address().map(ToString::to_string),
                rcpt_to: self.recipients.iter().map(ToString::to_string).collect(),
                verdict: answer.map(|answer| answer.verdict.as_str().to_owned()),
                let_pass: run.let_pass,
                instead: run.instead.map(|instead| instead.mode.as_str().to_owned()),
                instead_because: run.instead.map(|instead| instead.because.as_str().to_owned()),
                duration_ms: u64::try_from(run.duration.as_millis()).unwrap_or(u64::MAX),
                detail: error.or_else(|| answer.and_then(|answer| answer.reason.clone())),
                score: answer.and_then(|answer| answer.score),
                actions: of_hook.map(done).chain(denied.iter().map(wanted)).collect(),
                denied: denied.iter().map(|name| (*name).to_owned()).collect(),
                response: answer
                    .map(|answer| json!({"verdict": answer.verdict.as_str(), "actions": answer.actions}).to_string()),
                ..HookReport::default()
            },
        }
    }
}
