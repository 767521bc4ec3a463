//! Answers the questions of SMTP sessions: mail from other servers goes to [`receive`], mail from
//! users who logged in goes to [`submit`].
//!
//! [`receive`]: crate::receive
//! [`submit`]: crate::submit

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use mairust_core::{
    EnhancedCode, Envelope, ForwardPath, MessageId, Rejection, Reply, ReversePath, ScramVerifier, TenantId, Timestamp,
};
use mairust_hooks::protocol::request::AuthUser;
use mairust_smtp::proto::FutureRelease;
use mairust_smtp::server::{
    Credentials, Grant, Identity, MailOptions, Peer, RcptOptions, Received, Service, SessionHandler, SessionInfo,
};

use crate::distribution::Destination;
use crate::hooks::Way;
use crate::receipts::{self, Fingerprint, Receipts};
use crate::receive::login::{Account, Accounts};
use crate::receive::recipient::{Recipients, destinations};
use crate::receive::tenants::{AT_A_TIME, CrossTenant};
use crate::receive::{Receiver, refuse_for_store, trace};
use crate::submit::{Author, Submission, SubmissionError, Submissions};
use crate::timeline;

/// Serves all SMTP sessions of a server.
#[derive(Debug)]
pub(crate) struct Sessions {
    pub(crate) accounts: Accounts,
    pub(crate) recipients: Arc<Recipients>,
    pub(crate) receiver: Receiver,
    pub(crate) submissions: Arc<Submissions>,
    pub(crate) receipts: Arc<Receipts>,
    /// What becomes of mail from strangers for several tenants.
    pub(crate) cross_tenant: CrossTenant,
}

#[async_trait]
impl SessionHandler for Sessions {
    async fn login(&self, peer: &Peer, credentials: Credentials) -> Result<Identity, Rejection> {
        let client = peer.address.ip();
        self.accounts.check(client, &credentials.user, &credentials.password).await.map(identity)
    }

    fn offers_scram(&self) -> bool {
        true
    }

    async fn scram_verifier(&self, peer: &Peer, user: &str) -> Result<ScramVerifier, Rejection> {
        self.accounts.scram_verifier(peer.address.ip(), user).await
    }

    async fn scram_login(&self, peer: &Peer, user: &str) -> Result<Identity, Rejection> {
        self.accounts.scram_login(peer.address.ip(), user).await.map(identity)
    }

    async fn scram_failed(&self, peer: &Peer, user: &str) {
        self.accounts.scram_failed(peer.address.ip(), user);
    }

    fn future_release(&self) -> Option<FutureRelease> {
        let longest = self.submissions.max_future_release;
        (longest > Duration::ZERO).then(|| FutureRelease::at(self.receiver.clock.now(), longest))
    }

    async fn mail(&self, session: &SessionInfo, from: &ReversePath, _options: &MailOptions) -> Result<(), Rejection> {
        match (account(session), from) {
            (Some(account), ReversePath::Address(sender)) => {
                self.submissions.check_sender(&author(account), sender).await
            }
            _ => Ok(()),
        }
    }

    async fn recipient(
        &self,
        session: &SessionInfo,
        to: &ForwardPath,
        options: &RcptOptions,
    ) -> Result<Grant, Rejection> {
        let size = session.options.size;
        match account(session) {
            Some(account) => {
                let destination = self.recipients.for_author(to, size).await?;
                self.submissions.check_recipient(account.user.tenant, destination.address()).await?;
                Ok(Grant::new(destination.with_dsn(options.dsn.clone())))
            }
            None => {
                let destination = self.recipients.for_stranger(to, size).await?;
                self.pin_tenant(session, &destination)?;
                keep_apart(session, &destination)?;
                Ok(Grant::new(destination))
            }
        }
    }

    async fn message(&self, session: &SessionInfo, message: Received) -> Result<Reply, Rejection> {
        let fingerprint = receipts::fingerprint(session, &message).await?;
        let (peer, now) = (&session.peer, self.receiver.clock.now());
        if let Some(id) = self.accepted_before(&fingerprint, session, now).await? {
            self.receiver.metrics.deduplicated();
            tracing::info!(component = "receive", message_id = %id, "the message was accepted before; its client had not heard");
            return Ok(accepted(id));
        }
        let id = match account(session) {
            Some(account) => self.submit(session, account, message, fingerprint).await?,
            None => self.receiver.receive(session, message, fingerprint).await?,
        };
        self.receipts.accepted(fingerprint, peer.session, id, now);
        Ok(accepted(id))
    }

