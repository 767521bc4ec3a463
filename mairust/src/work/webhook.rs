//! Tells one webhook of one event.

use std::time::{Duration, Instant};

use mairust_core::{Timestamp, WebhookDeliveryId};
use mairust_hooks::{EndpointUrl, EventBody, EventKind, Signable, SigningSecret};
use mairust_store::webhook::keys;
use mairust_store::{
    Event, Lease, StoreError, StoreErrorKind, Webhook, WebhookAttempt, WebhookChange, WebhookDelivery,
    WebhookDeliveryState, WebhookState,
};

use super::retry::jitter;
use super::{Disposition, Workers};
use crate::webhooks::{Answer, Pass, Post};

/// Wait before a delivery is tried again when the fault is ours.
const OWN_FAULT_PAUSE: Duration = Duration::from_secs(60);

/// Waits after the first attempt, the second, and so on; there is one attempt more than there are waits.
const WAITS: [Duration; 6] = [
    Duration::from_secs(30),
    Duration::from_secs(2 * 60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(3_600),
    Duration::from_secs(6 * 3_600),
    Duration::from_secs(24 * 3_600),
];

/// What a webhook answers that wants to be told of nothing any more.
const GONE: u16 = 410;

/// What becomes of a delivery after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Delivered,
    /// Given up.
    Failed,
    /// The webhook wants nothing any more.
    Gone,
    /// Tried again after this time.
    Again(Duration),
}

impl Workers {
    pub(super) async fn webhook(&self, lease: &Lease, id: WebhookDeliveryId) -> Disposition {
        self.try_webhook(lease, id).await.unwrap_or_else(|error| {
            let reason = crate::error::chain(&error);
            tracing::error!(component = "webhooks", delivery_id = %id, error = reason, "a webhook can't be told, trying again");
            Disposition::Retry(OWN_FAULT_PAUSE, reason)
        })
    }

    async fn try_webhook(&self, lease: &Lease, id: WebhookDeliveryId) -> Result<Disposition, StoreError> {
        let (webhooks, tenant) = (self.storage.webhooks(), lease.tenant);
        let pending = |delivery: &WebhookDelivery| delivery.state == WebhookDeliveryState::Pending;
        let Some(delivery) = webhooks.delivery(tenant, id).await?.filter(pending) else {
            return Ok(Disposition::Complete);
        };
        let Some(webhook) = webhooks.get(tenant, delivery.webhook).await? else { return Ok(Disposition::Complete) };
        let is_test = delivery.kind == EventKind::WebhookTest.as_str();
        if !webhook.state.is_enabled() && !is_test {
            return self.end(delivery, "the webhook is disabled").await;
        }
        let event = self.storage.events().at(tenant, delivery.position).await?;
        let Some(event) = event.filter(|event| event.id == delivery.event) else {
            return self.end(delivery, "the event was removed because it is old").await;
        };
        match self.telling.gate.enter(webhook.id, self.clock.now(), is_test).await {
            Err(wait) => Ok(Disposition::Retry(wait, "other requests to the webhook come first".to_owned())),
            Ok(pass) => self.tell(lease, &webhook, delivery, &event, pass).await,
        }
    }

    /// Makes one attempt, and writes down what came of it.
    async fn tell(
        &self,
        lease: &Lease,
        webhook: &Webhook,
        mut delivery: WebhookDelivery,
        event: &Event,
        pass: Pass<'_>,
    ) -> Result<Disposition, StoreError> {
        let (at, began) = (self.clock.now(), Instant::now());
        let answer = self.post(webhook, &delivery, event, at).await?;
        pass.note(answer.is_ok(), self.clock.now());
        drop(pass);
        let fate = fate(&answer, delivery.tries + 1, jitter(lease.job, delivery.tries + 1));
        let attempt = attempt(at, began.elapsed(), answer);
        let reason = attempt.error.clone().unwrap_or_default();
        self.log_attempt(webhook, &delivery, &attempt, fate);
        delivery.add_attempt(attempt);
        let (state, next) = match fate {
            Fate::Delivered => (WebhookDeliveryState::Delivered, None),
            Fate::Failed | Fate::Gone => (WebhookDeliveryState::Failed, None),
            Fate::Again(wait) => (WebhookDeliveryState::Pending, Some(self.clock.now().plus(wait))),
        };
        (delivery.state, delivery.next_attempt) = (state, next);
        if fate == Fate::Gone {
            self.disable(webhook).await?;
        }
        self.storage.webhooks().record(&delivery).await?;
        Ok(match fate {
            Fate::Again(wait) => Disposition::Retry(wait, reason),
            Fate::Delivered | Fate::Failed | Fate::Gone => Disposition::Complete,
        })
    }

