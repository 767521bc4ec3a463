//! Messages, in memory.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};

use async_trait::async_trait;
use mairust_core::{Body, MailboxId, MessageId, TenantId, Timestamp};

use super::{MemoryStorage, State};
use crate::body::{BodyStore, StoredObject, verify};
use crate::delivery::{AttemptOutcome, DeliveryRow};
use crate::error::{StoreError, StoreErrorKind};
use crate::mark::{Metadata, MetadataChange, changed_flags};
use crate::matching;
use crate::message::{
    Acceptance, MessageChange, MessagePosition, MessageQuery, MessageRow, MessageStore, NewMessage, Page, Placement,
};

/// A body that was kept, and where.
type Kept = (String, StoredObject);

impl MemoryStorage {
    async fn accept_one(&self, entry: Acceptance) -> Result<(), StoreError> {
        entry.check()?;
        let parts = entry.into_parts();
        let kept = self.keep(&parts).await?;
        let changed: Vec<_> = parts.iter().filter(|part| part.changes_messages()).map(|part| part.tenant).collect();
        let queued = parts.iter().any(|part| !part.jobs.is_empty());
        let unindexed = parts.iter().any(|part| !part.messages.is_empty());
        let checked = {
            let mut state = self.state();
            // Nothing can fail after the check, so an entry is applied whole or not at all.
            parts.iter().try_for_each(|part| state.check_part(part)).map(|()| {
                let mut left = &kept[..];
                for part in parts {
                    let (own, rest) = left.split_at(part.messages.len());
                    left = rest;
                    state.apply(part, own, self.clock.now());
                }
            })
        };
        if let Err(error) = checked {
            self.discard(kept).await;
            return Err(error);
        }
        if !changed.is_empty() {
            changed.into_iter().for_each(|tenant| self.messages_changed.bump(tenant));
            self.events_changed.bump();
        }
        if queued {
            self.queue_changed.bump();
        }
        if unindexed {
            self.search_changed.bump();
        }
        Ok(())
    }

