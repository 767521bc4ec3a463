//! How many jobs of each destination are done at the same time and within a time, so that a host that keeps silent
//! can't keep all workers, and one that is asked too much is asked less.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mairust_core::{Clock, Domain, Rate, Reply, Timestamp, TokenBucket};
use mairust_store::LaneBounds;

/// After a host has asked for less, what it says about deliveries that were under way then changes nothing.
const UNDER_WAY: Duration = Duration::from_secs(10);
/// After this time without such a word a destination is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(3_600);
/// What hosts say that are asked too much, in lower case. There is no standard for it.
const TOO_MUCH: [&str; 10] = [
    "rate limit",
    "unusual rate",
    "too many",
    "too much",
    "too fast",
    "throttl",
    "slow down",
    "busy",
    "unexpected volume",
    "exceeded",
];

/// How much is delivered to one domain at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DomainLimit {
    /// The domain.
    pub domain: Domain,
    /// Deliveries within a time, each of one message to recipients at the domain.
    pub rate: Option<Rate>,
    /// Deliveries at the same time.
    pub deliveries: Option<u32>,
}

/// The destinations of the jobs that are being done. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Lanes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Jobs for each destination at the same time.
    bound: u32,
    /// For destinations without a limit of their own.
    rate: Option<Rate>,
    limits: HashMap<String, DomainLimit>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bounds: LaneBounds,
    /// Destinations about which there is something to remember.
    lanes: HashMap<String, Lane>,
}

#[derive(Debug)]
struct Lane {
    /// Jobs at the same time.
    allowed: u32,
    /// When the host last asked for less.
    cut: Option<Timestamp>,
    bucket: TokenBucket,
}

/// A job that is being done; it has ended when this is dropped.
#[derive(Debug)]
pub(super) struct Busy {
    lanes: Lanes,
    destination: String,
}

impl DomainLimit {
    /// No limit for this domain but those that hold for all.
    pub fn new(domain: Domain) -> Self {
        Self { domain, rate: None, deliveries: None }
    }
}

impl Lanes {
    /// So many jobs for each destination at the same time, and within a time, but for those that have limits of
    /// their own.
    pub(crate) fn new(bound: usize, rate: Option<Rate>, limits: &[DomainLimit], clock: Arc<dyn Clock>) -> Self {
        let bound = u32::try_from(bound).unwrap_or(u32::MAX);
        let limits = limits.iter().map(|limit| (limit.domain.as_str().to_owned(), limit.clone())).collect();
        let state = Mutex::new(State { bounds: LaneBounds::new(bound), lanes: HashMap::new() });
        Self(Arc::new(Shared { bound, rate, limits, clock, state }))
    }

    /// What there is room for.
    pub(super) fn bounds(&self) -> LaneBounds {
        let (shared, now) = (&self.0, self.0.clock.now());
        let mut state = self.lock();
        let is_over = |lane: &Lane| lane.cut.is_none_or(|cut| now.since(cut) > FORGOTTEN);
        state.lanes.retain(|_, lane| !is_over(lane) || lane.bucket.is_full_at() > now);
        let mut bounds = state.bounds.clone();
        for limit in shared.limits.values() {
            let destination = limit.domain.as_str();
            let deliveries = limit.deliveries.unwrap_or(shared.bound);
            bounds.narrow(destination, deliveries.saturating_sub(state.bounds.busy(destination)));
        }
        for (destination, lane) in &state.lanes {
            let tokens = shared.rate(destination).map_or(u32::MAX, |rate| lane.bucket.left(&rate, now));
            let room = lane.allowed.saturating_sub(state.bounds.busy(destination)).min(tokens);
            bounds.narrow(destination, room.min(bounds.room(destination)));
        }
        bounds
    }

    /// Whether a destination has no room left.
    pub(super) fn are_full(&self) -> bool {
        self.bounds().full() > 0
    }

