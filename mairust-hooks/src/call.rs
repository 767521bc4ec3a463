//! One call of one hook: its time, its turn, its breaker, and what becomes of a message when it does not answer.

use std::io::{self, Read};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use futures::FutureExt;
use mairust_core::{Body, Clock, EmailAddress, EnhancedCode, Rejection, Timestamp};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::binding::{Binding, Circuit, OnFailure};
use crate::breaker::{Breaker, CallResult, Fingerprint, OpenReason, Refused};
use crate::handler::{FailureKind, HealthStatus, HookCall, HookError, HookPoint};
use crate::observer::{Observed, TenantHook};
use crate::protocol::request::SessionOrigin;
use crate::protocol::{Answer, Mode};
use crate::run::{HookRun, Instead, InsteadBecause, RunOutcome};
use crate::verdict::Verdict;

/// Less time than this, and a hook is not called at all.
const LEAST_TIME: Duration = Duration::from_millis(100);
/// How long mail that a required hook fails at is refused; then it goes into quarantine, so that somebody sees it.
const REFUSED_AS_POISON: Duration = Duration::from_secs(2 * 3_600);

/// A hook in its place, and how it has done so far.
#[derive(Debug)]
pub(crate) struct Bound {
    binding: Binding,
    of_tenant: Option<TenantHook>,
    pre_receive: Lane,
    post_receive: Lane,
    pre_send: Lane,
}

/// What is kept for one point.
#[derive(Debug)]
struct Lane {
    breaker: Breaker,
    slots: Semaphore,
}

/// A call that did not bring an answer.
struct Missed {
    outcome: RunOutcome,
    /// When the message failed first, if it is poison.
    first: Option<Timestamp>,
    /// How long the hook wants to be left alone.
    wait: Option<Duration>,
}

/// What a call came to.
#[derive(Debug)]
pub struct Called {
    /// What is to become of the message: what the hook said or, without an answer, what its binding says.
    pub answer: Answer,
    /// How it ended.
    pub run: HookRun,
    /// How long the hook wants to be left alone, if it said so.
    pub wait: Option<Duration>,
}

impl Bound {
    pub(crate) fn new(binding: Binding, of_tenant: Option<TenantHook>, now: Timestamp) -> Self {
        let lane = |point: HookPoint, settings: &crate::breaker::BreakerSettings| {
            let breaker = Breaker::new(settings.clone());
            match binding.circuit {
                Circuit::Automatic => {}
                Circuit::Disabled => breaker.disable(now),
                Circuit::ForcedOpen => breaker.force_open(now),
            }
            Lane { breaker, slots: Semaphore::new(binding.max_inflight.unwrap_or(point.max_inflight()).max(1)) }
        };
        let pre_receive = lane(HookPoint::PreReceive, &binding.pre_receive_breaker);
        let post_receive = lane(HookPoint::PostReceive, &binding.other_breakers);
        let pre_send = lane(HookPoint::PreSend, &binding.other_breakers);
        Self { binding, of_tenant, pre_receive, post_receive, pre_send }
    }

    pub(crate) fn name(&self) -> &str {
        self.binding.handler.name()
    }

    /// Which of a tenant it is; `None` if it is one of the server's own.
    pub(crate) fn of_tenant(&self) -> Option<&TenantHook> {
        self.of_tenant.as_ref()
    }