    /// Keeps the bodies of an entry: all or none.
    async fn keep(&self, parts: &[Acceptance]) -> Result<Vec<Kept>, StoreError> {
        let objects: Vec<_> = parts.iter().flat_map(Acceptance::objects).collect();
        let keys: Vec<_> = objects.iter().map(|object| object.key.clone()).collect();
        let (mut kept, mut failure) = (Vec::new(), None);
        for (key, stored) in keys.into_iter().zip(self.bodies.put(objects).await) {
            match stored {
                Ok(stored) => kept.push((key, stored)),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match failure {
            None => Ok(kept),
            Some(error) => {
                self.discard(kept).await;
                Err(error)
            }
        }
    }

    pub(super) async fn body_of(&self, row: MessageRow) -> Result<Body, StoreError> {
        let body = match self.bodies.open(&row.object_key).await {
            // It may have been archived since its key was read.
            Err(error) if error.kind() == StoreErrorKind::NotFound => {
                let now = self.state().messages.get(&(row.tenant, row.id)).map(|row| row.object_key.clone());
                match now.filter(|key| *key != row.object_key) {
                    Some(key) => self.bodies.open(&key).await?,
                    None => return Err(error),
                }
            }
            opened => opened?,
        };
        verify(body, row.sha256, row.id.to_string()).await
    }

    async fn discard(&self, kept: Vec<Kept>) {
        for (key, _) in kept {
            if let Err(error) = self.bodies.delete(&key).await {
                tracing::warn!(key, %error, "an orphaned body could not be removed");
            }
        }
    }
}

#[async_trait]
impl MessageStore for MemoryStorage {
    async fn accept(&self, batch: Vec<Acceptance>) -> Vec<Result<(), StoreError>> {
        let mut answers = Vec::with_capacity(batch.len());
        for entry in batch {
            answers.push(self.accept_one(entry).await);
        }
        answers
    }

    async fn fingerprints(&self, since: Timestamp) -> Result<Vec<([u8; 32], MessageId)>, StoreError> {
        let state = self.state();
        let recent = state.fingerprints.iter().filter(|(at, ..)| *at >= since);
        Ok(recent.map(|(_, fingerprint, message)| (*fingerprint, *message)).collect())
    }

    async fn list(&self, tenant: TenantId, query: &MessageQuery) -> Result<Page<MessageRow>, StoreError> {
        let state = self.state();
        let rows = state.messages.values().filter(|row| row.tenant == tenant && matches(row, query));
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|row| Reverse((row.received_at, row.id)));
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        Ok(Page { has_more: rows.len() > limit, items: rows.into_iter().take(limit).cloned().collect() })
    }

    async fn get(&self, tenant: TenantId, id: MessageId) -> Result<Option<MessageRow>, StoreError> {
        Ok(self.state().messages.get(&(tenant, id)).filter(|row| row.deleted_at.is_none()).cloned())
    }

    async fn body(&self, tenant: TenantId, id: MessageId) -> Result<Body, StoreError> {
        let row = self.get(tenant, id).await?;
        self.body_of(row.ok_or_else(|| StoreError::new(StoreErrorKind::NotFound, "read body", id))?).await
    }

    async fn change(&self, tenant: TenantId, id: MessageId, change: &MessageChange) -> Result<(), StoreError> {
        self.state().change(tenant, id, change)?;
        self.messages_changed.bump(tenant);
        Ok(())
    }

    async fn metadata(&self, tenant: TenantId, id: MessageId) -> Result<Vec<Metadata>, StoreError> {
        Ok(self.state().metadata(tenant, id))
    }

    fn version(&self, tenant: TenantId) -> u64 {
        self.messages_changed.version(tenant)
    }

    async fn changed(&self, tenant: TenantId, seen: u64) -> u64 {
        self.messages_changed.changed(tenant, seen).await
    }
}

impl State {
    fn check_part(&self, entry: &Acceptance) -> Result<(), StoreError> {
        let tenant = entry.tenant;
        let missing = |what: &dyn std::fmt::Display| Err(StoreError::new(StoreErrorKind::NotFound, "accept", what));
        let exists = |what: &dyn std::fmt::Display| Err(StoreError::new(StoreErrorKind::AlreadyExists, "accept", what));
        let (mut messages, mut recipients) = (HashSet::new(), HashSet::new());
        for place in entry.messages.iter().flat_map(|message| &message.placements) {
            if !self.folders.contains_key(&(tenant, place.mailbox, place.folder)) {
                return missing(&place.mailbox);
            }
            if self.messages.contains_key(&(tenant, place.id)) || !messages.insert(place.id) {
                return exists(&place.id);
            }
        }
        for recipient in &entry.recipients {
            if !self.messages.contains_key(&(tenant, recipient.message)) && !messages.contains(&recipient.message) {
                return missing(&recipient.message);
            }
            if self.recipients.contains_key(&(tenant, recipient.id)) || !recipients.insert(recipient.id) {
                return exists(&recipient.id);
            }
        }
        let (mut told, mut reported) = (HashSet::new(), HashSet::new());
        for attempt in &entry.attempts {
            let (id, begins) = (attempt.recipient, attempt.outcome == AttemptOutcome::Begun);
            let row = self.recipients.get(&(tenant, id));
            if row.is_none() && !recipients.contains(&id) {
                return missing(&id);
            }
            let is_settled = row.is_some_and(|row| row.state.is_settled());
            if begins && is_settled {
                return Err(StoreError::new(StoreErrorKind::Conflict, "accept", id));
            }
            if begins && self.begun(tenant, id).is_some() {
                return exists(&id);
            }
            let knows = is_settled || row.is_some_and(|row| row.delay_told_at.is_some());
            let is_report = attempt.outcome == AttemptOutcome::Reported;
            if is_report && !(self.takes_report(tenant, id) && reported.insert(id)) {
                return Err(attempt.told_before());
            }
            if attempt.tells_of_delay() && (knows || !told.insert(id)) {
                return Err(attempt.told_before());
            }
        }
        self.check_events(tenant, &entry.events)?;
        self.check_jobs("accept", &entry.jobs)
    }

    fn apply(&mut self, entry: Acceptance, kept: &[Kept], now: Timestamp) {
        let Acceptance { tenant, messages, recipients, jobs, attempts, events, completes, suppressions, .. } = entry;
        for (message, kept) in messages.iter().zip(kept) {
            for place in &message.placements {
                self.add_message(tenant, message, place, kept);
            }
        }
        for new in recipients {
            let row = DeliveryRow {
                id: new.id,
                message: new.message,
                address: new.address,
                state: new.state,
                attempts: 0,
                last_result: None,
                updated_at: now,
                dsn: new.dsn,
                delay_told_at: None,
            };
            self.recipients.insert((tenant, new.id), row);
        }
        self.jobs.add(jobs, now);
        for attempt in attempts {
            self.record(tenant, attempt);
        }
        for new in suppressions {
            // One that is there stays.
            let _ = self.add_suppression(tenant, new);
        }
        if let Some(lease) = completes {
            self.jobs.complete(&lease);
        }
        self.events.entry(tenant).or_default().add(events);
    }

