//! Messages that were accepted while their client may not have heard so.
//!
//! RFC 5321 §6.1: with 250 the server takes over, but a client that loses the connection before it has
//! read the reply sends the message again, and its recipients get it twice (RFC 1047). So the server
//! remembers, for a while, what it accepted until the client goes on in the same session, which shows
//! that it has read the reply. Whoever brings the very same message again for the very same recipients
//! before that is told the first answer once more, and nothing is stored.
//!
//! What was accepted shortly before the server was started counts as not heard: it may have been
//! killed between the commit and the reply.
//!
//! The storage, too, may fail to say that it did what it was asked. So it is asked whether it has a
//! message, when one comes again of which nobody knows what became the first time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{Context, Digest, SHA256};
use mairust_core::{Body, IpNetwork, MessageId, RecentMap, Rejection, SessionId, TenantId, Timestamp};
use mairust_smtp::server::{Received, SessionInfo};
use mairust_store::{MessageStore, StorageBackend, StoreError};

/// How long a client may take to come again.
const REMEMBERED: Duration = Duration::from_secs(600);
/// How many are remembered at least.
const BOUND: usize = 65_536;
/// Bodies up to this size are read without a thread of their own if they are in memory.
const READ_HERE: u64 = 256 * 1024;

/// What tells a transaction from others: client, sender, recipients and every octet of the message.
pub(crate) type Fingerprint = [u8; 32];

/// What was accepted and may not have been heard.
#[derive(Debug)]
pub(crate) struct Receipts(Mutex<State>);

#[derive(Debug)]
struct State {
    unheard: RecentMap<Fingerprint, Receipt>,
    /// The last messages of each session: one, or one for each tenant of a transaction.
    sessions: RecentMap<SessionId, Vec<Fingerprint>>,
    /// Those whose acceptance began, and has not ended well.
    doubts: RecentMap<Fingerprint, Doubt>,
}

#[derive(Debug, Clone, Copy)]
struct Receipt {
    message: MessageId,
    at: Timestamp,
}

/// A message that the storage may have, or not.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    tenant: TenantId,
    message: MessageId,
    since: Timestamp,
}

impl Receipts {
    pub(crate) fn new() -> Self {
        let (unheard, sessions, doubts) = (RecentMap::new(BOUND), RecentMap::new(BOUND), RecentMap::new(BOUND));
        Self(Mutex::new(State { unheard, sessions, doubts }))
    }

    /// Remembers what was accepted before the server was started.
    pub(crate) async fn recall(&self, messages: &dyn MessageStore, now: Timestamp) -> Result<(), StoreError> {
        let recent = messages.fingerprints(now.minus(REMEMBERED)).await?;
        let mut state = self.state();
        for (fingerprint, message) in recent {
            state.unheard.entry(fingerprint, || Receipt { message, at: now });
        }
        Ok(())
    }

    /// The answer to the same transaction, if its client may not have heard it.
    pub(crate) fn answer(&self, fingerprint: &Fingerprint, session: SessionId, now: Timestamp) -> Option<MessageId> {
        let mut state = self.state();
        let receipt = *state.unheard.get_mut(fingerprint)?;
        if receipt.at.plus(REMEMBERED) < now {
            state.unheard.remove(fingerprint);
            return None;
        }
        state.told(session, *fingerprint);
        Some(receipt.message)
    }

    /// The storage is about to be asked to accept a message.
    pub(crate) fn begin(&self, fingerprint: Fingerprint, tenant: TenantId, message: MessageId, since: Timestamp) {
        let doubt = Doubt { tenant, message, since };
        *self.state().doubts.entry(fingerprint, || doubt) = doubt;
    }

    /// The message of the same transaction, if the storage has it, though it did not say so when it was
    /// asked to accept it.
    pub(crate) async fn settle_doubt(
        &self,
        fingerprint: &Fingerprint,
        storage: &dyn StorageBackend,
        now: Timestamp,
    ) -> Result<Option<MessageId>, StoreError> {
        let doubt = self.state().doubts.get_mut(fingerprint).copied();
        let Some(doubt) = doubt.filter(|doubt| doubt.since.plus(REMEMBERED) >= now) else { return Ok(None) };
        Ok(storage.lifecycle().kept(doubt.tenant, doubt.message).await?.map(|_| doubt.message))
    }

    /// A message was accepted, and its client is about to be told.
    pub(crate) fn accepted(&self, fingerprint: Fingerprint, session: SessionId, message: MessageId, at: Timestamp) {
        let mut state = self.state();
        state.doubts.remove(&fingerprint);
        let receipt = Receipt { message, at };
        *state.unheard.entry(fingerprint, || receipt) = receipt;
        state.told(session, fingerprint);
    }

    /// The client went on in its session: it has heard.
    pub(crate) fn heard(&self, session: SessionId) {
        let mut state = self.state();
        let told = state.sessions.get_mut(&session).map(std::mem::take).unwrap_or_default();
        state.sessions.remove(&session);
        for fingerprint in told {
            state.unheard.remove(&fingerprint);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A session is about to be told that this was accepted.
    fn told(&mut self, session: SessionId, fingerprint: Fingerprint) {
        let told = self.sessions.entry(session, Vec::new);
        if !told.contains(&fingerprint) {
            told.push(fingerprint);
        }
    }
}

/// Reads the message to tell its transaction from others.
pub(crate) async fn fingerprint(session: &SessionInfo, message: &Received) -> Result<Fingerprint, Rejection> {
    let mut context = Context::new(&SHA256);
    let user = session.identity.as_ref().map(|identity| identity.name.as_str());
    let client = IpNetwork::client(session.peer.address.ip()).to_string();
    let mut recipients: Vec<_> = message.recipients.iter().map(|recipient| recipient.path.to_string()).collect();
    recipients.sort_unstable();
    add(&mut context, user.unwrap_or_default().as_bytes());
    // Who logged in may come from anywhere.
    add(&mut context, if user.is_some() { "" } else { &client }.as_bytes());
    add(&mut context, message.sender.to_string().as_bytes());
    for recipient in recipients {
        add(&mut context, recipient.as_bytes());
    }
    let body = message.body.clone();
    let is_quick = body.in_memory().is_some() && body.len() <= READ_HERE;
    let read = move || read(context, &body);
    let digest =
        if is_quick { read() } else { tokio::task::spawn_blocking(read).await.map_err(Rejection::unavailable)? };
    let digest = digest.map_err(Rejection::unavailable)?;
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(digest.as_ref());
    Ok(fingerprint)
}

/// Adds a field, so that no other fields look the same.
fn add(context: &mut Context, field: &[u8]) {
    context.update(&(field.len() as u64).to_be_bytes());
    context.update(field);
}

fn read(mut context: Context, body: &Body) -> std::io::Result<Digest> {
    use std::io::Read;
    if let Some(bytes) = body.in_memory() {
        context.update(bytes);
        return Ok(context.finish());
    }
    let (mut reader, mut buffer) = (body.reader(), vec![0; 64 * 1024]);
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(context.finish()),
            count => context.update(&buffer[..count]),
        }
    }
}
