//! When a program is started again that ended by itself.

use std::collections::VecDeque;
use std::time::Duration;

use mairust_core::Timestamp;

/// The wait before it is started again; doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// So many ends within so much time, and it is not started any more.
const CRASHES: usize = 5;
const WINDOW: Duration = Duration::from_secs(300);
/// Whoever ran for so long begins anew: its end has nothing to do with the ends before.
const STEADY: Duration = Duration::from_secs(300);

/// What is remembered of the ends of a program.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    /// The last ends, the newest at the end.
    crashes: VecDeque<Timestamp>,
    /// Ends since it last ran for long.
    streak: u32,
}

/// What follows an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It is started again after so long.
    After(Duration),
    /// It is not started any more.
    Never,
}

impl Restarts {
    /// The program ended at `now`, after it had answered for so long.
    pub(super) fn crashed(&mut self, lived: Duration, now: Timestamp) -> Next {
        if lived >= STEADY {
            self.streak = 0;
        }
        self.streak = self.streak.saturating_add(1);
        self.crashes.push_back(now);
        if self.crashes.len() > CRASHES {
            self.crashes.pop_front();
        }
        let first = self.crashes.front().copied().unwrap_or(now);
        if self.crashes.len() == CRASHES && now.since(first) <= WINDOW {
            return Next::Never;
        }
        let doubled = FIRST_WAIT.saturating_mul(1_u32.checked_shl(self.streak - 1).unwrap_or(u32::MAX));
        Next::After(doubled.min(LONGEST_WAIT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What follows if it lives for so many seconds each time, and is started again when it may be.
    fn after(lives: &[u64]) -> Vec<Option<u64>> {
        let (mut restarts, mut now) = (Restarts::default(), Timestamp::from_unix(0));
        let waits = lives.iter().map(|lived| {
            let lived = Duration::from_secs(*lived);
            now = now.plus(lived);
            match restarts.crashed(lived, now) {
                Next::After(wait) => {
                    now = now.plus(wait);
                    Some(wait.as_secs())
                }
                Next::Never => None,
            }
        });
        waits.collect()
    }

    #[test]
    fn whoever_ends_at_once_is_given_up() {
        assert_eq!(after(&[0, 0, 0, 0, 0]), [Some(1), Some(2), Some(4), Some(8), None]);
    }

    #[test]
    fn whoever_ends_now_and_then_is_started_again() {
        let waits = after(&[100; 8]);
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60].map(Some));
    }

    #[test]
    fn five_ends_in_five_minutes_are_enough() {
        // 285 s of life and 15 s of waiting lie between the first end and the fifth.
        assert_eq!(after(&[0, 71, 71, 71, 72]).last(), Some(&None));
        assert_eq!(after(&[0, 71, 71, 71, 73]).last(), Some(&Some(16)));
    }

    #[test]
    fn whoever_ran_for_long_begins_anew() {
        assert_eq!(after(&[0, 0, 0, 300, 0]), [Some(1), Some(2), Some(4), Some(1), Some(2)]);
    }
}
