use super::*;

const START: Timestamp = Timestamp::from_unix(1_767_225_600);

fn at(seconds: u64) -> Timestamp {
    START.plus(Duration::from_secs(seconds))
}

fn message(number: u8) -> Option<Fingerprint> {
    Some(Fingerprint([number; 32]))
}

fn settings() -> BreakerSettings {
    BreakerSettings { jitter: 0.0, ..BreakerSettings::pre_receive() }
}

/// What happens at a second.
#[derive(Clone, Copy)]
enum Step {
    /// A call about the message of this number fails.
    Fail(u8),
    /// A call about a message that nothing else is about succeeds.
    Succeed,
    /// No call gets through, for this reason.
    Open(OpenReason),
    /// No call about this message gets through.
    Poison(u8),
    /// A health check.
    HealthStatus(HealthStatus),
    /// The name of the state.
    Is(&'static str),
}

fn run(settings: BreakerSettings, steps: &[(u64, Step)]) -> Breaker {
    let breaker = Breaker::new(settings);
    for (index, (second, step)) in steps.iter().enumerate() {
        let now = at(*second);
        let call = |fingerprint| breaker.acquire(fingerprint, now).unwrap_or_else(|why| panic!("step {index}: {why}"));
        match *step {
            Step::Fail(number) => call(message(number)).record(CallResult::Failure, now),
            Step::Succeed => call(message(255)).record(CallResult::Success, now),
            Step::Open(because) => {
                assert_eq!(refused(&breaker, 254, now), Some(Refused::Open(because)), "step {index}")
            }
            Step::Poison(number) => {
                let found = refused(&breaker, number, now);
                assert!(matches!(found, Some(Refused::Poison { .. })), "step {index}: {found:?}");
            }
            Step::HealthStatus(health) => breaker.checked(health, now),
            Step::Is(state) => assert_eq!(breaker.state().as_str(), state, "step {index}"),
        }
    }
    breaker
}

fn refused(breaker: &Breaker, number: u8, now: Timestamp) -> Option<Refused> {
    breaker.acquire(message(number), now).err()
}

#[test]
fn failures_one_after_the_other_open_it() {
    use Step::{Fail, Is, Open, Succeed};
    let streak = [(0, Fail(1)), (0, Fail(2)), (0, Is("closed")), (0, Fail(3)), (0, Open(OpenReason::Consecutive))];
    run(settings(), &streak);
    let reset = [(0, Fail(1)), (0, Fail(2)), (1, Succeed), (2, Fail(3)), (3, Fail(4)), (3, Is("closed"))];
    run(settings(), &reset);
    let patient = BreakerSettings { jitter: 0.0, ..BreakerSettings::patient() };
    let nine: Vec<_> = (0..9).map(|number| (0, Fail(number))).collect();
    run(patient.clone(), &[&nine[..], &[(0, Is("closed"))]].concat());
    run(patient, &[&nine[..], &[(0, Fail(9)), (0, Is("open"))]].concat());
}

#[test]
fn one_message_alone_opens_nothing_and_is_poison() {
    use Step::{Fail, Is, Poison, Succeed};
    let steps = [
        (0, Fail(7)),
        (0, Fail(7)),
        (0, Is("closed")),
        (1, Poison(7)),
        (2, Succeed),
        (3_599, Poison(7)),
        (3_600, Fail(7)),
        (3_601, Fail(8)),
        (3_602, Is("closed")),
        (3_602, Fail(7)),
        (3_602, Is("open")),
    ];
    run(settings(), &steps);
}

#[test]
fn many_failures_of_all_calls_open_it() {
    use Step::{Fail, Is, Succeed};
    // 7 of 10 are not more than 70 %.
    let bad = |from: u64, number: u8| [(from, Fail(number)), (from, Fail(number + 1)), (from, Succeed)];
    let three: Vec<_> = (0..3).flat_map(|round| bad(round, 10 * round as u8)).collect();
    let seven = [&three[..], &[(5, Fail(100))]].concat();
    run(settings(), &[&seven[..], &[(5, Is("closed"))]].concat());
    run(settings(), &[&seven[..], &[(5, Fail(101)), (5, Is("open"))]].concat());
    // What is older than the window is forgotten; its parts are ten seconds long.
    run(settings(), &[&seven[..], &[(70, Fail(101)), (70, Is("closed"))]].concat());
}

#[test]
fn one_call_at_a_time_says_whether_it_closes() {
    let open = |breaker: &Breaker, until: u64| {
        let expected = BreakerState::Open { until: Some(at(until)), because: OpenReason::Consecutive };
        assert_eq!(breaker.state(), expected);
    };
    let breaker = run(settings(), &[(0, Step::Fail(1)), (0, Step::Fail(2)), (0, Step::Fail(3))]);
    open(&breaker, 60);
    let probe = breaker.acquire(message(4), at(60)).unwrap();
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert!(matches!(refused(&breaker, 5, at(61)), Some(Refused::Open(_))), "one at a time");
    probe.record(CallResult::Failure, at(62));
    open(&breaker, 62 + 120);
    for (begin, end, next) in [(182, 182, 240), (422, 422, 480), (902, 902, 600), (1_502, 1_502, 600)] {
        breaker.acquire(message(4), at(begin)).unwrap().record(CallResult::Failure, at(end));
        open(&breaker, end + next);
        breaker.reset_messages();
    }
    for second in [2_102, 2_103] {
        assert_ne!(breaker.state(), BreakerState::Closed);
        breaker.acquire(message(6), at(second)).unwrap().record(CallResult::Success, at(second));
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn a_probe_whose_client_hung_up_is_no_result() {
    let breaker = run(settings(), &[(0, Step::Fail(1)), (0, Step::Fail(2)), (0, Step::Fail(3))]);
    drop(breaker.acquire(message(4), at(60)).unwrap());
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    let hangs = breaker.acquire(message(5), at(70)).unwrap();
    assert!(breaker.acquire(message(6), at(99)).is_err());
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert!(breaker.acquire(message(6), at(100)).is_err());
    assert_eq!(breaker.state().as_str(), "open", "a probe without a result is a failure");
    hangs.record(CallResult::Success, at(101));
    assert_eq!(breaker.state().as_str(), "open", "it came too late");
}

#[test]
fn results_of_another_time_change_nothing() {
    let breaker = Breaker::new(settings());
    let late: Vec<_> = (0..3).map(|number| breaker.acquire(message(number), at(0)).unwrap()).collect();
    for number in 10..13 {
        breaker.acquire(message(number), at(1)).unwrap().record(CallResult::Failure, at(1));
    }
    let probe = breaker.acquire(message(20), at(61)).unwrap();
    for permit in late {
        permit.record(CallResult::Success, at(61));
    }
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    probe.record(CallResult::Success, at(62));
    breaker.acquire(message(20), at(63)).unwrap().record(CallResult::Success, at(63));
    let names: Vec<_> = breaker.take_transitions().iter().map(|change| (change.from, change.to.as_str())).collect();
    assert_eq!(names, [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]);
    assert!(breaker.take_transitions().is_empty());
}

#[test]
fn health_opens_it_and_has_it_tried() {
    use Step::{Fail, HealthStatus as Check, Is, Open, Succeed};
    let (ok, degraded, error) = (Check(HealthStatus::Ok), Check(HealthStatus::Degraded), Check(HealthStatus::Error));
    let steps = [
        (0, error),
        (30, error),
        (60, degraded),
        (90, error),
        (120, error),
        (120, Is("closed")),
        (150, error),
        (151, Open(OpenReason::Unhealthy)),
        (180, ok),
        (181, Open(OpenReason::Unhealthy)),
        (190, ok),
        (190, Is("half_open")),
        (191, Succeed),
        (192, Succeed),
        (192, Is("closed")),
    ];
    run(settings(), &steps);
    let by_calls = [(0, Fail(1)), (0, Fail(2)), (0, Fail(3)), (10, ok), (20, ok), (30, ok), (30, Is("open"))];
    run(settings(), &by_calls);
}

#[test]
fn somebody_may_decide() {
    let breaker = Breaker::new(settings());
    breaker.force_open(at(0));
    assert_eq!(refused(&breaker, 1, at(1_000_000)), Some(Refused::Open(OpenReason::Forced)));
    breaker.trip(OpenReason::CrashLoop, at(1));
    assert_eq!(breaker.state(), BreakerState::Open { until: None, because: OpenReason::Forced });
    breaker.disable(at(2));
    for _ in 0..20 {
        breaker.acquire(message(1), at(3)).unwrap().record(CallResult::Failure, at(3));
    }
    assert_eq!(breaker.state(), BreakerState::Disabled);
    breaker.reset(at(4));
    assert!(refused(&breaker, 1, at(4)).is_none());
    breaker.trip(OpenReason::CrashLoop, at(5));
    assert_eq!(refused(&breaker, 1, at(6)), Some(Refused::Open(OpenReason::CrashLoop)));
}

#[test]
fn the_time_differs_a_little() {
    let settings = BreakerSettings::pre_receive();
    let times: Vec<_> = (0..100).map(|_| settings.open_for(1).as_secs_f64()).collect();
    assert!(times.iter().all(|time| (54.0..=66.0).contains(time)));
    assert!(times.iter().any(|time| (time - times[0]).abs() > 0.1));
    assert!(settings.open_for(u32::MAX) <= Duration::from_secs(660));
}

impl Breaker {
    /// Forgets messages that failed.
    fn reset_messages(&self) {
        self.lock().failed = RecentMap::new(FAILED_MESSAGES);
    }
}
