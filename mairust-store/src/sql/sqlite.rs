//! SQLite: the default of a single machine.
//!
//! One connection writes, each transaction `BEGIN IMMEDIATE`; four connections read. What the log
//! (WAL) holds is written into the database by a task on a connection of its own, so that no commit
//! waits for that.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection, SqlitePool};
use tokio::task::JoinHandle;

use super::changes::{Change, Changes};
use super::driver::{Database, failed};
use super::migrations::{self, MigrationStatus};
use crate::durability::Durability;
use crate::error::StoreError;

/// How long a statement waits for a lock that another process holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before a new file is tried again that another process is making.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
const READERS: u32 = 4;

/// How often the log is written into the database, if there is anything in it.
const CHECKPOINT_PERIOD: Duration = Duration::from_millis(500);
/// A log that has fewer pages (4 MiB) to be written is left alone: whoever begins it anew must sync its
/// head before the first commit.
const FEW_PAGES: i64 = 1_000;
/// A log of more pages than this (64 MiB) begins anew, for which writers wait a moment.
const LOG_PAGES: i64 = 16_384;

const PAGE_BYTES: i64 = 4096;

/// Writes the log into the database until dropped.
#[derive(Debug)]
pub(super) struct Checkpointer(JoinHandle<()>);

/// Wakes who waits for jobs when the database was changed, by another process for all it knows, until
/// dropped. SQLite has nothing that tells one process what another one did.
#[derive(Debug)]
pub(super) struct Watcher(JoinHandle<()>);

/// How often is looked for a change: so long a job of another process waits at most.
const WATCH_PERIOD: Duration = Duration::from_secs(1);

/// Opens the file, which is made if it is not there, and applies what migrations are missing.
pub(super) async fn open(path: &Path, durability: Durability, deadline: Duration) -> Result<Database, StoreError> {
    let options = options(path, durability);
    let writer = connect(path, 1, options.clone(), deadline).await?;
    migrations::run_sqlite(&writer).await?;
    let reader = connect(path, READERS, options.pragma("query_only", "ON"), deadline).await?;
    Ok(Database::sqlite(writer, reader, deadline))
}

/// Opens the file of a search index, which is made if it is not there. Statements that only read see the
/// rows of the database `rows`, too, and end at the deadline.
pub(super) async fn open_index(
    path: &Path,
    rows: &Path,
    durability: Durability,
    deadline: Duration,
) -> Result<Database, StoreError> {
    // Nobody else writes the log of this file into it.
    let options = options(path, durability).pragma("wal_autocheckpoint", "2000");
    let writer = connect(path, 1, options.clone(), deadline).await?;
    let rows = rows.to_owned();
    let reader = pool(READERS, deadline)
        .after_connect(move |connection, _| {
            let attach = sqlx::query("ATTACH $1 AS rows").bind(rows.to_string_lossy().into_owned());
            Box::pin(async move { attach.execute(connection).await.map(drop) })
        })
        .before_acquire(move |connection, _| Box::pin(end_at_deadline(connection, deadline)))
        .connect_with(options.pragma("query_only", "ON"))
        .await;
    Ok(Database::sqlite(writer, reader.map_err(failed("open index", path.display()))?, deadline))
}

/// Has SQLite give up on what takes longer than the deadline: nobody waits for it any more.
async fn end_at_deadline(connection: &mut SqliteConnection, deadline: Duration) -> Result<bool, sqlx::Error> {
    const STEPS: i32 = 10_000;
    let until = Instant::now() + deadline;
    connection.lock_handle().await?.set_progress_handler(STEPS, move || Instant::now() < until);
    Ok(true)
}

/// Applies what migrations are missing.
pub(super) async fn migrate(path: &Path, deadline: Duration) -> Result<MigrationStatus, StoreError> {
    let writer = connect(path, 1, options(path, Durability::PowerSafe), deadline).await?;
    let status = migrations::run_sqlite(&writer).await;
    writer.close().await;
    status
}

/// Which migrations there are, without making the file.
pub(super) async fn migration_status(path: &Path, deadline: Duration) -> Result<MigrationStatus, StoreError> {
    if !path.exists() {
        return Ok(migrations::untouched_sqlite());
    }
    let options = options(path, Durability::PowerSafe).create_if_missing(false).pragma("query_only", "ON");
    let reader = connect(path, 1, options, deadline).await?;
    let mut connection = reader.acquire().await.map_err(failed("migrate", "connect"))?;
    let status = migrations::status_sqlite(&mut connection).await;
    drop(connection);
    reader.close().await;
    status
}

