//! What requests to the REST API leave in the audit log.

use std::net::IpAddr;
use std::sync::PoisonError;

use mairust_http::{
    AuditSink, ContentView, HookOperation, Principal, PurgedMessage, QueueOperation, RefusedKey, SuppressionChange,
    WebhookOperation,
};
use mairust_store::audit::{Actor, Target};
use mairust_store::{NewAuditEvent, Owner};
use serde_json::json;

use super::{Record, Recorder, VIEWED_AGAIN, of_message, of_suppression, shortened};

impl AuditSink for Recorder {
    fn key_refused(&self, attempt: &RefusedKey<'_>) {
        let actor = Actor { kind: "anonymous".to_owned(), id: attempt.key_id.map(shortened), ip: attempt.client };
        let event = self.event("login.failed", actor, json!({"protocol": "api", "reason": "the API key is not valid"}));
        self.count(&self.failures, Record { owner: attempt.tenant.map_or(Owner::Installation, Owner::from), event });
    }

    fn content_viewed(&self, view: &ContentView<'_>) {
        let (now, key) = (self.clock.now(), (view.principal.key_id.clone(), view.message));
        {
            let mut viewed = self.viewed.lock().unwrap_or_else(PoisonError::into_inner);
            if viewed.get_mut(&key).is_some_and(|at| now.since(*at) < VIEWED_AGAIN) {
                return;
            }
            *viewed.entry(key, || now) = now;
        }
        let actor = api_key(view.principal, view.client);
        let event = NewAuditEvent {
            target: Some(Target { kind: "message".to_owned(), id: view.message.to_string() }),
            after: None,
            request_id: view.request_id.map(str::to_owned),
            ..self.event("message.content_viewed", actor, json!(null))
        };
        self.record(Record { owner: view.principal.tenant.into(), event });
    }

    fn message_purged(&self, purged: &PurgedMessage<'_>) {
        let actor = api_key(purged.principal, purged.client);
        let event = NewAuditEvent {
            target: Some(Target { kind: "message".to_owned(), id: purged.row.id.to_string() }),
            before: Some(of_message(purged.row)),
            after: None,
            request_id: purged.request_id.map(str::to_owned),
            ..self.event("message.purged", actor, json!(null))
        };
        self.record(Record { owner: purged.principal.tenant.into(), event });
    }

    fn queue_changed(&self, operation: &QueueOperation<'_>) {
        let actor = api_key(operation.principal, operation.client);
        let after = json!({"deliveries": operation.deliveries});
        let event = NewAuditEvent {
            target: Some(Target { kind: "queue".to_owned(), id: operation.target.to_owned() }),
            request_id: operation.request_id.map(str::to_owned),
            ..self.event(&format!("queue.{}", operation.action), actor, after)
        };
        self.record(Record { owner: operation.principal.tenant.into(), event });
    }

    fn suppression_changed(&self, change: &SuppressionChange<'_>) {
        let actor = api_key(change.principal, change.client);
        let shown = Some(of_suppression(change.suppression));
        let (event_type, before, after) = match change.added {
            true => ("suppression.added", None, shown),
            false => ("suppression.removed", shown, None),
        };
        let event = NewAuditEvent {
            target: Some(Target { kind: "suppression".to_owned(), id: change.suppression.address.to_string() }),
            before,
            after,
            request_id: change.request_id.map(str::to_owned),
            ..self.event(event_type, actor, json!(null))
        };
        self.record(Record { owner: change.principal.tenant.into(), event });
    }
    fn hook_changed(&self, operation: &HookOperation<'_>) {
        let actor = api_key(operation.principal, operation.client);
        let event = NewAuditEvent {
            target: Some(Target { kind: "hook".to_owned(), id: operation.hook.to_string() }),
            before: operation.before.clone(),
            after: operation.after.clone(),
            request_id: operation.request_id.map(str::to_owned),
            ..self.event(&format!("hook.{}", operation.action), actor, json!(null))
        };
        self.record(Record { owner: operation.principal.tenant.into(), event });
    }
    fn webhook_changed(&self, operation: &WebhookOperation<'_>) {
        let actor = api_key(operation.principal, operation.client);
        let event = NewAuditEvent {
            target: Some(Target { kind: "webhook".to_owned(), id: operation.webhook.to_string() }),
            before: operation.before.clone(),
            after: operation.after.clone(),
            request_id: operation.request_id.map(str::to_owned),
            ..self.event(&format!("webhook.{}", operation.action), actor, json!(null))
        };
        self.record(Record { owner: operation.principal.tenant.into(), event });
    }
}

/// An API key that did something.
fn api_key(principal: &Principal, ip: Option<IpAddr>) -> Actor {
    Actor { kind: "api_key".to_owned(), id: Some(principal.key_id.clone()), ip }
}