    /// When a destination that has had all that there may be within a time may have the next one.
    pub(super) fn next_token(&self) -> Option<Timestamp> {
        let now = self.0.clock.now();
        let state = self.lock();
        let waits = state.lanes.iter().filter_map(|(destination, lane)| {
            let wait = lane.bucket.clone().take(&self.0.rate(destination)?, now).err()?;
            Some(now.plus(wait))
        });
        waits.min()
    }

    /// Counts a job that is begun.
    pub(super) fn begin(&self, destination: Option<&str>) -> Busy {
        let (destination, now) = (destination.unwrap_or_default().to_owned(), self.0.clock.now());
        let mut state = self.lock();
        state.bounds.begin(&destination);
        if let Some(rate) = self.0.rate(&destination) {
            let lane = state.lane(&destination, self.0.allowed(&destination), now);
            lane.bucket.spend(&rate, 1, now);
        }
        Busy { lanes: self.clone(), destination }
    }

    /// Counts another message of a job that is being done. It is not put off when there may be none: those that come
    /// after it wait for longer.
    pub(super) fn one_more(&self, destination: &str) {
        let now = self.0.clock.now();
        if let Some(rate) = self.0.rate(destination) {
            self.lock().lane(destination, self.0.allowed(destination), now).bucket.spend(&rate, 1, now);
        }
    }

    /// Learns from what a host answered: one that says that it is asked too much gets half as much at the same time.
    pub(super) fn answered(&self, destination: &str, reply: &Reply) {
        let (now, most) = (self.0.clock.now(), self.0.allowed(destination));
        let mut state = self.lock();
        if is_too_much(reply) {
            let busy = state.bounds.busy(destination).max(1);
            let lane = state.lane(destination, most, now);
            if lane.cut.is_some_and(|cut| now.since(cut) < UNDER_WAY) {
                return;
            }
            lane.cut = Some(now);
            lane.allowed = (lane.allowed.min(busy) / 2).max(1);
            tracing::info!(
                component = "deliver",
                destination,
                at_once = lane.allowed,
                reply = %reply,
                "the host is asked too much, and gets less"
            );
        } else if let (true, Some(lane)) = (reply.is_positive(), state.lanes.get_mut(destination)) {
            lane.allowed = (lane.allowed + 1).min(most);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn rate(&self, destination: &str) -> Option<Rate> {
        let own = self.limits.get(destination).and_then(|limit| limit.rate);
        // Work that stays here, and webhooks, lead to no domain.
        own.or(self.rate.filter(|_| destination.contains('.') && !destination.contains(':')))
    }

    fn allowed(&self, destination: &str) -> u32 {
        let own = self.limits.get(destination).and_then(|limit| limit.deliveries);
        own.map_or(self.bound, |own| own.min(self.bound))
    }
}

impl State {
    fn lane(&mut self, destination: &str, allowed: u32, now: Timestamp) -> &mut Lane {
        let new = || Lane { allowed, cut: None, bucket: TokenBucket::full(now) };
        self.lanes.entry(destination.to_owned()).or_insert_with(new)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.lanes.lock().bounds.end(&self.destination);
    }
}

/// Whether a host says that it gets too much at the moment. Greylisting is about one message.
pub(super) fn is_too_much(reply: &Reply) -> bool {
    if reply.is_positive() || reply.is_permanent() {
        return false;
    }
    let text = reply.lines().join(" ").to_lowercase();
    let says_so = TOO_MUCH.iter().any(|words| text.contains(words));
    (reply.code() == 421 || says_so) && !text.contains("greylist") && !text.contains("graylist")
}

#[cfg(test)]
mod tests {
    use mairust_core::{EnhancedCode, ManualClock};

    use super::*;

    const A: &str = "a.example";

    fn lanes(rate: Option<&str>, limits: &[DomainLimit]) -> (Lanes, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_unix(1_000_000)));
        (Lanes::new(8, rate.map(|rate| rate.parse().unwrap()), limits, clock.clone()), clock)
    }

