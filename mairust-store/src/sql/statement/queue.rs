//! Statements about jobs.

use crate::sql::driver::Dialect;

pub(crate) const INSERT_JOBS: &str = "\
    INSERT INTO jobs (id, tenant_id, kind, payload, state, destination, priority, message_id, not_before, rank, \
        created_at)";

// Materialized: PostgreSQL would else look for rows again when it finds the first ones locked, and
// change more of them than it may.
macro_rules! wake_jobs {
    ($lock:literal) => {
        concat!(
            "WITH due (id) AS MATERIALIZED ( \
                SELECT id FROM jobs WHERE state IN ('leased', 'waiting') AND coalesce(lease_until, not_before) <= $1 \
                ORDER BY coalesce(lease_until, not_before), id LIMIT $2",
            $lock,
            ") UPDATE jobs SET state = 'ready', lease_until = NULL WHERE id IN (SELECT id FROM due)"
        )
    };
}

/// Makes ready what has become due; so many jobs at most.
pub(crate) fn wake_jobs(dialect: Dialect) -> &'static str {
    dialect.pick(wake_jobs!(""), wake_jobs!(" FOR UPDATE SKIP LOCKED"))
}

/// The tenants behind $1 that have a job to be taken, in the order of the ring; each step is one
/// look into an index, whatever lies between.
pub(crate) const NEXT_TENANTS: &str = "\
    WITH RECURSIVE ring (number, tenant_id) AS ( \
        SELECT 1, (SELECT j.tenant_id FROM jobs j WHERE j.state = 'ready' AND j.tenant_id > $1 AND j.not_before <= $2 \
            ORDER BY j.tenant_id LIMIT 1) \
        UNION ALL \
        SELECT r.number + 1, (SELECT j.tenant_id FROM jobs j \
            WHERE j.state = 'ready' AND j.tenant_id > r.tenant_id AND j.not_before <= $2 \
            ORDER BY j.tenant_id LIMIT 1) \
        FROM ring r WHERE r.tenant_id IS NOT NULL AND r.number < $3) \
    SELECT tenant_id FROM ring WHERE tenant_id IS NOT NULL ORDER BY number";

/// Begins what [`next_destinations`] ends. Rows of place, tenant, destination served last and number of turns
/// are to be appended.
pub(crate) const SHARES: &str = "WITH RECURSIVE shares (place, tenant_id, destination, turns) AS (VALUES ";

macro_rules! next_destinations {
    ($collation:literal) => {
        concat!(
            "), ring (round, place, tenant_id, destination, turns) AS ( \
                SELECT 0, place, tenant_id, destination",
            $collation,
            ", turns FROM shares \
                UNION ALL \
                SELECT r.round + 1, r.place, r.tenant_id, coalesce( \
                    (SELECT j.destination FROM jobs j WHERE j.state = 'ready' AND j.tenant_id = r.tenant_id \
                        AND j.destination > r.destination AND j.not_before <= $1 ORDER BY j.destination LIMIT 1), \
                    (SELECT j.destination FROM jobs j WHERE j.state = 'ready' AND j.tenant_id = r.tenant_id \
                        AND j.not_before <= $1 ORDER BY j.destination LIMIT 1)), r.turns \
                FROM ring r WHERE r.round < r.turns AND r.destination IS NOT NULL) \
            SELECT tenant_id, destination FROM ring WHERE round > 0 AND destination IS NOT NULL ORDER BY round, place"
        )
    };
}

/// Goes on behind the rows: for each tenant so many steps in the ring of its destinations. $1 is the
/// time.
pub(crate) fn next_destinations(dialect: Dialect) -> &'static str {
    // The collation of the column, which SQLite has anyway.
    dialect.pick(next_destinations!(""), next_destinations!(" COLLATE \"C\""))
}

/// Begins the statement that takes jobs; $1 is the end of the leases, $2 their nonce. One
/// subquery for each tenant and destination is to be appended.
pub(crate) const TAKE_JOBS: &str = "WITH turns (id) AS MATERIALIZED (";

/// The end of the statement that takes jobs.
pub(crate) const TAKEN: &str = ") \
    UPDATE jobs SET state = 'leased', attempts = attempts + 1, lease_until = $1, lease_token = $2 \
    WHERE id IN (SELECT id FROM turns) \
    RETURNING id, tenant_id, kind, payload, destination, priority, attempts, rank, created_at";

/// The end of the subquery for one tenant and destination: how it is kept from waiting for others.
pub(crate) fn without_waiting(dialect: Dialect) -> &'static str {
    dialect.pick("", " FOR UPDATE SKIP LOCKED")
}

