//! When to try again: pure arithmetic.

use std::time::Duration;

use mairust_core::JobId;

/// How often and how long a delivery is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Wait after the first attempt; doubled after each further one. Default 2 minutes.
    pub first: Duration,
    /// Longest wait. Default 4 hours.
    pub max: Duration,
    /// Age of a message at which it is given up. Default 5 days (RFC 5321 §4.5.4.1 asks for 4 to 5).
    pub give_up_after: Duration,
}

/// What comes after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try again after this time.
    After(Duration),
    /// The message is too old.
    GiveUp,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(120),
            max: Duration::from_secs(4 * 3_600),
            give_up_after: Duration::from_secs(5 * 86_400),
        }
    }
}

impl RetryPolicy {
    /// A policy with these times.
    pub fn new(first: Duration, max: Duration, give_up_after: Duration) -> Self {
        Self { first, max, give_up_after }
    }

    /// What comes after attempt number `attempts` of a message that is `age` old. `jitter` in
    /// 0..1 shortens the wait by up to a fifth, so that messages which failed together do not
    /// come back together.
    pub(crate) fn next(&self, attempts: u32, age: Duration, jitter: f64) -> Next {
        if age >= self.give_up_after {
            return Next::GiveUp;
        }
        let doubled = self.first.saturating_mul(1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX));
        Next::After(doubled.min(self.max).mul_f64(1.0 - 0.2 * jitter.clamp(0.0, 1.0)))
    }
}

/// The jitter of one attempt at a job: even over 0..1, and always the same.
pub(crate) fn jitter(job: JobId, attempt: u32) -> f64 {
    // The last bytes of an id are random; the finalizer of MurmurHash3 spreads what differs a little.
    let bytes = job.as_bytes();
    let seed =
        u64::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11], bytes[12], bytes[13], bytes[14], bytes[15]]);
    let mut hash = seed ^ u64::from(attempt);
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^= hash >> 33;
    // As many bits as the fraction of an f64 holds.
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use mairust_core::Timestamp;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn doubles_up_to_the_cap_and_ends() {
        let policy = RetryPolicy::default();
        let waits: Vec<_> = (1..=9).map(|attempt| policy.next(attempt, Duration::ZERO, 0.0)).collect();
        let minutes = [2, 4, 8, 16, 32, 64, 128, 240, 240];
        assert_eq!(waits, minutes.map(|count| Next::After(MINUTE * count)));
        assert_eq!(policy.next(u32::MAX, Duration::ZERO, 0.0), Next::After(MINUTE * 240));
        assert_eq!(policy.next(3, policy.give_up_after, 0.0), Next::GiveUp);
    }

    #[test]
    fn jitter_only_shortens() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.next(1, Duration::ZERO, 1.0), Next::After(Duration::from_secs(96)));
        assert_eq!(policy.next(0, Duration::ZERO, 0.0), Next::After(MINUTE * 2));
    }

    #[test]
    fn jitter_is_the_same_each_time_and_even() {
        let jobs: Vec<_> = (0..1_000).map(|_| JobId::new(Timestamp::from_unix(1))).collect();
        let all: Vec<_> = jobs.iter().flat_map(|job| (1..=10).map(|attempt| jitter(*job, attempt))).collect();
        let again: Vec<_> = jobs.iter().flat_map(|job| (1..=10).map(|attempt| jitter(*job, attempt))).collect();
        assert_eq!(all, again);
        for tenth in 0..10 {
            let found = all.iter().filter(|jitter| (**jitter * 10.0).floor() == f64::from(tenth)).count();
            assert!((800..1_200).contains(&found), "{found} of 10,000 in tenth {tenth}");
        }
    }
}
