//! The work of telling webhooks of events, as it lies in the queue.

use mairust_core::{EventId, JobId, TenantId, Timestamp, WebhookDeliveryId, WebhookId};
use serde_json::{Value, json};

use super::{NewWebhookDelivery, Webhook};
use crate::backend::StorageBackend;
use crate::error::{StoreError, StoreErrorKind};
use crate::event::{EventQuery, NewEvent};
use crate::message::Acceptance;
use crate::queue::{NewJob, Priority};

/// The kind of job that brings one event to one webhook.
pub const WEBHOOK_JOB: &str = "webhook";

/// The version of the payload that is written.
const VERSION: u32 = 1;

/// The job that does a delivery; due at once. Each webhook is a destination of its own, so that they take turns.
pub fn webhook_job(tenant: TenantId, webhook: WebhookId, delivery: WebhookDeliveryId, now: Timestamp) -> NewJob {
    NewJob {
        id: JobId::new(now),
        tenant,
        kind: WEBHOOK_JOB.to_owned(),
        payload: json!({"v": VERSION, "webhook": webhook.to_string(), "delivery": delivery.to_string()}),
        not_before: now,
        priority: Priority::Normal,
        destination: Some(format!("webhook:{webhook}")),
        message: None,
        held: None,
    }
}

/// What a job of the kind [`WEBHOOK_JOB`] delivers, and to which webhook.
///
/// # Errors
/// When the payload is not known: written by a newer version, or damaged.
pub fn delivery_of(payload: &Value) -> Result<(WebhookId, WebhookDeliveryId), String> {
    match payload["v"].as_u64() {
        Some(version) if version == u64::from(VERSION) => {}
        version => return Err(format!("payload version {version:?} is not known here")),
    }
    let id = |name: &str| payload[name].as_str().ok_or_else(|| format!("the payload has no {name}"));
    let valid = |_| "an id in the payload is not valid".to_owned();
    Ok((id("webhook")?.parse().map_err(valid)?, id("delivery")?.parse().map_err(valid)?))
}

/// Tells one webhook of an event that nothing else is told of; the id of the delivery. The event stands in the log as
/// all others do.
///
/// # Errors
/// `NotFound` if the webhook is gone.
pub async fn test(
    storage: &dyn StorageBackend,
    webhook: &Webhook,
    kind: &str,
    data: Value,
    now: Timestamp,
) -> Result<WebhookDeliveryId, StoreError> {
    let tenant = webhook.tenant;
    let before = storage.events().span(tenant).await?.newest;
    let event = NewEvent { id: EventId::new(now), kind: kind.to_owned(), at: now, data };
    let (event_id, kinds) = (event.id, vec![event.kind.clone()]);
    let told = Acceptance { events: vec![event], ..Acceptance::new(tenant) };
    let lost = || StoreError::new(StoreErrorKind::Unavailable, "test webhook", webhook.id);
    storage.messages().accept(vec![told]).await.pop().unwrap_or_else(|| Err(lost()))?;
    let position = position(storage, tenant, event_id, EventQuery { after: before, kinds, limit: 100 }).await?;
    let id = WebhookDeliveryId::new(now);
    let position = position.ok_or_else(lost)?;
    let delivery = NewWebhookDelivery { id, event: event_id, position, kind: kind.to_owned() };
    storage.webhooks().deliver(tenant, webhook.id, delivery, webhook_job(tenant, webhook.id, id, now)).await?;
    Ok(id)
}

/// Where an event stands.
async fn position(
    storage: &dyn StorageBackend,
    tenant: TenantId,
    id: EventId,
    mut query: EventQuery,
) -> Result<Option<u64>, StoreError> {
    loop {
        let page = storage.events().list(tenant, &query).await?;
        if let Some(found) = page.items.iter().find(|event| event.id == id) {
            return Ok(Some(found.position));
        }
        match page.items.last() {
            Some(last) if page.has_more => query.after = last.position,
            _ => return Ok(None),
        }
    }
}
