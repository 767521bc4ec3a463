//! The only place that loops over hooks.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use mairust_core::{EnhancedCode, Mail, Rejection};
use tokio::time::Instant;

use crate::actions::Actions;
use crate::handler::{HookError, HookHandler, HookPoint};
use crate::verdict::Verdict;

/// Less time than this, and a hook is not called at all.
const LEAST_TIME: Duration = Duration::from_millis(100);

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
    /// What becomes of a message when the hook fails. Default [`OnFailure::Allow`].
    pub on_failure: OnFailure,
}

/// What becomes of a message when a hook fails, takes too long or panics.
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
#[derive(Debug, Clone)]
pub struct HookRunner {
    /// Sorted by priority, then name.
    bindings: Vec<Binding>,
    budget: Duration,
}

/// What one call of one hook came to, for logs and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HookRun {
    /// The hook.
    pub hook: String,
    /// How it ended.
    pub outcome: RunOutcome,
    /// How long it took.
    pub duration: Duration,
}

/// How one call of one hook ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunOutcome {
    /// The time of the whole stage was used up before it was called.
    Budget,
    /// It answered; for `pre_receive` the name of its verdict.
    Done(&'static str),
    /// It returned an error, or panicked.
    Failed(String),
    /// It took too long.
    Timeout,
}

impl Binding {
    /// A hook with the defaults.
    pub fn new(handler: Arc<dyn HookHandler>) -> Self {
        Self { handler, priority: 100, timeout: Duration::from_secs(5), on_failure: OnFailure::Allow }
    }

    fn wants(&self, point: HookPoint) -> bool {
        self.handler.points().contains(&point)
    }
}

impl HookRunner {
    /// A runner for these hooks. `budget` bounds a whole `pre_receive` stage.
    pub fn new(mut bindings: Vec<Binding>, budget: Duration) -> Self {
        bindings.sort_by(|a, b| (a.priority, a.handler.name()).cmp(&(b.priority, b.handler.name())));
        Self { bindings, budget }
    }

    /// Whether any hook wants to be called there.
    pub fn has(&self, point: HookPoint) -> bool {
        self.bindings.iter().any(|binding| binding.wants(point))
    }

    /// The names of the hooks that want to be called there, in order.
    pub fn names(&self, point: HookPoint) -> Vec<&str> {
        self.bindings.iter().filter(|binding| binding.wants(point)).map(|binding| binding.handler.name()).collect()
    }

    /// Asks all `pre_receive` hooks, group by group. A refusal ends the stage after its group;
    /// the strictest verdict wins.
    pub async fn pre_receive(&self, mail: &Mail) -> (Verdict, Vec<HookRun>) {
        let deadline = Instant::now() + self.budget;
        let mut verdict = Verdict::Allow;
        let mut runs = Vec::new();
        let wanted: Vec<&Binding> =
            self.bindings.iter().filter(|binding| binding.wants(HookPoint::PreReceive)).collect();
        for group in wanted.chunk_by(|a, b| a.priority == b.priority) {
            for (answer, run) in join_all(group.iter().map(|binding| ask(binding, mail, deadline))).await {
                verdict = verdict.or_stricter(answer);
                runs.push(run);
            }
            if verdict.reply().is_some() {
                break;
            }
        }
        (verdict, runs)
    }

    /// Calls one `post_receive` hook.
    ///
    /// # Errors
    /// When there is no hook of this name any more, or it failed, panicked or took too long.
    pub async fn post_receive(&self, hook: &str, mail: &Mail) -> Result<Actions, HookError> {
        let binding = self
            .bindings
            .iter()
            .find(|binding| binding.handler.name() == hook && binding.wants(HookPoint::PostReceive))
            .ok_or_else(|| HookError::new(format_args!("there is no post_receive hook named {hook}")))?;
        let call = AssertUnwindSafe(binding.handler.post_receive(mail)).catch_unwind();
        match tokio::time::timeout(binding.timeout, call).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(HookError::new("the hook panicked")),
            Err(_) => Err(HookError::new(format_args!("no answer within {:?}", binding.timeout))),
        }
    }
}

/// Asks one `pre_receive` hook, within its time and the stage's.
async fn ask(binding: &Binding, mail: &Mail, deadline: Instant) -> (Verdict, HookRun) {
    let start = Instant::now();
    let time = binding.timeout.min(deadline.saturating_duration_since(start));
    let outcome = if time < LEAST_TIME.min(binding.timeout) {
        Err(RunOutcome::Budget)
    } else {
        let call = AssertUnwindSafe(binding.handler.pre_receive(mail)).catch_unwind();
        match tokio::time::timeout(time, call).await {
            Ok(Ok(Ok(verdict))) => Ok(verdict),
            Ok(Ok(Err(error))) => Err(RunOutcome::Failed(error.to_string())),
            Ok(Err(_)) => Err(RunOutcome::Failed("the hook panicked".to_owned())),
            Err(_) => Err(RunOutcome::Timeout),
        }
    };
    let hook = binding.handler.name().to_owned();
    let (verdict, outcome) = match outcome {
        Ok(verdict) => {
            let name = verdict.as_str();
            (verdict, RunOutcome::Done(name))
        }
        Err(outcome) => (on_failure(binding.on_failure, &hook, &outcome), outcome),
    };
    (verdict, HookRun { hook, outcome, duration: start.elapsed() })
}

fn on_failure(mode: OnFailure, hook: &str, outcome: &RunOutcome) -> Verdict {
    match mode {
        OnFailure::Allow => Verdict::Allow,
        OnFailure::Quarantine => Verdict::quarantine(format!("hook {hook} had no answer: {outcome:?}")),
        OnFailure::Tempfail => Verdict::Tempfail(
            Rejection::new(451, EnhancedCode(4, 7, 1), "Temporary failure, please try again later")
                .because(format_args!("hook {hook} had no answer: {outcome:?}")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use mairust_core::{Content, Envelope, Origin, ReversePath, TenantId, Timestamp};

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
}
