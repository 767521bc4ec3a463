//! Which tables a backup holds, and what is in their columns: the one list of them.
//!
//! A test compares it with the tables of both databases, so that nothing new is forgotten.

/// What a column holds, in either database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Bytes,
    Id,
    Int,
    Json,
    Real,
    Text,
    Time,
}

/// A table of which a backup has all rows.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// The columns of its primary key, by which it is read in order.
    pub(crate) key: &'static [&'static str],
    pub(crate) columns: &'static [(&'static str, Kind)],
    /// A column whose value the database gives, ascending; nothing refers to it.
    pub(crate) numbered: Option<&'static str>,
}

/// Tables that are no part of a backup: bodies are there as objects, but for those that are to be removed;
/// what searches ask is made again.
#[cfg(test)]
pub(crate) const LEFT_OUT: &[&str] =
    &["object_removals", "search_documents", "search_pending", "search_state", "spooled_bodies"];

/// Each one behind those that it refers to; users and addresses refer to one another.
pub(crate) const TABLES: &[Table] = &[
    table(
        "tenants",
        &["id"],
        &[
            ("id", Kind::Id),
            ("name", Kind::Text),
            ("any_sender", Kind::Bool),
            ("created_at", Kind::Time),
            ("enabled", Kind::Bool),
            ("legal_hold", Kind::Bool),
            ("deleted_messages_days", Kind::Int),
        ],
    ),
    table(
        "domains",
        &["tenant_id", "id"],
        &[
            ("tenant_id", Kind::Id),
            ("id", Kind::Id),
            ("name", Kind::Text),
            ("created_at", Kind::Time),
            ("enabled", Kind::Bool),
            ("catch_all", Kind::Text),
        ],
    ),
    table(
        "domain_aliases",
        &["tenant_id", "domain_id"],
        &[("tenant_id", Kind::Id), ("domain_id", Kind::Id), ("target_id", Kind::Id)],
    ),
    table(
        "dkim_keys",
        &["tenant_id", "id"],
        &[
            ("tenant_id", Kind::Id),
            ("id", Kind::Id),
            ("domain_id", Kind::Id),
            ("selector", Kind::Text),
            ("algorithm", Kind::Text),
            ("public_key", Kind::Bytes),
            ("state", Kind::Text),
            ("created_at", Kind::Time),
            ("activated_at", Kind::Time),
            ("retired_at", Kind::Time),
        ],
    ),
    table(
        "mailboxes",
        &["tenant_id", "id"],
        &[
            ("tenant_id", Kind::Id),
            ("id", Kind::Id),
            ("name", Kind::Text),
            ("created_at", Kind::Time),
            ("quota", Kind::Int),
            ("used", Kind::Int),
            ("legal_hold", Kind::Bool),
        ],
    ),
    table("forwards", &["tenant_id"], &[("tenant_id", Kind::Id), ("mailbox_id", Kind::Id)]),
    table(
        "users",
        &["tenant_id", "id"],
        &[
            ("tenant_id", Kind::Id),
            ("id", Kind::Id),
            ("login", Kind::Text),
            ("password_hash", Kind::Text),
            ("address_id", Kind::Id),
            ("created_at", Kind::Time),
            ("enabled", Kind::Bool),
            ("scram", Kind::Text),
            ("sending_suspended_at", Kind::Time),
            ("sending_suspended_because", Kind::Text),
            ("sending_suspended_until", Kind::Time),
        ],
    ),
    table(
        "addresses",
        &["tenant_id", "id"],
        &[
            ("tenant_id", Kind::Id),
            ("id", Kind::Id),
            ("domain_id", Kind::Id),
            ("lookup_key", Kind::Text),
            ("address", Kind::Text),
            ("mailbox_id", Kind::Id),
            ("user_id", Kind::Id),
        ],
    ),
    table(
        "aliases",
        &["tenant_id", "id"],
        &[
            ("tenant_id", Kind::Id),
            ("id", Kind::Id),
            ("domain_id", Kind::Id),
            ("lookup_key", Kind::Text),
            ("address", Kind::Text),
            ("targets", Kind::Json),
            ("enabled", Kind::Bool),
            ("created_at", Kind::Time),
        ],
    ),
    table(
        "sender_rules",
        &["tenant_id", "pattern"],
        &[("tenant_id", Kind::Id), ("pattern", Kind::Text), ("action", Kind::Text), ("created_at", Kind::Time)],
    ),
    table(
        "suppressions",
        &["tenant_id", "id"],
        &[
            ("tenant_id", Kind::Id),
            ("id", Kind::Id),
            ("address", Kind::Text),
            ("lookup_key", Kind::Text),
            ("reason", Kind::Text),
            ("detail", Kind::Text),
            ("created_at", Kind::Time),
            ("expires_at", Kind::Time),
        ],
    ),
    table(
        "allowances",
        &["tenant_id", "scope", "per_ms"],
        &[("tenant_id", Kind::Id), ("scope", Kind::Text), ("per_ms", Kind::Int), ("full_at", Kind::Time)],
    ),
    table(
        "folders",
        &["tenant_id", "id"],
        &[
            ("tenant_id", Kind::Id),
            ("id", Kind::Id),
            ("mailbox_id", Kind::Id),
            ("name", Kind::Text),
            ("uidvalidity", Kind::Int),
            ("uidnext", Kind::Int),
            ("modseq", Kind::Int),
        ],
    ),
    table(
        "messages",
        &["tenant_id", "id"],
        &[
            ("tenant_id", Kind::Id),
            ("id", Kind::Id),
            ("mailbox_id", Kind::Id),
            ("folder_id", Kind::Id),
            ("uid", Kind::Int),
            ("modseq", Kind::Int),
            ("direction", Kind::Text),
            ("status", Kind::Text),
            ("sender", Kind::Text),
            ("address", Kind::Text),
            ("object_key", Kind::Text),
            ("size", Kind::Int),
            ("sha256", Kind::Bytes),
            ("subject", Kind::Text),
            ("from_list", Kind::Json),
            ("to_list", Kind::Json),
            ("cc_list", Kind::Json),
            ("date", Kind::Time),
            ("received_at", Kind::Time),
            ("internet_message_id", Kind::Text),
            ("refs", Kind::Json),
            ("thread_id", Kind::Id),
            ("attachments", Kind::Int),
            ("flags", Kind::Json),
            ("from_text", Kind::Text),
            ("to_text", Kind::Text),
            ("subject_text", Kind::Text),
            ("preview", Kind::Text),
            ("dsn_ret", Kind::Text),
            ("dsn_envid", Kind::Text),
            ("auth_results", Kind::Text),
            ("spam_score", Kind::Real),
            ("spam_verdict", Kind::Text),
            ("fingerprint", Kind::Bytes),
            ("deleted_at", Kind::Time),
            ("legal_hold", Kind::Bool),
            ("arrival", Kind::Text),
            ("tls", Kind::Text),
        ],
    ),
    table(
        "message_tags",
        &["tenant_id", "message_id", "tag"],
        &[("tenant_id", Kind::Id), ("message_id", Kind::Id), ("tag", Kind::Text)],
    ),
    table(
        "message_metadata",
        &["tenant_id", "message_id", "owner", "key"],
        &[
            ("tenant_id", Kind::Id),
            ("message_id", Kind::Id),
            ("owner", Kind::Text),
            ("key", Kind::Text),
            ("value", Kind::Json),
        ],
    ),
    table(
        "delivery_recipients",
        &["tenant_id", "id"],
        &[
            ("tenant_id", Kind::Id),
            ("id", Kind::Id),
            ("message_id", Kind::Id),
            ("address", Kind::Text),
            ("state", Kind::Text),
            ("attempts", Kind::Int),
            ("last_result", Kind::Text),
            ("updated_at", Kind::Time),
            ("dsn_notify", Kind::Text),
            ("dsn_orcpt", Kind::Text),
            ("delay_told_at", Kind::Time),
        ],
    ),
    Table {
        numbered: Some("id"),
        ..table(
            "delivery_attempts",
            &["id"],
            &[
                ("id", Kind::Int),
                ("tenant_id", Kind::Id),
                ("message_id", Kind::Id),
                ("recipient_id", Kind::Id),
                ("at", Kind::Time),
                ("outcome", Kind::Text),
                ("host", Kind::Text),
                ("result", Kind::Text),
                ("notice_id", Kind::Id),
                ("facts", Kind::Text),
            ],
        )
    },
    table(
        "jobs",
        &["id"],
        &[
            ("id", Kind::Id),
            ("tenant_id", Kind::Id),
            ("kind", Kind::Text),
            ("payload", Kind::Json),
            ("state", Kind::Text),
            ("destination", Kind::Text),
            ("priority", Kind::Text),
            ("message_id", Kind::Id),
            ("attempts", Kind::Int),
            ("not_before", Kind::Time),
            ("rank", Kind::Time),
            ("lease_until", Kind::Time),
            ("lease_token", Kind::Bytes),
            ("last_error", Kind::Text),
            ("created_at", Kind::Time),
            ("held_because", Kind::Text),
            ("give_up", Kind::Bool),
            ("route", Kind::Text),
        ],
    ),
    table("event_heads", &["tenant_id"], &[("tenant_id", Kind::Id), ("position", Kind::Int), ("dropped", Kind::Int)]),
    table(
        "events",
        &["tenant_id", "position"],
        &[
            ("tenant_id", Kind::Id),
            ("position", Kind::Int),
            ("id", Kind::Id),
            ("kind", Kind::Text),
            ("occurred_at", Kind::Time),
            ("data", Kind::Json),
        ],
    ),
    table(
        "webhooks",
        &["tenant_id", "id"],
        &[
            ("tenant_id", Kind::Id),
            ("id", Kind::Id),
            ("url", Kind::Text),
            ("description", Kind::Text),
            ("kinds", Kind::Json),
            ("enabled", Kind::Bool),
            ("disabled_because", Kind::Text),
            ("position", Kind::Int),
            ("created_at", Kind::Time),
            ("updated_at", Kind::Time),
        ],
    ),
    table(
        "webhook_deliveries",
        &["tenant_id", "id"],
        &[
            ("tenant_id", Kind::Id),
            ("id", Kind::Id),
            ("webhook_id", Kind::Id),
            ("event_id", Kind::Id),
            ("position", Kind::Int),
            ("kind", Kind::Text),
            ("state", Kind::Text),
            ("tries", Kind::Int),
            ("attempts", Kind::Json),
            ("next_attempt_at", Kind::Time),
            ("created_at", Kind::Time),
            ("updated_at", Kind::Time),
        ],
    ),
    table("hook_revisions", &["one"], &[("one", Kind::Int), ("revision", Kind::Int)]),
    table(
        "hook_bindings",
        &["tenant_id", "id"],
        &[
            ("tenant_id", Kind::Id),
            ("id", Kind::Id),
            ("plugin_id", Kind::Text),
            ("settings", Kind::Json),
            ("enabled", Kind::Bool),
            ("disabled_because", Kind::Text),
            ("generation", Kind::Int),
            ("created_at", Kind::Time),
            ("updated_at", Kind::Time),
        ],
    ),
    table(
        "hook_invocations",
        &["tenant_id", "id"],
        &[
            ("tenant_id", Kind::Id),
            ("id", Kind::Text),
            ("binding", Kind::Text),
            ("hook_id", Kind::Id),
            ("point", Kind::Text),
            ("outcome", Kind::Text),
            ("message_id", Kind::Id),
            ("facts", Kind::Json),
            ("at", Kind::Time),
        ],
    ),
    table(
        "hook_health",
        &["tenant_id", "hook_id", "place"],
        &[
            ("tenant_id", Kind::Id),
            ("hook_id", Kind::Id),
            ("place", Kind::Int),
            ("number", Kind::Int),
            ("at", Kind::Time),
            ("status", Kind::Text),
            ("details", Kind::Text),
            ("since", Kind::Time),
        ],
    ),
    table(
        "hook_results",
        &["tenant_id", "job_id"],
        &[
            ("tenant_id", Kind::Id),
            ("job_id", Kind::Id),
            ("hook_id", Kind::Id),
            ("message_id", Kind::Id),
            ("token_hash", Kind::Bytes),
            ("attempt", Kind::Int),
            ("accepted_at", Kind::Time),
            ("result_by", Kind::Time),
            ("latest", Kind::Time),
            ("expires_at", Kind::Time),
            ("result", Kind::Json),
        ],
    ),
    table(
        "api_keys",
        &["tenant_id", "id"],
        &[
            ("tenant_id", Kind::Id),
            ("id", Kind::Id),
            ("key_id", Kind::Text),
            ("name", Kind::Text),
            ("secret_hash", Kind::Bytes),
            ("scopes", Kind::Json),
            ("created_at", Kind::Time),
        ],
    ),
    table(
        "settings",
        &["tenant_id", "key"],
        &[
            ("tenant_id", Kind::Id),
            ("key", Kind::Text),
            ("value", Kind::Json),
            ("version", Kind::Int),
            ("updated_at", Kind::Time),
        ],
    ),
    table(
        "secrets",
        &["tenant_id", "kind", "name"],
        &[
            ("tenant_id", Kind::Id),
            ("kind", Kind::Text),
            ("name", Kind::Text),
            ("sealed", Kind::Bytes),
            ("version", Kind::Int),
            ("created_at", Kind::Time),
            ("updated_at", Kind::Time),
        ],
    ),
    table(
        "audit_entries",
        &["tenant_id", "sequence"],
        &[
            ("tenant_id", Kind::Id),
            ("sequence", Kind::Int),
            ("id", Kind::Id),
            ("at", Kind::Time),
            ("event_type", Kind::Text),
            ("actor_kind", Kind::Text),
            ("actor_id", Kind::Text),
            ("actor_ip", Kind::Text),
            ("target_kind", Kind::Text),
            ("target_id", Kind::Text),
            ("before", Kind::Text),
            ("after", Kind::Text),
            ("request_id", Kind::Text),
            ("hash", Kind::Bytes),
        ],
    ),
    table(
        "audit_heads",
        &["tenant_id"],
        &[
            ("tenant_id", Kind::Id),
            ("dropped", Kind::Int),
            ("dropped_hash", Kind::Bytes),
            ("sequence", Kind::Int),
            ("hash", Kind::Bytes),
            ("signature", Kind::Bytes),
        ],
    ),
];

