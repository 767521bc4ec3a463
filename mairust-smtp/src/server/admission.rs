//! Who may have a session, and how fast clients may go: one table for all listeners of a server.
//!
//! The number of entries is bounded, whatever the number of clients: those with sessions by the
//! limit of sessions, the others by [`REMEMBERED`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mairust_core::{EnhancedCode, IpNetwork, Rate, RecentMap, Rejection, Timestamp, TokenBucket};

use super::config::AdmissionConfig;
use super::observer::Refusal;

/// Clients whose rate is remembered at least. An entry has about 100 octets.
const REMEMBERED: usize = 32_768;

/// Gives places to sessions.
#[derive(Debug)]
pub(super) struct Admission {
    config: AdmissionConfig,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    sessions: usize,
    by_client: HashMap<IpNetwork, usize>,
    by_network: HashMap<IpNetwork, usize>,
    buckets: RecentMap<IpNetwork, Buckets>,
}

/// What a client has left.
#[derive(Debug)]
struct Buckets {
    connections: TokenBucket,
    messages: TokenBucket,
    recipients: TokenBucket,
}

/// A place for one connection among all; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    admission: Arc<Admission>,
    /// The client whose session this is, once it is known and counts.
    client: Option<IpAddr>,
}

impl Admission {
    pub(super) fn new(config: AdmissionConfig) -> Arc<Self> {
        let table = Table {
            sessions: 0,
            by_client: HashMap::new(),
            by_network: HashMap::new(),
            buckets: RecentMap::new(REMEMBERED),
        };
        Arc::new(Self { config, table: Mutex::new(table) })
    }

