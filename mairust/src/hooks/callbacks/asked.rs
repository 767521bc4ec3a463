//! What a program may do about a call that its token is for.

use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::{Mail, Timestamp};
use mairust_hooks::protocol::{Action, ActionOutcome, ActionResult, Answer, LateResult, MailFacts, Mode, merge};
use mairust_hooks::{HookPoint, HookSettings};
use mairust_http::{CallFacts, CallbackError, OpenCall};
use mairust_store::{AwaitedResult, StoreErrorKind};
use serde_json::json;

use super::CallbackDesk;
use super::live::{Known, LiveCall, Subject, Told};
use crate::hooks::stored;
use crate::hooks::wanted::{change, possible};

const WAITED_FOR: CallbackError = CallbackError::State("somebody waits for the answer to this call: say it there");
const OVER: CallbackError = CallbackError::State("the call is over: it was answered, or given up");
const SETTLED: CallbackError = CallbackError::State("another result was told already");

/// A call, as the program that asks about it sees it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) desk: Arc<CallbackDesk>,
    pub(super) facts: CallFacts,
    pub(super) known: Known,
    pub(super) place: Place,
}

/// Where it is known of a call.
#[derive(Debug)]
pub(super) enum Place {
    /// In the store: the program has taken it.
    Awaited,
    /// In memory: it goes on, or has ended a short while ago.
    Live(Arc<LiveCall>),
}

#[async_trait]
impl OpenCall for Asked {
    fn facts(&self) -> &CallFacts {
        &self.facts
    }

    async fn mail(&self) -> Result<(Mail, Arc<MailFacts>), CallbackError> {
        match &self.known.subject {
            Subject::Unsaved(mail, facts) => Ok((mail.clone(), facts.clone())),
            Subject::Stored(id) => {
                let found = stored(&*self.desk.storage, self.facts.tenant, *id).await;
                found.map_err(CallbackError::Unreadable)?.ok_or(CallbackError::Gone)
            }
        }
    }

    async fn act(&self, actions: Vec<Action>) -> Result<Vec<ActionOutcome>, CallbackError> {
        let message = self.facts.message.ok_or(WAITED_FOR)?;
        let plugin = &self.facts.plugin.id;
        let outcome = |action: &Action, result| ActionOutcome { plugin: plugin.clone(), op: action.op(), result };
        if !matches!(self.facts.mode, Mode::CatchUp | Mode::Enforce) {
            return Ok(actions.iter().map(|action| outcome(action, ActionResult::Recorded)).collect());
        }
        let mut outcomes: Vec<_> = actions.iter().map(|action| outcome(action, ActionResult::Denied)).collect();
        let granted = |action: &Action| self.facts.granted.permits(action);
        let places: Vec<_> =
            (0..).zip(&actions).filter(|(_, action)| granted(action)).map(|(place, _)| place).collect();
        let answer = actions.into_iter().filter(granted).fold(Answer::allow(), Answer::then);
        let merged = possible(merge([(plugin.clone(), answer)]), HookPoint::PostReceive);
        for (place, done) in places.into_iter().zip(&merged.outcomes) {
            let place: usize = place;
            outcomes[place] = done.clone();
        }
        let change = change(merged);
        if !change.is_empty() {
            let changed = self.desk.storage.messages().change(self.facts.tenant, message, &change).await;
            changed.map_err(|error| match error.kind() {
                StoreErrorKind::NotFound => CallbackError::Gone,
                _ => CallbackError::Store(error),
            })?;
        }
        let done: Vec<_> = outcomes.iter().map(|done| json!({"op": done.op, "result": done.result.as_str()})).collect();
        self.audit("actions", json!({"invocation_id": self.facts.invocation.as_str(), "results": done}));
        Ok(outcomes)
    }

    async fn complete(&self, result: LateResult) -> Result<(), CallbackError> {
        if !self.facts.point.is_async() {
            return Err(WAITED_FOR);
        }
        if matches!(result, LateResult::Done(_)) {
            let granted = &self.facts.granted;
            let answer = result.clone().into_answer(&self.facts.invocation, granted, granted);
            answer.map_err(|error| CallbackError::Denied(error.to_string()))?;
        }
        let told = match &self.place {
            Place::Awaited => Told::Awaited,
            Place::Live(call) => call.tell(result.clone()),
        };
        match told {
            Told::Early => {}
            Told::Again => return Err(SETTLED),
            Told::TooLate => return Err(OVER),
            Told::Awaited => self.settle(&result).await?,
        }
        let status = if matches!(result, LateResult::Done(_)) { "done" } else { "failed" };
        self.audit("completed", json!({"invocation_id": self.facts.invocation.as_str(), "status": status}));
        Ok(())
    }

    async fn progress(&self) -> Result<Timestamp, CallbackError> {
        if !self.facts.point.is_async() {
            return Err(WAITED_FOR);
        }
        let (hooks, tenant, job) = (self.desk.storage.hooks(), self.facts.tenant, self.known.job());
        let Some(AwaitedResult { result: None, .. }) = hooks.awaited(tenant, job).await? else { return Err(OVER) };
        let binding = hooks.get(tenant, self.facts.hook).await?.ok_or(OVER)?;
        let settings = HookSettings::kept(&binding.settings).map_err(CallbackError::Unreadable)?;
        let until = self.desk.clock.now().plus(settings.result_timeout());
        if !hooks.put_off(tenant, job, until).await? {
            return Err(OVER);
        }
        let awaited = hooks.awaited(tenant, job).await?.ok_or(OVER)?;
        self.audit("progressed", json!({"invocation_id": self.facts.invocation.as_str()}));
        Ok(awaited.result_by)
    }

    fn log(&self, level: tracing::Level, text: &str, fields: Option<&str>) {
        let log = self.desk.log(self.facts.tenant, &self.facts.plugin.id);
        log.remote(level, self.facts.invocation.as_str(), text, fields);
    }
}

impl Asked {
    /// Keeps a result for the job that waits for it.
    async fn settle(&self, result: &LateResult) -> Result<(), CallbackError> {
        let (hooks, tenant, job) = (self.desk.storage.hooks(), self.facts.tenant, self.known.job());
        let (told, now) = (json!(result), self.desk.clock.now());
        if hooks.settle(tenant, job, told.clone(), now).await? {
            return Ok(());
        }
        match hooks.awaited(tenant, job).await?.and_then(|awaited| awaited.result) {
            Some(known) if known == told => Ok(()),
            Some(_) => Err(SETTLED),
            None => Err(OVER),
        }
    }

    fn audit(&self, action: &str, after: serde_json::Value) {
        if let Some(recorder) = self.desk.recorder() {
            let CallFacts { tenant, plugin, message, .. } = &self.facts;
            recorder.hook_acted(*tenant, &plugin.id, action, *message, after);
        }
    }
}
