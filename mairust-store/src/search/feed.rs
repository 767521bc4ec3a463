//! From the outbox into the index: one batch at a time. When and how often is the caller's business.

use std::time::Duration;

use mairust_core::{SearchText, TenantId, Timestamp};

use super::{SearchDocument, UnindexedMessage};
use crate::backend::StorageBackend;
use crate::error::{StoreError, StoreErrorKind};
use crate::message::MessageRow;

/// For how long a batch is claimed: who needs longer may see it done twice, which does no harm.
const CLAIM: Duration = Duration::from_secs(20);

/// Text that is held before it is indexed.
const TEXT_BYTES: usize = 4 << 20;

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
    let (mut documents, mut bytes) = (Vec::new(), 0);
    for note in &notes {
        match document(storage, note).await? {
            Some(document) => {
                bytes += document.text.body.len();
                documents.push(document);
            }
            None => storage.search_index().remove(note.tenant, &[note.message]).await?,
        }
        if bytes > TEXT_BYTES {
            storage.search_index().index(std::mem::take(&mut documents)).await?;
            bytes = 0;
        }
    }
    storage.search_index().index(documents).await?;
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

/// What is to be indexed; `None` if the message is gone.
async fn document(storage: &dyn StorageBackend, note: &UnindexedMessage) -> Result<Option<SearchDocument>, StoreError> {
    let Some(row) = known(storage, note).await? else { return Ok(None) };
    match text(storage, note.tenant, &row).await {
        Ok(text) => Ok(Some(SearchDocument::new(row, text))),
        Err(error) if error.is_temporary() => Err(error),
        Err(error) => {
            tracing::warn!(message_id = %row.id, tenant_id = %row.tenant, %error, "indexed without its body");
            Ok(Some(SearchDocument::of_row(row)))
        }
    }
}

/// The row of a message; one that can't be read is as good as gone, for no search could show it.
async fn known(storage: &dyn StorageBackend, note: &UnindexedMessage) -> Result<Option<MessageRow>, StoreError> {
    match storage.messages().get(note.tenant, note.message).await {
        Err(error) if error.kind() == StoreErrorKind::Corrupt => {
            tracing::error!(message_id = %note.message, tenant_id = %note.tenant, %error, "a row can't be indexed");
            Ok(None)
        }
        read => read,
    }
}

async fn text(storage: &dyn StorageBackend, tenant: TenantId, row: &MessageRow) -> Result<SearchText, StoreError> {
    let body = storage.messages().body(tenant, row.id).await?;
    let unreadable =
        |error: std::io::Error| StoreError::new(StoreErrorKind::Corrupt, "read body", row.id).with_source(error);
    // Parsing takes its time.
    let task = tokio::task::spawn_blocking(move || body.read_all().map(|raw| SearchText::parse(&raw)));
    task.await.map_err(std::io::Error::other).flatten().map_err(unreadable)
}
