//! Rows and their columns, and what errors of the database mean.

use std::fmt;

use bytes::Bytes;
use mairust_core::Timestamp;
use serde::de::DeserializeOwned;
use sqlx::error::ErrorKind;
use sqlx::postgres::PgRow;
use sqlx::{Decode, Postgres, Type};
use uuid::Uuid;

use super::sqlite::{SqliteRow, SqliteValue};
use super::value::Micros;
use crate::error::{StoreError, StoreErrorKind};

/// A row of either database.
#[derive(Debug)]
pub(crate) enum Row {
    Postgres(PgRow),
    Sqlite(SqliteRow),
}

/// What a column can be read as in both databases.
pub(crate) trait Column<'r>: Decode<'r, Postgres> + Type<Postgres> {
    /// The value in SQLite; `None` if it is of another type.
    fn read(value: &'r SqliteValue) -> Option<Self>;
}

macro_rules! column {
    ($($type:ty: $pattern:pat => $value:expr;)*) => {
        $(impl<'r> Column<'r> for $type {
            fn read(value: &'r SqliteValue) -> Option<Self> {
                match value {
                    $pattern => $value,
                    _ => None,
                }
            }
        })*
    };
}

column! {
    bool: SqliteValue::Int(value) => Some(*value != 0);
    i64: SqliteValue::Int(value) => Some(*value);
    f64: SqliteValue::Real(value) => Some(*value);
    &'r [u8]: SqliteValue::Blob(value) => Some(value);
    Vec<u8>: SqliteValue::Blob(value) => Some(value.to_vec());
    &'r str: SqliteValue::Text(value) => str::from_utf8(value).ok();
    String: SqliteValue::Text(value) => String::from_utf8(value.clone()).ok();
    Uuid: SqliteValue::Blob(value) => Uuid::from_slice(value).ok();
    Micros: SqliteValue::Int(value) => Some(Self(Timestamp::from_micros(*value)));
    sqlx::types::Json<serde_json::Value>: SqliteValue::Text(value) => serde_json::from_slice(value).ok().map(Self);
}

impl<'r, T: Column<'r>> Column<'r> for Option<T> {
    fn read(value: &'r SqliteValue) -> Option<Self> {
        match value {
            SqliteValue::Null => Some(None),
            value => T::read(value).map(Some),
        }
    }
}

impl Row {
    pub(super) fn all<R: Into<Self>>(rows: Vec<R>) -> Vec<Self> {
        rows.into_iter().map(Into::into).collect()
    }

    fn get<'r, T: Column<'r>>(&'r self, column: &str) -> Result<T, sqlx::Error> {
        match self {
            Self::Postgres(row) => sqlx::Row::try_get(row, column),
            Self::Sqlite(row) => {
                let value = row.value(column).ok_or_else(|| sqlx::Error::ColumnNotFound(column.to_owned()))?;
                T::read(value).ok_or_else(|| sqlx::Error::Decode("the value is of another type".into()))
            }
        }
    }
}

impl From<PgRow> for Row {
    fn from(row: PgRow) -> Self {
        Self::Postgres(row)
    }
}

impl From<SqliteRow> for Row {
    fn from(row: SqliteRow) -> Self {
        Self::Sqlite(row)
    }
}

/// Gives an error of the database its kind; `context` says what it was about.
pub(crate) fn failed(operation: &'static str, context: impl fmt::Display) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |error| StoreError::new(kind(&error), operation, context).with_source(error)
}

/// One row under the name of an operation, for reading its columns.
pub(crate) struct Columns<'r> {
    row: &'r Row,
    operation: &'static str,
}

impl<'r> Columns<'r> {
    pub(crate) fn new(operation: &'static str, row: &'r Row) -> Self {
        Self { row, operation }
    }