pub(crate) const EXTEND_LEASE: &str = "\
    UPDATE jobs SET state = 'leased', lease_until = $4 WHERE id = $1 AND attempts = $2 AND lease_token = $3";

pub(crate) const COMPLETE_JOB: &str = "DELETE FROM jobs WHERE id = $1 AND attempts = $2 AND lease_token = $3";

pub(crate) const RETRY_JOB: &str = "\
    UPDATE jobs SET state = 'waiting', lease_until = NULL, lease_token = NULL, not_before = $4, rank = $5, \
        last_error = $6 \
    WHERE id = $1 AND attempts = $2 AND lease_token = $3";

pub(crate) const BURY_JOB: &str = "\
    UPDATE jobs SET state = 'buried', lease_until = NULL, lease_token = NULL, last_error = $4 \
    WHERE id = $1 AND attempts = $2 AND lease_token = $3";

/// Counts to a bound ($3), for so many kinds ($2).
pub(crate) const COUNT_JOBS: &str = "\
    WITH RECURSIVE kinds (number, kind) AS ( \
        SELECT 1, (SELECT j.kind FROM jobs j ORDER BY j.kind LIMIT 1) \
        UNION ALL \
        SELECT k.number + 1, (SELECT j.kind FROM jobs j WHERE j.kind > k.kind ORDER BY j.kind LIMIT 1) \
        FROM kinds k WHERE k.kind IS NOT NULL AND k.number < $2) \
    SELECT kind, \
        (SELECT count(*) FROM (SELECT 1 FROM jobs j WHERE j.kind = k.kind \
            AND j.state IN ('leased', 'ready', 'waiting') AND coalesce(j.lease_until, j.not_before) <= $1 \
            LIMIT $3) counted) AS ready, \
        (SELECT count(*) FROM (SELECT 1 FROM jobs j WHERE j.kind = k.kind \
            AND j.state IN ('ready', 'waiting') AND coalesce(j.lease_until, j.not_before) > $1 \
            LIMIT $3) counted) AS waiting, \
        (SELECT count(*) FROM (SELECT 1 FROM jobs j WHERE j.kind = k.kind \
            AND j.state = 'leased' AND coalesce(j.lease_until, j.not_before) > $1 LIMIT $3) counted) AS leased, \
        (SELECT count(*) FROM (SELECT 1 FROM jobs j WHERE j.kind = k.kind AND j.state = 'buried' LIMIT $3) counted) \
            AS buried, \
        (SELECT min(s.due) FROM ( \
            SELECT * FROM (SELECT coalesce(j.lease_until, j.not_before) AS due FROM jobs j \
                WHERE j.kind = k.kind AND j.state = 'leased' ORDER BY coalesce(j.lease_until, j.not_before) LIMIT 1) l \
            UNION ALL \
            SELECT * FROM (SELECT coalesce(j.lease_until, j.not_before) FROM jobs j \
                WHERE j.kind = k.kind AND j.state = 'ready' ORDER BY coalesce(j.lease_until, j.not_before) LIMIT 1) r \
            UNION ALL \
            SELECT * FROM (SELECT coalesce(j.lease_until, j.not_before) FROM jobs j \
                WHERE j.kind = k.kind AND j.state = 'waiting' ORDER BY coalesce(j.lease_until, j.not_before) LIMIT 1) w \
            ) s WHERE s.due <= $1) AS oldest_due \
    FROM kinds k WHERE kind IS NOT NULL";

/// Of the jobs that wait or are leased by the index that is in this order, of those that are ready
/// by that of each kind.
pub(crate) const NEXT_DUE: &str = "\
    WITH RECURSIVE kinds (kind) AS ( \
        SELECT (SELECT j.kind FROM jobs j ORDER BY j.kind LIMIT 1) \
        UNION ALL \
        SELECT (SELECT j.kind FROM jobs j WHERE j.kind > k.kind ORDER BY j.kind LIMIT 1) \
        FROM kinds k WHERE k.kind IS NOT NULL) \
    SELECT min(d.due) AS due FROM ( \
        SELECT (SELECT coalesce(j.lease_until, j.not_before) FROM jobs j WHERE j.kind = k.kind AND j.state = 'ready' \
            ORDER BY coalesce(j.lease_until, j.not_before) LIMIT 1) AS due \
        FROM kinds k WHERE k.kind IS NOT NULL \
        UNION ALL \
        SELECT * FROM (SELECT coalesce(j.lease_until, j.not_before) FROM jobs j WHERE j.state IN ('leased', 'waiting') \
            ORDER BY coalesce(j.lease_until, j.not_before) LIMIT 1) a) d";
