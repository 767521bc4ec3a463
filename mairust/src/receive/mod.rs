//! Receiving: the answers to a session's questions, and the stages between the final dot and 250.
//!
//! Each stage consumes what the one before made, so that their order is the compiler's business:
//! [`Received`] → [`Inspected`](inspect::Inspected) → [`Judged`](judge::Judged) → accepted.

mod commit;
mod inspect;
mod judge;
pub(crate) mod login;
pub(crate) mod recipient;
pub(crate) mod trace;

pub(crate) use self::commit::hook_jobs;
pub(crate) use self::inspect::{Memory, parse};

use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::{Clock, Domain, EnhancedCode, Envelope, ForwardPath, Rejection, Reply, ReversePath};
use mairust_hooks::HookRunner;
use mairust_smtp::server::{Credentials, Grant, Identity, MailOptions, Peer, Received, SessionHandler, SessionInfo};
use mairust_store::StorageBackend;

use self::login::{Account, Accounts};
use self::recipient::{Destination, Recipients};
use crate::metrics::Metrics;
use crate::submit::{Author, Submission, SubmissionError, Submissions};

/// More hops than this is a loop (RFC 5321 §6.3).
const MAX_RECEIVED: usize = 50;

/// Serves SMTP sessions: mail from other servers into mailboxes, mail from users on its way.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) hostname: Domain,
    pub(crate) storage: Arc<dyn StorageBackend>,
    pub(crate) hooks: Arc<HookRunner>,
    pub(crate) accounts: Accounts,
    pub(crate) recipients: Recipients,
    pub(crate) submissions: Arc<Submissions>,
    pub(crate) memory: inspect::Memory,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Arc<dyn Clock>,
}

#[async_trait]
impl SessionHandler for Receiver {
    async fn login(&self, _peer: &Peer, credentials: Credentials) -> Result<Identity, Rejection> {
        let account = self.accounts.check(&credentials.user, &credentials.password).await?;
        Ok(Identity { name: account.user.address.to_string(), grant: Grant::new(account) })
    }

    async fn mail(&self, session: &SessionInfo, from: &ReversePath, _options: &MailOptions) -> Result<(), Rejection> {
        match (account(session), from) {
            (Some(account), ReversePath::Address(sender)) => {
                self.submissions.check_sender(&author(account), sender).await
            }
            _ => Ok(()),
        }
    }

    async fn recipient(&self, session: &SessionInfo, to: &ForwardPath) -> Result<Grant, Rejection> {
        let destination = match account(session) {
            Some(_) => self.recipients.for_user(to).await?,
            None => self.recipients.for_stranger(to).await?,
        };
        pin_tenant(session, &destination)?;
        Ok(Grant::new(destination))
    }

    async fn message(&self, session: &SessionInfo, message: Received) -> Result<Reply, Rejection> {
        match account(session) {
            Some(account) => self.submitted(session, account, message).await,
            None => self.receive(session, message).await,
        }
    }
}

impl Receiver {
    /// Mail from another server: the stages, in order.
    async fn receive(&self, session: &SessionInfo, message: Received) -> Result<Reply, Rejection> {
        let inspected = inspect::inspect(session, message, &self.memory).await?;
        if inspected.hops() > MAX_RECEIVED {
            return Err(Rejection::new(554, EnhancedCode(5, 4, 6), "Too many hops, this message is looping"));
        }
        let judged = judge::judge(inspected, &self.hooks, &self.metrics).await?;
        let id = commit::commit(judged, self).await?;
        Ok(Reply::new(250, EnhancedCode(2, 0, 0), id.to_string()))
    }

    /// Mail from a user who logged in.
    async fn submitted(&self, session: &SessionInfo, account: &Account, message: Received) -> Result<Reply, Rejection> {
        let _memory = self.memory.take(message.body.len()).await;
        let destinations = destinations(&message)?;
        let submission = Submission {
            author: author(account),
            envelope: Envelope {
                sender: message.sender,
                recipients: destinations.iter().map(|to| to.address().clone()).collect(),
            },
            destinations,
            protocol: trace::smtp_protocol(&session.origin, session.extended),
            origin: session.origin.clone(),
            body: message.body,
        };
        match self.submissions.submit(submission).await {
            Ok(submitted) => Ok(Reply::new(250, EnhancedCode(2, 0, 0), submitted.id.to_string())),
            Err(SubmissionError::Refused(rejection)) => Err(rejection),
            Err(SubmissionError::Store(error)) => Err(refuse_for_store(&error)),
        }
    }
}

/// The answer to a peer when the store failed: always temporary, for the fault is ours.
pub(crate) fn refuse_for_store(error: &mairust_store::StoreError) -> Rejection {
    if error.kind() == mairust_store::StoreErrorKind::Full {
        // RFC 3463 §3.4: X.3.1 mail system full.
        return Rejection::new(452, EnhancedCode(4, 3, 1), "Insufficient storage, please try again later")
            .because(error);
    }
    Rejection::unavailable(crate::error::chain(error))
}

/// Who logged in to this session.
fn account(session: &SessionInfo) -> Option<&Account> {
    session.identity.as_ref().and_then(|identity| identity.grant.get())
}

fn author(account: &Account) -> Author {
    Author { tenant: account.user.tenant, user: Some(account.user.clone()) }
}

/// What was found out about the recipients when they were granted.
fn destinations(message: &Received) -> Result<Vec<Destination>, Rejection> {
    let granted = |grant: &Grant| grant.get::<Destination>().cloned();
    let found: Option<Vec<_>> = message.recipients.iter().map(|recipient| granted(&recipient.grant)).collect();
    found.ok_or_else(|| Rejection::unavailable("a recipient was granted by somebody else"))
}

/// The first accepted recipient decides whose transaction this is: a recipient of another tenant
/// has to come in one of its own, so that one tenant's hooks never answer for another.
fn pin_tenant(session: &SessionInfo, destination: &Destination) -> Result<(), Rejection> {
    let tenant = |destination: &Destination| destination.local().map(|(tenant, _)| tenant);
    let pinned = session.granted.iter().find_map(|grant| grant.get().and_then(tenant));
    match (pinned, tenant(destination)) {
        (Some(pinned), Some(other)) if pinned != other => Err(Rejection::new(
            452,
            EnhancedCode(4, 5, 3),
            "Too many recipients, please send to this one in a new transaction",
        )
        .because("the recipient belongs to another tenant")),
        _ => Ok(()),
    }
}
