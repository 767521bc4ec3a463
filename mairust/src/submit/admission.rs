//! Whether somebody may send now, and to whom: suspended users, the policy engine, the suppression list.

use std::time::Duration;

use mairust_core::{Content, EmailAddress, EnhancedCode, Rate, Rejection, ReversePath, TenantId, Timestamp};
use mairust_hooks::{Decision, PolicyError, PolicyRequest, Score};
use mairust_http::trace::PolicyFacts;
use mairust_store::{
    Acceptance, Allowance, HoldReason, NewEvent, NewJob, Priority, Resolution, StoreError, Suspension, Taken, User,
    UserChange,
};

use super::screening::Screening;
use super::{Author, Purpose, Submission, SubmissionError, Submissions, sender_not_allowed};
use crate::acceptance::accept;
use crate::receive::refuse_for_store;
use crate::{events, timeline};

/// How long a policy engine may think. A database has given up by then.
const PATIENCE: Duration = Duration::from_secs(15);
const HOUR: Duration = Duration::from_secs(3_600);

/// How a message is sent that may be sent.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// How long it waits before it is due; behind other mail, if at all.
    pub(super) wait: Duration,
    /// Why somebody has to release it, if so.
    pub(super) held: Option<HoldReason>,
    /// For the timeline.
    pub(super) facts: PolicyFacts,
    /// What is told of the account.
    pub(super) event: Option<NewEvent>,
}

impl Admission {
    /// Makes the work of sending it what it is to be.
    pub(super) fn apply(&self, job: &mut NewJob) {
        if !self.wait.is_zero() {
            job.priority = Priority::Bulk;
        }
        job.held = self.held;
    }
}

impl Submissions {
    /// Asks whether a message may be sent, and how; if so, it counts as sent, unless it is only looked at.
    ///
    /// A user is looked up again: a session may last longer than the right to send.
    pub(super) async fn admit(
        &self,
        submission: &Submission,
        content: &Content,
        purpose: Purpose,
        screening: &mut Screening,
        now: Timestamp,
    ) -> Result<Admission, SubmissionError> {
        let user = self.account(&submission.author, &submission.envelope.sender).await?;
        let mut request = request(submission, user.as_ref())?;
        request.dry_run = purpose == Purpose::Preview;
        let suspension = user.as_ref().and_then(|user| user.suspension.as_ref());
        let score = match suspension.filter(|suspension| suspension.holds(now)) {
            Some(suspension) => Score { decision: suspended(&suspension.reason), ..Score::default() },
            None => self.judge(&request, content, screening, now).await?,
        };
        if !request.dry_run {
            self.metrics.policy_decided(score.decision.as_str(), score.decision.reason());
        }
        let facts = timeline::policy(&score);
        let (wait, held) = match &score.decision {
            Decision::Allow => (Duration::ZERO, None),
            Decision::Slow { wait, .. } => (*wait, None),
            Decision::Hold { .. } => (Duration::ZERO, Some(HoldReason::Policy)),
            Decision::Reject { rejection, .. } => return Err(denied(&request, rejection.clone(), None)),
            Decision::Tempfail { rejection, retry_after, .. } => {
                return Err(denied(&request, rejection.clone(), Some(*retry_after)));
            }
            Decision::Suspend { detail, until, .. } => {
                if let (Some(user), false) = (&user, request.dry_run) {
                    let suspension = Suspension { since: now, reason: detail.clone(), until: *until };
                    self.suspend(user, suspension, score.value).await?;
                }
                return Err(denied(&request, suspension_refused(detail), None));
            }
        };
        screening.after_policy(&score).await?;
        let held = held.or(screening.held.is_some().then_some(HoldReason::Hook));
        let event = match request.dry_run || score.decision == Decision::Allow {
            true => None,
            false => self.told_hourly(&request, &score, now).await?,
        };
        Ok(Admission { wait, held, facts, event })
    }

    /// The first question and, if it is not the end, the second one: the stricter answer. In between, hooks may say
    /// no.
    async fn judge(
        &self,
        request: &PolicyRequest,
        content: &Content,
        screening: &mut Screening,
        now: Timestamp,
    ) -> Result<Score, SubmissionError> {
        let first = self.answered(self.policy.evaluate(request, now)).await?;
        if matches!(first, Decision::Suspend { .. } | Decision::Reject { .. } | Decision::Tempfail { .. }) {
            return Ok(Score { decision: first, ..Score::default() });
        }
        screening.before_policy().await?;
        let score = self.answered(self.policy.score(request, content, now)).await?;
        let lets_pass = matches!(score.decision, Decision::Allow);
        let slower = matches!((&first, &score.decision), (Decision::Hold { .. }, Decision::Slow { .. }));
        Ok(if lets_pass || slower { Score { decision: first, ..score } } else { score })
    }

    /// Takes the right to send from a user, and tells of it.
    async fn suspend(&self, user: &User, suspension: Suspension, score: f64) -> Result<(), StoreError> {
        let mut change = UserChange::default();
        change.suspension = Some(Some(suspension.clone()));
        self.storage.directory().change_user(user.tenant, user.id, &change).await?;
        tracing::warn!(
            component = "policy",
            tenant_id = %user.tenant,
            user = %user.address,
            reason = suspension.reason,
            "sending is suspended"
        );
        if let Some(recorder) = &self.recorder {
            recorder.sending_suspended(user, &suspension);
        }
        let mut acceptance = Acceptance::new(user.tenant);
        acceptance.events.push(events::suspended(user, &suspension, score));
        accept(&*self.storage, acceptance).await
    }

