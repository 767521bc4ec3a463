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
