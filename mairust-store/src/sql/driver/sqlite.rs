//! Connections to SQLite. Each is a thread, for calls to SQLite wait for the disk: what is to be done
//! there is handed over as a whole, since each way there and back takes its time.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

use bytes::Bytes;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{InterruptHandle, ToSql};
use sqlx::error::{DatabaseError, ErrorKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::Query;
use super::value::Value;

/// Connections to one file, each used by one caller at a time.
#[derive(Debug)]
pub(crate) struct Connections(Arc<Shared>);

struct Shared {
    open: Box<dyn Fn() -> rusqlite::Result<rusqlite::Connection> + Send + Sync>,
    /// Whether a call is ended for which nobody waits any more.
    ends_calls: bool,
    count: u32,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Worker>>,
}

/// A connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Always there but while it is dropped.
    worker: Option<Worker>,
    shared: Arc<Shared>,
    permit: Option<OwnedSemaphorePermit>,
}

/// A connection for what is looked up on the thread of whoever asks. `None` when it is closed.
#[derive(Debug)]
pub(crate) struct Lookups(Mutex<Option<rusqlite::Connection>>);

struct Worker {
    jobs: mpsc::Sender<Job>,
    interrupt: InterruptHandle,
    thread: JoinHandle<()>,
}

type Job = Box<dyn FnOnce(&rusqlite::Connection) + Send>;

/// A row with all its values.
#[derive(Debug)]
pub(crate) struct SqliteRow {
    columns: Arc<[String]>,
    values: Vec<SqliteValue>,
}

/// A value as SQLite has it. Text is bytes: nobody promises that it is valid.
#[derive(Debug)]
pub(crate) enum SqliteValue {
    Null,
    Int(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Bytes),
}

/// What SQLite says when it fails.
#[derive(Debug)]
struct Failure {
    message: String,
    /// The extended result code: <https://www.sqlite.org/rescode.html>.
    code: i32,
}

/// Ends a call that nobody waits for any more, when dropped.
struct EndOnDrop<'a>(Option<&'a InterruptHandle>);

/// Prepared statements that a connection keeps.
const STATEMENTS: usize = 256;

impl Connections {
    /// Up to `count` connections, each made by `open` when it is needed. `ends_calls` says whether a
    /// call is ended for which nobody waits any more; for those that only read.
    ///
    /// # Errors
    /// When the first one can't be made.
    pub(crate) async fn open(
        count: u32,
        ends_calls: bool,
        open: impl Fn() -> rusqlite::Result<rusqlite::Connection> + Send + Sync + 'static,
    ) -> Result<Self, sqlx::Error> {
        let permits = Arc::new(Semaphore::new(count as usize));
        let shared = Shared { open: Box::new(open), ends_calls, count, permits, idle: Mutex::default() };
        let connections = Self(Arc::new(shared));
        drop(connections.acquire().await?);
        Ok(connections)
    }

    /// A connection, when there is one.
    pub(crate) async fn acquire(&self) -> Result<Connection, sqlx::Error> {
        let permit = Arc::clone(&self.0.permits).acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
        let idle = self.0.idle().pop().filter(|worker| !worker.thread.is_finished());
        let worker = match idle {
            Some(worker) => worker,
            None => Worker::start(&self.0).await?,
        };
        Ok(Connection { worker: Some(worker), shared: Arc::clone(&self.0), permit: Some(permit) })
    }

    /// Waits for what is under way and closes all connections.
    pub(crate) async fn close(&self) {
        if let Ok(all) = self.0.permits.acquire_many(self.0.count).await {
            self.0.permits.close();
            drop(all);
        }
        let workers = std::mem::take(&mut *self.0.idle());
        for Worker { jobs, thread, .. } in workers {
            drop(jobs);
            // Closing the last connection writes the log into the database.
            drop(tokio::task::spawn_blocking(|| thread.join()).await);
        }
    }
}

impl Lookups {
    pub(crate) fn new(connection: rusqlite::Connection) -> Self {
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Self(Mutex::new(Some(connection)))
    }

