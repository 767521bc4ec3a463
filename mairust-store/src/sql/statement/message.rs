//! Statements about messages, their recipients and attempts.

use crate::sql::driver::Dialect;

/// Takes places in folders: rows of tenant, mailbox, name and how many.
pub(crate) const TAKE_PLACES: (&str, &str) = (
    "UPDATE folders SET uidnext = uidnext + v.column4, modseq = modseq + v.column4 FROM (VALUES ",
    ") AS v WHERE tenant_id = v.column1 AND mailbox_id = v.column2 AND name = v.column3",
);

/// PostgreSQL only: rows of tenant, mailbox and name.
pub(crate) const LOCK_FOLDERS: (&str, &str) = (
    "SELECT id FROM folders WHERE (tenant_id, mailbox_id, name) IN (",
    ") ORDER BY tenant_id, mailbox_id, name FOR UPDATE",
);

/// PostgreSQL only: rows of tenant, mailbox and nothing.
pub(crate) const LOCK_MAILBOXES: (&str, &str) =
    ("SELECT id FROM mailboxes WHERE (tenant_id, id, '') IN (", ") ORDER BY tenant_id, id FOR UPDATE");

/// Inserts messages at the places that were taken for them. After tenant, id, mailbox and the name of the
/// folder comes the number of places from the own one to the last. A folder that the tenant does not have
/// violates that `folder_id` is never NULL.
pub(crate) const INSERT_MESSAGES: (&str, &str) = (
    "INSERT INTO messages (tenant_id, id, mailbox_id, folder_id, uid, modseq, direction, status, sender, address, \
        object_key, size, sha256, subject, from_list, to_list, cc_list, date, received_at, internet_message_id, \
        refs, thread_id, attachments, from_text, to_text, subject_text, preview, dsn_ret, dsn_envid, auth_results, \
        spam_score, spam_verdict, fingerprint, arrival, tls, flags) \
    SELECT v.column1, v.column2, v.column3, f.id, f.uidnext - v.column5, f.modseq - v.column5 + 1, v.column6, \
        v.column7, v.column8, v.column9, v.column10, v.column11, v.column12, v.column13, v.column14, v.column15, \
        v.column16, v.column17, v.column18, v.column19, v.column20, v.column21, v.column22, v.column23, v.column24, \
        v.column25, v.column26, v.column27, v.column28, v.column29, v.column30, v.column31, v.column32, \
        v.column33, v.column34, v.column35 \
    FROM (VALUES ",
    ") AS v \
    LEFT JOIN folders f ON f.tenant_id = v.column1 AND f.mailbox_id = v.column3 AND f.name = v.column4 \
    WHERE v.column1 IS NOT NULL",
);

/// Counts the sizes of messages that came into mailboxes: rows of tenant, mailbox and size.
pub(crate) const ADD_TO_USE: (&str, &str) = (
    "UPDATE mailboxes SET used = used + v.column3 FROM (VALUES ",
    ") AS v WHERE tenant_id = v.column1 AND id = v.column2",
);

/// Conditions are to be appended.
pub(crate) const SELECT_THREAD: &str =
    "SELECT thread_id FROM messages WHERE tenant_id = $1 AND mailbox_id = $2 AND internet_message_id IN (";

pub(crate) const INSERT_RECIPIENTS: &str = "\
    INSERT INTO delivery_recipients (tenant_id, id, message_id, address, state, updated_at, dsn_notify, dsn_orcpt) \
   ";

/// Moves a recipient on; no row if it is settled or not there, or if $6 says that its sender is told of a delay
/// and that happened before.
pub(crate) const MOVE_RECIPIENT: &str = "\
    UPDATE delivery_recipients \
    SET state = $3, attempts = attempts + $7, last_result = $4, updated_at = $5, \
        delay_told_at = CASE WHEN $6 THEN $5 ELSE delay_told_at END \
    WHERE tenant_id = $1 AND id = $2 AND state IN ('deferred', 'in_doubt', 'pending') \
        AND (delay_told_at IS NULL OR NOT $6) \
    RETURNING message_id";