    /// What is told of an account whose mail goes slowly or is held, if it was not told within the hour.
    async fn told_hourly(
        &self,
        request: &PolicyRequest,
        score: &Score,
        now: Timestamp,
    ) -> Result<Option<NewEvent>, StoreError> {
        let told = Allowance { scope: format!("told:{}", request.account.lookup_key()), rate: Rate::new(1, HOUR) };
        if self.storage.allowances().take(request.tenant, &[told], 1, now).await? != Taken::All {
            return Ok(None);
        }
        tracing::warn!(
            component = "policy",
            tenant_id = %request.tenant,
            account = %request.account,
            decision = score.decision.as_str(),
            reason = score.decision.reason(),
            score = score.value,
            "mail of an account looks like abuse"
        );
        Ok(Some(events::slowed(request, score, now)))
    }

    /// Refuses a recipient to whom the tenant sends nothing.
    pub(crate) async fn check_recipient(&self, tenant: TenantId, address: &EmailAddress) -> Result<(), Rejection> {
        match self.suppressed(tenant, std::slice::from_ref(address)).await {
            Ok(found) if found.is_empty() => Ok(()),
            Ok(_) => {
                let text = format!("{address} is on the suppression list");
                Err(Rejection::new(550, EnhancedCode(5, 7, 1), text))
            }
            Err(error) => Err(refuse_for_store(&error)),
        }
    }

    /// Those of the addresses to which the tenant sends nothing.
    pub(super) async fn suppressed(
        &self,
        tenant: TenantId,
        addresses: &[EmailAddress],
    ) -> Result<Vec<EmailAddress>, StoreError> {
        let found = self.storage.suppressions().which(tenant, addresses, self.clock.now()).await?;
        if !found.is_empty() {
            self.metrics.policy_decided("reject", "suppressed");
        }
        Ok(found.into_iter().map(|entry| entry.address).collect())
    }

    /// The answer of the engine, which is not waited for without end.
    async fn answered<T>(&self, answer: impl Future<Output = Result<T, PolicyError>>) -> Result<T, Rejection> {
        let answered = match tokio::time::timeout(PATIENCE, answer).await {
            Ok(answered) => answered.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no decision within {PATIENCE:?}")),
        };
        answered.map_err(|error| {
            tracing::error!(
                component = "policy",
                error,
                "the policy engine has no answer, the message is refused, and may come again"
            );
            self.metrics.policy_decided("tempfail", "unavailable");
            Rejection::unavailable(error)
        })
    }

    /// The user whose sending it is: who logged in or, for an API key, whose address the sender is.
    async fn account(&self, author: &Author, sender: &ReversePath) -> Result<Option<User>, StoreError> {
        let directory = self.storage.directory();
        let id = match (&author.user, sender) {
            (Some(user), _) => Some(user.id),
            (None, ReversePath::Address(sender)) => match directory.resolve(sender).await? {
                Resolution::Mailbox(route) if route.tenant == author.tenant => Some(route.user),
                _ => None,
            },
            (None, ReversePath::Null) => None,
        };
        match id {
            Some(id) => directory.user(author.tenant, id).await,
            None => Ok(None),
        }
    }
}

fn request(submission: &Submission, user: Option<&User>) -> Result<PolicyRequest, SubmissionError> {
    let sender = &submission.envelope.sender;
    let account = match (user, sender) {
        (Some(user), _) => &user.address,
        (None, ReversePath::Address(sender)) => sender,
        // A user who logged in and is not there any more.
        (None, ReversePath::Null) => {
            let gone = submission.author.user.as_ref().map(|user| sender_not_allowed(&user.address));
            return Err(gone.unwrap_or_else(|| Rejection::unavailable("a message of nobody")).into());
        }
    };
    let recipients = submission.envelope.recipients.clone();
    let mut request = PolicyRequest::new(submission.author.tenant, account.clone(), recipients);
    request.user = user.map(|user| user.id);
    request.sender = sender.clone();
    request.size = submission.body.len();
    request.origin = submission.origin.clone();
    Ok(request)
}

/// A refusal, which the log hears of.
fn denied(request: &PolicyRequest, rejection: Rejection, retry_after: Option<Duration>) -> SubmissionError {
    tracing::info!(
        component = "policy",
        tenant_id = %request.tenant,
        user_id = request.user.map(tracing::field::display),
        recipients = request.recipients.len(),
        dry_run = request.dry_run,
        reason = rejection.reason(),
        "a message was refused"
    );
    SubmissionError::Denied { rejection, retry_after }
}

fn suspended(reason: &str) -> Decision {
    Decision::Reject { reason: "suspended", rejection: suspension_refused(reason) }
}

fn suspension_refused(reason: &str) -> Rejection {
    let text = "Sending is suspended for this account, please ask your administrator";
    Rejection::new(550, EnhancedCode(5, 7, 1), text).because(format_args!("suspended: {reason}"))
}