    /// The tenants of a message decide apart from one another, as if each had got one of its own.
    async fn message_for_each(&self, session: &SessionInfo, message: Received) -> Vec<Result<Reply, Rejection>> {
        let recipients = message.recipients.iter();
        let tenants: Vec<_> = recipients.map(|recipient| tenant_of(&recipient.grant)).collect();
        if account(session).is_some() {
            return vec![self.message(session, message).await; tenants.len()];
        }
        let mut distinct: Vec<Option<TenantId>> = Vec::new();
        for tenant in &tenants {
            if !distinct.contains(tenant) {
                distinct.push(*tenant);
            }
        }
        let parts = distinct.iter().map(|tenant| {
            let mut part = message.clone();
            part.recipients.retain(|recipient| tenant_of(&recipient.grant) == *tenant);
            part
        });
        let parts: Vec<_> = parts.collect();
        let answers = stream::iter(parts).map(|part| self.message(session, part)).buffered(AT_A_TIME);
        let answers: Vec<_> = answers.collect().await;
        let answer = |tenant: &Option<TenantId>| {
            let place = distinct.iter().position(|one| one == tenant);
            let answer = place.and_then(|place| answers.get(place)).cloned();
            answer.unwrap_or_else(|| Err(Rejection::unavailable("a tenant has not answered")))
        };
        tenants.iter().map(answer).collect()
    }

    async fn heard(&self, session: &SessionInfo) {
        self.receipts.heard(session.peer.session);
    }
}

impl Sessions {
    /// The first accepted recipient decides whose transaction this is, unless tenants may share one: a recipient of
    /// another tenant has to come in one of its own, so that one tenant's hooks never answer for another. By LMTP each
    /// recipient is answered for itself.
    fn pin_tenant(&self, session: &SessionInfo, destination: &Destination) -> Result<(), Rejection> {
        if self.cross_tenant == CrossTenant::Split || session.peer.service == Service::Lmtp {
            return Ok(());
        }
        let pinned = session.granted.iter().find_map(tenant_of);
        match (pinned, destination.tenant()) {
            (Some(pinned), Some(other)) if pinned != other => {
                Err(new_transaction("the recipient belongs to another tenant"))
            }
            _ => Ok(()),
        }
    }

    /// The message, if the same transaction was accepted before.
    async fn accepted_before(
        &self,
        fingerprint: &Fingerprint,
        session: &SessionInfo,
        now: Timestamp,
    ) -> Result<Option<MessageId>, Rejection> {
        let (session, storage) = (session.peer.session, self.receiver.storage.as_ref());
        if let Some(id) = self.receipts.answer(fingerprint, session, now) {
            return Ok(Some(id));
        }
        let found = self.receipts.settle_doubt(fingerprint, storage, now).await;
        let found = found.map_err(|error| refuse_for_store(&error))?;
        if let Some(id) = found {
            self.receipts.accepted(*fingerprint, session, id, now);
        }
        Ok(found)
    }

    async fn submit(
        &self,
        session: &SessionInfo,
        account: &Account,
        message: Received,
        fingerprint: Fingerprint,
    ) -> Result<MessageId, Rejection> {
        let destinations = destinations(&message)?;
        let submission = Submission {
            author: author(account),
            envelope: Envelope {
                sender: message.sender,
                recipients: destinations.iter().map(|to| to.address().clone()).collect(),
            },
            destinations,
            protocol: trace::smtp_protocol(session),
            origin: session.origin.clone(),
            session: timeline::session(session),
            way: Way::smtp(session, &message.options, Some(auth_user(account))),
            send_at: message.options.hold.map(|hold| hold.until(self.receiver.clock.now())),
            dsn: message.options.dsn,
            require_tls: message.options.require_tls,
            body: message.body,
            hang_up: message.hang_up,
            fingerprint: Some(fingerprint),
        };
        match self.submissions.submit(submission).await {
            Ok(submitted) => Ok(submitted.id),
            Err(
                SubmissionError::Denied { rejection, .. }
                | SubmissionError::HookUnavailable(rejection)
                | SubmissionError::Refused(rejection)
                | SubmissionError::Screened(rejection),
            ) => Err(rejection),
            Err(SubmissionError::Store(error)) => Err(refuse_for_store(&error)),
        }
    }
}

fn accepted(id: MessageId) -> Reply {
    Reply::new(250, EnhancedCode(2, 0, 0), id.to_string())
}

fn identity(account: Account) -> Identity {
    Identity { name: account.user.address.to_string(), grant: Grant::new(account) }
}

/// Who logged in to this session.
fn account(session: &SessionInfo) -> Option<&Account> {
    session.identity.as_ref().and_then(|identity| identity.grant.get())
}

fn auth_user(account: &Account) -> AuthUser {
    AuthUser { user_id: account.user.id.to_string(), address: account.user.address.to_string() }
}

fn author(account: &Account) -> Author {
    Author { tenant: account.user.tenant, user: Some(account.user.clone()) }
}

/// Whose recipient it is.
fn tenant_of(grant: &Grant) -> Option<TenantId> {
    grant.get().and_then(Destination::tenant)
}

/// What comes back comes for itself: whether it is taken is found out with the message, and nobody else is to miss
/// theirs for that.
fn keep_apart(session: &SessionInfo, destination: &Destination) -> Result<(), Rejection> {
    let is_returned = |grant: &Grant| grant.get().and_then(Destination::returned).is_some();
    let alone = destination.returned().is_none() && !session.granted.iter().any(is_returned);
    if alone || session.granted.is_empty() {
        return Ok(());
    }
    Err(new_transaction("mail that comes back has one recipient"))
}

fn new_transaction(reason: &str) -> Rejection {
    let text = "Too many recipients, please send to this one in a new transaction";
    Rejection::new(452, EnhancedCode(4, 5, 3), text).because(reason)
}
