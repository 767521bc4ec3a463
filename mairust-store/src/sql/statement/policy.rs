//! Statements about allowances and suppressions.

/// Buckets to be read and locked, with what they are if they are not there: head and tail of rows.
pub(crate) const LOCK_ALLOWANCES: (&str, &str) = (
    "INSERT INTO allowances (tenant_id, scope, per_ms, full_at) SELECT v.* FROM (VALUES ",
    ") AS v WHERE v.column1 IS NOT NULL \
     ON CONFLICT (tenant_id, scope, per_ms) DO UPDATE SET full_at = allowances.full_at \
     RETURNING scope, per_ms, full_at",
);

/// Buckets that are locked: head and tail of rows.
pub(crate) const SET_ALLOWANCES: (&str, &str) = (
    LOCK_ALLOWANCES.0,
    ") AS v WHERE v.column1 IS NOT NULL \
     ON CONFLICT (tenant_id, scope, per_ms) DO UPDATE SET full_at = excluded.full_at",
);

/// The outer condition is asked again about a row that somebody else has just changed.
pub(crate) const FORGET_FULL_ALLOWANCES: &str = "\
    DELETE FROM allowances WHERE full_at <= $1 AND (tenant_id, scope, per_ms) IN \
        (SELECT f.tenant_id, f.scope, f.per_ms FROM allowances f WHERE f.full_at <= $1 LIMIT $2)";

/// Nothing is inserted if there is one that holds.
pub(crate) const INSERT_SUPPRESSION: &str = "\
    INSERT INTO suppressions (tenant_id, id, address, lookup_key, reason, detail, created_at, expires_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
    ON CONFLICT (tenant_id, lookup_key) DO UPDATE \
    SET id = excluded.id, address = excluded.address, reason = excluded.reason, detail = excluded.detail, \
        created_at = excluded.created_at, expires_at = excluded.expires_at \
    WHERE suppressions.expires_at <= excluded.created_at";

/// Conditions are to be appended.
pub(crate) const SELECT_SUPPRESSIONS: &str =
    "SELECT id, address, reason, detail, created_at, expires_at FROM suppressions WHERE tenant_id = $1";

pub(crate) const DELETE_SUPPRESSION: &str = "DELETE FROM suppressions WHERE tenant_id = $1 AND id = $2";

pub(crate) const FORGET_EXPIRED_SUPPRESSIONS: &str = "\
    DELETE FROM suppressions WHERE expires_at <= $1 AND (tenant_id, id) IN \
        (SELECT e.tenant_id, e.id FROM suppressions e WHERE e.expires_at <= $1 LIMIT $2)";
