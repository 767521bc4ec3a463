//! Search: the outbox in both databases, and which index answers.
//!
//! PostgreSQL has the index beside the rows ([`tsearch`]), SQLite in a file of its own ([`fts`]), so
//! that indexing never keeps the one writer from accepting mail. Both read what may change (folder,
//! status, tags) from the rows themselves ([`condition`]).

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{MessageId, TenantId, Timestamp};

use super::driver::{Columns, Query, Row, Rows, Scope, Transaction, failed};
use super::storage::Parts;
use crate::error::{StoreError, StoreErrorKind};
use crate::message::{MessagePosition, Page};
use crate::search::{SearchDocument, SearchIndex, SearchOutbox, SearchRequest, UnindexedMessage};
use crate::sql::statement;

mod condition;
mod fts;
mod tsearch;

pub(super) use fts::FtsIndex;

/// Which index answers.
#[derive(Debug)]
pub(super) enum Search {
    /// None: nothing is indexed, and nothing is noted.
    Off,
    /// That of PostgreSQL, in the database itself.
    Postgres,
    /// That of SQLite, in a file beside the database.
    Sqlite(FtsIndex),
}

/// Before every message.
const START: (TenantId, MessageId) = (TenantId::from_bytes([0; 16]), MessageId::from_bytes([0; 16]));

impl Parts {
    /// Makes sure that the index knows every message, or is going to.
    pub(super) async fn open_search(&self) -> Result<(), StoreError> {
        let search = match &self.search {
            // Messages that come in now are not noted: whoever switches it on again starts anew.
            Search::Off => return self.forget_search().await,
            search => search,
        };
        let whole = match search {
            Search::Sqlite(index) if index.is_missing() => false,
            _ => self.search_state().await?.is_some(),
        };
        if !whole {
            self.begin_rebuild().await?;
        }
        match search {
            // Mail comes first: a search that does not work must not keep the server from starting.
            Search::Sqlite(index) => match index.open().await {
                Err(error) if error.kind() == StoreErrorKind::Corrupt => {
                    self.begin_rebuild().await?;
                    index.clear().await?;
                }
                Err(error) => tracing::error!(component = "store", %error, "the search index can't be opened"),
                // What was purged while nobody kept the index is to leave it, too.
                Ok(()) if !whole => {
                    if let Err(error) = index.clear().await {
                        tracing::error!(component = "store", %error, "the search index can't be cleared");
                    }
                }
                Ok(()) => {}
            },
            Search::Off | Search::Postgres => {}
        }
        Ok(())
    }

    /// Has all messages indexed again, if there are any.
    async fn begin_rebuild(&self) -> Result<(), StoreError> {
        let failed = || failed("open storage", "begin the search index");
        let found = self.database.fetch_one(Scope::All, Query::new(statement::search::HAS_MESSAGES)).await;
        let found: bool = Columns::new("open storage", &found.map_err(failed())?).value("found")?;
        let mut transaction = self.database.begin(Scope::All).await.map_err(failed())?;
        set_state(&mut transaction, found.then_some(START)).await.map_err(failed())?;
        transaction.commit().await.map_err(failed())
    }

    async fn forget_search(&self) -> Result<(), StoreError> {
        if self.search_state().await?.is_some() {
            let forgotten = self.database.execute(Scope::All, Query::new(statement::search::FORGET_STATE)).await;
            forgotten.map_err(failed("open storage", "forget the search index"))?;
        }
        Ok(())
    }

    /// How far the index is made; `None` if that is not known.
    async fn search_state(&self) -> Result<Option<Option<(TenantId, MessageId)>>, StoreError> {
        let found = self.database.fetch_optional(Scope::All, Query::new(statement::search::STATE)).await;
        let row = found.map_err(failed("read search state", "read"))?;
        row.map(|row| progress(&Columns::new("read search state", &row))).transpose()
    }
}

#[async_trait]
impl SearchIndex for Parts {
    fn name(&self) -> &'static str {
        match &self.search {
            Search::Off => "none",
            Search::Postgres => "postgresql",
            Search::Sqlite(_) => "sqlite",
        }
    }

    async fn index(&self, documents: Vec<SearchDocument>) -> Result<(), StoreError> {
        match &self.search {
            Search::Off => Err(off("index")),
            Search::Postgres => tsearch::index(&self.database, documents).await,
            Search::Sqlite(index) => index.index(documents).await,
        }
    }

    async fn remove(&self, tenant: TenantId, messages: &[MessageId]) -> Result<(), StoreError> {
        match &self.search {
            Search::Off => Err(off("remove from index")),
            Search::Postgres => tsearch::remove(&self.database, tenant, messages).await,
            Search::Sqlite(index) => index.remove(tenant, messages).await,
        }
    }

    async fn clear(&self) -> Result<(), StoreError> {
        match &self.search {
            Search::Off => Err(off("clear index")),
            Search::Postgres => tsearch::clear(&self.database).await,
            Search::Sqlite(index) => index.clear().await,
        }
    }

    async fn search(&self, tenant: TenantId, request: &SearchRequest) -> Result<Page<MessagePosition>, StoreError> {
        match &self.search {
            Search::Off => Err(off("search")),
            Search::Postgres => tsearch::search(&self.database, tenant, request).await,
            Search::Sqlite(index) => index.search(tenant, request).await,
        }
    }
}

