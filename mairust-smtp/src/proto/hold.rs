//! Mail that is to go on later (FUTURERELEASE, RFC 4865).

use std::time::Duration;

use mairust_core::Timestamp;

/// Until when a message is to be held (RFC 4865 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// HOLDFOR: so long from now on.
    For(Duration),
    /// HOLDUNTIL: until this time.
    Until(Timestamp),
}

/// How far ahead mail may be held, as a server announces it (RFC 4865 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FutureRelease {
    /// The longest HOLDFOR; whole seconds count.
    pub max_interval: Duration,
    /// The latest HOLDUNTIL.
    pub latest: Timestamp,
}

impl Hold {
    /// Reads the value of HOLDFOR: 1 to 9 digits, of seconds.
    pub(crate) fn parse_for(text: &str) -> Option<Self> {
        seconds(text).map(Self::For)
    }

    /// Reads the value of HOLDUNTIL (RFC 3339).
    pub(crate) fn parse_until(text: &str) -> Option<Self> {
        Timestamp::parse_rfc3339(text).map(Self::Until)
    }

    /// The time, from `now` on; a time that has passed is now.
    pub fn until(self, now: Timestamp) -> Timestamp {
        match self {
            Self::For(interval) => now.plus(interval),
            Self::Until(at) => at.max(now),
        }
    }
}

impl FutureRelease {
    /// What is allowed at `now`, so far ahead; whole seconds count, nine digits of them at most.
    pub fn at(now: Timestamp, max_interval: Duration) -> Self {
        let max_interval = Duration::from_secs(max_interval.as_secs().min(MOST));
        Self { max_interval, latest: now.plus(max_interval) }
    }

    /// Whether a client may ask for this.
    pub fn allows(&self, hold: Hold) -> bool {
        match hold {
            Hold::For(interval) => interval <= self.max_interval,
            Hold::Until(at) => at <= self.latest,
        }
    }

    pub(crate) fn announce(&self) -> String {
        format!("FUTURERELEASE {} {}", self.max_interval.as_secs(), self.latest.to_rfc3339())
    }

    /// Reads the words behind the keyword.
    pub(crate) fn from_words<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<Self> {
        let max_interval = words.next().and_then(seconds)?;
        Some(Self { max_interval, latest: words.next().and_then(Timestamp::parse_rfc3339)? })
    }
}

/// What nine digits can say.
const MOST: u64 = 999_999_999;

fn seconds(text: &str) -> Option<Duration> {
    let digits = (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok().map(Duration::from_secs)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_nine_digits_at_most() {
        assert_eq!(Hold::parse_for("999999999"), Some(Hold::For(Duration::from_secs(999_999_999))));
        assert_eq!(Hold::parse_for("0"), Some(Hold::For(Duration::ZERO)));
        for text in ["", "+1", "-1", "1.5", "1000000000", "1h"] {
            assert_eq!(Hold::parse_for(text), None, "{text}");
        }
    }

    #[test]
    fn times_have_an_offset() {
        let at = Timestamp::from_unix(1_763_780_646);
        assert_eq!(Hold::parse_until("2025-11-22T03:04:06Z"), Some(Hold::Until(at)));
        assert_eq!(Hold::parse_until("2025-11-22T12:04:06+09:00"), Some(Hold::Until(at)));
        assert_eq!(Hold::parse_until("2025-11-22T03:04:06"), None);
        assert_eq!(Hold::parse_until("tomorrow"), None);
    }

    #[test]
    fn what_is_announced_is_allowed_and_no_more() {
        let now = Timestamp::from_unix(1_763_780_646);
        let allowed = FutureRelease::at(now, Duration::from_millis(60_500));
        assert!(allowed.allows(Hold::For(Duration::from_secs(60))) && allowed.allows(Hold::Until(allowed.latest)));
        assert!(!allowed.allows(Hold::For(Duration::from_secs(61))));
        assert!(!allowed.allows(Hold::Until(allowed.latest.plus(Duration::from_secs(1)))));
        assert_eq!(Hold::For(Duration::from_secs(60)).until(now), allowed.latest);
        assert_eq!(Hold::Until(Timestamp::default()).until(now), now);
        assert_eq!(
            FutureRelease::at(now, Duration::MAX).announce(),
            "FUTURERELEASE 999999999 2057-07-31T04:50:45.000Z"
        );
    }
}
