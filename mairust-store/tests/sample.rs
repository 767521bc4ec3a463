//! What the tests put into storage.

use std::path::Path;

use bytes::Bytes;
use mairust_core::{
    Content, Domain, EmailAddress, JobId, MessageDsn, MessageId, ReversePath, TenantId, Timestamp, TlsWish,
};
use mairust_store::{
    Acceptance, Direction, Folder, MessageStatus, NewJob, NewMessage, NewTenant, NewUser, PasswordRecord, Placement,
    Priority, SqlStorage, StorageBackend, User,
};

pub(crate) const NOW: Timestamp = Timestamp::from_unix(1_763_780_646);

/// The storage in a directory.
pub(crate) async fn open(directory: &Path) -> SqlStorage {
    SqlStorage::sqlite(directory.join("mail.db")).fs_bodies(directory.join("mail")).open().await.unwrap()
}

/// The storage in a directory, with a search index.
pub(crate) async fn open_with_search(directory: &Path) -> SqlStorage {
    let builder = SqlStorage::sqlite(directory.join("mail.db")).fs_bodies(directory.join("mail"));
    builder.with_search().open().await.unwrap()
}

pub(crate) async fn alice(storage: &dyn StorageBackend) -> User {
    let mut tenant = NewTenant::default();
    tenant.name = "example".to_owned();
    let tenant = storage.directory().create_tenant(tenant).await.unwrap();
    storage.directory().create_domain(tenant.id, &Domain::parse("example.com").unwrap()).await.unwrap();
    let address = EmailAddress::parse("alice@example.com").unwrap();
    let user = NewUser { address, login: None, password: PasswordRecord::of_hash("hash") };
    storage.directory().create_user(tenant.id, user).await.unwrap()
}

pub(crate) fn entry(to: &User, raw: &str) -> Acceptance {
    let place = Placement {
        id: MessageId::new(NOW),
        mailbox: to.mailbox,
        folder: Folder::Inbox,
        address: to.address.clone(),
        direction: Direction::Inbound,
        status: MessageStatus::Stored,
    };
    let message = NewMessage {
        prefix: Bytes::new(),
        body: raw.as_bytes().to_vec().into(),
        content: Content::parse(raw.as_bytes()),
        sender: ReversePath::Null,
        received_at: NOW,
        dsn: MessageDsn::default(),
        tls: TlsWish::default(),
        auth_results: None,
        spam: None,
        arrival: None,
        fingerprint: None,
        marks: mairust_store::Marks::default(),
        placements: vec![place],
    };
    Acceptance { messages: vec![message], ..Acceptance::new(to.tenant) }
}

pub(crate) fn job(tenant: TenantId) -> NewJob {
    let payload = serde_json::json!({"version": 1});
    NewJob {
        id: JobId::new(NOW),
        tenant,
        kind: "work".to_owned(),
        payload,
        not_before: NOW,
        priority: Priority::Normal,
        destination: None,
        message: None,
        held: None,
    }
}

pub(crate) fn id(entry: &Acceptance) -> MessageId {
    entry.messages[0].placements[0].id
}
