//! How many jobs may be started soon after a start or an outage: pure arithmetic.
//!
//! Then everything is due that fell due in between. Without a bound the first second would bring as
//! many connections as there are workers can make, to hosts that may have just come back, too.

use std::time::Duration;

/// Counts the starts since the beginning. In the first second so many may be started, in each
/// further one twice as many as in the one before, until there is no bound any more.
#[derive(Debug)]
pub(crate) struct RampUp {
    /// 0 for no bound.
    first: u32,
    started: u64,
}

impl RampUp {
    /// With so many starts in the first second; 0 for no bound.
    pub(crate) fn new(first: u32) -> Self {
        Self { first, started: 0 }
    }

    /// How many jobs may be started now, `elapsed` after the beginning.
    pub(crate) fn allowed(&self, elapsed: Duration) -> u32 {
        if self.first == 0 {
            return u32::MAX;
        }
        // 1 + 2 + 4 + … up to and with this second.
        let seconds = u32::try_from(elapsed.as_secs()).unwrap_or(u32::MAX);
        let shares = 1_u64.checked_shl(seconds.saturating_add(1)).map_or(u64::MAX, |shares| shares - 1);
        let left = shares.saturating_mul(u64::from(self.first)).saturating_sub(self.started);
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    /// Counts jobs that were started.
    pub(crate) fn started(&mut self, jobs: usize) {
        self.started = self.started.saturating_add(jobs as u64);
    }

    /// How long until more may be started.
    pub(crate) fn pause(elapsed: Duration) -> Duration {
        Duration::from_secs(1) - Duration::from_nanos(elapsed.subsec_nanos().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn doubles_each_second() {
        let mut ramp_up = RampUp::new(10);
        assert_eq!((ramp_up.allowed(at(0)), ramp_up.allowed(at(999))), (10, 10));
        ramp_up.started(7);
        assert_eq!(ramp_up.allowed(at(500)), 3);
        ramp_up.started(3);
        assert_eq!((ramp_up.allowed(at(999)), ramp_up.allowed(at(1_000)), ramp_up.allowed(at(2_500))), (0, 20, 60));
    }

    #[test]
    fn ends_without_a_bound() {
        let mut ramp_up = RampUp::new(1);
        ramp_up.started(usize::MAX / 2);
        assert_eq!(ramp_up.allowed(at(40_000)), 0);
        assert_eq!((ramp_up.allowed(at(70_000)), ramp_up.allowed(Duration::MAX)), (u32::MAX, u32::MAX));
        assert_eq!(RampUp::new(0).allowed(at(0)), u32::MAX);
    }

    #[test]
    fn more_may_be_started_in_the_next_second() {
        assert_eq!((RampUp::pause(at(0)), RampUp::pause(at(3_250))), (at(1_000), at(750)));
    }
}
