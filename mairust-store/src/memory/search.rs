//! Search, in memory: every document is looked at.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{MessageId, SearchText, TenantId, Timestamp};

use super::{MemoryStorage, State};
use crate::error::StoreError;
use crate::message::{MessagePosition, Page};
use crate::search::{SearchDocument, SearchIndex, SearchOutbox, SearchRequest, UnindexedMessage, matches};

/// What is indexed, and what is not yet.
#[derive(Debug, Default)]
pub(super) struct SearchState {
    indexed: BTreeMap<(TenantId, MessageId), SearchText>,
    notes: BTreeMap<i64, Note>,
    last_number: i64,
    /// The last message for which a note was written since the index is being made again.
    rebuilt: Option<(TenantId, MessageId)>,
}

#[derive(Debug)]
struct Note {
    tenant: TenantId,
    message: MessageId,
    claimed_until: Option<Timestamp>,
}

impl SearchState {
    /// Notes that the index does not know a message.
    pub(super) fn note(&mut self, tenant: TenantId, message: MessageId) {
        self.last_number += 1;
        self.notes.insert(self.last_number, Note { tenant, message, claimed_until: None });
    }
}

impl State {
    /// Whether a message is what is looked for, and where it stands.
    fn found(
        &self,
        tenant: TenantId,
        id: MessageId,
        text: &SearchText,
        request: &SearchRequest,
    ) -> Option<MessagePosition> {
        let row = self.messages.get(&(tenant, id)).filter(|row| row.deleted_at.is_none())?;
        let document = SearchDocument::new(row.clone(), text.clone());
        let wanted = request.mailbox.is_none_or(|mailbox| row.mailbox == mailbox)
            && request.after.is_none_or(|after| (row.received_at, id) < (after.received_at, after.id))
            && matches(&request.query, &document, &document.words(), request.now);
        wanted.then_some(MessagePosition { received_at: row.received_at, id })
    }
}

#[async_trait]
impl SearchIndex for MemoryStorage {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn index(&self, documents: Vec<SearchDocument>) -> Result<(), StoreError> {
        let indexed = &mut self.state().search.indexed;
        indexed.extend(documents.into_iter().map(|document| ((document.row.tenant, document.row.id), document.text)));
        Ok(())
    }

    async fn remove(&self, tenant: TenantId, messages: &[MessageId]) -> Result<(), StoreError> {
        let indexed = &mut self.state().search.indexed;
        for message in messages {
            indexed.remove(&(tenant, *message));
        }
        Ok(())
    }

    async fn clear(&self) -> Result<(), StoreError> {
        self.state().search.indexed.clear();
        Ok(())
    }

    async fn search(&self, tenant: TenantId, request: &SearchRequest) -> Result<Page<MessagePosition>, StoreError> {
        let state = self.state();
        let own = state.search.indexed.iter().filter(|((owner, _), _)| *owner == tenant);
        let mut found: Vec<_> = own.filter_map(|((_, id), text)| state.found(tenant, *id, text, request)).collect();
        found.sort_by_key(|position| Reverse((position.received_at, position.id)));
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
        let has_more = found.len() > limit;
        found.truncate(limit);
        Ok(Page { items: found, has_more })
    }
}

#[async_trait]
impl SearchOutbox for MemoryStorage {
    async fn claim(&self, now: Timestamp, max: u32, ttl: Duration) -> Result<Vec<UnindexedMessage>, StoreError> {
        let notes = &mut self.state().search.notes;
        let free = notes.iter_mut().filter(|(_, note)| note.claimed_until.is_none_or(|until| until <= now));
        let claimed = free.take(usize::try_from(max).unwrap_or(usize::MAX)).map(|(number, note)| {
            note.claimed_until = Some(now.plus(ttl));
            UnindexedMessage { number: *number, tenant: note.tenant, message: note.message }
        });
        Ok(claimed.collect())
    }

    async fn settle(&self, notes: &[UnindexedMessage]) -> Result<(), StoreError> {
        let mut state = self.state();
        for note in notes {
            state.search.notes.remove(&note.number);
        }
        Ok(())
    }

    async fn rebuild(&self) -> Result<(), StoreError> {
        self.state().search.rebuilt = Some((TenantId::from_bytes([0; 16]), MessageId::from_bytes([0; 16])));
        self.search_changed.bump();
        Ok(())
    }

    async fn refill(&self, max: u32) -> Result<u32, StoreError> {
        let mut state = self.state();
        let Some(last) = state.search.rebuilt else { return Ok(0) };
        let there = state.messages.iter().filter(|(key, row)| **key > last && row.deleted_at.is_none());
        let mut behind: Vec<_> = there.map(|(key, _)| *key).collect();
        behind.sort_unstable();
        behind.truncate(usize::try_from(max).unwrap_or(usize::MAX));
        state.search.rebuilt = behind.last().copied();
        for (tenant, message) in &behind {
            state.search.note(*tenant, *message);
        }
        Ok(u32::try_from(behind.len()).unwrap_or(u32::MAX))
    }

    async fn is_rebuilding(&self) -> Result<bool, StoreError> {
        Ok(self.state().search.rebuilt.is_some())
    }

    async fn pending(&self) -> Result<u64, StoreError> {
        Ok(self.state().search.notes.len() as u64)
    }

    fn version(&self) -> u64 {
        self.search_changed.version()
    }

    async fn changed(&self, seen: u64) -> u64 {
        self.search_changed.changed(seen).await
    }
}
