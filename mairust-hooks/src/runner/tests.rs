use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use mairust_core::{Content, Envelope, HookId, ManualClock, Origin, ReversePath, TenantId, Timestamp};
use tokio::sync::Semaphore;

use super::*;
use crate::binding::OnFailure;
use crate::breaker::{Fingerprint, OpenReason};
use crate::closure::HookFn;
use crate::handler::{FailureKind, HookError, HookHandler};
use crate::protocol::Answer;
use crate::protocol::request::SessionOrigin;
use crate::verdict::Verdict;

mod abandoned;

/// The same for all mail here.
fn tenant() -> TenantId {
    "019aaa68-dd6b-7000-8000-000000000001".parse().expect("it is an id")
}

fn mail() -> Mail {
    let envelope = Envelope { sender: ReversePath::Null, recipients: Vec::new() };
    Mail::new(tenant(), envelope, Origin::default(), Vec::new().into(), Content::default())
}

fn says(name: &str, priority: u16, verdict: Verdict) -> Binding {
    let hook = HookFn::pre_receive(name, move |_: Mail| {
        let verdict = verdict.clone();
        async move { verdict }
    });
    Binding { priority, ..Binding::new(Arc::new(hook)) }
}

fn runner(bindings: Vec<Binding>) -> HookRunner {
    HookRunner::new(bindings, Budgets::default())
}

fn facts(mail: &Mail) -> Arc<MailFacts> {
    let octets = mail.body().in_memory().expect("it is small");
    Arc::new(MailFacts::new(Fingerprint::of_octets(octets), SessionOrigin::Smtp))
}

/// Asks at `pre_receive`.
async fn ask(runner: &HookRunner, mail: &Mail) -> (Verdict, Vec<HookRun>) {
    let (hooks, point) = (runner.of(mail.tenant()), HookPoint::PreReceive);
    let stage = Stage { deadline: hooks.deadline(point), ..Stage::new(point, mail.clone(), facts(mail)) };
    let Asked { merged, runs } = hooks.ask(&stage, pending()).await.expect("somebody waits");
    (merged.verdict, runs)
}

fn state(runner: &HookRunner, hook: &str) -> Option<BreakerState> {
    runner.of(mail().tenant()).breaker(hook, HookPoint::PreReceive)
}

