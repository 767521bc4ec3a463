//! One call of one hook: its time, its turn, its breaker, and what becomes of a message when it does not answer.

use std::io::Read;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use futures::FutureExt;
use mairust_core::{Body, Clock, EnhancedCode, Mail, Rejection, Timestamp};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::actions::Actions;
use crate::breaker::{Breaker, CallResult, Fingerprint, Refused};
use crate::handler::{HookError, HookPoint};
use crate::runner::{Binding, HookRun, OnFailure, RunOutcome};
use crate::verdict::Verdict;

/// Less time than this, and a hook is not called at all.
const LEAST_TIME: Duration = Duration::from_millis(100);
/// How long mail that a required hook fails at is refused; then it goes into quarantine, so that somebody sees it.
const REFUSED_AS_POISON: Duration = Duration::from_secs(2 * 3_600);

/// A hook in its place, and how it has done so far.
#[derive(Debug)]
pub(crate) struct Bound {
    binding: Binding,
    pre_receive: Lane,
    post_receive: Lane,
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
}

impl Bound {
    pub(crate) fn new(binding: Binding) -> Self {
        let lane =
            |settings| Lane { breaker: Breaker::new(settings), slots: Semaphore::new(binding.max_inflight.max(1)) };
        let pre_receive = lane(binding.pre_receive_breaker.clone());
        let post_receive = lane(binding.post_receive_breaker.clone());
        Self { binding, pre_receive, post_receive }
    }

    pub(crate) fn name(&self) -> &str {
        self.binding.handler.name()
    }

    pub(crate) fn priority(&self) -> u16 {
        self.binding.priority
    }

    pub(crate) fn wants(&self, point: HookPoint) -> bool {
        self.binding.handler.points().contains(&point)
    }

    pub(crate) fn breaker(&self, point: HookPoint) -> &Breaker {
        &self.lane(point).breaker
    }

    /// Asks about a message before it is stored, within the time of this hook and of the stage.
    pub(crate) async fn ask(
        &self,
        mail: &Mail,
        fingerprint: Option<Fingerprint>,
        deadline: Instant,
        clock: &dyn Clock,
    ) -> (Verdict, HookRun) {
        let start = Instant::now();
        let time = self.binding.timeout.min(deadline.saturating_duration_since(start));
        let answer = if time < LEAST_TIME.min(self.binding.timeout) {
            Err(RunOutcome::Budget.into())
        } else {
            let call = self.binding.handler.pre_receive(mail);
            self.call(HookPoint::PreReceive, fingerprint, time, clock, call).await
        };
        let (verdict, outcome, let_pass) = match answer {
            Ok(verdict) => {
                let name = verdict.as_str();
                (verdict, RunOutcome::Done(name), false)
            }
            Err(missed) => {
                let verdict = self.instead(&missed, clock.now());
                let let_pass = verdict == Verdict::Allow;
                (verdict, missed.outcome, let_pass)
            }
        };
        (verdict, HookRun { hook: self.name().to_owned(), outcome, let_pass, duration: start.elapsed() })
    }

    /// Calls it with a stored message.
    pub(crate) async fn post_receive(
        &self,
        mail: &Mail,
        fingerprint: Option<Fingerprint>,
        clock: &dyn Clock,
    ) -> Result<Actions, HookError> {
        let call = self.binding.handler.post_receive(mail);
        let answer = self.call(HookPoint::PostReceive, fingerprint, self.binding.timeout, clock, call).await;
        answer.map_err(|missed| match missed.outcome {
            RunOutcome::Failed(reason) => HookError::new(reason),
            RunOutcome::Timeout => HookError::new(format_args!("no answer within {:?}", self.binding.timeout)),
            other => HookError::new(format_args!("it was not called: {other}")),
        })
    }

