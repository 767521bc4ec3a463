//! The audit log, in memory.

use std::collections::VecDeque;

use async_trait::async_trait;
use mairust_core::AuditId;

use super::MemoryStorage;
use crate::audit::chain::Chain;
use crate::audit::{AuditDrop, AuditEntry, AuditHead, AuditKey, AuditLog, AuditOrder, AuditQuery, NewAuditEvent};
use crate::error::StoreError;
use crate::message::Page;
use crate::owner::Owner;

#[derive(Debug, Default)]
pub(super) struct ChainRecord {
    head: Option<AuditHead>,
    entries: VecDeque<AuditEntry>,
}

#[async_trait]
impl AuditLog for MemoryStorage {
    async fn append(
        &self,
        owner: Owner,
        key: &AuditKey,
        events: Vec<NewAuditEvent>,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let mut state = self.state();
        state.check_owner("append to audit log", owner)?;
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let record = state.chains.entry(owner).or_default();
        let mut chain = record.resume(owner, key);
        let entries = chain.extend(events);
        record.entries.extend(entries.iter().cloned());
        record.head = Some(chain.into_head(key));
        Ok(entries)
    }

    async fn entry(&self, owner: Owner, id: AuditId) -> Result<Option<AuditEntry>, StoreError> {
        let state = self.state();
        let mut entries = state.chains.get(&owner).into_iter().flat_map(|record| &record.entries);
        Ok(entries.find(|entry| entry.id == id).cloned())
    }

    async fn list(&self, owner: Owner, query: &AuditQuery) -> Result<Page<AuditEntry>, StoreError> {
        let state = self.state();
        let matching = state.chains.get(&owner).into_iter().flat_map(|record| &record.entries);
        let mut items: Vec<_> = matching.filter(|entry| query.matches(entry)).cloned().collect();
        if query.order == AuditOrder::NewestFirst {
            items.reverse();
        }
        let has_more = items.len() > query.limit as usize;
        items.truncate(query.limit as usize);
        Ok(Page { items, has_more })
    }

    async fn head(&self, owner: Owner) -> Result<Option<AuditHead>, StoreError> {
        Ok(self.state().chains.get(&owner).and_then(|record| record.head))
    }

    async fn drop_old(&self, owner: Owner, key: &AuditKey, drop: AuditDrop) -> Result<u64, StoreError> {
        let mut state = self.state();
        let Some(record) = state.chains.get_mut(&owner) else { return Ok(0) };
        let count = record.entries.iter().take(drop.max as usize).take_while(|entry| entry.at < drop.before).count();
        let mut chain = record.resume(owner, key);
        let Some(last) = record.entries.drain(..count).next_back() else { return Ok(0) };
        chain.drop_up_to(last.sequence, last.hash, count as u64);
        record.entries.extend(chain.admit_broken(drop.now));
        record.head = Some(chain.into_head(key));
        Ok(count as u64)
    }

    async fn owners(&self) -> Result<Vec<Owner>, StoreError> {
        Ok(self.state().chains.keys().copied().collect())
    }
}

impl ChainRecord {
    fn resume(&self, owner: Owner, key: &AuditKey) -> Chain {
        Chain::resume(owner, key, self.head, self.entries.back().map(|entry| (entry.sequence, entry.hash)))
    }
}

impl AuditQuery {
    fn matches(&self, entry: &AuditEntry) -> bool {
        let after = self.after.is_none_or(|after| match self.order {
            AuditOrder::NewestFirst => entry.sequence < after,
            AuditOrder::OldestFirst => entry.sequence > after,
        });
        after
            && self.event_type.as_ref().is_none_or(|wanted| *wanted == entry.event_type)
            && self.actor.as_ref().is_none_or(|wanted| entry.actor.id.as_ref() == Some(wanted))
            && self.target.as_ref().is_none_or(|wanted| entry.target.as_ref().is_some_and(|it| it.id == *wanted))
            && self.since.is_none_or(|since| entry.at >= since)
            && self.until.is_none_or(|until| entry.at < until)
    }
}
