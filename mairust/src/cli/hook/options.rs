//! The options that say how a hook is bound, and the patch of settings that they make.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use mairust_core::parse_duration;
use serde_json::{Map, Value, json};

use crate::cli::output::Failure;

/// How a hook is bound; what is left out stays as it is or, for a new one, has its default.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where it is called: pre_receive, post_receive, pre_send; several with commas between them
    #[arg(long = "on", value_name = "POINTS", value_delimiter = ',')]
    points: Vec<String>,
    /// Where requests go: https://…
    #[arg(long, value_name = "URL", conflicts_with_all = ["command", "directory", "process"])]
    http: Option<String>,
    /// Where the program is asked whether it works; at the same host and port
    #[arg(long, value_name = "URL")]
    health: Option<String>,
    /// Whether answers have to be signed: off, prefer or require [default: require if the hook is required and its URL
    /// has no TLS, otherwise prefer]
    #[arg(long, value_name = "WHEN")]
    response_signature: Option<String>,
    /// Let the URL lead to a private address, this machine for example, and there without TLS
    #[arg(long, value_name = "YES", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    private_address: Option<bool>,
    /// The directory that a program is started in
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<String>,
    /// How many messages one process sees: worker (all of them, the default) or oneshot
    #[arg(long, value_name = "MODE")]
    process: Option<String>,
    /// The version of the program, as it is told to it
    #[arg(long, value_name = "VERSION")]
    plugin_version: Option<String>,
    /// Lower runs first, equals at the same time: 0 to 1000 [default: 100]
    #[arg(long, value_name = "NUMBER")]
    priority: Option<u16>,
    /// How long one call may take, for example 800ms: up to 3s at pre_receive, 5s at pre_send, 300s at post_receive
    /// [default: 2s, 30s at post_receive]
    #[arg(long, value_name = "TIME", value_parser = time)]
    timeout: Option<Duration>,
    /// How long to wait for a result that it tells later, from when it has taken a call with 202: from 1s to 1d
    /// [default: 300s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    result_timeout: Option<Duration>,
    /// Let no mail pass that the hook has not seen
    #[arg(long, value_name = "YES", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    required: Option<bool>,
    /// What becomes of a message when the hook fails: allow, quarantine, tempfail or reject [default: allow, tempfail if
    /// the hook is required]
    #[arg(long, value_name = "VERDICT")]
    on_failure: Option<String>,
    /// The same while the hook is left alone since too many calls failed [default: as --on-failure]
    #[arg(long, value_name = "VERDICT")]
    on_open: Option<String>,
    /// Have mail refused for good while the hook is down: reject needs it
    #[arg(long, value_name = "YES", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    i_know_this_bounces_mail: Option<bool>,
    /// Calls at the same time, at each point [default: 16, 4 at post_receive]
    #[arg(long, value_name = "NUMBER")]
    max_inflight: Option<u32>,
    /// Whether what it says counts (enforce) or is only written down (shadow) [default: enforce]
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    /// Ask it at pre_send before the policy judges what a message looks like
    #[arg(long, value_name = "YES", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    before_policy: Option<bool>,
    /// Ask it at pre_send about mail of the server itself, too, such as notices about deliveries
    #[arg(long, value_name = "YES", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    include_internal: Option<bool>,
    /// Ask it later about mail that passed pre_receive without it [default: if it may decide quarantine and is not
    /// required]
    #[arg(long, value_name = "YES", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    catch_up: Option<bool>,
    /// Call it for mail to these recipients only: a regular expression for whole addresses
    #[arg(long, value_name = "PATTERN")]
    recipients: Option<String>,
    /// What it may see and do; may be given several times: read-headers, read-headers=From,Subject, read-body=preview,
    /// read-body=full, preview-bytes=8192, read-attachments=metadata, read-attachments=preview, read-attachments=full,
    /// write-tags, write-flags, move-message, write-metadata, decide=tempfail,reject,quarantine, add-headers,
    /// add-headers=X-Spam-*
    #[arg(long = "grant", value_name = "GRANT")]
    grants: Vec<String>,
    /// What it may not see or do any more, by the name of the grant; read-envelope is granted unless it is named here
    #[arg(long, value_name = "GRANT")]
    revoke: Vec<String>,
    /// All grants at once, instead of those it had: JSON as it is told to the hook, or @FILE
    #[arg(long = "grants", value_name = "JSON", value_parser = object, conflicts_with_all = ["grants", "revoke"])]
    all_grants: Option<Map<String, Value>>,
    /// Settings of the program itself, instead of those it had: a JSON object, or @FILE
    #[arg(long, value_name = "JSON", value_parser = object)]
    plugin_config: Option<Map<String, Value>>,
    /// Go back to the default of a setting: timeout, result-timeout, on-failure, on-open, max-inflight, catch-up, recipients, health,
    /// response-signature, directory
    #[arg(long, value_name = "SETTING", value_parser = unset)]
    unset: Vec<String>,
    /// Instead of --http, behind `--`: a program to start, and its arguments. It is an absolute path, or relative to
    /// --directory; no shell reads it
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Options {
    /// What they change about settings.
    pub(super) fn patch(&self) -> Result<Map<String, Value>, Failure> {
        let mut patch = Map::new();
        let mut set = |name: &str, value: Option<Value>| drop(value.map(|value| patch.insert(name.to_owned(), value)));
        let points: Vec<_> = self.points.iter().map(|point| point.trim().replace('-', "_")).collect();
        set("points", (!points.is_empty()).then(|| points.into()));
        set("version", text(&self.plugin_version));
        set("priority", self.priority.map(Value::from));
        set("timeout_ms", self.timeout.map(|time| json!(time.as_millis())));
        set("result_timeout_ms", self.result_timeout.map(|time| json!(time.as_millis())));
        set("required", self.required.map(Value::from));
        set("on_failure", text(&self.on_failure));
        set("on_open", text(&self.on_open));
        set("i_know_this_bounces_mail", self.i_know_this_bounces_mail.map(Value::from));
        set("max_inflight", self.max_inflight.map(Value::from));
        set("mode", text(&self.mode));
        set("before_policy", self.before_policy.map(Value::from));
        set("include_internal", self.include_internal.map(Value::from));
        set("catch_up", self.catch_up.map(Value::from));
        set("recipients", text(&self.recipients));
        set("config", self.plugin_config.clone().map(Value::from));
        let (transport, grants) = (self.transport(), self.grants()?);
        set("transport", (!transport.is_empty()).then(|| transport.into()));
        set("grants", (!grants.is_empty()).then(|| grants.into()));
        for name in &self.unset {
            match name.as_str() {
                "health_endpoint" | "response_signature" | "directory" => {
                    let transport = patch.entry("transport").or_insert_with(|| json!({}));
                    transport[name] = Value::Null;
                }
                _ => drop(patch.insert(name.clone(), Value::Null)),
            }
        }
        Ok(patch)
    }

    fn transport(&self) -> Map<String, Value> {
        let mut transport = Map::new();
        let mut set =
            |name: &str, value: Option<Value>| drop(value.map(|value| transport.insert(name.to_owned(), value)));
        set("kind", self.http.as_ref().map(|_| "http".into()));
        set("endpoint", text(&self.http));
        set("health_endpoint", text(&self.health));
        set("response_signature", text(&self.response_signature));
        set("private_address", self.private_address.map(Value::from));
        set("kind", (!self.command.is_empty()).then(|| "process".into()));
        set("command", (!self.command.is_empty()).then(|| self.command.clone().into()));
        set("directory", text(&self.directory));
        set("mode", text(&self.process));
        transport
    }

    fn grants(&self) -> Result<Map<String, Value>, Failure> {
        if let Some(all) = &self.all_grants {
            // Whatever is not named goes back to its default.
            let known = mairust_hooks::HookSettings::all_grants();
            let mut grants: Map<_, _> = known.into_iter().map(|name| (name, Value::Null)).collect();
            grants.extend(all.clone());
            return Ok(grants);
        }
        let mut grants = Map::new();
        for given in &self.grants {
            let (name, value) = given.split_once('=').map_or((&**given, None), |(name, value)| (name, Some(value)));
            grant(&mut grants, &name.replace('-', "_"), value)?;
        }
        for name in &self.revoke {
            let name = name.replace('-', "_");
            let value = if name == "read_envelope" { json!(false) } else { Value::Null };
            for list in ["read_headers", "add_headers"].into_iter().filter(|list| *list == name) {
                grants.insert(format!("{list}_only"), Value::Null);
            }
            grants.insert(name, value);
        }
        Ok(grants)
    }
}