    /// Posts the event, signed with the keys of the webhook; the inner error says why there was no answer.
    async fn post(
        &self,
        webhook: &Webhook,
        delivery: &WebhookDelivery,
        event: &Event,
        at: Timestamp,
    ) -> Result<Result<Answer, String>, StoreError> {
        let unusable = |why| StoreError::new(StoreErrorKind::Unavailable, "sign request", why);
        let sealer = self.telling.sealer.as_ref().ok_or_else(|| unusable("this server has no master key"))?;
        let keys = keys::keys(&*self.storage, sealer, webhook.tenant, webhook.id).await?;
        let secrets: Vec<_> = keys.live(at).filter_map(|key| SigningSecret::from_bytes(key)).collect();
        let url = match EndpointUrl::parse(&webhook.url) {
            Ok(url) => url,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let body =
            EventBody::new(event.id, &event.kind, event.at, webhook.tenant, event.data.clone()).to_json().into_bytes();
        let request_id = delivery.request_id();
        let signature = Signable { id: &request_id, at, body: &body }.sign(&secrets);
        let (request_id, signature, attempt) = (request_id.as_str(), &signature, delivery.tries + 1);
        Ok(self.telling.client.post(Post { url: &url, request_id, attempt, signature, body }, at).await)
    }

    /// Ends a delivery without a request.
    async fn end(&self, mut delivery: WebhookDelivery, why: &str) -> Result<Disposition, StoreError> {
        let error = Some(why.to_owned());
        delivery.add_attempt(WebhookAttempt { at: self.clock.now(), status: None, took_ms: 0, error, response: None });
        (delivery.state, delivery.next_attempt) = (WebhookDeliveryState::Failed, None);
        self.storage.webhooks().record(&delivery).await?;
        self.metrics.webhook_told("failed");
        Ok(Disposition::Complete)
    }

    /// Tells a webhook of nothing any more, for it says that it is gone.
    async fn disable(&self, webhook: &Webhook) -> Result<(), StoreError> {
        const REASON: &str = "it answered 410 Gone";
        if !webhook.state.is_enabled() {
            return Ok(());
        }
        let state = Some(WebhookState::Disabled(REASON.to_owned()));
        let change = WebhookChange { state, ..WebhookChange::default() };
        match self.storage.webhooks().change(webhook.tenant, webhook.id, &change).await {
            Err(error) if error.kind() == StoreErrorKind::NotFound => return Ok(()),
            changed => changed?,
        };
        tracing::warn!(component = "webhooks", webhook_id = %webhook.id, reason = REASON, "a webhook is disabled");
        if let Some(recorder) = &self.recorder {
            recorder.webhook_disabled(webhook, REASON);
        }
        Ok(())
    }

    fn log_attempt(&self, webhook: &Webhook, delivery: &WebhookDelivery, attempt: &WebhookAttempt, fate: Fate) {
        self.metrics.webhook_told(fate.as_str());
        tracing::info!(
            component = "webhooks",
            webhook_id = %webhook.id,
            delivery_id = %delivery.id,
            event = delivery.kind,
            attempt = delivery.tries + 1,
            status = attempt.status,
            took_ms = attempt.took_ms,
            error = attempt.error,
            outcome = fate.as_str(),
            "a webhook was told"
        );
    }
}

impl Fate {
    fn as_str(self) -> &'static str {
        match self {
            Self::Again(_) => "deferred",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Gone => "gone",
        }
    }
}

/// What becomes of a delivery after attempt number `tries`. `jitter` in 0..1 moves the wait by up to a fifth in both
/// directions.
fn fate(answer: &Result<Answer, String>, tries: u32, jitter: f64) -> Fate {
    let wish = match answer {
        Ok(answer) if (200..300).contains(&answer.status) => return Fate::Delivered,
        Ok(answer) if answer.status == GONE => return Fate::Gone,
        Ok(answer) if matches!(answer.status, 429 | 503) => answer.retry_after,
        _ => None,
    };
    let place = usize::try_from(tries.saturating_sub(1)).unwrap_or(usize::MAX);
    match (WAITS.get(place), wish) {
        (None, _) => Fate::Failed,
        (Some(_), Some(wish)) => Fate::Again(wish),
        (Some(wait), None) => Fate::Again(wait.mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0))),
    }
}

fn attempt(at: Timestamp, took: Duration, answer: Result<Answer, String>) -> WebhookAttempt {
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    match answer {
        Ok(Answer { status, text, .. }) => {
            let error = (!(200..300).contains(&status)).then(|| format!("it answered {status}"));
            WebhookAttempt { at, status: Some(status), took_ms, error, response: Some(text) }
        }
        Err(error) => WebhookAttempt { at, status: None, took_ms, error: Some(error), response: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, seconds: Option<u64>) -> Result<Answer, String> {
        Ok(Answer { status, retry_after: seconds.map(Duration::from_secs), text: String::new() })
    }

    #[test]
    fn waits_grow_and_end() {
        let refused = Err("refused".to_owned());
        let waits: Vec<_> = (1..=7).map(|tries| fate(&refused, tries, 0.5)).collect();
        let seconds = [30, 120, 600, 3_600, 21_600, 86_400];
        let wanted: Vec<_> = seconds.map(|seconds| Fate::Again(Duration::from_secs(seconds))).to_vec();
        assert_eq!(waits[..6], wanted);
        assert_eq!(waits[6], Fate::Failed);
        assert_eq!(fate(&refused, 1, 0.0), Fate::Again(Duration::from_secs(24)));
        assert_eq!(fate(&refused, 1, 1.0), Fate::Again(Duration::from_secs(36)));
    }

    #[test]
    fn answers_decide() {
        for (status, wanted) in [(200, Fate::Delivered), (204, Fate::Delivered), (410, Fate::Gone)] {
            assert_eq!(fate(&answer(status, Some(9)), 1, 0.5), wanted);
        }
        let usual = Fate::Again(Duration::from_secs(30));
        for status in [301, 307, 400, 401, 404, 429, 500, 503] {
            assert_eq!(fate(&answer(status, None), 1, 0.5), usual, "{status}");
        }
        assert_eq!(fate(&answer(500, Some(9)), 1, 0.5), usual, "only those who are busy may say when");
        for status in [429, 503] {
            assert_eq!(fate(&answer(status, Some(9)), 1, 0.5), Fate::Again(Duration::from_secs(9)));
            assert_eq!(fate(&answer(status, Some(9)), 7, 0.5), Fate::Failed);
        }
    }
}
