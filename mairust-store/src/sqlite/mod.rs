//! Storage in SQLite, with bodies on the file system: the default of a single machine.
//!
//! One connection writes, each transaction `BEGIN IMMEDIATE`, the log (WAL) synced at each commit;
//! four connections read. Messages are accepted in groups, see [`GroupCommit`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use mairust_core::{Clock, SystemClock};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection, SqlitePool};

use crate::backend::StorageBackend;
use crate::body::{BodyStore, FsBodies};
use crate::change::{ChangeCounter, TenantCounters};
use crate::delivery::Deliveries;
use crate::directory::Directory;
use crate::error::{StoreError, StoreErrorKind};
use crate::group_commit::GroupCommit;
use crate::message::MessageStore;
use crate::queue::QueueBackend;

mod accept;
mod delivery;
mod directory;
mod message;
mod migrations;
mod queue;
mod row;
#[cfg(test)]
mod tests;

pub use migrations::MigrationStatus;

use message::SqlMessages;
use row::failed;

/// A [`StorageBackend`] over SQLite and files.
#[derive(Debug)]
pub struct SqlStorage {
    messages: GroupCommit<SqlMessages>,
    parts: Arc<Parts>,
}

/// How [`SqlStorage`] is to be opened.
#[derive(Debug)]
#[must_use = "nothing happens before `open`"]
pub struct SqlStorageBuilder {
    path: PathBuf,
    bodies: Option<PathBuf>,
    clock: Arc<dyn Clock>,
}

/// What was done so far, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqlStatistics {
    /// Number of groups of entries that were committed together.
    pub groups: u64,
    /// Number of entries in them.
    pub entries: u64,
    /// Number of fsyncs for bodies.
    pub body_fsyncs: u64,
}

#[derive(Debug)]
struct Parts {
    writer: SqlitePool,
    reader: SqlitePool,
    bodies: FsBodies,
    clock: Arc<dyn Clock>,
    messages_changed: TenantCounters,
    queue_changed: ChangeCounter,
}

/// How long a statement waits for a lock that another process holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before a new file is tried again that another process is making.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// How long a call waits for a free connection before it answers `Unavailable`.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
const READERS: u32 = 4;

impl SqlStorage {
    /// Storage whose rows are in the database file `path`, made if it is not there.
    pub fn sqlite(path: impl Into<PathBuf>) -> SqlStorageBuilder {
        SqlStorageBuilder { path: path.into(), bodies: None, clock: Arc::new(SystemClock) }
    }

    /// What was done so far.
    pub fn statistics(&self) -> SqlStatistics {
        SqlStatistics {
            groups: self.messages.groups(),
            entries: self.messages.entries(),
            body_fsyncs: self.parts.bodies.fsyncs(),
        }
    }

    /// Which migrations there are.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn migration_status(&self) -> Result<MigrationStatus, StoreError> {
        let mut connection = self.parts.reader.acquire().await.map_err(failed("migrate", "connect"))?;
        migrations::status(&mut connection).await
    }

    /// Waits for what is under way and closes the database. Calls that come later fail with
    /// `Unavailable`. Not needed for durability.
    pub async fn close(&self) {
        self.parts.reader.close().await;
        self.parts.writer.close().await;
    }
}

impl SqlStorageBuilder {
    /// Keeps bodies as files in this directory, made if it is not there.
    pub fn fs_bodies(mut self, directory: impl Into<PathBuf>) -> Self {
        self.bodies = Some(directory.into());
        self
    }

    /// Takes times of creation from this clock instead of the system's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the storage; applies the migrations that are missing.
    ///
    /// # Errors
    /// `Invalid` if no place for bodies is named or the database was made by a newer version;
    /// otherwise when a file or directory can't be opened.
    pub async fn open(self) -> Result<SqlStorage, StoreError> {
        let missing = || StoreError::new(StoreErrorKind::Invalid, "open storage", "no directory for bodies is named");
        let directory = self.bodies.clone().ok_or_else(missing)?;
        let opened = tokio::task::spawn_blocking(move || FsBodies::open(directory)).await;
        let bodies = opened.map_err(|error| {
            StoreError::new(StoreErrorKind::Unavailable, "open storage", "the work was interrupted").with_source(error)
        })??;
        let writer = self.connect(1, self.options()).await?;
        migrations::run(&writer).await?;
        let reader = self.connect(READERS, self.options().pragma("query_only", "ON")).await?;
        let parts = Arc::new(Parts {
            writer,
            reader,
            bodies,
            clock: self.clock,
            messages_changed: TenantCounters::default(),
            queue_changed: ChangeCounter::default(),
        });
        Ok(SqlStorage { messages: GroupCommit::new(SqlMessages::new(Arc::clone(&parts))), parts })
    }

    /// Applies the migrations that are missing, without opening the storage. Running it again
    /// changes nothing.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub async fn migrate(&self) -> Result<MigrationStatus, StoreError> {
        let writer = self.connect(1, self.options()).await?;
        let status = migrations::run(&writer).await;
        writer.close().await;
        status
    }

    /// Which migrations there are, without changing anything or making the file.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn migration_status(&self) -> Result<MigrationStatus, StoreError> {
        if !self.path.exists() {
            return Ok(migrations::untouched());
        }
        let reader = self.connect(1, self.options().create_if_missing(false).pragma("query_only", "ON")).await?;
        let mut connection = reader.acquire().await.map_err(failed("migrate", "connect"))?;
        let status = migrations::status(&mut connection).await;
        drop(connection);
        reader.close().await;
        status
    }

    fn options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(&self.path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging()
    }

    async fn connect(&self, connections: u32, options: SqliteConnectOptions) -> Result<SqlitePool, StoreError> {
        let deadline = Instant::now() + BUSY_TIMEOUT;
        loop {
            // Connections live as long as the pool, with their prepared statements.
            let pool = SqlitePoolOptions::new()
                .max_connections(connections)
                .min_connections(1)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
                .after_release(|connection, _| Box::pin(is_clean(connection)));
            match pool.connect_with(options.clone()).await {
                // SQLite does not wait for the lock that it needs to switch a new file to WAL.
                Err(error) if is_busy(&error) && Instant::now() < deadline => tokio::time::sleep(BUSY_PAUSE).await,
                connected => return connected.map_err(failed("open storage", self.path.display())),
            }
        }
    }
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

#[async_trait]
impl StorageBackend for SqlStorage {
    fn messages(&self) -> &dyn MessageStore {
        &self.messages
    }

    fn directory(&self) -> &dyn Directory {
        &*self.parts
    }

    fn queue(&self) -> &dyn QueueBackend {
        &*self.parts
    }

    fn deliveries(&self) -> &dyn Deliveries {
        &*self.parts
    }

    async fn health(&self) -> Vec<(&'static str, Result<(), StoreError>)> {
        let asked: Result<i64, _> =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM tenants)").fetch_one(&self.parts.reader).await;
        let database = asked.map(drop).map_err(failed("check database", "read"));
        vec![("database", database), ("bodies", self.parts.bodies.check().await)]
    }
}
