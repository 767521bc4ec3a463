//! Whether rows and bodies fit together, and putting right what can be.

use super::driver::{Columns, Query, Scope, failed};
use super::statement;
use super::storage::{Parts, SqlStorage};
use crate::consistency::{ConsistencyCheck, ConsistencyReport, Fault, Finding};
use crate::error::StoreError;
use crate::invariant::{Invariant, InvariantViolation};
use crate::observer::Observer;

mod bodies;
mod counters;
mod database;
mod orphans;

/// A check under way: what to look for, what was found so far, and who is told.
struct Work<'w> {
    parts: &'w Parts,
    check: &'w ConsistencyCheck,
    observer: &'w mut dyn Observer,
    report: ConsistencyReport,
}

/// How many rows of a rule are looked at together.
const PAGE: u32 = 1_000;

impl SqlStorage {
    /// Looks at every message and its body, every object, all counters and the rules about accepted
    /// mail; a server may work meanwhile. With [`ConsistencyCheck::repair`] puts right what can be.
    ///
    /// A message whose body is lost or damaged is told and left as it is.
    ///
    /// # Errors
    /// When the database or the body store does not answer: the check has not come to its end then.
    pub async fn check_consistency(
        &self,
        check: &ConsistencyCheck,
        observer: &mut dyn Observer,
    ) -> Result<ConsistencyReport, StoreError> {
        let mut work = Work::new(&self.parts, check, observer);
        work.check_bodies().await?;
        work.check_objects().await?;
        work.check_spool().await?;
        work.check_counters().await?;
        work.check_rules().await?;
        Ok(work.report)
    }

    /// Looks at the database alone: whether its file is whole and rows refer to rows (SQLite), makes
    /// its indexes anew (SQLite if they are damaged, PostgreSQL always), then corrects counters and ends
    /// leases without an owner, whatever [`ConsistencyCheck::repair`] says. Mail waits while indexes
    /// are made.
    ///
    /// # Errors
    /// When the database does not answer, or is damaged so much that it can't be read.
    pub async fn repair_database(
        &self,
        check: &ConsistencyCheck,
        observer: &mut dyn Observer,
    ) -> Result<ConsistencyReport, StoreError> {
        let check = check.clone().repair(true);
        let mut work = Work::new(&self.parts, &check, observer);
        work.repair_indexes().await?;
        work.check_counters().await?;
        work.check_rules().await?;
        Ok(work.report)
    }
}

impl Parts {
    /// Corrects all counters.
    pub(crate) async fn correct_counters(&self, observer: &mut dyn Observer) -> Result<(), StoreError> {
        let check = ConsistencyCheck::new(self.clock.now()).repair(true);
        Work::new(self, &check, observer).check_counters().await
    }
}

impl<'w> Work<'w> {
    fn new(parts: &'w Parts, check: &'w ConsistencyCheck, observer: &'w mut dyn Observer) -> Self {
        Self { parts, check, observer, report: ConsistencyReport::default() }
    }

    fn found(&mut self, finding: &Finding) {
        self.report.add(finding);
        self.observer.finds(finding);
    }

    async fn check_rules(&mut self) -> Result<(), StoreError> {
        for rule in Invariant::ALL {
            self.observer.begins(rule.as_str(), None);
            let mut after = None;
            loop {
                let page = self.parts.check_rows(rule, &self.check.rules, after, PAGE).await?;
                for violation in page.violations {
                    let mut finding = of_rule(&violation);
                    finding.repaired = self.repair_rule(&violation).await?;
                    self.found(&finding);
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
                self.observer.advances(u64::from(PAGE));
            }
        }
        Ok(())
    }

    /// Ends a lease that nobody has any more, as whoever takes jobs would.
    async fn repair_rule(&self, violation: &InvariantViolation) -> Result<bool, StoreError> {
        let (Invariant::LeaseOwner, Some(job), true) = (violation.invariant, violation.job, self.check.repair) else {
            return Ok(false);
        };
        let query = Query::new(statement::consistency::END_LEASE)
            .bind(violation.tenant.as_bytes())
            .bind(job.as_bytes())
            .bind(self.check.rules.patience());
        let ended = self.parts.database.execute(violation.tenant, query).await;
        ended.map_err(failed("end lease", job)).map(|ended| ended > 0)
    }

    /// How many messages there are.
    async fn count_messages(&self) -> Result<u64, StoreError> {
        let query = Query::new(statement::consistency::COUNT_MESSAGES);
        let row = self.parts.database.fetch_one(Scope::All, query).await.map_err(failed("check", "count messages"))?;
        Columns::new("check", &row).number("count")
    }
}

fn of_rule(violation: &InvariantViolation) -> Finding {
    let detail = match violation.invariant {
        Invariant::JobAge => "a job is older than anything is tried",
        Invariant::JobPurpose => "a job is due, and nobody waits for it",
        Invariant::LeaseOwner => "a lease has ended, and no worker took the job over",
        Invariant::MessageStatus => "a message is queued, and no recipient waits",
        Invariant::RecipientJob => "a recipient waits, and no job leads there",
        Invariant::RecipientMessage => "a recipient waits, and the message is not queued",
    };
    let mut finding = Finding::new(Fault::Rule(violation.invariant), detail).of(violation.tenant);
    finding.message = violation.message;
    finding.about = match (violation.job, violation.recipient) {
        (Some(job), _) => Some(("job", job.to_string())),
        (None, Some(recipient)) => Some(("recipient", recipient.to_string())),
        (None, None) => None,
    };
    finding
}
