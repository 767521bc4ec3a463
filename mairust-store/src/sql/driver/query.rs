//! Statements with their values.

use std::fmt;

use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Postgres, SqlSafeStr, SqlStr, Sqlite};

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

    /// Appends a statement, for a database that takes several at once.
    pub(super) fn append(&mut self, next: Self) {
        let before = self.values.len();
        self.push("; ");
        let mut parts = next.text().split('$');
        self.push(parts.next().unwrap_or_default());
        for part in parts {
            let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, rest) = part.split_at(digits);
            match number.parse::<usize>() {
                Ok(number) => self.push(format_args!("${}{rest}", before + number)),
                Err(_) => self.push(format_args!("${part}")),
            };
        }
        self.values.extend(next.values);
    }

    /// The text.
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

    pub(super) fn sqlite(self) -> Result<sqlx::query::Query<'static, Sqlite, SqliteArguments>, sqlx::Error> {
        let mut arguments = SqliteArguments::default();
        for value in self.values {
            value.add_to_sqlite(&mut arguments).map_err(sqlx::Error::Encode)?;
        }
        let text = match self.text {
            Text::Built(text) => Text::Built(anonymous(&text).unwrap_or(text)),
            fixed => fixed,
        };
        Ok(sqlx::query_with(text.into_sql_str(), arguments))
    }

    pub(super) fn postgres(self) -> Result<sqlx::query::Query<'static, Postgres, PgArguments>, sqlx::Error> {
        let mut arguments = PgArguments::default();
        for value in self.values {
            value.add_to_postgres(&mut arguments).map_err(sqlx::Error::Encode)?;
        }
        Ok(sqlx::query_with(self.text.into_sql_str(), arguments))
    }
}

/// The text with `?` in place of `$1`, `$2` and so on, if they stand in this order: SQLite looks for the
/// name of each in the list of all.
fn anonymous(text: &str) -> Option<String> {
    let mut parts = text.split('$');
    let mut anonymous = String::with_capacity(text.len());
    anonymous.push_str(parts.next()?);
    for (index, part) in parts.enumerate() {
        let rest = part.strip_prefix((index + 1).to_string().as_str())?;
        if rest.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        anonymous.push('?');
        anonymous.push_str(rest);
    }
    Some(anonymous)
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
    fn statements_are_appended_with_numbers_that_go_on() {
        let mut all = Query::new("UPDATE a SET b = $1 WHERE c = $1 AND d = $2").bind(1_u32).bind(2_u32);
        all.append(Query::new("DELETE FROM e WHERE f ->> '$.x' = $1").bind("x"));
        assert_eq!(all.text(), "UPDATE a SET b = $1 WHERE c = $1 AND d = $2; DELETE FROM e WHERE f ->> '$.x' = $3");
        assert_eq!(all.values.len(), 3);
    }

    #[test]
    fn placeholders_in_order_need_no_numbers() {
        let numbers: Vec<_> = (1..=12).map(|number| format!("${number}")).collect();
        assert_eq!(anonymous(&numbers.join(", ")).as_deref(), Some("?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?"));
        for text in ["$2, $1", "$1, $1", "$1, $12", "$10", "'$.x' = $1"] {
            assert_eq!(anonymous(text), None, "{text}");
        }
    }
}
