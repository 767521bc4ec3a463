//! Code that decides about mail on its way, and extends what happens to it.
//!
//! [`HookHandler`] is the seam: a Rust type, a closure in a [`HookFn`], or a program elsewhere behind a [`Remote`], to
//! which a [`Transport`] leads. [`HookRunner`] is the only place that loops over hooks: order, timeouts,
//! failures and the merging of verdicts are decided there. [`Scanner`] finds out whether mail is
//! spam, before any hook is asked. [`PolicyEngine`] decides who may send how much. Programs elsewhere are told by
//! HTTP what happened: [`event`] says what they get, [`signature`] how they know that it comes from here,
//! [`endpoint`] where they may be, [`protocol`] what hooks elsewhere are asked and answer, [`mod@http`] how they are
//! reached by HTTP, [`callback`] how they ask for more, [`settings`] how tenants have bound them.
//!
//! Deliberately absent: SMTP, storage, the queue. Whoever runs the hooks gives them a
//! [`Mail`](mairust_core::Mail) and acts on what comes back.

pub mod binding;
pub mod breaker;
mod call;
pub mod callback;
pub mod closure;
pub mod endpoint;
pub mod event;
pub mod handler;
pub mod http;
pub mod observer;
pub mod policy;
pub mod protocol;
pub mod remote;
pub mod run;
pub mod runner;
pub mod scan;
pub mod settings;
pub mod signature;
pub mod transport;
pub mod verdict;

pub use binding::{Binding, Circuit, OnFailure, RecipientFilter};
pub use breaker::Fingerprint;
pub use call::Called;
pub use callback::{Callbacks, OpenCallback};
pub use closure::HookFn;
pub use endpoint::{EndpointHost, EndpointUrl, EndpointUrlError};
pub use event::{EventBody, EventKind};
pub use handler::{FailureKind, HealthReport, HealthStatus, HookCall, HookError, HookHandler, HookPoint};
pub use http::{HookKey, HttpHook, HttpHookError, ResponseSignature};
pub use observer::{HookObserver, Observed, TenantHook};
pub use policy::{Decision, PolicyEngine, PolicyError, PolicyRequest, Score, Signal};
pub use protocol::{Answer, IntoAnswer};
pub use remote::Remote;
pub use run::{HookRun, Instead, InsteadBecause, RunOutcome};
pub use runner::{Abandoned, Asked, Budgets, Checked, HookRunner, Hooks, Stage, TenantBinding};
pub use scan::{ScanError, ScanRequest, Scanner};
pub use settings::{HookSettings, HookTransport, ProcessMode, SettingsError};
pub use signature::{RequestSignature, Signable, SignableResponse, SigningSecret};
pub use transport::{Incoming, Outgoing, Transport};
pub use verdict::Verdict;
