//! Stored messages, as hooks see them.

use std::sync::Arc;

use mairust_core::{Envelope, Mail, MessageId, TenantId};
use mairust_hooks::Fingerprint;
use mairust_hooks::protocol::MailFacts;
use mairust_hooks::protocol::request::{MailboxView, SessionOrigin};
use mairust_store::StorageBackend;

use crate::error::chain;

/// A stored message with what hooks are told about it; `None` if it is gone.
///
/// # Errors
/// When it can't be read, for people.
pub(crate) async fn stored(
    storage: &dyn StorageBackend,
    tenant: TenantId,
    id: MessageId,
) -> Result<Option<(Mail, Arc<MailFacts>)>, String> {
    let store = storage.lifecycle();
    let Some(row) = store.kept(tenant, id).await.map_err(|error| chain(&error))? else { return Ok(None) };
    let body = store.kept_body(tenant, id).await.map_err(|error| chain(&error))?;
    let content = crate::receive::parse(body.clone()).await.map_err(|rejection| rejection.reason().to_owned())?;
    let fingerprint = Fingerprint::of(&body).await.map_err(|error| format!("the message can't be read: {error}"))?;
    let mut facts = MailFacts::new(fingerprint, SessionOrigin::Smtp);
    facts.mailbox = Some(MailboxView {
        id: row.mailbox.to_string(),
        address: Some(row.address.to_string()),
        folder: Some(row.folder.as_str().to_owned()),
    });
    (facts.flags, facts.tags) = (Some(row.flags), Some(row.tags));
    let envelope = Envelope { sender: row.sender, recipients: vec![row.address] };
    Ok(Some((Mail::stored(id, tenant, envelope, body, content), Arc::new(facts))))
}
