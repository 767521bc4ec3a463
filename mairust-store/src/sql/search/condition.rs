//! What is looked for, as a condition of a statement about a row `m` of messages.

use mairust_core::Timestamp;

use crate::message::SpamVerdict;
use crate::search::{SearchQuery, SearchTerm};
use crate::sql::driver::Query;

/// How an index appends what only it can answer, at least each term of [`Words`](crate::search::Words) and
/// of facts. Says whether this part is its own.
pub(super) type Words<'w> = &'w dyn Fn(&SearchQuery, &mut Query) -> bool;

/// Appends the condition that a query makes.
pub(super) fn push(statement: &mut Query, query: &SearchQuery, now: Timestamp, words: Words<'_>) {
    if words(query, statement) {
        return;
    }
    match query {
        SearchQuery::All(parts) => push_all(statement, parts, " AND ", now, words),
        SearchQuery::Any(parts) => push_all(statement, parts, " OR ", now, words),
        SearchQuery::Not(part) => {
            statement.push("NOT (");
            push(statement, part, now, words);
            statement.push(")");
        }
        SearchQuery::Term(term) => push_term(statement, term, now),
    }
}

fn push_all(statement: &mut Query, parts: &[SearchQuery], between: &str, now: Timestamp, words: Words<'_>) {
    for (index, part) in parts.iter().enumerate() {
        statement.push(if index == 0 { "(" } else { between });
        push(statement, part, now, words);
    }
    statement.push(")");
}

/// No condition may be NULL, for NOT would make NULL of it again.
fn push_term(statement: &mut Query, term: &SearchTerm, now: Timestamp) {
    match term {
        SearchTerm::After(at) => drop(statement.push("m.received_at >= ").push_bind(*at)),
        SearchTerm::Before(at) => drop(statement.push("m.received_at < ").push_bind(*at)),
        SearchTerm::Newer(age) => drop(statement.push("m.received_at >= ").push_bind(now.minus(*age))),
        SearchTerm::Older(age) => drop(statement.push("m.received_at < ").push_bind(now.minus(*age))),
        SearchTerm::Folder(folder) => {
            statement.push("EXISTS (SELECT 1 FROM folders f WHERE f.tenant_id = m.tenant_id AND f.id = m.folder_id");
            statement.push(" AND f.name = ").push_bind(folder.as_str()).push(")");
        }
        SearchTerm::Larger(size) => drop(statement.push("m.size > ").push_bind(size.0)),
        SearchTerm::Smaller(size) => drop(statement.push("m.size < ").push_bind(size.0)),
        SearchTerm::Spam => {
            statement.push("coalesce(m.spam_verdict, '') = ").push_bind(SpamVerdict::Spam.as_str());
        }
        SearchTerm::Status(status) => drop(statement.push("m.status = ").push_bind(status.as_str())),
        SearchTerm::Tag(tag) => {
            statement.push("EXISTS (SELECT 1 FROM message_tags t WHERE t.tenant_id = m.tenant_id");
            statement.push(" AND t.message_id = m.id AND t.tag = ").push_bind(tag.as_str()).push(")");
        }
        SearchTerm::Domain(_) | SearchTerm::Fact(_) | SearchTerm::MessageId(_) | SearchTerm::Text(..) => {
            unreachable!("{term:?} is what an index answers");
        }
    }
}
