//! Rows that leave one database and come into another, which may be of the other kind: as lines of
//! JSON, one object for each row, with values in a form that both have.
//!
//! Ids are written as usual, bytes in hexadecimal digits, times in microseconds since 1970,
//! documents and fractions as texts, so that they come back as they were.

use mairust_core::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::driver::{Columns, Dialect, Query, Row, Scope, Transaction, failed};
use super::storage::Parts;
use crate::error::{StoreError, StoreErrorKind};

mod tables;

pub(crate) use tables::{Kind, TABLES, Table};

/// A row on its way.
pub(crate) type Line = Map<String, Value>;

/// How many rows are read or written by one statement.
const ROWS: usize = 64;

/// The rows of one table, in the order of its key, as they were when the transaction began.
#[derive(Debug)]
pub(crate) struct Reader {
    table: &'static Table,
    last: Option<Line>,
}

impl Reader {
    pub(crate) fn new(table: &'static Table) -> Self {
        Self { table, last: None }
    }

    /// The next rows; none at the end.
    pub(crate) async fn next(&mut self, transaction: &mut Transaction) -> Result<Vec<Line>, StoreError> {
        let query = self.query(transaction.dialect())?;
        let rows = transaction.fetch_all(query).await.map_err(failed("read rows", self.table.name))?;
        let lines = rows.iter().map(|row| line(self.table, row)).collect::<Result<Vec<_>, _>>()?;
        if let Some(last) = lines.last() {
            self.last = Some(last.clone());
        }
        Ok(lines)
    }

    fn query(&self, dialect: Dialect) -> Result<Query, StoreError> {
        let Table { name, key, columns, .. } = self.table;
        let mut query = Query::new("SELECT ");
        for (index, (column, kind)) in columns.iter().enumerate() {
            query.push(if index == 0 { "" } else { ", " });
            match (kind, dialect) {
                // The text as it is.
                (Kind::Json, Dialect::Postgres) => query.push(format_args!("CAST({column} AS text) AS {column}")),
                _ => query.push(quoted(column)),
            };
        }
        query.push(format_args!(" FROM {name}"));
        if let Some(last) = &self.last {
            query.push(format_args!(" WHERE ({}) > (", list(key)));
            for (index, column) in key.iter().enumerate() {
                query.push(if index == 0 { "" } else { ", " });
                bind(&mut query, dialect, self.table, column, last.get(*column))?;
            }
            query.push(")");
        }
        query.push(format_args!(" ORDER BY {} LIMIT {ROWS}", list(key)));
        Ok(query)
    }
}

/// Puts rows into a table.
pub(crate) async fn insert(
    transaction: &mut Transaction,
    table: &'static Table,
    lines: &[Line],
) -> Result<(), StoreError> {
    let columns: Vec<_> =
        table.columns.iter().map(|(name, _)| *name).filter(|name| table.numbered != Some(name)).collect();
    let dialect = transaction.dialect();
    for lines in lines.chunks(ROWS) {
        let mut query = Query::new("INSERT INTO ");
        query.push(format_args!("{} ({}) VALUES ", table.name, list(&columns)));
        for (row, line) in lines.iter().enumerate() {
            query.push(if row == 0 { "(" } else { ", (" });
            for (index, column) in columns.iter().enumerate() {
                query.push(if index == 0 { "" } else { ", " });
                bind(&mut query, dialect, table, column, line.get(*column))?;
            }
            query.push(")");
        }
        transaction.execute(query).await.map_err(failed("write rows", table.name))?;
    }
    Ok(())
}

impl Parts {
    /// The names of tables that have rows.
    pub(crate) async fn tables_with_rows(&self) -> Result<Vec<&'static str>, StoreError> {
        let mut found = Vec::new();
        for Table { name, .. } in TABLES {
            let mut query = Query::new("SELECT EXISTS (SELECT 1 FROM ");
            query.push(format_args!("{name}) AS found"));
            let row = self.database.fetch_one(Scope::All, query).await.map_err(failed("look for rows", name))?;
            if Columns::new("look for rows", &row).value("found")? {
                found.push(*name);
            }
        }
        Ok(found)
    }
}

/// One row.
fn line(table: &'static Table, row: &Row) -> Result<Line, StoreError> {
    let columns = Columns::new("read rows", row);
    let mut line = Line::new();
    for (name, kind) in table.columns {
        let value = match kind {
            Kind::Bool => columns.value::<Option<bool>>(name)?.map(Value::from),
            Kind::Bytes => columns.value::<Option<&[u8]>>(name)?.map(|bytes| hex(bytes).into()),
            Kind::Id => columns.value::<Option<Uuid>>(name)?.map(|id| id.to_string().into()),
            Kind::Int => columns.value::<Option<i64>>(name)?.map(Value::from),
            Kind::Real => columns.value::<Option<f64>>(name)?.map(|number| number.to_string().into()),
            Kind::Json | Kind::Text => columns.value::<Option<String>>(name)?.map(Value::from),
            Kind::Time => columns.optional_time(name)?.map(|time| time.as_micros().into()),
        };
        line.insert((*name).to_owned(), value.unwrap_or(Value::Null));
    }
    Ok(line)
}

/// Appends a placeholder with a value that [`line`] wrote.
fn bind(
    query: &mut Query,
    dialect: Dialect,
    table: &Table,
    column: &str,
    value: Option<&Value>,
) -> Result<(), StoreError> {
    let odd = || {
        let context = format!("{}.{column} does not hold what it should", table.name);
        StoreError::new(StoreErrorKind::Corrupt, "write rows", context)
    };
    let value = value.filter(|value| !value.is_null());
    let text = value.and_then(Value::as_str);
    let kind = table.kind(column).ok_or_else(odd)?;
    let parsed = match kind {
        Kind::Bool => query.push_bind(read(value, Value::as_bool).map_err(|()| odd())?),
        Kind::Bytes => query.push_bind(read(value, |_| text.and_then(unhex)).map_err(|()| odd())?),
        Kind::Id => query.push_bind(read(value, |_| Uuid::try_parse(text?).ok()).map_err(|()| odd())?),
        Kind::Int => query.push_bind(read(value, Value::as_i64).map_err(|()| odd())?),
        Kind::Real => query.push_bind(read(value, |_| text?.parse::<f64>().ok()).map_err(|()| odd())?),
        Kind::Text => query.push_bind(read(value, Value::as_str).map_err(|()| odd())?),
        Kind::Time => {
            let time = read(value, |value| value.as_i64().map(Timestamp::from_micros));
            query.push_bind(time.map_err(|()| odd())?)
        }
        Kind::Json => {
            let text = read(value, Value::as_str).map_err(|()| odd())?;
            match dialect {
                Dialect::Sqlite => query.push_bind(text),
                Dialect::Postgres => query.push("CAST(").push_bind(text).push(" AS json)"),
            }
        }
    };
    let _: &mut Query = parsed;
    Ok(())
}

/// A value that has to be of some form if it is there.
fn read<'v, T>(value: Option<&'v Value>, as_form: impl FnOnce(&'v Value) -> Option<T>) -> Result<Option<T>, ()> {
    value.map(|value| as_form(value).ok_or(())).transpose()
}

fn list(columns: &[&str]) -> String {
    columns.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", ")
}

fn quoted(column: &str) -> String {
    format!("\"{column}\"")
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |&[high, low]: &[u8; 2]| Some(digit(high)? << 4 | digit(low)?);
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}
