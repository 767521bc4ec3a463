//! Time comes in from outside, so that tests can hold it still.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::macros::format_description;

/// A point in time: microseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since 1970-01-01 UTC.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970-01-01 UTC.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// From seconds since 1970-01-01 UTC.
    pub const fn from_unix(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Whole seconds since 1970-01-01 UTC, and the nanoseconds behind them; 0 for earlier times.
    pub fn to_unix(self) -> (u64, u32) {
        let micros = u64::try_from(self.0).unwrap_or(0);
        (micros / 1_000_000, u32::try_from(micros % 1_000_000).unwrap_or(0) * 1_000)
    }

    /// Later by `duration`, saturating.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Earlier by `duration`, saturating.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Time passed since `earlier`; zero if it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339 in UTC with milliseconds, as the API writes it.
    pub fn to_rfc3339(self) -> String {
        const FORM: &[time::format_description::BorrowedFormatItem<'_>] =
            format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
        self.date_time().format(FORM).unwrap_or_default()
    }

    /// The date of a header field (RFC 5322 §3.3), in UTC.
    pub fn to_rfc5322(self) -> String {
        const FORM: &[time::format_description::BorrowedFormatItem<'_>] = format_description!(
            "[weekday repr:short], [day padding:none] [month repr:short] [year] [hour]:[minute]:[second] +0000"
        );
        self.date_time().format(FORM).unwrap_or_default()
    }

    /// Parses RFC 3339.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let parsed = OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
        i64::try_from(parsed.unix_timestamp_nanos() / 1_000).ok().map(Self)
    }

    fn date_time(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

/// Ready when a clock has come to a time. Dropping it is safe.
pub type Reached<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// What time it is.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// For a clock that does not go by itself: waits until it has come to `at`, which may be the past. `None`, the
    /// default, is the answer of a clock that goes as real time does; whoever waits for it uses a timer.
    fn reach(&self, _at: Timestamp) -> Option<Reached<'_>> {
        None
    }
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(passed.as_micros()).unwrap_or(i64::MAX))
    }
}

/// A clock that a test moves by hand. Whoever waits for a time is woken when it is moved there, or beyond.
#[derive(Debug, Default)]
pub struct ManualClock(Mutex<Hands>);

/// Where a manual clock stands, and who waits for it.
#[derive(Debug, Default)]
struct Hands {
    now: Timestamp,
    /// By the time that is waited for; the number tells those apart who wait for the same.
    waiting: BTreeMap<(Timestamp, u64), Waker>,
    waited: u64,
}

/// Somebody who waits for a manual clock.
#[derive(Debug)]
struct Waiting<'a> {
    clock: &'a ManualClock,
    at: Timestamp,
    number: Option<u64>,
}

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: Timestamp) -> Self {
        Self(Mutex::new(Hands { now, ..Hands::default() }))
    }

    /// Moves on.
    pub fn advance(&self, duration: Duration) {
        self.move_to(|now| now.plus(duration));
    }

    /// Moves on to a time; stays where it is when that is past.
    pub fn advance_to(&self, at: Timestamp) {
        self.move_to(|now| now.max(at));
    }

    fn move_to(&self, target: impl FnOnce(Timestamp) -> Timestamp) {
        let reached = {
            let mut hands = self.hands();
            hands.now = target(hands.now);
            let later = hands.now.plus(Duration::from_micros(1));
            let still_waiting = hands.waiting.split_off(&(later, 0));
            std::mem::replace(&mut hands.waiting, still_waiting)
        };
        reached.into_values().for_each(Waker::wake);
    }

    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.hands().now
    }

    fn reach(&self, at: Timestamp) -> Option<Reached<'_>> {
        Some(Box::pin(Waiting { clock: self, at, number: None }))
    }
}

impl Future for Waiting<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut hands = self.clock.hands();
        if hands.now >= self.at {
            return Poll::Ready(());
        }
        let number = self.number.unwrap_or(hands.waited);
        if self.number.is_none() {
            hands.waited += 1;
        }
        hands.waiting.insert((self.at, number), context.waker().clone());
        drop(hands);
        self.number = Some(number);
        Poll::Pending
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.clock.hands().waiting.remove(&(self.at, number));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use super::*;

    #[test]
    fn writes_both_date_forms() {
        let at = Timestamp::from_micros(1_763_780_646_123_456);
        assert_eq!(at.to_rfc3339(), "2025-11-22T03:04:06.123Z");
        assert_eq!(at.to_rfc5322(), "Sat, 22 Nov 2025 03:04:06 +0000");
        assert_eq!(Timestamp::parse_rfc3339("2025-11-22T03:04:06.123456Z"), Some(at));
    }

    /// Whether a wait is over; if not, its waker was woken so often since.
    fn poll(reached: &mut Reached<'_>, wakes: &Arc<Wakes>) -> bool {
        let waker = Waker::from(wakes.clone());
        reached.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
    }

    #[derive(Debug, Default)]
    struct Wakes(AtomicU32);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_manual_clock_wakes_those_whose_time_has_come() {
        let clock = ManualClock::at(Timestamp::from_unix(100));
        let (early, late) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
        let mut first = clock.reach(Timestamp::from_unix(110)).unwrap();
        let mut second = clock.reach(Timestamp::from_unix(111)).unwrap();
        assert!(!poll(&mut first, &early) && !poll(&mut second, &late));
        assert!(!poll(&mut first, &early), "it may be asked again");
        clock.advance(Duration::from_secs(10));
        assert_eq!((early.0.load(Ordering::SeqCst), late.0.load(Ordering::SeqCst)), (1, 0));
        assert!(poll(&mut first, &early) && !poll(&mut second, &late));
        clock.advance_to(Timestamp::from_unix(5));
        assert_eq!(clock.now(), Timestamp::from_unix(110), "it does not go back");
        drop(second);
        clock.advance_to(Timestamp::from_unix(200));
        assert_eq!(late.0.load(Ordering::SeqCst), 0, "who left is not woken");
        assert!(poll(&mut clock.reach(Timestamp::from_unix(200)).unwrap(), &early), "it is there already");
        assert!(SystemClock.reach(Timestamp::default()).is_none());
    }
}
