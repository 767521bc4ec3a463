//! Whether rows and bodies fit together, and what can be put right.
//!
//! [`SqlStorage::check_consistency`](crate::SqlStorage::check_consistency) looks at everything, page
//! by page, while a server works: each page is true for one moment, and what changes meanwhile is
//! looked at again before it counts as a fault. Whatever is found is told to an
//! [`Observer`](crate::Observer) at once, so that memory is bounded however much there is.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use mairust_core::{MessageId, TenantId, Timestamp};
use serde_json::{Value, json};

use crate::invariant::{Invariant, InvariantCheck};

/// What to look for, and whether to put it right.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConsistencyCheck {
    /// What time it is.
    pub now: Timestamp,
    /// Objects without a row that are younger than this are left alone: they may belong to messages
    /// that are just being accepted. Default 1 hour.
    pub grace: Duration,
    /// Whether to put right what can be: objects without a row are removed, counters are corrected,
    /// leases without an owner are ended. No message is ever removed, and no object that another or a
    /// newer database may know: one of a tenant that has no messages here, or that is younger than all
    /// messages of its tenant. Default `false`.
    pub repair: bool,
    /// The rules about accepted mail.
    pub rules: InvariantCheck,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Fault {
    /// The body of a message is nowhere.
    BodyMissing,
    /// The body of a message is not the one that was received.
    BodyDamaged,
    /// An object to which no message points.
    BodyOrphaned,
    /// A body that waits for its place, and to which no message points.
    SpooledOrphaned,
    /// A mailbox is said to hold more or less than it does.
    MailboxUse,
    /// A folder counts from a number that one of its messages has already.
    FolderCounters,
    /// The positions of events of a tenant are counted from one that is taken already.
    EventPositions,
    /// The file of the database is damaged.
    Database,
    /// A row refers to another one that is not there.
    Reference,
    /// A rule about accepted mail is broken.
    Rule(Invariant),
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What is wrong.
    pub fault: Fault,
    /// Whose it is, if it is a tenant's.
    pub tenant: Option<TenantId>,
    /// The message, if it is about one.
    pub message: Option<MessageId>,
    /// What else it is about: kind and name, for example `object` and its key.
    pub about: Option<(&'static str, String)>,
    /// What was expected and found, for people.
    pub detail: String,
    /// Whether it was put right.
    pub repaired: bool,
}

/// What was looked at, and how much was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsistencyReport {
    /// Bodies of messages that were read and compared with their checksums.
    pub bodies: u64,
    /// Objects in the body store that were looked up among the messages.
    pub objects: u64,
    /// Mailboxes and folders whose counters were compared.
    pub counters: u64,
    /// How many faults of each kind were found.
    pub found: BTreeMap<Fault, u64>,
    /// How many of them were put right.
    pub repaired: BTreeMap<Fault, u64>,
}

impl ConsistencyCheck {
    /// A check that changes nothing.
    pub fn new(now: Timestamp) -> Self {
        Self { now, grace: Duration::from_secs(3_600), repair: false, rules: InvariantCheck::new(now) }
    }

    /// Puts right what can be.
    #[must_use]
    pub fn repair(mut self, repair: bool) -> Self {
        self.repair = repair;
        self
    }

    /// Sets how young an object has to be to be left alone.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets the rules about accepted mail.
    #[must_use]
    pub fn rules(mut self, rules: InvariantCheck) -> Self {
        self.rules = rules;
        self
    }
}

impl Fault {
    /// As shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BodyMissing => "body_missing",
            Self::BodyDamaged => "body_damaged",
            Self::BodyOrphaned => "body_orphaned",
            Self::SpooledOrphaned => "spooled_orphaned",
            Self::MailboxUse => "mailbox_use",
            Self::EventPositions => "event_positions",
            Self::FolderCounters => "folder_counters",
            Self::Database => "database",
            Self::Reference => "reference",
            Self::Rule(rule) => rule.as_str(),
        }
    }
}

impl Finding {
    pub(crate) fn new(fault: Fault, detail: impl fmt::Display) -> Self {
        Self { fault, tenant: None, message: None, about: None, detail: detail.to_string(), repaired: false }
    }

    pub(crate) fn of(mut self, tenant: TenantId) -> Self {
        self.tenant = Some(tenant);
        self
    }

    pub(crate) fn message(mut self, message: MessageId) -> Self {
        self.message = Some(message);
        self
    }

    pub(crate) fn about(mut self, kind: &'static str, name: impl fmt::Display) -> Self {
        self.about = Some((kind, name.to_string()));
        self
    }

    /// As a JSON object: `fault`, `detail`, `repaired`, and the ids that are known.
    pub fn to_json(&self) -> Value {
        let mut value = json!({"fault": self.fault.as_str(), "detail": self.detail, "repaired": self.repaired});
        if let Some(tenant) = self.tenant {
            value["tenant_id"] = tenant.to_string().into();
        }
        if let Some(message) = self.message {
            value["message_id"] = message.to_string().into();
        }
        if let Some((kind, name)) = &self.about {
            value[*kind] = name.as_str().into();
        }
        value
    }
}

impl ConsistencyReport {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.found.values().all(|count| *count == 0)
    }

    /// How many faults of each kind were found and are still there.
    pub fn left(&self) -> BTreeMap<Fault, u64> {
        let repaired = |fault| self.repaired.get(fault).copied().unwrap_or_default();
        let left = self.found.iter().map(|(fault, count)| (*fault, count.saturating_sub(repaired(fault))));
        left.filter(|(_, count)| *count > 0).collect()
    }

    pub(crate) fn add(&mut self, finding: &Finding) {
        *self.found.entry(finding.fault).or_default() += 1;
        if finding.repaired {
            *self.repaired.entry(finding.fault).or_default() += 1;
        }
    }
}
