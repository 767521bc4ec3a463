//! First stage: what the message says about itself, without what it says in our name.

use std::sync::Arc;

use mairust_core::{Body, Content, Envelope, Mail, Origin, Rejection, TenantId};
use mairust_http::trace::SessionFacts;
use mairust_smtp::server::{Received, SessionInfo};
use mairust_smtp::verify::forged_results;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::recipient::destinations;
use crate::distribution::Destination;
use crate::hooks::Way;

/// A message with its content parsed.
#[derive(Debug, Clone)]
pub(crate) struct Inspected {
    pub(crate) envelope: Envelope,
    pub(crate) destinations: Vec<Destination>,
    pub(crate) origin: Origin,
    pub(crate) protocol: &'static str,
    /// The session, for the timeline.
    pub(crate) session: SessionFacts,
    /// The same, for hooks.
    pub(crate) way: Way,
    /// The bytes as received: what signatures are about.
    pub(crate) received: Body,
    /// The bytes that are kept: without Authentication-Results that claim to be ours.
    pub(crate) body: Body,
    pub(crate) content: Content,
    /// Whether it may go on under verified TLS only (RFC 8689).
    pub(crate) require_tls: bool,
}

/// Bounds how many bytes of messages are in memory for parsing at a time, over all sessions.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    /// One permit is one KiB.
    kibibytes: Arc<Semaphore>,
    total: u32,
}

impl Memory {
    /// Room for this many KiB.
    pub(crate) fn new(kibibytes: u32) -> Self {
        Self { kibibytes: Arc::new(Semaphore::new(kibibytes as usize)), total: kibibytes }
    }

    /// Waits until a message of this size may be read into memory. A message larger than the
    /// whole room takes all of it.
    pub(crate) async fn take(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        let wanted = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX).min(self.total);
        // The semaphore is never closed, so this waits and does not fail.
        self.kibibytes.acquire_many(wanted).await.ok()
    }
}

impl Inspected {
    /// How many servers the message went through already.
    pub(crate) fn hops(&self) -> usize {
        self.content.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("received")).count()
    }

    /// Whose mail it is. Before it is [split](super::tenants), the first recipient's.
    pub(crate) fn tenant(&self) -> Option<TenantId> {
        self.destinations.iter().find_map(Destination::tenant)
    }

    /// The message as its tenant's scanners and hooks see it.
    pub(crate) fn mail(&self) -> Option<Mail> {
        let tenant = self.tenant()?;
        Some(Mail::new(tenant, self.envelope.clone(), self.origin.clone(), self.body.clone(), self.content.clone()))
    }
}

/// Parses the message, off the async threads when it is large. `our_ids` are the names under which
/// this server tells results of sender authentication.
pub(crate) async fn inspect(
    session: &SessionInfo,
    message: Received,
    our_ids: Vec<&str>,
    memory: &Memory,
) -> Result<Inspected, Rejection> {
    let destinations = destinations(&message)?;
    let _room = memory.take(message.body.len()).await;
    let body = without_forged_results(&message.body, &our_ids).await?;
    let content = parse(body.clone()).await?;
    Ok(Inspected {
        envelope: Envelope {
            sender: message.sender,
            recipients: destinations.iter().map(|to| to.address().clone()).collect(),
        },
        destinations,
        protocol: super::trace::smtp_protocol(session),
        session: crate::timeline::session(session),
        way: Way::smtp(session, &message.options, None),
        origin: session.origin.clone(),
        received: message.body,
        body,
        content,
        require_tls: message.options.require_tls,
    })
}

/// The body without Authentication-Results that claim to be ours (RFC 8601 §5), which nobody could
/// tell from real ones later on.
async fn without_forged_results(body: &Body, our_ids: &[&str]) -> Result<Body, Rejection> {
    let (reader, ids) = (body.clone(), our_ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>());
    let find = move || forged_results(&reader, &ids.iter().map(String::as_str).collect::<Vec<_>>());
    let found = match body.in_memory() {
        Some(_) => find(),
        None => tokio::task::spawn_blocking(find).await.map_err(Rejection::unavailable)?,
    };
    let forged = found.map_err(|error| unreadable(&error))?;
    if forged.is_empty() {
        return Ok(body.clone());
    }
    tracing::info!(component = "receive", fields = forged.len(), "forged Authentication-Results removed");
    Ok(body.without(forged))
}

/// Reads and parses a body.
pub(crate) async fn parse(body: Body) -> Result<Content, Rejection> {
    /// Up to this size parsing takes less time than handing it to another thread.
    const INLINE: usize = 128 << 10;
    if let Some(bytes) = body.in_memory().filter(|bytes| bytes.len() <= INLINE) {
        return Ok(Content::parse(bytes));
    }
    tokio::task::spawn_blocking(move || body.read_all().map(|bytes| Content::parse(&bytes)))
        .await
        .map_err(Rejection::unavailable)?
        .map_err(|error| unreadable(&error))
}

/// The answer when the spool fails: temporary, for the fault is ours.
pub(crate) fn unreadable(error: &std::io::Error) -> Rejection {
    Rejection::unavailable(format_args!("the spooled message can't be read: {error}"))
}
