//! What a mail server keeps: messages, the directory, the queue.
//!
//! A [`StorageBackend`] hands out facets; a stage of the platform takes the facet that it needs.
//! Two backends are always compiled: [`MemoryStorage`] and [`SqlStorage`], whose bodies are files or in
//! any other [`BodyStore`]; [`S3Bodies`] comes with the feature `s3`, which is on by default. A further backend is supported when it passes the suites in [`conformance`].
//!
//! Deliberately absent: SMTP, hooks, configuration files.

mod acceptance;
pub mod backend;
pub mod body;
pub mod change;
pub mod conformance;
pub mod delivery;
pub mod directory;
pub mod durability;
pub mod error;
pub mod group_commit;
mod matching;
pub mod memory;
pub mod message;
pub mod password;
pub mod queue;
mod sql;

pub use backend::StorageBackend;
pub use body::{BodyStore, FsBodies, MemoryBodies};
#[cfg(feature = "s3")]
pub use body::{S3Addressing, S3Bodies, S3Encryption, S3Settings, S3SettingsError};
pub use delivery::{Attempt, AttemptOutcome, Deliveries, DeliveryRow, DeliveryState, NewRecipient};
pub use directory::{
    Alias, AliasChange, AliasRoute, ApiKey, Directory, DirectoryExt, DomainChange, DomainRow, Login, MailboxRoute,
    NewAlias, NewApiKey, NewTenant, NewUser, Quota, QuotaLimit, Resolution, SenderAction, SenderRule, Tenant,
    TenantChange, User, UserChange,
};
pub use durability::Durability;
pub use error::{StoreError, StoreErrorKind};
pub use group_commit::GroupCommit;
pub use memory::MemoryStorage;
pub use message::{
    Acceptance, Direction, Folder, MessageChange, MessagePosition, MessageQuery, MessageRow, MessageStatus,
    MessageStore, NewMessage, Page, Placement, Spam, SpamVerdict,
};
pub use password::PasswordRecord;
pub use queue::{Lease, NewJob, QueueBackend, QueueStats};
pub use sql::{
    MigrationStatus, SpoolSettings, SpoolStatistics, SqlStatistics, SqlStorage, SqlStorageBuilder, WhenBodiesDown,
};