    /// A place for a connection whose client is not known yet.
    pub(super) fn seat(self: &Arc<Self>) -> Result<Seat, Refusal> {
        let mut table = self.table();
        if table.sessions >= self.config.max_sessions {
            return Err(Refusal::ServerFull);
        }
        table.sessions += 1;
        Ok(Seat { admission: Arc::clone(self), client: None })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Gives the place to a client, in the stead of the one who had it.
    pub(super) fn admit(&mut self, client: IpAddr, now: Timestamp) -> Result<(), Refusal> {
        self.leave();
        let config = &self.admission.config;
        if config.trusts(client) {
            return Ok(());
        }
        let mut table = self.admission.table();
        let rate = config.connection_rate.as_ref();
        spend(&mut table.buckets(client, now).connections, rate, now).map_err(|_| Refusal::TooFast)?;
        add(&mut table.by_client, IpNetwork::client(client), config.max_sessions_per_client)
            .ok_or(Refusal::ClientFull)?;
        let neighbourhood = IpNetwork::neighbourhood(client);
        if add(&mut table.by_network, neighbourhood, config.max_sessions_per_network).is_none() {
            remove(&mut table.by_client, IpNetwork::client(client));
            return Err(Refusal::NetworkFull);
        }
        drop(table);
        self.client = Some(client);
        Ok(())
    }

    /// Whether the client may send a message now.
    pub(super) fn message(&self, now: Timestamp) -> Result<(), Rejection> {
        let rate = self.admission.config.message_rate.as_ref();
        self.take(rate, now, "messages", |buckets| &mut buckets.messages)
    }

    /// Whether the client may name a recipient now.
    pub(super) fn recipient(&self, now: Timestamp) -> Result<(), Rejection> {
        let rate = self.admission.config.recipient_rate.as_ref();
        self.take(rate, now, "recipients", |buckets| &mut buckets.recipients)
    }

    /// The client has a session less.
    fn leave(&mut self) {
        if let Some(client) = self.client.take() {
            let mut table = self.admission.table();
            remove(&mut table.by_client, IpNetwork::client(client));
            remove(&mut table.by_network, IpNetwork::neighbourhood(client));
        }
    }

    fn take(
        &self,
        rate: Option<&Rate>,
        now: Timestamp,
        what: &str,
        bucket: fn(&mut Buckets) -> &mut TokenBucket,
    ) -> Result<(), Rejection> {
        let Some(client) = self.client else { return Ok(()) };
        spend(bucket(self.admission.table().buckets(client, now)), rate, now).map_err(|wait| {
            let text = format!("Too many {what} from your address, please try again later");
            Rejection::new(450, EnhancedCode(4, 7, 1), text).because(format_args!("the next one is free in {wait:?}"))
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave();
        self.admission.table().sessions -= 1;
    }
}

impl Table {
    fn buckets(&mut self, client: IpAddr, now: Timestamp) -> &mut Buckets {
        let full = || Buckets {
            connections: TokenBucket::full(now),
            messages: TokenBucket::full(now),
            recipients: TokenBucket::full(now),
        };
        self.buckets.entry(IpNetwork::client(client), full)
    }
}

/// Takes a token out, where there is a rate.
fn spend(bucket: &mut TokenBucket, rate: Option<&Rate>, now: Timestamp) -> Result<(), Duration> {
    rate.map_or(Ok(()), |rate| bucket.take(rate, now))
}

/// Counts one more, if there are fewer than `limit`.
fn add<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K, limit: usize) -> Option<()> {
    match counts.entry(key) {
        Entry::Occupied(count) if *count.get() >= limit => None,
        Entry::Vacant(_) if limit == 0 => None,
        entry => {
            *entry.or_insert(0) += 1;
            Some(())
        }
    }
}

/// Counts one less; what is zero takes no room.
fn remove<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix(1_000_000);

    fn config() -> AdmissionConfig {
        AdmissionConfig {
            max_sessions: 8,
            max_sessions_per_client: 2,
            max_sessions_per_network: 3,
            connection_rate: None,
            message_rate: None,
            recipient_rate: None,
            ..AdmissionConfig::default()
        }
    }

    fn seated(admission: &Arc<Admission>, client: &str, now: Timestamp) -> Result<Seat, Refusal> {
        let mut seat = admission.seat()?;
        seat.admit(client.parse().unwrap(), now).map(|()| seat)
    }

    #[test]
    fn each_limit_holds_and_ends_with_the_session() {
        let admission = Admission::new(config());
        let refusal = |client: &str| seated(&admission, client, NOW).unwrap_err();
        let first = seated(&admission, "192.0.2.1", NOW).unwrap();
        let second = seated(&admission, "::ffff:192.0.2.1", NOW).unwrap();
        assert_eq!(refusal("192.0.2.1"), Refusal::ClientFull);
        let _neighbour = seated(&admission, "192.0.2.2", NOW).unwrap();
        assert_eq!(refusal("192.0.2.3"), Refusal::NetworkFull);
        let _six = [seated(&admission, "2001:db8::1", NOW).unwrap(), seated(&admission, "2001:db8::2", NOW).unwrap()];
        assert_eq!(refusal("2001:db8::3"), Refusal::ClientFull);
        drop(first);
        let _again = seated(&admission, "192.0.2.3", NOW).unwrap();
        let trusted: Vec<Seat> = (0..3).map(|_| seated(&admission, "127.0.0.1", NOW).unwrap()).collect();
        assert_eq!(refusal("127.0.0.1"), Refusal::ServerFull, "whom we trust takes places, too");
        drop((second, trusted));
        assert!(seated(&admission, "198.51.100.1", NOW).is_ok());
    }

    #[test]
    fn nothing_is_left_of_sessions_that_ended() {
        let admission = Admission::new(config());
        for number in 0..1_000_u32 {
            let client = std::net::Ipv4Addr::from_bits(number << 8).to_string();
            let mut seat = seated(&admission, &client, NOW).unwrap();
            seat.admit("192.0.2.1".parse().unwrap(), NOW).unwrap();
            assert!(seated(&admission, &client, NOW).is_ok());
            drop(seat);
        }
        let table = admission.table();
        assert_eq!((table.sessions, table.by_client.len(), table.by_network.len()), (0, 0, 0));
    }

    #[test]
    fn rates_are_of_the_client_and_not_of_its_session() {
        let rate = |count| Some(Rate::new(count, Duration::from_secs(60)));
        let admission = Admission::new(AdmissionConfig {
            connection_rate: rate(2),
            message_rate: rate(1),
            recipient_rate: rate(2),
            ..config()
        });
        let first = seated(&admission, "192.0.2.1", NOW).unwrap();
        assert_eq!(first.message(NOW), Ok(()));
        assert_eq!((first.recipient(NOW), first.recipient(NOW)), (Ok(()), Ok(())));
        drop(first);
        let second = seated(&admission, "192.0.2.1", NOW).unwrap();
        assert_eq!(
            second.message(NOW).unwrap_err().reply().to_string(),
            "450 4.7.1 Too many messages from your address, please try again later"
        );
        assert_eq!(second.recipient(NOW).unwrap_err().reply().code(), 450);
        assert_eq!(seated(&admission, "192.0.2.1", NOW).unwrap_err(), Refusal::TooFast);
        let later = NOW.plus(Duration::from_secs(60));
        assert_eq!((second.message(later), second.recipient(later)), (Ok(()), Ok(())));
        drop(second);
        assert!(seated(&admission, "192.0.2.1", later).is_ok());
        let trusted = seated(&admission, "127.0.0.1", NOW).unwrap();
        assert!((0..100).all(|_| trusted.message(NOW).is_ok() && trusted.recipient(NOW).is_ok()));
    }
}
