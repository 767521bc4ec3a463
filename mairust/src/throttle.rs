//! Slows down who guesses passwords and API keys: one table for SMTP and the REST API.
//!
//! A lock is on what the client says, whether or not there is such an account, and on the client
//! itself: it tells nothing about accounts, and locks nobody else out.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mairust_core::{Clock, IpNetwork, RecentMap, Timestamp};
use mairust_http::KeyGuard;

use crate::metrics::{AuthOutcome, Metrics};

/// Accounts and clients that are remembered at least, with about 50 octets each. A failed login
/// costs a password hash, so that nobody fails often enough within the time of a lock for one to be
/// forgotten.
const REMEMBERED: usize = 32_768;

/// How many failed logins there may be, with passwords or with API keys. A client is an IPv4
/// address or an IPv6 /64.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LoginLimits {
    /// Failures of one client with one account within `lock_time`; then this client can't log in
    /// to this account. Default 5.
    pub max_failures: u32,
    /// Failures of one client with any account or API key within `lock_time`; then it can't log in
    /// at all. Default 50.
    pub max_failures_per_client: u32,
    /// How long a lock holds. Default 15 minutes.
    pub lock_time: Duration,
    /// Failures in one SMTP session; then it is ended with 421. Default 3.
    pub max_failures_per_session: u32,
    /// Wait before the answer to a failure in an SMTP session, times their number. Default
    /// 1 second.
    pub delay: Duration,
    /// Clients to whom `max_failures_per_client` does not apply, since there are many people behind
    /// them. Default: this machine.
    pub trusted: Vec<IpNetwork>,
}

impl Default for LoginLimits {
    fn default() -> Self {
        Self {
            max_failures: 5,
            max_failures_per_client: 50,
            lock_time: Duration::from_secs(15 * 60),
            max_failures_per_session: 3,
            delay: Duration::from_secs(1),
            trusted: vec![IpNetwork::of(Ipv4Addr::LOCALHOST.into(), 8), IpNetwork::of(Ipv6Addr::LOCALHOST.into(), 128)],
        }
    }
}

/// Counts failures and keeps locks.
#[derive(Debug)]
pub(crate) struct Throttle {
    limits: LoginLimits,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    /// Makes keys of a fixed size, which nobody outside can foresee.
    hasher: RandomState,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    /// By account and client.
    accounts: RecentMap<u64, Failures>,
    clients: RecentMap<IpNetwork, Failures>,
}

/// The client, or the account for this client, is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Locked {
    /// For how long.
    pub(crate) remaining: Duration,
}

/// What somebody did wrong lately.
#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    /// When the first of them was.
    since: Timestamp,
    locked_until: Option<Timestamp>,
}

impl Throttle {
    pub(crate) fn new(limits: LoginLimits, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let table = Table { accounts: RecentMap::new(REMEMBERED), clients: RecentMap::new(REMEMBERED) };
        Self { limits, clock, metrics, hasher: RandomState::new(), table: Mutex::new(table) }
    }

    /// Whether a client may try to log in to an account now.
    pub(crate) fn admit(&self, account: &str, client: IpAddr) -> Result<(), Locked> {
        let now = self.clock.now();
        self.admit_client(client, now)?;
        let key = self.account_key(account, client);
        self.table().accounts.get_mut(&key).map_or(Ok(()), |failures| failures.check(now, self.limits.lock_time))
    }

    /// Counts a failed login.
    pub(crate) fn failed(&self, account: &str, client: IpAddr) {
        self.client_failed(client);
        let key = self.account_key(account, client);
        let mut table = self.table();
        // Asked under the lock: of two at the same moment, none is to look older than the one before, for a clock that
        // went back begins a new count.
        let now = self.clock.now();
        let failures = table.accounts.entry(key, || Failures::none(now));
        if failures.add(now, self.limits.max_failures, self.limits.lock_time) {
            self.metrics.login_locked("account");
            tracing::warn!(component = "login", ?account, %client, "account locked for this client after too many failures");
        }
    }

