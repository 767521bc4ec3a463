//! Whether somebody may send now, and to whom: suspended users, the policy engine, the suppression list.

use std::time::Duration;

use mairust_core::{EmailAddress, EnhancedCode, Rejection, ReversePath, TenantId, Timestamp};
use mairust_hooks::{Decision, PolicyRequest};
use mairust_store::{Resolution, StoreError, User};

use super::{Author, Purpose, Submission, SubmissionError, Submissions, sender_not_allowed};
use crate::receive::refuse_for_store;

/// How long a policy engine may think. A database has given up by then.
const PATIENCE: Duration = Duration::from_secs(15);

impl Submissions {
    /// Asks whether a message may be sent; if so, it counts as sent. What is only looked at is not counted, and so the
    /// policy engine is not asked.
    ///
    /// A user is looked up again: a session may last longer than the right to send.
    pub(super) async fn admit(
        &self,
        submission: &Submission,
        purpose: Purpose,
        now: Timestamp,
    ) -> Result<(), SubmissionError> {
        let user = self.account(&submission.author, &submission.envelope.sender).await?;
        let decision = match user.as_ref().and_then(|user| user.suspension.as_ref()) {
            Some(suspension) => suspended(&suspension.reason),
            None if purpose == Purpose::Preview => return Ok(()),
            None => self.decide(request(submission, user.as_ref())?, now).await?,
        };
        self.metrics.policy_decided(decision.as_str(), decision.reason());
        let (rejection, retry_after) = match decision {
            Decision::Reject { rejection, .. } => (rejection, None),
            Decision::Tempfail { rejection, retry_after, .. } => (rejection, Some(retry_after)),
            Decision::Allow => return Ok(()),
        };
        tracing::info!(
            component = "policy",
            tenant_id = %submission.author.tenant,
            user_id = user.as_ref().map(|user| tracing::field::display(user.id)),
            recipients = submission.destinations.len(),
            reason = rejection.reason(),
            "a message was refused"
        );
        Err(SubmissionError::Denied { rejection, retry_after })
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

    async fn decide(&self, request: PolicyRequest, now: Timestamp) -> Result<Decision, Rejection> {
        let decided = match tokio::time::timeout(PATIENCE, self.policy.evaluate(&request, now)).await {
            Ok(decided) => decided.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no decision within {PATIENCE:?}")),
        };
        decided.map_err(|error| {
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

fn suspended(reason: &str) -> Decision {
    let text = "Sending is suspended for this account, please ask your administrator";
    let rejection = Rejection::new(550, EnhancedCode(5, 7, 1), text).because(format_args!("suspended: {reason}"));
    Decision::Reject { reason: "suspended", rejection }
}