const fn table(name: &'static str, key: &'static [&'static str], columns: &'static [(&'static str, Kind)]) -> Table {
    Table { name, key, columns, numbered: None }
}

impl Table {
    /// What is in a column.
    pub(crate) fn kind(&self, column: &str) -> Option<Kind> {
        self.columns.iter().find(|(name, _)| *name == column).map(|(_, kind)| *kind)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tempfile::TempDir;

    use super::*;
    use crate::sql::driver::{Columns, Query, Scope};
    use crate::sql::storage::SqlStorage;

    /// PostgreSQL has the same tables and columns, as another test says, and takes the kinds or refuses
    /// them.
    #[tokio::test]
    async fn every_column_of_every_table_is_in_a_backup() {
        let directory = TempDir::new().unwrap();
        let storage = SqlStorage::sqlite(directory.path().join("mail.db")).fs_bodies(directory.path().join("mail"));
        let storage = storage.open().await.unwrap();
        let columns = "SELECT m.name AS \"table\", c.name, c.type, c.pk FROM sqlite_schema m, pragma_table_info(m.name) c \
            WHERE m.type = 'table' AND m.name NOT LIKE '\\_sqlx%' ESCAPE '\\' AND m.name NOT LIKE 'sqlite%'";
        let rows = storage.parts.database.fetch_all(Scope::All, Query::new(columns)).await.unwrap();
        let (mut there, mut keys) = (BTreeMap::new(), BTreeMap::new());
        for row in &rows {
            let columns = Columns::new("test", row);
            let text = |column| columns.value::<String>(column).unwrap();
            let (table, column, place) = (text("table"), text("name"), columns.value::<i64>("pk").unwrap());
            if LEFT_OUT.contains(&table.as_str()) {
                continue;
            }
            if place > 0 {
                keys.insert((table.clone(), place), column.clone());
            }
            there.insert((table, column), text("type"));
        }
        let (mut here, mut read_by) = (BTreeMap::new(), BTreeMap::new());
        for table in TABLES {
            for (column, kind) in table.columns {
                let kind = match kind {
                    Kind::Bytes | Kind::Id => "BLOB",
                    Kind::Bool | Kind::Int | Kind::Time => "INTEGER",
                    Kind::Real => "REAL",
                    Kind::Json | Kind::Text => "TEXT",
                };
                here.insert((table.name.to_owned(), (*column).to_owned()), kind.to_owned());
            }
            for (place, column) in (1..).zip(table.key) {
                read_by.insert((table.name.to_owned(), place), (*column).to_owned());
            }
        }
        assert_eq!(here, there);
        assert_eq!(read_by, keys);
    }
}
