//! Hooks as administrators handle them: how their breakers are, and what they say about a message that is shown to them.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use mairust_core::{Body, Envelope, Mail, Origin, ReversePath, TenantId};
use mairust_hooks::protocol::request::SessionOrigin;
use mairust_hooks::protocol::{MailFacts, Mode};
use mairust_hooks::{
    Answer, FailureKind, Fingerprint, HookCall, HookError, HookHandler, HookPoint, HookSettings, Remote, RunOutcome,
};
use mairust_http::{CircuitState, HookControl, HookControlError, HookTrial, Shown, Subject};
use mairust_store::{HookBinding, HookInvocation, HookReport};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::bound::BoundHooks;
use super::stored::stored;

/// The message that is shown if nobody names one.
const SAMPLE: &[u8] = "From: Sample <sample@sender.example>\r\nTo: you@recipient.example\r\n\
    Subject: =?UTF-8?B?44K144Oz44OX44Or?=\r\nDate: Sat, 22 Nov 2025 03:04:06 +0000\r\n\
    Message-ID: <sample@sender.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Transfer-Encoding: 8bit\r\n\r\nThis is a sample.\r\nこれは見本です。\r\n"
    .as_bytes();

#[async_trait]
impl HookControl for BoundHooks {
    async fn circuit(&self, hook: &HookBinding) -> Result<Vec<CircuitState>, HookControlError> {
        let hooks = self.current().await?.of(hook.tenant);
        let state = |point| Some(CircuitState { point, state: hooks.breaker(&hook.plugin_id, point)? });
        Ok(HookPoint::ALL.into_iter().filter_map(state).collect())
    }

    async fn show(&self, hook: &HookBinding, shown: Shown) -> Result<HookTrial, HookControlError> {
        let unusable = HookControlError::Unusable;
        let settings = HookSettings::kept(&hook.settings).map_err(unusable)?;
        let (mail, facts) = self.subject(hook.tenant, shown.subject).await?;
        let remote = self.handlers().remote(hook, &settings).await.map_err(unusable)?;
        let now = self.handlers().clock.now();
        let mut call = HookCall::new(shown.point, mail, facts, now);
        call.mode = if shown.again { Mode::Replay } else { Mode::Test };
        let time = settings.timeout_ms.map_or(shown.point.timeout(), std::time::Duration::from_millis);
        call.deadline = Instant::now() + time;
        let trial = try_call(&remote, &call).await?;
        remote.close().await;
        self.calls().note(std::iter::once(invocation(hook, &call, &trial)));
        self.calls().write().await;
        Ok(trial)
    }
}

impl BoundHooks {
    async fn subject(&self, tenant: TenantId, subject: Subject) -> Result<(Mail, Arc<MailFacts>), HookControlError> {
        let octets = match subject {
            Subject::Kept(id) => {
                let found = stored(&**self.storage(), tenant, id).await.map_err(HookControlError::Unusable)?;
                return found.ok_or(HookControlError::Gone);
            }
            Subject::Sample => SAMPLE.to_vec(),
            Subject::Text(octets) => octets,
        };
        let facts = MailFacts::new(Fingerprint::of_octets(&octets), SessionOrigin::Smtp);
        let body = Body::from(octets);
        let content = crate::receive::parse(body.clone()).await;
        let content = content.map_err(|rejection| HookControlError::Unusable(rejection.reason().to_owned()))?;
        let envelope = Envelope { sender: ReversePath::Null, recipients: Vec::new() };
        Ok((Mail::new(tenant, envelope, Origin::default(), body, content), Arc::new(facts)))
    }
}

/// Calls the program, and tells what it was asked and what it said.
async fn try_call(remote: &Remote, call: &HookCall) -> Result<HookTrial, HookControlError> {
    let request = remote.request(call).await.map_err(|error| HookControlError::Unusable(error.to_string()))?;
    let began = Instant::now();
    let calling = AssertUnwindSafe(remote.call(call)).catch_unwind();
    let answer = match tokio::time::timeout_at(call.deadline, calling).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(HookError::of(FailureKind::Crash, "the transport panicked")),
        Err(_) => Err(HookError::of(FailureKind::Timeout, "no answer in time")),
    };
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let request = serde_json::from_slice(&request).unwrap_or(Value::Null);
    let trial = HookTrial {
        id: call.id.to_string(),
        request,
        outcome: String::new(),
        response: None,
        denied: Vec::new(),
        error: None,
        ms,
    };
    Ok(match answer {
        Ok(answer) if answer.later => HookTrial { outcome: RunOutcome::Accepted.as_str().to_owned(), ..trial },
        Ok(answer) => HookTrial {
            outcome: answer.verdict.as_str().to_owned(),
            denied: answer.denied.iter().map(|name| (*name).to_owned()).collect(),
            response: Some(response(&answer)),
            ..trial
        },
        Err(error) => HookTrial { outcome: error.kind().as_str().to_owned(), error: Some(error.to_string()), ..trial },
    })
}

fn response(answer: &Answer) -> Value {
    let smtp = answer.verdict.reply().map(|reply| {
        let enhanced = reply.enhanced().map(|enhanced| enhanced.to_string());
        json!({"code": reply.code(), "enhanced": enhanced, "text": reply.lines().join(" ")})
    });
    json!({
        "verdict": answer.verdict.as_str(),
        "smtp": smtp,
        "score": answer.score,
        "reason": answer.reason,
        "actions": answer.actions,
    })
}

fn invocation(hook: &HookBinding, call: &HookCall, trial: &HookTrial) -> HookInvocation {
    let envelope = call.mail.envelope();
    let reason = |response: &Value| response["reason"].as_str().map(str::to_owned);
    HookInvocation {
        id: trial.id.clone(),
        tenant: hook.tenant,
        binding: hook.plugin_id.clone(),
        hook: Some(hook.id),
        point: call.point.as_str().to_owned(),
        outcome: trial.outcome.clone(),
        message: call.mail.id(),
        at: call.occurred_at,
        report: HookReport {
            mode: call.mode.as_str().to_owned(),
            attempt: call.attempt,
            mail_from: envelope.sender.address().map(ToString::to_string),
            rcpt_to: envelope.recipients.iter().map(ToString::to_string).collect(),
            verdict: trial.response.is_some().then(|| trial.outcome.clone()),
            duration_ms: trial.ms,
            request_bytes: Some(trial.request.to_string().len() as u64),
            detail: trial.error.clone().or_else(|| trial.response.as_ref().and_then(reason)),
            score: trial.response.as_ref().and_then(|response| response["score"].as_f64()),
            denied: trial.denied.clone(),
            response: trial.response.as_ref().map(ToString::to_string),
            ..HookReport::default()
        },
    }
}