#[tokio::test]
async fn the_strictest_verdict_of_a_group_wins() {
    let runner = runner(vec![
        says("d", 5, Verdict::Allow),
        says("c", 5, Verdict::quarantine("odd")),
        says("b", 5, Verdict::reject("second")),
        says("a", 5, Verdict::reject("first")),
    ]);
    let (verdict, runs) = ask(&runner, &mail()).await;
    assert_eq!(verdict, Verdict::reject("first"));
    assert_eq!(runs.iter().map(|run| run.hook.as_str()).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn a_refusal_ends_the_stage_after_its_group() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = |name: &'static str, priority, verdict: Verdict| {
        let seen = seen.clone();
        let hook = HookFn::pre_receive(name, move |_: Mail| {
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
    assert_eq!(ask(&runner, &mail()).await.0, Verdict::tempfail("later"));
    assert_eq!(*seen.lock().unwrap(), ["quarantines", "refuses"]);
}

#[tokio::test(start_paused = true)]
async fn failures_take_the_configured_way() {
    let broken = |mode| {
        let fails = HookFn::pre_receive("fails", |_: Mail| async { Err::<Verdict, _>("no idea") });
        let mut binding = Binding::new(Arc::new(fails));
        binding.on_failure = mode;
        runner(vec![binding])
    };
    assert_eq!(ask(&broken(OnFailure::Allow), &mail()).await.0, Verdict::Allow);
    assert_eq!(ask(&broken(OnFailure::Quarantine), &mail()).await.0.as_str(), "quarantine");
    assert_eq!(ask(&broken(OnFailure::Tempfail), &mail()).await.0.as_str(), "tempfail");
}

#[tokio::test(start_paused = true)]
async fn the_stage_ends_within_its_budget() {
    let hang = |name: &str, priority| {
        let hook = HookFn::pre_receive(name, |_: Mail| std::future::pending::<Verdict>());
        Binding { priority, timeout: Some(Duration::from_secs(5)), ..Binding::new(Arc::new(hook)) }
    };
    let runner = runner(vec![hang("a", 1), hang("b", 1), hang("c", 2), hang("d", 3)]);
    let start = Instant::now();
    let (verdict, runs) = ask(&runner, &mail()).await;
    assert_eq!(start.elapsed(), Duration::from_secs(8));
    assert_eq!(verdict, Verdict::Allow);
    let outcomes: Vec<_> = runs.iter().map(|run| run.outcome.as_str()).collect();
    assert_eq!(outcomes, ["timeout", "timeout", "timeout", "budget"]);
}

#[tokio::test]
async fn a_panic_is_a_failure() {
    let hook = HookFn::pre_receive("panics", |_: Mail| async {
        assert!(std::hint::black_box(false), "on purpose");
    });
    let (verdict, runs) = ask(&runner(vec![Binding::new(Arc::new(hook))]), &mail()).await;
    assert_eq!(verdict, Verdict::Allow);
    assert_eq!(runs[0].outcome, RunOutcome::Failed(FailureKind::Crash, "the hook panicked".to_owned()));
}

#[tokio::test]
async fn post_receive_hooks_are_called_by_name() {
    let hook = HookFn::post_receive("tags", |_: Mail| async { Answer::allow().tag("seen") });
    let hooks = runner(vec![Binding::new(Arc::new(hook))]).of(mail().tenant());
    assert!(hooks.has(HookPoint::PostReceive) && !hooks.has(HookPoint::PreReceive));
    assert_eq!(hooks.names(HookPoint::PostReceive, &[]), ["tags"]);
    let call = || HookCall::new(HookPoint::PostReceive, mail(), facts(&mail()), Timestamp::default());
    let called = hooks.call("tags", call()).await.unwrap();
    assert_eq!((called.answer, called.run.let_pass), (Answer::allow().tag("seen"), false));
    assert!(hooks.call("gone", call()).await.is_none());
}

#[tokio::test]
async fn an_answer_that_says_what_may_not_be_said_is_none() {
    let hook = HookFn::pre_receive("wrong", |_: Mail| async { Answer::allow().tag("seen").tag("not a tag!") });
    let (verdict, runs) = ask(&runner(vec![Binding::new(Arc::new(hook))]), &mail()).await;
    assert_eq!((verdict, runs[0].outcome.as_str()), (Verdict::Allow, "protocol"));
}

#[tokio::test]
async fn a_hook_on_trial_decides_nothing() {
    let mut binding = says("trial", 100, Verdict::reject("no"));
    binding.mode = Mode::Shadow;
    let (verdict, runs) = ask(&runner(vec![binding]), &mail()).await;
    assert_eq!((verdict, runs[0].outcome.clone()), (Verdict::Allow, RunOutcome::Done("reject")));
    assert_eq!(runs[0].mode, Mode::Shadow);
}

#[tokio::test]
async fn hooks_of_a_tenant_see_its_mail_only_and_keep_their_state() {
    let runner = runner(vec![says("own", 100, Verdict::Allow)]);
    let (ours, other) = (mail().tenant(), TenantId::new(Timestamp::from_unix(9)));
    let bind = |tenant, key: &str| {
        let fails = HookFn::pre_receive("theirs", |_: Mail| async { Err::<Verdict, _>("no idea") });
        let hook = TenantHook { tenant, id: HookId::from_bytes([1; 16]), key: key.to_owned() };
        TenantBinding { hook, binding: Binding::new(Arc::new(fails)) }
    };
    runner.bind(vec![bind(ours, "1"), bind(other, "1")]);
    assert_eq!(runner.of(ours).names(HookPoint::PreReceive, &[]), ["own", "theirs"]);
    for text in ["a", "b", "c"] {
        ask(&runner, &letter(text)).await;
    }
    let of = |tenant| runner.of(tenant).breaker("theirs", HookPoint::PreReceive).unwrap().as_str();
    assert_eq!((of(ours), of(other)), ("open", "closed"));
    runner.bind(vec![bind(ours, "1")]);
    assert_eq!(of(ours), "open", "the same binding");
    assert_eq!(runner.of(other).names(HookPoint::PreReceive, &[]), ["own"]);
    runner.bind(vec![bind(ours, "2")]);
    assert_eq!(of(ours), "closed", "another one");
}

/// Fails until it is told otherwise.
fn fragile(required: bool) -> (HookRunner, Arc<ManualClock>, Arc<AtomicBool>) {
    let (works, clock) = (Arc::new(AtomicBool::new(false)), Arc::new(ManualClock::at(Timestamp::from_unix(0))));
    let state = works.clone();
    let hook = HookFn::pre_receive("fragile", move |_: Mail| {
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
    Mail::new(tenant(), envelope, Origin::default(), body, Content::default())
}

async fn outcome(runner: &HookRunner, text: &str) -> (&'static str, &'static str, bool) {
    let (verdict, runs) = ask(runner, &letter(text)).await;
    (runs[0].outcome.as_str(), verdict.as_str(), runs[0].let_pass)
}

#[tokio::test]
async fn a_hook_that_fails_is_not_called_for_a_while() {
    for (required, verdict) in [(false, "allow"), (true, "tempfail")] {
        let (runner, clock, works) = fragile(required);
        for text in ["a", "b", "c"] {
            assert_eq!(outcome(&runner, text).await, ("crash", verdict, !required));
        }
        works.store(true, Ordering::SeqCst);
        assert_eq!(outcome(&runner, "d").await, ("breaker_open", verdict, !required));
        assert_eq!(state(&runner, "fragile").unwrap().as_str(), "open");
        clock.advance(Duration::from_secs(60));
        for next in ["half_open", "closed"] {
            assert_eq!(outcome(&runner, "d").await, ("allow", "allow", false));
            assert_eq!(state(&runner, "fragile").unwrap().as_str(), next);
        }
    }
}

#[tokio::test]
async fn a_message_at_which_it_fails_is_put_aside() {
    for (required, verdict) in [(false, "quarantine"), (true, "tempfail")] {
        let (runner, clock, works) = fragile(required);
        for _ in 0..2 {
            assert_eq!(outcome(&runner, "poison").await.0, "crash");
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
            assert_eq!(outcome(&runner, "poison").await.0, "crash");
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
    let hook = HookFn::pre_receive("slow", move |_: Mail| {
        let waits = waits.clone();
        async move {
            waits.acquire().await.unwrap().forget();
            Verdict::Allow
        }
    });
    let mut binding = Binding::new(Arc::new(hook));
    (binding.max_inflight, binding.timeout) = (Some(2), Some(Duration::from_secs(5)));
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
    assert_eq!(state(&runner, "slow"), Some(BreakerState::Closed));
}

/// A program that is not started any more.
#[derive(Debug)]
struct Loops;

#[async_trait::async_trait]
impl HookHandler for Loops {
    fn name(&self) -> &str {
        "loops"
    }

    fn points(&self) -> &[HookPoint] {
        &[HookPoint::PreReceive]
    }

    async fn call(&self, _: &HookCall) -> Result<Answer, HookError> {
        Err(HookError::of(FailureKind::CrashLoop, "it ended too often"))
    }
}

#[tokio::test]
async fn a_program_that_ends_again_and_again_is_left_alone_at_once() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_unix(0)));
    let runner = runner(vec![Binding::new(Arc::new(Loops))]).with_clock(clock.clone());
    for _ in 0..3 {
        assert_eq!(outcome(&runner, "a").await, ("crash", "allow", true), "and the message is no poison");
        let open = |state| matches!(state, BreakerState::Open { because: OpenReason::CrashLoop, .. });
        assert!(state(&runner, "loops").is_some_and(open));
        assert_eq!(outcome(&runner, "b").await.0, "breaker_open");
        clock.advance(Duration::from_secs(660));
    }
}

mod probes;
