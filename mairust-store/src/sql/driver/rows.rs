//! Many rows in few statements: each statement costs a way to the database and back.

use super::Query;
use super::value::{Bind, Value};

/// Rows of values, for a statement of the form `head (…), (…) tail`.
#[derive(Debug)]
pub(crate) struct Rows {
    head: &'static str,
    tail: &'static str,
    width: usize,
    values: Vec<Value>,
}

/// How many rows a statement may have. Few numbers, so that there are few texts to be prepared;
/// small ones, so that no statement has more placeholders than a database takes.
const SIZES: [usize; 4] = [64, 16, 4, 1];

impl Rows {
    /// No rows yet. Each is going to have `width` values.
    pub(crate) fn new(head: &'static str, width: usize, tail: &'static str) -> Self {
        Self { head, tail, width, values: Vec::new() }
    }

    /// The next value of the row.
    pub(crate) fn bind(&mut self, value: impl Bind) -> &mut Self {
        self.values.push(Bind::bind(Some(value)));
        self
    }

    /// The statements, which have all the rows together.
    pub(crate) fn queries(self) -> Vec<Query> {
        let mut left = self.values.len() / self.width;
        let mut values = self.values.into_iter();
        let mut queries = Vec::new();
        for size in SIZES {
            while left >= size {
                left -= size;
                let mut query = Query::new(self.head);
                for (index, value) in values.by_ref().take(size * self.width).enumerate() {
                    let between = match index % self.width {
                        0 if index == 0 => "(",
                        0 => "), (",
                        _ => ", ",
                    };
                    query.push(between).push_value(value);
                }
                query.push(")").push(self.tail);
                queries.push(query);
            }
        }
        queries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_in_one_statement() {
        for count in [0_u32, 1, 2, 5, 21, 300] {
            let mut rows = Rows::new("INSERT INTO t VALUES ", 2, " RETURNING a");
            for number in 0..count {
                rows.bind(number).bind("x");
            }
            let texts: Vec<_> = rows.queries().iter().map(|query| query.text().to_owned()).collect();
            let placeholders: usize = texts.iter().map(|text| text.matches('$').count()).sum();
            assert_eq!(placeholders, 2 * count as usize);
            assert!(texts.iter().all(|text| text.ends_with(") RETURNING a")), "{texts:?}");
        }
        let mut rows = Rows::new("V ", 2, "");
        for number in 0..4_u32 {
            rows.bind(number).bind(number);
        }
        assert_eq!(rows.queries()[0].text(), "V ($1, $2), ($3, $4), ($5, $6), ($7, $8)");
    }
}
