//! `mairust message trace`: what happened to a message.

use clap::Args;
use mairust_core::MessageId;
use mairust_http::trace::{HostFacts, HostTls, PolicyFacts, SessionFacts, Trace, TraceEntry, TraceEvent, trace};
use serde_json::json;

use super::directory::InTenant;
use super::output::{Failure, print_as};

#[derive(Debug, Args)]
pub(super) struct TraceArgs {
    /// The message
    #[arg(value_name = "ID")]
    id: MessageId,
    #[command(flatten)]
    tenant: InTenant,
}

pub(super) async fn run(args: &TraceArgs) -> Result<(), Failure> {
    let (storage, tenant) = args.tenant.open().await?;
    let missing = || Failure::not_found(format_args!("{} has no message {}", tenant.name, args.id));
    let trace = trace(&storage, tenant.id, args.id).await?.ok_or_else(missing)?;
    print_as(args.tenant.format(), &text(&trace), &json!(trace))
}

/// One line for each entry.
fn text(trace: &Trace) -> String {
    let lines = trace.entries.iter().map(|entry| plain(&line(entry)));
    lines.collect::<Vec<_>>().join("\n")
}

fn line(entry: &TraceEntry) -> String {
    let (kind, text) = match &entry.event {
        TraceEvent::Received(session) => ("received", received(session)),
        TraceEvent::Authentication { results } => ("authentication", authentication(results)),
        TraceEvent::Scan { score, verdict, facts } => {
            let by = facts.as_ref().map(|facts| format!(" by {}: {}", facts.engine, facts.action));
            ("scan", format!("{verdict}, score {score:.1}{}", by.unwrap_or_default()))
        }
        TraceEvent::Policy(facts) => ("policy", policy(facts)),
        TraceEvent::Hook(call) => {
            let reason = call.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            ("hook", format!("{} {}: {}{reason} ({} ms)", call.point, call.hook, call.outcome, call.ms))
        }
        TraceEvent::Stored { folder, size, .. } => ("stored", format!("in {folder}, {size} bytes")),
        TraceEvent::Queued { recipients, send_at } => {
            let later = send_at.as_ref().map(|at| format!(", to be sent at {at}")).unwrap_or_default();
            ("queued", format!("for {}{later}", recipients.join(", ")))
        }
        TraceEvent::Attempt { recipient, outcome, host, result, facts } => {
            let host = host.as_ref().map(|host| format!(" by {host}")).unwrap_or_default();
            let facts = facts.as_ref().map(contact).unwrap_or_default();
            ("attempt", format!("{recipient} {outcome}{host}: {result}{facts}"))
        }
        TraceEvent::Notice { message_id, about } => {
            let about: Vec<_> = about.iter().map(|about| format!("{} of {}", about.what, about.recipient)).collect();
            ("notice", format!("{message_id} tells the sender: {}", about.join(", ")))
        }
        TraceEvent::Settled { status } => ("settled", (*status).to_owned()),
        TraceEvent::Deleted => ("deleted", String::new()),
        TraceEvent::NextAttempt { recipients, state, held_because, attempts, reason, .. } => {
            let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let held = held_because.map(|because| format!(" because {because}")).unwrap_or_default();
            ("next attempt", format!("for {} ({state}{held}, {attempts} so far){reason}", recipients.join(", ")))
        }
        _ => ("other", json!(entry.event).to_string()),
    };
    format!("{}  {kind:<14} {text}", entry.at.to_rfc3339()).trim_end().to_owned()
}

fn received(session: &SessionFacts) -> String {
    let mut text = format!("by {} ({})", session.service, session.protocol);
    if let Some(client) = &session.client {
        text.push_str(&format!(" from {client}"));
    }
    if let Some(helo) = &session.helo {
        text.push_str(&format!(", which says it is {helo}"));
    }
    if let Some(tls) = &session.tls {
        text.push_str(&format!(", {} {}", tls.version, tls.cipher));
    }
    if let Some(user) = &session.user {
        text.push_str(&format!(", as {user}"));
    }
    text
}

/// The result of each check: `spf pass, dkim fail`.
fn authentication(results: &serde_json::Value) -> String {
    let mut found = Vec::new();
    for (name, value) in results.as_object().into_iter().flatten() {
        let each = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        found.extend(each.iter().filter_map(|one| Some(format!("{name} {}", one["result"].as_str()?))));
    }
    if found.is_empty() { "nothing found".to_owned() } else { found.join(", ") }
}

fn policy(facts: &PolicyFacts) -> String {
    let reason = facts.reason.as_ref().map(|reason| format!(" because of {reason}")).unwrap_or_default();
    let signals = facts.signals.iter().map(|signal| format!(", {} {:.2}", signal.name, signal.value));
    format!("{}{reason}, score {:.2}{}", facts.decision, facts.score, signals.collect::<String>())
}

fn contact(facts: &HostFacts) -> String {
    let tls = facts.tls.as_ref().map(|tls| format!("{}, ", encryption(tls))).unwrap_or_default();
    format!(" ({tls}{} ms)", facts.ms)
}

fn encryption(tls: &HostTls) -> String {
    match (&tls.session, &tls.reason) {
        (Some(session), _) => {
            let proof = if tls.verified { "verified" } else { "unverified" };
            format!("{} {} {proof}", session.version, session.cipher)
        }
        (None, Some(reason)) => format!("TLS failed: {reason}"),
        (None, None) => format!("TLS {}", tls.state.replace('_', " ")),
    }
}

/// What others wrote must not steer a terminal.
fn plain(line: &str) -> String {
    line.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use mairust_core::Timestamp;
    use mairust_http::trace::SignalFacts;

    use super::*;

    fn told(event: TraceEvent) -> String {
        let entries = vec![TraceEntry { at: Timestamp::from_unix(1_763_780_646), event }];
        text(&Trace { id: "x".to_owned(), direction: "outbound", status: "queued", entries })
    }

    #[test]
    fn one_line_tells_what_an_attempt_knew() {
        let tls = HostTls { state: "not_offered".to_owned(), ..HostTls::default() };
        let attempt = TraceEvent::Attempt {
            recipient: "bob@remote.example".to_owned(),
            outcome: "deferred",
            host: Some("mx[192.0.2.7]:25".to_owned()),
            result: "451 4.3.2 \u{1b}[31mbusy\nreally".to_owned(),
            facts: Some(HostFacts { tls: Some(tls), ms: 7, ..HostFacts::default() }),
        };
        assert_eq!(
            told(attempt),
            "2025-11-22T03:04:06.000Z  attempt        bob@remote.example deferred by mx[192.0.2.7]:25: \
             451 4.3.2  [31mbusy really (TLS not offered, 7 ms)"
        );
    }

    #[test]
    fn a_policy_tells_its_signals() {
        let signals = vec![SignalFacts { name: "burst".to_owned(), value: 0.5 }];
        let facts = PolicyFacts { decision: "slow".to_owned(), reason: Some("score".to_owned()), score: 0.6, signals };
        assert!(
            told(TraceEvent::Policy(facts)).ends_with("policy         slow because of score, score 0.60, burst 0.50")
        );
    }

    #[test]
    fn results_of_authentication_are_in_short() {
        let results = json!({"spf": {"result": "pass"}, "dkim": [{"result": "fail"}, {"result": "pass"}], "v": 1});
        assert!(told(TraceEvent::Authentication { results }).ends_with("dkim fail, dkim pass, spf pass"));
        assert!(told(TraceEvent::Authentication { results: json!({"dkim": []}) }).ends_with("nothing found"));
    }
}
