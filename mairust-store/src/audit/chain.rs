//! How entries become a chain: the same in every backend.

use aws_lc_rs::{digest, hmac};
use mairust_core::{AuditId, Timestamp};

use super::{AUDIT_BROKEN, Actor, AuditEntry, AuditKey, NewAuditEvent, Target};
use crate::owner::Owner;

/// Where a chain begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditHead {
    /// The number of the last entry that was dropped; 0 if none was.
    pub dropped: u64,
    /// Its hash; zeros if none was.
    pub dropped_hash: [u8; 32],
    /// The number of the last entry.
    pub sequence: u64,
    /// Its hash.
    pub hash: [u8; 32],
    /// HMAC-SHA256 of all this and of the owner, under the [`AuditKey`].
    pub signature: [u8; 32],
}

/// A chain that is being written to.
#[derive(Debug)]
pub(crate) struct Chain {
    owner: Owner,
    head: AuditHead,
    broken: bool,
}

impl AuditHead {
    /// Whether this is the head that was signed for this owner.
    pub fn is_genuine(&self, owner: Owner, key: &AuditKey) -> bool {
        hmac::verify(&hmac_key(key), &self.signed_part(owner), &self.signature).is_ok()
    }

    fn signed_part(&self, owner: Owner) -> Vec<u8> {
        let (dropped, sequence) = (self.dropped.to_be_bytes(), self.sequence.to_be_bytes());
        let label = b"mairust audit head: ".as_slice();
        [label, owner.as_bytes(), &dropped, &self.dropped_hash, &sequence, &self.hash].concat()
    }
}

impl Chain {
    /// The chain with this head and this last entry (its number and hash). It goes on behind
    /// whichever is further.
    pub(crate) fn resume(owner: Owner, key: &AuditKey, head: Option<AuditHead>, last: Option<(u64, [u8; 32])>) -> Self {
        let none = AuditHead { dropped: 0, dropped_hash: [0; 32], sequence: 0, hash: [0; 32], signature: [0; 32] };
        let broken = head.is_some_and(|head| !head.is_genuine(owner, key));
        let mut chain = Self { owner, head: head.unwrap_or(none), broken };
        if let Some((sequence, hash)) = last
            && sequence > chain.head.sequence
        {
            chain.broken = true;
            (chain.head.sequence, chain.head.hash) = (sequence, hash);
        }
        chain
    }

    /// Adds events, and before them, if the chain was not whole, an entry that says so.
    pub(crate) fn extend(&mut self, events: Vec<NewAuditEvent>) -> Vec<AuditEntry> {
        let mut entries = Vec::with_capacity(events.len() + 1);
        entries.extend(events.first().and_then(|event| self.admit_broken(event.at)));
        entries.extend(events.into_iter().map(|event| self.link(event)));
        entries
    }

    /// Adds an entry that says that the chain is not what was signed, if it is so and no entry says
    /// it yet.
    pub(crate) fn admit_broken(&mut self, at: Timestamp) -> Option<AuditEntry> {
        let (event_type, actor) = (AUDIT_BROKEN.to_owned(), Actor::system());
        let (target, before, after, request_id) = (None, None, None, None);
        let notice = NewAuditEvent { at, event_type, actor, target, before, after, request_id };
        std::mem::take(&mut self.broken).then(|| self.link(notice))
    }

    /// Drops the entries up to this one, `count` of them.
    pub(crate) fn drop_up_to(&mut self, sequence: u64, hash: [u8; 32], count: u64) {
        self.broken |= sequence.checked_sub(self.head.dropped) != Some(count);
        (self.head.dropped, self.head.dropped_hash) = (sequence, hash);
    }

    /// The head to keep.
    pub(crate) fn into_head(self, key: &AuditKey) -> AuditHead {
        let mut head = self.head;
        let signature = hmac::sign(&hmac_key(key), &head.signed_part(self.owner));
        head.signature.copy_from_slice(signature.as_ref());
        head
    }

