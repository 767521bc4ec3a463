//! Statements about what becomes of messages: deleted, restored, held, archived, purged.

use crate::sql::driver::Dialect;

macro_rules! lock_tenant {
    ($lock:literal) => {
        concat!("SELECT legal_hold, deleted_messages_days FROM tenants WHERE id = $1", $lock)
    };
}

/// Has whoever purges, archives or holds messages of a tenant do so one after the other. References to the
/// tenant can be made all the while.
pub(crate) fn lock_tenant(dialect: Dialect) -> &'static str {
    dialect.pick(lock_tenant!(""), lock_tenant!(" FOR NO KEY UPDATE"))
}

pub(crate) const DELETE: &str = "\
    UPDATE messages SET deleted_at = $3, modseq = $4 WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL \
    RETURNING mailbox_id, size";

/// Takes a place in the folder of a deleted message.
pub(crate) const TAKE_PLACE: &str = "\
    UPDATE folders SET uidnext = uidnext + 1, modseq = modseq + 1 \
    WHERE tenant_id = $1 AND id = (SELECT folder_id FROM messages \
        WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NOT NULL) \
    RETURNING uidnext - 1 AS uid, modseq";

/// PostgreSQL only. No row if somebody else has locked the message.
pub(crate) const LOCK_MESSAGE: &str = "SELECT id FROM messages WHERE tenant_id = $1 AND id = $2 FOR UPDATE SKIP LOCKED";

pub(crate) const RESTORE: &str = "\
    UPDATE messages SET deleted_at = NULL, uid = $3, modseq = $4 \
    WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NOT NULL \
    RETURNING mailbox_id, size";

/// Adds to the use of a mailbox what may be negative.
pub(crate) const CHANGE_USE: &str = "\
    UPDATE mailboxes SET used = CASE WHEN used + $3 > 0 THEN used + $3 ELSE 0 END WHERE tenant_id = $1 AND id = $2";

pub(crate) const SET_LEGAL_HOLD: &str =
    "UPDATE messages SET legal_hold = $3 WHERE tenant_id = $1 AND id = $2 AND legal_hold <> $3";

macro_rules! in_use {
    () => {
        "(m.status = 'queued' OR EXISTS (SELECT 1 FROM jobs j \
            WHERE j.tenant_id = m.tenant_id AND j.message_id = m.id AND j.state <> 'buried'))"
    };
}

macro_rules! mailbox_on_hold {
    () => {
        "EXISTS (SELECT 1 FROM mailboxes b WHERE b.tenant_id = m.tenant_id AND b.id = m.mailbox_id AND b.legal_hold)"
    };
}

macro_rules! to_purge {
    ($lock:literal) => {
        concat!(
            "SELECT m.id, m.object_key, m.received_at, m.legal_hold OR ",
            mailbox_on_hold!(),
            " AS on_hold, ",
            in_use!(),
            " AS in_use FROM messages m WHERE m.tenant_id = $1 AND m.id = $2",
            $lock
        )
    };
}

/// One message, and what stands in the way; in PostgreSQL no row if somebody else has locked it.
pub(crate) fn to_purge(dialect: Dialect) -> &'static str {
    dialect.pick(to_purge!(""), to_purge!(" FOR UPDATE OF m SKIP LOCKED"))
}

macro_rules! due {
    ($lock:literal) => {
        concat!(
            "SELECT m.id, m.object_key, m.received_at FROM messages m \
            WHERE m.tenant_id = $1 AND m.deleted_at IS NOT NULL AND m.deleted_at <= $2 AND NOT m.legal_hold \
                AND NOT ",
            in_use!(),
            " AND NOT ",
            mailbox_on_hold!(),
            " ORDER BY m.deleted_at, m.id LIMIT $3",
            $lock
        )
    };
}

/// What was deleted at $2 or before and nothing holds: $3 at most.
pub(crate) fn due(dialect: Dialect) -> &'static str {
    dialect.pick(due!(""), due!(" FOR UPDATE OF m SKIP LOCKED"))
}

