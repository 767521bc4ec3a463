//! The vocabulary of MaiRust: what every crate of the platform talks about.
//!
//! In reading order: [`address`] and [`domain`] (where mail goes), [`envelope`] (who sends to whom),
//! [`dsn`] and [`xtext`] (what is asked about delivery), [`reply`] and [`rejection`] (what a peer is
//! told, and why), [`body`] (the bytes of a message), [`content`] (what a message says about itself),
//! [`report`] (what a host reports about mail that it took), [`auth_results`] (who it really comes from), [`dkim`] (how it is signed), [`scan`] (what a scanner says about it), [`mail`] (one
//! message as hooks see it), [`sender_list`] (whom to trust and whom to keep out), [`network`],
//! [`rate`] and [`recent`] (who may come how often), [`id`], [`clock`], [`secret`], [`scram`] and
//! [`units`].
//!
//! Deliberately absent: tokio, sockets, files, databases, serde. A body may be backed by a file,
//! but the file belongs to whoever implements [`body::BodySource`].

pub mod address;
pub mod auth_results;
pub mod body;
pub mod clock;
pub mod content;
pub mod dkim;
pub mod domain;
pub mod dsn;
pub mod envelope;
pub mod id;
pub mod mail;
pub mod network;
pub mod rate;
pub mod recent;
pub mod rejection;
pub mod reply;
pub mod report;
pub mod scan;
pub mod scram;
pub mod secret;
pub mod sender_list;
pub mod units;
pub mod xtext;

pub use address::{AddressError, EmailAddress, ForwardPath, LocalPart, ReversePath};
pub use auth_results::{
    Aligned, ArcResult, AuthOutcome, AuthResults, DkimResult, DmarcPolicy, DmarcResult, IprevResult, SpfResult,
};
pub use body::{Body, BodySource};
pub use clock::{Clock, ManualClock, Reached, SystemClock, Timestamp};
pub use content::{Attachment, Content, NamedAddress, SearchText};
pub use dkim::DkimAlgorithm;
pub use domain::{Domain, DomainError};
pub use dsn::{EnvelopeId, MessageDsn, Notify, OriginalRecipient, RecipientDsn, Return};
pub use envelope::Envelope;
pub use id::{
    AliasId, ApiKeyId, AuditId, DkimKeyId, DomainId, EventId, FolderId, HookId, JobId, MailboxId, MessageId,
    RecipientId, SessionId, SuppressionId, TenantId, UserId, WebhookDeliveryId, WebhookId,
};
pub use mail::{Mail, Origin, TlsFacts, TlsWish};
pub use network::{IpNetwork, NetworkError, is_public, is_this_machine};
pub use rate::{Rate, TokenBucket};
pub use recent::RecentMap;
pub use rejection::Rejection;
pub use reply::{EnhancedCode, Reply};
pub use report::{DeliveryReport, RecipientStatus, ReportedAction};
pub use scan::{EngineFailure, RuleHit, ScanAction, ScanReport};
pub use scram::ScramVerifier;
pub use secret::Secret;
pub use sender_list::{ListVerdict, SenderLists, SenderPattern, SenderPatternError};
pub use units::{ByteSize, parse_duration, render_duration};