/// Moves a recipient on whose mail came back; no row if that can't be, or is known.
pub(crate) const MOVE_REPORTED: &str = "\
    UPDATE delivery_recipients SET state = 'bounced', last_result = $3, updated_at = $4 \
    WHERE tenant_id = $1 AND id = $2 AND state IN ('delivered', 'in_doubt') \
        AND NOT EXISTS (SELECT 1 FROM delivery_attempts a \
            WHERE a.tenant_id = $1 AND a.recipient_id = $2 AND a.outcome = 'begun') \
    RETURNING message_id";

pub(crate) const MESSAGE_OF_RECIPIENT: &str =
    "SELECT message_id, state FROM delivery_recipients WHERE tenant_id = $1 AND id = $2";

/// Recipients who wait.
pub(crate) const WAITING_RECIPIENTS: &str = "\
    SELECT id, address FROM delivery_recipients \
    WHERE tenant_id = $1 AND message_id = $2 AND state IN ('deferred', 'in_doubt', 'pending')";

/// Gives the attempt that was begun for a recipient its result.
pub(crate) const END_ATTEMPT: &str = "\
    UPDATE delivery_attempts SET at = $3, outcome = $4, host = $5, result = $6, notice_id = $7, facts = $8 \
    WHERE tenant_id = $1 AND recipient_id = $2 AND outcome = 'begun'";

pub(crate) const INSERT_ATTEMPT: &str = "\
    INSERT INTO delivery_attempts (tenant_id, message_id, recipient_id, at, outcome, host, result, notice_id, facts) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

pub(crate) const COUNT_RECIPIENTS: &str = "\
    SELECT count(*) FILTER (WHERE state IN ('deferred', 'in_doubt', 'pending')) AS unsettled, \
        count(*) FILTER (WHERE state = 'bounced') AS bounced, \
        count(*) FILTER (WHERE state = 'cancelled') AS cancelled \
    FROM delivery_recipients WHERE tenant_id = $1 AND message_id = $2";

/// Counts a change in the folder of a message; no row if the tenant has no such message.
pub(crate) const NEXT_MODSEQ: &str = "\
    UPDATE folders SET modseq = modseq + 1 \
    WHERE tenant_id = $1 AND id = (SELECT folder_id FROM messages WHERE tenant_id = $1 AND id = $2) \
    RETURNING modseq";

pub(crate) const SET_MODSEQ: &str = "UPDATE messages SET modseq = $3 WHERE tenant_id = $1 AND id = $2";

pub(crate) const SET_STATUS: &str = "UPDATE messages SET modseq = $3, status = $4 WHERE tenant_id = $1 AND id = $2";

pub(crate) const MESSAGE_EXISTS: &str =
    "SELECT EXISTS (SELECT 1 FROM messages WHERE tenant_id = $1 AND id = $2) AS found";

/// PostgreSQL only: the folder of a message and the one of this name, in the order in which all lock them.
pub(crate) const LOCK_BOTH_FOLDERS: &str = "\
    SELECT f.id FROM folders f JOIN messages m ON m.tenant_id = f.tenant_id AND m.mailbox_id = f.mailbox_id \
    WHERE m.tenant_id = $1 AND m.id = $2 AND (f.id = m.folder_id OR f.name = $3) ORDER BY f.name FOR UPDATE OF f";

/// Takes a place in the folder of this name in the mailbox of a message.
pub(crate) const TAKE_PLACE_ELSEWHERE: &str = "\
    UPDATE folders SET uidnext = uidnext + 1, modseq = modseq + 1 \
    WHERE tenant_id = $1 AND name = $3 \
        AND mailbox_id = (SELECT mailbox_id FROM messages WHERE tenant_id = $1 AND id = $2) \
    RETURNING id, uidnext - 1 AS uid, modseq";

pub(crate) const MOVE: &str =
    "UPDATE messages SET folder_id = $3, uid = $4, modseq = $5 WHERE tenant_id = $1 AND id = $2";

/// The state of a message that changes refer to.
pub(crate) const STATE: &str = "\
    SELECT m.flags, m.status, (SELECT f.name FROM folders f WHERE f.tenant_id = m.tenant_id AND f.id = m.folder_id) \
        AS folder \
    FROM messages m WHERE m.tenant_id = $1 AND m.id = $2";

pub(crate) const SET_FLAGS: &str = "UPDATE messages SET flags = $3 WHERE tenant_id = $1 AND id = $2";