    fn add_message(&mut self, tenant: TenantId, message: &NewMessage, place: &Placement, kept: &Kept) {
        let thread = self.thread(tenant, place.mailbox, message).unwrap_or(place.id);
        let Some(folder) = self.folders.get_mut(&(tenant, place.mailbox, place.folder)) else { return };
        let uid = folder.next_uid;
        folder.next_uid += 1;
        folder.modseq += 1;
        self.quotas.entry((tenant, place.mailbox)).or_default().used += kept.1.size;
        let content = &message.content;
        let row = MessageRow {
            id: place.id,
            tenant,
            mailbox: place.mailbox,
            folder: place.folder,
            folder_id: folder.id,
            uid,
            modseq: folder.modseq,
            direction: place.direction,
            status: place.status,
            sender: message.sender.clone(),
            address: place.address.clone(),
            object_key: kept.0.clone(),
            size: kept.1.size,
            sha256: kept.1.sha256,
            subject: content.subject.clone(),
            from: content.from.clone(),
            to: content.to.clone(),
            cc: content.cc.clone(),
            date: content.date,
            received_at: message.received_at,
            message_id: content.message_id.clone(),
            thread,
            preview: content.preview.clone(),
            attachments: u32::try_from(content.attachments.len()).unwrap_or(u32::MAX),
            flags: changed_flags(&[], &message.marks.flags, &[]),
            tags: BTreeSet::from_iter(message.marks.tags.iter().cloned()).into_iter().collect(),
            dsn: message.dsn.clone(),
            tls: message.tls,
            auth_results: message.auth_results.clone(),
            spam: message.spam,
            arrival: message.arrival.clone(),
            deleted_at: None,
            legal_hold: false,
        };
        self.messages.insert((tenant, place.id), row);
        self.keep_metadata(tenant, place.id, message.marks.metadata.iter().cloned().map(MetadataChange::Keep));
        let fingerprint = message.fingerprint.map(|fingerprint| (message.received_at, fingerprint, place.id));
        self.fingerprints.extend(fingerprint);
        self.search.note(tenant, place.id);
    }

    /// The thread of the oldest message of the mailbox that this one answers or continues.
    fn thread(&self, tenant: TenantId, mailbox: MailboxId, message: &NewMessage) -> Option<MessageId> {
        let ancestors: HashSet<_> = message.ancestors().collect();
        let known = self.messages.values().filter(|row| {
            let named = row.message_id.as_deref().is_some_and(|id| ancestors.contains(id));
            row.tenant == tenant && row.mailbox == mailbox && named
        });
        known.min_by_key(|row| (row.received_at, row.id)).map(|row| row.thread)
    }
}

fn matches(row: &MessageRow, query: &MessageQuery) -> bool {
    fn holds<T: PartialEq>(wanted: Option<&T>, found: &T) -> bool {
        wanted.is_none_or(|wanted| wanted == found)
    }
    let finds = |wanted: &Option<String>, text: &dyn Fn() -> String| match wanted {
        Some(wanted) => text().contains(&matching::needle(wanted)),
        None => true,
    };
    let behind = |position: MessagePosition| (row.received_at, row.id) < (position.received_at, position.id);
    query.deleted == row.deleted_at.is_some()
        && holds(query.mailbox.as_ref(), &row.mailbox)
        && holds(query.folder.as_ref(), &row.folder)
        && holds(query.direction.as_ref(), &row.direction)
        && holds(query.status.as_ref(), &row.status)
        && query.since.is_none_or(|since| row.received_at >= since)
        && query.until.is_none_or(|until| row.received_at < until)
        && query.after.is_none_or(behind)
        && finds(&query.from, &|| matching::addresses_text(&row.from))
        && finds(&query.to, &|| matching::recipients_text(&row.to, &row.cc, &row.address))
        && finds(&query.subject, &|| matching::needle(row.subject.as_deref().unwrap_or_default()))
}