    fn link(&mut self, event: NewAuditEvent) -> AuditEntry {
        let NewAuditEvent { at, event_type, actor, target, before, after, request_id } = event;
        let actor = Actor { kind: as_kept(actor.kind), id: actor.id.map(as_kept), ip: actor.ip };
        let target = target.map(|target| Target { kind: as_kept(target.kind), id: as_kept(target.id) });
        let (event_type, request_id) = (as_kept(event_type), request_id.map(as_kept));
        let (before, after) = (before.map(|value| value.to_string()), after.map(|value| value.to_string()));
        let (id, owner, sequence) = (AuditId::new(at), self.owner, self.head.sequence + 1);
        let hash = [0; 32];
        let mut entry =
            AuditEntry { id, owner, sequence, at, event_type, actor, target, before, after, request_id, hash };
        entry.hash = hash_of(&entry, &self.head.hash);
        (self.head.sequence, self.head.hash) = (entry.sequence, entry.hash);
        entry
    }
}

/// Not every database has texts with NUL in them, and what is read is to have the same hash.
fn as_kept(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// SHA-256 over the hash of the entry before, and all fields but the hash.
///
/// Numbers are 8 octets, the largest first; a text is its length as such a number and its octets in
/// UTF-8; a field that may be missing has an octet in front, 0 or 1.
pub(crate) fn hash_of(entry: &AuditEntry, previous: &[u8; 32]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"mairust audit entry 1: ");
    context.update(previous);
    context.update(entry.owner.as_bytes());
    context.update(&entry.sequence.to_be_bytes());
    context.update(entry.id.as_bytes());
    context.update(&entry.at.as_micros().to_be_bytes());
    add_text(&mut context, &entry.event_type);
    add_text(&mut context, &entry.actor.kind);
    add_optional(&mut context, entry.actor.id.as_deref());
    add_optional(&mut context, entry.actor.ip.map(|ip| ip.to_string()).as_deref());
    add_optional(&mut context, entry.target.as_ref().map(|target| target.kind.as_str()));
    add_optional(&mut context, entry.target.as_ref().map(|target| target.id.as_str()));
    add_optional(&mut context, entry.before.as_deref());
    add_optional(&mut context, entry.after.as_deref());
    add_optional(&mut context, entry.request_id.as_deref());
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

fn add_optional(context: &mut digest::Context, text: Option<&str>) {
    context.update(&[u8::from(text.is_some())]);
    if let Some(text) = text {
        add_text(context, text);
    }
}

fn add_text(context: &mut digest::Context, text: &str) {
    context.update(&(text.len() as u64).to_be_bytes());
    context.update(text.as_bytes());
}

fn hmac_key(key: &AuditKey) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key.expose())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use mairust_core::{Secret, TenantId};
    use serde_json::json;

    use super::*;

    const OWNER: Owner = Owner::Installation;
    const AT: Timestamp = Timestamp::from_unix(1_763_780_646);

    fn key() -> AuditKey {
        AuditKey::new(Secret::new([7; 32]))
    }

    fn event(event_type: &str) -> NewAuditEvent {
        NewAuditEvent {
            at: AT,
            event_type: event_type.to_owned(),
            actor: Actor { kind: "user".to_owned(), id: Some("u1".to_owned()), ip: Some(Ipv4Addr::LOCALHOST.into()) },
            target: Some(Target { kind: "domain".to_owned(), id: "a.example".to_owned() }),
            before: Some(json!({"enabled": true})),
            after: Some(json!({"enabled": false})),
            request_id: Some("r1".to_owned()),
        }
    }

    fn change<T>(value: T, change: impl Fn(&mut T)) -> T {
        let mut value = value;
        change(&mut value);
        value
    }

    #[test]
    fn every_field_counts() {
        let mut chain = Chain::resume(OWNER, &key(), None, None);
        let entry = chain.extend(vec![event("a")]).remove(0);
        let changes: [fn(&mut AuditEntry); 15] = [
            |entry| entry.owner = Owner::Tenant(TenantId::from_bytes([1; 16])),
            |entry| entry.sequence += 1,
            |entry| entry.id = AuditId::from_bytes([1; 16]),
            |entry| entry.at = Timestamp::from_micros(entry.at.as_micros() + 1),
            |entry| entry.event_type.push('a'),
            |entry| entry.actor.kind.push('a'),
            |entry| entry.actor.id = None,
            |entry| entry.actor.ip = Some(IpAddr::V4(Ipv4Addr::BROADCAST)),
            |entry| entry.target = None,
            |entry| entry.target.as_mut().unwrap().kind.push('a'),
            |entry| entry.target.as_mut().unwrap().id.push('a'),
            |entry| entry.before = None,
            |entry| entry.before = entry.after.clone(),
            |entry| entry.after = Some("{\"enabled\": false}".to_owned()),
            |entry| entry.request_id = None,
        ];
        assert_eq!(hash_of(&entry, &[0; 32]), entry.hash);
        assert_ne!(hash_of(&entry, &[1; 32]), entry.hash);
        for (index, changed) in changes.into_iter().enumerate() {
            assert_ne!(hash_of(&change(entry.clone(), changed), &[0; 32]), entry.hash, "change {index}");
        }
        // What moves from one field to the next is no longer the same.
        let moved = change(entry.clone(), |entry| (entry.event_type, entry.actor.kind) = ("au".into(), "ser".into()));
        assert_ne!(hash_of(&moved, &[0; 32]), entry.hash);
    }

    #[test]
    fn a_head_is_good_for_its_own_chain_only() {
        let mut chain = Chain::resume(OWNER, &key(), None, None);
        let entries = chain.extend(vec![event("a"), event("b")]);
        let head = chain.into_head(&key());
        assert_eq!((head.sequence, head.hash, head.dropped), (2, entries[1].hash, 0));
        assert!(head.is_genuine(OWNER, &key()));
        assert!(!head.is_genuine(Owner::Tenant(TenantId::from_bytes([1; 16])), &key()));
        assert!(!head.is_genuine(OWNER, &AuditKey::new(Secret::new([8; 32]))));
        let changes: [fn(&mut AuditHead); 5] = [
            |head| head.dropped = 1,
            |head| head.dropped_hash[0] ^= 1,
            |head| head.sequence = 1,
            |head| head.hash[0] ^= 1,
            |head| head.signature[0] ^= 1,
        ];
        for changed in changes {
            assert!(!change(head, changed).is_genuine(OWNER, &key()));
        }
    }

    #[test]
    fn what_was_broken_is_said_and_not_made_good() {
        let mut chain = Chain::resume(OWNER, &key(), None, None);
        let entries = chain.extend(vec![event("a"), event("b")]);
        let head = chain.into_head(&key());
        let last = Some((2, entries[1].hash));
        let types = |head: Option<AuditHead>, last| {
            let entries = Chain::resume(OWNER, &key(), head, last).extend(vec![event("c")]);
            entries.into_iter().map(|entry| (entry.sequence, entry.event_type)).collect::<Vec<_>>()
        };
        let (broken, added) = (AUDIT_BROKEN.to_owned(), "c".to_owned());
        assert_eq!(types(Some(head), last), [(3, added.clone())]);
        // The last entry is gone: the chain does not begin again before it.
        assert_eq!(types(Some(head), Some((1, entries[0].hash))), [(3, added.clone())]);
        let forged = change(head, |head| (head.sequence, head.hash) = (1, entries[0].hash));
        assert_eq!(types(Some(forged), Some((1, entries[0].hash))), [(2, broken.clone()), (3, added.clone())]);
        assert_eq!(types(None, last), [(3, broken.clone()), (4, added.clone())]);
        assert_eq!(types(None, None), [(1, added)]);
        let mut chain = Chain::resume(OWNER, &key(), Some(head), last);
        chain.drop_up_to(2, entries[1].hash, 1);
        assert!(chain.admit_broken(AT).is_some(), "one of two was missing");
        assert_eq!(chain.admit_broken(AT), None);
    }

    #[test]
    fn the_hash_of_an_entry_does_not_change_with_versions() {
        // Made by hashlib of Python, from the description at `hash_of`.
        let mut chain = Chain::resume(OWNER, &key(), None, None);
        let mut entry = chain.extend(vec![event("user.created")]).remove(0);
        entry.id = AuditId::from_bytes([5; 16]);
        let hash: String = hash_of(&entry, &[0; 32]).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, "e8ba8291f83f4b394d98479a35c26453568f5b1b0f0601b60c140eec897620b6");
    }
}
