//! One way to talk to either database: a statement with its values goes in, rows come out.
//!
//! Values keep their native types: ids are `uuid`, times `timestamptz`, documents `json` in
//! PostgreSQL; SQLite has 16 bytes, microseconds and text. Placeholders are `$1`, which both take.

mod database;
mod query;
mod row;
mod rows;
mod sqlite;
mod transaction;
mod value;

pub(crate) use database::{Database, Scope};
pub(crate) use query::Query;
pub(crate) use row::{Columns, Row, failed};
pub(crate) use rows::Rows;
pub(crate) use sqlite::{Connections, Lookups};
pub(crate) use transaction::Transaction;
pub(crate) use value::Json;

/// Which SQL is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// PostgreSQL 14 or newer.
    Postgres,
    /// SQLite.
    Sqlite,
}

impl Dialect {
    /// The text for this dialect, where there are two.
    pub(crate) fn pick<T>(self, sqlite: T, postgres: T) -> T {
        match self {
            Self::Postgres => postgres,
            Self::Sqlite => sqlite,
        }
    }
}
