//! Lets a scanner rest that fails, so that a dead one does not cost its whole time for each message.
//!
//! Pure: time comes in. Closed, every call goes through; after some failures in a row it opens, and
//! no call does; after a while one call is let through to probe. If that one succeeds the circuit
//! closes, else it opens for twice as long.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mairust_core::Timestamp;

/// Failures in a row that open the circuit.
const FAILURES: u32 = 3;

/// How long it is open first, and at most.
const FIRST_REST: Duration = Duration::from_secs(15);
const LONGEST_REST: Duration = Duration::from_secs(240);

#[derive(Debug)]
pub(super) struct Circuit(Mutex<State>);

#[derive(Debug, Clone, Copy)]
enum State {
    Closed { failures: u32 },
    Open { until: Timestamp, rest: Duration },
    Probing { rest: Duration },
}

/// The right to one call. Dropped without a result, as when the client goes away, it counts for
/// nothing.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    circuit: &'a Circuit,
    is_probe: bool,
    began: Timestamp,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallResult {
    Failure,
    Success,
}

impl Circuit {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State::Closed { failures: 0 }))
    }

    /// Whether a call may be made now.
    pub(super) fn try_acquire(&self, now: Timestamp) -> Option<Permit<'_>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *state {
            State::Closed { .. } => Some(Permit { circuit: self, is_probe: false, began: now }),
            State::Open { until, rest } if now >= until => {
                *state = State::Probing { rest };
                Some(Permit { circuit: self, is_probe: true, began: now })
            }
            State::Open { .. } | State::Probing { .. } => None,
        }
    }

    fn change(&self, change: impl FnOnce(State) -> State) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = change(*state);
    }
}

impl Permit<'_> {
    /// Tells how the call ended.
    pub(super) fn record(mut self, result: CallResult, now: Timestamp) {
        let is_probe = std::mem::take(&mut self.is_probe);
        let open = |rest: Duration| State::Open { until: now.plus(rest), rest };
        self.circuit.change(|state| match (state, result) {
            (State::Probing { .. }, CallResult::Success) if is_probe => State::Closed { failures: 0 },
            (State::Probing { rest }, CallResult::Failure) if is_probe => open((rest * 2).min(LONGEST_REST)),
            (State::Closed { .. }, CallResult::Success) => State::Closed { failures: 0 },
            (State::Closed { failures }, CallResult::Failure) if failures + 1 >= FAILURES => open(FIRST_REST),
            (State::Closed { failures }, CallResult::Failure) => State::Closed { failures: failures + 1 },
            // A call from before the circuit opened says nothing about now.
            (state, _) => state,
        });
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            let until = self.began;
            self.circuit.change(|state| match state {
                State::Probing { rest } => State::Open { until, rest },
                other => other,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use mairust_core::{Clock, ManualClock};

    use super::*;

    fn call(circuit: &Circuit, clock: &ManualClock, result: CallResult) -> bool {
        let permit = circuit.try_acquire(clock.now());
        permit.map(|permit| permit.record(result, clock.now())).is_some()
    }

    fn opened() -> (Circuit, ManualClock) {
        let (circuit, clock) = (Circuit::new(), ManualClock::default());
        for _ in 0..FAILURES {
            assert!(call(&circuit, &clock, CallResult::Failure));
        }
        (circuit, clock)
    }

    #[test]
    fn a_success_forgives_what_failed_before() {
        let (circuit, clock) = (Circuit::new(), ManualClock::default());
        for result in [CallResult::Failure, CallResult::Failure, CallResult::Success].repeat(3) {
            assert!(call(&circuit, &clock, result));
        }
    }

    #[test]
    fn it_opens_and_one_probe_closes_it() {
        let (circuit, clock) = opened();
        assert!(circuit.try_acquire(clock.now()).is_none());
        clock.advance(FIRST_REST - Duration::from_millis(1));
        assert!(circuit.try_acquire(clock.now()).is_none());
        clock.advance(Duration::from_millis(1));
        let probe = circuit.try_acquire(clock.now()).unwrap();
        assert!(circuit.try_acquire(clock.now()).is_none(), "one probe at a time");
        probe.record(CallResult::Success, clock.now());
        assert!(call(&circuit, &clock, CallResult::Failure) && call(&circuit, &clock, CallResult::Failure));
    }

    #[test]
    fn it_rests_longer_each_time_a_probe_fails() {
        let (circuit, clock) = opened();
        for seconds in [15, 30, 60, 120, 240, 240] {
            clock.advance(Duration::from_secs(seconds) - Duration::from_millis(1));
            assert!(circuit.try_acquire(clock.now()).is_none(), "{seconds}");
            clock.advance(Duration::from_millis(1));
            assert!(call(&circuit, &clock, CallResult::Failure), "{seconds}");
        }
    }

    #[test]
    fn a_dropped_probe_lets_the_next_one_through() {
        let (circuit, clock) = opened();
        clock.advance(FIRST_REST);
        drop(circuit.try_acquire(clock.now()).unwrap());
        assert!(circuit.try_acquire(clock.now()).is_some());
    }

    #[test]
    fn results_from_before_it_opened_change_nothing() {
        let (circuit, clock) = (Circuit::new(), ManualClock::default());
        let late = [(); 4].map(|()| circuit.try_acquire(clock.now()).unwrap());
        for _ in 0..FAILURES {
            call(&circuit, &clock, CallResult::Failure);
        }
        clock.advance(FIRST_REST);
        let probe = circuit.try_acquire(clock.now()).unwrap();
        for (permit, result) in late.into_iter().zip([CallResult::Success, CallResult::Failure].repeat(2)) {
            permit.record(result, clock.now());
        }
        assert!(circuit.try_acquire(clock.now()).is_none());
        probe.record(CallResult::Success, clock.now());
        assert!(circuit.try_acquire(clock.now()).is_some());
    }
}