    /// All rows of a statement, unless somebody else is looking something up: then the statement is given back.
    pub(super) fn fetch(&self, query: Query) -> Result<Result<Vec<SqliteRow>, sqlx::Error>, Query> {
        let Ok(connection) = self.0.try_lock() else { return Err(query) };
        match &*connection {
            Some(connection) => Ok(query.fetch_in(connection, usize::MAX).map_err(failure)),
            None => Err(query),
        }
    }

    pub(super) fn close(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Vec<Worker>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Worker {
    async fn start(shared: &Arc<Shared>) -> Result<Self, sqlx::Error> {
        let (jobs, taken) = mpsc::channel::<Job>();
        let (ready, opened) = oneshot::channel();
        let opening = Arc::clone(shared);
        let work = move || {
            let connection = (opening.open)();
            drop(opening);
            match connection {
                Err(error) => drop(ready.send(Err(error))),
                Ok(connection) => {
                    connection.set_prepared_statement_cache_capacity(STATEMENTS);
                    if ready.send(Ok(connection.get_interrupt_handle())).is_ok() {
                        taken.into_iter().for_each(|job| job(&connection));
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("mairust-sqlite".to_owned()).spawn(work)?;
        let interrupt = opened.await.map_err(|_| sqlx::Error::WorkerCrashed)?.map_err(failure)?;
        Ok(Self { jobs, interrupt, thread })
    }
}

impl Connection {
    /// Runs statements in order, all in one way there and back; how many rows the last one changed.
    pub(crate) async fn execute(&self, queries: Vec<Query>) -> Result<u64, sqlx::Error> {
        self.run(move |connection| {
            let mut changed = 0;
            for query in queries {
                changed = query.execute_in(connection)?;
            }
            Ok(changed)
        })
        .await
    }

    /// Runs statements in order, all in one way there and back; up to `limit` rows of the last one.
    pub(crate) async fn fetch(&self, queries: Vec<Query>, limit: usize) -> Result<Vec<SqliteRow>, sqlx::Error> {
        self.run(move |connection| {
            let mut rows = Vec::new();
            let last = queries.len().saturating_sub(1);
            for (index, query) in queries.into_iter().enumerate() {
                if index < last {
                    query.execute_in(connection)?;
                } else {
                    rows = query.fetch_in(connection, limit)?;
                }
            }
            Ok(rows)
        })
        .await
    }

    /// Undoes the transaction that was begun, without waiting for it: nobody gets this connection before,
    /// nor the other.
    pub(super) fn roll_back(mut self, mut turn: Option<Self>) {
        let Some(worker) = &self.worker else { return };
        let permit = (self.permit.take(), turn.as_mut().and_then(|turn| turn.permit.take()));
        let undo = move |connection: &rusqlite::Connection| {
            // When the disk is full, SQLite has undone everything by itself.
            if !connection.is_autocommit()
                && let Err(error) = connection.execute_batch("ROLLBACK")
            {
                tracing::error!(component = "store", %error, "a transaction can't be undone");
            }
            drop(permit);
        };
        // A thread that has ended has closed its connection, and with it ended the transaction.
        drop(worker.jobs.send(Box::new(undo)));
    }

    /// Does some work on the thread of the connection.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, sqlx::Error> {
        let worker = self.worker.as_ref().ok_or(sqlx::Error::WorkerCrashed)?;
        let (answer, answered) = oneshot::channel();
        let job = move |connection: &rusqlite::Connection| {
            if !answer.is_closed() {
                drop(answer.send(work(connection)));
            }
        };
        worker.jobs.send(Box::new(job)).map_err(|_| sqlx::Error::WorkerCrashed)?;
        let mut guard = EndOnDrop(self.shared.ends_calls.then_some(&worker.interrupt));
        let done = answered.await;
        guard.0 = None;
        done.map_err(|_| sqlx::Error::WorkerCrashed)?.map_err(failure)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Before the permit, with which somebody else looks for it.
        self.shared.idle().extend(self.worker.take());
    }
}

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(interrupt) = self.0 {
            interrupt.interrupt();
        }
    }
}

impl Query {
    /// Runs the statement; how many rows it changed.
    fn execute_in(self, connection: &rusqlite::Connection) -> rusqlite::Result<u64> {
        let mut statement = self.prepared_in(connection)?;
        let mut rows = statement.raw_query();
        while rows.next()?.is_some() {}
        drop(rows);
        Ok(connection.changes())
    }

    fn fetch_in(self, connection: &rusqlite::Connection, limit: usize) -> rusqlite::Result<Vec<SqliteRow>> {
        let mut statement = self.prepared_in(connection)?;
        let columns: Arc<[String]> = statement.column_names().into_iter().map(str::to_owned).collect();
        let (mut rows, mut fetched) = (statement.raw_query(), Vec::new());
        while fetched.len() < limit
            && let Some(row) = rows.next()?
        {
            let values = (0..columns.len()).map(|index| row.get_ref(index).map(SqliteValue::from));
            fetched.push(SqliteRow { columns: Arc::clone(&columns), values: values.collect::<Result<_, _>>()? });
        }
        Ok(fetched)
    }

    fn prepared_in(self, connection: &rusqlite::Connection) -> rusqlite::Result<rusqlite::CachedStatement<'_>> {
        let (text, values) = self.into_sqlite();
        let mut statement = connection.prepare_cached(&text)?;
        for (index, value) in values.into_iter().enumerate() {
            statement.raw_bind_parameter(index + 1, value)?;
        }
        Ok(statement)
    }
}

impl SqliteRow {
    /// A value by the name of its column.
    pub(super) fn value(&self, column: &str) -> Option<&SqliteValue> {
        let index = self.columns.iter().position(|name| name == column)?;
        self.values.get(index)
    }
}

impl From<ValueRef<'_>> for SqliteValue {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(value) => Self::Int(value),
            ValueRef::Real(value) => Self::Real(value),
            ValueRef::Text(value) => Self::Text(value.to_vec()),
            ValueRef::Blob(value) => Self::Blob(Bytes::copy_from_slice(value)),
        }
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match self {
            Self::Bool(value) => value.map(|value| ValueRef::Integer(i64::from(value))),
            Self::Bytes(value) => value.as_deref().map(ValueRef::Blob),
            Self::Id(value) => value.as_ref().map(|value| ValueRef::Blob(value.as_bytes())),
            Self::Int(value) => value.map(ValueRef::Integer),
            Self::Json(Some(value)) => return Ok(value.to_string().into()),
            Self::Json(None) => None,
            Self::Real(value) => value.map(ValueRef::Real),
            Self::Text(value) => value.as_deref().map(|text| ValueRef::Text(text.as_bytes())),
            Self::Time(value) => value.map(|value| ValueRef::Integer(value.as_micros())),
        };
        Ok(ToSqlOutput::Borrowed(value.unwrap_or(ValueRef::Null)))
    }
}

