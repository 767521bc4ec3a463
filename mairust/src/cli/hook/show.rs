//! How hooks are shown.

use std::fmt::Write;

use mairust_core::render_duration;
use mairust_hooks::{Circuit, HookPoint, HookSettings, HookTransport};
use mairust_store::HookBinding;
use serde_json::Value;

/// One line about a hook.
pub(super) fn line(hook: &HookBinding) -> String {
    let state = hook.state.reason().map_or_else(String::new, |reason| format!("  (disabled: {reason})"));
    let about = match HookSettings::kept(&hook.settings) {
        Ok(settings) => {
            let circuit = match settings.circuit {
                Circuit::Automatic => String::new(),
                other => format!("  breakers {}", other.as_str()),
            };
            let HookSettings { mode, priority, .. } = settings;
            format!("{}  {}  {priority}  {}{circuit}", points(&settings), place(&settings), mode.as_str())
        }
        Err(error) => error,
    };
    format!("{}  {about}{state}", hook.plugin_id)
}

/// All about a hook.
pub(super) fn in_full(hook: &HookBinding) -> String {
    let mut text = format!("{}\nid  {}\n", hook.plugin_id, hook.id);
    match HookSettings::kept(&hook.settings) {
        Ok(settings) => settings_in_full(&mut text, &settings),
        Err(error) => text.push_str(&error),
    }
    let state = hook.state.reason().map_or_else(|| "enabled".to_owned(), |reason| format!("disabled: {reason}"));
    let (made, changed) = (hook.created_at.to_rfc3339(), hook.updated_at.to_rfc3339());
    // Writing to a String never fails.
    let _ = write!(text, "state  {state}\nmade  {made}\nchanged  {changed}");
    text
}

fn settings_in_full(text: &mut String, settings: &HookSettings) {
    let mut add = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "{name}  {value}");
    };
    let or_default = |value: Option<String>| value.unwrap_or_else(|| "default".to_owned());
    let yes = |is_set: bool| if is_set { "yes" } else { "no" };
    add("on", &points(settings));
    add("reached by", &place(settings));
    if let HookTransport::Http { health_endpoint, .. } = &settings.transport {
        add("health", &health_endpoint.as_deref().unwrap_or("is not asked"));
        add("response signature", &settings.response_signature().as_str());
    }
    add("version", &settings.version);
    add("mode", &settings.mode.as_str());
    add("priority", &settings.priority);
    let timeout = settings.timeout_ms.map(|ms| render_duration(std::time::Duration::from_millis(ms)));
    add("timeout", &or_default(timeout));
    if settings.points.contains(&HookPoint::PostReceive) {
        add("result timeout", &render_duration(settings.result_timeout()));
    }
    add("calls at a time", &or_default(settings.max_inflight.map(|calls| calls.to_string())));
    add("required", &yes(settings.required));
    add("on failure", &settings.on_failure().as_str());
    add("while left alone", &settings.on_open.unwrap_or(settings.on_failure()).as_str());
    add("breakers", &settings.circuit.as_str());
    if settings.points.contains(&HookPoint::PreReceive) {
        add("catch up", &yes(settings.catch_up()));
    }
    if settings.points.contains(&HookPoint::PreSend) {
        add("before policy", &yes(settings.before_policy));
        add("internal mail", &yes(settings.include_internal));
    }
    add("recipients", &settings.recipients.as_deref().unwrap_or("all"));
    add("grants", &serde_json::to_value(&settings.grants).unwrap_or_default());
    add("config", &Value::Object(settings.config.clone()));
}

/// A hook as JSON: its settings, and what else is known about it.
pub(super) fn json(hook: &HookBinding) -> Value {
    let mut json = hook.settings.clone();
    json["id"] = hook.id.to_string().into();
    json["plugin_id"] = hook.plugin_id.clone().into();
    json["enabled"] = hook.state.is_enabled().into();
    json["disabled_because"] = hook.state.reason().into();
    json["generation"] = hook.generation.into();
    json["created_at"] = hook.created_at.to_rfc3339().into();
    json["updated_at"] = hook.updated_at.to_rfc3339().into();
    json
}

fn points(settings: &HookSettings) -> String {
    settings.points.iter().map(|point| point.as_str()).collect::<Vec<_>>().join(",")
}

fn place(settings: &HookSettings) -> String {
    match &settings.transport {
        HookTransport::Http { endpoint, .. } => endpoint.clone(),
        HookTransport::Process { command, .. } => command.join(" "),
        _ => settings.transport.kind().to_owned(),
    }
}
