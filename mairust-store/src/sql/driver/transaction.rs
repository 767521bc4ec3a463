//! Several statements that take effect together.

use sqlx::{Postgres, Sqlite};

use super::row::Row;
use super::{Dialect, Query};

/// A transaction; undone when dropped before [`commit`](Self::commit).
#[derive(Debug)]
pub(crate) enum Transaction {
    Postgres(sqlx::Transaction<'static, Postgres>),
    Sqlite(sqlx::Transaction<'static, Sqlite>),
}

impl Transaction {
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
            Self::Sqlite(on) => Ok(query.sqlite()?.execute(&mut **on).await?.rows_affected()),
        }
    }

    /// Runs statements in order, with as few ways to the database and back as it allows. An error may
    /// be that of any of them.
    pub(crate) async fn execute_all(&mut self, queries: impl IntoIterator<Item = Query>) -> Result<(), sqlx::Error> {
        let mut queries = queries.into_iter();
        let Some(mut first) = queries.next() else { return Ok(()) };
        match self {
            Self::Sqlite(on) => {
                queries.for_each(|query| first.append(query));
                first.sqlite()?.execute(&mut **on).await?;
            }
            Self::Postgres(on) => {
                first.postgres()?.execute(&mut **on).await?;
                for query in queries {
                    query.postgres()?.execute(&mut **on).await?;
                }
            }
        }
        Ok(())
    }

    /// All rows that a statement gives.
    pub(crate) async fn fetch_all(&mut self, query: Query) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            Self::Postgres(on) => Ok(Row::all(query.postgres()?.fetch_all(&mut **on).await?)),
            Self::Sqlite(on) => Ok(Row::all(query.sqlite()?.fetch_all(&mut **on).await?)),
        }
    }

    /// The first row that a statement gives.
    pub(crate) async fn fetch_optional(&mut self, query: Query) -> Result<Option<Row>, sqlx::Error> {
        match self {
            Self::Postgres(on) => Ok(query.postgres()?.fetch_optional(&mut **on).await?.map(Row::from)),
            Self::Sqlite(on) => Ok(query.sqlite()?.fetch_optional(&mut **on).await?.map(Row::from)),
        }
    }

    /// The row of a statement that always gives one.
    pub(crate) async fn fetch_one(&mut self, query: Query) -> Result<Row, sqlx::Error> {
        self.fetch_optional(query).await?.ok_or(sqlx::Error::RowNotFound)
    }

    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(transaction) => transaction.commit().await,
            Self::Sqlite(transaction) => transaction.commit().await,
        }
    }
}
