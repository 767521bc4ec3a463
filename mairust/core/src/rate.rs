//! How often something may happen: rates as people write them, and buckets that keep to them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::units::{UnitError, parse_duration, render_duration};

/// So many in so much time, written `60/1m`. All of them may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    count: u32,
    /// At least a millisecond.
    per: Duration,
}

/// What is left of a rate (a token bucket): it is full at the beginning, each event takes a token
/// out, and time puts them back evenly.
///
/// Pure arithmetic. When the clock goes back, the bucket is empty at worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    /// The time at which the bucket is full again, if nothing is taken out before.
    full_at: Timestamp,
}

impl Rate {
    /// At least one, in at least a millisecond; less is taken for as much.
    pub fn new(count: u32, per: Duration) -> Self {
        Self { count: count.max(1), per: per.max(Duration::from_millis(1)) }
    }

    /// How many may come at once.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// In how much time they may happen.
    pub fn per(&self) -> Duration {
        self.per
    }

    /// The time in which one token comes back.
    fn interval(&self) -> Duration {
        self.per / self.count
    }
}

impl TokenBucket {
    /// How many times what it holds a bucket owes at most.
    pub const MAX_DEBT: u32 = 100;

    /// A full bucket.
    pub fn full(now: Timestamp) -> Self {
        Self { full_at: now }
    }

    /// A bucket that is full at this time.
    pub fn full_at(at: Timestamp) -> Self {
        Self { full_at: at }
    }

    /// The time at which the bucket is full again, if nothing is taken out before.
    pub fn is_full_at(&self) -> Timestamp {
        self.full_at
    }

    /// Takes a token out.
    ///
    /// # Errors
    /// The time until there is one again, when there is none; nothing is taken out then.
    pub fn take(&mut self, rate: &Rate, now: Timestamp) -> Result<(), Duration> {
        self.take_many(rate, 1, now)
    }

    /// Takes so many tokens out, or none.
    ///
    /// # Errors
    /// The time until there are as many, when there are not; nothing is taken out then. [`Duration::MAX`] when
    /// they are more than the bucket holds.
    pub fn take_many(&mut self, rate: &Rate, amount: u32, now: Timestamp) -> Result<(), Duration> {
        let left = rate.count.checked_sub(amount).ok_or(Duration::MAX)?;
        self.full_at = self.full_at.min(now.plus(rate.per));
        let missing = self.full_at.since(now);
        // As much as may be missing so that the tokens are there.
        let bearable = rate.interval() * left;
        if missing > bearable {
            return Err(missing - bearable);
        }
        self.full_at = self.full_at.max(now).plus(rate.interval() * amount);
        Ok(())
    }

    /// How many tokens there are.
    pub fn left(&self, rate: &Rate, now: Timestamp) -> u32 {
        let missing = self.full_at.since(now).min(rate.per);
        let left = (rate.per - missing).as_nanos() / rate.interval().as_nanos().max(1);
        u32::try_from(left).unwrap_or(u32::MAX).min(rate.count)
    }

    /// Takes so many tokens out, also those that are not there: the bucket owes them then,
    /// [`MAX_DEBT`](Self::MAX_DEBT) times what it holds at most. Tells how much was missing before, as a part of what
    /// it holds: 0 if it was full, 1 if it was empty, more if it owed tokens.
    pub fn spend(&mut self, rate: &Rate, amount: u32, now: Timestamp) -> f64 {
        let most = now.plus(rate.per * Self::MAX_DEBT);
        let before = self.full_at.min(most);
        let after = before.max(now).plus(rate.interval().saturating_mul(amount)).min(most);
        self.full_at = after;
        before.since(now).as_secs_f64() / rate.per.as_secs_f64()
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = UnitError::new("a rate is a number and a duration, for example 60/1m");
        let (count, per) = text.split_once('/').ok_or(wrong.clone())?;
        let count = count.trim_end().parse().ok().filter(|count| *count > 0);
        let per = parse_duration(per.trim_start()).ok().filter(|per| !per.is_zero());
        Ok(Self::new(count.ok_or(wrong.clone())?, per.ok_or(wrong)?))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, render_duration(self.per))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_unix(1_000_000);

    fn after(millis: u64) -> Timestamp {
        START.plus(Duration::from_millis(millis))
    }

