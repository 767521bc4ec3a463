//! What calls of hooks came to.

use clap::Args;
use mairust_core::{Clock, JobId, MessageId, SystemClock, Timestamp};
use mairust_hooks::protocol::InvocationId;
use mairust_http::retry_given_up;
use mairust_store::{HookInvocation, HookInvocationQuery, HookReport, Page, StorageBackend};
use serde_json::{Value, json};

use super::{Site, find};
use crate::cli::directory::{InTenant, print_list};
use crate::cli::moment;
use crate::cli::output::{Failure, print_as};
use crate::cli::trail::Changed;

/// `mairust hook deliveries`.
#[derive(Debug, Args)]
pub(crate) struct Deliveries {
    /// Its name or id; without it, calls of all hooks
    hook: Option<String>,
    /// About this message only
    #[arg(long, value_name = "ID")]
    message: Option<MessageId>,
    /// Those only that ended so: accepted, allow, quarantine, tempfail, reject, timeout, connect, http, busy, auth, protocol, crash,
    /// gone, cancelled, budget, overload, breaker_open, poison
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
    /// How many at most
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    #[command(flatten)]
    tenant: InTenant,
}

/// `mairust hook explain`.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The id of the call, as it stands in replies to senders, logs and lists: inv_…
    invocation: String,
    /// Print JSON, as --output json does
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    tenant: InTenant,
}

/// `mairust hook retry`.
#[derive(Debug, Args)]
pub(crate) struct Retry {
    /// Its name or id
    hook: String,
    /// This call only: inv_…
    #[arg(long, value_name = "ID", conflicts_with_all = ["since", "until"])]
    call: Option<String>,
    /// Those only whose last attempt began at this time or later
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Those only whose last attempt began before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    #[command(flatten)]
    tenant: InTenant,
}

impl Retry {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let site = Site::open(&self.tenant).await?;
        let hook = site.find(&self.hook).await?;
        let now = SystemClock.now();
        let retried = match &self.call {
            Some(id) => {
                let call = InvocationId::parse(id).ok_or_else(|| Failure::usage("a call is inv_ and 26 characters"))?;
                let jobs = [JobId::from_bytes(call.to_bytes())];
                u64::from(site.storage.queue().retry_buried(site.tenant.id, &jobs, now).await?)
            }
            None => {
                let (binding, since, until) = (Some(hook.plugin_id.clone()), self.since, self.until);
                let query = HookInvocationQuery { binding, since, until, ..HookInvocationQuery::default() };
                retry_given_up(&site.storage, site.tenant.id, query, now).await?
            }
        };
        if retried > 0 {
            let told = Changed::made(json!({"retried": retried, "delivery_id": self.call}));
            site.trail.record(&site.storage, "hook.retried", ("hook", &hook.id), told).await?;
        }
        let text =
            if retried == 1 { "1 call is made again".to_owned() } else { format!("{retried} calls are made again") };
        print_as(self.tenant.format(), &text, &json!({"retried": retried}))
    }
}

impl Deliveries {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let (storage, tenant) = self.tenant.open().await?;
        let binding = match &self.hook {
            Some(hook) => Some(find(&storage, &tenant, hook).await?.plugin_id),
            None => None,
        };
        let Self { message, outcome, limit, .. } = self;
        let query = HookInvocationQuery { binding, message, outcome, limit, ..HookInvocationQuery::default() };
        let Page { items, .. } = storage.hooks().invocations(tenant.id, &query).await?;
        print_list(self.tenant.format(), items.iter().map(|call| (line(call), as_json(call))))
    }
}

impl Explain {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let (storage, tenant) = self.tenant.open().await?;
        let id = &self.invocation;
        let missing = || Failure::not_found(format_args!("there is no call {id}; see mairust hook deliveries"));
        let call = storage.hooks().invocation(tenant.id, id).await?.ok_or_else(missing)?;
        let format = if self.json { crate::cli::output::OutputFormat::Json } else { self.tenant.format() };
        print_as(format, &explained(&call), &as_json(&call))
    }
}

fn line(call: &HookInvocation) -> String {
    let HookInvocation { id, binding, point, outcome, at, report, .. } = call;
    let detail = report.detail.as_ref().map_or_else(String::new, |detail| format!("  {}", one_line(detail)));
    let pass = if report.let_pass { "  let pass" } else { "" };
    let (at, ms) = (at.to_rfc3339(), report.duration_ms);
    format!("{id}  {at}  {binding}  {point}  {}  {outcome}{pass}  {ms} ms{detail}", report.mode)
}

