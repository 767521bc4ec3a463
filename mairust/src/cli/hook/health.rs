//! How hooks say that they do.

use std::fmt::Write;

use mairust_hooks::HookSettings;
use mairust_store::{HookBinding, HookHealth, HookHealthResult};
use serde_json::{Value, json};

/// How a hook does; `None` if it was not asked, or can't be any more.
pub(super) fn of<'a>(hook: &HookBinding, all: &'a [HookHealth]) -> Option<&'a HookHealth> {
    let can_be_asked = HookSettings::kept(&hook.settings).is_ok_and(|settings| settings.transport.tells_health());
    all.iter().find(|health| can_be_asked && health.hook == hook.id)
}

/// How it does in a list.
pub(super) fn word(health: Option<&HookHealth>) -> String {
    health.map_or_else(String::new, |health| format!("  says {}", health.status))
}

/// What it said, newest first.
pub(super) fn in_full(health: Option<&HookHealth>) -> String {
    let Some(HookHealth { status, since, results, .. }) = health else { return String::new() };
    let mut text = format!("\nsays  {status} since {}", since.to_rfc3339());
    for HookHealthResult { at, status, details } in results {
        // Writing to a String never fails.
        let _ = write!(text, "\n  {}  {status}  {details}", at.to_rfc3339());
    }
    text
}

/// A hook as JSON, with how it does.
pub(super) fn with(mut hook: Value, health: Option<&HookHealth>) -> Value {
    let result = |HookHealthResult { at, status, details }: &HookHealthResult| json!({"at": at.to_rfc3339(), "status": status, "details": details});
    hook["health"] = health.map_or(Value::Null, |HookHealth { status, since, results, .. }| {
        let results: Vec<_> = results.iter().map(result).collect();
        json!({"status": status, "since": since.to_rfc3339(), "results": results})
    });
    hook
}
