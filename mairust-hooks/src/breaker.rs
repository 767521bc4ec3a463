//! Keeps calls away from a hook that fails: a circuit breaker.
//!
//! While it is closed, calls go through and are counted. When too many fail, one after the other or of all within a
//! window, it opens, and no call goes through for a while. Then it is half open: one call at a time goes through, and
//! says whether it closes or opens again, for longer.
//!
//! A message that fails twice says more about itself than about the hook: it is poison for the hook, and no reason to
//! open. The time is told by whoever calls; nothing here runs by itself.
//!
//! Deliberately absent: what becomes of a message for which the hook is not called.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mairust_core::{RecentMap, Timestamp};

use crate::handler::HealthStatus;

/// Messages that failed once or more, remembered for each hook.
const FAILED_MESSAGES: usize = 1_024;
/// Failures of one message that make it poison.
const POISON_AFTER: u32 = 2;
/// Messages that must be among the failures that come one after the other, so that one message alone opens nothing.
const MESSAGES_TO_OPEN: usize = 2;
/// Results of health checks, one after the other, that change the state.
const HEALTH_ERRORS: u32 = 3;
const HEALTH_SUCCESSES: u32 = 2;

/// What a message is known by: the SHA-256 of its octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// When a breaker opens and closes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BreakerSettings {
    /// Failures one after the other that open it.
    pub consecutive: u32,
    /// The part of calls, from 0 to 1, that may fail within the window; more than this opens it.
    pub failure_rate: f64,
    /// The window.
    pub window: Duration,
    /// The parts of the window that are forgotten one at a time.
    pub buckets: u32,
    /// Fewer calls within the window than this say nothing about a rate.
    pub least_calls: u32,
    /// How long it is open at first; twice as long each time that it opens again before it was closed.
    pub open: Duration,
    /// How long it is open at most.
    pub longest_open: Duration,
    /// By how much that time differs from one breaker to the other, as a part of it.
    pub jitter: f64,
    /// Successes that close it when it is half open.
    pub successes: u32,
    /// How long a call that was let through while it is half open may stay without a result.
    pub patience: Duration,
    /// How long a message is poison, and how long a failure of a message is remembered.
    pub poison: Duration,
}

/// Decides whether a hook is called.
#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    inner: Mutex<Inner>,
}

/// The right to call the hook once. Dropping it gives it back as if there had been no call: so it is when a client
/// hangs up, or the server stops, while a message is looked at.
#[derive(Debug)]
#[must_use = "a call that is not recorded never happened"]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    fingerprint: Option<Fingerprint>,
    epoch: u64,
    /// Whether this is the one call while the breaker is half open.
    is_probe: bool,
}

/// How a call ended, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallResult {
    /// It answered; a refusal of the message is an answer.
    Success,
    /// It failed, and that is its fault.
    Failure,
}

/// Why a hook is not called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The breaker is open, or half open and busy.
    Open(OpenReason),
    /// This message has failed before.
    Poison {
        /// When it failed for the first time.
        first: Timestamp,
    },
}

/// Why a breaker is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OpenReason {
    /// Failures came one after the other.
    Consecutive,
    /// Somebody opened it.
    Forced,
    /// Too many of all calls failed.
    Rate,
    /// The program behind the hook ends again and again.
    CrashLoop,
    /// It says itself that it does not work.
    Unhealthy,
}

/// The state of a breaker, as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// Calls go through, whatever they come to: somebody wants it so.
    Disabled,
    /// One call at a time goes through.
    HalfOpen,
    /// No call goes through.
    Open {
        /// Until when; `None` until somebody closes it.
        until: Option<Timestamp>,
        /// Why.
        because: OpenReason,
    },
}

/// A change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// When.
    pub at: Timestamp,
    /// The name of the state before.
    pub from: &'static str,
    /// The state after it.
    pub to: BreakerState,
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// Grows with each change of state: results of calls that began before say nothing about the state after it.
    epoch: u64,
    failed: RecentMap<Fingerprint, FailedMessage>,
    health: (HealthStatus, u32),
    transitions: Vec<Transition>,
}

#[derive(Debug)]
enum State {
    Closed { streak: Streak, window: Window },
    Disabled,
    ForcedOpen,
    HalfOpen { probe: Option<Timestamp>, successes: u32, trips: u32 },
    Open { until: Timestamp, trips: u32, because: OpenReason },
}

/// Failures one after the other.
#[derive(Debug, Default)]
struct Streak {
    failures: u32,
    /// Those of their messages that differ, as many as matter.
    messages: Vec<Option<Fingerprint>>,
}