    /// A column as it is.
    pub(crate) fn value<T: Column<'r>>(&self, column: &'static str) -> Result<T, StoreError> {
        self.row.get(column).map_err(|error| self.corrupt(column).with_source(error))
    }

    /// A column that holds an id.
    pub(crate) fn id(&self, column: &'static str) -> Result<[u8; 16], StoreError> {
        self.value(column).map(Uuid::into_bytes)
    }

    /// A column that holds an id, or NULL.
    pub(crate) fn optional_id(&self, column: &'static str) -> Result<Option<[u8; 16]>, StoreError> {
        self.value::<Option<Uuid>>(column).map(|id| id.map(Uuid::into_bytes))
    }

    /// A column that holds any number of bytes, perhaps many.
    pub(crate) fn blob(&self, column: &'static str) -> Result<Bytes, StoreError> {
        match self.row {
            Row::Postgres(_) => self.value(column).map(Bytes::copy_from_slice),
            Row::Sqlite(row) => match row.value(column) {
                Some(SqliteValue::Blob(value)) => Ok(value.clone()),
                _ => Err(self.corrupt(column)),
            },
        }
    }

    /// A column that holds a number of bytes.
    pub(crate) fn bytes<const N: usize>(&self, column: &'static str) -> Result<[u8; N], StoreError> {
        self.value::<&[u8]>(column)?.try_into().map_err(|_| self.corrupt(column))
    }

    /// A column that holds a number which is never negative.
    pub(crate) fn number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, StoreError> {
        T::try_from(self.value::<i64>(column)?).map_err(|_| self.corrupt(column))
    }

    /// A column that holds a time.
    pub(crate) fn time(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        self.value::<Micros>(column).map(|time| time.0)
    }

    /// A column that holds a time, or NULL.
    pub(crate) fn optional_time(&self, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
        self.value::<Option<Micros>>(column).map(|time| time.map(|time| time.0))
    }

    /// A column that holds a document.
    pub(crate) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        self.optional_json(column)?.ok_or_else(|| self.corrupt(column))
    }

    /// A column that holds a document, or NULL.
    pub(crate) fn optional_json<T: DeserializeOwned>(&self, column: &'static str) -> Result<Option<T>, StoreError> {
        // By way of a value, for there is no type that both drivers read into any `T`.
        let document: Option<sqlx::types::Json<serde_json::Value>> = self.value(column)?;
        let read = document.map(|document| serde_json::from_value(document.0)).transpose();
        read.map_err(|error| self.corrupt(column).with_source(error))
    }

    /// A column that holds text of some form.
    pub(crate) fn parsed<T>(
        &self,
        column: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, StoreError> {
        parse(self.value(column)?).ok_or_else(|| self.corrupt(column))
    }

    /// A column that holds text of some form, or NULL.
    pub(crate) fn optional<T>(
        &self,
        column: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        let text: Option<&str> = self.value(column)?;
        text.map(|text| parse(text).ok_or_else(|| self.corrupt(column))).transpose()
    }

    pub(crate) fn corrupt(&self, column: &str) -> StoreError {
        StoreError::new(
            StoreErrorKind::Corrupt,
            self.operation,
            format!("column {column} does not hold what it should"),
        )
    }
}

fn kind(error: &sqlx::Error) -> StoreErrorKind {
    let Some(database) = error.as_database_error() else { return StoreErrorKind::Unavailable };
    match database.kind() {
        ErrorKind::UniqueViolation => return StoreErrorKind::AlreadyExists,
        ErrorKind::ForeignKeyViolation => return StoreErrorKind::NotFound,
        ErrorKind::CheckViolation | ErrorKind::NotNullViolation => return StoreErrorKind::Invalid,
        _ => {}
    }
    let code = database.code().unwrap_or_default();
    match database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
        Some(_) => postgres_kind(&code),
        None => sqlite_kind(&code),
    }
}

/// By SQLSTATE: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn postgres_kind(code: &str) -> StoreErrorKind {
    match code {
        // data_corrupted, index_corrupted
        "XX001" | "XX002" => StoreErrorKind::Corrupt,
        // disk_full
        "53100" => StoreErrorKind::Full,
        // Class 22: data exceptions.
        code if code.starts_with("22") => StoreErrorKind::Invalid,
        _ => StoreErrorKind::Unavailable,
    }
}

/// The low byte is the primary result code: <https://www.sqlite.org/rescode.html>.
fn sqlite_kind(code: &str) -> StoreErrorKind {
    match code.parse::<i32>().unwrap_or_default() & 0xff {
        SQLITE_CORRUPT | SQLITE_NOTADB => StoreErrorKind::Corrupt,
        SQLITE_FULL => StoreErrorKind::Full,
        SQLITE_CONSTRAINT => StoreErrorKind::Invalid,
        _ => StoreErrorKind::Unavailable,
    }
}

const SQLITE_CORRUPT: i32 = 11;
const SQLITE_FULL: i32 = 13;
const SQLITE_CONSTRAINT: i32 = 19;
const SQLITE_NOTADB: i32 = 26;
