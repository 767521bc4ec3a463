//! Submission: the one way by which mail of our own users and applications starts, whether it
//! came by SMTP or by the API.
//!
//! Fix-ups, then the sender's right, then the policy, then the signatures, then one commit: the sender's copy in Sent,
//! copies for mailboxes here, recipients outside with a delivery job for each of their domains.

pub(crate) mod addresses;
mod admission;
mod compose;
mod fix_up;
mod lines;
mod screening;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mairust_core::{
    Clock, Domain, EmailAddress, EnhancedCode, Envelope, ForwardPath, MailboxId, MessageDsn, MessageId, Origin,
    RecipientDsn, Rejection, ReversePath, TenantId, Timestamp, TlsWish,
};
use mairust_hooks::PolicyEngine;
use mairust_http::trace::{Arrival, PolicyFacts, SessionFacts};
use mairust_smtp::server::HangUp;
use mairust_store::{
    Acceptance, DeliveryState, Direction, DirectoryExt, Folder, Marks, MessageStatus, NewMessage, Placement,
    Resolution, StorageBackend, StoreError, User,
};

use crate::acceptance::{accept, together};
use crate::audit::Recorder;
use crate::distribution::{Destination, Distribution, Keeping, LocalDestination, Original, RemoteDestination};
use crate::events;
use crate::expansion::{Expansion, expand};
use crate::hooks::{BoundHooks, Way};
use crate::metrics::Metrics;
use crate::outbound::Outbound;
use crate::receipts::{Fingerprint, Receipts};
use crate::receive::Memory;
use crate::receive::recipient::Recipients;
use crate::receive::trace::Trace;
use crate::signing::{Signing, Unsigned};
use crate::timeline;
use crate::work::dsn::{Action, Notice, Report};

use self::admission::Admission;
pub(crate) use self::compose::{ApiSubmitter, previewed};
use self::fix_up::{FixedUp, fix_up};
use self::screening::Screening;

/// Takes mail from users and applications.
#[derive(Debug)]
pub(crate) struct Submissions {
    pub(crate) hostname: Domain,
    pub(crate) storage: Arc<dyn StorageBackend>,
    pub(crate) hooks: Arc<BoundHooks>,
    pub(crate) policy: Arc<dyn PolicyEngine>,
    pub(crate) recipients: Arc<Recipients>,
    pub(crate) outbound: Outbound,
    pub(crate) memory: Memory,
    pub(crate) receipts: Arc<Receipts>,
    pub(crate) signing: Arc<Signing>,
    /// How far ahead the time may lie at which mail is to be sent.
    pub(crate) max_future_release: Duration,
    pub(crate) recorder: Option<Arc<Recorder>>,
    pub(crate) metrics: Arc<Metrics>,
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
    /// For the timeline.
    pub(crate) session: SessionFacts,
    /// For the Received field.
    pub(crate) protocol: &'static str,
    /// When it is to be sent; at once if that has passed.
    pub(crate) send_at: Option<Timestamp>,
    /// The way by which it came, for hooks.
    pub(crate) way: Way,
    /// What the sender asks about notices for the whole message.
    pub(crate) dsn: MessageDsn,
    /// Whether it may go on under verified TLS only.
    pub(crate) require_tls: bool,
    pub(crate) body: mairust_core::Body,
    /// Whether its client is still there, if it came by SMTP.
    pub(crate) hang_up: HangUp,
    /// What tells the transaction from others, if it may come again.
    pub(crate) fingerprint: Option<Fingerprint>,
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
    /// When it is to be sent, if it is not at once.
    pub(crate) send_at: Option<Timestamp>,
    /// What becomes of each recipient: `stored` here, or a delivery state.
    pub(crate) recipients: Vec<(EmailAddress, &'static str)>,
}

/// What a message would look like.
#[derive(Debug)]
pub(crate) struct Previewed {
    /// Message-ID without angle brackets.
    pub(crate) message_id: String,
    /// As it would be sent.
    pub(crate) raw: Vec<u8>,
    /// When it would be sent, if it is not at once.
    pub(crate) send_at: Option<Timestamp>,
    /// What the policy says.
    pub(crate) policy: PolicyFacts,
}

/// What a submission is looked at for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To tell what would become of it; it does not count as sent.
    Preview,
    /// To take it.
    Send,
}

