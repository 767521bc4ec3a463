//! Calls a hook with a stored message and applies what it wants done: at `post_receive`, or later for a `pre_receive`
//! that had no answer.

use std::time::Duration;

use mairust_core::{HookId, MessageId, TenantId};
use mairust_hooks::protocol::{InvocationId, LateResult, Merged, Mode, merge};
use mairust_hooks::{Answer, Called, FailureKind, HookCall, HookError, HookPoint, HookSettings, RunOutcome, Verdict};
use mairust_store::{AwaitedResult, HookChange, HookState, Lease, StoreError, StoreErrorKind};
use serde_json::{Value, json};

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
        let mut call = HookCall::new(point, mail, facts, self.clock.now());
        (call.mode, call.occurred_at) = (mode, lease.created_at);
        call.id = InvocationId::from_bytes(*lease.job.as_bytes());
        let (tries, awaited) = match self.before(lease, &call).await {
            Ok(before) => before,
            Err(error) => return unknown(&error),
        };
        if let Some(awaited) = awaited {
            return self.take_up(lease, hook, call, awaited).await;
        }
        call.attempt = tries + 1;
        let Some(called) = runner.of(lease.tenant).call(hook, call.clone()).await else {
            return no_such_hook(point, hook);
        };
        if called.run.outcome == RunOutcome::Accepted {
            self.hooks.note(std::slice::from_ref(&called.run), &About::mail(&call.mail));
            return match self.storage.hooks().awaited(lease.tenant, lease.job).await {
                Ok(Some(awaited)) => self.take_up(lease, hook, call, awaited).await,
                // A program that is told of no way to tell a result has none to tell.
                Ok(None) => Disposition::Complete,
                Err(error) => unknown(&error),
            };
        }
        self.conclude(lease, hook, &call, called).await
    }

    /// Takes up the result of a call that the hook had taken, or waits on for it.
    async fn take_up(&self, lease: &Lease, hook: &str, mut call: HookCall, awaited: AwaitedResult) -> Disposition {
        let unknown = |error: &StoreError| Disposition::Retry(NOT_NOW, crate::error::chain(error));
        let (hooks, tenant, job) = (self.storage.hooks(), lease.tenant, lease.job);
        call.attempt = awaited.attempt;
        let told = match awaited.result {
            Some(told) => told,
            None if self.clock.now() < awaited.result_by => {
                return Disposition::Await(awaited.result_by, "the hook tells the result later".to_owned());
            }
            None => {
                // What is told from now on is told too late.
                let told = json!(LateResult::Missing);
                match hooks.settle(tenant, job, told.clone(), self.clock.now()).await {
                    Ok(true) => told,
                    Ok(false) => return Disposition::Retry(Duration::ZERO, "the hook told the result".to_owned()),
                    Err(error) => return unknown(&error),
                }
            }
        };
        let result = match self.late_answer(tenant, awaited.hook, told, &call).await {
            Ok(Some(result)) => result,
            Ok(None) => return no_such_hook(call.point, hook),
            Err(error) => return unknown(&error),
        };
        // After a failure the hook is called anew. A result stays, so that it is known when it is told again.
        if result.is_err()
            && let Err(error) = hooks.forget_awaited(tenant, job).await
        {
            return unknown(&error);
        }
        match self.hooks.runner().of(tenant).settle(hook, call.clone(), result) {
            Some(called) => self.conclude(lease, hook, &call, called).await,
            None => no_such_hook(call.point, hook),
        }
    }

    /// What a result that was told later comes to; `None` if the hook is not bound any more.
    async fn late_answer(
        &self,
        tenant: TenantId,
        hook: HookId,
        told: Value,
        call: &HookCall,
    ) -> Result<Option<Result<Answer, HookError>>, StoreError> {
        let Some(binding) = self.storage.hooks().get(tenant, hook).await? else { return Ok(None) };
        let answer = || {
            let grants = HookSettings::kept(&binding.settings).map_err(HookError::new)?.grants;
            let result: LateResult = serde_json::from_value(told).map_err(HookError::new)?;
            result.into_answer(&call.id, &grants, &grants)
        };
        Ok(Some(answer()))
    }

    /// Ends a job, or goes on with it, after a call.
    async fn conclude(&self, lease: &Lease, hook: &str, call: &HookCall, called: Called) -> Disposition {
        let unknown = |error: &StoreError| Disposition::Retry(NOT_NOW, crate::error::chain(error));
        let Called { answer, mut run, wait } = called;
        let was_called = !matches!(run.outcome, RunOutcome::Open(_) | RunOutcome::Overload);
        run.attempt = if was_called { call.attempt } else { call.attempt - 1 };
        let done = run.outcome.is_done();
        let merged = possible(merge([(hook.to_owned(), answer)]), HookPoint::PostReceive);
        let about = About { actions: &merged.outcomes, ..About::mail(&call.mail) };
        self.hooks.note(std::slice::from_ref(&run), &about);
        match &run.outcome {
            // One that mail does not pass without can't switch itself off.
            RunOutcome::Failed(FailureKind::Gone, _) if call.point == HookPoint::PostReceive => {
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
            _ => self.apply(lease, call, merged, run.attempt).await,
        }
    }

    async fn apply(&self, lease: &Lease, call: &HookCall, wanted: Merged, tries: u32) -> Disposition {
        let change = match &wanted.verdict {
            Verdict::Tempfail(_) => return again(lease, tries, None, "the hook wants to be called again".to_owned()),
            // It was taken: it can't be refused any more.
            Verdict::Quarantine { .. } | Verdict::Reject(_) => quarantine(change(wanted)),
            Verdict::Allow => change(wanted),
        };
        let Some(message) = call.mail.id().filter(|_| !change.is_empty()) else { return Disposition::Complete };
        match self.storage.messages().change(lease.tenant, message, &change).await {
            Ok(()) => Disposition::Complete,
            Err(error) if error.kind() == StoreErrorKind::NotFound => Disposition::Complete,
            Err(error) => Disposition::Retry(NOT_NOW, crate::error::chain(&error)),
        }
    }

    /// How often the hook was called for this job, and the result that it has said it would tell. Waits while it was
    /// left alone are no calls.
    async fn before(&self, lease: &Lease, call: &HookCall) -> Result<(u32, Option<AwaitedResult>), StoreError> {
        if lease.attempts <= 1 {
            return Ok((0, None));
        }
        let hooks = self.storage.hooks();
        let awaited = if call.point.is_async() { hooks.awaited(lease.tenant, lease.job).await? } else { None };
        let known = hooks.invocation(lease.tenant, call.id.as_str()).await?;
        Ok((known.map_or(0, |call| call.report.attempt), awaited))
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
        if let Some(recorder) = &self.recorder {
            recorder.hook_disabled((lease.tenant, id), hook, REASON);
        }
        Ok(())
    }

    fn age(&self, lease: &Lease) -> Duration {
        self.clock.now().since(lease.created_at)
    }
}

fn no_such_hook(point: HookPoint, hook: &str) -> Disposition {
    Disposition::Bury(format!("there is no {} hook named {hook} any more", point.as_str()))
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