    fn begin(lanes: &Lanes, count: usize) -> Vec<Busy> {
        (0..count).map(|_| lanes.begin(Some(A))).collect()
    }

    fn busy() -> Reply {
        Reply::new(421, EnhancedCode(4, 7, 0), "try again later")
    }

    #[test]
    fn so_many_within_a_time() {
        let (lanes, clock) = lanes(Some("3/1m"), &[]);
        assert_eq!(lanes.bounds().room(A), 8);
        let two = begin(&lanes, 2);
        assert_eq!((lanes.bounds().room(A), lanes.next_token()), (1, None));
        drop(two);
        drop(begin(&lanes, 1));
        assert_eq!((lanes.bounds().room(A), lanes.are_full()), (0, true));
        assert_eq!(lanes.next_token(), Some(clock.now().plus(Duration::from_secs(20))));
        clock.advance(Duration::from_secs(20));
        assert_eq!((lanes.bounds().room(A), lanes.are_full()), (1, false));
        for other in [None, Some("webhook:1.2")] {
            drop((0..9).map(|_| lanes.begin(other)).collect::<Vec<_>>());
            assert!(lanes.bounds().room(other.unwrap_or_default()) > 3, "{other:?}");
        }
        clock.advance(Duration::from_secs(60));
        assert_eq!(lanes.bounds().room(A), 8, "and it is forgotten");
        assert!(lanes.lock().lanes.is_empty());
    }

    #[test]
    fn a_domain_may_have_limits_of_its_own() {
        let domain = Domain::parse(A).unwrap();
        let limit = DomainLimit { rate: Some("5/1m".parse().unwrap()), deliveries: Some(2), domain };
        let (lanes, _) = lanes(Some("1/1m"), &[limit]);
        let one = begin(&lanes, 1);
        assert_eq!((lanes.bounds().room(A), lanes.bounds().room("b.example")), (1, 8));
        drop(one);
        drop(begin(&lanes, 3));
        assert_eq!(lanes.bounds().room(A), 1);
        let _other = lanes.begin(Some("b.example"));
        assert_eq!(lanes.bounds().room("b.example"), 0);
    }

    #[test]
    fn who_is_asked_too_much_is_asked_less() {
        let (lanes, clock) = lanes(None, &[]);
        let mut running = begin(&lanes, 8);
        for _ in 0..8 {
            lanes.answered(A, &busy());
        }
        running.truncate(3);
        assert_eq!(lanes.bounds().room(A), 1, "those that were under way say it together");
        clock.advance(UNDER_WAY);
        lanes.answered(A, &busy());
        running.clear();
        assert_eq!(lanes.bounds().room(A), 1);
        let _running = begin(&lanes, 1);
        assert_eq!((lanes.bounds().room(A), lanes.bounds().room("b.example")), (0, 8));
        for _ in 0..20 {
            lanes.answered(A, &Reply::plain(250, "OK"));
        }
        assert_eq!(lanes.bounds().room(A), 7);
        clock.advance(UNDER_WAY);
        lanes.answered(A, &busy());
        clock.advance(FORGOTTEN + Duration::from_secs(1));
        assert_eq!(lanes.bounds().room(A), 7);
    }

    #[test]
    fn knows_who_is_asked_too_much() {
        for (code, text, expected) in [
            (421, "4.3.2 closing", true),
            (450, "4.2.1 The user you are trying to contact is receiving mail at a rate too fast", true),
            (451, "4.7.500 Server Busy. Please try again later", true),
            (452, "4.3.1 mailbox full", false),
            (451, "4.7.1 Greylisted: too many unknown senders", false),
            (421, "4.7.0 graylisted", false),
            (550, "5.7.1 too many messages", false),
            (250, "2.0.0 not busy", false),
        ] {
            assert_eq!(is_too_much(&Reply::plain(code, text)), expected, "{code} {text}");
        }
    }
}
