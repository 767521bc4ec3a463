//! The index of SQLite: FTS5, in a file beside the database.
//!
//! Words come cut, with spaces between them, so the tokenizer has only to take them apart again. The
//! number of a document grows with its time of receipt: FTS5 finds the highest numbers first without
//! sorting, so a page of hits costs the same however many there are. What is known besides words and
//! never changes (tenant, mailbox, domains, …) is a column of words, too.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mairust_core::{MessageId, TenantId, Timestamp};
use tokio::sync::RwLock;

use super::condition;
use crate::durability::Durability;
use crate::error::{StoreError, StoreErrorKind};
use crate::message::{MessagePosition, Page};
use crate::search::{
    Phrase, SearchDocument, SearchField, SearchQuery, SearchRequest, SearchTerm, of_domain, of_fact, of_mailbox,
    of_message_id, of_tenant,
};
use crate::sql::driver::{Columns, Database, Query, Row, Rows, Scope, Transaction, failed};
use crate::sql::{sqlite, statement};

/// The index in its file; made again when it is damaged.
#[derive(Debug)]
pub(in crate::sql) struct FtsIndex {
    path: PathBuf,
    /// The database whose rows are read.
    rows: PathBuf,
    durability: Durability,
    deadline: Duration,
    /// Once it could be opened.
    database: RwLock<Option<Database>>,
}

/// Numbers of documents that one microsecond has.
const TIES: i64 = 1 << 12;
/// The microsecond that has the numbers from 0 on, so that 64 bits reach from 1948 to 2091.
const EPOCH: i64 = 1_577_836_800_000_000;

impl FtsIndex {
    /// The index of a database in this file; nothing is opened yet.
    pub(in crate::sql) fn new(rows: &Path, durability: Durability, deadline: Duration) -> Self {
        let mut path = rows.as_os_str().to_owned();
        path.push("-search");
        Self { path: path.into(), rows: rows.to_owned(), durability, deadline, database: RwLock::default() }
    }

    /// Whether there is no index yet, or none any more.
    pub(super) fn is_missing(&self) -> bool {
        !self.path.exists()
    }

    /// Opens it, and makes it if it is not there.
    pub(super) async fn open(&self) -> Result<(), StoreError> {
        let mut database = self.database.write().await;
        if database.is_none() {
            *database = Some(self.opened().await?);
        }
        Ok(())
    }

    pub(in crate::sql) async fn close(&self) {
        if let Some(database) = self.database.write().await.take() {
            database.close().await;
        }
    }

    pub(super) async fn index(&self, documents: Vec<SearchDocument>) -> Result<(), StoreError> {
        self.open().await?;
        let database = self.database.read().await;
        let mut transaction = begin(database.as_ref()).await?;
        let failure = |error| Self::failure("index", "write", error);
        let documents = numbered(&mut transaction, super::latest(documents).collect()).await.map_err(failure)?;
        transaction.execute_all(words(&documents)).await.map_err(failure)?;
        transaction.commit().await.map_err(|error| Self::failure("index", "commit", error))
    }

    pub(super) async fn remove(&self, tenant: TenantId, messages: &[MessageId]) -> Result<(), StoreError> {
        self.open().await?;
        let database = self.database.read().await;
        let mut transaction = begin(database.as_ref()).await?;
        for message in messages {
            let removed = remove(&mut transaction, tenant, *message).await;
            removed.map_err(|error| Self::failure("remove from index", message, error))?;
        }
        transaction.commit().await.map_err(|error| Self::failure("remove from index", "commit", error))
    }

