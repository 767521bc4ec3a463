//! From the outbox into the index: one batch at a time. When and how often is the caller's business.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use mairust_core::{Body, MessageId, SearchText, TenantId, Timestamp};

use super::SearchDocument;
use crate::backend::StorageBackend;
use crate::body::interrupted;
use crate::error::{StoreError, StoreErrorKind};
use crate::message::MessageRow;

/// For how long a batch is claimed: who needs longer may see it done twice, which does no harm.
const CLAIM: Duration = Duration::from_secs(20);

/// Bodies that are read at the same time, if they have no more than [`GROUP_BYTES`] together.
const GROUP: usize = 32;
const GROUP_BYTES: u64 = 4 << 20;

/// Indexes up to `max` messages of which the index does not know, and says how many there were. A
/// message whose body is gone or damaged is indexed by what its row says. May run on several nodes at
/// once, and is safe to drop: what was not settled is done again.
///
/// # Errors
/// When the database, the bodies or the index do not answer. `Corrupt` comes from the index alone:
/// it must be made again.
pub async fn feed(storage: &dyn StorageBackend, now: Timestamp, max: u32) -> Result<u32, StoreError> {
    let notes = storage.search_outbox().claim(now, max, CLAIM).await?;
    if notes.is_empty() {
        return Ok(0);
    }
    let mut named: BTreeMap<TenantId, BTreeSet<MessageId>> = BTreeMap::new();
    for note in &notes {
        named.entry(note.tenant).or_default().insert(note.message);
    }
    for (tenant, mut messages) in named {
        let ids: Vec<_> = messages.iter().copied().collect();
        let rows = rows(storage, tenant, &ids).await?;
        for row in &rows {
            messages.remove(&row.id);
        }
        for group in groups(rows) {
            storage.search_index().index(documents(storage, group).await?).await?;
        }
        let gone: Vec<_> = messages.into_iter().collect();
        if !gone.is_empty() {
            storage.search_index().remove(tenant, &gone).await?;
        }
    }
    storage.search_outbox().settle(&notes).await?;
    Ok(u32::try_from(notes.len()).unwrap_or(u32::MAX))
}

/// Throws the index away and has all messages indexed again, by whoever calls [`refill`] and [`feed`].
///
/// # Errors
/// When the database or the index do not answer.
///
/// [`refill`]: crate::SearchOutbox::refill
pub async fn make_again(storage: &dyn StorageBackend) -> Result<(), StoreError> {
    // Before, for a crash must not leave an empty index that counts as whole; and after, for somebody
    // may have fed it what was then thrown away.
    storage.search_outbox().rebuild().await?;
    storage.search_index().clear().await?;
    storage.search_outbox().rebuild().await
}

/// The rows of messages; one that can't be read is as good as gone, for no search could show it.
async fn rows(
    storage: &dyn StorageBackend,
    tenant: TenantId,
    messages: &[MessageId],
) -> Result<Vec<MessageRow>, StoreError> {
    match storage.messages().get_all(tenant, messages).await {
        Err(error) if error.kind() == StoreErrorKind::Corrupt => {}
        read => return read,
    }
    let mut rows = Vec::with_capacity(messages.len());
    for message in messages {
        match storage.messages().get(tenant, *message).await {
            Err(error) if error.kind() == StoreErrorKind::Corrupt => {
                tracing::error!(message_id = %message, tenant_id = %tenant, %error, "a row can't be indexed");
            }
            read => rows.extend(read?),
        }
    }
    Ok(rows)
}

/// Messages whose bodies may be held in memory together.
fn groups(rows: Vec<MessageRow>) -> Vec<Vec<MessageRow>> {
    let (mut groups, mut bytes) = (Vec::<Vec<MessageRow>>::new(), 0);
    for row in rows {
        match groups.last_mut() {
            Some(group) if group.len() < GROUP && bytes + row.size <= GROUP_BYTES => {
                bytes += row.size;
                group.push(row);
            }
            _ => {
                bytes = row.size;
                groups.push(vec![row]);
            }
        }
    }
    groups
}

/// What is to be indexed of messages.
async fn documents(storage: &dyn StorageBackend, rows: Vec<MessageRow>) -> Result<Vec<SearchDocument>, StoreError> {
    let bodies = join_all(rows.iter().map(|row| storage.messages().body(row.tenant, row.id))).await;
    let mut read = Vec::with_capacity(rows.len());
    for (row, body) in rows.into_iter().zip(bodies) {
        read.push((row, known(body)?));
    }
    // Parsing takes its time.
    let parsed = tokio::task::spawn_blocking(|| read.into_iter().map(|(row, body)| document(row, body)).collect());
    let parsed: Result<Vec<_>, _> = parsed.await.map_err(|error| interrupted("index", error))?;
    parsed
}

/// A body; an error if it may be read another time.
fn known<T>(body: Result<T, StoreError>) -> Result<Result<T, StoreError>, StoreError> {
    match body {
        Err(error) if error.is_temporary() => Err(error),
        body => Ok(body),
    }
}

fn document(row: MessageRow, body: Result<Body, StoreError>) -> Result<SearchDocument, StoreError> {
    let unreadable =
        |error: std::io::Error| StoreError::new(StoreErrorKind::Corrupt, "read body", row.id).with_source(error);
    match known(body.and_then(|body| body.read_all().map_err(unreadable)))? {
        Ok(raw) => Ok(SearchDocument::new(row, SearchText::parse(&raw))),
        Err(error) => {
            tracing::warn!(message_id = %row.id, tenant_id = %row.tenant, %error, "indexed without its body");
            Ok(SearchDocument::of_row(row))
        }
    }
}
