//! Whether one message is what is looked for: the reference for every index.

use mairust_core::Timestamp;

use super::document::{SearchDocument, Words};
use super::query::{SearchFact, SearchField, SearchQuery, SearchTerm};
use super::words::Phrase;
use crate::message::SpamVerdict;

/// Whether a document is what is looked for; `words` are its own.
pub(crate) fn matches(query: &SearchQuery, document: &SearchDocument, words: &Words, now: Timestamp) -> bool {
    let matches = |part: &SearchQuery| matches(part, document, words, now);
    match query {
        SearchQuery::All(parts) => parts.iter().all(matches),
        SearchQuery::Any(parts) => parts.iter().any(matches),
        SearchQuery::Not(part) => !matches(part),
        SearchQuery::Term(term) => holds(term, document, words, now),
    }
}

fn holds(term: &SearchTerm, document: &SearchDocument, words: &Words, now: Timestamp) -> bool {
    let row = &document.row;
    match term {
        SearchTerm::After(at) => row.received_at >= *at,
        SearchTerm::Before(at) => row.received_at < *at,
        SearchTerm::Domain(domain) => document.domains().contains(domain),
        SearchTerm::Fact(SearchFact::Attachment) => row.attachments > 0,
        SearchTerm::Fact(SearchFact::Html) => document.text.html,
        SearchTerm::Fact(SearchFact::Remote) => document.text.remote,
        SearchTerm::Folder(folder) => row.folder == *folder,
        SearchTerm::Larger(size) => row.size > size.0,
        SearchTerm::MessageId(id) => row.message_id.as_ref() == Some(id),
        SearchTerm::Newer(age) => row.received_at >= now.minus(*age),
        SearchTerm::Older(age) => row.received_at < now.minus(*age),
        SearchTerm::Smaller(size) => row.size < size.0,
        SearchTerm::Spam => row.spam.is_some_and(|spam| spam.verdict == SpamVerdict::Spam),
        SearchTerm::Status(status) => row.status == *status,
        SearchTerm::Tag(tag) => row.tags.contains(tag),
        SearchTerm::Text(field, text) => Phrase::of(text).is_some_and(|phrase| {
            fields(*field, words).iter().any(|field| phrase.stands_in(&field.split(' ').collect::<Vec<_>>()))
        }),
    }
}

/// The words that a field looks in; no phrase reaches from one into the next.
fn fields(field: SearchField, words: &Words) -> Vec<&str> {
    match field {
        SearchField::Anywhere => vec![&words.subject, &words.from, &words.to, &words.cc, &words.body],
        SearchField::Body => vec![&words.body],
        SearchField::Cc => vec![&words.cc],
        SearchField::FileName => vec![&words.file_names],
        SearchField::From => vec![&words.from],
        SearchField::Subject => vec![&words.subject],
        SearchField::To => vec![&words.to, &words.cc],
    }
}