/// The error of a call, in the form that those of PostgreSQL have.
fn failure(error: rusqlite::Error) -> sqlx::Error {
    use rusqlite::Error::{SqlInputError, SqliteFailure};
    let (code, message) = match error {
        SqliteFailure(error, message) => (error.extended_code, message.unwrap_or_else(|| error.to_string())),
        SqlInputError { error, msg, .. } => (error.extended_code, msg),
        other => return sqlx::Error::Protocol(other.to_string()),
    };
    sqlx::Error::Database(Box::new(Failure { message, code }))
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("count", &self.count).finish_non_exhaustive()
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("thread", &self.thread).finish_non_exhaustive()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(code {}) {}", self.code, self.message)
    }
}

impl Error for Failure {}

impl DatabaseError for Failure {
    fn message(&self) -> &str {
        &self.message
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.code.to_string().into())
    }

    fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        const CHECK: i32 = 275;
        const FOREIGN_KEY: i32 = 787;
        const NOT_NULL: i32 = 1299;
        const PRIMARY_KEY: i32 = 1555;
        const UNIQUE: i32 = 2067;
        match self.code {
            CHECK => ErrorKind::CheckViolation,
            FOREIGN_KEY => ErrorKind::ForeignKeyViolation,
            NOT_NULL => ErrorKind::NotNullViolation,
            PRIMARY_KEY | UNIQUE => ErrorKind::UniqueViolation,
            _ => ErrorKind::Other,
        }
    }
}
