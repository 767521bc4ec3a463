//! Before a hook that was left alone gets to see a message again, it is asked how it does.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use super::*;
use crate::breaker::BreakerSettings;
use crate::handler::HealthStatus;

/// Works or not, and says so or hangs.
#[derive(Debug)]
struct Asked {
    works: AtomicBool,
    /// What it says; `None` if it does not answer.
    says: Mutex<Option<HealthStatus>>,
    calls: AtomicU32,
    points: [HookPoint; 1],
}

#[async_trait::async_trait]
impl HookHandler for Asked {
    fn name(&self) -> &str {
        "asked"
    }

    fn points(&self) -> &[HookPoint] {
        &self.points
    }

    async fn call(&self, _: &HookCall) -> Result<Answer, HookError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.works.load(Ordering::SeqCst) { Ok(Answer::allow()) } else { Err(HookError::new("no idea")) }
    }

    async fn health(&self) -> Option<HealthReport> {
        let says = *self.says.lock().unwrap_or_else(PoisonError::into_inner);
        match says {
            Some(status) => Some(HealthReport { status, details: String::new() }),
            None => std::future::pending().await,
        }
    }
}

impl Asked {
    fn says(&self, status: Option<HealthStatus>) {
        *self.says.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }
}

/// A hook that failed so often that it is left alone.
async fn left_alone(point: HookPoint) -> (HookRunner, Arc<ManualClock>, Arc<Asked>) {
    let hook = Arc::new(Asked {
        works: AtomicBool::new(false),
        says: Mutex::new(Some(HealthStatus::Error)),
        calls: AtomicU32::new(0),
        points: [point],
    });
    let mut binding = Binding::new(hook.clone());
    binding.pre_receive_breaker.jitter = 0.0;
    binding.other_breakers = BreakerSettings { successes: 1, ..binding.pre_receive_breaker.clone() };
    let clock = Arc::new(ManualClock::at(Timestamp::from_unix(0)));
    let runner = runner(vec![binding]).with_clock(clock.clone());
    for text in ["a", "b", "c"] {
        called(&runner, point, text).await;
    }
    assert_eq!((state(&runner, point), hook.calls()), (open(60, OpenReason::Consecutive), 3));
    (runner, clock, hook)
}

async fn called(runner: &HookRunner, point: HookPoint, text: &str) -> RunOutcome {
    let mail = letter(text);
    let facts = facts(&mail);
    let call = HookCall::new(point, mail, facts, Timestamp::default());
    runner.of(tenant()).call("asked", call).await.expect("it is there").run.outcome
}

fn state(runner: &HookRunner, point: HookPoint) -> BreakerState {
    runner.of(tenant()).breaker("asked", point).expect("it is there")
}

fn open(until: i64, because: OpenReason) -> BreakerState {
    BreakerState::Open { until: Some(Timestamp::from_unix(until)), because }
}

#[tokio::test(start_paused = true)]
async fn one_that_says_it_does_not_work_sees_no_message() {
    let point = HookPoint::PreReceive;
    let (runner, clock, hook) = left_alone(point).await;
    hook.works.store(true, Ordering::SeqCst);
    let unhealthy = RunOutcome::Open(OpenReason::Unhealthy);
    clock.advance(Duration::from_secs(60));
    assert_eq!(called(&runner, point, "d").await, unhealthy);
    assert_eq!((state(&runner, point), hook.calls()), (open(180, OpenReason::Unhealthy), 3));
    // One that does not answer takes half of the time of the call.
    hook.says(None);
    clock.advance(Duration::from_secs(120));
    let began = Instant::now();
    assert_eq!(called(&runner, point, "d").await, unhealthy);
    assert_eq!((began.elapsed().as_millis() / 100, hook.calls()), (10, 3));
    assert_eq!(state(&runner, point), open(180 + 240, OpenReason::Unhealthy));
    // The message is none at which it failed.
    hook.says(Some(HealthStatus::Degraded));
    clock.advance(Duration::from_secs(240));
    assert_eq!(called(&runner, point, "d").await, RunOutcome::Done("allow"));
    assert_eq!((state(&runner, point), hook.calls()), (BreakerState::HalfOpen, 4));
    // Each probe asks.
    hook.says(Some(HealthStatus::Error));
    assert_eq!(called(&runner, point, "e").await, unhealthy);
    hook.says(Some(HealthStatus::Ok));
    clock.advance(Duration::from_secs(600));
    for text in ["e", "f"] {
        assert_eq!(called(&runner, point, text).await, RunOutcome::Done("allow"));
    }
    assert_eq!(state(&runner, point), BreakerState::Closed);
    hook.says(Some(HealthStatus::Error));
    assert_eq!(called(&runner, point, "g").await, RunOutcome::Done("allow"), "a call is no probe");
}

#[tokio::test(start_paused = true)]
async fn a_question_that_nobody_waits_for_says_nothing() {
    let point = HookPoint::PreReceive;
    let (runner, clock, hook) = left_alone(point).await;
    hook.says(None);
    clock.advance(Duration::from_secs(60));
    assert!(tokio::time::timeout(Duration::from_millis(100), called(&runner, point, "d")).await.is_err());
    assert_eq!(state(&runner, point), BreakerState::HalfOpen);
    hook.says(Some(HealthStatus::Ok));
    hook.works.store(true, Ordering::SeqCst);
    assert_eq!(called(&runner, point, "d").await, RunOutcome::Done("allow"));
}

#[tokio::test(start_paused = true)]
async fn where_nobody_waits_the_message_is_the_question() {
    let point = HookPoint::PostReceive;
    let (runner, clock, hook) = left_alone(point).await;
    hook.works.store(true, Ordering::SeqCst);
    clock.advance(Duration::from_secs(60));
    assert_eq!(called(&runner, point, "d").await, RunOutcome::Done("allow"));
    assert_eq!(state(&runner, point), BreakerState::Closed);
}