    /// Forgets the failures of a client with an account, but not those with others.
    pub(crate) fn succeeded(&self, account: &str, client: IpAddr) {
        let key = self.account_key(account, client);
        self.table().accounts.remove(&key);
    }

    fn admit_client(&self, client: IpAddr, now: Timestamp) -> Result<(), Locked> {
        let key = IpNetwork::client(client);
        self.table().clients.get_mut(&key).map_or(Ok(()), |failures| failures.check(now, self.limits.lock_time))
    }

    fn client_failed(&self, client: IpAddr) {
        if self.limits.trusted.iter().any(|network| network.contains(client)) {
            return;
        }
        let mut table = self.table();
        let now = self.clock.now();
        let failures = table.clients.entry(IpNetwork::client(client), || Failures::none(now));
        if failures.add(now, self.limits.max_failures_per_client, self.limits.lock_time) {
            self.metrics.login_locked("client");
            tracing::warn!(component = "login", %client, "client locked after too many failed logins");
        }
    }

    fn account_key(&self, account: &str, client: IpAddr) -> u64 {
        // Names are looked up without regard to case.
        let account = account.trim().to_lowercase();
        self.hasher.hash_one((account, IpNetwork::client(client)))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// API keys have no account that could be locked: they are too long to be guessed, and who knows
/// the public part of one must not be able to lock its owner out.
impl KeyGuard for Throttle {
    fn admit(&self, client: IpAddr) -> Result<(), Duration> {
        self.admit_client(client, self.clock.now()).map_err(|locked| {
            self.metrics.login_attempted("api", AuthOutcome::Locked);
            locked.remaining
        })
    }

    fn failed(&self, client: IpAddr) {
        self.metrics.login_attempted("api", AuthOutcome::Failure);
        self.client_failed(client);
    }
}

impl Failures {
    fn none(now: Timestamp) -> Self {
        Self { count: 0, since: now, locked_until: None }
    }

    fn check(&mut self, now: Timestamp, lock_time: Duration) -> Result<(), Locked> {
        // A clock that went back must not make a lock longer.
        self.locked_until = self.locked_until.map(|until| until.min(now.plus(lock_time)));
        match self.locked_until.map(|until| until.since(now)) {
            Some(remaining) if !remaining.is_zero() => Err(Locked { remaining }),
            _ => Ok(()),
        }
    }

    /// Counts one more; whether that locks.
    fn add(&mut self, now: Timestamp, limit: u32, lock_time: Duration) -> bool {
        if now.since(self.since) >= lock_time || self.since > now {
            *self = Self { locked_until: self.locked_until, ..Self::none(now) };
        }
        self.count += 1;
        let locks = self.count >= limit;
        if locks {
            *self = Self { locked_until: Some(now.plus(lock_time)), ..Self::none(now) };
        }
        locks
    }
}

#[cfg(test)]
mod tests {
    use mairust_core::{ManualClock, SystemClock};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    struct World {
        clock: Arc<ManualClock>,
        throttle: Throttle,
    }

    impl World {
        fn new(limits: LoginLimits) -> Self {
            let clock = Arc::new(ManualClock::at(Timestamp::from_unix(1_000_000)));
            let throttle = Throttle::new(limits, clock.clone(), Arc::new(Metrics::new()));
            Self { clock, throttle }
        }

        /// Fails so often, as long as it is let.
        fn fail(&self, account: &str, client: &str, times: usize) -> usize {
            let client = client.parse().unwrap();
            let tries = (0..times).take_while(|_| {
                let admitted = self.throttle.admit(account, client).is_ok();
                if admitted {
                    self.throttle.failed(account, client);
                }
                admitted
            });
            tries.count()
        }

        fn remaining(&self, account: &str, client: &str) -> Option<Duration> {
            self.throttle.admit(account, client.parse().unwrap()).err().map(|locked| locked.remaining)
        }
    }

    #[test]
    fn five_failures_lock_an_account_for_one_client() {
        let world = World::new(LoginLimits::default());
        assert_eq!(world.fail("alice@example.com", "192.0.2.1", 10), 5);
        assert_eq!(world.remaining(" Alice@Example.com", "::ffff:192.0.2.1"), Some(15 * MINUTE));
        assert_eq!(world.remaining("alice@example.com", "192.0.2.2"), None, "the owner is not locked out");
        assert_eq!(world.remaining("bob@example.com", "192.0.2.1"), None);
        world.clock.advance(14 * MINUTE);
        assert_eq!(world.remaining("alice@example.com", "192.0.2.1"), Some(MINUTE));
        world.clock.advance(MINUTE);
        assert_eq!(world.fail("alice@example.com", "192.0.2.1", 10), 5);
    }

    #[test]
    fn a_whole_ipv6_network_is_one_client() {
        let world = World::new(LoginLimits::default());
        let tries: usize = (0..10).map(|host| world.fail("alice", &format!("2001:db8::{host}"), 1)).sum();
        assert_eq!(tries, 5);
    }

    #[test]
    fn failures_at_the_same_moment_all_count() {
        let limits = LoginLimits { max_failures: 8 * 200, max_failures_per_client: u32::MAX, ..LoginLimits::default() };
        let throttle = Throttle::new(limits, Arc::new(SystemClock), Arc::new(Metrics::new()));
        let client = "192.0.2.1".parse().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..200).for_each(|_| throttle.failed("alice", client)));
            }
        });
        assert!(throttle.admit("alice", client).is_err());
    }

    #[test]
    fn success_and_time_make_failures_forgotten() {
        let world = World::new(LoginLimits::default());
        assert_eq!(world.fail("alice", "192.0.2.1", 4), 4);
        world.throttle.succeeded("ALICE", "192.0.2.1".parse().unwrap());
        assert_eq!(world.fail("alice", "192.0.2.1", 4), 4);
        world.clock.advance(15 * MINUTE);
        assert_eq!(world.fail("alice", "192.0.2.1", 10), 5);
    }

    #[test]
    fn who_tries_many_accounts_is_locked_for_all_and_for_the_api() {
        let limits = LoginLimits { max_failures_per_client: 7, ..LoginLimits::default() };
        let world = World::new(limits);
        let tries: usize = (0..10).map(|number| world.fail(&format!("user{number}"), "192.0.2.1", 1)).sum();
        assert_eq!(tries, 7);
        world.throttle.succeeded("user1", "192.0.2.1".parse().unwrap());
        assert_eq!(world.remaining("user1", "192.0.2.1"), Some(15 * MINUTE), "a success elsewhere does not help");
        assert_eq!(KeyGuard::admit(&world.throttle, "192.0.2.1".parse().unwrap()), Err(15 * MINUTE));
        for _ in 0..7 {
            KeyGuard::failed(&world.throttle, "192.0.2.9".parse().unwrap());
        }
        assert_eq!(world.remaining("alice", "192.0.2.9"), Some(15 * MINUTE), "nor does the other door");
    }

    #[test]
    fn many_people_may_come_from_a_trusted_client() {
        let world = World::new(LoginLimits { max_failures_per_client: 2, ..LoginLimits::default() });
        let tries: usize = (0..10).map(|number| world.fail(&format!("user{number}"), "127.0.0.1", 10)).sum();
        assert_eq!(tries, 50, "their accounts are locked, the client is not");
    }

    #[test]
    fn a_clock_that_goes_back_locks_for_no_longer() {
        let world = World::new(LoginLimits::default());
        world.clock.advance(100 * MINUTE);
        assert_eq!(world.fail("alice", "192.0.2.1", 10), 5);
        let earlier = World { clock: Arc::new(ManualClock::at(Timestamp::from_unix(1_000_000))), ..world };
        let throttle = Throttle { clock: earlier.clock.clone(), ..earlier.throttle };
        let client = "192.0.2.1".parse().unwrap();
        assert_eq!(throttle.admit("alice", client), Err(Locked { remaining: 15 * MINUTE }));
        earlier.clock.advance(15 * MINUTE);
        assert_eq!(throttle.admit("alice", client), Ok(()));
    }
}
