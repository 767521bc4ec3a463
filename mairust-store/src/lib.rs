//! What a mail server keeps: messages, the directory, the queue, the registry, the audit log.
//!
//! A [`StorageBackend`] hands out facets; a stage of the platform takes the facet that it needs.
//! Two backends are always compiled: [`MemoryStorage`] and [`SqlStorage`], whose bodies are files or in
//! any other [`BodyStore`]; [`S3Bodies`] comes with the feature `s3`, which is on by default. A further
//! backend is supported when it passes the suites in [`conformance`].
//!
//! Deliberately absent: SMTP, hooks, configuration files.

mod acceptance;
pub mod allowance;
pub mod audit;
pub mod backend;
pub mod backup;
pub mod body;
pub mod change;
pub mod conformance;
pub mod consistency;
pub mod delivery;
pub mod directory;
pub mod disk;
pub mod durability;
pub mod error;
pub mod event;
pub mod group_commit;
pub mod hook;
pub mod invariant;
pub mod lifecycle;
pub mod mark;
mod matching;
pub mod memory;
pub mod message;
pub mod observer;
mod owner;
pub mod password;
pub mod pause;
pub mod queue;
pub mod registry;
pub mod seal;
pub mod search;
pub mod signing_keys;
mod sql;
pub mod suppression;
pub mod unreliable;
pub mod webhook;

pub use allowance::{Allowance, Allowances, Taken};
pub use audit::{AuditEntry, AuditKey, AuditLog, AuditLogExt, AuditQuery, NewAuditEvent};
pub use backend::StorageBackend;
pub use backup::{BackupSummary, FurtherFile};
pub use body::{BodyStore, EncryptedBodies, FsBodies, MemoryBodies};
#[cfg(feature = "s3")]
pub use body::{S3Addressing, S3Bodies, S3Encryption, S3Settings, S3SettingsError};
pub use consistency::{ConsistencyCheck, ConsistencyReport, Fault, Finding};
pub use delivery::{Attempt, AttemptOutcome, Deliveries, DeliveryRow, DeliveryState, NewRecipient};
pub use directory::{
    Alias, AliasChange, AliasRoute, ApiKey, Directory, DirectoryExt, DkimKey, DkimKeyState, DomainChange, DomainRow,
    Login, MailboxRoute, NewAlias, NewApiKey, NewDkimKey, NewTenant, NewUser, Quota, QuotaLimit, Resolution,
    SenderAction, SenderRule, Suspension, Tenant, TenantChange, User, UserChange,
};
pub use disk::DiskFloor;
pub use durability::Durability;
pub use error::{StoreError, StoreErrorKind};
pub use event::{Event, EventLog, EventPage, EventQuery, EventSpan, NewEvent};
pub use group_commit::GroupCommit;
pub use hook::{
    AwaitedResult, HookActionReport, HookBinding, HookChange, HookHealth, HookHealthResult, HookInvocation,
    HookInvocationQuery, HookReport, HookState, HookStore, NewHookBinding, NewHookHealth,
};
pub use invariant::{Invariant, InvariantCheck, InvariantReport, InvariantViolation};
pub use lifecycle::{Lifecycle, Purge, Retention};
pub use mark::{Marks, Metadata, MetadataChange};
pub use memory::MemoryStorage;
pub use message::{
    Acceptance, Direction, Folder, MessageChange, MessagePosition, MessageQuery, MessageRow, MessageStatus,
    MessageStore, NewMessage, Page, Placement, Spam, SpamVerdict,
};
pub use observer::Observer;
pub use owner::Owner;
pub use password::PasswordRecord;
pub use queue::{
    DestinationStats, FencingToken, HoldReason, ItemState, LaneBounds, Lease, NewJob, Priority, QueueAction,
    QueueBackend, QueueChange, QueueFilter, QueueItem, QueuePosition, QueueStats, QueueTotal,
};
pub use registry::{Registry, RegistryExt, SecretRow, Setting};
pub use seal::{LocalKeys, MasterKeyService, SealedRecord, Sealer};
pub use search::{
    QueryError, QueryErrorKind, SearchDocument, SearchFact, SearchField, SearchIndex, SearchOutbox, SearchQuery,
    SearchRequest, SearchTerm, UnindexedMessage,
};
pub use signing_keys::{SigningKey, SigningKeys};
pub use sql::{
    BodyEncryption, MigrationStatus, SpoolSettings, SpoolStatistics, SqlStatistics, SqlStorage, SqlStorageBuilder,
    WhenBodiesDown,
};
pub use suppression::{NewSuppression, Suppression, SuppressionReason, Suppressions};
pub use unreliable::{Mishap, Mishaps, UnreliableBodies, UnreliableStorage};
pub use webhook::{
    NewWebhook, NewWebhookDelivery, Webhook, WebhookAdvance, WebhookAttempt, WebhookChange, WebhookDelivery,
    WebhookDeliveryQuery, WebhookDeliveryState, WebhookState, Webhooks,
};
