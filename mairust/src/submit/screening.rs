//! Hooks at `pre_send`: what they say about a message before it is signed, and what they want done with it.

use std::sync::Arc;

use bytes::Bytes;
use mairust_core::{Body, Content, Mail, MessageId, Rejection};
use mairust_hooks::protocol::{ActionOutcome, Mode, request};
use mairust_hooks::{Abandoned, HookPoint, HookRun, Hooks, RunOutcome, Score, Stage, Verdict};
use mairust_smtp::server::HangUp;

use super::fix_up::FixedUp;
use super::{Purpose, Submission, SubmissionError};
use crate::hooks::wanted::possible;
use crate::hooks::{About, BoundHooks, Wanted};
use crate::receive::{hung_up, parse};

/// What hooks say about a message.
#[derive(Debug, Default)]
pub(super) struct Screening {
    /// The hooks, the message, and who waits; `None` if nobody wants to see it.
    asking: Option<(Hooks, Stage, HangUp)>,
    /// The calls so far.
    pub(super) runs: Vec<HookRun>,
    /// What became of what they want done.
    outcomes: Vec<ActionOutcome>,
    /// What they want done with it.
    pub(super) wanted: Wanted,
    /// Why somebody has to look at it first, if so.
    pub(super) held: Option<String>,
}

impl Screening {
    /// Begins to ask about a message.
    pub(super) async fn begin(
        hooks: Hooks,
        submission: &Submission,
        fixed: &FixedUp,
        purpose: Purpose,
    ) -> Result<Self, Rejection> {
        let point = HookPoint::PreSend;
        if hooks.names(point, &submission.envelope.recipients).is_empty() {
            return Ok(Self::default());
        }
        let (body, content) = whole(fixed).await?;
        let (tenant, envelope) = (submission.author.tenant, submission.envelope.clone());
        let mail = Mail::new(tenant, envelope, submission.origin.clone(), body, content);
        let facts = submission.way.facts(&mail).await?;
        let mode = if purpose == Purpose::Preview { Mode::Test } else { Mode::Enforce };
        let stage = Stage { mode, deadline: hooks.deadline(point), ..Stage::new(point, mail, facts) };
        Ok(Self { asking: Some((hooks, stage, submission.hang_up.clone())), ..Self::default() })
    }

    /// Asks those that are to be asked before the policy judges what the message looks like.
    pub(super) async fn before_policy(&mut self) -> Result<(), SubmissionError> {
        self.ask(true).await
    }

    /// Asks the others, who are told what the policy says.
    pub(super) async fn after_policy(&mut self, score: &Score) -> Result<(), SubmissionError> {
        if let Some((_, stage, _)) = &mut self.asking {
            let mut facts = Arc::unwrap_or_clone(stage.facts.clone());
            facts.policy = Some(request::Policy {
                decision: score.decision.as_str().to_owned(),
                score: if score.value.is_finite() { score.value } else { 0.0 },
                reasons: score.signals.iter().map(|signal| signal.name.to_owned()).collect(),
                rate: None,
            });
            stage.facts = Arc::new(facts);
        }
        self.ask(false).await
    }

    /// Has it written down what calls came to; `message` is its id if it is taken.
    pub(super) fn note(&self, hooks: &BoundHooks, submission: &Submission, message: Option<MessageId>) {
        let (tenant, envelope) = (submission.author.tenant, &submission.envelope);
        let (sender, recipients) = (&envelope.sender, &envelope.recipients[..]);
        hooks.note(&self.runs, &About { tenant, sender, recipients, message, actions: &self.outcomes });
    }

    async fn ask(&mut self, before_policy: bool) -> Result<(), SubmissionError> {
        let Some((hooks, stage, hang_up)) = &mut self.asking else { return Ok(()) };
        stage.before_policy = before_policy;
        let asked = match hooks.ask(stage, hang_up.wait()).await {
            Ok(asked) => asked,
            Err(Abandoned { runs }) => {
                self.runs.extend(runs);
                return Err(hung_up().into());
            }
        };
        let merged = possible(asked.merged, stage.point);
        let verdict = merged.verdict.clone();
        self.outcomes.extend_from_slice(&merged.outcomes);
        self.wanted.add(merged, &asked.runs);
        self.runs.extend(asked.runs);
        match verdict {
            Verdict::Allow => Ok(()),
            Verdict::Quarantine { reason } => {
                self.held.get_or_insert(reason);
                Ok(())
            }
            Verdict::Reject(rejection) => Err(SubmissionError::Screened(rejection)),
            Verdict::Tempfail(rejection) if self.runs.iter().any(is_missing) => {
                Err(SubmissionError::HookUnavailable(rejection))
            }
            Verdict::Tempfail(rejection) => Err(SubmissionError::Screened(rejection)),
        }
    }
}

/// Whether a hook that counts has no answer.
fn is_missing(run: &HookRun) -> bool {
    run.mode != Mode::Shadow && !matches!(run.outcome, RunOutcome::Done(_)) && !run.let_pass
}

/// The message with what is added to it here, as it would be signed.
async fn whole(fixed: &FixedUp) -> Result<(Body, Content), Rejection> {
    if fixed.added.is_empty() {
        return Ok((fixed.body.clone(), fixed.content.clone()));
    }
    let octets = fixed.body.read_all().map_err(Rejection::unavailable)?;
    let body = Body::from(Bytes::from([fixed.added.as_bytes(), &octets[..]].concat()));
    Ok((body.clone(), parse(body).await?))
}
