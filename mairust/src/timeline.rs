//! What is recorded for the timelines of messages: facts of sessions, hooks, scanners and attempts in the
//! form that [`mairust_http::trace`] reads.

use std::time::Duration;

use mairust_core::{Origin, ScanReport, TlsFacts};
use mairust_hooks::protocol::Mode;
use mairust_hooks::{Decision, HookRun, RunOutcome, Score, Signal};
use mairust_http::trace::{
    HookCall, HostFacts, HostTls, PolicyFacts, RuleFacts, ScanFacts, SessionFacts, SignalFacts, TlsSession,
};
use mairust_smtp::client::{AttemptFacts, TlsRule, TlsUse};
use mairust_smtp::server::SessionInfo;

use crate::receive::trace::smtp_protocol;

/// A session, for the message that is under way.
pub(crate) fn session(session: &SessionInfo) -> SessionFacts {
    let listener = Some(session.peer.local.to_string());
    SessionFacts { listener, ..origin(&session.origin, session.peer.service.as_str(), smtp_protocol(session)) }
}

/// A request to the API.
pub(crate) fn request(origin: &Origin) -> SessionFacts {
    self::origin(origin, "http", "HTTP")
}

/// A command of whoever runs the server.
pub(crate) fn command(origin: &Origin) -> SessionFacts {
    self::origin(origin, "command", "local")
}

fn origin(origin: &Origin, service: &str, protocol: &str) -> SessionFacts {
    SessionFacts {
        service: service.to_owned(),
        protocol: protocol.to_owned(),
        listener: None,
        client: origin.client.map(|client| client.to_string()),
        helo: origin.helo.clone(),
        tls: origin.tls.as_ref().map(tls),
        user: origin.user.clone(),
    }
}

fn tls(facts: &TlsFacts) -> TlsSession {
    TlsSession { version: facts.version.clone(), cipher: facts.cipher.clone() }
}

/// One call of a hook.
pub(crate) fn hook_call(run: &HookRun) -> HookCall {
    let reason = match &run.outcome {
        RunOutcome::Done(_) => run.answer.as_ref().and_then(|answer| answer.reason.clone()),
        RunOutcome::Failed(_, reason) => Some(reason.clone()),
        RunOutcome::Open(because) => Some(because.as_str().to_owned()),
        _ => None,
    };
    HookCall {
        id: Some(run.id.to_string()),
        point: run.point.as_str().to_owned(),
        hook: run.hook.clone(),
        mode: (run.mode != Mode::Enforce).then(|| run.mode.as_str().to_owned()),
        outcome: run.outcome.as_str().to_owned(),
        reason,
        ms: milliseconds(run.duration),
    }
}

/// What the policy said.
pub(crate) fn policy(score: &Score) -> PolicyFacts {
    let decision = &score.decision;
    let signal = |signal: &Signal| SignalFacts { name: signal.name.to_owned(), value: signal.value };
    PolicyFacts {
        decision: decision.as_str().to_owned(),
        reason: (*decision != Decision::Allow).then(|| decision.reason().to_owned()),
        // What is no finite number has no form in JSON.
        score: if score.value.is_finite() { score.value } else { 0.0 },
        signals: score.signals.iter().filter(|signal| signal.value.is_finite()).map(signal).collect(),
    }
}

/// What a scanner said.
pub(crate) fn scan(report: &ScanReport) -> ScanFacts {
    let rule = |hit: &mairust_core::RuleHit| RuleFacts { rule: hit.rule.clone(), score: hit.score };
    let failed = report.failed.as_ref();
    ScanFacts {
        engine: report.engine.clone(),
        action: report.action.as_str().to_owned(),
        // What is no finite number has no form in JSON.
        rules: report.hits.iter().filter(|hit| hit.score.is_finite()).map(rule).collect(),
        failed: failed.map(|failure| format!("{}: {}", failure.engine, failure.reason)),
    }
}

/// What an attempt knew; `None` if it did not get as far as a host and took no time.
pub(crate) fn host(facts: &AttemptFacts) -> Option<HostFacts> {
    if *facts == AttemptFacts::default() {
        return None;
    }
    Some(HostFacts {
        name: facts.host.clone(),
        address: facts.address.map(|address| address.to_string()),
        source: facts.source.map(|source| source.to_string()),
        tls: host_tls(&facts.tls),
        tls_rule: facts.rule.map(|rule| TlsRule::as_str(rule).to_owned()),
        offered: facts.offered.clone(),
        reused: facts.reused,
        ms: milliseconds(facts.elapsed),
    })
}

fn host_tls(used: &TlsUse) -> Option<HostTls> {
    let state = |state: &str| HostTls { state: state.to_owned(), ..HostTls::default() };
    match used {
        TlsUse::Off => Some(state("off")),
        TlsUse::NotOffered => Some(state("not_offered")),
        TlsUse::Failed(reason) => Some(HostTls { reason: Some(reason.clone()), ..state("failed") }),
        TlsUse::On { facts, verified } => {
            Some(HostTls { session: Some(tls(facts)), verified: *verified, ..state("on") })
        }
        _ => None,
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