/// Calls of the last time.
#[derive(Debug, Default)]
struct Window {
    /// The number of the part of time, its calls and those of them that failed; the newest at the end.
    buckets: VecDeque<(u64, u32, u32)>,
}

#[derive(Debug, Clone, Copy)]
struct FailedMessage {
    /// Failures since it was last no poison any more.
    count: u32,
    /// When it failed for the first time.
    first: Timestamp,
    /// Since when failures are counted or, once it is poison, since when it is.
    since: Timestamp,
}

impl BreakerSettings {
    /// For hooks that a reply waits for: they must not be waited for in vain.
    pub fn pre_receive() -> Self {
        Self {
            consecutive: 3,
            failure_rate: 0.7,
            window: Duration::from_secs(60),
            buckets: 6,
            least_calls: 10,
            open: Duration::from_secs(60),
            longest_open: Duration::from_secs(600),
            jitter: 0.1,
            successes: 2,
            patience: Duration::from_secs(30),
            poison: Duration::from_secs(3_600),
        }
    }

    /// For all others.
    pub fn patient() -> Self {
        Self {
            consecutive: 10,
            failure_rate: 0.8,
            window: Duration::from_secs(300),
            buckets: 10,
            least_calls: 20,
            successes: 1,
            ..Self::pre_receive()
        }
    }

    /// How long it is open the so manieth time.
    fn open_for(&self, trips: u32) -> Duration {
        let doubled = self.open.saturating_mul(1_u32.checked_shl(trips.saturating_sub(1)).unwrap_or(u32::MAX));
        let jitter = 1.0 + self.jitter * (2.0 * rand::random::<f64>() - 1.0);
        doubled.min(self.longest_open).mul_f64(jitter.max(0.0))
    }
}

impl Breaker {
    /// A closed breaker.
    pub fn new(settings: BreakerSettings) -> Self {
        let inner = Inner {
            state: State::closed(),
            epoch: 0,
            failed: RecentMap::new(FAILED_MESSAGES),
            health: (HealthStatus::Ok, 0),
            transitions: Vec::new(),
        };
        Self { settings, inner: Mutex::new(inner) }
    }