    /// As observers hear of it.
    pub(crate) fn observed(&self) -> Observed<'_> {
        Observed { name: self.name(), of_tenant: self.of_tenant(), required: self.binding.required }
    }

    pub(crate) fn binding(&self) -> &Binding {
        &self.binding
    }

    pub(crate) fn order(&self) -> (u16, &str) {
        (self.binding.priority, self.name())
    }

    pub(crate) fn wants(&self, point: HookPoint) -> bool {
        self.binding.handler.points().contains(&point)
    }

    /// Whether it wants to see mail to these recipients at this point.
    pub(crate) fn wants_for(&self, point: HookPoint, recipients: &[EmailAddress]) -> bool {
        self.wants(point) && self.binding.is_for(recipients)
    }

    pub(crate) fn breaker(&self, point: HookPoint) -> &Breaker {
        &self.lane(point).breaker
    }

    /// Calls it within its own time and the deadline of the call, and no longer than until `gone`.
    pub(crate) async fn call(&self, mut call: HookCall, clock: &dyn Clock, gone: impl Future<Output = ()>) -> Called {
        let (start, at) = (Instant::now(), clock.now());
        let own = self.binding.timeout.unwrap_or(call.point.timeout());
        let time = own.min(call.deadline.saturating_duration_since(start));
        let answer = if time < LEAST_TIME.min(own) {
            Err(RunOutcome::Budget.into())
        } else {
            call.deadline = start + time;
            tokio::select! {
                biased;
                answer = self.try_call(&call, time, clock) => answer,
                () = gone => Err(RunOutcome::Cancelled.into()),
            }
        };
        self.ended(call, at, start.elapsed(), answer, clock)
    }

    /// The program has told the result of a call that it had taken. Its breaker hears of a failure; that it had taken
    /// the call was a success.
    pub(crate) fn settle(&self, call: HookCall, result: Result<Answer, HookError>, clock: &dyn Clock) -> Called {
        let (at, now) = (call.occurred_at, clock.now());
        let answer = result.map_err(|error| {
            if let Ok(permit) = self.breaker(call.point).acquire_again(Some(call.facts.fingerprint), now) {
                permit.record(CallResult::Failure, now);
            }
            RunOutcome::Failed(error.kind(), error.to_string()).into()
        });
        self.ended(call, at, now.since(at), answer, clock)
    }

    /// What a call came to that began at this moment. Mail of the server itself goes on, whatever it came to.
    fn ended(
        &self,
        call: HookCall,
        at: Timestamp,
        duration: Duration,
        answer: Result<Answer, Missed>,
        clock: &dyn Clock,
    ) -> Called {
        let mut run = HookRun {
            id: call.id,
            hook: self.name().to_owned(),
            point: call.point,
            mode: call.mode,
            attempt: call.attempt,
            at,
            outcome: RunOutcome::Accepted,
            answer: None,
            let_pass: false,
            instead: None,
            catch_up: false,
            duration,
        };
        let goes_on = call.facts.origin == SessionOrigin::Internal;
        match answer {
            Ok(answer) if answer.later => Called { answer, run, wait: None },
            Ok(answer) => {
                (run.outcome, run.answer) = (RunOutcome::Done(answer.verdict.as_str()), Some(answer.clone()));
                let answer = if goes_on { Answer { verdict: Verdict::Allow, ..answer } } else { answer };
                Called { answer, run, wait: None }
            }
            Err(missed) => {
                let instead = match goes_on {
                    true => Instead { mode: OnFailure::Allow, because: InsteadBecause::Internal },
                    false => self.instead(&missed, clock.now()),
                };
                let answer = Answer::from(self.verdict(instead.mode, &missed, &run));
                run.instead = (run.mode == Mode::Enforce && !run.point.is_async()).then_some(instead);
                run.let_pass = answer.verdict == Verdict::Allow && run.mode == Mode::Enforce;
                run.catch_up = run.let_pass && self.binding.catch_up && run.point == HookPoint::PreReceive;
                run.outcome = missed.outcome;
                Called { answer, run, wait: missed.wait }
            }
        }
    }

    async fn try_call(&self, call: &HookCall, time: Duration, clock: &dyn Clock) -> Result<Answer, Missed> {
        let lane = self.lane(call.point);
        let (fingerprint, now) = (Some(call.facts.fingerprint), clock.now());
        // Jobs end by themselves.
        let is_job = call.point.is_async() || call.mode == Mode::CatchUp;
        let permit =
            if is_job { lane.breaker.acquire_again(fingerprint, now) } else { lane.breaker.acquire(fingerprint, now) };
        let permit = permit.map_err(Missed::from)?;
        // Dropped without a result, the permit says nothing about the hook.
        let _slot = lane.slot(call.deadline).await.ok_or(RunOutcome::Overload)?;
        if call.deadline.saturating_duration_since(Instant::now()) < LEAST_TIME.min(time) {
            return Err(RunOutcome::Overload.into());
        }
        // What is asked costs no mail.
        if permit.is_probe() && !call.point.is_async() && !self.would_work(call.deadline).await {
            permit.give_up(clock.now());
            return Err(RunOutcome::Open(OpenReason::Unhealthy).into());
        }
        let answering = AssertUnwindSafe(self.binding.handler.call(call)).catch_unwind();
        let (outcome, wait) = match tokio::time::timeout_at(call.deadline, answering).await {
            Ok(Ok(Ok(answer))) => {
                permit.record(CallResult::Success, clock.now());
                return Ok(answer);
            }
            Ok(Ok(Err(error))) if error.kind() == FailureKind::CrashLoop => {
                // The message has nothing to do with it, so it is not counted as one at which the hook failed.
                lane.breaker.trip(OpenReason::CrashLoop, clock.now());
                let outcome = RunOutcome::Failed(error.kind(), error.to_string());
                return Err(Missed { outcome, first: None, wait: error.wait() });
            }
            Ok(Ok(Err(error))) => (RunOutcome::Failed(error.kind(), error.to_string()), error.wait()),
            Ok(Err(_)) => (RunOutcome::Failed(FailureKind::Crash, "the hook panicked".to_owned()), None),
            Err(_) => (RunOutcome::Failed(FailureKind::Timeout, format!("no answer within {time:?}")), None),
        };
        permit.record(CallResult::Failure, clock.now());
        Err(Missed { outcome, first: None, wait })
    }

    /// Whether the hook says that it would work, if it can be asked. It gets half of the time that is left: the call needs
    /// the rest.
    async fn would_work(&self, deadline: Instant) -> bool {
        let now = Instant::now();
        let half = now + deadline.saturating_duration_since(now) / 2;
        let asking = AssertUnwindSafe(self.binding.handler.health()).catch_unwind();
        match tokio::time::timeout_at(half, asking).await {
            Ok(Ok(report)) => report.is_none_or(|report| report.status != HealthStatus::Error),
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// What becomes of a message about which the hook says nothing.
    fn instead(&self, missed: &Missed, now: Timestamp) -> Instead {
        let Binding { required, on_failure, on_open, .. } = self.binding;
        let (mode, because) = match (&missed.outcome, missed.first, on_open) {
            (RunOutcome::Poison, Some(first), _) if required && now.since(first) < REFUSED_AS_POISON => {
                (OnFailure::Tempfail, InsteadBecause::Poison)
            }
            (RunOutcome::Poison, ..) => (OnFailure::Quarantine, InsteadBecause::Poison),
            // Nobody is there to hear it, and nothing is to be taken.
            (RunOutcome::Cancelled, ..) => (OnFailure::Tempfail, InsteadBecause::Cancelled),
            (RunOutcome::Open(_), _, Some(on_open)) => (on_open, InsteadBecause::OnOpen),
            _ => (on_failure, InsteadBecause::OnFailure),
        };
        Instead { mode, because }
    }

    fn verdict(&self, mode: OnFailure, missed: &Missed, run: &HookRun) -> Verdict {
        let reason = format!("hook {} had no answer: {}", self.name(), missed.outcome);
        let refusal = |code, enhanced, text: &str| Rejection::new(code, enhanced, format!("{text} [{}]", run.id));
        match mode {
            OnFailure::Allow => Verdict::Allow,
            OnFailure::Quarantine => Verdict::quarantine(reason),
            OnFailure::Reject => {
                Verdict::Reject(refusal(550, EnhancedCode(5, 7, 1), "Message refused by policy").because(reason))
            }
            OnFailure::Tempfail => {
                let text = "Policy service unavailable, please try again later";
                Verdict::Tempfail(refusal(451, EnhancedCode(4, 3, 0), text).because(reason))
            }
        }
    }

    fn lane(&self, point: HookPoint) -> &Lane {
        match point {
            HookPoint::PreReceive => &self.pre_receive,
            HookPoint::PostReceive => &self.post_receive,
            HookPoint::PreSend => &self.pre_send,
        }
    }
}

impl Lane {
    /// A turn among the calls at the same time.
    async fn slot(&self, end: Instant) -> Option<SemaphorePermit<'_>> {
        tokio::time::timeout_at(end, self.slots.acquire()).await.ok()?.ok()
    }
}

