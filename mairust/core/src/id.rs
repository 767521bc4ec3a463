//! Identifiers: UUIDv7, so that they sort by the time they were made.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::clock::Timestamp;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id, made at `now`.
            pub fn new(now: Timestamp) -> Self {
                let (seconds, nanos) = now.to_unix();
                Self(Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos)))
            }

            /// The id with these 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The 16 bytes.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0.hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId)
            }
        }
    )*};
}

ids! {
    /// A tenant: an organisation that owns domains, users and settings.
    TenantId
    /// A mail domain.
    DomainId
    /// A key that signs for a domain.
    DkimKeyId
    /// Somebody who can log in.
    UserId
    /// The store behind one address.
    MailboxId
    /// A folder of a mailbox.
    FolderId
    /// One message in one mailbox.
    MessageId
    /// One recipient of an outgoing message.
    RecipientId
    /// A unit of queued work.
    JobId
    /// An address that leads to others.
    AliasId
    /// An API key.
    ApiKeyId
    /// An entry of the audit log.
    AuditId
    /// One SMTP session.
    SessionId
    /// Something that happened to mail.
    EventId
    /// An address elsewhere that is told of events.
    WebhookId
    /// One event on its way to one webhook.
    WebhookDeliveryId
}

/// The text is no UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid id")]
pub struct InvalidId;
