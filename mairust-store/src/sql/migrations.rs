//! Bringing a database to the form that this version knows.

use aws_lc_rs::digest::{SHA384, digest};
use rusqlite::TransactionBehavior;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{PgConnection, PgPool, SqlSafeStr};

use super::driver::{Connections, failed};
use crate::error::{StoreError, StoreErrorKind};

/// Which migrations there are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationStatus {
    /// Numbers of the migrations that the database went through, ascending.
    pub applied: Vec<i64>,
    /// Numbers of the migrations that this version knows, ascending.
    pub known: Vec<i64>,
}

impl MigrationStatus {
    /// Numbers of the migrations that the database still has to go through, ascending.
    pub fn pending(&self) -> Vec<i64> {
        self.known.iter().filter(|version| !self.applied.contains(version)).copied().collect()
    }

    /// Refuses a database that a newer version has changed in a way that this one doesn't know.
    fn check(&self) -> Result<(), StoreError> {
        match self.applied.iter().find(|version| !self.known.contains(version)) {
            None => Ok(()),
            Some(version) => Err(StoreError::new(
                StoreErrorKind::Invalid,
                "migrate",
                format!("the database was made by a newer version: migration {version} is not known here"),
            )),
        }
    }
}

/// Applies what is missing, in one transaction.
pub(super) async fn run_sqlite(writer: &Connections) -> Result<MigrationStatus, StoreError> {
    let connection = writer.acquire().await.map_err(failed("migrate", "connect"))?;
    connection.run(apply).await.map_err(failed("migrate", "apply"))?
}

fn apply(connection: &rusqlite::Connection) -> rusqlite::Result<Result<MigrationStatus, StoreError>> {
    // Immediate, so that two processes that start together do this one after the other.
    let transaction = rusqlite::Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let status = read_status(&transaction)?;
    if let Err(error) = status.check() {
        return Ok(Err(error));
    }
    transaction.execute_batch(LIST)?;
    for (version, name, text) in SQLITE {
        let checksum = digest(&SHA384, text.as_bytes());
        if !status.applied.contains(version) {
            transaction.execute_batch(text)?;
            transaction.execute(ADD_TO_LIST, (version, name, checksum.as_ref()))?;
        } else if !transaction.query_one(IS_LISTED, (version, checksum.as_ref()), |row| row.get(0))? {
            let changed = format!("migration {version} is not the one that the database went through");
            return Ok(Err(StoreError::new(StoreErrorKind::Invalid, "migrate", changed)));
        }
    }
    let status = read_status(&transaction)?;
    transaction.commit()?;
    Ok(Ok(status))
}

/// Applies what is missing, in one transaction.
pub(super) async fn run_postgres(pool: &PgPool) -> Result<MigrationStatus, StoreError> {
    let mut transaction = pool.begin().await.map_err(failed("migrate", "begin"))?;
    // So that two processes that start together do this one after the other.
    let lock = sqlx::query("SELECT pg_advisory_xact_lock(hashtext('mairust migrations'))");
    lock.execute(&mut *transaction).await.map_err(failed("migrate", "lock"))?;
    status_postgres(&mut transaction).await?.check()?;
    migrator(POSTGRES).set_locking(false).run(&mut *transaction).await.map_err(one_failed)?;
    let status = status_postgres(&mut transaction).await?;
    transaction.commit().await.map_err(failed("migrate", "commit"))?;
    Ok(status)
}

/// Which migrations there are.
pub(super) async fn status_sqlite(reader: &Connections) -> Result<MigrationStatus, StoreError> {
    let connection = reader.acquire().await.map_err(failed("migrate", "connect"))?;
    connection.run(read_status).await.map_err(failed("migrate", "read the list of migrations"))
}

fn read_status(connection: &rusqlite::Connection) -> rusqlite::Result<MigrationStatus> {
    let applied = match connection.query_one(HAS_LIST, (), |row| row.get(0))? {
        true => connection.prepare(APPLIED)?.query_map((), |row| row.get(0))?.collect::<Result<_, _>>()?,
        false => Vec::new(),
    };
    Ok(MigrationStatus { applied, known: versions(SQLITE) })
}

