//! What hooks leave in the audit log.

use mairust_core::{HookId, MessageId, TenantId};
use mairust_hooks::breaker::{BreakerState, OpenReason, Transition};
use mairust_hooks::{HookPoint, HookRun, Observed};
use mairust_store::audit::{Actor, Target};
use mairust_store::{NewAuditEvent, Owner};
use serde_json::{Value, json};

use super::{Record, Recorder};

impl Recorder {
    /// The breaker of a hook opened or closed. That it is tried, and stays open since the trial failed, is no entry; nor
    /// is what somebody wanted, which has one.
    pub(crate) fn hook_breaker_changed(&self, hook: &Observed<'_>, point: HookPoint, change: &Transition) {
        let mut after = json!({"plugin_id": hook.name, "point": point.as_str()});
        let event_type = match change.to {
            BreakerState::Open { because: OpenReason::Forced, .. } => return,
            BreakerState::Open { because, .. } if change.from != BreakerState::HalfOpen.as_str() => {
                after["reason"] = because.as_str().into();
                "hook.breaker_opened"
            }
            BreakerState::Closed => "hook.breaker_closed",
            _ => return,
        };
        self.record(self.of_hook(event_type, hook, after));
    }

    /// Mail passed without a hook, since it failed. The first of a minute is recorded, the others are counted.
    pub(crate) fn hook_skipped(&self, hook: &Observed<'_>, run: &HookRun) {
        let after = json!({
            "plugin_id": hook.name,
            "point": run.point.as_str(),
            "outcome": run.outcome.as_str(),
            "invocation_id": run.id.to_string(),
        });
        self.count(&self.skipped, self.of_hook("hook.skipped", hook, after));
    }

    /// A hook disabled itself.
    pub(crate) fn hook_disabled(&self, (tenant, hook): (TenantId, HookId), plugin: &str, reason: &str) {
        let after = json!({"plugin_id": plugin, "reason": reason});
        let event = NewAuditEvent {
            target: Some(Target { kind: "hook".to_owned(), id: hook.to_string() }),
            ..self.event("hook.disabled", Actor::system(), after)
        };
        self.record(Record { owner: tenant.into(), event });
    }

    /// A program that is called as a hook did something by the callback API: `actions`, `completed` or `progressed`.
    pub(crate) fn hook_acted(
        &self,
        tenant: TenantId,
        plugin: &str,
        action: &str,
        message: Option<MessageId>,
        after: serde_json::Value,
    ) {
        let actor = Actor { kind: "plugin".to_owned(), id: Some(plugin.to_owned()), ip: None };
        let event = NewAuditEvent {
            target: message.map(|id| Target { kind: "message".to_owned(), id: id.to_string() }),
            ..self.event(&format!("callback.{action}"), actor, after)
        };
        self.record(Record { owner: tenant.into(), event });
    }

    /// An event about a hook. What those of the server itself do is for whoever runs it.
    fn of_hook(&self, event_type: &str, hook: &Observed<'_>, after: Value) -> Record {
        let id = hook.of_tenant.map_or_else(|| hook.name.to_owned(), |of_tenant| of_tenant.id.to_string());
        let event = NewAuditEvent {
            target: Some(Target { kind: "hook".to_owned(), id }),
            ..self.event(event_type, Actor::system(), after)
        };
        Record { owner: hook.of_tenant.map_or(Owner::Installation, |of_tenant| of_tenant.tenant.into()), event }
    }
}
