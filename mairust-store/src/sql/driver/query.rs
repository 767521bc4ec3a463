//! Statements with their values.

use std::fmt;

use sqlx::postgres::PgArguments;
use sqlx::{AssertSqlSafe, Postgres, SqlSafeStr, SqlStr};

use super::value::{Bind, Value};

/// A statement and the values of its placeholders.
#[derive(Debug, Clone)]
#[must_use = "nothing is asked before it is given to a database"]
pub(crate) struct Query {
    text: Text,
    values: Vec<Value>,
}

#[derive(Debug, Clone)]
enum Text {
    Fixed(&'static str),
    Built(String),
}

impl Query {
    /// A statement whose placeholders are to be bound in order.
    pub(crate) fn new(text: &'static str) -> Self {
        Self { text: Text::Fixed(text), values: Vec::new() }
    }

    /// Binds the next placeholder that the text has.
    pub(crate) fn bind(mut self, value: impl Bind) -> Self {
        self.values.push(Bind::bind(Some(value)));
        self
    }

    /// Appends to the text. Never anything that comes from outside: that is what
    /// [`push_bind`](Self::push_bind) is for.
    pub(crate) fn push(&mut self, text: impl fmt::Display) -> &mut Self {
        use fmt::Write;
        // Writing to a String never fails.
        let _ = write!(self.built(), "{text}");
        self
    }

    /// Appends a placeholder with its value.
    pub(crate) fn push_bind(&mut self, value: impl Bind) -> &mut Self {
        self.push_value(Bind::bind(Some(value)))
    }

    /// Appends a placeholder with its value.
    pub(super) fn push_value(&mut self, value: Value) -> &mut Self {
        self.values.push(value);
        let number = self.values.len();
        self.push(format_args!("${number}"))
    }

    /// The text.
    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        match &self.text {
            Text::Fixed(text) => text,
            Text::Built(text) => text,
        }
    }

    fn built(&mut self) -> &mut String {
        if let Text::Fixed(text) = self.text {
            self.text = Text::Built(text.to_owned());
        }
        match &mut self.text {
            Text::Built(text) => text,
            Text::Fixed(_) => unreachable!("it was just built"),
        }
    }

    /// The text with numbers that are places: for SQLite, `$2` is the name of whatever place it comes to.
    pub(super) fn into_sqlite(self) -> (String, Vec<Value>) {
        let text = match &self.text {
            Text::Fixed(text) => text,
            Text::Built(text) => text.as_str(),
        };
        let mut parts = text.split('$');
        let mut numbered = String::with_capacity(text.len());
        numbered.push_str(parts.next().unwrap_or_default());
        for part in parts {
            numbered.push(if part.starts_with(|c: char| c.is_ascii_digit()) { '?' } else { '$' });
            numbered.push_str(part);
        }
        (numbered, self.values)
    }

    pub(super) fn postgres(self) -> Result<sqlx::query::Query<'static, Postgres, PgArguments>, sqlx::Error> {
        let mut arguments = PgArguments::default();
        for value in self.values {
            value.add_to_postgres(&mut arguments).map_err(sqlx::Error::Encode)?;
        }
        Ok(sqlx::query_with(self.text.into_sql_str(), arguments))
    }
}

impl Text {
    fn into_sql_str(self) -> SqlStr {
        match self {
            Self::Fixed(text) => text.into_sql_str(),
            // Values are never written into texts, see `Query::push`.
            Self::Built(text) => AssertSqlSafe(text).into_sql_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_numbered_for_sqlite() {
        let query = Query::new("SELECT $2, $1 WHERE a ->> '$.x' = $12").bind("x");
        let (text, values) = query.into_sqlite();
        assert_eq!((text.as_str(), values.len()), ("SELECT ?2, ?1 WHERE a ->> '$.x' = ?12", 1));
    }
}
