//! Searching without an index: rows are read from the newest on, as long as is reasonable.

use mairust_core::TenantId;

use super::SearchRequest;
use super::document::SearchDocument;
use super::evaluate::matches;
use super::query::{SearchFact, SearchField, SearchQuery, SearchTerm};
use crate::error::{StoreError, StoreErrorKind};
use crate::message::{MessagePosition, MessageQuery, MessageRow, MessageStore};

/// Rows that one scan reads at most.
pub const MAX_ROWS: u32 = 5_000;

/// Rows that are read at a time.
const PAGE: u32 = 500;

/// What a scan found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Scanned {
    /// The messages, newest first.
    pub items: Vec<MessageRow>,
    /// Where the next scan is to go on; `None` if there is nothing behind. A page may be short, or empty,
    /// and have one: then as many rows were read as is reasonable.
    pub next: Option<MessagePosition>,
}

/// Searches the rows of a tenant. Of the texts only their beginnings ([`MessageRow::preview`]) are
/// looked at, so less is found than with an index.
///
/// # Errors
/// `Invalid` if the query asks for what rows do not hold, otherwise those of [`MessageStore::list`].
pub async fn scan(
    messages: &dyn MessageStore,
    tenant: TenantId,
    request: &SearchRequest,
) -> Result<Scanned, StoreError> {
    if needs_body(&request.query) {
        let why = "has:html, has:remote and filename: need the index";
        return Err(StoreError::new(StoreErrorKind::Invalid, "search rows", why));
    }
    let wanted = usize::try_from(request.limit).unwrap_or(usize::MAX);
    let mut list =
        MessageQuery { mailbox: request.mailbox, after: request.after, limit: PAGE, ..MessageQuery::default() };
    let mut items = Vec::new();
    for _ in 0..MAX_ROWS / PAGE {
        let page = messages.list(tenant, &list).await?;
        for row in page.items {
            list.after = Some(MessagePosition { received_at: row.received_at, id: row.id });
            let document = SearchDocument::of_row(row);
            if !matches(&request.query, &document, &document.words(), request.now) {
                continue;
            }
            items.push(document.row);
            if items.len() == wanted {
                return Ok(Scanned { items, next: list.after });
            }
        }
        if !page.has_more {
            return Ok(Scanned { items, next: None });
        }
    }
    Ok(Scanned { items, next: list.after })
}

fn needs_body(query: &SearchQuery) -> bool {
    match query {
        SearchQuery::All(parts) | SearchQuery::Any(parts) => parts.iter().any(needs_body),
        SearchQuery::Not(part) => needs_body(part),
        SearchQuery::Term(term) => matches!(
            term,
            SearchTerm::Fact(SearchFact::Html | SearchFact::Remote) | SearchTerm::Text(SearchField::FileName, _)
        ),
    }
}
