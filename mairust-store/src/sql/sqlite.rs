//! SQLite: the default of a single machine.
//!
//! One connection writes, each transaction `BEGIN IMMEDIATE`; four connections read. What the log
//! (WAL) holds is written into the database by a task on a connection of its own, so that no commit
//! waits for that.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::OpenFlags;
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use tokio::task::JoinHandle;

use super::changes::{Change, Changes};
use super::driver::{Connections, Database, Lookups, failed};
use super::migrations::{self, MigrationStatus};
use crate::body::interrupted;
use crate::durability::Durability;
use crate::error::{StoreError, StoreErrorKind};

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

/// How a file is opened.
#[derive(Debug, Clone)]
struct Opening {
    path: PathBuf,
    make: bool,
    read_only: bool,
    durability: Durability,
    /// Pages in the log from which on a commit writes it into the database.
    checkpoint_pages: i64,
    /// Another file whose tables are seen, under this name.
    attached: Option<(PathBuf, &'static str)>,
}

/// Opens the file, which is made if it is not there, and applies what migrations are missing.
pub(super) async fn open(path: &Path, durability: Durability, deadline: Duration) -> Result<Database, StoreError> {
    let opening = Opening::new(path, durability);
    let writer = opening.clone().connections(1).await?;
    migrations::run_sqlite(&writer).await?;
    let lazy = opening.clone().lazy().connections(1).await?;
    let reader = opening.clone().read_only().connections(READERS).await?;
    let lookups = tokio::task::spawn_blocking(move || opening.read_only().open()).await;
    let lookups = lookups.map_err(|error| interrupted("open storage", error))?.map_err(not_opened(path))?;
    Ok(Database::sqlite(writer, lazy, reader, deadline).with_lookups(Lookups::new(lookups)))
}

/// Opens the file of a search index, which is made if it is not there. Statements that only read see the
/// rows of the database `rows`, too.
pub(super) async fn open_index(
    path: &Path,
    rows: &Path,
    durability: Durability,
    deadline: Duration,
) -> Result<Database, StoreError> {
    let mut opening = Opening::new(path, durability);
    // Nobody else writes the log of this file into it.
    opening.checkpoint_pages = 2_000;
    let writer = opening.clone().connections(1).await?;
    let lazy = opening.clone().lazy().connections(1).await?;
    opening.attached = Some((rows.to_owned(), "rows"));
    let reader = opening.read_only().connections(READERS).await?;
    Ok(Database::sqlite(writer, lazy, reader, deadline))
}

/// Applies what migrations are missing.
pub(super) async fn migrate(path: &Path) -> Result<MigrationStatus, StoreError> {
    let writer = Opening::new(path, Durability::PowerSafe).connections(1).await?;
    let status = migrations::run_sqlite(&writer).await;
    writer.close().await;
    status
}

/// Which migrations there are, without making the file.
pub(super) async fn migration_status(path: &Path) -> Result<MigrationStatus, StoreError> {
    if !path.exists() {
        return Ok(migrations::untouched_sqlite());
    }
    let mut opening = Opening::new(path, Durability::PowerSafe).read_only();
    opening.make = false;
    let reader = opening.connections(1).await?;
    let status = migrations::status_sqlite(&reader).await;
    reader.close().await;
    status
}

impl Opening {
    fn new(path: &Path, durability: Durability) -> Self {
        let (make, read_only, attached) = (true, false, None);
        // A commit writes the log into the database only where nobody else does.
        Self { path: path.to_owned(), make, read_only, durability, checkpoint_pages: 2 * LOG_PAGES, attached }
    }

    fn read_only(self) -> Self {
        Self { read_only: true, ..self }
    }

    /// Without waiting for the disk.
    fn lazy(self) -> Self {
        let durability = match self.durability {
            Durability::PowerSafe => Durability::CrashSafe,
            other => other,
        };
        Self { durability, ..self }
    }

