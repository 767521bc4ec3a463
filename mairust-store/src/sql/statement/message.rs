//! Statements about messages, their recipients and attempts.

use crate::sql::driver::Dialect;

/// Takes the next place in a folder; no row if the tenant has no such folder.
pub(crate) const NEXT_UID: &str = "\
    UPDATE folders SET uidnext = uidnext + 1, modseq = modseq + 1 \
    WHERE tenant_id = $1 AND mailbox_id = $2 AND name = $3 \
    RETURNING id, uidnext - 1 AS uid, modseq";

pub(crate) const INSERT_MESSAGE: &str = "\
    INSERT INTO messages (tenant_id, id, mailbox_id, folder_id, uid, modseq, direction, status, sender, address, \
        object_key, size, sha256, subject, from_list, to_list, cc_list, date, received_at, internet_message_id, \
        refs, thread_id, attachments, from_text, to_text, subject_text, preview, dsn_ret, dsn_envid, auth_results, \
        spam_score, spam_verdict) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, \
        $23, $24, $25, $26, $27, $28, $29, $30, $31, $32)";

/// Counts the size of a message that came into a mailbox.
pub(crate) const ADD_TO_USE: &str = "UPDATE mailboxes SET used = used + $3 WHERE tenant_id = $1 AND id = $2";

/// Conditions are to be appended.
pub(crate) const SELECT_THREAD: &str =
    "SELECT thread_id FROM messages WHERE tenant_id = $1 AND mailbox_id = $2 AND internet_message_id IN (";

pub(crate) const INSERT_RECIPIENT: &str = "\
    INSERT INTO delivery_recipients (tenant_id, id, message_id, address, state, updated_at, dsn_notify, dsn_orcpt) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

/// Moves a recipient on; no row if it is settled or not there.
pub(crate) const MOVE_RECIPIENT: &str = "\
    UPDATE delivery_recipients \
    SET state = $3, attempts = attempts + 1, last_result = $4, updated_at = $5 \
    WHERE tenant_id = $1 AND id = $2 AND state IN ('deferred', 'pending') \
    RETURNING message_id";

pub(crate) const MESSAGE_OF_RECIPIENT: &str =
    "SELECT message_id FROM delivery_recipients WHERE tenant_id = $1 AND id = $2";

pub(crate) const INSERT_ATTEMPT: &str = "\
    INSERT INTO delivery_attempts (tenant_id, message_id, recipient_id, at, outcome, host, result) \
    VALUES ($1, $2, $3, $4, $5, $6, $7)";

pub(crate) const COUNT_RECIPIENTS: &str = "\
    SELECT count(*) FILTER (WHERE state IN ('deferred', 'pending')) AS unsettled, \
        count(*) FILTER (WHERE state = 'bounced') AS bounced \
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

pub(crate) const INSERT_TAG: &str =
    "INSERT INTO message_tags (tenant_id, message_id, tag) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";

macro_rules! select_messages {
    ($tags:literal) => {
        concat!(
            "SELECT m.tenant_id, m.id, m.mailbox_id, m.folder_id, m.uid, m.modseq, m.direction, m.status, m.sender, \
                m.address, m.object_key, m.size, m.sha256, m.subject, m.from_list, m.to_list, m.cc_list, m.date, \
                m.received_at, m.internet_message_id, m.thread_id, m.preview, m.attachments, m.flags, m.dsn_ret, \
                m.dsn_envid, m.auth_results, m.spam_score, m.spam_verdict, \
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

pub(crate) const OBJECT_OF_MESSAGE: &str = "SELECT object_key, sha256 FROM messages WHERE tenant_id = $1 AND id = $2";

pub(crate) const RECIPIENTS: &str = "\
    SELECT id, message_id, address, state, attempts, last_result, updated_at, dsn_notify, dsn_orcpt \
    FROM delivery_recipients \
    WHERE tenant_id = $1 AND message_id = $2 ORDER BY id";

pub(crate) const ATTEMPTS: &str = "\
    SELECT recipient_id, at, outcome, host, result FROM delivery_attempts \
    WHERE tenant_id = $1 AND message_id = $2 ORDER BY at, id";