/// Which migrations there are.
pub(super) async fn status_postgres(connection: &mut PgConnection) -> Result<MigrationStatus, StoreError> {
    let failed = || failed("migrate", "read the list of migrations");
    let exists: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed())?;
    let applied = match exists {
        true => sqlx::query_scalar(APPLIED).fetch_all(connection).await.map_err(failed())?,
        false => Vec::new(),
    };
    Ok(MigrationStatus { applied, known: versions(POSTGRES) })
}

/// What an SQLite database is that no migration has touched.
pub(super) fn untouched_sqlite() -> MigrationStatus {
    MigrationStatus { applied: Vec::new(), known: versions(SQLITE) }
}

/// Number, name and text of a migration.
type Source = (i64, &'static str, &'static str);

fn versions(list: &[Source]) -> Vec<i64> {
    list.iter().map(|(version, ..)| *version).collect()
}

fn migrator(list: &'static [Source]) -> Migrator {
    let migrations = list.iter().map(|(version, name, sql)| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.collect())
}

fn one_failed(error: MigrateError) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "migrate", "a migration failed").with_source(error)
}

/// As the library for PostgreSQL makes it, which has migrated SQLite, too.
const LIST: &str = "\
    CREATE TABLE IF NOT EXISTS _sqlx_migrations ( \
        version BIGINT PRIMARY KEY, \
        description TEXT NOT NULL, \
        installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, \
        success BOOLEAN NOT NULL, \
        checksum BLOB NOT NULL, \
        execution_time BIGINT NOT NULL \
    )";

const HAS_LIST: &str = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations')";

const ADD_TO_LIST: &str = "\
    INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
    VALUES (?1, ?2, TRUE, ?3, 0)";

const IS_LISTED: &str = "SELECT EXISTS (SELECT 1 FROM _sqlx_migrations WHERE version = ?1 AND checksum = ?2)";

const APPLIED: &str = "SELECT version FROM _sqlx_migrations ORDER BY version";

/// Forward only; what was released is never changed. A change of both databases has one number.
const SQLITE: &[Source] = &[
    (1, "first", include_str!("../../migrations/sqlite/0001_first.sql")),
    (2, "recipients", include_str!("../../migrations/sqlite/0002_recipients.sql")),
    (3, "scram", include_str!("../../migrations/sqlite/0003_scram.sql")),
    (4, "spool", include_str!("../../migrations/sqlite/0004_spool.sql")),
    (5, "registry_and_audit", include_str!("../../migrations/sqlite/0005_registry_and_audit.sql")),
    (6, "search", include_str!("../../migrations/sqlite/0006_search.sql")),
    (7, "queue", include_str!("../../migrations/sqlite/0007_queue.sql")),
    (8, "lifecycle", include_str!("../../migrations/sqlite/0008_lifecycle.sql")),
    (9, "dkim", include_str!("../../migrations/sqlite/0009_dkim.sql")),
    (10, "queue_operations", include_str!("../../migrations/sqlite/0010_queue_operations.sql")),
    (11, "trace", include_str!("../../migrations/sqlite/0011_trace.sql")),
    (12, "policy", include_str!("../../migrations/sqlite/0012_policy.sql")),
    (13, "events", include_str!("../../migrations/sqlite/0013_events.sql")),
    (14, "require_tls", include_str!("../../migrations/sqlite/0014_require_tls.sql")),
    (16, "score", include_str!("../../migrations/sqlite/0016_score.sql")),
    (17, "hooks", include_str!("../../migrations/sqlite/0017_hooks.sql")),
    (19, "marks", include_str!("../../migrations/sqlite/0019_marks.sql")),
    (20, "hook_results", include_str!("../../migrations/sqlite/0020_hook_results.sql")),
    (21, "hook_health", include_str!("../../migrations/sqlite/0021_hook_health.sql")),
];

