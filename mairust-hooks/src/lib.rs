//! Code that decides about mail on its way, and extends what happens to it.
//!
//! [`HookHandler`] is the seam: a Rust type, or a closure wrapped by [`PreReceive`] or
//! [`PostReceive`]. [`HookRunner`] is the only place that loops over hooks: order, timeouts,
//! failures and the merging of verdicts are decided there. [`Scanner`] finds out whether mail is
//! spam, before any hook is asked. [`PolicyEngine`] decides who may send how much. Programs elsewhere are told by
//! HTTP what happened: [`event`] says what they get, [`signature`] how they know that it comes from here,
//! [`endpoint`] where they may be, [`protocol`] what hooks elsewhere are asked and answer.
//!
//! Deliberately absent: SMTP, storage, the queue. Whoever runs the hooks gives them a
//! [`Mail`](mairust_core::Mail) and acts on what comes back.

pub mod actions;
pub mod breaker;
mod call;
pub mod closure;
pub mod endpoint;
pub mod event;
pub mod handler;
pub mod policy;
pub mod protocol;
pub mod runner;
pub mod scan;
pub mod signature;
pub mod verdict;

pub use actions::Actions;
pub use closure::{PostReceive, PreReceive};
pub use endpoint::{WebhookHost, WebhookUrl, WebhookUrlError};
pub use event::{EventBody, EventKind};
pub use handler::{HookError, HookHandler, HookPoint};
pub use policy::{Decision, PolicyEngine, PolicyError, PolicyRequest, Score, Signal};
pub use runner::{Binding, HookObserver, HookRun, HookRunner, OnFailure, RunOutcome};
pub use scan::{ScanError, ScanRequest, Scanner};
pub use signature::{RequestSignature, Signable, SigningSecret};
pub use verdict::{IntoVerdict, Verdict};
