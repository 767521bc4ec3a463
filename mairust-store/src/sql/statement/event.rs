//! Statements about events.

/// Takes positions: rows of tenant and how many. A tenant whose positions are taken has nobody else's taken until
/// the transaction ends.
pub(crate) const TAKE_POSITIONS: (&str, &str) = (
    "INSERT INTO event_heads (tenant_id, position) SELECT v.* FROM (VALUES ",
    ") AS v WHERE v.column1 IS NOT NULL \
    ON CONFLICT (tenant_id) DO UPDATE SET position = event_heads.position + excluded.position",
);

/// Inserts events at the positions that were taken for them. After the tenant comes the number of positions from
/// the own one to the last.
pub(crate) const INSERT_EVENTS: (&str, &str) = (
    "INSERT INTO events (tenant_id, position, id, kind, occurred_at, data) \
    SELECT v.column1, h.position - v.column2 + 1, v.column3, v.column4, v.column5, v.column6 FROM (VALUES ",
    ") AS v JOIN event_heads h ON h.tenant_id = v.column1",
);

/// Conditions are to be appended.
pub(crate) const SELECT_EVENTS: &str =
    "SELECT position, id, kind, occurred_at, data FROM events WHERE tenant_id = $1 AND position ";

pub(crate) const SPAN: &str = "SELECT dropped, position FROM event_heads WHERE tenant_id = $1";

/// By the oldest event and delivery of each: these stand in the order of their times, or nearly.
pub(crate) const TENANTS_TO_PURGE: &str = "\
    SELECT h.tenant_id FROM event_heads h WHERE \
        (SELECT e.occurred_at FROM events e WHERE e.tenant_id = h.tenant_id ORDER BY e.position LIMIT 1) < $1 \
        OR (SELECT d.updated_at FROM webhook_deliveries d \
            WHERE d.tenant_id = h.tenant_id AND d.state <> 'pending' ORDER BY d.id LIMIT 1) < $1 \
    ORDER BY h.tenant_id";

/// Those among the $3 oldest that are from before $2.
pub(crate) const PURGE_EVENTS: &str = "\
    DELETE FROM events WHERE tenant_id = $1 AND occurred_at < $2 AND position IN \
        (SELECT e.position FROM events e WHERE e.tenant_id = $1 ORDER BY e.position LIMIT $3) \
    RETURNING position";

pub(crate) const SET_DROPPED: &str = "UPDATE event_heads SET dropped = $2 WHERE tenant_id = $1 AND dropped < $2";

/// Those among the $3 oldest that have ended and were last changed before $2.
pub(crate) const PURGE_DELIVERIES: &str = "\
    DELETE FROM webhook_deliveries WHERE tenant_id = $1 AND updated_at < $2 AND state <> 'pending' AND id IN \
        (SELECT d.id FROM webhook_deliveries d WHERE d.tenant_id = $1 AND d.state <> 'pending' ORDER BY d.id LIMIT $3)";
