//! The only place that loops over hooks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use mairust_core::{Clock, Mail, SystemClock};
use tokio::time::Instant;

use crate::actions::Actions;
use crate::breaker::{BreakerSettings, BreakerState, OpenReason, Transition};
use crate::call::{Bound, fingerprint};
use crate::handler::{HookError, HookHandler, HookPoint};
use crate::verdict::Verdict;

/// A hook in its place.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Binding {
    /// The hook.
    pub handler: Arc<dyn HookHandler>,
    /// Lower runs first; equals run at the same time. Default 100.
    pub priority: u16,
    /// How long one call may take. Default 5 s.
    pub timeout: Duration,
    /// Whether no mail is to pass that this hook has not seen. Default no.
    pub required: bool,
    /// What becomes of a message when the hook fails. Default [`OnFailure::Allow`], which a required hook can't have.
    pub on_failure: OnFailure,
    /// What becomes of a message while the hook is not called, since too many calls failed; `None`, the default, is
    /// what becomes of it when the hook fails.
    pub on_open: Option<OnFailure>,
    /// Calls at the same time, at each point. Who finds so many waits, within its own time. Default 16.
    pub max_inflight: usize,
    /// When `pre_receive` is not called any more. Default [`BreakerSettings::pre_receive`].
    pub pre_receive_breaker: BreakerSettings,
    /// When `post_receive` is not called any more. Default [`BreakerSettings::patient`].
    pub post_receive_breaker: BreakerSettings,
}

/// What becomes of a message when a hook fails, takes too long or panics, or is not called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnFailure {
    /// Go on without it.
    Allow,
    /// Take the message into quarantine.
    Quarantine,
    /// Refuse the message by a temporary failure.
    Tempfail,
}

/// Runs hooks in their order.
#[derive(Clone)]
pub struct HookRunner {
    /// Sorted by priority, then name.
    bound: Vec<Arc<Bound>>,
    budget: Duration,
    clock: Arc<dyn Clock>,
    observer: Option<Arc<dyn HookObserver>>,
}

/// Hears what happens to the breakers of hooks.
pub trait HookObserver: Send + Sync + 'static {
    /// The breaker of a hook at a point has changed its state.
    fn breaker_changed(&self, hook: &str, point: HookPoint, change: &Transition);
}

/// What one call of one hook came to, for logs and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HookRun {
    /// The hook.
    pub hook: String,
    /// How it ended.
    pub outcome: RunOutcome,
    /// Whether the message went on as if the hook had allowed it, although it did not answer.
    pub let_pass: bool,
    /// How long it took.
    pub duration: Duration,
}

/// How one call of one hook ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunOutcome {
    /// The time of the whole stage was used up before it was called.
    Budget,
    /// It answered; for `pre_receive` the name of its verdict.
    Done(&'static str),
    /// It returned an error, or panicked.
    Failed(String),
    /// It was not called: too many calls failed before, or somebody wants it so.
    Open(OpenReason),
    /// It was not called: as many calls as it gets at a time did not end in time.
    Overload,
    /// It was not called: it has failed at this message before.
    Poison,
    /// It took too long.
    Timeout,
}

impl Binding {
    /// A hook with the defaults.
    pub fn new(handler: Arc<dyn HookHandler>) -> Self {
        Self {
            handler,
            priority: 100,
            timeout: Duration::from_secs(5),
            required: false,
            on_failure: OnFailure::Allow,
            on_open: None,
            max_inflight: 16,
            pre_receive_breaker: BreakerSettings::pre_receive(),
            post_receive_breaker: BreakerSettings::patient(),
        }
    }

    /// The same hook, without which no mail is to pass: while it does not answer, mail is refused by a temporary
    /// failure.
    #[must_use]
    pub fn required(mut self) -> Self {
        (self.required, self.on_failure) = (true, OnFailure::Tempfail);
        self
    }
}

impl RunOutcome {
    /// For logs and metrics: `budget`, `failed`, `breaker_open`, `overload`, `poison`, `timeout`, or the name of the
    /// verdict.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Done(verdict) => verdict,
            Self::Failed(_) => "failed",
            Self::Open(_) => "breaker_open",
            Self::Overload => "overload",
            Self::Poison => "poison",
            Self::Timeout => "timeout",
        }
    }
}

impl fmt::Display for RunOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(reason) => write!(f, "it failed: {reason}"),
            Self::Open(because) => write!(f, "its breaker is open: {}", because.as_str()),
            other => f.write_str(other.as_str()),
        }
    }
}

