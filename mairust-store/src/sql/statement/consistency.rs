//! Statements that look whether rows and bodies fit together.

use crate::sql::driver::Dialect;

// Messages that point to one object came in at the same moment, and so stand together in an index.
macro_rules! first_messages {
    ($columns:literal, $join:literal) => {
        concat!(
            "SELECT m.tenant_id, m.id, m.received_at, m.object_key, m.size, m.sha256",
            $columns,
            " FROM messages m ",
            $join,
            "WHERE (m.tenant_id, m.id) > ($1, $2) AND NOT EXISTS (SELECT 1 FROM messages o \
                WHERE o.tenant_id = m.tenant_id AND o.received_at = m.received_at AND o.id < m.id \
                    AND o.object_key = m.object_key) \
            ORDER BY m.tenant_id, m.id LIMIT $3"
        )
    };
}

/// Bodies behind the message $2 of tenant $1, so many ($3), each with the first message that points to it.
/// `data` is NULL for an object that is in the body store.
pub(crate) const BODIES: &str = first_messages!(
    ", s.data",
    "LEFT JOIN spooled_bodies s ON s.tenant_id = m.tenant_id AND s.object_key = m.object_key "
);

/// The same without the bodies that wait.
pub(crate) const OBJECTS: &str = first_messages!("", "");

pub(crate) const COUNT_MESSAGES: &str = "SELECT count(*) AS count FROM messages";

/// Messages of tenant $1 that came in at $2 and point to the object $3.
pub(crate) const MESSAGES_OF_OBJECT: &str =
    "SELECT id FROM messages WHERE tenant_id = $1 AND received_at = $2 AND object_key = $3 ORDER BY id";

/// Of tenant $1. Ids are to be appended.
pub(crate) const OBJECTS_OF_MESSAGES: &str = "SELECT object_key FROM messages WHERE tenant_id = $1 AND id IN (";

/// Looks at all messages of tenant $1. Keys are to be appended.
pub(crate) const KNOWN_OBJECTS: &str =
    "SELECT DISTINCT object_key FROM messages WHERE tenant_id = $1 AND object_key IN (";

/// When the last message of tenant $1 came in.
pub(crate) const NEWEST: &str = "SELECT max(received_at) AS newest FROM messages WHERE tenant_id = $1";

/// Objects of tenant $1 that are to be removed. Keys are to be appended.
pub(crate) const OBJECTS_TO_REMOVE: &str =
    "SELECT object_key FROM object_removals WHERE tenant_id = $1 AND object_key IN (";

/// Bodies behind $1 that waited already at $2, so many ($3).
pub(crate) const SPOOLED: &str =
    "SELECT seq, object_key FROM spooled_bodies WHERE seq > $1 AND spooled_at < $2 ORDER BY seq LIMIT $3";

/// Frees the database of the body with the number $1, if no message points to it.
pub(crate) const REMOVE_SPOOLED: &str = "\
    DELETE FROM spooled_bodies WHERE seq = $1 AND NOT EXISTS (SELECT 1 FROM messages m \
        WHERE m.tenant_id = spooled_bodies.tenant_id AND m.object_key = spooled_bodies.object_key)";

macro_rules! use_of_mailbox {
    ($mailbox:literal) => {
        concat!(
            "(SELECT CAST(coalesce(sum(m.size), 0) AS BIGINT) FROM messages m WHERE m.tenant_id = ",
            $mailbox,
            ".tenant_id AND m.mailbox_id = ",
            $mailbox,
            ".id AND m.deleted_at IS NULL)"
        )
    };
}

/// Mailboxes behind $1 and $2, so many ($3): what is said that they hold, and what they do hold.
pub(crate) const MAILBOX_USE: &str = concat!(
    "SELECT b.tenant_id, b.id, b.name, b.used, ",
    use_of_mailbox!("b"),
    " AS held FROM mailboxes b WHERE (b.tenant_id, b.id) > ($1, $2) ORDER BY b.tenant_id, b.id LIMIT $3"
);

/// Of mailbox $2 of tenant $1.
pub(crate) const CORRECT_USE: &str =
    concat!("UPDATE mailboxes SET used = ", use_of_mailbox!("mailboxes"), " WHERE tenant_id = $1 AND id = $2");

