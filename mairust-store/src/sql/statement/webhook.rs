//! Statements about webhooks and their deliveries.

macro_rules! webhook_columns {
    () => {
        "tenant_id, id, url, description, kinds, enabled, disabled_because, position, created_at, updated_at"
    };
}

/// Nothing is inserted if the tenant has $7 webhooks already.
pub(crate) const INSERT: &str = concat!(
    "INSERT INTO webhooks (tenant_id, id, url, description, kinds, position, created_at, updated_at) \
    SELECT $1, $2, $3, $4, $5, coalesce((SELECT h.position FROM event_heads h WHERE h.tenant_id = $1), 0), $6, $6 \
    WHERE (SELECT count(*) FROM webhooks w WHERE w.tenant_id = $1) < $7 \
    RETURNING ",
    webhook_columns!()
);

/// Conditions are to be appended.
pub(crate) const SELECT: &str = concat!("SELECT ", webhook_columns!(), " FROM webhooks WHERE tenant_id = $1 ");

/// NULL changes nothing; $6 says whether it is enabled, $7 why not.
pub(crate) const CHANGE: &str = concat!(
    "UPDATE webhooks SET url = coalesce($3, url), description = coalesce($4, description), \
        kinds = coalesce($5, kinds), \
        position = CASE WHEN $6 AND NOT enabled \
            THEN coalesce((SELECT h.position FROM event_heads h WHERE h.tenant_id = $1), 0) ELSE position END, \
        enabled = coalesce($6, enabled), \
        disabled_because = CASE WHEN $6 IS NULL THEN disabled_because ELSE $7 END, updated_at = $8 \
    WHERE tenant_id = $1 AND id = $2 RETURNING ",
    webhook_columns!()
);

/// What is removed with a webhook comes first.
pub(crate) const DELETE: [&str; 2] = [
    "DELETE FROM webhook_deliveries WHERE tenant_id = $1 AND webhook_id = $2",
    "DELETE FROM webhooks WHERE tenant_id = $1 AND id = $2",
];

pub(crate) const BEHIND: &str = "\
    SELECT w.tenant_id, w.id, w.url, w.description, w.kinds, w.enabled, w.disabled_because, w.position, w.created_at, \
        w.updated_at \
    FROM webhooks w JOIN event_heads h ON h.tenant_id = w.tenant_id \
    WHERE w.enabled AND w.position < h.position ORDER BY w.tenant_id, w.id LIMIT $1";

pub(crate) const ADVANCE: &str =
    "UPDATE webhooks SET position = $4 WHERE tenant_id = $1 AND id = $2 AND position = $3 AND enabled";

pub(crate) const INSERT_DELIVERIES: &str = "\
    INSERT INTO webhook_deliveries (tenant_id, id, webhook_id, event_id, position, kind, state, attempts, \
        next_attempt_at, created_at, updated_at)";

/// Conditions are to be appended.
pub(crate) const SELECT_DELIVERIES: &str = "\
    SELECT tenant_id, id, webhook_id, event_id, position, kind, state, tries, attempts, next_attempt_at, created_at, \
        updated_at \
    FROM webhook_deliveries WHERE tenant_id = $1 ";

pub(crate) const RECORD: &str = "\
    UPDATE webhook_deliveries SET state = $3, tries = $4, attempts = $5, next_attempt_at = $6, updated_at = $7 \
    WHERE tenant_id = $1 AND id = $2 AND state = 'pending'";

pub(crate) const REPLAY: &str = "\
    UPDATE webhook_deliveries SET state = 'pending', tries = 0, next_attempt_at = $3, updated_at = $3 \
    WHERE tenant_id = $1 AND id = $2 AND state <> 'pending'";
