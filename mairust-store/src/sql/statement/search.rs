//! Statements about search: the outbox in both databases, and the index of each.

use crate::sql::driver::Dialect;

/// Rows are to be appended.
pub(crate) const INSERT_NOTES: &str = "INSERT INTO search_pending (tenant_id, message_id)";

macro_rules! claim_notes {
    ($lock:literal) => {
        concat!(
            "UPDATE search_pending SET claimed_until = $3 \
            WHERE number IN ( \
                SELECT number FROM search_pending WHERE claimed_until IS NULL OR claimed_until <= $1 \
                ORDER BY number LIMIT $2",
            $lock,
            ") RETURNING number, tenant_id, message_id"
        )
    };
}

pub(crate) fn claim_notes(dialect: Dialect) -> &'static str {
    dialect.pick(claim_notes!(""), claim_notes!(" FOR UPDATE SKIP LOCKED"))
}

/// Rows of number, tenant and message: SQLite may give the number of a note that is gone to another one.
pub(crate) const DELETE_NOTES: &str = "DELETE FROM search_pending WHERE number IN (SELECT p.number FROM (VALUES ";
pub(crate) const DELETE_NOTES_TAIL: &str = "\
    ) AS v JOIN search_pending p ON p.number = v.column1 AND p.tenant_id = v.column2 AND p.message_id = v.column3)";

pub(crate) const COUNT_NOTES: &str = "SELECT count(*) AS pending FROM search_pending";

/// No row if nothing is known.
pub(crate) const STATE: &str = "SELECT tenant_id, message_id FROM search_state";

pub(crate) const SET_STATE: &str = "\
    INSERT INTO search_state (id, tenant_id, message_id) VALUES (1, $1, $2) \
    ON CONFLICT (id) DO UPDATE SET tenant_id = excluded.tenant_id, message_id = excluded.message_id";

pub(crate) const FORGET_STATE: &str = "DELETE FROM search_state";

pub(crate) const HAS_MESSAGES: &str = "SELECT EXISTS (SELECT 1 FROM messages) AS found";

pub(crate) const NOTE_FURTHER_MESSAGES: &str = "\
    INSERT INTO search_pending (tenant_id, message_id) \
    SELECT tenant_id, id FROM messages WHERE (tenant_id, id) > ($1, $2) AND deleted_at IS NULL ORDER BY tenant_id, id LIMIT $3 \
    RETURNING tenant_id, message_id";

/// The index of SQLite, in its own file. Numbers of documents grow with their times of receipt, so that
/// the newest are found first without sorting. The texts themselves are not kept.
pub(crate) const CREATE_FTS: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS documents ( \
        id INTEGER PRIMARY KEY, \
        tenant_id BLOB NOT NULL, \
        message_id BLOB NOT NULL, \
        UNIQUE (tenant_id, message_id) \
    ) STRICT",
    "CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 ( \
        subject, sender, recipients, cc, body, file_names, facts, \
        content = '', contentless_delete = 1, tokenize = 'ascii' \
    )",
];

pub(crate) const FTS_DOCUMENT: &str = "SELECT id FROM documents WHERE tenant_id = $1 AND message_id = $2";

/// The numbers that messages have: rows of tenant and message.
pub(crate) const FTS_DOCUMENTS: (&str, &str) = (
    "SELECT d.id, d.tenant_id, d.message_id FROM (VALUES ",
    ") AS v JOIN documents d ON d.tenant_id = v.column1 AND d.message_id = v.column2",
);

/// For rows of two numbers: the first number, from the one on and below the other, behind which there is none.
pub(crate) const FTS_NEXT_IDS: (&str, &str) = (
    "SELECT v.column1 AS first, coalesce(max(d.id) + 1, v.column1) AS next FROM (VALUES ",
    ") AS v LEFT JOIN documents d ON d.id >= v.column1 AND d.id < v.column2 \
    WHERE v.column1 IS NOT NULL GROUP BY v.column1",
);

pub(crate) const FTS_INSERT_DOCUMENTS: &str = "INSERT INTO documents (id, tenant_id, message_id)";

pub(crate) const FTS_DELETE_DOCUMENT: &str = "DELETE FROM documents WHERE id = $1";

pub(crate) const FTS_INSERT_WORDS: &str =
    "INSERT INTO words (rowid, subject, sender, recipients, cc, body, file_names, facts)";

pub(crate) const FTS_DELETE_WORDS: &str = "DELETE FROM words WHERE rowid = $1";

pub(crate) const FTS_CLEAR: [&str; 2] = ["DELETE FROM documents", "INSERT INTO words (words) VALUES ('delete-all')"];

/// Conditions are to be appended; the first is what [`FTS_MATCH`] takes.
pub(crate) const FTS_SEARCH: &str = "\
    SELECT m.id, m.received_at FROM words \
    CROSS JOIN documents d ON d.id = words.rowid \
    CROSS JOIN messages m ON m.tenant_id = d.tenant_id AND m.id = d.message_id \
    WHERE m.deleted_at IS NULL AND words MATCH ";

/// A condition of words beside others, as far as it can't be made part of [`FTS_SEARCH`]. The plus sign
/// keeps SQLite from looking for these numbers first, for then FTS5 would not be asked what matches.
pub(crate) const FTS_MATCH: &str = "+words.rowid IN (SELECT rowid FROM words WHERE words MATCH ";

/// The index of PostgreSQL.
pub(crate) const UPSERT_DOCUMENTS: (&str, &str) = (
    "INSERT INTO search_documents (tenant_id, message_id, received_at, words, lexemes) \
    SELECT v.column1, v.column2, v.column3, v.column4, array_to_tsvector(string_to_array(v.column5, ' ')) \
    FROM (VALUES ",
    ") AS v WHERE v.column1 IS NOT NULL ON CONFLICT (tenant_id, message_id) DO UPDATE \
    SET received_at = excluded.received_at, words = excluded.words, lexemes = excluded.lexemes",
);

pub(crate) const DELETE_DOCUMENT: &str = "DELETE FROM search_documents WHERE tenant_id = $1 AND message_id = $2";

pub(crate) const CLEAR_DOCUMENTS: &str = "DELETE FROM search_documents";

/// Conditions are to be appended.
pub(crate) const SEARCH_DOCUMENTS: &str = "\
    SELECT m.id, m.received_at FROM search_documents d \
    JOIN messages m ON m.tenant_id = d.tenant_id AND m.id = d.message_id \
    WHERE m.deleted_at IS NULL AND d.tenant_id = ";
