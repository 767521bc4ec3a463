//! From the log of events to the queue: each event becomes one delivery, and one job, for each webhook that wants it.
//!
//! A webhook has a position in the log. Moving it on and adding deliveries and jobs is one step, so that nothing is
//! lost or doubled, whoever is killed when, and however many nodes do the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mairust_core::{Clock, WebhookDeliveryId};
use mairust_hooks::EventKind;
use mairust_store::webhook::work::webhook_job;
use mairust_store::{Event, EventQuery, NewWebhookDelivery, StorageBackend, StoreError, Webhook, WebhookAdvance};

/// Webhooks that are looked at together.
const WEBHOOKS: u32 = 100;
/// Events that one webhook is moved on by at a time.
const EVENTS: u32 = 200;
/// Other nodes give a sign; should one get lost, it is looked again.
const LOOK_AGAIN: Duration = Duration::from_secs(20);
/// How long to wait before storage is asked again that failed.
const DOWN_PAUSE: Duration = Duration::from_secs(1);

/// Brings events to the queue.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    pub(crate) storage: Arc<dyn StorageBackend>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Dispatcher {
    /// Works until `stop`. What is cut off is done again at the next start.
    pub(crate) async fn run(self, stop: impl Future<Output = ()> + Send) {
        tokio::select! {
            () = stop => {}
            () = self.work() => {}
        }
    }

    async fn work(&self) {
        let (events, mut failing) = (self.storage.events(), false);
        loop {
            // Read before looking, so that an event that comes in between is not slept over.
            let (seen, began) = (events.version(), Instant::now());
            match self.step().await {
                Ok(is_done) => {
                    failing = false;
                    if is_done {
                        let _ = tokio::time::timeout(LOOK_AGAIN, events.changed(seen)).await;
                    } else if events.version() != seen {
                        // While mail comes in, it comes first.
                        tokio::time::sleep(began.elapsed()).await;
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        let error = crate::error::chain(&error);
                        tracing::error!(component = "webhooks", error, "events can't be passed on, trying again");
                    }
                    tokio::time::sleep(DOWN_PAUSE).await;
                }
            }
        }
    }

    /// Moves webhooks on; whether there was none to be moved on. One that can't be does not keep the others from it.
    async fn step(&self) -> Result<bool, StoreError> {
        let behind = self.storage.webhooks().behind(WEBHOOKS).await?;
        let mut outcome = Ok(behind.is_empty());
        for webhook in &behind {
            if let Err(error) = self.advance(webhook).await {
                outcome = outcome.and(Err(error));
            }
        }
        outcome
    }

    async fn advance(&self, webhook: &Webhook) -> Result<(), StoreError> {
        let (tenant, from) = (webhook.tenant, webhook.position);
        let span = self.storage.events().span(tenant).await?;
        let query = EventQuery { after: from, limit: EVENTS, ..EventQuery::default() };
        let events = self.storage.events().list(tenant, &query).await?.items;
        // Without any, those in between were removed because they are old.
        let to = events.last().map_or(span.newest, |last| last.position);
        let deliveries: Vec<_> =
            events.iter().filter(|event| is_for(webhook, event)).map(|e| self.delivery(e)).collect();
        let now = self.clock.now();
        let jobs = deliveries.iter().map(|delivery| webhook_job(tenant, webhook.id, delivery.id, now)).collect();
        let advance = WebhookAdvance { webhook: webhook.id, from, to, deliveries, jobs };
        self.storage.webhooks().advance(tenant, advance).await.map(drop)
    }

    fn delivery(&self, event: &Event) -> NewWebhookDelivery {
        let (id, kind) = (WebhookDeliveryId::new(self.clock.now()), event.kind.clone());
        NewWebhookDelivery { id, event: event.id, position: event.position, kind }
    }
}

fn is_for(webhook: &Webhook, event: &Event) -> bool {
    webhook.wants(&event.kind) && event.kind != EventKind::WebhookTest.as_str()
}