/// Why a message was not taken.
#[derive(Debug)]
pub(crate) enum SubmissionError {
    /// The author may not send this much now, or at all.
    Denied {
        /// What an SMTP client sees.
        rejection: Rejection,
        /// When it may be tried again, if it may.
        retry_after: Option<Duration>,
    },
    /// A hook that no mail is to pass without has no answer.
    HookUnavailable(Rejection),
    /// The author may not send this, the message is not fit, or its client has gone.
    Refused(Rejection),
    /// A hook refused it.
    Screened(Rejection),
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

impl From<Unsigned> for SubmissionError {
    fn from(unsigned: Unsigned) -> Self {
        match unsigned {
            Unsigned::NotNow(error) => Self::Store(error),
            Unsigned::TooLarge => {
                Self::Refused(Rejection::new(550, EnhancedCode(5, 6, 0), "The header section has too many fields"))
            }
        }
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
    pub(crate) async fn destination(&self, address: EmailAddress) -> Result<Destination, Rejection> {
        self.recipients.for_author(&ForwardPath::Address(address), None).await
    }

    /// Why a message can't be sent at this time.
    pub(crate) fn check_send_at(&self, send_at: Option<Timestamp>, now: Timestamp) -> Result<(), String> {
        let Some(at) = send_at else { return Ok(()) };
        if at <= now {
            return Err(format!("must lie ahead; it is {} now", now.to_rfc3339()));
        }
        let latest = now.plus(self.max_future_release);
        if at <= latest { Ok(()) } else { Err(format!("must not lie behind {}", latest.to_rfc3339())) }
    }

    /// Takes a message. On return it is durable, whole, with everything that follows from it.
    pub(crate) async fn submit(&self, submission: Submission) -> Result<Submitted, SubmissionError> {
        let _room = self.memory.take(submission.body.len()).await;
        let plan = self.prepare(submission, Purpose::Send).await?;
        let (id, now) = (plan.id, plan.now);
        let (mut acceptances, submitted) = self.plan(&plan);
        if let (Some(own), Some(notice)) = (acceptances.first_mut(), self.success_notice(&plan).await?) {
            own.messages.extend(notice.messages);
            own.jobs.extend(notice.jobs);
            own.events.extend(notice.events);
        }
        if let Some(fingerprint) = plan.submission.fingerprint {
            self.receipts.begin(fingerprint, plan.submission.author.tenant, id, now);
        }
        if let Some(acceptance) = together(acceptances) {
            accept(&*self.storage, acceptance).await?;
        }
        plan.screening.note(&self.hooks, &plan.submission, Some(id));
        tracing::info!(
            component = "submit",
            message_id = %submitted.id,
            recipients = submitted.recipients.len(),
            status = submitted.status.as_str(),
            "message submitted"
        );
        Ok(submitted)
    }

    /// Ends what hooks keep running, and writes down what they came to: for whoever takes mail without a server that runs.
    pub(crate) async fn close(&self) {
        self.hooks.close().await;
    }

    /// What a message would look like if it were taken now.
    pub(crate) async fn preview(&self, submission: Submission) -> Result<Previewed, SubmissionError> {
        let _room = self.memory.take(submission.body.len()).await;
        let plan = self.prepare(submission, Purpose::Preview).await?;
        let mut raw = self.original(&plan).prefix.into_bytes();
        raw.extend_from_slice(&plan.fixed.body.read_all().map_err(Rejection::unavailable)?);
        let (send_at, policy) = (plan.send_at(), plan.admission.facts);
        Ok(Previewed { raw, send_at, policy, message_id: plan.fixed.message_id })
    }

    /// All but the commit.
    async fn prepare(&self, submission: Submission, purpose: Purpose) -> Result<Plan, SubmissionError> {
        let now = self.clock.now();
        let id = MessageId::new(now);
        let mut fixed = fix_up(&submission.body, &self.hostname, id, now).await?;
        self.check_authors(&submission.author, &fixed.authors).await?;
        let mailbox = self.senders_mailbox(&submission).await?;
        let hooks = self.hooks.current().await?.of(submission.author.tenant);
        let mut screening = Screening::begin(hooks, &submission, &fixed, purpose).await?;
        let admitted = self.admit(&submission, &fixed.content, purpose, &mut screening, now).await;
        if admitted.is_err() || purpose == Purpose::Preview {
            screening.note(&self.hooks, &submission, None);
        }
        let admission = admitted?;
        fixed.added.insert_str(0, &screening.wanted.fields);
        let signatures = self.signatures(submission.author.tenant, &fixed).await?;
        Ok(Plan { submission, fixed, signatures, id, mailbox, screening, admission, now })
    }

    async fn may_send(&self, author: &Author, sender: &EmailAddress) -> Result<bool, StoreError> {
        let directory = self.storage.directory();
        if let Some(user) = &author.user {
            return directory.may_send_as(author.tenant, user.id, sender).await;
        }
        let found = directory.resolve(sender).await?;
        let known = matches!(found, Resolution::Alias(_) | Resolution::Mailbox(_));
        let own = known && found.tenant() == Some(author.tenant);
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

    /// The signatures of the domain that the message is from.
    async fn signatures(&self, tenant: TenantId, fixed: &FixedUp) -> Result<String, SubmissionError> {
        let Some(author) = fixed.authors.first() else { return Ok(String::new()) };
        Ok(self.signing.sign(tenant, author.domain(), &fixed.added, &fixed.body).await?)
    }

    /// Where the sender's copy, and notices about it, are kept: the mailbox of the user, or of
    /// the sender's address. An alias that leads elsewhere only has the mailbox for forwards.
    async fn senders_mailbox(&self, submission: &Submission) -> Result<MailboxId, SubmissionError> {
        let Author { tenant, user } = &submission.author;
        if let Some(user) = user {
            return Ok(user.mailbox);
        }
        let ReversePath::Address(sender) = &submission.envelope.sender else {
            return Err(Rejection::new(550, EnhancedCode(5, 7, 1), "A message needs a sender").into());
        };
        let places = match expand(self.storage.directory(), sender).await? {
            Expansion::Places(places) if places.tenant == *tenant => Some(places),
            _ => None,
        };
        let mailbox = places.and_then(|places| {
            let own = places.mailboxes.first().map(|route| route.mailbox);
            own.or(places.forwards.map(|(mailbox, _)| mailbox))
        });
        let catch_all = self.recipients.catch_all.filter(|catch_all| catch_all.tenant == *tenant);
        let mailbox = mailbox.or(catch_all.map(|catch_all| catch_all.mailbox));
        mailbox.ok_or_else(|| sender_not_allowed(sender).into())
    }

    /// Everything that becomes durable together, for each tenant; the author's first.
    fn plan(&self, plan: &Plan) -> (Vec<Acceptance>, Submitted) {
        let tenant = plan.submission.author.tenant;
        let remote: Vec<&RemoteDestination> = plan.remote().collect();
        let waiting = plan.waiting();
        let status = match (waiting.is_empty(), remote.is_empty()) {
            (true, true) => MessageStatus::Sent,
            (true, false) => self.outbound.status(),
            (false, _) => MessageStatus::Queued,
        };
        let (original, times) = (self.original(plan), (plan.now, plan.due()));
        let place = senders_place(plan, status);
        // What hooks want put on it is put on the sender's copy.
        let marks = plan.screening.wanted.marks.clone();
        let message = NewMessage { marks, ..original.copy("", vec![place.clone()]) };
        let recipients = plan.submission.destinations.iter().map(Destination::address);
        let mut own = Acceptance {
            events: vec![events::accepted(&message, &place, recipients)],
            recipients: self.outbound.recipients(plan.id, remote.iter().copied(), plan.now),
            jobs: self.outbound.jobs(plan.id, remote, tenant, times),
            messages: vec![message],
            ..Acceptance::new(tenant)
        };
        own.recipients.extend(Outbound::Deliver.recipients(plan.id, &waiting, plan.now));
        own.jobs.extend(Outbound::Deliver.jobs(plan.id, &waiting, tenant, times));
        for job in &mut own.jobs {
            plan.admission.apply(job);
        }
        own.events.extend(plan.admission.event.clone());
        let mut others = Vec::new();
        let keeping = Keeping::inbox(self.outbound, plan.now);
        for distribution in Distribution::of(plan.at_once(), keeping) {
            let local = distribution.acceptance(&original, self.hooks.runner());
            if local.tenant == tenant {
                own.messages.extend(local.messages);
                own.recipients.extend(local.recipients);
                own.jobs.extend(local.jobs);
                own.events.extend(local.events);
            } else {
                others.push(for_others(plan, local));
            }
        }
        let acceptances = std::iter::once(own).chain(others).collect();
        (acceptances, plan.submitted(status, self.outbound.state()))
    }

    /// The notice about deliveries into mailboxes here, if the sender asks for one (RFC 3461 §4.1).
    async fn success_notice(&self, plan: &Plan) -> Result<Option<Acceptance>, SubmissionError> {
        let reports = plan.delivered();
        let ReversePath::Address(sender) = &plan.submission.envelope.sender else { return Ok(None) };
        if reports.is_empty() {
            return Ok(None);
        }
        let notice = Notice {
            hostname: self.hostname.clone(),
            id: MessageId::new(plan.now),
            sender: sender.clone(),
            arrived: plan.now,
            now: plan.now,
            dsn: plan.submission.dsn.clone(),
            tls: plan.tls(),
            reports,
            original: plan.fixed.body.clone(),
        };
        let destination = Destination::Local(LocalDestination {
            tenant: plan.submission.author.tenant,
            address: sender.clone(),
            mailboxes: vec![plan.mailbox],
            forwards: None,
            dsn: RecipientDsn::default(),
        });
        let distribution = Distribution::of(&[destination], Keeping::inbox(self.outbound, plan.now)).pop();
        let (original, shown) = notice.write(&self.signing, &self.hooks, plan.submission.author.tenant).await?;
        shown.note(&self.hooks, distribution.as_ref().and_then(Distribution::id));
        Ok(distribution.map(|distribution| distribution.acceptance(&original, self.hooks.runner())))
    }

    fn original(&self, plan: &Plan) -> Original {
        let trace = Trace {
            hostname: &self.hostname,
            origin: &plan.submission.origin,
            protocol: plan.submission.protocol,
            id: plan.id,
            recipient: None,
            at: plan.now,
        };
        Original {
            prefix: format!("{}{}{}", plan.signatures, trace.received(), plan.fixed.added),
            body: plan.fixed.body.clone(),
            content: plan.fixed.content.clone(),
            sender: plan.submission.envelope.sender.clone(),
            dsn: plan.submission.dsn.clone(),
            tls: plan.tls(),
            auth_results: None,
            spam: None,
            arrival: Some(plan.arrival()),
            fingerprint: plan.submission.fingerprint,
            received_at: plan.now,
            marks: Marks::default(),
        }
    }
}

/// What is known about a submission when it is committed.
struct Plan {
    submission: Submission,
    fixed: FixedUp,
    signatures: String,
    id: MessageId,
    mailbox: MailboxId,
    screening: Screening,
    admission: Admission,
    now: Timestamp,
}

impl Plan {
    fn remote(&self) -> impl Iterator<Item = &RemoteDestination> {
        self.submission.destinations.iter().filter_map(Destination::remote)
    }

    fn tls(&self) -> TlsWish {
        TlsWish::of(self.submission.require_tls, &self.fixed.content)
    }

    /// When the sender wants it to be sent, if not at once.
    fn send_at(&self) -> Option<Timestamp> {
        self.submission.send_at.filter(|at| *at > self.now)
    }

    fn due(&self) -> Timestamp {
        self.send_at().unwrap_or(self.now).max(self.now.plus(self.admission.wait))
    }

    fn waits(&self) -> bool {
        self.due() > self.now || self.admission.held.is_some()
    }

    /// The recipients who get it at once, if they are here.
    fn at_once(&self) -> &[Destination] {
        if self.waits() { &[] } else { &self.submission.destinations }
    }

    /// The recipients here who get it later, by a delivery as those elsewhere.
    fn waiting(&self) -> Vec<RemoteDestination> {
        let local = self.submission.destinations.iter().filter_map(Destination::local);
        let later = |to: &LocalDestination| RemoteDestination { address: to.address.clone(), dsn: to.dsn.clone() };
        if self.waits() { local.map(later).collect() } else { Vec::new() }
    }

    /// What the sender wants to hear about deliveries into mailboxes here.
    fn delivered(&self) -> Vec<Report> {
        let local = self.at_once().iter().filter_map(Destination::local);
        local
            .filter(|to| !to.mailboxes.is_empty() && Action::Delivered.is_wanted(&to.dsn))
            .map(|to| Report {
                recipient: to.address.clone(),
                dsn: to.dsn.clone(),
                action: Action::Delivered,
                host: None,
                reply: None,
                detail: "delivered".to_owned(),
            })
            .collect()
    }

    fn arrival(&self) -> String {
        let (session, policy) = (self.submission.session.clone(), self.admission.facts.clone());
        let send_at = self.send_at().map(Timestamp::to_rfc3339);
        let hooks = self.screening.runs.iter().map(timeline::hook_call).collect();
        Arrival { session, send_at, policy: Some(policy), hooks, ..Arrival::default() }.to_json()
    }

    fn submitted(&self, status: MessageStatus, remote: DeliveryState) -> Submitted {
        let here = if self.waits() { DeliveryState::Pending.as_str() } else { "stored" };
        let state = |to: &Destination| if to.tenant().is_some() { here } else { remote.as_str() };
        Submitted {
            id: self.id,
            message_id: self.fixed.message_id.clone(),
            status,
            send_at: self.send_at(),
            recipients: self.submission.destinations.iter().map(|to| (to.address().clone(), state(to))).collect(),
        }
    }
}

/// What another tenant gets: who logged in is the business of the author's tenant.
fn for_others(plan: &Plan, mut acceptance: Acceptance) -> Acceptance {
    let session = SessionFacts { user: None, ..plan.submission.session.clone() };
    let arrival = Arrival { session, ..Arrival::default() }.to_json();
    acceptance.messages.iter_mut().for_each(|message| message.arrival = Some(arrival.clone()));
    acceptance
}

/// Where the copy is kept that is sent on to other servers.
fn senders_place(plan: &Plan, status: MessageStatus) -> Placement {
    let from = plan.fixed.content.from.first().and_then(|from| EmailAddress::parse(&from.address).ok());
    let address = plan.submission.envelope.sender.address().cloned().or(from);
    let postmaster = || EmailAddress::parse("postmaster@localhost").expect("the address is valid");
    Placement {
        id: plan.id,
        mailbox: plan.mailbox,
        folder: plan.screening.wanted.folder.unwrap_or(Folder::Sent),
        address: address.unwrap_or_else(postmaster),
        direction: Direction::Outbound,
        status,
    }
}

fn sender_not_allowed(sender: &EmailAddress) -> Rejection {
    Rejection::new(553, EnhancedCode(5, 7, 1), format!("You may not send as {sender}"))
}