    /// Removes everything; what is damaged with its file.
    pub(super) async fn clear(&self) -> Result<(), StoreError> {
        match self.clear_tables().await {
            Err(error) if error.kind() == StoreErrorKind::Corrupt => {}
            cleared => return cleared,
        }
        tracing::warn!(component = "store", file = %self.path.display(), "the search index is damaged, it is made again");
        let mut database = self.database.write().await;
        if let Some(damaged) = database.take() {
            damaged.close().await;
        }
        for suffix in ["", "-wal", "-shm"] {
            let mut file = self.path.as_os_str().to_owned();
            file.push(suffix);
            match tokio::fs::remove_file(&file).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    let why = "a damaged file can't be removed";
                    return Err(StoreError::new(StoreErrorKind::Unavailable, "clear index", why).with_source(error));
                }
                _ => {}
            }
        }
        *database = Some(self.opened().await?);
        Ok(())
    }

    pub(super) async fn search(
        &self,
        tenant: TenantId,
        request: &SearchRequest,
    ) -> Result<Page<MessagePosition>, StoreError> {
        self.open().await?;
        let database = self.database.read().await;
        let database = database.as_ref().ok_or_else(closed)?;
        let mut bounds = bounds(&request.query, request.now);
        if let Some(after) = request.after {
            bounds.1 = bounds.1.min(self.behind(database, tenant, after).await?);
        }
        let statement = select(tenant, request, bounds);
        let rows = database.fetch_all(tenant, statement).await;
        super::page(&rows.map_err(|error| Self::failure("search", "read", error))?, request.limit)
    }

    /// The number below which everything stands that is behind a position.
    async fn behind(
        &self,
        database: &Database,
        tenant: TenantId,
        position: MessagePosition,
    ) -> Result<i64, StoreError> {
        let query = Query::new(statement::search::FTS_DOCUMENT);
        let query = query.bind(tenant.as_bytes()).bind(position.id.as_bytes());
        let found = database.fetch_optional(tenant, query).await;
        match found.map_err(|error| Self::failure("search", "read position", error))? {
            Some(row) => Columns::new("search", &row).value("id"),
            // It was removed in the meantime: those of the same moment come once more rather than never.
            None => Ok(first_number(position.received_at) + TIES),
        }
    }

    async fn opened(&self) -> Result<Database, StoreError> {
        let database = sqlite::open_index(&self.path, &self.rows, self.durability, self.deadline).await?;
        for statement in statement::search::CREATE_FTS {
            let made = database.execute(Scope::All, Query::new(statement)).await;
            made.map_err(|error| Self::failure("open index", self.path.display(), error))?;
        }
        Ok(database)
    }

    async fn clear_tables(&self) -> Result<(), StoreError> {
        self.open().await?;
        let database = self.database.read().await;
        let mut transaction = begin(database.as_ref()).await?;
        for statement in statement::search::FTS_CLEAR {
            let cleared = transaction.execute(Query::new(statement)).await;
            cleared.map_err(|error| Self::failure("clear index", "delete", error))?;
        }
        transaction.commit().await.map_err(|error| Self::failure("clear index", "commit", error))
    }

    fn failure(operation: &'static str, context: impl std::fmt::Display, error: sqlx::Error) -> StoreError {
        failed(operation, context)(error)
    }
}

async fn begin(database: Option<&Database>) -> Result<Transaction, StoreError> {
    database.ok_or_else(closed)?.begin(Scope::All).await.map_err(failed("write index", "begin"))
}

fn closed() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "open index", "the search index is closed")
}

/// Documents with their numbers, in the order of those, for FTS5 writes what it has whenever numbers do
/// not ascend. A document has its own number, whose words are removed, or gets a new one.
async fn numbered(
    transaction: &mut Transaction,
    documents: Vec<SearchDocument>,
) -> Result<Vec<(i64, SearchDocument)>, sqlx::Error> {
    let known = own_numbers(transaction, &documents).await?;
    let delete = |number: &i64| Query::new(statement::search::FTS_DELETE_WORDS).bind(*number);
    transaction.execute_all(known.values().map(delete)).await?;
    let is_new = |document: &&SearchDocument| !known.contains_key(&(document.row.tenant, document.row.id));
    let firsts: BTreeSet<_> = documents.iter().filter(is_new).map(|new| first_number(new.row.received_at)).collect();
    let mut next = next_numbers(transaction, firsts).await?;
    let mut numbered = Vec::with_capacity(documents.len());
    let mut inserts = Rows::to_insert(statement::search::FTS_INSERT_DOCUMENTS, 3);
    for document in documents {
        let (tenant, message) = (document.row.tenant, document.row.id);
        let number = match known.get(&(tenant, message)) {
            Some(number) => *number,
            None => {
                let next = next.get_mut(&first_number(document.row.received_at)).ok_or(sqlx::Error::RowNotFound)?;
                inserts.bind(*next).bind(tenant.as_bytes()).bind(message.as_bytes());
                *next += 1;
                *next - 1
            }
        };
        numbered.push((number, document));
    }
    transaction.execute_all(inserts.queries()).await?;
    numbered.sort_unstable_by_key(|(number, _)| *number);
    Ok(numbered)
}

