//! Events that come again and again: the first one is recorded, the others are counted.

use std::collections::HashMap;
use std::time::Duration;

use mairust_core::{IpNetwork, Timestamp};
use mairust_store::audit::Actor;
use mairust_store::{NewAuditEvent, Owner};
use serde_json::json;

use super::Record;

/// Counts events of the same kind: of one owner and type, by one actor from one client, about one thing.
#[derive(Debug)]
pub(super) struct Repeats {
    kinds: HashMap<Kind, Repeat>,
    /// Kinds that are told apart; the others are counted together.
    bound: usize,
    /// For how long events are counted before their number is recorded.
    window: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    owner: Owner,
    event_type: String,
    /// The actor, its client and the target; `None` for all that are not told apart.
    apart: Option<(Option<String>, Option<IpNetwork>, Option<String>)>,
}

#[derive(Debug)]
struct Repeat {
    first: Record,
    since: Timestamp,
    count: u64,
}

impl Repeats {
    pub(super) fn new(bound: usize, window: Duration) -> Self {
        Self { kinds: HashMap::new(), bound, window }
    }

    /// The event, if it is the first of its kind for some time.
    pub(super) fn admit(&mut self, record: Record, now: Timestamp) -> Option<Record> {
        let NewAuditEvent { actor, target, .. } = &record.event;
        let target = target.as_ref().map(|target| target.id.clone());
        let mut kind = Kind {
            owner: record.owner,
            event_type: record.event.event_type.clone(),
            apart: Some((actor.id.clone(), actor.ip.map(IpNetwork::client), target)),
        };
        if let Some(repeat) = self.kinds.get_mut(&kind) {
            repeat.count += 1;
            return None;
        }
        let mut first = record.clone();
        let told = if self.kinds.len() < self.bound {
            Some(record)
        } else {
            kind.apart = None;
            (first.event.actor, first.event.after) = (Actor { id: None, ip: None, ..first.event.actor }, None);
            first.event.target = None;
            None
        };
        let repeat = self.kinds.entry(kind).or_insert(Repeat { first, since: now, count: 0 });
        repeat.count += u64::from(told.is_none());
        told
    }

    /// Events that say how often something came again, of all that began to be counted long enough
    /// before `until`. The next one of each kind is a first one.
    pub(super) fn take_due(&mut self, until: Timestamp, now: Timestamp) -> Vec<Record> {
        let due = self.kinds.extract_if(|_, repeat| until.since(repeat.since) >= self.window);
        let repeated = due.filter(|(_, repeat)| repeat.count > 0).map(|(_, repeat)| {
            let mut record = repeat.first;
            record.event.at = now;
            let mut after = record.event.after.take().unwrap_or_else(|| json!({}));
            after["repeated"] = json!(repeat.count);
            record.event.after = Some(after);
            record
        });
        repeated.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const WINDOW: Duration = Duration::from_secs(600);

    const NOW: Timestamp = Timestamp::from_unix(1_763_780_646);

    fn failure(name: &str, last: u8) -> Record {
        let ip = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)));
        let event = NewAuditEvent {
            at: NOW,
            event_type: "login.failed".to_owned(),
            actor: Actor { kind: "anonymous".to_owned(), id: Some(name.to_owned()), ip },
            target: None,
            before: None,
            after: Some(json!({"protocol": "smtp"})),
            request_id: None,
        };
        Record { owner: Owner::Installation, event }
    }

    #[test]
    fn a_guesser_makes_two_entries() {
        let mut repeats = Repeats::new(10, WINDOW);
        let told: Vec<_> = (0..100).filter_map(|_| repeats.admit(failure("alice", 1), NOW)).collect();
        assert_eq!(told, [failure("alice", 1)]);
        assert!(repeats.admit(failure("alice", 2), NOW).is_some(), "another client");
        assert!(repeats.admit(failure("bob", 1), NOW).is_some(), "another name");
        let before = NOW.plus(WINDOW - Duration::from_secs(1));
        assert!(repeats.take_due(before, before).is_empty());
        let later = NOW.plus(WINDOW);
        let due = repeats.take_due(later, later);
        assert_eq!(due.len(), 1);
        assert_eq!((due[0].event.at, &due[0].event.actor), (later, &failure("alice", 1).event.actor));
        assert_eq!(due[0].event.after, Some(json!({"protocol": "smtp", "repeated": 99})));
        assert!(repeats.admit(failure("alice", 1), later).is_some());
    }

    #[test]
    fn many_names_become_one_entry() {
        let mut repeats = Repeats::new(10, WINDOW);
        let told = (0..1_000).filter_map(|number| repeats.admit(failure(&format!("name {number}"), 1), NOW)).count();
        assert_eq!(told, 10);
        assert!(repeats.kinds.len() <= 11);
        let end = Timestamp::from_micros(i64::MAX);
        let due = repeats.take_due(end, NOW);
        assert_eq!(due.len(), 1);
        assert_eq!((due[0].event.actor.id.as_ref(), due[0].event.actor.ip), (None, None));
        assert_eq!(due[0].event.after, Some(json!({"repeated": 990})));
        assert!(repeats.kinds.is_empty());
    }
}
