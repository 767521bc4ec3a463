//! The index of PostgreSQL: lexemes in a `tsvector`, and the words in order beside it.
//!
//! Each word has a letter in front that names its field. A GIN index finds the documents that have all
//! words; whether they stand in a row is seen by looking into the words, for the positions of a
//! `tsvector` end at 16,383, and at 256 for each lexeme. What may change is read from the rows
//! ([`condition`]), which are behind the wall between tenants.

use mairust_core::{MessageId, TenantId};

use super::condition;
use crate::error::StoreError;
use crate::message::{MessagePosition, Page};
use crate::search::{
    Phrase, SearchDocument, SearchField, SearchQuery, SearchRequest, SearchTerm, of_domain, of_fact, of_mailbox,
    of_message_id, of_tenant,
};
use crate::sql::driver::{Database, Query, Rows, Scope, failed};
use crate::sql::statement;

pub(super) async fn index(database: &Database, documents: Vec<SearchDocument>) -> Result<(), StoreError> {
    let mut transaction = database.begin(Scope::All).await.map_err(failed("index", "begin"))?;
    let (head, tail) = statement::search::UPSERT_DOCUMENTS;
    let mut upserts = Rows::new(head, 5, tail);
    for document in super::latest(documents) {
        let words = lettered(&document);
        let lexemes = format!("{}{}", document.facts(), words.trim_end());
        let row = &document.row;
        upserts.bind(row.tenant.as_bytes()).bind(row.id.as_bytes()).bind(row.received_at).bind(words).bind(lexemes);
    }
    transaction.execute_all(upserts.queries()).await.map_err(failed("index", "write"))?;
    transaction.commit().await.map_err(failed("index", "commit"))
}

pub(super) async fn remove(database: &Database, tenant: TenantId, messages: &[MessageId]) -> Result<(), StoreError> {
    let mut transaction = database.begin(tenant).await.map_err(failed("remove from index", "begin"))?;
    for message in messages {
        let query = Query::new(statement::search::DELETE_DOCUMENT).bind(tenant.as_bytes()).bind(message.as_bytes());
        transaction.execute(query).await.map_err(failed("remove from index", message))?;
    }
    transaction.commit().await.map_err(failed("remove from index", "commit"))
}

pub(super) async fn clear(database: &Database) -> Result<(), StoreError> {
    let cleared = database.execute(Scope::All, Query::new(statement::search::CLEAR_DOCUMENTS)).await;
    cleared.map_err(failed("clear index", "delete")).map(drop)
}

pub(super) async fn search(
    database: &Database,
    tenant: TenantId,
    request: &SearchRequest,
) -> Result<Page<MessagePosition>, StoreError> {
    let rows = database.fetch_all(tenant, select(tenant, request)).await.map_err(failed("search", "read"))?;
    super::page(&rows, request.limit)
}

fn select(tenant: TenantId, request: &SearchRequest) -> Query {
    let scope = request.mailbox.map_or_else(|| of_tenant(tenant), of_mailbox);
    let mut select = Query::new(statement::search::SEARCH_DOCUMENTS);
    select.push_bind(tenant.as_bytes());
    has(select.push(" AND "), &scope);
    if let Some(mailbox) = request.mailbox {
        select.push(" AND m.mailbox_id = ").push_bind(mailbox.as_bytes());
    }
    if let Some(after) = request.after {
        select.push(" AND (d.received_at, d.message_id) < (").push_bind(after.received_at);
        select.push(", ").push_bind(after.id.as_bytes()).push(")");
    }
    select.push(" AND ");
    condition::push(&mut select, &request.query, request.now, &words);
    // One more than asked for tells whether there are more.
    select.push(" ORDER BY d.received_at DESC, d.message_id DESC LIMIT ").push_bind(i64::from(request.limit) + 1);
    select
}

/// Appends a term that rows can't answer.
fn words(query: &SearchQuery, statement: &mut Query) -> bool {
    let SearchQuery::Term(term) = query else { return false };
    match term {
        SearchTerm::Domain(domain) => has(statement, &of_domain(domain)),
        SearchTerm::Fact(fact) => has(statement, &of_fact(*fact)),
        SearchTerm::MessageId(id) => has(statement, &of_message_id(id)),
        SearchTerm::Text(field, text) => match Phrase::of(text) {
            Some(phrase) => stands(statement, letters(*field), &phrase),
            None => return false,
        },
        _ => return false,
    }
    true
}

/// Appends that a document has a lexeme.
fn has(statement: &mut Query, lexeme: &str) {
    statement.push("d.lexemes @@ ").push_bind(format!("'{lexeme}'")).push("::text::tsquery");
}

/// Appends that a phrase stands in one of the fields with these letters.
fn stands(statement: &mut Query, letters: &[char], phrase: &Phrase) {
    let together: Vec<_> = letters.iter().map(|letter| format!("({})", all_words(*letter, phrase))).collect();
    statement.push("(d.lexemes @@ ").push_bind(together.join(" | ")).push("::text::tsquery");
    if phrase.words.len() > 1 {
        for (index, letter) in letters.iter().enumerate() {
            statement.push(if index == 0 { " AND (" } else { " OR " });
            statement.push("strpos(d.words, ").push_bind(in_a_row(*letter, phrase)).push(") > 0");
        }
        statement.push(")");
    }
    statement.push(")");
}

/// An expression for documents that have all words in a field
/// (<https://www.postgresql.org/docs/current/datatype-textsearch.html#DATATYPE-TSQUERY>).
fn all_words(letter: char, phrase: &Phrase) -> String {
    // Words hold letters and digits only, so no quote can end one.
    let mut words: Vec<_> = phrase.words.iter().map(|word| format!("'{letter}{word}'")).collect();
    if let Some(last) = words.last_mut().filter(|_| phrase.prefix) {
        last.push_str(":*");
    }
    words.join(" & ")
}

/// What is in [`lettered`] words where a phrase stands.
fn in_a_row(letter: char, phrase: &Phrase) -> String {
    let mut row: String = phrase.words.iter().map(|word| format!(" {letter}{word}")).collect();
    if !phrase.prefix {
        row.push(' ');
    }
    row
}

/// All words of a document in order, each with the letter of its field in front, with a space on both
/// sides.
fn lettered(document: &SearchDocument) -> String {
    let words = document.words();
    let fields = [
        ('s', words.subject),
        ('f', words.from),
        ('r', words.to),
        ('c', words.cc),
        ('b', words.body),
        ('n', words.file_names),
    ];
    let mut all = String::from(" ");
    for (letter, words) in fields {
        for word in words.split(' ').filter(|word| !word.is_empty()) {
            all.extend([letter]);
            all.push_str(word);
            all.push(' ');
        }
    }
    all
}

fn letters(field: SearchField) -> &'static [char] {
    match field {
        SearchField::Anywhere => &['s', 'f', 'r', 'c', 'b'],
        SearchField::Body => &['b'],
        SearchField::Cc => &['c'],
        SearchField::FileName => &['n'],
        SearchField::From => &['f'],
        SearchField::Subject => &['s'],
        SearchField::To => &['r', 'c'],
    }
}
