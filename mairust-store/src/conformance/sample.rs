//! What the cases put into storage.

#![expect(clippy::unwrap_used, reason = "a case that fails panics")]

use std::sync::Arc;

use bytes::Bytes;
use mairust_core::MailboxId;
use mairust_core::{
    Body, Content, Domain, EmailAddress, JobId, MessageDsn, MessageId, RecipientDsn, RecipientId, ReversePath,
    TenantId, Timestamp, TlsWish, UserId,
};

use crate::backend::StorageBackend;
use crate::delivery::{Attempt, AttemptOutcome, DeliveryState, NewRecipient};
use crate::directory::{NewTenant, NewUser};
use crate::error::{StoreError, StoreErrorKind};
use crate::mark::Marks;
use crate::message::{Acceptance, Direction, Folder, MessageStatus, NewMessage, Placement};
use crate::password::PasswordRecord;
use crate::queue::{NewJob, Priority, QueueStats};

/// The storage under test.
pub(crate) type Storage = Arc<dyn StorageBackend>;

/// What time it is in the cases.
pub(crate) const NOW: Timestamp = Timestamp::from_unix(1_763_780_646);

pub(crate) const PREFIX: &str = "Received: by mx.example.com\r\n";

/// Somebody with a mailbox, in a tenant of the same name as the domain.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    pub(crate) mailbox: MailboxId,
    pub(crate) address: EmailAddress,
}

pub(crate) fn address(text: &str) -> EmailAddress {
    EmailAddress::parse(text).unwrap()
}

pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T, StoreError>) -> StoreErrorKind {
    result.unwrap_err().kind()
}

/// Makes `alice@<domain>` with her tenant and domain.
pub(crate) async fn alice(storage: &Storage, domain: &str) -> Person {
    let tenant = NewTenant { name: domain.to_owned(), ..NewTenant::default() };
    let tenant = storage.directory().create_tenant(tenant).await.unwrap().id;
    storage.directory().create_domain(tenant, &Domain::parse(domain).unwrap()).await.unwrap();
    person(storage, tenant, &format!("alice@{domain}")).await
}

/// Makes a user in a domain that is there.
pub(crate) async fn person(storage: &Storage, tenant: TenantId, text: &str) -> Person {
    let new = NewUser { address: address(text), login: None, password: PasswordRecord::of_hash("hash") };
    let user = storage.directory().create_user(tenant, new).await.unwrap();
    Person { tenant, user: user.id, mailbox: user.mailbox, address: user.address }
}

pub(crate) fn nothing(tenant: TenantId) -> Acceptance {
    Acceptance::new(tenant)
}

pub(crate) fn place(person: &Person) -> Placement {
    Placement {
        id: MessageId::new(NOW),
        mailbox: person.mailbox,
        folder: Folder::Inbox,
        address: person.address.clone(),
        direction: Direction::Inbound,
        status: MessageStatus::Stored,
    }
}

/// A message to one person.
pub(crate) fn message(to: &Person, raw: &str) -> NewMessage {
    NewMessage {
        prefix: Bytes::from_static(PREFIX.as_bytes()),
        body: Body::from(raw.as_bytes().to_vec()),
        content: Content::parse(raw.as_bytes()),
        sender: ReversePath::Address(address("sender@remote.example")),
        received_at: NOW,
        dsn: MessageDsn::default(),
        tls: TlsWish::default(),
        auth_results: None,
        spam: None,
        arrival: None,
        fingerprint: None,
        marks: Marks::default(),
        placements: vec![place(to)],
    }
}

/// A message to one person and the job that follows.
pub(crate) fn entry(to: &Person, raw: &str) -> Acceptance {
    Acceptance { messages: vec![message(to, raw)], jobs: vec![job(to.tenant, NOW)], ..nothing(to.tenant) }
}

/// The id of the first message of an entry.
pub(crate) fn id(entry: &Acceptance) -> MessageId {
    entry.messages[0].placements[0].id
}

/// An outgoing message with recipients that wait.
pub(crate) fn outgoing(from: &Person, recipients: usize) -> Acceptance {
    let mut entry = entry(from, "Subject: out\r\n\r\nx\r\n");
    let message = id(&entry);
    let place = &mut entry.messages[0].placements[0];
    place.direction = Direction::Outbound;
    place.folder = Folder::Sent;
    place.status = MessageStatus::Queued;
    let new = |number| NewRecipient {
        id: RecipientId::new(NOW),
        message,
        address: address(&format!("r{number}@remote.example")),
        state: DeliveryState::Pending,
        dsn: RecipientDsn::default(),
    };
    entry.recipients = (0..recipients).map(new).collect();
    entry
}

pub(crate) fn attempt(recipient: &NewRecipient, at: Timestamp, outcome: AttemptOutcome) -> Attempt {
    let result = format!("250 or not: {}", outcome.as_str());
    let host = Some("mx.remote.example".to_owned());
    Attempt { recipient: recipient.id, at, outcome, host, result, notice: None, facts: None }
}

pub(crate) fn job(tenant: TenantId, not_before: Timestamp) -> NewJob {
    let payload = serde_json::json!({"version": 1, "text": "\u{0}\"ü"});
    NewJob {
        id: JobId::new(NOW),
        tenant,
        kind: "work".to_owned(),
        payload,
        not_before,
        priority: Priority::Normal,
        destination: None,
        message: None,
        held: None,
    }
}

/// How many jobs there are of the kind that [`job`] makes.
pub(crate) async fn queue_stats(storage: &Storage, now: Timestamp) -> QueueStats {
    storage.queue().stats(now).await.unwrap().remove("work").unwrap_or_default()
}

/// Accepts one entry.
pub(crate) async fn accept(storage: &Storage, entry: Acceptance) -> Result<(), StoreError> {
    let mut answers = storage.messages().accept(vec![entry]).await;
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

/// The bytes of a stored object.
pub(crate) async fn stored(storage: &Storage, tenant: TenantId, id: MessageId) -> Result<Vec<u8>, StoreError> {
    let body = storage.messages().body(tenant, id).await?;
    Ok(body.read_all().unwrap().to_vec())
}
