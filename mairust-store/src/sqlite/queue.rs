//! The queue, in SQLite.

use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{JobId, TenantId, Timestamp};
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite, SqliteConnection};

use super::Parts;
use super::row::{Columns, failed};
use crate::error::StoreError;
use crate::queue::{Lease, NewJob, QueueBackend, QueueStats};
use crate::sql;

type Query = sqlx::query::Query<'static, Sqlite, SqliteArguments>;

#[async_trait]
impl QueueBackend for Parts {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<(), StoreError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed("enqueue", "begin"))?;
        insert_jobs("enqueue", &mut transaction, &jobs, self.clock.now()).await?;
        transaction.commit().await.map_err(failed("enqueue", "commit"))?;
        self.queue_changed.bump();
        Ok(())
    }

    async fn lease(&self, now: Timestamp, max: u32, ttl: Duration) -> Result<Vec<Lease>, StoreError> {
        let (token, until): ([u8; 16], _) = (rand::random(), now.plus(ttl));
        let rows = sqlx::query(sql::queue::LEASE_JOBS)
            .bind(now.as_micros())
            .bind(i64::from(max))
            .bind(until.as_micros())
            .bind(token.to_vec())
            .fetch_all(&self.writer)
            .await
            .map_err(failed("lease", "take jobs"))?;
        let mut leases = Vec::with_capacity(rows.len());
        for row in &rows {
            leases.push(lease(&Columns::new("lease", row), until, token)?);
        }
        // RETURNING promises no order.
        leases.sort_unstable_by_key(|(due, lease)| (*due, lease.job));
        Ok(leases.into_iter().map(|(_, lease)| lease).collect())
    }

    async fn extend(&self, lease: &Lease, until: Timestamp) -> Result<bool, StoreError> {
        self.finish("extend", lease, leased(sql::queue::EXTEND_LEASE, lease).bind(until.as_micros())).await
    }

    async fn complete(&self, lease: &Lease) -> Result<bool, StoreError> {
        self.finish("complete", lease, leased(sql::queue::COMPLETE_JOB, lease)).await
    }

    async fn retry(&self, lease: &Lease, at: Timestamp, reason: &str) -> Result<bool, StoreError> {
        let query = leased(sql::queue::RETRY_JOB, lease).bind(at.as_micros()).bind(reason.to_owned());
        let held = self.finish("retry", lease, query).await?;
        if held {
            self.queue_changed.bump();
        }
        Ok(held)
    }

    async fn bury(&self, lease: &Lease, reason: &str) -> Result<bool, StoreError> {
        self.finish("bury", lease, leased(sql::queue::BURY_JOB, lease).bind(reason.to_owned())).await
    }

    async fn stats(&self, now: Timestamp) -> Result<QueueStats, StoreError> {
        let counted = sqlx::query(sql::queue::COUNT_JOBS).bind(now.as_micros()).fetch_one(&self.reader).await;
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
        let due: Result<Option<i64>, _> = sqlx::query_scalar(sql::queue::NEXT_DUE).fetch_optional(&self.reader).await;
        Ok(due.map_err(failed("find next job", "read"))?.map(Timestamp::from_micros))
    }

    fn version(&self) -> u64 {
        self.queue_changed.version()
    }

    async fn changed(&self, seen: u64) -> u64 {
        self.queue_changed.changed(seen).await
    }
}

impl Parts {
    /// Runs a statement that does something only if the lease was not lost.
    async fn finish(&self, operation: &'static str, lease: &Lease, query: Query) -> Result<bool, StoreError> {
        let done = query.execute(&self.writer).await.map_err(failed(operation, lease.job))?;
        Ok(done.rows_affected() > 0)
    }
}

/// Adds jobs within a transaction.
pub(super) async fn insert_jobs(
    operation: &'static str,
    connection: &mut SqliteConnection,
    jobs: &[NewJob],
    now: Timestamp,
) -> Result<(), StoreError> {
    for job in jobs {
        sqlx::query(sql::queue::INSERT_JOB)
            .bind(&job.id.as_bytes()[..])
            .bind(&job.tenant.as_bytes()[..])
            .bind(job.kind.as_str())
            .bind(job.payload.to_string())
            .bind(job.not_before.as_micros())
            .bind(now.as_micros())
            .execute(&mut *connection)
            .await
            .map_err(failed(operation, job.id))?;
    }
    Ok(())
}

fn leased(statement: &'static str, lease: &Lease) -> Query {
    sqlx::query(statement).bind(lease.job.as_bytes().to_vec()).bind(lease.token.to_vec())
}

/// A lease, and since when its job was due.
fn lease(columns: &Columns<'_>, until: Timestamp, token: [u8; 16]) -> Result<(Timestamp, Lease), StoreError> {
    let lease = Lease {
        job: JobId::from_bytes(columns.bytes("id")?),
        tenant: TenantId::from_bytes(columns.bytes("tenant_id")?),
        kind: columns.value("kind")?,
        payload: columns.parsed("payload", |text| serde_json::from_str(text).ok())?,
        attempts: columns.number("attempts")?,
        created_at: columns.time("created_at")?,
        until,
        token,
    };
    Ok((columns.time("not_before")?, lease))
}