/// In this order; ids are to be appended.
pub(crate) const FORGET_MESSAGES: [&str; 6] = [
    "DELETE FROM delivery_attempts WHERE tenant_id = $1 AND message_id IN (",
    "DELETE FROM delivery_recipients WHERE tenant_id = $1 AND message_id IN (",
    "DELETE FROM message_tags WHERE tenant_id = $1 AND message_id IN (",
    "DELETE FROM message_metadata WHERE tenant_id = $1 AND message_id IN (",
    "DELETE FROM jobs WHERE tenant_id = $1 AND message_id IN (",
    "DELETE FROM messages WHERE tenant_id = $1 AND id IN (",
];

/// PostgreSQL only, also while search is switched off; ids are to be appended.
pub(crate) const FORGET_DOCUMENTS: &str = "DELETE FROM search_documents WHERE tenant_id = $1 AND message_id IN (";

/// All messages that share an object were received at the same moment, and by that they are found.
pub(crate) const IS_NAMED: &str = "\
    SELECT EXISTS (SELECT 1 FROM messages WHERE tenant_id = $1 AND received_at = $2 AND object_key = $3) AS found";

pub(crate) const MOVE_OBJECT: &str =
    "UPDATE messages SET object_key = $4 WHERE tenant_id = $1 AND received_at = $2 AND object_key = $3";

pub(crate) const FORGET_SPOOLED: &str = "DELETE FROM spooled_bodies WHERE tenant_id = $1 AND object_key = $2";

pub(crate) const INSERT_REMOVAL: &str = "\
    INSERT INTO object_removals (tenant_id, object_key, due_at, again) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (tenant_id, object_key) DO UPDATE \
    SET due_at = excluded.due_at, again = object_removals.again OR excluded.again";

/// Has an object removed unless a message is given it until then; nothing happens if that was begun.
pub(crate) const PLAN_REMOVAL: &str = "\
    INSERT INTO object_removals (tenant_id, object_key, due_at) VALUES ($1, $2, $3) \
    ON CONFLICT (tenant_id, object_key) DO UPDATE SET due_at = excluded.due_at WHERE NOT object_removals.begun";

pub(crate) const CANCEL_REMOVAL: &str =
    "DELETE FROM object_removals WHERE tenant_id = $1 AND object_key = $2 AND NOT begun";

macro_rules! begin_removals {
    ($lock:literal) => {
        concat!(
            "WITH due (object_key) AS MATERIALIZED ( \
                SELECT object_key FROM object_removals WHERE tenant_id = $1 AND due_at <= $2 \
                ORDER BY due_at LIMIT $4",
            $lock,
            ") UPDATE object_removals SET begun = true, due_at = $3 \
            WHERE tenant_id = $1 AND object_key IN (SELECT object_key FROM due) RETURNING object_key, again"
        )
    };
}

/// Takes removals that are due at $2 until $3: $4 at most.
pub(crate) fn begin_removals(dialect: Dialect) -> &'static str {
    dialect.pick(begin_removals!(""), begin_removals!(" FOR UPDATE SKIP LOCKED"))
}

pub(crate) const END_REMOVAL: &str = "DELETE FROM object_removals WHERE tenant_id = $1 AND object_key = $2";

pub(crate) const REPEAT_REMOVAL: &str =
    "UPDATE object_removals SET again = false, due_at = $3 WHERE tenant_id = $1 AND object_key = $2";

/// Each tenant with the message that was deleted first and the removal that is due first.
pub(crate) const TENANTS_TO_CLEAN: &str = "\
    SELECT id, legal_hold, deleted_messages_days, deleted_at, due_at FROM ( \
        SELECT t.id, t.legal_hold, t.deleted_messages_days, \
            (SELECT min(m.deleted_at) FROM messages m \
                WHERE m.tenant_id = t.id AND m.deleted_at IS NOT NULL AND NOT m.legal_hold) AS deleted_at, \
            (SELECT min(r.due_at) FROM object_removals r WHERE r.tenant_id = t.id) AS due_at \
        FROM tenants t) found \
    WHERE deleted_at IS NOT NULL OR due_at IS NOT NULL ORDER BY id";
