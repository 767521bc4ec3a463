//! Submission: the one way by which mail of our own users and applications starts, whether it
//! came by SMTP or by the API.
//!
//! Sender's right, then fix-ups, then one commit: the sender's copy in Sent, copies for mailboxes
//! here, recipients outside with a delivery job for each of their domains.

mod authors;
mod compose;
mod fix_up;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use mairust_core::{
    Clock, Domain, EmailAddress, EnhancedCode, Envelope, MailboxId, MessageId, Origin, RecipientId, Rejection,
    ReversePath, TenantId, Timestamp,
};
use mairust_hooks::HookRunner;
use mairust_store::{
    Acceptance, DeliveryState, Direction, Folder, MessageStatus, NewJob, NewMessage, NewRecipient, Placement,
    Resolution, StorageBackend, StoreError, User,
};

use crate::receive::Memory;
use crate::receive::recipient::{CatchAll, Destination};
use crate::receive::trace::{Trace, return_path};
use crate::work::job::Job;

pub(crate) use self::compose::ApiSubmitter;
use self::fix_up::{FixedUp, fix_up};

/// What becomes of mail to other servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outbound {
    /// It is kept and shown, and never leaves: for development.
    Capture,
    /// It is queued for delivery.
    Deliver,
}

/// Takes mail from users and applications.
#[derive(Debug)]
pub(crate) struct Submissions {
    pub(crate) hostname: Domain,
    pub(crate) storage: Arc<dyn StorageBackend>,
    pub(crate) hooks: Arc<HookRunner>,
    pub(crate) outbound: Outbound,
    pub(crate) catch_all: Option<CatchAll>,
    pub(crate) memory: Memory,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Who submits.
#[derive(Debug, Clone)]
pub(crate) struct Author {
    pub(crate) tenant: TenantId,
    /// A user who logged in; `None` for an API key, which acts for its tenant.
    pub(crate) user: Option<User>,
}

/// A message on its way out.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) author: Author,
    pub(crate) envelope: Envelope,
    /// One for each recipient, in the same order.
    pub(crate) destinations: Vec<Destination>,
    pub(crate) origin: Origin,
    /// For the Received field.
    pub(crate) protocol: &'static str,
    pub(crate) body: mairust_core::Body,
}

/// A message that is durable and on its way.
#[derive(Debug, Clone)]
pub(crate) struct Submitted {
    /// The sender's copy.
    pub(crate) id: MessageId,
    /// Message-ID without angle brackets.
    pub(crate) message_id: String,
    /// What became of it so far.
    pub(crate) status: MessageStatus,
    /// What becomes of each recipient: `stored` here, or a delivery state.
    pub(crate) recipients: Vec<(EmailAddress, &'static str)>,
}

/// Why a message was not taken.
#[derive(Debug)]
pub(crate) enum SubmissionError {
    /// The author may not, or the message is not fit.
    Refused(Rejection),
    /// The store failed; nothing was kept.
    Store(StoreError),
}

impl From<Rejection> for SubmissionError {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }
}

