//! Reading columns, and what errors of the database mean.

use std::fmt;

use mairust_core::Timestamp;
use sqlx::error::ErrorKind;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};

use crate::error::{StoreError, StoreErrorKind};

/// Gives an error of the database its kind; `context` says what it was about.
pub(super) fn failed(operation: &'static str, context: impl fmt::Display) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |error| StoreError::new(kind(&error), operation, context).with_source(error)
}

/// One row under the name of an operation, for reading its columns.
pub(super) struct Columns<'r> {
    row: &'r SqliteRow,
    operation: &'static str,
}

impl<'r> Columns<'r> {
    pub(super) fn new(operation: &'static str, row: &'r SqliteRow) -> Self {
        Self { row, operation }
    }

    /// A column as it is.
    pub(super) fn value<T: Decode<'r, Sqlite> + Type<Sqlite>>(&self, column: &'static str) -> Result<T, StoreError> {
        self.row.try_get(column).map_err(|error| self.corrupt(column).with_source(error))
    }

    /// A column that holds a number of bytes, for example an id.
    pub(super) fn bytes<const N: usize>(&self, column: &'static str) -> Result<[u8; N], StoreError> {
        self.value::<&[u8]>(column)?.try_into().map_err(|_| self.corrupt(column))
    }

    /// A column that holds a number which is never negative.
    pub(super) fn number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, StoreError> {
        T::try_from(self.value::<i64>(column)?).map_err(|_| self.corrupt(column))
    }

    /// A column that holds a time.
    pub(super) fn time(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        self.value(column).map(Timestamp::from_micros)
    }

    /// A column that holds text of some form.
    pub(super) fn parsed<T>(
        &self,
        column: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, StoreError> {
        parse(self.value(column)?).ok_or_else(|| self.corrupt(column))
    }

    /// A column that holds text of some form, or NULL.
    pub(super) fn optional<T>(
        &self,
        column: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        let text: Option<&str> = self.value(column)?;
        text.map(|text| parse(text).ok_or_else(|| self.corrupt(column))).transpose()
    }

    pub(super) fn corrupt(&self, column: &str) -> StoreError {
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
        _ => {}
    }
    let code = database.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or_default();
    // The low byte is the primary result code: <https://www.sqlite.org/rescode.html>.
    match code & 0xff {
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