/// Begins where SQLite stood when PostgreSQL came.
const POSTGRES: &[Source] = &[
    (3, "first", include_str!("../../migrations/postgres/0003_first.sql")),
    (4, "spool", include_str!("../../migrations/postgres/0004_spool.sql")),
    (5, "registry_and_audit", include_str!("../../migrations/postgres/0005_registry_and_audit.sql")),
    (6, "search", include_str!("../../migrations/postgres/0006_search.sql")),
    (7, "queue", include_str!("../../migrations/postgres/0007_queue.sql")),
    (8, "lifecycle", include_str!("../../migrations/postgres/0008_lifecycle.sql")),
    (9, "dkim", include_str!("../../migrations/postgres/0009_dkim.sql")),
    (10, "queue_operations", include_str!("../../migrations/postgres/0010_queue_operations.sql")),
    (11, "trace", include_str!("../../migrations/postgres/0011_trace.sql")),
    (12, "policy", include_str!("../../migrations/postgres/0012_policy.sql")),
    (13, "events", include_str!("../../migrations/postgres/0013_events.sql")),
    (14, "require_tls", include_str!("../../migrations/postgres/0014_require_tls.sql")),
    (16, "score", include_str!("../../migrations/postgres/0016_score.sql")),
    (17, "hooks", include_str!("../../migrations/postgres/0017_hooks.sql")),
    (19, "marks", include_str!("../../migrations/postgres/0019_marks.sql")),
    (20, "hook_results", include_str!("../../migrations/postgres/0020_hook_results.sql")),
    (21, "hook_health", include_str!("../../migrations/postgres/0021_hook_health.sql")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_database_of_the_first_version_keeps_its_mail() {
        let database = Connections::open(1, false, rusqlite::Connection::open_in_memory).await.unwrap();
        let rows: &'static str = "INSERT INTO tenants VALUES (zeroblob(16), 'default', 0, 1763780646000000);
            INSERT INTO mailboxes VALUES (zeroblob(16), zeroblob(16), 'alice@a.example', 0);
            INSERT INTO folders (tenant_id, id, mailbox_id, name, uidvalidity)
                VALUES (zeroblob(16), zeroblob(16), zeroblob(16), 'INBOX', 1);
            INSERT INTO messages (tenant_id, id, mailbox_id, folder_id, uid, modseq, direction, status, address,
                object_key, size, sha256, from_list, to_list, cc_list, received_at, refs, thread_id, attachments,
                from_text, to_text, subject_text, preview)
            SELECT zeroblob(16), randomblob(16), zeroblob(16), zeroblob(16), value, 1, 'inbound', 'stored', 'a@a.example',
                'key', value * 100, zeroblob(32), '[]', '[]', '[]', 0, '[]', zeroblob(16), 0, '', '', '', ''
            FROM json_each('[1, 2]')";
        let first = |connection: &rusqlite::Connection| {
            let (version, name, text) = SQLITE[0];
            connection.execute_batch(text)?;
            connection.execute_batch(LIST)?;
            connection.execute(ADD_TO_LIST, (version, name, digest(&SHA384, text.as_bytes()).as_ref()))
        };
        let connection = database.acquire().await.unwrap();
        connection.run(first).await.unwrap();
        connection.run(|connection| connection.execute_batch(rows)).await.unwrap();
        drop(connection);
        run_sqlite(&database).await.unwrap();
        let made: &'static str =
            "SELECT m.used, (SELECT group_concat(f.name) FROM folders f WHERE f.mailbox_id = w.mailbox_id) AS folders
            FROM mailboxes m, forwards w WHERE m.name = 'alice@a.example' AND w.mailbox_id <> m.id";
        let read = |connection: &rusqlite::Connection| connection.query_one(made, (), |row| row.try_into());
        let (used, folders): (i64, String) = database.acquire().await.unwrap().run(read).await.unwrap();
        assert_eq!((used, folders.as_str()), (300, "INBOX,Junk,Quarantine,Sent,Trash"));
    }
}