/// The numbers that messages have already.
async fn own_numbers(
    transaction: &mut Transaction,
    documents: &[SearchDocument],
) -> Result<HashMap<(TenantId, MessageId), i64>, sqlx::Error> {
    let (head, tail) = statement::search::FTS_DOCUMENTS;
    let mut rows = Rows::new(head, 2, tail);
    for document in documents {
        rows.bind(document.row.tenant.as_bytes()).bind(document.row.id.as_bytes());
    }
    let mut known = HashMap::new();
    for query in rows.queries() {
        for row in transaction.fetch_all(query).await? {
            let columns = Columns::new("index", &row);
            let named = super::named(&columns).map_err(|error| sqlx::Error::Decode(error.into()))?;
            known.insert(named, number_of(&row, "id")?);
        }
    }
    Ok(known)
}

/// For the first number of each moment, the next one that no document has.
async fn next_numbers(transaction: &mut Transaction, firsts: BTreeSet<i64>) -> Result<HashMap<i64, i64>, sqlx::Error> {
    let (head, tail) = statement::search::FTS_NEXT_IDS;
    let mut rows = Rows::new(head, 2, tail);
    for first in firsts {
        rows.bind(first).bind(first + TIES);
    }
    let mut next = HashMap::new();
    for query in rows.queries() {
        for row in transaction.fetch_all(query).await? {
            next.insert(number_of(&row, "first")?, number_of(&row, "next")?);
        }
    }
    Ok(next)
}

async fn remove(transaction: &mut Transaction, tenant: TenantId, message: MessageId) -> Result<(), sqlx::Error> {
    let Some(number) = own_number(transaction, tenant, message).await? else { return Ok(()) };
    transaction.execute(Query::new(statement::search::FTS_DELETE_WORDS).bind(number)).await?;
    transaction.execute(Query::new(statement::search::FTS_DELETE_DOCUMENT).bind(number)).await.map(drop)
}

async fn own_number(
    transaction: &mut Transaction,
    tenant: TenantId,
    message: MessageId,
) -> Result<Option<i64>, sqlx::Error> {
    let query = Query::new(statement::search::FTS_DOCUMENT).bind(tenant.as_bytes()).bind(message.as_bytes());
    transaction.fetch_optional(query).await?.map(|row| number_of(&row, "id")).transpose()
}

