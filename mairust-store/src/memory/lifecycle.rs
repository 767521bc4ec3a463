//! What becomes of messages, in memory.

use async_trait::async_trait;
use mairust_core::{Body, MessageId, TenantId, Timestamp};

use super::queue::JobState;
use super::{MemoryStorage, State};
use crate::body::{BodyStore, NewObject};
use crate::error::{StoreError, StoreErrorKind};
use crate::lifecycle::{ARCHIVE, Lifecycle, Purge, Retention};
use crate::message::{MessageRow, MessageStatus};

#[async_trait]
impl Lifecycle for MemoryStorage {
    async fn kept(&self, tenant: TenantId, id: MessageId) -> Result<Option<MessageRow>, StoreError> {
        Ok(self.state().messages.get(&(tenant, id)).cloned())
    }

    async fn kept_body(&self, tenant: TenantId, id: MessageId) -> Result<Body, StoreError> {
        let row = self.state().kept("read body", tenant, id)?;
        self.body_of(row).await
    }

    async fn delete(&self, tenant: TenantId, id: MessageId, at: Timestamp) -> Result<bool, StoreError> {
        let changed = self.state().delete(tenant, id, at)?;
        Ok(self.tell(tenant, changed))
    }

    async fn restore(&self, tenant: TenantId, id: MessageId) -> Result<bool, StoreError> {
        let changed = self.state().restore(tenant, id)?;
        Ok(self.tell(tenant, changed))
    }

    async fn set_legal_hold(&self, tenant: TenantId, id: MessageId, on_hold: bool) -> Result<bool, StoreError> {
        let mut state = self.state();
        let row = state.messages.get_mut(&(tenant, id)).ok_or_else(|| not_found("hold message", id))?;
        Ok(std::mem::replace(&mut row.legal_hold, on_hold) != on_hold)
    }

