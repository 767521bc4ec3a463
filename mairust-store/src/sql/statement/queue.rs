//! Statements about jobs.

use crate::sql::driver::Dialect;

/// Every job is `ready` at first.
pub(crate) const INSERT_JOBS: &str =
    "INSERT INTO jobs (id, tenant_id, kind, payload, not_before, created_at, state) VALUES ";

macro_rules! lease_jobs {
    ($lock:literal) => {
        concat!(
            "UPDATE jobs SET state = 'leased', attempts = attempts + 1, lease_until = $3, lease_token = $4, \
                not_before = coalesce(lease_until, not_before) \
            WHERE id IN ( \
                SELECT id FROM jobs WHERE state <> 'buried' AND coalesce(lease_until, not_before) <= $1 \
                ORDER BY coalesce(lease_until, not_before), id LIMIT $2",
            $lock,
            ") RETURNING id, tenant_id, kind, payload, attempts, not_before, created_at"
        )
    };
}

/// `not_before` becomes the time since when the job was due, so that the answer can be sorted.
pub(crate) fn lease_jobs(dialect: Dialect) -> &'static str {
    dialect.pick(lease_jobs!(""), lease_jobs!(" FOR UPDATE SKIP LOCKED"))
}

pub(crate) const EXTEND_LEASE: &str =
    "UPDATE jobs SET lease_until = $3 WHERE id = $1 AND lease_token = $2 AND state = 'leased'";

pub(crate) const COMPLETE_JOB: &str = "DELETE FROM jobs WHERE id = $1 AND lease_token = $2 AND state = 'leased'";

pub(crate) const RETRY_JOB: &str = "\
    UPDATE jobs SET state = 'ready', lease_until = NULL, lease_token = NULL, not_before = $3, last_error = $4 \
    WHERE id = $1 AND lease_token = $2 AND state = 'leased'";

pub(crate) const BURY_JOB: &str = "\
    UPDATE jobs SET state = 'buried', lease_until = NULL, lease_token = NULL, last_error = $3 \
    WHERE id = $1 AND lease_token = $2 AND state = 'leased'";

pub(crate) const COUNT_JOBS: &str = "\
    SELECT count(*) FILTER (WHERE state <> 'buried' AND coalesce(lease_until, not_before) <= $1) AS ready, \
        count(*) FILTER (WHERE state = 'ready' AND not_before > $1) AS waiting, \
        count(*) FILTER (WHERE state = 'leased' AND lease_until > $1) AS leased, \
        count(*) FILTER (WHERE state = 'buried') AS buried \
    FROM jobs";

pub(crate) const NEXT_DUE: &str = "\
    SELECT coalesce(lease_until, not_before) AS due FROM jobs WHERE state <> 'buried' \
    ORDER BY coalesce(lease_until, not_before) LIMIT 1";
