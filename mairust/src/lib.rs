//! MaiRust: a mail server as a library, "axum for mail".
//!
//! An application assembles a [`Server`] from parts and replaces any of them by implementing a
//! trait. The binary `mairust` is such an application, wired up from one YAML file.
//!
//! ```no_run
//! use mairust::{DirectoryExt, Mail, Server, SqlStorage, StorageBackend, Verdict};
//!
//! #[tokio::main]
//! async fn main() -> mairust::Result<()> {
//!     let storage = SqlStorage::sqlite("mail.db").fs_bodies("mail").open().await?;
//!     storage.directory().ensure_user("alice@example.com", "correct horse").await?;
//!     Server::builder("mx.example.com", storage)
//!         .smtp("127.0.0.1:2525")
//!         .submission("127.0.0.1:2587")
//!         .pre_receive("no-promo", |mail: Mail| async move {
//!             match mail.subject() {
//!                 Some(s) if s.contains("PROMO") => Verdict::reject("promotions are not welcome here"),
//!                 _ => Verdict::Allow,
//!             }
//!         })
//!         .build()? // reports every problem at once
//!         .run_until(mairust::shutdown_signal()) // the stop signal is an argument
//!         .await
//! }
//! ```
//!
//! * What a 250 promises is durable: see [`MessageStore::accept`].
//! * The way of a message through the code is told in `docs/flow.md`.
//! * SMTP alone is [`mairust_smtp`], storage alone [`mairust_store`], the REST API alone
//!   [`mairust_http`].

mod acceptance;
mod audit;
mod builder;
mod distribution;
mod dns;
mod error;
mod events;
mod expansion;
mod hooks;
mod http;
mod listen;
pub mod logging;
pub mod metrics;
mod mta_sts;
mod outbound;
mod outgoing_http;
mod policy;
mod receipts;
mod receive;
mod return_path;
mod server;
mod session;
mod signing;
mod submit;
mod suppress;
#[cfg(feature = "testkit")]
pub mod testkit;
mod throttle;
mod time;
mod timeline;
mod tls;
mod webhooks;
mod work;

pub mod cli;
pub mod config;

pub use audit::AuditSettings;
pub use builder::{Limits, ServerBuilder};
pub use error::{Error, Result};
pub use hooks::process::{ProcessHook, ProcessTransport};
pub use hooks::{HttpTransport, TenantHookSettings};
pub use http::HttpLimits;
pub use mairust_smtp::tls::{CertificatePair, Certificates, Roots};
pub use outbound::Outbound;
pub use outgoing_http::HttpClient;
pub use policy::limits::{SendingException, SendingLimits};
pub use policy::score::Scoring;
pub use receive::recipient::CatchAll;
pub use receive::tenants::CrossTenant;
pub use receive::verify::{Authentication, Enforcement};
pub use return_path::ReturnPath;
pub use server::{Addresses, RunningServer, Server, shutdown_signal};
pub use throttle::LoginLimits;
pub use tls::self_signed;
pub use webhooks::WebhookSettings;
pub use work::retry::RetryPolicy;
pub use work::{DeliverySettings, DomainLimit, InDoubt};

pub use mairust_core::{
    AuthOutcome, AuthResults, Body, Clock, Content, Domain, EmailAddress, EnhancedCode, Envelope, IpNetwork, Mail,
    ManualClock, MessageId, Rate, Rejection, Reply, ReversePath, RuleHit, ScanAction, ScanReport, Secret, SenderLists,
    SenderPattern, SystemClock, TenantId, Timestamp,
};
pub use mairust_hooks::protocol as hook_protocol;
pub use mairust_hooks::scan::rspamd::{Rspamd, RspamdEndpoint, RspamdSettings};
pub use mairust_hooks::scan::{
    FallbackScanner, ListedScanner, Rule, RuleEngine, RuleSettings, ScanError, ScanRequest, Scanner, Thresholds,
};
pub use mairust_hooks::{
    Answer, Binding, Budgets, Circuit, Decision, EndpointUrl, EndpointUrlError, FailureKind, HealthReport,
    HealthStatus, HookCall, HookError, HookFn, HookHandler, HookKey, HookPoint, HttpHook, HttpHookError, Incoming,
    IntoAnswer, OnFailure, Outgoing, PolicyEngine, PolicyError, PolicyRequest, ProcessMode, RecipientFilter, Remote,
    ResponseSignature, Score, Signal, SigningSecret, Transport, Verdict,
};
pub use mairust_http::{ApiKeyToken, Scope, SearchFallback, ServerKey};
pub use mairust_smtp::client::{Login, Protocol, Relay, RelayTls};
pub use mairust_smtp::dns::{
    DnsResolver, DnssecResolver, HostProof, MxHost, Proven, ResolveError, Resolver, SrvHost, Tlsa, TrustAnchorError,
    TrustAnchors, ValidatingResolver,
};
pub use mairust_smtp::server::{AdmissionConfig, EarlyTalkers, ListenerConfig, ProxyProtocol, Service};
pub use mairust_store::{
    Deliveries, Directory, DirectoryExt, LocalKeys, MemoryStorage, MessageQuery, MessageStore, QueueBackend, Sealer,
    SqlStorage, StorageBackend,
};
