//! Many rows in few statements: each statement costs a way to the database and back.

use super::Query;
use super::value::{Bind, Value};

/// Rows of values, for a statement of the form `head (…), (…) tail`. It gets rows of NULL, too, which
/// it must not take for anything.
#[derive(Debug)]
pub(crate) struct Rows {
    head: &'static str,
    open: &'static str,
    tail: &'static str,
    width: usize,
    values: Vec<Value>,
}

/// No statement has more rows, so that none has more placeholders than a database takes.
const MOST: usize = 64;

impl Rows {
    /// No rows yet. Each is going to have `width` values.
    pub(crate) fn new(head: &'static str, width: usize, tail: &'static str) -> Self {
        Self { head, open: "", tail, width, values: Vec::new() }
    }

    /// Rows to insert: `head` names the table and its columns, of which the first is never NULL.
    pub(crate) fn to_insert(head: &'static str, width: usize) -> Self {
        let (open, tail) = (" SELECT v.* FROM (VALUES ", ") AS v WHERE v.column1 IS NOT NULL");
        Self { head, open, tail, width, values: Vec::new() }
    }

    /// The next value of the row.
    pub(crate) fn bind(&mut self, value: impl Bind) -> &mut Self {
        self.values.push(Bind::bind(Some(value)));
        self
    }

    /// The statements, which have all the rows together. Their numbers of rows are powers of two, so
    /// that there are few texts to be prepared: what is missing are rows of NULL.
    pub(crate) fn queries(self) -> Vec<Query> {
        let Self { head, open, tail, width, values } = self;
        let mut left = values.len() / width;
        let mut values = values.into_iter();
        let mut queries = Vec::new();
        while left > 0 {
            let rows = left.min(MOST);
            left -= rows;
            let given: Vec<_> = values.by_ref().take(rows * width).collect();
            let nothing: Vec<_> = given[..width].iter().map(Value::null).collect();
            let missing = (rows.next_power_of_two() - rows) * width;
            let filled = given.into_iter().chain(nothing.into_iter().cycle().take(missing));
            let mut query = Query::new(head);
            query.push(open);
            for (index, value) in filled.enumerate() {
                let between = match index % width {
                    0 if index == 0 => "(",
                    0 => "), (",
                    _ => ", ",
                };
                query.push(between).push_value(value);
            }
            query.push(")").push(tail);
            queries.push(query);
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
            let rows = count / 64 * 64 + [0, (count % 64).next_power_of_two()][usize::from(count % 64 > 0)];
            assert_eq!(placeholders, 2 * rows as usize);
            assert!(texts.iter().all(|text| text.ends_with(") RETURNING a")), "{texts:?}");
        }
        let mut rows = Rows::new("V ", 2, "");
        for number in 0..4_u32 {
            rows.bind(number).bind(number);
        }
        assert_eq!(rows.queries()[0].text(), "V ($1, $2), ($3, $4), ($5, $6), ($7, $8)");
    }
}
