//! Statements that look at rows, in the order of their keys, and say which of them break a rule.

macro_rules! jobs {
    ($breaks:literal) => {
        concat!(
            "SELECT j.tenant_id, j.id AS position, j.id AS job_id, j.message_id, CAST(NULL AS uuid) AS recipient_id, (",
            $breaks,
            ") AS broken FROM jobs j WHERE j.id > $1 ORDER BY j.id LIMIT $2"
        )
    };
}

macro_rules! recipients {
    ($breaks:literal) => {
        concat!(
            "SELECT r.tenant_id, r.id AS position, CAST(NULL AS uuid) AS job_id, r.message_id, r.id AS recipient_id, (",
            $breaks,
            ") AS broken FROM delivery_recipients r \
            WHERE r.state IN ('deferred', 'in_doubt', 'pending') AND (r.tenant_id, r.id) > ($1, $2) \
            ORDER BY r.tenant_id, r.id LIMIT $3"
        )
    };
}

/// Behind $1, so many ($2), made before $3.
pub(crate) const JOB_AGE: &str = jobs!("j.state NOT IN ('buried', 'held') AND j.created_at < $3");

/// Behind $1, so many ($2), due since before $3.
pub(crate) const JOB_PURPOSE: &str = jobs!(
    "j.state IN ('ready', 'waiting') AND j.not_before < $3 AND j.message_id IS NOT NULL AND ( \
        NOT EXISTS (SELECT 1 FROM messages m WHERE m.tenant_id = j.tenant_id AND m.id = j.message_id) \
        OR j.destination <> '' AND NOT EXISTS (SELECT 1 FROM delivery_recipients r \
            WHERE r.tenant_id = j.tenant_id AND r.message_id = j.message_id AND r.state IN ('deferred', 'in_doubt', 'pending') \
            AND substr(r.address, length(r.address) - length(j.destination)) = '@' || j.destination))"
);

/// Behind $1, so many ($2), with a lease that ended before $3.
pub(crate) const LEASE_OWNER: &str = jobs!("j.state = 'leased' AND j.lease_until < $3");

/// Behind $1 and $2, so many ($3).
pub(crate) const MESSAGE_STATUS: &str = "\
    SELECT m.tenant_id, m.id AS position, CAST(NULL AS uuid) AS job_id, m.id AS message_id, CAST(NULL AS uuid) AS recipient_id, \
        NOT EXISTS (SELECT 1 FROM delivery_recipients r WHERE r.tenant_id = m.tenant_id AND r.message_id = m.id \
            AND r.state IN ('deferred', 'in_doubt', 'pending')) AS broken \
    FROM messages m WHERE m.status = 'queued' AND (m.tenant_id, m.id) > ($1, $2) \
    ORDER BY m.tenant_id, m.id LIMIT $3";

/// Behind $1 and $2, so many ($3).
pub(crate) const RECIPIENT_JOB: &str = recipients!(
    "NOT EXISTS (SELECT 1 FROM jobs j WHERE j.tenant_id = r.tenant_id AND j.message_id = r.message_id \
        AND j.state <> 'buried' AND j.destination <> '' \
        AND substr(r.address, length(r.address) - length(j.destination)) = '@' || j.destination)"
);

/// Behind $1 and $2, so many ($3).
pub(crate) const RECIPIENT_MESSAGE: &str = recipients!(
    "NOT EXISTS (SELECT 1 FROM messages m WHERE m.tenant_id = r.tenant_id AND m.id = r.message_id \
        AND m.status = 'queued')"
);