fn options(path: &Path, durability: Durability) -> SqliteConnectOptions {
    let synchronous = match durability {
        Durability::PowerSafe => SqliteSynchronous::Full,
        // What was written but not synced is there after a crash of the process, not of the machine.
        Durability::CrashSafe => SqliteSynchronous::Normal,
        Durability::Relaxed => SqliteSynchronous::Off,
    };
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .foreign_keys(true)
        // A commit writes the log into the database only where nobody else does.
        .pragma("wal_autocheckpoint", (2 * LOG_PAGES).to_string())
        .pragma("journal_size_limit", (LOG_PAGES * PAGE_BYTES).to_string())
        // What a statement needs for a moment makes no files.
        .pragma("temp_store", "MEMORY")
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
}

async fn connect(
    path: &Path,
    connections: u32,
    options: SqliteConnectOptions,
    deadline: Duration,
) -> Result<SqlitePool, StoreError> {
    let until = Instant::now() + BUSY_TIMEOUT;
    loop {
        match pool(connections, deadline).connect_with(options.clone()).await {
            // SQLite does not wait for the lock that it needs to switch a new file to WAL.
            Err(error) if is_busy(&error) && Instant::now() < until => tokio::time::sleep(BUSY_PAUSE).await,
            connected => return connected.map_err(failed("open storage", path.display())),
        }
    }
}

impl Checkpointer {
    /// Works on this file.
    pub(super) async fn start(path: &Path, durability: Durability, deadline: Duration) -> Result<Self, StoreError> {
        let pool = connect(path, 1, options(path, durability), deadline).await?;
        Ok(Self(tokio::spawn(async move {
            let mut failing = false;
            loop {
                tokio::time::sleep(CHECKPOINT_PERIOD).await;
                let written = write_log(&pool).await;
                if let Err(error) = &written
                    && !failing
                {
                    tracing::warn!(component = "store", %error, "the log can't be written into the database");
                }
                failing = written.is_err();
            }
        })))
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Watcher {
    /// Watches this file.
    pub(super) async fn start(path: &Path, deadline: Duration, changes: Arc<Changes>) -> Result<Self, StoreError> {
        let options = options(path, Durability::PowerSafe).pragma("query_only", "ON");
        let pool = connect(path, 1, options, deadline).await?;
        Ok(Self(tokio::spawn(async move {
            let mut seen = None;
            loop {
                // Differs whenever another connection has changed something: a look at shared memory.
                let version: Result<i64, _> = sqlx::query_scalar("PRAGMA data_version").fetch_one(&pool).await;
                if let Ok(version) = version
                    && seen.replace(version).is_some_and(|seen| seen != version)
                {
                    changes.announce(Change::Queue);
                }
                tokio::time::sleep(WATCH_PERIOD).await;
            }
        })))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Writes what the log holds into the database, if it is worth it.
async fn write_log(pool: &SqlitePool) -> Result<(), sqlx::Error> {
    let (pages, written) = checkpoint(pool, "PRAGMA wal_checkpoint(NOOP)").await?;
    if pages - written < FEW_PAGES {
        return Ok(());
    }
    let (pages, _) = checkpoint(pool, "PRAGMA wal_checkpoint(PASSIVE)").await?;
    if pages > LOG_PAGES {
        checkpoint(pool, "PRAGMA wal_checkpoint(RESTART)").await?;
    }
    Ok(())
}

/// How many pages the log has, and how many of them are written into the database.
async fn checkpoint(pool: &SqlitePool, pragma: &'static str) -> Result<(i64, i64), sqlx::Error> {
    let row = sqlx::query(pragma).fetch_one(pool).await?;
    Ok((row.try_get(1)?, row.try_get(2)?))
}

/// Connections live as long as the pool, with their prepared statements.
fn pool(connections: u32, deadline: Duration) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(deadline)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_release(|connection, _| Box::pin(is_clean(connection)))
}

/// Whether another process has the lock that is needed.
fn is_busy(error: &sqlx::Error) -> bool {
    const SQLITE_BUSY: &str = "5";
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == SQLITE_BUSY)
}

/// Whether a connection can be used again. When the disk is full, SQLite ends a transaction by
/// itself; the driver does not notice and would refuse every later one on the same connection.
async fn is_clean(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    if connection.is_in_transaction() {
        // A rollback may still be on its way.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}
