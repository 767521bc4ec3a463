//! Several statements that take effect together.

use sqlx::Postgres;

use super::row::Row;
use super::sqlite::{Connection, SqliteRow};
use super::{Dialect, Query};

/// A transaction; undone when dropped before [`commit`](Self::commit).
#[derive(Debug)]
pub(crate) enum Transaction {
    Postgres(sqlx::Transaction<'static, Postgres>),
    Sqlite(SqliteTransaction),
}

/// A transaction that begins with its first statement, for each way to the thread that talks to SQLite
/// takes its time.
#[derive(Debug)]
pub(crate) struct SqliteTransaction {
    /// `None` when it is over.
    connection: Option<Connection>,
    /// The connection of whoever else would write.
    turn: Option<Connection>,
    /// The statement that begins it.
    begin: &'static str,
    begun: bool,
}

/// A transaction that begins by reading can't be made to wait for another writer.
const IMMEDIATE: &str = "BEGIN IMMEDIATE";

impl Transaction {
    pub(super) fn sqlite(connection: Connection) -> Self {
        Self::Sqlite(SqliteTransaction::new(connection, None, IMMEDIATE))
    }

    pub(super) fn lazy(connection: Connection, turn: Connection) -> Self {
        Self::Sqlite(SqliteTransaction::new(connection, Some(turn), IMMEDIATE))
    }

    /// One that only reads, and sees nothing of what others change meanwhile.
    pub(super) fn snapshot(connection: Connection) -> Self {
        Self::Sqlite(SqliteTransaction::new(connection, None, "BEGIN"))
    }

    pub(crate) fn dialect(&self) -> Dialect {
        match self {
            Self::Postgres(_) => Dialect::Postgres,
            Self::Sqlite(_) => Dialect::Sqlite,
        }
    }

    /// Runs a statement; how many rows it changed.
    pub(crate) async fn execute(&mut self, query: Query) -> Result<u64, sqlx::Error> {
        match self {
            Self::Postgres(on) => Ok(query.postgres()?.execute(&mut **on).await?.rows_affected()),
            Self::Sqlite(on) => on.execute([query]).await,
        }
    }

    /// Runs statements in order, with as few ways to the database and back as it allows. An error may
    /// be that of any of them.
    pub(crate) async fn execute_all(&mut self, queries: impl IntoIterator<Item = Query>) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(on) => {
                for query in queries {
                    query.postgres()?.execute(&mut **on).await?;
                }
                Ok(())
            }
            Self::Sqlite(on) => on.execute(queries).await.map(drop),
        }
    }

    /// All rows that a statement gives.
    pub(crate) async fn fetch_all(&mut self, query: Query) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            Self::Postgres(on) => Ok(Row::all(query.postgres()?.fetch_all(&mut **on).await?)),
            Self::Sqlite(on) => Ok(Row::all(on.fetch(query, usize::MAX).await?)),
        }
    }

    /// The first row that a statement gives.
    pub(crate) async fn fetch_optional(&mut self, query: Query) -> Result<Option<Row>, sqlx::Error> {
        match self {
            Self::Postgres(on) => Ok(query.postgres()?.fetch_optional(&mut **on).await?.map(Row::from)),
            Self::Sqlite(on) => Ok(on.fetch(query, 1).await?.pop().map(Row::from)),
        }
    }

    /// The row of a statement that always gives one.
    pub(crate) async fn fetch_one(&mut self, query: Query) -> Result<Row, sqlx::Error> {
        self.fetch_optional(query).await?.ok_or(sqlx::Error::RowNotFound)
    }

    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        self.execute_and_commit([]).await
    }

    /// Commits when these statements have run, with as few ways to the database and back as it allows.
    /// An error may be that of any of them or of the commit.
    pub(crate) async fn execute_and_commit(
        mut self,
        queries: impl IntoIterator<Item = Query>,
    ) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(_) => {
                self.execute_all(queries).await?;
                match self {
                    Self::Postgres(transaction) => transaction.commit().await,
                    Self::Sqlite(_) => Ok(()),
                }
            }
            Self::Sqlite(transaction) => transaction.commit(queries).await,
        }
    }
}

impl SqliteTransaction {
    fn new(connection: Connection, turn: Option<Connection>, begin: &'static str) -> Self {
        Self { connection: Some(connection), turn, begin, begun: false }
    }

    fn connection(&self) -> Result<&Connection, sqlx::Error> {
        self.connection.as_ref().ok_or(sqlx::Error::WorkerCrashed)
    }

    /// Statements, behind the one that begins the transaction if they are the first.
    fn begun(&mut self, queries: impl IntoIterator<Item = Query>) -> Vec<Query> {
        let mut queries: Vec<_> = queries.into_iter().collect();
        if !queries.is_empty() && !std::mem::replace(&mut self.begun, true) {
            queries.insert(0, Query::new(self.begin));
        }
        queries
    }

    /// Runs statements; how many rows the last one changed.
    async fn execute(&mut self, queries: impl IntoIterator<Item = Query>) -> Result<u64, sqlx::Error> {
        let queries = self.begun(queries);
        if queries.is_empty() {
            return Ok(0);
        }
        self.connection()?.execute(queries).await
    }

    async fn fetch(&mut self, query: Query, limit: usize) -> Result<Vec<SqliteRow>, sqlx::Error> {
        let queries = self.begun([query]);
        self.connection()?.fetch(queries, limit).await
    }

    async fn commit(mut self, queries: impl IntoIterator<Item = Query>) -> Result<(), sqlx::Error> {
        let mut queries = self.begun(queries);
        if self.begun {
            queries.push(Query::new("COMMIT"));
            self.connection()?.execute(queries).await?;
            self.begun = false;
        }
        Ok(())
    }
}

impl Drop for SqliteTransaction {
    fn drop(&mut self) {
        if self.begun
            && let Some(connection) = self.connection.take()
        {
            connection.roll_back(self.turn.take());
        }
    }
}
