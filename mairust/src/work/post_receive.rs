//! Calls a hook with a stored message and applies what it wants done: at `post_receive`, or later for a `pre_receive`
//! that had no answer.

use std::time::Duration;

use mairust_core::MessageId;
use mairust_hooks::protocol::{InvocationId, Merged, Mode, merge};
use mairust_hooks::{Called, FailureKind, HookCall, HookPoint, RunOutcome, Verdict};
use mairust_store::{HookChange, HookState, Lease, StoreError, StoreErrorKind};

use super::retry::jitter;
use super::{Disposition, Workers};
use crate::hooks::wanted::{change, possible, quarantine};
use crate::hooks::{About, stored};

/// Waits after the first attempt, the second, and so on; there is one attempt more than there are waits.
const WAITS: [Duration; 3] = [Duration::from_secs(30), Duration::from_secs(120), Duration::from_secs(600)];

/// Wait before a hook is called that could not be, since too many calls failed before or too many go on.
const NOT_NOW: Duration = Duration::from_secs(60);

/// How long it is waited for a hook to be called at all. Then, and not before, its jobs are given up.
const PATIENCE: Duration = Duration::from_secs(86_400);

/// A hook can't ask for a longer wait.
const LONGEST_WISH: Duration = Duration::from_secs(3_600);

impl Workers {
    pub(super) async fn post_receive(&self, lease: &Lease, message: MessageId, hook: &str) -> Disposition {
        self.call_hook(lease, message, hook, (HookPoint::PostReceive, Mode::Enforce)).await
    }

    pub(super) async fn catch_up(&self, lease: &Lease, message: MessageId, hook: &str) -> Disposition {
        self.call_hook(lease, message, hook, (HookPoint::PreReceive, Mode::CatchUp)).await
    }

    async fn call_hook(
        &self,
        lease: &Lease,
        message: MessageId,
        hook: &str,
        (point, mode): (HookPoint, Mode),
    ) -> Disposition {
        let unknown = |error: &StoreError| Disposition::Retry(NOT_NOW, crate::error::chain(error));
        let runner = match self.hooks.current().await {
            Ok(runner) => runner,
            Err(error) => return unknown(&error),
        };
        let (mail, facts) = match stored(&*self.storage, lease.tenant, message).await {
            Ok(Some(found)) => found,
            // Purged in the meantime.
            Ok(None) => return Disposition::Complete,
            Err(error) => return Disposition::Retry(NOT_NOW, error),
        };
        let mut call = HookCall::new(point, mail.clone(), facts, self.clock.now());
        call.mode = mode;
        call.id = InvocationId::from_bytes(*lease.job.as_bytes());
        let tries = match self.tries(lease, &call.id).await {
            Ok(tries) => tries,
            Err(error) => return unknown(&error),
        };
        (call.attempt, call.occurred_at) = (tries + 1, lease.created_at);
        let Some(called) = runner.of(lease.tenant).call(hook, call).await else {
            return Disposition::Bury(format!("there is no {} hook named {hook} any more", point.as_str()));
        };
        let Called { answer, mut run, wait } = called;
        let was_called = !matches!(run.outcome, RunOutcome::Open(_) | RunOutcome::Overload);
        run.attempt = if was_called { tries + 1 } else { tries };
        let done = run.outcome.is_done();
        let merged = possible(merge([(hook.to_owned(), answer)]), HookPoint::PostReceive);
        self.hooks.note(std::slice::from_ref(&run), &About { actions: &merged.outcomes, ..About::mail(&mail) });
        match &run.outcome {
            // One that mail does not pass without can't switch itself off.
            RunOutcome::Failed(FailureKind::Gone, _) if point == HookPoint::PostReceive => {
                if let Err(error) = self.switch_off(lease, hook).await {
                    return unknown(&error);
                }
                Disposition::Bury("the hook answered that it is not there any more, and is disabled".to_owned())
            }
            _ if !was_called && self.age(lease) < PATIENCE => {
                Disposition::Retry(spread(NOT_NOW, lease), run.outcome.to_string())
            }
            _ if !done => again(lease, run.attempt, wait, run.outcome.to_string()),
            // What is on trial changes nothing.
            _ if run.mode == Mode::Shadow => Disposition::Complete,
            _ => self.apply(lease, message, merged, run.attempt).await,
        }
    }

    async fn apply(&self, lease: &Lease, message: MessageId, wanted: Merged, tries: u32) -> Disposition {
        let change = match &wanted.verdict {
            Verdict::Tempfail(_) => return again(lease, tries, None, "the hook wants to be called again".to_owned()),
            // It was taken: it can't be refused any more.
            Verdict::Quarantine { .. } | Verdict::Reject(_) => quarantine(change(wanted)),
            Verdict::Allow => change(wanted),
        };
        if change.is_empty() {
            return Disposition::Complete;
        }
        match self.storage.messages().change(lease.tenant, message, &change).await {
            Ok(()) => Disposition::Complete,
            Err(error) if error.kind() == StoreErrorKind::NotFound => Disposition::Complete,
            Err(error) => Disposition::Retry(NOT_NOW, crate::error::chain(&error)),
        }
    }

    /// How often the hook was called for this job. Waits while it was left alone are no calls.
    async fn tries(&self, lease: &Lease, id: &InvocationId) -> Result<u32, StoreError> {
        if lease.attempts <= 1 {
            return Ok(0);
        }
        let known = self.storage.hooks().invocation(lease.tenant, id.as_str()).await?;
        Ok(known.map_or(0, |call| call.report.attempt))
    }

    /// Has a hook of a tenant called no more.
    async fn switch_off(&self, lease: &Lease, hook: &str) -> Result<(), StoreError> {
        const REASON: &str = "it answered 410 Gone";
        let Some(id) = self.hooks.id(lease.tenant, hook) else { return Ok(()) };
        let change = HookChange { state: Some(HookState::Disabled(REASON.to_owned())), ..HookChange::default() };
        match self.storage.hooks().change(lease.tenant, id, &change).await {
            Err(error) if error.kind() == StoreErrorKind::NotFound => return Ok(()),
            changed => changed?,
        };
        tracing::warn!(component = "hooks", hook, hook_id = %id, reason = REASON, "a hook is disabled");
        Ok(())
    }

    fn age(&self, lease: &Lease) -> Duration {
        self.clock.now().since(lease.created_at)
    }
}

/// Tries a call again that had no answer, unless it was tried often enough: so many times.
pub(super) fn again(lease: &Lease, tries: u32, wish: Option<Duration>, why: String) -> Disposition {
    let place = usize::try_from(tries.saturating_sub(1)).unwrap_or(usize::MAX);
    match (WAITS.get(place), wish) {
        (None, _) => Disposition::Bury(why),
        (Some(_), Some(wish)) => Disposition::Retry(wish.min(LONGEST_WISH), why),
        (Some(wait), None) => Disposition::Retry(spread(*wait, lease), why),
    }
}

/// A wait, up to a fifth longer or shorter.
fn spread(wait: Duration, lease: &Lease) -> Duration {
    wait.mul_f64(0.8 + 0.4 * jitter(lease.job, lease.attempts).clamp(0.0, 1.0))
}