fn number_of(row: &Row, column: &'static str) -> Result<i64, sqlx::Error> {
    Columns::new("index", row).value(column).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// The first of the numbers that documents have which were received at this time.
fn first_number(received_at: Timestamp) -> i64 {
    const REACH: i64 = i64::MAX / TIES;
    received_at.as_micros().saturating_sub(EPOCH).clamp(-REACH, REACH - 1) * TIES
}

/// The statements that add the words of documents.
fn words(documents: &[(i64, SearchDocument)]) -> Vec<Query> {
    let mut inserts = Rows::to_insert(statement::search::FTS_INSERT_WORDS, 8);
    for (number, document) in documents {
        let words = document.words();
        inserts
            .bind(*number)
            .bind(words.subject)
            .bind(words.from)
            .bind(words.to)
            .bind(words.cc)
            .bind(words.body)
            .bind(words.file_names)
            .bind(document.facts());
    }
    inserts.queries()
}

/// The statement of a search among the documents whose numbers are in these bounds, the first included.
fn select(tenant: TenantId, request: &SearchRequest, bounds: (i64, i64)) -> Query {
    let scope = request.mailbox.map_or_else(|| of_tenant(tenant), of_mailbox);
    let mut wanted = format!("facts : {scope}");
    let mut others = Vec::new();
    let conjuncts = match &request.query {
        SearchQuery::All(parts) => parts.iter().collect(),
        query => vec![query],
    };
    for conjunct in conjuncts {
        match expression(conjunct, &scope) {
            // Writing to a String never fails.
            Some(expression) => drop(write!(wanted, " AND {expression}")),
            None => others.push(conjunct),
        }
    }
    let mut select = Query::new(statement::search::FTS_SEARCH);
    select.push_bind(wanted).push(" AND words.rowid >= ").push_bind(bounds.0);
    select.push(" AND words.rowid < ").push_bind(bounds.1);
    select.push(" AND d.tenant_id = ").push_bind(tenant.as_bytes());
    if let Some(mailbox) = request.mailbox {
        select.push(" AND m.mailbox_id = ").push_bind(mailbox.as_bytes());
    }
    for condition in others {
        select.push(" AND ");
        condition::push(&mut select, condition, request.now, &|part, statement| match expression(part, &scope) {
            Some(expression) => {
                statement.push(statement::search::FTS_MATCH).push_bind(expression).push(")");
                true
            }
            None => false,
        });
    }
    // One more than asked for tells whether there are more.
    select.push(" ORDER BY words.rowid DESC LIMIT ").push_bind(i64::from(request.limit) + 1);
    select
}

/// The bounds of numbers that follow from the times which a query names, the first included.
fn bounds(query: &SearchQuery, now: Timestamp) -> (i64, i64) {
    let from = |at| (first_number(at), i64::MAX);
    let until = |at| (i64::MIN, first_number(at));
    match query {
        SearchQuery::All(parts) => parts
            .iter()
            .map(|part| bounds(part, now))
            .fold((i64::MIN, i64::MAX), |all, one| (all.0.max(one.0), all.1.min(one.1))),
        SearchQuery::Term(SearchTerm::After(at)) => from(*at),
        SearchQuery::Term(SearchTerm::Before(at)) => until(*at),
        SearchQuery::Term(SearchTerm::Newer(age)) => from(now.minus(*age)),
        SearchQuery::Term(SearchTerm::Older(age)) => until(now.minus(*age)),
        _ => (i64::MIN, i64::MAX),
    }
}

/// A query as an expression of FTS5 (<https://www.sqlite.org/fts5.html#full_text_query_syntax>); `None` if
/// words alone can't answer it. `scope` is what all documents have that are searched.
fn expression(query: &SearchQuery, scope: &str) -> Option<String> {
    let joined = |parts: &[SearchQuery], between: &str| {
        let parts: Option<Vec<_>> = parts.iter().map(|part| expression(part, scope)).collect();
        parts.map(|parts| format!("({})", parts.join(between)))
    };
    match query {
        SearchQuery::All(parts) => joined(parts, " AND "),
        SearchQuery::Any(parts) => joined(parts, " OR "),
        SearchQuery::Not(part) => Some(format!("(facts : {scope} NOT {})", expression(part, scope)?)),
        SearchQuery::Term(term) => match term {
            SearchTerm::Domain(domain) => Some(format!("(facts : {})", of_domain(domain))),
            SearchTerm::Fact(fact) => Some(format!("(facts : {})", of_fact(*fact))),
            SearchTerm::MessageId(id) => Some(format!("(facts : {})", of_message_id(id))),
            SearchTerm::Text(field, text) => Some(phrase(*field, &Phrase::of(text)?)),
            _ => None,
        },
    }
}

fn phrase(field: SearchField, phrase: &Phrase) -> String {
    let columns = match field {
        SearchField::Anywhere => "{subject sender recipients cc body}",
        SearchField::Body => "body",
        SearchField::Cc => "cc",
        SearchField::FileName => "file_names",
        SearchField::From => "sender",
        SearchField::Subject => "subject",
        SearchField::To => "{recipients cc}",
    };
    // Words hold letters and digits only, so no quote can end the phrase.
    let prefix = if phrase.prefix { " *" } else { "" };
    format!("({columns} : \"{}\"{prefix})", phrase.words.join(" "))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use tempfile::TempDir;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix(1_763_780_646);
    const DEADLINE: Duration = Duration::from_secs(10);

    #[test]
    fn numbers_grow_with_time() {
        let at = |seconds| first_number(Timestamp::from_unix(seconds));
        assert!(at(-700_000_000) < at(0) && at(0) < at(1_763_780_646) && at(1_763_780_646) < at(3_800_000_000));
        assert_eq!(first_number(NOW.plus(Duration::from_micros(1))) - first_number(NOW), TIES);
        for far in [i64::MIN, i64::MAX] {
            assert!(first_number(Timestamp::from_micros(far)).checked_add(TIES).is_some());
        }
    }

    #[tokio::test]
    async fn hits_come_in_order_without_sorting() {
        let directory = TempDir::new().unwrap();
        let rows = directory.path().join("mail.db");
        sqlite::open(&rows, Durability::Relaxed, DEADLINE).await.unwrap().close().await;
        let index = FtsIndex::new(&rows, Durability::Relaxed, DEADLINE);
        index.open().await.unwrap();
        let database = index.database.read().await;
        for text in ["report", "report -other", "in:inbox", "report (tag:x OR other)", "newer:1d from:a"] {
            let request = SearchRequest::new(text.parse().unwrap(), NOW);
            let mut explain = Query::new("EXPLAIN QUERY PLAN ");
            explain.push(select(TenantId::new(NOW), &request, bounds(&request.query, NOW)).text());
            let plan = database.as_ref().unwrap().fetch_all(Scope::All, explain).await.unwrap();
            let plan: Vec<String> = plan.iter().map(|row| Columns::new("plan", row).value("detail").unwrap()).collect();
            assert!(plan[0].contains("VIRTUAL TABLE"), "{text}: {plan:?}");
            // Rows are looked up, never searched through.
            let looked_up = |step: &String| step.contains("VIRTUAL TABLE") || !step.contains("SCAN");
            assert!(plan.iter().all(|step| looked_up(step) && !step.contains("ORDER BY")), "{text}: {plan:?}");
        }
    }

    #[tokio::test]
    async fn the_path_may_be_any_bytes() {
        let directory = TempDir::new().unwrap();
        let folder = directory.path().join(OsStr::from_bytes(b"mail \xff"));
        std::fs::create_dir(&folder).unwrap();
        let rows = folder.join("mail.db");
        sqlite::open(&rows, Durability::Relaxed, DEADLINE).await.unwrap().close().await;
        let index = FtsIndex::new(&rows, Durability::Relaxed, DEADLINE);
        let request = SearchRequest::new("report".parse().unwrap(), NOW);
        assert!(index.search(TenantId::new(NOW), &request).await.unwrap().items.is_empty());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_search_ends_at_the_deadline() {
        let directory = TempDir::new().unwrap();
        let rows = directory.path().join("mail.db");
        sqlite::open(&rows, Durability::Relaxed, DEADLINE).await.unwrap().close().await;
        let path = directory.path().join("mail.db-search");
        let deadline = Duration::from_millis(50);
        let database = sqlite::open_index(&path, &rows, Durability::Relaxed, deadline).await.unwrap();
        let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
        // As many as there are connections: none of them is kept by what nobody waits for.
        for _ in 0..8 {
            assert!(database.fetch_all(Scope::All, Query::new(endless)).await.is_err());
        }
        let mut tries = 0;
        while database.fetch_all(Scope::All, Query::new("SELECT 1")).await.is_err() {
            tries += 1;
            assert!(tries < 100, "the connections never come back");
        }
    }
}