    /// Asks whether the hook may be called, with this message if it is about one.
    ///
    /// # Errors
    /// When it is not to be called.
    pub fn acquire(&self, fingerprint: Option<Fingerprint>, now: Timestamp) -> Result<Permit<'_>, Refused> {
        let mut inner = self.lock();
        if !matches!(inner.state, State::Disabled)
            && let Some(first) = inner.poisoned(fingerprint, now, &self.settings)
        {
            return Err(Refused::Poison { first });
        }
        self.permit(inner, fingerprint, now)
    }

    /// The same for a message that is shown to the hook again and again until it has an answer: that it failed before is
    /// no reason against it.
    ///
    /// # Errors
    /// When the breaker is open.
    pub fn acquire_again(&self, fingerprint: Option<Fingerprint>, now: Timestamp) -> Result<Permit<'_>, Refused> {
        self.permit(self.lock(), fingerprint, now)
    }

    fn permit(
        &self,
        mut inner: MutexGuard<'_, Inner>,
        fingerprint: Option<Fingerprint>,
        now: Timestamp,
    ) -> Result<Permit<'_>, Refused> {
        let is_probe = self.pass(&mut inner, now).map_err(Refused::Open)?;
        Ok(Permit { breaker: self, fingerprint, epoch: inner.epoch, is_probe })
    }

    /// Its state.
    pub fn state(&self) -> BreakerState {
        self.lock().state.shown()
    }

    /// Lets no call through until [`reset`](Self::reset).
    pub fn force_open(&self, now: Timestamp) {
        self.lock().change(State::ForcedOpen, now);
    }

    /// Lets all calls through until [`reset`](Self::reset).
    pub fn disable(&self, now: Timestamp) {
        self.lock().change(State::Disabled, now);
    }

    /// Closes it, and forgets what was.
    pub fn reset(&self, now: Timestamp) {
        let mut inner = self.lock();
        inner.failed = RecentMap::new(FAILED_MESSAGES);
        inner.health = (HealthStatus::Ok, 0);
        inner.change(State::closed(), now);
    }

    /// Opens it for a reason that no call has shown.
    pub fn trip(&self, because: OpenReason, now: Timestamp) {
        let mut inner = self.lock();
        if matches!(inner.state, State::Closed { .. } | State::HalfOpen { .. }) {
            self.open(&mut inner, because, now);
        }
    }

    /// Learns from a health check: three errors open it, two good ones then have it tried. What calls have opened is
    /// not closed by health alone.
    pub fn checked(&self, health: HealthStatus, now: Timestamp) {
        let mut inner = self.lock();
        let count = if inner.health.0 == health { inner.health.1 + 1 } else { 1 };
        inner.health = (health, count);
        match (&inner.state, health) {
            (State::Closed { .. }, HealthStatus::Error) if count >= HEALTH_ERRORS => {
                self.open(&mut inner, OpenReason::Unhealthy, now);
            }
            (&State::Open { trips, because: OpenReason::Unhealthy, .. }, HealthStatus::Ok)
                if count >= HEALTH_SUCCESSES =>
            {
                inner.change(State::HalfOpen { probe: None, successes: 0, trips }, now);
            }
            _ => {}
        }
    }

    /// The changes of state since the last time that this was asked.
    pub fn take_transitions(&self) -> Vec<Transition> {
        std::mem::take(&mut self.lock().transitions)
    }

    /// Whether a call may pass, and is a probe.
    fn pass(&self, inner: &mut Inner, now: Timestamp) -> Result<bool, OpenReason> {
        match inner.state {
            State::Closed { .. } | State::Disabled => Ok(false),
            State::ForcedOpen => Err(OpenReason::Forced),
            State::Open { until, because, .. } if now < until => Err(because),
            State::Open { trips, .. } => {
                inner.change(State::HalfOpen { probe: Some(now), successes: 0, trips }, now);
                Ok(true)
            }
            State::HalfOpen { probe: Some(since), .. } => {
                if now.since(since) >= self.settings.patience {
                    self.open(inner, OpenReason::Consecutive, now);
                }
                Err(OpenReason::Consecutive)
            }
            State::HalfOpen { ref mut probe, .. } => {
                *probe = Some(now);
                Ok(true)
            }
        }
    }

    fn open(&self, inner: &mut Inner, because: OpenReason, now: Timestamp) {
        let trips = match inner.state {
            State::HalfOpen { trips, .. } => trips + 1,
            _ => 1,
        };
        let until = now.plus(self.settings.open_for(trips));
        inner.change(State::Open { until, trips, because }, now);
    }

    fn record(&self, permit: &Permit<'_>, result: CallResult, now: Timestamp) {
        let mut inner = self.lock();
        if let (CallResult::Failure, Some(fingerprint)) = (result, permit.fingerprint) {
            inner.failed_again(fingerprint, now, &self.settings);
        }
        // The state has changed since the call began.
        if inner.epoch != permit.epoch {
            return;
        }
        let settings = &self.settings;
        match (&mut inner.state, result) {
            (State::Closed { streak, window }, result) => {
                window.count(settings, result, now);
                let because = match result {
                    CallResult::Success => {
                        *streak = Streak::default();
                        None
                    }
                    CallResult::Failure => streak.fail(settings, permit.fingerprint),
                };
                if let Some(because) = because.or_else(|| window.is_bad(settings).then_some(OpenReason::Rate)) {
                    self.open(&mut inner, because, now);
                }
            }
            (State::HalfOpen { .. }, CallResult::Failure) => self.open(&mut inner, OpenReason::Consecutive, now),
            (State::HalfOpen { probe, successes, .. }, CallResult::Success) => {
                (*probe, *successes) = (None, *successes + 1);
                if *successes >= settings.successes {
                    inner.change(State::closed(), now);
                }
            }
            (State::Disabled | State::ForcedOpen | State::Open { .. }, _) => {}
        }
    }

    /// Opens again without a probe.
    fn give_up(&self, permit: &Permit<'_>, now: Timestamp) {
        let mut inner = self.lock();
        if inner.epoch == permit.epoch && matches!(inner.state, State::HalfOpen { .. }) {
            self.open(&mut inner, OpenReason::Unhealthy, now);
        }
    }

    /// Gives a permit back that was not used.
    fn release(&self, permit: &Permit<'_>) {
        let mut inner = self.lock();
        if inner.epoch == permit.epoch
            && let State::HalfOpen { probe, .. } = &mut inner.state
        {
            *probe = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// Whether this is the one call while the breaker is half open.
    pub fn is_probe(&self) -> bool {
        self.is_probe
    }

    /// The hook says that it would not work, so it is not called: the breaker opens again, as after a probe that failed.
    /// The message has nothing to do with it.
    pub fn give_up(mut self, now: Timestamp) {
        self.breaker.give_up(&self, now);
        self.is_probe = false;
    }

    /// Tells how the call ended.
    pub fn record(mut self, result: CallResult, now: Timestamp) {
        self.breaker.record(&self, result, now);
        // Nothing is left to give back.
        self.is_probe = false;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            self.breaker.release(self);
        }
    }
}