/// What happened, for people.
fn explained(call: &HookInvocation) -> String {
    let HookInvocation { id, point, at, report, .. } = call;
    let HookReport { mode, attempt, duration_ms, .. } = report;
    let mut lines = vec![
        format!("{id}: {} at {point}, {}", call.binding, at.to_rfc3339()),
        format!("mode {mode}, attempt {attempt}, {duration_ms} ms{}", sizes(report)),
    ];
    let sender = report.mail_from.as_deref().unwrap_or("<> (a notice)");
    let stored = call.message.map_or_else(String::new, |message| format!(", stored as {message}"));
    lines.push(format!("a message from {sender} to {}{stored}", report.rcpt_to.join(", ")));
    lines.push(said(call));
    lines.push(became(call));
    lines.extend(report.actions.iter().map(|action| format!("{}: {}", action.op, action.result)));
    if !report.denied.is_empty() {
        lines.push(format!("it has no leave for {}, which was left out", report.denied.join(", ")));
    }
    if let Some(response) = &report.response {
        lines.push(format!("it answered {}", one_line(response)));
    }
    lines.join("\n")
}

fn sizes(report: &HookReport) -> String {
    let request = report.request_bytes.map_or_else(String::new, |octets| format!(", a request of {octets} octets"));
    let status = report.status.map_or_else(String::new, |status| format!(", HTTP status {status}"));
    request + &status
}

/// What the hook said, or why it said nothing.
fn said(call: &HookInvocation) -> String {
    let report = &call.report;
    let detail = report.detail.as_deref().map(one_line);
    if let Some(verdict) = &report.verdict {
        let score = report.score.map_or_else(String::new, |score| format!(", score {score}"));
        let reason = detail.map_or_else(String::new, |reason| format!(": {reason}"));
        return format!("the hook said {verdict}{score}{reason}");
    }
    let what = match call.outcome.as_str() {
        "accepted" => "the hook has taken the message, and tells the result later",
        "auth" => "the hook did not know us: the keys differ",
        "breaker_open" => "the hook was not called: its breaker was open",
        "budget" => "the hook was not called: other hooks had used up the time",
        "busy" => "the hook said that it was busy",
        "cancelled" => "the client hung up before the hook answered",
        "connect" => "the hook could not be reached",
        "crash" => "the hook crashed",
        "gone" => "the hook said that it is not there any more",
        "http" => "the hook answered with another HTTP status than it may",
        "overload" => "the hook was not called: as many calls as it gets at a time did not end in time",
        "poison" => "the hook was not called: it had failed at this very message before",
        "protocol" => "the hook gave an answer that is wrong",
        "timeout" => "the hook did not answer in time",
        other => return format!("the hook had no answer: {other}"),
    };
    detail.map_or_else(|| what.to_owned(), |detail| format!("{what}: {detail}"))
}

/// What became of the message by that.
fn became(call: &HookInvocation) -> String {
    let report = &call.report;
    match (report.mode.as_str(), report.verdict.as_deref()) {
        ("enforce" | "catch_up", _) => {}
        (mode, _) => return format!("nothing came of it: the mode was {mode}"),
    }
    let text = match report.verdict.as_deref() {
        Some("allow") => "so the message went on",
        Some("quarantine") => "so the message was taken into quarantine, unless another hook refused it",
        Some("reject") if report.mode == "catch_up" => {
            "so the message was taken into quarantine: it had been taken before"
        }
        Some("reject") => "so the message was refused for good",
        Some("tempfail") => "so the message was refused for the time being",
        Some(other) => return format!("so the message was treated as {other} says"),
        None if call.outcome == "cancelled" => "so the message was not taken: whoever sent it has to send it again",
        None if call.point == "post_receive" || report.mode == "catch_up" => {
            "so nothing was done with the message; the hook is called again, unless this was the last time"
        }
        None => return instead(call),
    };
    text.to_owned()
}

/// What became of the message since the hook said nothing, by what counted then.
fn instead(call: &HookInvocation) -> String {
    let report = &call.report;
    let became = match report.instead.as_deref() {
        None if report.let_pass => return "so the message went on as if the hook had allowed it".to_owned(),
        None => return "so the message was treated as the hook's settings said then".to_owned(),
        Some("allow") => "went on as if the hook had allowed it",
        Some("quarantine") if call.point == "pre_send" => "was held, unless another hook refused it",
        Some("quarantine") => "was taken into quarantine, unless another hook refused it",
        Some("reject") => "was refused for good",
        Some("tempfail") => "was refused for the time being",
        Some(other) => return format!("so the message was treated as {other} says"),
    };
    let because = match report.instead_because.as_deref() {
        Some("on_failure") => ", as --on-failure said then",
        Some("on_open") => ", as --on-open said then",
        _ => "",
    };
    format!("so the message {became}{because}")
}

/// A text on one line, without what a terminal would obey.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

pub(super) fn as_json(call: &HookInvocation) -> Value {
    let mut json = json!(call.report);
    json["id"] = call.id.clone().into();
    json["hook"] = call.binding.clone().into();
    json["hook_id"] = call.hook.map(|id| id.to_string()).into();
    json["point"] = call.point.clone().into();
    json["outcome"] = call.outcome.clone().into();
    json["message_id"] = call.message.map(|id| id.to_string()).into();
    json["at"] = call.at.to_rfc3339().into();
    json
}
