//! Statements about jobs.

use crate::sql::driver::Dialect;

pub(crate) const INSERT_JOBS: &str = "\
    INSERT INTO jobs (id, tenant_id, kind, payload, state, destination, priority, message_id, not_before, rank, \
        created_at, held_because)";

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
    RETURNING id, tenant_id, kind, payload, destination, priority, attempts, rank, created_at, give_up, route";

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

pub(crate) const PARK_JOB: &str = "\
    UPDATE jobs SET state = 'held', held_because = $4, lease_until = NULL, lease_token = NULL, last_error = $5 \
    WHERE id = $1 AND attempts = $2 AND lease_token = $3";

/// Conditions are to be appended.
pub(crate) const SELECT_ITEMS: &str = "\
    SELECT id, tenant_id, message_id, destination, state, held_because, lease_until, priority, attempts, not_before, \
        created_at, last_error, give_up, route \
    FROM jobs WHERE tenant_id = $1 AND message_id IS NOT NULL AND destination <> ''";

/// The order of items.
pub(crate) const IN_ORDER: &str = " ORDER BY message_id, id LIMIT ";

// What operators do begins in one of these ways; $1 is the tenant, $2 the time. Guards and ids are to be appended.

pub(crate) const HOLD_JOBS: &str = "\
    UPDATE jobs SET state = 'held', held_because = $3, lease_until = NULL, lease_token = NULL WHERE tenant_id = $1";

macro_rules! due_now {
    ($set:literal) => {
        concat!(
            "UPDATE jobs SET ",
            $set,
            "lease_until = NULL, lease_token = NULL, rank = rank + ($2 - not_before), not_before = $2 WHERE tenant_id = $1"
        )
    };
}

pub(crate) const RELEASE_JOBS: &str = due_now!("state = 'ready', held_because = NULL, ");

/// $3 is a job of the tenant that waits for the result of a hook, if it is there.
pub(crate) const WAKE_SETTLED: &str = concat!(
    due_now!("state = 'ready', "),
    " AND id = $3 AND state = 'waiting' AND EXISTS \
        (SELECT 1 FROM hook_results r WHERE r.tenant_id = $1 AND r.job_id = $3 AND r.result IS NOT NULL)"
);

pub(crate) const GIVE_UP_JOBS: &str = due_now!("state = 'ready', held_because = NULL, give_up = TRUE, ");

pub(crate) const REROUTE_JOBS: &str =
    due_now!("state = CASE state WHEN 'held' THEN 'held' ELSE 'ready' END, route = $3, ");

pub(crate) const CANCEL_JOBS: &str = "DELETE FROM jobs WHERE tenant_id = $1";

/// A guard: nobody is doing it at $2.
pub(crate) const NOT_BUSY: &str = " AND (lease_until IS NULL OR lease_until <= $2)";

/// A guard: it is held.
pub(crate) const IS_HELD: &str = " AND state = 'held'";

/// A guard: it is not held.
pub(crate) const IS_NOT_HELD: &str = " AND state <> 'held'";

/// A guard: it was given up.
pub(crate) const IS_BURIED: &str = " AND state = 'buried'";

/// A guard: it was not given up.
pub(crate) const IS_NOT_BURIED: &str = " AND state <> 'buried'";

/// Of the items of a tenant ($1), at $2; so many destinations ($3).
pub(crate) const COUNT_DESTINATIONS: &str = "\
    SELECT destination, count(*) AS items, \
        count(*) FILTER (WHERE state IN ('leased', 'ready', 'waiting') AND coalesce(lease_until, not_before) <= $2) \
            AS ready, \
        count(*) FILTER (WHERE state IN ('ready', 'waiting') AND not_before > $2) AS waiting, \
        count(*) FILTER (WHERE state = 'leased' AND lease_until > $2) AS leased, \
        count(*) FILTER (WHERE state = 'held') AS held, \
        count(*) FILTER (WHERE state = 'buried') AS buried, \
        min(created_at) AS oldest, \
        min(not_before) FILTER (WHERE state IN ('ready', 'waiting')) AS next_attempt \
    FROM jobs WHERE tenant_id = $1 AND message_id IS NOT NULL AND destination <> '' \
    GROUP BY destination ORDER BY items DESC, destination LIMIT $3";

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
        (SELECT count(*) FROM (SELECT 1 FROM jobs j WHERE j.kind = k.kind AND j.state = 'held' LIMIT $3) counted) \
            AS held, \
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
