//! Statements about hooks and what they did.

macro_rules! hook_columns {
    () => {
        "tenant_id, id, plugin_id, settings, enabled, disabled_because, generation, created_at, updated_at"
    };
}

pub(crate) const REVISION: &str = "SELECT revision FROM hook_revisions";

pub(crate) const COUNT_UP: &str = "\
    INSERT INTO hook_revisions (one, revision) VALUES (1, 1) \
    ON CONFLICT (one) DO UPDATE SET revision = hook_revisions.revision + 1";

/// Nothing is inserted if the tenant has $8 hooks already.
pub(crate) const INSERT: &str = concat!(
    "INSERT INTO hook_bindings \
        (tenant_id, id, plugin_id, settings, enabled, disabled_because, created_at, updated_at) \
    SELECT $1, $2, $3, $4, $5, $6, $7, $7 \
    WHERE (SELECT count(*) FROM hook_bindings b WHERE b.tenant_id = $1) < $8 \
    RETURNING ",
    hook_columns!()
);

/// Conditions are to be appended.
pub(crate) const SELECT: &str = concat!("SELECT ", hook_columns!(), " FROM hook_bindings WHERE tenant_id = $1 ");

pub(crate) const ENABLED: &str =
    concat!("SELECT ", hook_columns!(), " FROM hook_bindings WHERE enabled ORDER BY tenant_id, id");

/// NULL changes nothing; $4 says whether it is enabled, $5 why not; $7 is the generation that it must have.
pub(crate) const CHANGE: &str = concat!(
    "UPDATE hook_bindings SET settings = coalesce($3, settings), enabled = coalesce($4, enabled), \
        disabled_because = CASE WHEN $4 IS NULL THEN disabled_because ELSE $5 END, \
        generation = generation + 1, updated_at = $6 \
    WHERE tenant_id = $1 AND id = $2 AND ($7 IS NULL OR generation = $7) RETURNING ",
    hook_columns!()
);

/// $3 is the generation that it must have.
pub(crate) const DELETE: &str =
    "DELETE FROM hook_bindings WHERE tenant_id = $1 AND id = $2 AND ($3 IS NULL OR generation = $3)";

pub(crate) const RECORD: (&str, &str) = (
    "INSERT INTO hook_invocations (tenant_id, id, binding, hook_id, point, outcome, message_id, facts, at) \
    SELECT v.* FROM (VALUES ",
    ") AS v WHERE v.column1 IS NOT NULL \
    ON CONFLICT (tenant_id, id) DO UPDATE SET binding = excluded.binding, hook_id = excluded.hook_id, \
        point = excluded.point, outcome = excluded.outcome, message_id = excluded.message_id, \
        facts = excluded.facts, at = excluded.at",
);

/// Conditions are to be appended.
pub(crate) const SELECT_INVOCATIONS: &str = "\
    SELECT tenant_id, id, binding, hook_id, point, outcome, message_id, facts, at \
    FROM hook_invocations WHERE tenant_id = $1 ";

/// By the oldest call of each: they stand in the order of their times, or nearly.
pub(crate) const TENANTS_TO_FORGET: &str = "\
    SELECT t.id FROM tenants t WHERE \
        (SELECT i.at FROM hook_invocations i WHERE i.tenant_id = t.id ORDER BY i.id LIMIT 1) < $1 \
    ORDER BY t.id";

/// Those among the $3 oldest that are from before $2.
pub(crate) const FORGET: &str = "\
    DELETE FROM hook_invocations WHERE tenant_id = $1 AND at < $2 AND id IN \
        (SELECT i.id FROM hook_invocations i WHERE i.tenant_id = $1 ORDER BY i.id LIMIT $3)";

/// Each takes the place of the result of the hook that is 20 before it.
pub(crate) const RECORD_HEALTH: (&str, &str) = (
    "INSERT INTO hook_health (tenant_id, hook_id, place, number, at, status, details, since) \
    SELECT v.column1, v.column2, (coalesce(h.number, 0) + 1) % 20, coalesce(h.number, 0) + 1, v.column3, v.column4, \
        v.column5, CASE WHEN h.status = v.column4 THEN h.since ELSE v.column3 END \
    FROM (VALUES ",
    ") AS v \
    JOIN hook_bindings b ON b.tenant_id = v.column1 AND b.id = v.column2 \
    LEFT JOIN hook_health h ON h.tenant_id = v.column1 AND h.hook_id = v.column2 AND h.number = \
        (SELECT max(m.number) FROM hook_health m WHERE m.tenant_id = v.column1 AND m.hook_id = v.column2) \
    WHERE v.column1 IS NOT NULL \
    ON CONFLICT (tenant_id, hook_id, place) DO UPDATE SET number = excluded.number, at = excluded.at, \
        status = excluded.status, details = excluded.details, since = excluded.since",
);

/// $2 is a hook, or NULL for all.
pub(crate) const HEALTH: &str = "\
    SELECT hook_id, at, status, details, since FROM hook_health \
    WHERE tenant_id = $1 AND ($2 IS NULL OR hook_id = $2) ORDER BY hook_id, number DESC";

macro_rules! result_columns {
    () => {
        "tenant_id, job_id, hook_id, message_id, token_hash, attempt, accepted_at, result_by, latest, expires_at, result"
    };
}

/// What is known of the same job is replaced.
pub(crate) const AWAIT_RESULT: &str = concat!(
    "INSERT INTO hook_results (",
    result_columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
    ON CONFLICT (tenant_id, job_id) DO UPDATE SET hook_id = excluded.hook_id, message_id = excluded.message_id, \
        token_hash = excluded.token_hash, attempt = excluded.attempt, accepted_at = excluded.accepted_at, \
        result_by = excluded.result_by, latest = excluded.latest, expires_at = excluded.expires_at, \
        result = excluded.result"
);

pub(crate) const AWAITED: &str =
    concat!("SELECT ", result_columns!(), " FROM hook_results WHERE tenant_id = $1 AND job_id = $2");

pub(crate) const AWAITED_WITH: &str = concat!("SELECT ", result_columns!(), " FROM hook_results WHERE token_hash = $1");

/// $3 is the new moment.
pub(crate) const PUT_OFF: &str = "\
    UPDATE hook_results SET \
        result_by = CASE WHEN $3 > latest THEN latest WHEN $3 > result_by THEN $3 ELSE result_by END \
    WHERE tenant_id = $1 AND job_id = $2 AND result IS NULL";

pub(crate) const SETTLE: &str =
    "UPDATE hook_results SET result = $3 WHERE tenant_id = $1 AND job_id = $2 AND result IS NULL";

pub(crate) const FORGET_AWAITED: &str = "DELETE FROM hook_results WHERE tenant_id = $1 AND job_id = $2";

/// So many ($2) whose tokens are not good any more at $1.
pub(crate) const FORGET_EXPIRED: &str = "\
    DELETE FROM hook_results WHERE (tenant_id, job_id) IN \
        (SELECT r.tenant_id, r.job_id FROM hook_results r WHERE r.expires_at < $1 ORDER BY r.expires_at LIMIT $2)";