    /// Up to `count` connections. What only reads is ended when nobody waits for it any more.
    async fn connections(self, count: u32) -> Result<Connections, StoreError> {
        let path = self.path.clone();
        let opened = Connections::open(count, self.read_only, move || self.open()).await;
        opened.map_err(failed("open storage", path.display()))
    }

    fn open(&self) -> rusqlite::Result<rusqlite::Connection> {
        let until = Instant::now() + BUSY_TIMEOUT;
        loop {
            match self.try_open() {
                // SQLite does not wait for the lock that it needs to switch a new file to WAL.
                Err(error) if is_busy(&error) && Instant::now() < until => std::thread::sleep(BUSY_PAUSE),
                opened => return opened,
            }
        }
    }

    fn try_open(&self) -> rusqlite::Result<rusqlite::Connection> {
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        flags.set(OpenFlags::SQLITE_OPEN_CREATE, self.make);
        let connection = rusqlite::Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // Otherwise a statement with a range is prepared anew for each value that is bound.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        let synchronous = match self.durability {
            Durability::PowerSafe => "FULL",
            // What was written but not synced is there after a crash of the process, not of the machine.
            Durability::CrashSafe => "NORMAL",
            Durability::Relaxed => "OFF",
        };
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "wal_autocheckpoint", self.checkpoint_pages)?;
        connection.pragma_update(None, "journal_size_limit", LOG_PAGES * PAGE_BYTES)?;
        // What a statement needs for a moment makes no files.
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        if let Some((path, name)) = &self.attached {
            // As its bytes are: not every path is UTF-8.
            let path = ToSqlOutput::Borrowed(ValueRef::Text(path.as_os_str().as_bytes()));
            connection.execute("ATTACH ?1 AS ?2", (path, name))?;
        }
        connection.pragma_update(None, "query_only", self.read_only)?;
        Ok(connection)
    }
}

impl Checkpointer {
    /// Works on this file.
    pub(super) async fn start(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        let connections = Opening::new(path, durability).connections(1).await?;
        Ok(Self(tokio::spawn(async move {
            let mut failing = false;
            loop {
                tokio::time::sleep(CHECKPOINT_PERIOD).await;
                let written = write_log(&connections).await;
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
    pub(super) async fn start(path: &Path, changes: Arc<Changes>) -> Result<Self, StoreError> {
        let connections = Opening::new(path, Durability::PowerSafe).read_only().connections(1).await?;
        Ok(Self(tokio::spawn(async move {
            let mut seen = None;
            loop {
                // Differs whenever another connection has changed something: a look at shared memory.
                if let Ok(version) = pragma(&connections, "data_version", [0]).await
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
async fn write_log(connections: &Connections) -> Result<(), sqlx::Error> {
    // How many pages the log has, and how many of them are written into the database.
    const PAGES: [usize; 2] = [1, 2];
    let [pages, written] = pragma(connections, "wal_checkpoint(NOOP)", PAGES).await?;
    if pages - written < FEW_PAGES {
        return Ok(());
    }
    let [pages, _] = pragma(connections, "wal_checkpoint(PASSIVE)", PAGES).await?;
    if pages > LOG_PAGES {
        pragma(connections, "wal_checkpoint(RESTART)", PAGES).await?;
    }
    Ok(())
}

/// The numbers in these columns of what a pragma says.
async fn pragma<const N: usize>(
    connections: &Connections,
    pragma: &'static str,
    columns: [usize; N],
) -> Result<[i64; N], sqlx::Error> {
    let ask = move |connection: &rusqlite::Connection| {
        connection.query_one(&format!("PRAGMA {pragma}"), (), |row| {
            let mut numbers = [0; N];
            for (number, column) in numbers.iter_mut().zip(columns) {
                *number = row.get(column)?;
            }
            Ok(numbers)
        })
    };
    connections.acquire().await?.run(ask).await
}

fn not_opened(path: &Path) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |error| StoreError::new(StoreErrorKind::Unavailable, "open storage", path.display()).with_source(error)
}

/// Whether another process has the lock that is needed.
fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
}
