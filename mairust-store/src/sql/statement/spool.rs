//! Statements about bodies that wait in the database for their place in the body store.

pub(crate) const INSERT: &str = "INSERT INTO spooled_bodies (tenant_id, object_key, spooled_at, data)";

/// The next ones in the order in which they came; at least one, then as many as have $2 bytes together.
pub(crate) const NEXT: &str = "\
    SELECT seq, object_key, data FROM ( \
        SELECT seq, object_key, data, sum(length(data)) OVER (ORDER BY seq) - length(data) AS before \
        FROM (SELECT seq, object_key, data FROM spooled_bodies WHERE seq > $1 ORDER BY seq LIMIT $3) AS waiting \
    ) AS sized WHERE before < $2 ORDER BY seq";

/// A list of numbers is to be appended.
pub(crate) const DELETE: &str = "DELETE FROM spooled_bodies WHERE seq IN (";

pub(crate) const COUNT: &str = "\
    SELECT count(*) AS bodies, CAST(coalesce(sum(length(data)), 0) AS BIGINT) AS bytes, min(spooled_at) AS oldest \
    FROM spooled_bodies";