    async fn archive(&self, tenant: TenantId, id: MessageId) -> Result<bool, StoreError> {
        let row = self.state().kept("archive message", tenant, id)?;
        if row.is_archived() {
            return Ok(false);
        }
        let (from, to) = (row.object_key.clone(), format!("{ARCHIVE}{}", row.object_key));
        let object = NewObject { key: to.clone(), prefix: Default::default(), body: self.body_of(row).await? };
        for answer in self.bodies.put(vec![object]).await {
            // One that is there is what an earlier try has left.
            match answer {
                Err(error) if error.kind() != StoreErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        {
            let mut state = self.state();
            let sharing = state.messages.values_mut().filter(|row| row.tenant == tenant && row.object_key == from);
            let moved = sharing.map(|row| row.object_key.clone_from(&to)).count();
            if moved == 0 {
                // Somebody else was faster: with archiving, or with purging.
                return state.kept("archive message", tenant, id).map(|_| false);
            }
            state.removals.insert((tenant, from));
        }
        self.remove_objects(tenant, 1).await?;
        Ok(true)
    }

    async fn purge(&self, tenant: TenantId, id: MessageId) -> Result<Purge, StoreError> {
        let outcome = {
            let mut state = self.state();
            let row = state.kept("purge message", tenant, id)?;
            let outcome = state.may_purge(&row);
            if outcome == Purge::Done {
                state.delete(tenant, id, self.clock.now())?;
                state.purge(&row);
            }
            outcome
        };
        if self.tell(tenant, outcome == Purge::Done) {
            self.remove_objects(tenant, 1).await?;
        }
        Ok(outcome)
    }

    async fn purge_deleted(&self, tenant: TenantId, retention: Retention, max: u32) -> Result<u32, StoreError> {
        let due: Vec<_> = {
            let mut state = self.state();
            let mut due = state.due(tenant, retention);
            due.truncate(usize::try_from(max).unwrap_or(usize::MAX));
            due.iter().for_each(|row| state.purge(row));
            due
        };
        self.tell(tenant, !due.is_empty());
        Ok(u32::try_from(due.len()).unwrap_or(u32::MAX))
    }

    async fn remove_objects(&self, tenant: TenantId, max: u32) -> Result<u32, StoreError> {
        let of_tenant: Vec<_> = {
            let state = self.state();
            let removals = state.removals.iter().filter(|(owner, _)| *owner == tenant);
            removals.take(usize::try_from(max).unwrap_or(usize::MAX)).cloned().collect()
        };
        for removal in &of_tenant {
            self.bodies.delete(&removal.1).await?;
            self.state().removals.remove(removal);
        }
        Ok(u32::try_from(of_tenant.len()).unwrap_or(u32::MAX))
    }

    async fn tenants_to_clean(&self, retention: Retention) -> Result<Vec<TenantId>, StoreError> {
        let state = self.state();
        let mut tenants: Vec<_> = state.tenants.keys().copied().collect();
        tenants.sort_unstable();
        tenants.retain(|tenant| {
            !state.due(*tenant, retention).is_empty() || state.removals.iter().any(|(owner, _)| owner == tenant)
        });
        Ok(tenants)
    }
}

impl MemoryStorage {
    /// Wakes who waits, if messages of a tenant changed.
    fn tell(&self, tenant: TenantId, changed: bool) -> bool {
        if changed {
            self.messages_changed.bump(tenant);
            self.search_changed.bump();
        }
        changed
    }
}

impl State {
    fn kept(&self, operation: &'static str, tenant: TenantId, id: MessageId) -> Result<MessageRow, StoreError> {
        self.messages.get(&(tenant, id)).cloned().ok_or_else(|| not_found(operation, id))
    }

    fn delete(&mut self, tenant: TenantId, id: MessageId, at: Timestamp) -> Result<bool, StoreError> {
        let row = self.messages.get_mut(&(tenant, id)).ok_or_else(|| not_found("delete message", id))?;
        if row.deleted_at.is_some() {
            return Ok(false);
        }
        row.deleted_at = Some(at);
        if let Some(folder) = self.folders.get_mut(&(tenant, row.mailbox, row.folder)) {
            folder.modseq += 1;
            row.modseq = folder.modseq;
        }
        self.quotas.entry((tenant, row.mailbox)).or_default().used -= row.size;
        self.search.note(tenant, id);
        Ok(true)
    }

    fn restore(&mut self, tenant: TenantId, id: MessageId) -> Result<bool, StoreError> {
        let row = self.messages.get_mut(&(tenant, id)).ok_or_else(|| not_found("restore message", id))?;
        if row.deleted_at.take().is_none() {
            return Ok(false);
        }
        if let Some(folder) = self.folders.get_mut(&(tenant, row.mailbox, row.folder)) {
            row.uid = folder.next_uid;
            folder.next_uid += 1;
            folder.modseq += 1;
            row.modseq = folder.modseq;
        }
        self.quotas.entry((tenant, row.mailbox)).or_default().used += row.size;
        self.search.note(tenant, id);
        Ok(true)
    }

    fn may_purge(&self, row: &MessageRow) -> Purge {
        let mut jobs = self.jobs.records();
        let is_wanted = |job: &super::queue::JobRecord| {
            (job.job.tenant, job.job.message) == (row.tenant, Some(row.id)) && job.state != JobState::Buried
        };
        if row.legal_hold || self.is_on_hold(row.tenant, row.mailbox) {
            Purge::OnHold
        } else if row.status == MessageStatus::Queued || jobs.any(is_wanted) {
            Purge::InUse
        } else {
            Purge::Done
        }
    }

    /// What is to be purged, those deleted first before others.
    fn due(&self, tenant: TenantId, retention: Retention) -> Vec<MessageRow> {
        let Some(owner) = self.tenants.get(&tenant) else { return Vec::new() };
        let until = retention.until(owner.deleted_messages_days);
        let due = self.messages.values().filter(|row| {
            row.tenant == tenant && row.deleted_at.is_some_and(|at| at <= until) && self.may_purge(row) == Purge::Done
        });
        let mut due: Vec<_> = due.cloned().collect();
        due.sort_by_key(|row| (row.deleted_at, row.id));
        due
    }

    /// Takes away all that belongs to a message that is deleted.
    fn purge(&mut self, row: &MessageRow) {
        let (tenant, id) = (row.tenant, row.id);
        self.messages.remove(&(tenant, id));
        self.metadata.remove(&(tenant, id));
        self.recipients.retain(|(owner, _), recipient| (*owner, recipient.message) != (tenant, id));
        self.attempts.retain(|(owner, message, _)| (*owner, *message) != (tenant, id));
        self.fingerprints.retain(|(.., message)| *message != id);
        self.jobs.forget_buried(tenant, id);
        self.search.note(tenant, id);
        if !self.messages.values().any(|other| other.tenant == tenant && other.object_key == row.object_key) {
            self.removals.insert((tenant, row.object_key.clone()));
        }
    }
}

fn not_found(operation: &'static str, id: MessageId) -> StoreError {
    StoreError::new(StoreErrorKind::NotFound, operation, id)
}