impl HookRunner {
    /// A runner for these hooks. `budget` bounds a whole `pre_receive` stage.
    pub fn new(mut bindings: Vec<Binding>, budget: Duration) -> Self {
        bindings.sort_by(|a, b| (a.priority, a.handler.name()).cmp(&(b.priority, b.handler.name())));
        let bound = bindings.into_iter().map(|binding| Arc::new(Bound::new(binding))).collect();
        Self { bound, budget, clock: Arc::new(SystemClock), observer: None }
    }

    /// Has breakers open and close by this clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Tells this observer about breakers.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn HookObserver>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Whether any hook wants to be called there.
    pub fn has(&self, point: HookPoint) -> bool {
        self.bound.iter().any(|bound| bound.wants(point))
    }

    /// The names of the hooks that want to be called there, in order.
    pub fn names(&self, point: HookPoint) -> Vec<&str> {
        self.bound.iter().filter(|bound| bound.wants(point)).map(|bound| bound.name()).collect()
    }

    /// The state of the breaker of a hook at a point; `None` if there is no such hook.
    pub fn breaker(&self, hook: &str, point: HookPoint) -> Option<BreakerState> {
        self.find(hook, point).map(|bound| bound.breaker(point).state())
    }

    /// Asks all `pre_receive` hooks, group by group. A refusal ends the stage after its group;
    /// the strictest verdict wins.
    pub async fn pre_receive(&self, mail: &Mail) -> (Verdict, Vec<HookRun>) {
        let deadline = Instant::now() + self.budget;
        let mut verdict = Verdict::Allow;
        let mut runs = Vec::new();
        let wanted: Vec<&Arc<Bound>> = self.bound.iter().filter(|bound| bound.wants(HookPoint::PreReceive)).collect();
        let fingerprint = fingerprint(mail).await;
        for group in wanted.chunk_by(|a, b| a.priority() == b.priority()) {
            let asked = group.iter().map(|bound| bound.ask(mail, fingerprint, deadline, &*self.clock));
            for (answer, run) in join_all(asked).await {
                verdict = verdict.or_stricter(answer);
                runs.push(run);
            }
            group.iter().for_each(|bound| self.tell(bound, HookPoint::PreReceive));
            if verdict.reply().is_some() {
                break;
            }
        }
        (verdict, runs)
    }

    /// Calls one `post_receive` hook.
    ///
    /// # Errors
    /// When there is no hook of this name any more, when it failed, panicked or took too long, or when it is not
    /// called because too many calls failed before.
    pub async fn post_receive(&self, hook: &str, mail: &Mail) -> Result<Actions, HookError> {
        let bound = self
            .find(hook, HookPoint::PostReceive)
            .ok_or_else(|| HookError::new(format_args!("there is no post_receive hook named {hook}")))?;
        let answer = bound.post_receive(mail, fingerprint(mail).await, &*self.clock).await;
        self.tell(bound, HookPoint::PostReceive);
        answer
    }

    fn find(&self, hook: &str, point: HookPoint) -> Option<&Arc<Bound>> {
        self.bound.iter().find(|bound| bound.name() == hook && bound.wants(point))
    }

    fn tell(&self, bound: &Bound, point: HookPoint) {
        for change in bound.breaker(point).take_transitions() {
            if let Some(observer) = &self.observer {
                observer.breaker_changed(bound.name(), point, &change);
            }
        }
    }
}

