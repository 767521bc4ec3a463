//! The queue.

use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{JobId, TenantId, Timestamp};

use super::changes::Change;
use super::driver::{Columns, Dialect, Json, Query, Rows, Scope, failed};
use super::storage::Parts;
use crate::error::StoreError;
use crate::queue::{Lease, NewJob, QueueBackend, QueueStats};
use crate::sql::statement;

#[async_trait]
impl QueueBackend for Parts {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<(), StoreError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let mut transaction = self.database.begin(Scope::All).await.map_err(failed("enqueue", "begin"))?;
        for query in insert_jobs(&jobs, self.clock.now()) {
            transaction.execute(query).await.map_err(failed("enqueue", "insert jobs"))?;
        }
        self.changes.tell(&mut transaction, Change::Queue).await.map_err(failed("enqueue", "notify"))?;
        transaction.commit().await.map_err(failed("enqueue", "commit"))?;
        self.changes.announce(Change::Queue);
        Ok(())
    }

    async fn lease(&self, now: Timestamp, max: u32, ttl: Duration) -> Result<Vec<Lease>, StoreError> {
        let (token, until): ([u8; 16], _) = (rand::random(), now.plus(ttl));
        let query = Query::new(statement::queue::lease_jobs(self.database.dialect()));
        let query = query.bind(now).bind(max).bind(until).bind(&token[..]);
        let rows = self.database.fetch_changed(Scope::All, query).await.map_err(failed("lease", "take jobs"))?;
        let mut leases = Vec::with_capacity(rows.len());
        for row in &rows {
            leases.push(lease(&Columns::new("lease", row), until, token)?);
        }
        // RETURNING promises no order.
        leases.sort_unstable_by_key(|(due, lease)| (*due, lease.job));
        Ok(leases.into_iter().map(|(_, lease)| lease).collect())
    }

    async fn extend(&self, lease: &Lease, until: Timestamp) -> Result<bool, StoreError> {
        self.finish("extend", lease, leased(statement::queue::EXTEND_LEASE, lease).bind(until)).await
    }

    async fn complete(&self, lease: &Lease) -> Result<bool, StoreError> {
        self.finish("complete", lease, leased(statement::queue::COMPLETE_JOB, lease)).await
    }

    async fn retry(&self, lease: &Lease, at: Timestamp, reason: &str) -> Result<bool, StoreError> {
        let query = leased(statement::queue::RETRY_JOB, lease).bind(at).bind(reason);
        let held = self.finish("retry", lease, query).await?;
        if held {
            self.changes.announce(Change::Queue);
            if self.database.dialect() == Dialect::Postgres {
                let message = self.changes.message(Change::Queue);
                self.database.fetch_one(Scope::All, message).await.map_err(failed("retry", "notify"))?;
            }
        }
        Ok(held)
    }

    async fn bury(&self, lease: &Lease, reason: &str) -> Result<bool, StoreError> {
        self.finish("bury", lease, leased(statement::queue::BURY_JOB, lease).bind(reason)).await
    }

    async fn stats(&self, now: Timestamp) -> Result<QueueStats, StoreError> {
        let counted = self.database.fetch_one(Scope::All, Query::new(statement::queue::COUNT_JOBS).bind(now)).await;
        let row = counted.map_err(failed("count jobs", "read"))?;
        let columns = Columns::new("count jobs", &row);
        Ok(QueueStats {
            ready: columns.number("ready")?,
            waiting: columns.number("waiting")?,
            leased: columns.number("leased")?,
            buried: columns.number("buried")?,
        })
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let found = self.database.fetch_optional(Scope::All, Query::new(statement::queue::NEXT_DUE)).await;
        let found = found.map_err(failed("find next job", "read"))?;
        found.map(|row| Columns::new("find next job", &row).time("due")).transpose()
    }

    fn version(&self) -> u64 {
        self.changes.queue.version()
    }

    async fn changed(&self, seen: u64) -> u64 {
        self.changes.queue.changed(seen).await
    }
}

impl Parts {
    /// Runs a statement that does something only if the lease was not lost.
    async fn finish(&self, operation: &'static str, lease: &Lease, query: Query) -> Result<bool, StoreError> {
        let done = self.database.execute(Scope::All, query).await.map_err(failed(operation, lease.job))?;
        Ok(done > 0)
    }
}

/// The statements that add jobs.
pub(super) fn insert_jobs<'a>(jobs: impl IntoIterator<Item = &'a NewJob>, now: Timestamp) -> Vec<Query> {
    let mut inserts = Rows::new(statement::queue::INSERT_JOBS, 7, "");
    for job in jobs {
        inserts
            .bind(job.id.as_bytes())
            .bind(job.tenant.as_bytes())
            .bind(job.kind.as_str())
            .bind(Json(job.payload.clone()))
            .bind(job.not_before)
            .bind(now)
            .bind("ready");
    }
    inserts.queries()
}

fn leased(statement: &'static str, lease: &Lease) -> Query {
    Query::new(statement).bind(lease.job.as_bytes()).bind(&lease.token[..])
}

/// A lease, and since when its job was due.
fn lease(columns: &Columns<'_>, until: Timestamp, token: [u8; 16]) -> Result<(Timestamp, Lease), StoreError> {
    let lease = Lease {
        job: JobId::from_bytes(columns.id("id")?),
        tenant: TenantId::from_bytes(columns.id("tenant_id")?),
        kind: columns.value("kind")?,
        payload: columns.json("payload")?,
        attempts: columns.number("attempts")?,
        created_at: columns.time("created_at")?,
        until,
        token,
    };
    Ok((columns.time("not_before")?, lease))
}