impl Fingerprint {
    /// That of a message with these octets.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn of(body: &Body) -> io::Result<Self> {
        match body.in_memory() {
            Some(octets) => Ok(Self::of_octets(octets)),
            None => {
                let body = body.clone();
                tokio::task::spawn_blocking(move || read(&body)).await.map_err(io::Error::other)?
            }
        }
    }

    /// That of a message with these octets.
    pub fn of_octets(octets: &[u8]) -> Self {
        let mut digest = Context::new(&SHA256);
        digest.update(octets);
        finish(digest)
    }
}

fn read(body: &Body) -> io::Result<Fingerprint> {
    let (mut reader, mut buffer, mut digest) = (body.reader(), vec![0; 65_536], Context::new(&SHA256));
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(finish(digest)),
            count => digest.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

fn finish(digest: Context) -> Fingerprint {
    Fingerprint(digest.finish().as_ref().try_into().expect("SHA-256 has 32 octets"))
}

impl From<RunOutcome> for Missed {
    fn from(outcome: RunOutcome) -> Self {
        Self { outcome, first: None, wait: None }
    }
}

impl From<Refused> for Missed {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Open(because) => RunOutcome::Open(because).into(),
            Refused::Poison { first } => Self { first: Some(first), ..RunOutcome::Poison.into() },
        }
    }
}