impl From<StoreError> for SubmissionError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Submissions {
    /// Whether the author may send as this address (RFC 6409 §6.1).
    pub(crate) async fn check_sender(&self, author: &Author, sender: &EmailAddress) -> Result<(), Rejection> {
        match self.may_send(author, sender).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(sender_not_allowed(sender)),
            Err(error) => Err(crate::receive::refuse_for_store(&error)),
        }
    }

    /// Where mail for an address goes, for an author who may send anywhere.
    pub(crate) async fn destination(&self, address: EmailAddress) -> Result<Destination, SubmissionError> {
        match self.storage.directory().resolve(&address).await? {
            Resolution::Mailbox { tenant, mailbox } => Ok(Destination::Mailbox { tenant, mailbox, address }),
            Resolution::ForeignDomain => Ok(Destination::Remote(address)),
            _ => Err(Rejection::new(550, EnhancedCode(5, 1, 1), format!("No such address here: {address}")).into()),
        }
    }

    /// Takes a message. On return it is durable, whole, with everything that follows from it.
    pub(crate) async fn submit(&self, submission: Submission) -> Result<Submitted, SubmissionError> {
        let _room = self.memory.take(submission.body.len()).await;
        let now = self.clock.now();
        let id = MessageId::new(now);
        let fixed = fix_up(&submission.body, &self.hostname, id, now).await?;
        self.check_authors(&submission.author, &fixed.authors).await?;
        let mailbox = self.senders_mailbox(&submission).await?;
        let plan = Plan { submission, fixed, id, mailbox, now };
        let (acceptances, submitted) = self.plan(&plan);
        for answer in self.storage.messages().accept(acceptances).await {
            answer?;
        }
        tracing::info!(
            component = "submit",
            message_id = %submitted.id,
            recipients = submitted.recipients.len(),
            status = submitted.status.as_str(),
            "message submitted"
        );
        Ok(submitted)
    }

    async fn may_send(&self, author: &Author, sender: &EmailAddress) -> Result<bool, StoreError> {
        let directory = self.storage.directory();
        if let Some(user) = &author.user {
            return directory.may_send_as(author.tenant, user.id, sender).await;
        }
        let own =
            matches!(directory.resolve(sender).await?, Resolution::Mailbox { tenant, .. } if tenant == author.tenant);
        Ok(own || directory.tenant(author.tenant).await?.is_some_and(|tenant| tenant.any_sender))
    }

    /// Who sends must have a right to everybody whom the message is from.
    async fn check_authors(&self, author: &Author, authors: &[EmailAddress]) -> Result<(), SubmissionError> {
        let distinct: BTreeMap<String, &EmailAddress> =
            authors.iter().map(|address| (address.lookup_key(), address)).collect();
        for address in distinct.into_values() {
            self.check_sender(author, address).await?;
        }
        Ok(())
    }

    /// Where the sender's copy, and notices about it, are kept: the mailbox of the user, or of
    /// the sender's address.
    async fn senders_mailbox(&self, submission: &Submission) -> Result<MailboxId, SubmissionError> {
        if let Some(user) = &submission.author.user {
            return Ok(user.mailbox);
        }
        if let ReversePath::Address(sender) = &submission.envelope.sender {
            match self.storage.directory().resolve(sender).await? {
                Resolution::Mailbox { tenant, mailbox } if tenant == submission.author.tenant => return Ok(mailbox),
                _ => {}
            }
            if let Some(catch_all) = self.catch_all.filter(|catch_all| catch_all.tenant == submission.author.tenant) {
                return Ok(catch_all.mailbox);
            }
            return Err(sender_not_allowed(sender).into());
        }
        Err(Rejection::new(550, EnhancedCode(5, 7, 1), "A message needs a sender").into())
    }

    /// Everything that becomes durable together. Copies for mailboxes of other tenants are
    /// acceptances of their own in the same batch.
    fn plan(&self, plan: &Plan) -> (Vec<Acceptance>, Submitted) {
        let tenant = plan.submission.author.tenant;
        let remote: Vec<EmailAddress> = plan.remote().cloned().collect();
        let (status, state) = match (remote.is_empty(), self.outbound) {
            (true, _) => (MessageStatus::Sent, DeliveryState::Delivered),
            (false, Outbound::Capture) => (MessageStatus::Captured, DeliveryState::Captured),
            (false, Outbound::Deliver) => (MessageStatus::Queued, DeliveryState::Pending),
        };
        let mut own = Acceptance {
            tenant,
            messages: vec![self.senders_copy(plan, status)],
            jobs: Vec::new(),
            recipients: Vec::new(),
            attempts: Vec::new(),
        };
        if status == MessageStatus::Queued {
            own.jobs = delivery_jobs(plan.id, &remote, tenant, plan.now);
        }
        let recipient = |address| NewRecipient { id: RecipientId::new(plan.now), message: plan.id, address, state };
        own.recipients = remote.into_iter().map(recipient).collect();
        let mut others = Vec::new();
        for local in self.local_copies(plan) {
            if local.tenant == tenant {
                own.messages.extend(local.messages);
                own.jobs.extend(local.jobs);
            } else {
                others.push(local);
            }
        }
        let acceptances = std::iter::once(own).chain(others).collect();
        (acceptances, plan.submitted(status, state))
    }

    /// What is sent on and kept in Sent.
    fn senders_copy(&self, plan: &Plan, status: MessageStatus) -> NewMessage {
        let from = plan.fixed.content.from.first().and_then(|from| EmailAddress::parse(&from.address).ok());
        let address = plan.submission.envelope.sender.address().cloned().or(from);
        let postmaster = || EmailAddress::parse("postmaster@localhost").expect("the address is valid");
        let placement = Placement {
            id: plan.id,
            mailbox: plan.mailbox,
            folder: Folder::Sent,
            address: address.unwrap_or_else(postmaster),
            direction: Direction::Outbound,
            status,
        };
        self.copy(plan, "", vec![placement])
    }

    /// What goes into mailboxes here, with the jobs for the hooks; one for each tenant.
    fn local_copies(&self, plan: &Plan) -> Vec<Acceptance> {
        let mut placements: BTreeMap<TenantId, Vec<Placement>> = BTreeMap::new();
        for destination in &plan.submission.destinations {
            let Destination::Mailbox { tenant, mailbox, address } = destination else { continue };
            let placed = placements.entry(*tenant).or_default();
            if placed.iter().any(|placement| placement.mailbox == *mailbox) {
                continue;
            }
            placed.push(Placement {
                id: MessageId::new(plan.now),
                mailbox: *mailbox,
                folder: Folder::Inbox,
                address: address.clone(),
                direction: Direction::Inbound,
                status: MessageStatus::Stored,
            });
        }
        let prefix = return_path(&plan.submission.envelope.sender);
        let acceptance = |(tenant, placements): (TenantId, Vec<Placement>)| Acceptance {
            tenant,
            jobs: placements
                .iter()
                .flat_map(|placement| crate::receive::hook_jobs(&self.hooks, tenant, placement.id, plan.now))
                .collect(),
            messages: vec![self.copy(plan, &prefix, placements)],
            recipients: Vec::new(),
            attempts: Vec::new(),
        };
        placements.into_iter().map(acceptance).collect()
    }

    fn copy(&self, plan: &Plan, prefix: &str, placements: Vec<Placement>) -> NewMessage {
        let trace = Trace {
            hostname: &self.hostname,
            origin: &plan.submission.origin,
            protocol: plan.submission.protocol,
            id: plan.id,
            recipient: None,
            at: plan.now,
        };
        NewMessage {
            prefix: Bytes::from(format!("{prefix}{}{}", trace.received(), plan.fixed.added)),
            body: plan.fixed.body.clone(),
            content: plan.fixed.content.clone(),
            sender: plan.submission.envelope.sender.clone(),
            received_at: plan.now,
            placements,
        }
    }
}