    #[test]
    fn rates_read_back() {
        for text in ["60/1m", "1/1ms", "4294967295/1d"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for text in ["", "60", "/1m", "60/", "0/1m", "60/0s", "-1/1m", "60/1", "60/m", "4294967296/1d"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_bucket_gives_what_it_has_and_fills_evenly() {
        let rate = Rate::new(3, Duration::from_secs(3));
        let mut bucket = TokenBucket::full(START);
        for _ in 0..3 {
            assert_eq!(bucket.take(&rate, START), Ok(()));
        }
        assert_eq!(bucket.take(&rate, START), Err(Duration::from_secs(1)));
        assert_eq!(bucket.take(&rate, after(400)), Err(Duration::from_millis(600)));
        assert_eq!(bucket.take(&rate, after(1_000)), Ok(()));
        assert_eq!(bucket.take(&rate, after(1_000)), Err(Duration::from_secs(1)));
        for _ in 0..3 {
            assert_eq!(bucket.take(&rate, after(60_000)), Ok(()), "it never holds more than its size");
        }
        assert!(bucket.take(&rate, after(60_000)).is_err());
    }

    #[test]
    fn many_are_taken_together_or_not_at_all() {
        let rate = Rate::new(10, Duration::from_secs(10));
        let mut bucket = TokenBucket::full(START);
        assert_eq!(bucket.take_many(&rate, 8, START), Ok(()));
        assert_eq!(bucket.take_many(&rate, 5, START), Err(Duration::from_secs(3)));
        assert_eq!(bucket.take_many(&rate, 2, START), Ok(()), "what could not be taken was left");
        assert_eq!(bucket.take_many(&rate, 10, after(9_000)), Err(Duration::from_secs(1)));
        assert_eq!(bucket.take_many(&rate, 11, after(10_000)), Err(Duration::MAX), "it never holds as many");
        assert_eq!(bucket.take_many(&rate, 10, after(10_000)), Ok(()));
        assert_eq!(bucket.is_full_at(), after(20_000));
        assert_eq!(TokenBucket::full_at(after(20_000)), bucket);
    }

    #[test]
    fn what_is_left_can_be_taken() {
        let rate = Rate::new(3, Duration::from_secs(10));
        let mut bucket = TokenBucket::full(START);
        for (millis, left) in [(0, 3), (1, 2), (3_334, 2), (3_335, 1), (10_100, 2), (30_000, 3)] {
            assert_eq!(bucket.left(&rate, after(millis)), left, "after {millis} ms");
            bucket.take_many(&rate, 1, after(millis)).unwrap();
        }
        bucket.spend(&rate, 5, after(30_000));
        assert_eq!(bucket.left(&rate, after(30_000)), 0);
    }

    #[test]
    fn what_is_not_there_is_owed() {
        let rate = Rate::new(10, Duration::from_secs(10));
        let mut bucket = TokenBucket::full(START);
        for (amount, millis, missing) in
            [(0, 0, 0.0), (5, 0, 0.0), (10, 0, 0.5), (0, 0, 1.5), (0, 10_000, 0.5), (1, 15_000, 0.0), (0, 15_000, 0.1)]
        {
            assert_eq!(bucket.spend(&rate, amount, after(millis)), missing, "{amount} after {millis} ms");
        }
        bucket.spend(&rate, u32::MAX, after(20_000));
        assert_eq!(bucket.spend(&rate, 0, after(20_000)), 100.0, "a debt that is paid some day");
        assert_eq!(bucket.take(&rate, after(20_000)), Err(Duration::from_secs(1)), "whoever takes looks no further");
    }

    #[test]
    fn a_clock_that_goes_back_does_no_harm() {
        let rate = Rate::new(2, Duration::from_secs(2));
        let mut bucket = TokenBucket::full(after(10_000));
        assert_eq!(bucket.take(&rate, after(10_000)), Ok(()));
        assert_eq!(bucket.take(&rate, START), Err(Duration::from_secs(1)), "as if it were empty, and no longer");
        assert_eq!(bucket.take(&rate, after(1_000)), Ok(()));
    }

    #[test]
    fn a_rate_of_one_lets_one_through() {
        let rate = Rate::new(0, Duration::ZERO);
        let mut bucket = TokenBucket::full(START);
        assert_eq!(bucket.take(&rate, START), Ok(()));
        assert_eq!(bucket.take(&rate, START), Err(Duration::from_millis(1)));
    }
}
