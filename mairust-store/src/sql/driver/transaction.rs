//! Several statements that take effect together.

use futures::TryStreamExt;
use sqlx::pool::PoolConnection;
use sqlx::{Either, Executor, Postgres, Sqlite};

use super::row::Row;
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
    connection: Option<PoolConnection<Sqlite>>,
    begun: bool,
}

impl Transaction {
    pub(super) fn sqlite(connection: PoolConnection<Sqlite>) -> Self {
        Self::Sqlite(SqliteTransaction { connection: Some(connection), begun: false })
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
            Self::Sqlite(on) => on.execute(query).await,
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
            Self::Sqlite(on) => match joined(queries) {
                Some(all) => on.execute(all).await.map(drop),
                None => Ok(()),
            },
        }
    }

    /// All rows that a statement gives.
    pub(crate) async fn fetch_all(&mut self, query: Query) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            Self::Postgres(on) => Ok(Row::all(query.postgres()?.fetch_all(&mut **on).await?)),
            Self::Sqlite(on) => Ok(Row::all(on.next(query).sqlite()?.fetch_all(on.connection()?).await?)),
        }
    }

    /// The first row that a statement gives.
    pub(crate) async fn fetch_optional(&mut self, query: Query) -> Result<Option<Row>, sqlx::Error> {
        match self {
            Self::Postgres(on) => Ok(query.postgres()?.fetch_optional(&mut **on).await?.map(Row::from)),
            Self::Sqlite(on) => Ok(on.next(query).sqlite()?.fetch_optional(on.connection()?).await?.map(Row::from)),
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
            Self::Sqlite(transaction) => transaction.commit(joined(queries)).await,
        }
    }
}

impl SqliteTransaction {
    fn connection(&mut self) -> Result<&mut sqlx::SqliteConnection, sqlx::Error> {
        self.connection.as_deref_mut().ok_or(sqlx::Error::WorkerCrashed)
    }

    /// The statement, behind the one that begins the transaction if it is the first.
    fn next(&mut self, query: Query) -> Query {
        if std::mem::replace(&mut self.begun, true) {
            return query;
        }
        // Immediate: a transaction that begins by reading can't be made to wait for another writer.
        let mut first = Query::new("BEGIN IMMEDIATE");
        first.append(query);
        first
    }

    /// Runs a statement; how many rows the last one of its text changed.
    async fn execute(&mut self, query: Query) -> Result<u64, sqlx::Error> {
        let query = self.next(query).sqlite()?;
        let mut results = self.connection()?.fetch_many(query);
        let mut changed = 0;
        while let Some(result) = results.try_next().await? {
            if let Either::Left(done) = result {
                changed = done.rows_affected();
            }
        }
        Ok(changed)
    }

    async fn commit(mut self, query: Option<Query>) -> Result<(), sqlx::Error> {
        let commit = Query::new("COMMIT");
        let last = match query {
            Some(mut query) => {
                query.append(commit);
                query
            }
            None if self.begun => commit,
            None => return Ok(()),
        };
        self.execute(last).await?;
        self.begun = false;
        Ok(())
    }
}

impl Drop for SqliteTransaction {
    fn drop(&mut self) {
        if !self.begun {
            return;
        }
        let Some(mut connection) = self.connection.take() else { return };
        tokio::spawn(async move {
            // Nobody takes the connection before. It fails when SQLite has undone everything by itself, as
            // it does when the disk is full, and when it was committed although nobody waited any more.
            if sqlx::query("ROLLBACK").execute(&mut *connection).await.is_err() {
                connection.close_on_drop();
            }
        });
    }
}

/// Statements as one, for a database that takes several at once.
fn joined(queries: impl IntoIterator<Item = Query>) -> Option<Query> {
    let mut queries = queries.into_iter();
    let mut all = queries.next()?;
    queries.for_each(|query| all.append(query));
    Some(all)
}
