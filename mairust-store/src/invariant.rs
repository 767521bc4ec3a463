//! What must hold for accepted mail at any moment, and a way to find out whether it does.
//!
//! Every accepted recipient ends in exactly one of delivered, bounced, held; one that is delivered may become
//! bounced when its mail [comes back](crate::AttemptOutcome::Reported). A backend looks for rows that break one of the
//! rules behind that, page by page; [`audit`] puts the pages together. Nothing is repaired here.

use std::collections::BTreeMap;
use std::time::Duration;

use mairust_core::{JobId, MessageId, RecipientId, TenantId, Timestamp};

use crate::backend::StorageBackend;
use crate::error::StoreError;

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Invariant {
    /// No job that is not given up is older than the greatest age.
    JobAge,
    /// A job that is due is about a message that is there and, where it leads to a destination,
    /// about a recipient at this destination who waits.
    JobPurpose,
    /// A lease that has ended is taken by another worker.
    LeaseOwner,
    /// A message that is queued has a recipient who waits.
    MessageStatus,
    /// A recipient who waits has a job that leads to the recipient's domain and is not given up.
    RecipientJob,
    /// A recipient who waits is one of a queued message.
    RecipientMessage,
}

/// What to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvariantCheck {
    /// What time it is.
    pub now: Timestamp,
    /// The greatest age of a job. Default 6 days: a day more than a delivery is tried.
    pub max_age: Duration,
    /// How long a lease may have ended, or a job without a purpose may have been due, before it is
    /// a fault: in a backlog both are normal for a while. Default 1 hour.
    pub grace: Duration,
}

/// A row that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvariantViolation {
    /// The rule.
    pub invariant: Invariant,
    /// Whose row it is.
    pub tenant: TenantId,
    /// The job, if it is about one.
    pub job: Option<JobId>,
    /// The message, if it is about one.
    pub message: Option<MessageId>,
    /// The recipient, if it is about one.
    pub recipient: Option<RecipientId>,
}

/// A place among the rows that one rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct InvariantPosition {
    /// Whose row it is; where rows are not in the order of tenants, any.
    pub tenant: TenantId,
    /// The id of the row.
    pub id: [u8; 16],
}

/// What was found among some rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InvariantPage {
    /// The rows that break the rule, in order.
    pub violations: Vec<InvariantViolation>,
    /// Where to go on; `None` at the end.
    pub next: Option<InvariantPosition>,
}

/// What was found among all rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvariantReport {
    /// How many rows break each rule; rules that all rows keep are there with 0.
    pub counts: BTreeMap<Invariant, u64>,
    /// The first of those rows, [`InvariantReport::LISTED`] at most for each rule.
    pub violations: Vec<InvariantViolation>,
}

/// How many rows one page looks at.
const PAGE: u32 = 1_000;

/// Looks at everything, rule by rule and page by page, with a pause after each page so that a large
/// storage stays free for others.
///
/// Each page is true for one moment, so a server may work meanwhile: what moves from one state to
/// the next does so in one step, and breaks no rule in between.
///
/// # Errors
/// When the storage can't be read.
pub async fn audit(
    storage: &dyn StorageBackend,
    check: &InvariantCheck,
    pause: Duration,
) -> Result<InvariantReport, StoreError> {
    let mut report = InvariantReport::default();
    for invariant in Invariant::ALL {
        report.counts.insert(invariant, 0);
        let mut after = None;
        loop {
            let page = storage.deliveries().check_invariant(invariant, check, after, PAGE).await?;
            report.add(invariant, page.violations);
            after = page.next;
            if after.is_none() {
                break;
            }
            tokio::time::sleep(pause).await;
        }
    }
    Ok(report)
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::JobAge,
        Self::JobPurpose,
        Self::LeaseOwner,
        Self::MessageStatus,
        Self::RecipientJob,
        Self::RecipientMessage,
    ];

    /// As shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JobAge => "job_age",
            Self::JobPurpose => "job_purpose",
            Self::LeaseOwner => "lease_owner",
            Self::MessageStatus => "message_status",
            Self::RecipientJob => "recipient_job",
            Self::RecipientMessage => "recipient_message",
        }
    }
}

impl InvariantCheck {
    /// A check with the default bounds.
    pub fn new(now: Timestamp) -> Self {
        Self { now, max_age: Duration::from_secs(6 * 86_400), grace: Duration::from_secs(3_600) }
    }

    /// Sets the greatest age of a job.
    #[must_use]
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = max_age;
        self
    }

    /// Jobs made before are too old.
    pub fn oldest(&self) -> Timestamp {
        before(self.now, self.max_age)
    }

    /// Leases that ended before, and jobs without a purpose that have been due since before, are
    /// faults.
    pub fn patience(&self) -> Timestamp {
        before(self.now, self.grace)
    }
}

impl InvariantReport {
    /// How many rows are named for each rule.
    pub const LISTED: usize = 100;

    /// Whether all rules are kept.
    pub fn is_clean(&self) -> bool {
        self.counts.values().all(|count| *count == 0)
    }

    fn add(&mut self, invariant: Invariant, found: Vec<InvariantViolation>) {
        let count = self.counts.entry(invariant).or_default();
        let room = Self::LISTED.saturating_sub(usize::try_from(*count).unwrap_or(usize::MAX));
        *count += found.len() as u64;
        self.violations.extend(found.into_iter().take(room));
    }
}

fn before(time: Timestamp, duration: Duration) -> Timestamp {
    let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(time.as_micros().saturating_sub(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_all_and_lists_some() {
        let violation = InvariantViolation {
            invariant: Invariant::JobAge,
            tenant: TenantId::from_bytes([1; 16]),
            job: Some(JobId::from_bytes([2; 16])),
            message: None,
            recipient: None,
        };
        let mut report = InvariantReport::default();
        assert!(report.is_clean());
        for _ in 0..3 {
            report.add(Invariant::JobAge, vec![violation.clone(); 70]);
        }
        assert_eq!((report.counts[&Invariant::JobAge], report.violations.len()), (210, InvariantReport::LISTED));
        assert!(!report.is_clean());
    }

    #[test]
    fn bounds_lie_before_now() {
        let check = InvariantCheck::new(Timestamp::from_unix(1_000_000)).max_age(Duration::from_secs(10));
        assert_eq!((check.oldest(), check.patience()), (Timestamp::from_unix(999_990), Timestamp::from_unix(996_400)));
    }
}
