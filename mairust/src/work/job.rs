//! The jobs of this server: a closed set with a versioned payload.

use mairust_core::{Domain, JobId, MessageId, TenantId, Timestamp, WebhookDeliveryId, WebhookId};
use mairust_store::webhook::work::{WEBHOOK_JOB, delivery_of, webhook_job};
use mairust_store::{Lease, NewJob, Priority};
use serde::{Deserialize, Serialize};

/// The version of [`Payload`] that is written.
const VERSION: u32 = 1;

/// A unit of queued work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Job {
    /// Ask one `pre_receive` hook about a stored message that passed without its answer.
    CatchUp { message: MessageId, hook: String },
    /// Bring an outbound message to its recipients at one domain.
    Deliver { message: MessageId, domain: Domain },
    /// Call one `post_receive` hook with one stored message.
    PostReceive { message: MessageId, hook: String },
    /// Tell one webhook of one event.
    Webhook { webhook: WebhookId, delivery: WebhookDeliveryId },
}

/// The payload of a job in the queue.
#[derive(Debug, Serialize, Deserialize)]
struct Payload {
    v: u32,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hook: Option<String>,
}

impl Job {
    /// The form in which the queue keeps it; due at once.
    pub(crate) fn queued(&self, tenant: TenantId, now: Timestamp) -> NewJob {
        let (message, domain, hook) = match self {
            Self::Deliver { message, domain } => (*message, Some(domain.as_str().to_owned()), None),
            Self::CatchUp { message, hook } | Self::PostReceive { message, hook } => {
                (*message, None, Some(hook.clone()))
            }
            Self::Webhook { webhook, delivery } => return webhook_job(tenant, *webhook, *delivery, now),
        };
        let payload = Payload { v: VERSION, message: message.to_string(), domain: domain.clone(), hook };
        NewJob {
            id: JobId::new(now),
            tenant,
            kind: self.kind().to_owned(),
            payload: serde_json::json!(payload),
            not_before: now,
            priority: Priority::Normal,
            destination: domain,
            message: Some(message),
            held: None,
        }
    }

    /// Reads the job of a lease.
    ///
    /// # Errors
    /// When the kind or the payload is not known: written by a newer version, or damaged.
    pub(crate) fn of(lease: &Lease) -> Result<Self, String> {
        let payload = lease.payload.as_ref().ok_or_else(|| "the stored payload is damaged".to_owned())?;
        Self::read(&lease.kind, payload)
    }

    fn read(kind: &str, payload: &serde_json::Value) -> Result<Self, String> {
        if kind == WEBHOOK_JOB {
            let (webhook, delivery) = delivery_of(payload)?;
            return Ok(Self::Webhook { webhook, delivery });
        }
        let payload = Payload::deserialize(payload).map_err(|error| error.to_string())?;
        if payload.v != VERSION {
            return Err(format!("payload version {} is not known here", payload.v));
        }
        let message = payload.message.parse().map_err(|_| "the message id is not valid".to_owned())?;
        match (kind, payload) {
            ("deliver", Payload { domain: Some(domain), .. }) => {
                let domain = Domain::parse(&domain).map_err(|error| error.to_string())?;
                Ok(Self::Deliver { message, domain })
            }
            ("catch_up", Payload { hook: Some(hook), .. }) => Ok(Self::CatchUp { message, hook }),
            ("post_receive", Payload { hook: Some(hook), .. }) => Ok(Self::PostReceive { message, hook }),
            _ => Err(format!("a job of kind {kind} with this payload is not known here")),
        }
    }

    /// The name of its kind.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::CatchUp { .. } => "catch_up",
            Self::Deliver { .. } => "deliver",
            Self::PostReceive { .. } => "post_receive",
            Self::Webhook { .. } => WEBHOOK_JOB,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote() {
        let now = Timestamp::from_unix(1);
        let (message, tenant) = (MessageId::new(now), TenantId::new(now));
        for job in [
            Job::Deliver { message, domain: Domain::parse("example.com").unwrap() },
            Job::CatchUp { message, hook: "tags".to_owned() },
            Job::PostReceive { message, hook: "tags".to_owned() },
            Job::Webhook { webhook: WebhookId::new(now), delivery: WebhookDeliveryId::new(now) },
        ] {
            let queued = job.queued(tenant, now);
            assert_eq!(Job::read(&queued.kind, &queued.payload), Ok(job));
        }
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let payload = |v| serde_json::json!({"v": v, "message": MessageId::new(Timestamp::default()).to_string()});
        assert!(Job::read("deliver", &payload(1)).is_err());
        assert!(Job::read("deliver", &payload(2)).unwrap_err().contains("version 2"));
        assert!(Job::read("webhook", &payload(1)).is_err() && Job::read("webhook", &payload(2)).is_err());
        assert!(Job::read("dance", &serde_json::json!({})).is_err());
    }
}