/// Folders behind $1 and $2, so many ($3): from what they count, and the highest numbers that they have.
pub(crate) const FOLDER_COUNTERS: &str = "\
    SELECT f.tenant_id, f.id, f.name, f.mailbox_id, f.uidnext, f.modseq, \
        (SELECT coalesce(max(m.uid), 0) FROM messages m WHERE m.tenant_id = f.tenant_id AND m.folder_id = f.id) AS uid, \
        (SELECT coalesce(max(m.modseq), 0) FROM messages m \
            WHERE m.tenant_id = f.tenant_id AND m.folder_id = f.id) AS reached \
    FROM folders f WHERE (f.tenant_id, f.id) > ($1, $2) ORDER BY f.tenant_id, f.id LIMIT $3";

macro_rules! correct_folder {
    ($greatest:literal) => {
        concat!(
            "UPDATE folders SET uidnext = ",
            $greatest,
            "(uidnext, (SELECT coalesce(max(m.uid), 0) + 1 FROM messages m \
                WHERE m.tenant_id = folders.tenant_id AND m.folder_id = folders.id)), modseq = ",
            $greatest,
            "(modseq, (SELECT coalesce(max(m.modseq), 0) FROM messages m \
                WHERE m.tenant_id = folders.tenant_id AND m.folder_id = folders.id)) \
            WHERE tenant_id = $1 AND id = $2"
        )
    };
}

/// Of folder $2 of tenant $1. Counters are never set back: whoever saw a number does not see it again.
pub(crate) fn correct_folder(dialect: Dialect) -> &'static str {
    dialect.pick(correct_folder!("max"), correct_folder!("greatest"))
}

/// The place is that of the tenant, twice.
pub(crate) const EVENT_POSITIONS: &str = "\
    SELECT t.id AS tenant_id, t.id, coalesce(h.position, 0) AS position, \
        (SELECT coalesce(max(e.position), 0) FROM events e WHERE e.tenant_id = t.id) AS reached \
    FROM tenants t LEFT JOIN event_heads h ON h.tenant_id = t.id \
    WHERE (t.id, t.id) > ($1, $2) ORDER BY t.id LIMIT $3";

macro_rules! correct_positions {
    ($greatest:literal) => {
        concat!(
            "INSERT INTO event_heads (tenant_id, position) \
            SELECT t.id, coalesce(max(e.position), 0) \
            FROM tenants t LEFT JOIN events e ON e.tenant_id = t.id WHERE t.id = $1 AND t.id = $2 GROUP BY t.id \
            ON CONFLICT (tenant_id) DO UPDATE SET position = ",
            $greatest,
            "(event_heads.position, excluded.position)"
        )
    };
}

/// Of the tenant $1, which is $2, too. As above, it is never set back.
pub(crate) fn correct_positions(dialect: Dialect) -> &'static str {
    dialect.pick(correct_positions!("max"), correct_positions!("greatest"))
}

/// PostgreSQL only.
pub(crate) const LOCK_POSITIONS: &str =
    "SELECT tenant_id FROM event_heads WHERE tenant_id = $1 AND tenant_id = $2 FOR UPDATE";

/// PostgreSQL only: keeps others from changing it until the end of the transaction.
pub(crate) const LOCK_MAILBOX: &str = "SELECT id FROM mailboxes WHERE tenant_id = $1 AND id = $2 FOR UPDATE";
/// PostgreSQL only.
pub(crate) const LOCK_FOLDER: &str = "SELECT id FROM folders WHERE tenant_id = $1 AND id = $2 FOR UPDATE";

/// Makes the job $2 of tenant $1 ready again, if its lease ended before $3.
pub(crate) const END_LEASE: &str = "\
    UPDATE jobs SET state = 'ready', lease_until = NULL \
    WHERE tenant_id = $1 AND id = $2 AND state = 'leased' AND lease_until < $3";

/// SQLite only: one row that says `ok`, or what is damaged.
pub(crate) const INTEGRITY: &str = "PRAGMA integrity_check(100)";
/// SQLite only: rows that refer to others that are not there.
pub(crate) const REFERENCES: &str =
    "SELECT \"table\" AS name, rowid AS number, parent FROM pragma_foreign_key_check LIMIT 1000";
