//! What is put on messages, in memory.

use mairust_core::{MessageId, TenantId};

use super::State;
use crate::error::{StoreError, StoreErrorKind};
use crate::mark::{Metadata, MetadataChange, changed_flags};
use crate::message::MessageChange;

impl State {
    pub(super) fn change(&mut self, tenant: TenantId, id: MessageId, change: &MessageChange) -> Result<(), StoreError> {
        let row = self.messages.get_mut(&(tenant, id));
        let row = row.ok_or_else(|| StoreError::new(StoreErrorKind::NotFound, "change message", id))?;
        let before = row.clone();
        row.tags.retain(|tag| !change.remove_tags.contains(tag));
        row.tags.extend(change.add_tags.iter().cloned());
        row.tags.sort_unstable();
        row.tags.dedup();
        row.flags = changed_flags(&row.flags, &change.add_flags, &change.remove_flags);
        row.status = change.status.unwrap_or(row.status);
        row.folder = change.folder.unwrap_or(row.folder);
        let (mailbox, moved) = (row.mailbox, row.folder != before.folder);
        if *row != before {
            if let Some(folder) = self.folders.get_mut(&(tenant, mailbox, before.folder)) {
                folder.modseq += 1;
                row.modseq = folder.modseq;
            }
            if moved && let Some(folder) = self.folders.get_mut(&(tenant, mailbox, row.folder)) {
                folder.modseq += 1;
                (row.folder_id, row.uid, row.modseq) = (folder.id, folder.next_uid, folder.modseq);
                folder.next_uid += 1;
            }
        }
        self.keep_metadata(tenant, id, change.metadata.iter().cloned());
        Ok(())
    }

    pub(super) fn keep_metadata(
        &mut self,
        tenant: TenantId,
        id: MessageId,
        changes: impl IntoIterator<Item = MetadataChange>,
    ) {
        for change in changes {
            let kept = self.metadata.entry((tenant, id)).or_default();
            match change {
                MetadataChange::Forget { owner, key } => _ = kept.remove(&(owner, key)),
                MetadataChange::Keep(Metadata { owner, key, value }) => _ = kept.insert((owner, key), value),
            }
        }
    }

    pub(super) fn metadata(&self, tenant: TenantId, id: MessageId) -> Vec<Metadata> {
        let kept = self.metadata.get(&(tenant, id)).into_iter().flatten();
        let one = |((owner, key), value): (&(String, String), &serde_json::Value)| Metadata {
            owner: owner.clone(),
            key: key.clone(),
            value: value.clone(),
        };
        kept.map(one).collect()
    }
}