#[async_trait]
impl SearchOutbox for Parts {
    async fn claim(&self, now: Timestamp, max: u32, ttl: Duration) -> Result<Vec<UnindexedMessage>, StoreError> {
        let query = Query::new(statement::search::claim_notes(self.database.dialect()));
        let query = query.bind(now).bind(max).bind(now.plus(ttl));
        // Whoever forgets it finds the notes again.
        let failed = || failed("claim notes", "take");
        let mut transaction = self.database.begin_lazy(Scope::All).await.map_err(failed())?;
        let rows = self.database.within(transaction.fetch_all(query)).await.map_err(failed())?;
        self.database.within(transaction.commit()).await.map_err(failed())?;
        let mut notes = Vec::with_capacity(rows.len());
        for row in &rows {
            let columns = Columns::new("claim notes", row);
            let (tenant, message) = named(&columns)?;
            notes.push(UnindexedMessage { number: columns.value("number")?, tenant, message });
        }
        // RETURNING promises no order.
        notes.sort_unstable_by_key(|note| note.number);
        Ok(notes)
    }

    async fn settle(&self, notes: &[UnindexedMessage]) -> Result<(), StoreError> {
        let failed = || failed("settle notes", "remove");
        let mut deletes = Rows::new(statement::search::DELETE_NOTES, 3, statement::search::DELETE_NOTES_TAIL);
        for note in notes {
            deletes.bind(note.number).bind(note.tenant.as_bytes()).bind(note.message.as_bytes());
        }
        // What is settled twice was indexed twice, which changes nothing.
        let transaction = self.database.begin_lazy(Scope::All).await.map_err(failed())?;
        self.database.within(transaction.execute_and_commit(deletes.queries())).await.map_err(failed())
    }

    async fn rebuild(&self) -> Result<(), StoreError> {
        let failed = || failed("rebuild index", "begin");
        let mut transaction = self.database.begin(Scope::All).await.map_err(failed())?;
        set_state(&mut transaction, Some(START)).await.map_err(failed())?;
        transaction.commit().await.map_err(failed())?;
        self.changes.search.bump();
        Ok(())
    }

    async fn refill(&self, max: u32) -> Result<u32, StoreError> {
        let failed = || failed("rebuild index", "note messages");
        let mut transaction = self.database.begin(Scope::All).await.map_err(failed())?;
        let row = transaction.fetch_optional(Query::new(statement::search::STATE)).await.map_err(failed())?;
        let state = row.map(|row| progress(&Columns::new("rebuild index", &row))).transpose()?.flatten();
        let Some((tenant, message)) = state else { return Ok(0) };
        let further = Query::new(statement::search::NOTE_FURTHER_MESSAGES);
        let further = further.bind(tenant.as_bytes()).bind(message.as_bytes()).bind(max);
        let noted = transaction.fetch_all(further).await.map_err(failed())?;
        let mut last = None;
        for row in &noted {
            last = last.max(Some(named(&Columns::new("rebuild index", row))?));
        }
        set_state(&mut transaction, last).await.map_err(failed())?;
        transaction.commit().await.map_err(failed())?;
        Ok(u32::try_from(noted.len()).unwrap_or(u32::MAX))
    }

    async fn is_rebuilding(&self) -> Result<bool, StoreError> {
        Ok(self.search_state().await?.flatten().is_some())
    }

    async fn pending(&self) -> Result<u64, StoreError> {
        let counted = self.database.fetch_one(Scope::All, Query::new(statement::search::COUNT_NOTES)).await;
        Columns::new("count notes", &counted.map_err(failed("count notes", "read"))?).number("pending")
    }

    fn version(&self) -> u64 {
        self.changes.search.version()
    }

    async fn changed(&self, seen: u64) -> u64 {
        self.changes.search.changed(seen).await
    }
}

/// The statements that note that the index does not know these messages.
pub(super) fn insert_notes(messages: impl Iterator<Item = (TenantId, MessageId)>) -> Vec<Query> {
    let mut inserts = Rows::to_insert(statement::search::INSERT_NOTES, 2);
    for (tenant, message) in messages {
        inserts.bind(tenant.as_bytes()).bind(message.as_bytes());
    }
    inserts.queries()
}

async fn set_state(transaction: &mut Transaction, last: Option<(TenantId, MessageId)>) -> Result<(), sqlx::Error> {
    let tenant = last.as_ref().map(|(tenant, _)| tenant.as_bytes());
    let message = last.as_ref().map(|(_, message)| message.as_bytes());
    transaction.execute(Query::new(statement::search::SET_STATE).bind(tenant).bind(message)).await.map(drop)
}

/// The documents, each message once: as it was known last.
fn latest(documents: Vec<SearchDocument>) -> impl Iterator<Item = SearchDocument> {
    let named = documents.into_iter().map(|document| ((document.row.tenant, document.row.id), document));
    named.collect::<BTreeMap<_, _>>().into_values()
}

/// The message and tenant that a row names.
fn named(columns: &Columns<'_>) -> Result<(TenantId, MessageId), StoreError> {
    Ok((TenantId::from_bytes(columns.id("tenant_id")?), MessageId::from_bytes(columns.id("message_id")?)))
}

/// The last message for which a note was written; `None` if the index is whole.
fn progress(columns: &Columns<'_>) -> Result<Option<(TenantId, MessageId)>, StoreError> {
    match columns.value::<Option<uuid::Uuid>>("message_id")? {
        Some(_) => named(columns).map(Some),
        None => Ok(None),
    }
}

/// The page that rows make, one of which may be too many.
fn page(rows: &[Row], limit: u32) -> Result<Page<MessagePosition>, StoreError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let position = |row| {
        let columns = Columns::new("search", row);
        Ok(MessagePosition { received_at: columns.time("received_at")?, id: MessageId::from_bytes(columns.id("id")?) })
    };
    Ok(Page { items: rows.iter().take(limit).map(position).collect::<Result<_, _>>()?, has_more: rows.len() > limit })
}

fn off(operation: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, operation, "search is switched off")
}