impl Inner {
    fn change(&mut self, state: State, now: Timestamp) {
        let (from, to) = (self.state.shown().as_str(), state.shown());
        self.state = state;
        self.epoch += 1;
        self.transitions.push(Transition { at: now, from, to });
    }

    /// When a message failed first that is poison.
    fn poisoned(
        &mut self,
        fingerprint: Option<Fingerprint>,
        now: Timestamp,
        settings: &BreakerSettings,
    ) -> Option<Timestamp> {
        let failed = self.failed.get_mut(&fingerprint?)?;
        let holds = failed.count >= POISON_AFTER && now.since(failed.since) < settings.poison;
        holds.then_some(failed.first)
    }

    fn failed_again(&mut self, fingerprint: Fingerprint, now: Timestamp, settings: &BreakerSettings) {
        let failed = self.failed.entry(fingerprint, || FailedMessage { count: 0, first: now, since: now });
        if now.since(failed.since) >= settings.poison {
            (failed.count, failed.since) = (0, now);
        }
        failed.count = failed.count.saturating_add(1);
        if failed.count == POISON_AFTER {
            failed.since = now;
        }
    }
}

impl State {
    fn closed() -> Self {
        Self::Closed { streak: Streak::default(), window: Window::default() }
    }

    fn shown(&self) -> BreakerState {
        match *self {
            Self::Closed { .. } => BreakerState::Closed,
            Self::Disabled => BreakerState::Disabled,
            Self::ForcedOpen => BreakerState::Open { until: None, because: OpenReason::Forced },
            Self::HalfOpen { .. } => BreakerState::HalfOpen,
            Self::Open { until, because, .. } => BreakerState::Open { until: Some(until), because },
        }
    }
}

impl Streak {
    fn fail(&mut self, settings: &BreakerSettings, fingerprint: Option<Fingerprint>) -> Option<OpenReason> {
        self.failures = self.failures.saturating_add(1);
        // What is about no message counts as another one each time.
        let is_new = fingerprint.is_none() || !self.messages.contains(&fingerprint);
        if is_new && self.messages.len() < MESSAGES_TO_OPEN {
            self.messages.push(fingerprint);
        }
        let is_enough = self.failures >= settings.consecutive && self.messages.len() >= MESSAGES_TO_OPEN;
        is_enough.then_some(OpenReason::Consecutive)
    }
}

impl Window {
    fn count(&mut self, settings: &BreakerSettings, result: CallResult, now: Timestamp) {
        let buckets = u64::from(settings.buckets.max(1));
        let length = (settings.window.as_micros() as u64 / buckets).max(1);
        let number = u64::try_from(now.as_micros()).unwrap_or(0) / length;
        while self.buckets.front().is_some_and(|(oldest, ..)| oldest + buckets <= number) {
            self.buckets.pop_front();
        }
        if self.buckets.back().is_none_or(|(newest, ..)| *newest < number) {
            self.buckets.push_back((number, 0, 0));
        }
        if let Some((_, calls, failures)) = self.buckets.back_mut() {
            *calls += 1;
            *failures += u32::from(result == CallResult::Failure);
        }
    }

    fn is_bad(&self, settings: &BreakerSettings) -> bool {
        let (calls, failures) = self
            .buckets
            .iter()
            .fold((0_u32, 0_u32), |(calls, failures), bucket| (calls + bucket.1, failures + bucket.2));
        calls >= settings.least_calls && f64::from(failures) > settings.failure_rate * f64::from(calls)
    }
}

impl BreakerState {
    /// As shown and counted.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Disabled => "disabled",
            Self::HalfOpen => "half_open",
            Self::Open { .. } => "open",
        }
    }
}

impl OpenReason {
    /// As shown and counted.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive => "consecutive",
            Self::Forced => "forced",
            Self::Rate => "rate",
            Self::CrashLoop => "crash_loop",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(because) => write!(f, "its breaker is open: {}", because.as_str()),
            Self::Poison { .. } => f.write_str("it failed at this message before"),
        }
    }
}

#[cfg(test)]
mod tests;