impl fmt::Debug for HookRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookRunner").field("bound", &self.bound).field("budget", &self.budget).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use mairust_core::{Content, Envelope, ManualClock, Origin, ReversePath, TenantId, Timestamp};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::closure::{PostReceive, PreReceive};

    fn mail() -> Mail {
        let envelope = Envelope { sender: ReversePath::Null, recipients: Vec::new() };
        Mail::new(
            TenantId::new(Timestamp::default()),
            envelope,
            Origin::default(),
            Vec::new().into(),
            Content::default(),
        )
    }

    fn says(name: &str, priority: u16, verdict: Verdict) -> Binding {
        let hook = PreReceive::new(name, move |_: Mail| {
            let verdict = verdict.clone();
            async move { verdict }
        });
        Binding { priority, ..Binding::new(Arc::new(hook)) }
    }

    fn runner(bindings: Vec<Binding>) -> HookRunner {
        HookRunner::new(bindings, Duration::from_secs(8))
    }

    #[tokio::test]
    async fn the_strictest_verdict_of_a_group_wins() {
        let runner = runner(vec![
            says("d", 5, Verdict::Allow),
            says("c", 5, Verdict::quarantine("odd")),
            says("b", 5, Verdict::reject("second")),
            says("a", 5, Verdict::reject("first")),
        ]);
        let (verdict, runs) = runner.pre_receive(&mail()).await;
        assert_eq!(verdict, Verdict::reject("first"));
        assert_eq!(runs.iter().map(|run| run.hook.as_str()).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    }

    #[tokio::test]
    async fn a_refusal_ends_the_stage_after_its_group() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = |name: &'static str, priority, verdict: Verdict| {
            let seen = seen.clone();
            let hook = PreReceive::new(name, move |_: Mail| {
                seen.lock().unwrap().push(name);
                let verdict = verdict.clone();
                async move { verdict }
            });
            Binding { priority, ..Binding::new(Arc::new(hook)) }
        };
        let runner = runner(vec![
            record("late", 300, Verdict::Allow),
            record("quarantines", 1, Verdict::quarantine("odd")),
            record("refuses", 2, Verdict::tempfail("later")),
        ]);
        assert_eq!(runner.pre_receive(&mail()).await.0, Verdict::tempfail("later"));
        assert_eq!(*seen.lock().unwrap(), ["quarantines", "refuses"]);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_take_the_configured_way() {
        let broken = |mode| {
            let fails = PreReceive::new("fails", |_: Mail| async { Err::<Verdict, _>("no idea") });
            let mut binding = Binding::new(Arc::new(fails));
            binding.on_failure = mode;
            runner(vec![binding])
        };
        assert_eq!(broken(OnFailure::Allow).pre_receive(&mail()).await.0, Verdict::Allow);
        assert_eq!(broken(OnFailure::Quarantine).pre_receive(&mail()).await.0.as_str(), "quarantine");
        assert_eq!(broken(OnFailure::Tempfail).pre_receive(&mail()).await.0.as_str(), "tempfail");
    }

    #[tokio::test(start_paused = true)]
    async fn the_stage_ends_within_its_budget() {
        let hang = |name: &str, priority| {
            let hook = PreReceive::new(name, |_: Mail| std::future::pending::<Verdict>());
            Binding { priority, ..Binding::new(Arc::new(hook)) }
        };
        let runner = runner(vec![hang("a", 1), hang("b", 1), hang("c", 2), hang("d", 3)]);
        let start = Instant::now();
        let (verdict, runs) = runner.pre_receive(&mail()).await;
        assert_eq!(start.elapsed(), Duration::from_secs(8));
        assert_eq!(verdict, Verdict::Allow);
        let outcomes: Vec<_> = runs.into_iter().map(|run| run.outcome).collect();
        assert_eq!(outcomes, [RunOutcome::Timeout, RunOutcome::Timeout, RunOutcome::Timeout, RunOutcome::Budget]);
    }

    #[tokio::test]
    async fn a_panic_is_a_failure() {
        let hook = PreReceive::new("panics", |_: Mail| async {
            assert!(std::hint::black_box(false), "on purpose");
        });
        let (verdict, runs) = runner(vec![Binding::new(Arc::new(hook))]).pre_receive(&mail()).await;
        assert_eq!(verdict, Verdict::Allow);
        assert_eq!(runs[0].outcome, RunOutcome::Failed("the hook panicked".to_owned()));
    }

    #[tokio::test]
    async fn post_receive_hooks_are_called_by_name() {
        let hook = PostReceive::new("tags", |_: Mail| async { Ok(Actions::none().tag("seen")) });
        let runner = runner(vec![Binding::new(Arc::new(hook))]);
        assert!(runner.has(HookPoint::PostReceive) && !runner.has(HookPoint::PreReceive));
        assert_eq!(runner.names(HookPoint::PostReceive), ["tags"]);
        assert_eq!(runner.post_receive("tags", &mail()).await, Ok(Actions::none().tag("seen")));
        assert!(runner.post_receive("gone", &mail()).await.is_err());
    }

    /// Fails until it is told otherwise.
    fn fragile(required: bool) -> (HookRunner, Arc<ManualClock>, Arc<AtomicBool>) {
        let (works, clock) = (Arc::new(AtomicBool::new(false)), Arc::new(ManualClock::at(Timestamp::from_unix(0))));
        let state = works.clone();
        let hook = PreReceive::new("fragile", move |_: Mail| {
            let answer = if state.load(Ordering::SeqCst) { Ok(Verdict::Allow) } else { Err("no idea") };
            async move { answer }
        });
        let binding = Binding::new(Arc::new(hook));
        let mut binding = if required { binding.required() } else { binding };
        binding.pre_receive_breaker.jitter = 0.0;
        (runner(vec![binding]).with_clock(clock.clone()), clock, works)
    }

    fn letter(text: &str) -> Mail {
        let envelope = Envelope { sender: ReversePath::Null, recipients: Vec::new() };
        let body = text.as_bytes().to_vec().into();
        Mail::new(TenantId::new(Timestamp::default()), envelope, Origin::default(), body, Content::default())
    }

    async fn outcome(runner: &HookRunner, text: &str) -> (&'static str, &'static str, bool) {
        let (verdict, runs) = runner.pre_receive(&letter(text)).await;
        (runs[0].outcome.as_str(), verdict.as_str(), runs[0].let_pass)
    }

    #[tokio::test]
    async fn a_hook_that_fails_is_not_called_for_a_while() {
        for (required, verdict) in [(false, "allow"), (true, "tempfail")] {
            let (runner, clock, works) = fragile(required);
            for text in ["a", "b", "c"] {
                assert_eq!(outcome(&runner, text).await, ("failed", verdict, !required));
            }
            works.store(true, Ordering::SeqCst);
            assert_eq!(outcome(&runner, "d").await, ("breaker_open", verdict, !required));
            assert_eq!(runner.breaker("fragile", HookPoint::PreReceive).unwrap().as_str(), "open");
            clock.advance(Duration::from_secs(60));
            for state in ["half_open", "closed"] {
                assert_eq!(outcome(&runner, "d").await, ("allow", "allow", false));
                assert_eq!(runner.breaker("fragile", HookPoint::PreReceive).unwrap().as_str(), state);
            }
        }
    }

    #[tokio::test]
    async fn a_message_at_which_it_fails_is_put_aside() {
        for (required, verdict) in [(false, "quarantine"), (true, "tempfail")] {
            let (runner, clock, works) = fragile(required);
            for _ in 0..2 {
                assert_eq!(outcome(&runner, "poison").await.0, "failed");
            }
            works.store(true, Ordering::SeqCst);
            assert_eq!(outcome(&runner, "poison").await, ("poison", verdict, false));
            assert_eq!(outcome(&runner, "another").await, ("allow", "allow", false));
            clock.advance(Duration::from_secs(3_600));
            assert_eq!(outcome(&runner, "poison").await.0, "allow", "it is tried again");
        }
        let (runner, clock, _) = fragile(true);
        for hour in 0..3 {
            for _ in 0..2 {
                assert_eq!(outcome(&runner, "poison").await.0, "failed");
            }
            let expected = if hour < 2 { "tempfail" } else { "quarantine" };
            assert_eq!(outcome(&runner, "poison").await, ("poison", expected, false), "after {hour} h");
            clock.advance(Duration::from_secs(3_600));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn calls_wait_for_their_turn_within_their_time() {
        let go = Arc::new(Semaphore::new(0));
        let waits = go.clone();
        let hook = PreReceive::new("slow", move |_: Mail| {
            let waits = waits.clone();
            async move {
                waits.acquire().await.unwrap().forget();
                Verdict::Allow
            }
        });
        let mut binding = Binding::new(Arc::new(hook));
        binding.max_inflight = 2;
        let runner = runner(vec![binding]);
        let texts = ["a", "b", "c", "d", "e", "f"];
        let first_two = async {
            tokio::time::advance(Duration::from_secs(3)).await;
            go.add_permits(2);
        };
        let (mut outcomes, ()) = futures::join!(join_all(texts.map(|text| outcome(&runner, text))), first_two);
        outcomes.sort_unstable();
        // Two at a time, five seconds for each: two wait and then lack the time, two get no turn.
        let names: Vec<_> = outcomes.iter().map(|(name, ..)| *name).collect();
        assert_eq!(names, ["allow", "allow", "overload", "overload", "timeout", "timeout"]);
        assert_eq!(runner.breaker("slow", HookPoint::PreReceive), Some(BreakerState::Closed));
    }

    #[tokio::test]
    async fn a_client_that_hangs_up_is_no_failure() {
        let (runner, clock, works) = fragile(false);
        for text in ["a", "b", "c"] {
            outcome(&runner, text).await;
        }
        clock.advance(Duration::from_secs(60));
        works.store(true, Ordering::SeqCst);
        let letter = letter("d");
        drop(futures::poll!(Box::pin(runner.pre_receive(&letter))));
        assert_eq!(outcome(&runner, "d").await.0, "allow");
    }
}
