//! Statements about the audit log.

use crate::sql::driver::Dialect;

/// Begins a chain, unless it was begun; only if $7, or there is such a tenant.
pub(crate) const BEGIN_CHAIN: &str = "\
    INSERT INTO audit_heads (tenant_id, dropped, dropped_hash, sequence, hash, signature) \
    SELECT $1, $2, $3, $4, $5, $6 WHERE $7 OR EXISTS (SELECT 1 FROM tenants WHERE id = $1) \
    ON CONFLICT (tenant_id) DO NOTHING";

macro_rules! head {
    ($lock:literal) => {
        concat!("SELECT dropped, dropped_hash, sequence, hash, signature FROM audit_heads WHERE tenant_id = $1", $lock)
    };
}

pub(crate) const HEAD: &str = head!("");

/// Whoever else wants to write to the chain waits.
pub(crate) fn lock_head(dialect: Dialect) -> &'static str {
    dialect.pick(head!(""), head!(" FOR UPDATE"))
}

pub(crate) const MOVE_HEAD: &str = "\
    UPDATE audit_heads SET dropped = $2, dropped_hash = $3, sequence = $4, hash = $5, signature = $6 \
    WHERE tenant_id = $1";

pub(crate) const OWNERS: &str = "SELECT tenant_id FROM audit_heads ORDER BY tenant_id";

pub(crate) const LAST_ENTRY: &str =
    "SELECT sequence, hash FROM audit_entries WHERE tenant_id = $1 ORDER BY sequence DESC LIMIT 1";

pub(crate) const FIRST_ENTRIES: &str =
    "SELECT sequence, at, hash FROM audit_entries WHERE tenant_id = $1 ORDER BY sequence LIMIT $2";

pub(crate) const INSERT_ENTRY: &str = "\
    INSERT INTO audit_entries (tenant_id, sequence, id, at, event_type, actor_kind, actor_id, actor_ip, target_kind, \
        target_id, before, after, request_id, hash) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";

/// Conditions are to be appended.
pub(crate) const SELECT_ENTRIES: &str = "\
    SELECT tenant_id, sequence, id, at, event_type, actor_kind, actor_id, actor_ip, target_kind, target_id, before, \
        after, request_id, hash \
    FROM audit_entries WHERE tenant_id = ";

pub(crate) const DELETE_ENTRIES: &str = "DELETE FROM audit_entries WHERE tenant_id = $1 AND sequence <= $2";
