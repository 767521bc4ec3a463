//! Finding out what is wrong with a chain.

use std::fmt;

use async_trait::async_trait;

use super::chain::hash_of;
use super::{AUDIT_BROKEN, AuditEntry, AuditHead, AuditKey, AuditLog, AuditLogExt, AuditOrder, AuditQuery};
use crate::error::StoreError;
use crate::owner::Owner;

/// What is wrong with a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuditProblem {
    /// This entry, or its link to the one before, was changed.
    Altered {
        /// Its number.
        sequence: u64,
    },
    /// This entry was put in when the head was found not to be what was signed.
    Broken {
        /// Its number.
        sequence: u64,
    },
    /// The head is not what was signed.
    HeadForged,
    /// There are entries, but no head.
    HeadMissing,
    /// The head is further back than the last entry, or has another hash.
    HeadOutdated {
        /// The number of the last entry.
        sequence: u64,
    },
    /// Entries are missing.
    Missing {
        /// The number of the first one that is missing.
        from: u64,
        /// The number of the last one.
        to: u64,
    },
    /// Entries at the end are missing.
    Truncated {
        /// The number of the first one that is missing.
        from: u64,
        /// The number of the last one.
        to: u64,
    },
}

/// What was found about a chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct AuditVerification {
    /// How many entries were read.
    pub entries: u64,
    /// The head; `None` for a chain that has none.
    pub head: Option<AuditHead>,
    /// What is wrong, in the order of the chain; the first [`MAX_PROBLEMS`](Self::MAX_PROBLEMS).
    pub problems: Vec<AuditProblem>,
}

/// How many entries are read together.
const PAGE: u32 = 500;

impl AuditVerification {
    /// How many problems are told.
    pub const MAX_PROBLEMS: usize = 100;

    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for AuditProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Altered { sequence } => write!(f, "entry {sequence} or its link to the one before was changed"),
            Self::Broken { sequence } => {
                write!(f, "when entry {sequence} was written, the head was not what was signed")
            }
            Self::HeadForged => f.write_str("the head is not what was signed"),
            Self::HeadMissing => f.write_str("the head is missing"),
            Self::HeadOutdated { sequence } => write!(f, "the head does not belong to entry {sequence}, the last one"),
            Self::Missing { from, to } => write!(f, "entries {from} to {to} are missing"),
            Self::Truncated { from, to } => write!(f, "entries {from} to {to} are missing at the end"),
        }
    }
}

/// Walks along a chain, from behind what was dropped.
struct Walk {
    entries: u64,
    problems: Vec<AuditProblem>,
    sequence: u64,
    hash: [u8; 32],
}

impl Walk {
    fn from(head: Option<AuditHead>) -> Self {
        let (sequence, hash) = head.map_or((0, [0; 32]), |head| (head.dropped, head.dropped_hash));
        Self { entries: 0, problems: Vec::new(), sequence, hash }
    }

    fn step(&mut self, entry: &AuditEntry) {
        self.entries += 1;
        let expected = self.sequence + 1;
        if entry.sequence > expected {
            self.report(AuditProblem::Missing { from: expected, to: entry.sequence - 1 });
        } else if hash_of(entry, &self.hash) != entry.hash {
            self.report(AuditProblem::Altered { sequence: entry.sequence });
        }
        if entry.event_type == AUDIT_BROKEN {
            self.report(AuditProblem::Broken { sequence: entry.sequence });
        }
        // From here on as if it were right: what follows is judged for itself.
        (self.sequence, self.hash) = (entry.sequence, entry.hash);
    }

    /// There are no more entries, and `head` was read after the last one.
    fn end(mut self, owner: Owner, key: &AuditKey, head: Option<AuditHead>) -> AuditVerification {
        let Some(end) = head else {
            if self.sequence > 0 {
                self.report(AuditProblem::HeadMissing);
            }
            return AuditVerification { entries: self.entries, head, problems: self.problems };
        };
        if !end.is_genuine(owner, key) {
            self.report(AuditProblem::HeadForged);
        }
        if end.sequence > self.sequence {
            self.report(AuditProblem::Truncated { from: self.sequence + 1, to: end.sequence });
        } else if (end.sequence, end.hash) != (self.sequence, self.hash) {
            self.report(AuditProblem::HeadOutdated { sequence: self.sequence });
        }
        AuditVerification { entries: self.entries, head, problems: self.problems }
    }

    fn report(&mut self, problem: AuditProblem) {
        if self.problems.len() < AuditVerification::MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }
}

#[async_trait]
impl<L: AuditLog + ?Sized> AuditLogExt for L {
    async fn verify(&self, owner: Owner, key: &AuditKey) -> Result<AuditVerification, StoreError> {
        let mut head = self.head(owner).await?;
        let mut walk = Walk::from(head);
        let mut query = AuditQuery { order: AuditOrder::OldestFirst, limit: PAGE, ..AuditQuery::default() };
        loop {
            // The head is read before the page: what it says must be there then.
            let now = self.head(owner).await?;
            if now.map(|head| head.dropped) != head.map(|head| head.dropped) {
                // What was to be read next may have been dropped.
                (head, walk, query.after) = (now, Walk::from(now), None);
                continue;
            }
            let page = self.list(owner, &query).await?;
            if page.items.is_empty() {
                return Ok(walk.end(owner, key, now));
            }
            page.items.iter().for_each(|entry| walk.step(entry));
            query.after = Some(walk.sequence);
        }
    }
}
