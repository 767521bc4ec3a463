//! The seam for whoever keeps the audit log.

use std::fmt;
use std::net::IpAddr;

use mairust_core::{HookId, MessageId, TenantId, WebhookId};
use mairust_store::{MessageRow, Suppression};
use serde_json::Value;

use super::Principal;

/// Takes note of what has to be answered for. It is called while a request waits: whatever takes
/// time is done later.
pub trait AuditSink: fmt::Debug + Send + Sync + 'static {
    /// A client tried a key that is not valid.
    fn key_refused(&self, attempt: &RefusedKey<'_>);

    /// The content of a message was handed out.
    fn content_viewed(&self, view: &ContentView<'_>);

    /// A message was removed for good.
    fn message_purged(&self, purged: &PurgedMessage<'_>);

    /// An address came on the suppression list, or was taken off it.
    fn suppression_changed(&self, change: &SuppressionChange<'_>);

    /// Something was done to deliveries in the queue.
    fn queue_changed(&self, operation: &QueueOperation<'_>);

    /// Something was done to a hook.
    fn hook_changed(&self, operation: &HookOperation<'_>);

    /// Something was done to a webhook.
    fn webhook_changed(&self, operation: &WebhookOperation<'_>);
}

/// A key that was not valid.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RefusedKey<'a> {
    /// The tenant of the key whose public part it had.
    pub tenant: Option<TenantId>,
    /// The public part, if it had the form of a key.
    pub key_id: Option<&'a str>,
    /// From where it came.
    pub client: Option<IpAddr>,
}

/// The content of a message, handed out.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ContentView<'a> {
    /// Who asked.
    pub principal: &'a Principal,
    /// The message.
    pub message: MessageId,
    /// From where.
    pub client: Option<IpAddr>,
    /// The value of `X-Request-Id`.
    pub request_id: Option<&'a str>,
}

/// A message that was removed for good.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct PurgedMessage<'a> {
    /// Who asked.
    pub principal: &'a Principal,
    /// What it was.
    pub row: &'a MessageRow,
    /// From where.
    pub client: Option<IpAddr>,
    /// The value of `X-Request-Id`.
    pub request_id: Option<&'a str>,
}

/// A change of the suppression list.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct SuppressionChange<'a> {
    /// Who asked.
    pub principal: &'a Principal,
    /// The entry.
    pub suppression: &'a Suppression,
    /// Whether it was added; otherwise it was removed.
    pub added: bool,
    /// From where.
    pub client: Option<IpAddr>,
    /// The value of `X-Request-Id`.
    pub request_id: Option<&'a str>,
}

/// Something that was done to deliveries in the queue.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct QueueOperation<'a> {
    /// Who asked.
    pub principal: &'a Principal,
    /// What was done: `retried`, `held`, `released`, `cancelled`, `bounced`, `paused` or `resumed`.
    pub action: &'static str,
    /// To what: the id of an item, a destination, or a description of a selection.
    pub target: &'a str,
    /// To how many deliveries.
    pub deliveries: u64,
    /// From where.
    pub client: Option<IpAddr>,
    /// The value of `X-Request-Id`.
    pub request_id: Option<&'a str>,
}

/// Something that was done to a hook.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HookOperation<'a> {
    /// Who asked.
    pub principal: &'a Principal,
    /// What was done: `created`, `changed`, `enabled`, `disabled`, `secret_rotated`, `secret_revoked`,
    /// `circuit_changed`, `circuit_reset`, `tested`, `replayed`, `retried` or `removed`.
    pub action: &'static str,
    /// The hook.
    pub hook: HookId,
    /// What it was before, without keys.
    pub before: Option<Value>,
    /// What it is now, without keys.
    pub after: Option<Value>,
    /// From where.
    pub client: Option<IpAddr>,
    /// The value of `X-Request-Id`.
    pub request_id: Option<&'a str>,
}

/// Something that was done to a webhook.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WebhookOperation<'a> {
    /// Who asked.
    pub principal: &'a Principal,
    /// What was done: `created`, `changed`, `enabled`, `disabled`, `secret_rotated`, `tested`, `replayed` or `removed`.
    pub action: &'static str,
    /// The webhook.
    pub webhook: WebhookId,
    /// What it was before, without keys.
    pub before: Option<Value>,
    /// What it is now, without keys.
    pub after: Option<Value>,
    /// From where.
    pub client: Option<IpAddr>,
    /// The value of `X-Request-Id`.
    pub request_id: Option<&'a str>,
}
