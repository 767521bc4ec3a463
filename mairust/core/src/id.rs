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

            /// The id that was made at `at` and follows from a seed, of which the first ten octets count: the same
            /// for the same.
            pub fn of_seed(at: Timestamp, seed: &[u8]) -> Self {
                let (seconds, nanos) = at.to_unix();
                let millis = seconds.saturating_mul(1_000).saturating_add(u64::from(nanos / 1_000_000));
                let mut octets = [0; 10];
                octets.iter_mut().zip(seed).for_each(|(octet, from)| *octet = *from);
                Self(uuid::Builder::from_unix_timestamp_millis(millis, &octets).into_uuid())
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
    /// An address to which a tenant sends nothing.
    SuppressionId
    /// Something that happened to mail.
    EventId
    /// An address elsewhere that is told of events.
    WebhookId
    /// One event on its way to one webhook.
    WebhookDeliveryId
    /// A hook that a tenant has bound.
    HookId
}

/// The text is no UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid id")]
pub struct InvalidId;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ids_follow_from_a_seed_and_sort_by_time() {
        let at = Timestamp::from_unix(1_763_780_646);
        let id = MessageId::of_seed(at, b"0123456789abcdef");
        assert_eq!(id, MessageId::of_seed(at, b"0123456789"));
        assert_ne!(id, MessageId::of_seed(at, b"0123456780"));
        assert_eq!(id.as_bytes()[..6], MessageId::new(at).as_bytes()[..6]);
        assert!(id < MessageId::of_seed(at.plus(Duration::from_secs(1)), b""));
    }
}
