//! Statements about bodies that wait in the database for their place in the body store.

pub(crate) const INSERT: &str = "INSERT INTO spooled_bodies (tenant_id, object_key, spooled_at, data)";

/// The next ones in the order in which they came; at least one, then as many as have $2 bytes together.
pub(crate) const NEXT: &str = "\
    SELECT s.seq, s.object_key, s.data FROM ( \
        SELECT seq, sum(size) OVER (ORDER BY seq) - size AS before \
        FROM (SELECT seq, length(data) AS size FROM spooled_bodies WHERE seq > $1 ORDER BY seq LIMIT $3) AS waiting \
    ) AS sized JOIN spooled_bodies s ON s.seq = sized.seq WHERE sized.before < $2 ORDER BY s.seq";

/// A list of keys is to be appended.
pub(crate) const BODIES: &str = "SELECT object_key, data FROM spooled_bodies WHERE object_key IN (";

/// A list of numbers is to be appended.
pub(crate) const DELETE: &str = "DELETE FROM spooled_bodies WHERE seq IN (";

pub(crate) const COUNT: &str = "\
    SELECT count(*) AS bodies, CAST(coalesce(sum(length(data)), 0) AS BIGINT) AS bytes, min(spooled_at) AS oldest \
    FROM spooled_bodies";