/// What is known about a submission when it is committed.
struct Plan {
    submission: Submission,
    fixed: FixedUp,
    id: MessageId,
    mailbox: MailboxId,
    now: Timestamp,
}

impl Plan {
    fn remote(&self) -> impl Iterator<Item = &EmailAddress> {
        self.submission.destinations.iter().filter(|to| to.local().is_none()).map(Destination::address)
    }

    fn submitted(&self, status: MessageStatus, remote: DeliveryState) -> Submitted {
        let state = |to: &Destination| if to.local().is_some() { "stored" } else { remote.as_str() };
        Submitted {
            id: self.id,
            message_id: self.fixed.message_id.clone(),
            status,
            recipients: self.submission.destinations.iter().map(|to| (to.address().clone(), state(to))).collect(),
        }
    }
}

/// One job for each domain.
fn delivery_jobs(message: MessageId, remote: &[EmailAddress], tenant: TenantId, now: Timestamp) -> Vec<NewJob> {
    let domains: BTreeSet<&Domain> = remote.iter().map(EmailAddress::domain).collect();
    domains.into_iter().map(|domain| Job::Deliver { message, domain: domain.clone() }.queued(tenant, now)).collect()
}

fn sender_not_allowed(sender: &EmailAddress) -> Rejection {
    Rejection::new(553, EnhancedCode(5, 7, 1), format!("You may not send as {sender}"))
}