pub(crate) const DELETE_TAG: &str = "DELETE FROM message_tags WHERE tenant_id = $1 AND message_id = $2 AND tag = $3";

pub(crate) const KEEP_METADATA: &str = "\
    INSERT INTO message_metadata (tenant_id, message_id, owner, key, value) VALUES ($1, $2, $3, $4, $5) \
    ON CONFLICT (tenant_id, message_id, owner, key) DO UPDATE SET value = excluded.value";

pub(crate) const FORGET_METADATA: &str =
    "DELETE FROM message_metadata WHERE tenant_id = $1 AND message_id = $2 AND owner = $3 AND key = $4";

pub(crate) const METADATA: &str = "\
    SELECT owner, key, value FROM message_metadata WHERE tenant_id = $1 AND message_id = $2 ORDER BY owner, key";

pub(crate) const INSERT_TAG: &str =
    "INSERT INTO message_tags (tenant_id, message_id, tag) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";

macro_rules! select_messages {
    ($tags:literal) => {
        concat!(
            "SELECT m.tenant_id, m.id, m.mailbox_id, m.folder_id, m.uid, m.modseq, m.direction, m.status, m.sender, \
                m.address, m.object_key, m.size, m.sha256, m.subject, m.from_list, m.to_list, m.cc_list, m.date, \
                m.received_at, m.internet_message_id, m.thread_id, m.preview, m.attachments, m.flags, m.dsn_ret, \
                m.dsn_envid, m.auth_results, m.spam_score, m.spam_verdict, m.arrival, m.tls, m.deleted_at, \
                m.legal_hold, \
                (SELECT f.name FROM folders f WHERE f.tenant_id = m.tenant_id AND f.id = m.folder_id) AS folder, \
                (SELECT ",
            $tags,
            " FROM message_tags t WHERE t.tenant_id = m.tenant_id AND t.message_id = m.id) AS tags \
            FROM messages m WHERE m.tenant_id = "
        )
    };
}
/// Messages with all that is shown of them. Conditions are to be appended.
pub(crate) fn select_messages(dialect: Dialect) -> &'static str {
    dialect.pick(select_messages!("json_group_array(t.tag)"), select_messages!("coalesce(json_agg(t.tag), '[]')"))
}

/// By tenant, for that is how messages are found by time.
pub(crate) const FINGERPRINTS: &str = "\
    SELECT m.fingerprint, m.id FROM tenants t JOIN messages m ON m.tenant_id = t.id AND m.received_at >= $1 \
    WHERE m.fingerprint IS NOT NULL ORDER BY m.received_at, m.id";

/// `data` is NULL for an object that is in the body store. Conditions are to be appended.
pub(crate) const OBJECT_OF_MESSAGE: &str = "\
    SELECT m.object_key, m.sha256, s.data FROM messages m \
    LEFT JOIN spooled_bodies s ON s.tenant_id = m.tenant_id AND s.object_key = m.object_key \
    WHERE m.tenant_id = $1 AND m.id = $2";

/// With those as `held` who wait for a delivery that is.
macro_rules! select_recipients {
    ($which:literal) => {
        concat!(
            "SELECT r.id, r.message_id, r.address, r.attempts, r.last_result, r.updated_at, r.dsn_notify, r.dsn_orcpt, \
                r.delay_told_at, \
                CASE WHEN r.state IN ('deferred', 'pending') AND EXISTS (SELECT 1 FROM jobs j \
                    WHERE j.tenant_id = r.tenant_id AND j.message_id = r.message_id AND j.state = 'held' \
                        AND substr(r.address, length(r.address) - length(j.destination)) = '@' || j.destination) \
                THEN 'held' ELSE r.state END AS state \
            FROM delivery_recipients r \
            WHERE r.tenant_id = $1 AND ",
            $which
        )
    };
}

pub(crate) const RECIPIENTS: &str = select_recipients!("r.message_id = $2 ORDER BY r.id");

pub(crate) const RECIPIENT: &str = select_recipients!("r.id = $2");

pub(crate) const ATTEMPTS: &str = "\
    SELECT recipient_id, at, outcome, host, result, notice_id, facts FROM delivery_attempts \
    WHERE tenant_id = $1 AND message_id = $2 ORDER BY at, id";