/// Adds one grant, as it is written behind `--grant`.
fn grant(grants: &mut Map<String, Value>, name: &str, value: Option<&str>) -> Result<(), Failure> {
    let list = |value: &str| Value::from_iter(value.split(',').map(str::trim));
    let usage = |text: String| Err(Failure::usage(text));
    match (name, value) {
        ("read_headers" | "add_headers", only) => {
            grants.insert(format!("{name}_only"), only.map_or(Value::Null, list));
            grants.insert(name.to_owned(), true.into());
        }
        ("read_envelope" | "write_tags" | "write_flags" | "move_message" | "write_metadata", None) => {
            grants.insert(name.to_owned(), true.into());
        }
        ("read_body" | "read_attachments", Some(value)) => drop(grants.insert(name.to_owned(), value.into())),
        ("decide", Some(value)) => drop(grants.insert(name.to_owned(), list(value))),
        ("preview_bytes", Some(value)) => match value.parse::<u32>() {
            Ok(number) => drop(grants.insert(name.to_owned(), number.into())),
            Err(_) => return usage(format!("--grant preview-bytes={value}: must be a number from 4096 to 16384")),
        },
        ("read_body" | "read_attachments" | "decide" | "preview_bytes", None) => {
            return usage(format!("--grant {}: say what, with =; see --help", name.replace('_', "-")));
        }
        (_, _) => {
            let given = value.map_or_else(|| name.to_owned(), |value| format!("{name}={value}"));
            return usage(format!("--grant {}: there is no such grant; see --help", given.replace('_', "-")));
        }
    }
    Ok(())
}

fn text(value: &Option<String>) -> Option<Value> {
    value.as_deref().map(Value::from)
}

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// Reads a JSON object: as it stands there, or from a file behind `@`.
fn object(text: &str) -> Result<Map<String, Value>, String> {
    let json = match text.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(Path::new(path)).map_err(|error| format!("{path}: {error}"))?,
        None => text.to_owned(),
    };
    serde_json::from_str(&json).map_err(|error| format!("write a JSON object, or @FILE: {error}"))
}

/// The setting that has a default to go back to.
fn unset(name: &str) -> Result<String, String> {
    Ok(match name {
        "timeout" => "timeout_ms",
        "result-timeout" => "result_timeout_ms",
        "health" => "health_endpoint",
        "on-failure" => "on_failure",
        "on-open" => "on_open",
        "max-inflight" => "max_inflight",
        "catch-up" => "catch_up",
        "recipients" => "recipients",
        "response-signature" => "response_signature",
        "directory" => "directory",
        _ => return Err("it has no default to go back to; see --help".to_owned()),
    }
    .to_owned())
}