    async fn call<T>(
        &self,
        point: HookPoint,
        fingerprint: Option<Fingerprint>,
        time: Duration,
        clock: &dyn Clock,
        call: impl Future<Output = Result<T, HookError>>,
    ) -> Result<T, Missed> {
        let end = Instant::now() + time;
        let lane = self.lane(point);
        let permit = lane.breaker.acquire(fingerprint, clock.now()).map_err(Missed::from)?;
        // Dropped without a result, the permit says nothing about the hook.
        let _slot = lane.slot(end).await.ok_or(RunOutcome::Overload)?;
        if end.saturating_duration_since(Instant::now()) < LEAST_TIME.min(time) {
            return Err(RunOutcome::Overload.into());
        }
        let outcome = match tokio::time::timeout_at(end, AssertUnwindSafe(call).catch_unwind()).await {
            Ok(Ok(Ok(answer))) => {
                permit.record(CallResult::Success, clock.now());
                return Ok(answer);
            }
            Ok(Ok(Err(error))) => RunOutcome::Failed(error.to_string()),
            Ok(Err(_)) => RunOutcome::Failed("the hook panicked".to_owned()),
            Err(_) => RunOutcome::Timeout,
        };
        permit.record(CallResult::Failure, clock.now());
        Err(outcome.into())
    }

    /// What becomes of a message about which the hook says nothing.
    fn instead(&self, missed: &Missed, now: Timestamp) -> Verdict {
        let Binding { required, on_failure, on_open, .. } = self.binding;
        let mode = match (&missed.outcome, missed.first) {
            (RunOutcome::Poison, Some(first)) if required && now.since(first) < REFUSED_AS_POISON => {
                OnFailure::Tempfail
            }
            (RunOutcome::Poison, _) => OnFailure::Quarantine,
            (RunOutcome::Open(_), _) => on_open.unwrap_or(on_failure),
            _ => on_failure,
        };
        let reason = format!("hook {} had no answer: {}", self.name(), missed.outcome);
        match mode {
            OnFailure::Allow => Verdict::Allow,
            OnFailure::Quarantine => Verdict::quarantine(reason),
            OnFailure::Tempfail => Verdict::Tempfail(
                Rejection::new(451, EnhancedCode(4, 3, 0), "Policy service unavailable, please try again later")
                    .because(reason),
            ),
        }
    }

    fn lane(&self, point: HookPoint) -> &Lane {
        match point {
            HookPoint::PreReceive => &self.pre_receive,
            HookPoint::PostReceive => &self.post_receive,
        }
    }
}

impl Lane {
    /// A turn among the calls at the same time.
    async fn slot(&self, end: Instant) -> Option<SemaphorePermit<'_>> {
        tokio::time::timeout_at(end, self.slots.acquire()).await.ok()?.ok()
    }
}

/// What tells a message from others; `None` if it can't be read.
pub(crate) async fn fingerprint(mail: &Mail) -> Option<Fingerprint> {
    let body = mail.body().clone();
    match body.in_memory() {
        Some(octets) => {
            let mut digest = Context::new(&SHA256);
            digest.update(octets);
            finish(digest)
        }
        None => tokio::task::spawn_blocking(move || read(&body)).await.ok().flatten(),
    }
}

fn read(body: &Body) -> Option<Fingerprint> {
    let (mut reader, mut buffer, mut digest) = (body.reader(), vec![0; 65_536], Context::new(&SHA256));
    loop {
        match reader.read(&mut buffer).ok()? {
            0 => return finish(digest),
            count => digest.update(buffer.get(..count)?),
        }
    }
}

fn finish(digest: Context) -> Option<Fingerprint> {
    digest.finish().as_ref().try_into().ok().map(Fingerprint)
}

impl From<RunOutcome> for Missed {
    fn from(outcome: RunOutcome) -> Self {
        Self { outcome, first: None }
    }
}

impl From<Refused> for Missed {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Open(because) => RunOutcome::Open(because).into(),
            Refused::Poison { first } => Self { outcome: RunOutcome::Poison, first: Some(first) },
        }
    }
}
