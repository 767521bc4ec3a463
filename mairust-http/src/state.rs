//! What the API works with.

use std::fmt;
use std::sync::{Arc, OnceLock};

use mairust_core::{Clock, Timestamp};
use mairust_store::{Sealer, StorageBackend};

use crate::auth::{AuditSink, KeyGuard, ServerKey};
use crate::callbacks::CallbackApi;
use crate::hooks::HookControl;
use crate::openapi::Document;
use crate::plugin::Callers;
use crate::streams::EventStreams;
use crate::submit::Submitter;

/// Everything the API works with. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct ApiState(Arc<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    storage: Arc<dyn StorageBackend>,
    submitter: Arc<dyn Submitter>,
    server_key: ServerKey,
    clock: Arc<dyn Clock>,
    metrics: Option<Arc<dyn MetricsSource>>,
    key_guard: Option<Arc<dyn KeyGuard>>,
    audit_sink: Option<Arc<dyn AuditSink>>,
    search_fallback: SearchFallback,
    sealer: Option<Sealer>,
    allow_private_webhooks: bool,
    allow_private_hooks: bool,
    hook_control: Option<Arc<dyn HookControl>>,
    callers: Option<Arc<Callers>>,
    streams: EventStreams,
    document: OnceLock<Document>,
}

/// What a search does when the index does not answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SearchFallback {
    /// It says so.
    #[default]
    Fail,
    /// It reads rows, the newest first, as many as is reasonable, and says that it finds less.
    Rows,
}

/// Where the numbers behind `GET /metrics` come from.
pub trait MetricsSource: fmt::Debug + Send + Sync + 'static {
    /// All metrics in the OpenMetrics text format, `# EOF` included.
    fn render(&self) -> String;
}

impl ApiState {
    /// The state of an API without `/metrics`.
    pub fn new(
        storage: Arc<dyn StorageBackend>,
        submitter: Arc<dyn Submitter>,
        server_key: ServerKey,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let document = OnceLock::new();
        let (metrics, key_guard, audit_sink, search_fallback) = (None, None, None, SearchFallback::default());
        Self(Arc::new(Parts {
            storage,
            submitter,
            server_key,
            clock,
            metrics,
            key_guard,
            audit_sink,
            search_fallback,
            sealer: None,
            allow_private_webhooks: false,
            allow_private_hooks: false,
            hook_control: None,
            callers: None,
            streams: EventStreams::default(),
            document,
        }))
    }

    /// Adds `/metrics`, for keys with the scope `metrics:read`.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Arc<dyn MetricsSource>) -> Self {
        Arc::make_mut(&mut self.0).metrics = Some(metrics);
        self
    }

    /// Slows down clients that try out API keys.
    #[must_use]
    pub fn with_key_guard(mut self, guard: Arc<dyn KeyGuard>) -> Self {
        Arc::make_mut(&mut self.0).key_guard = Some(guard);
        self
    }

    /// Tells what has to be answered for.
    #[must_use]
    pub fn with_audit_sink(mut self, sink: Arc<dyn AuditSink>) -> Self {
        Arc::make_mut(&mut self.0).audit_sink = Some(sink);
        self
    }

    /// What a search does when the index does not answer. Default: it says so.
    #[must_use]
    pub fn with_search_fallback(mut self, fallback: SearchFallback) -> Self {
        Arc::make_mut(&mut self.0).search_fallback = fallback;
        self
    }

    /// Keeps the keys of webhooks by this sealer, without which none can be made. `allow_private` says whether webhooks
    /// may be at private addresses, and there without TLS.
    #[must_use]
    pub fn with_webhooks(mut self, sealer: Sealer, allow_private: bool) -> Self {
        let parts = Arc::make_mut(&mut self.0);
        (parts.sealer, parts.allow_private_webhooks) = (Some(sealer), allow_private);
        self
    }

    /// Keeps the keys of hooks by this sealer, without which none can be bound. `allow_private` says whether hooks may be
    /// at private addresses, and there without TLS.
    #[must_use]
    pub fn with_hooks(mut self, sealer: Sealer, allow_private: bool) -> Self {
        let parts = Arc::make_mut(&mut self.0);
        (parts.sealer, parts.allow_private_hooks) = (Some(sealer), allow_private);
        self
    }

    /// Asks whoever runs hooks how they do, and has them called. Without it, hooks can be bound, but not be tested here.
    #[must_use]
    pub fn with_hook_control(mut self, control: Arc<dyn HookControl>) -> Self {
        Arc::make_mut(&mut self.0).hook_control = Some(control);
        self
    }

    /// Lets programs that are called as hooks ask for more. Without it, there is no callback API.
    #[must_use]
    pub fn with_callbacks(mut self, api: Arc<dyn CallbackApi>) -> Self {
        Arc::make_mut(&mut self.0).callers = Some(Arc::new(Callers::new(api)));
        self
    }

    /// The streams of events that are open, to end them when the application stops.
    pub fn streams(&self) -> &EventStreams {
        &self.0.streams
    }

    pub(crate) fn sealer(&self) -> Option<&Sealer> {
        self.0.sealer.as_ref()
    }

    pub(crate) fn allows_private_webhooks(&self) -> bool {
        self.0.allow_private_webhooks
    }

    pub(crate) fn allows_private_hooks(&self) -> bool {
        self.0.allow_private_hooks
    }

    pub(crate) fn hook_control(&self) -> Option<&dyn HookControl> {
        self.0.hook_control.as_deref()
    }

    pub(crate) fn callers(&self) -> Option<&Callers> {
        self.0.callers.as_deref()
    }

    pub(crate) fn storage(&self) -> &dyn StorageBackend {
        &*self.0.storage
    }

    pub(crate) fn submitter(&self) -> &dyn Submitter {
        &*self.0.submitter
    }

    pub(crate) fn server_key(&self) -> &ServerKey {
        &self.0.server_key
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    pub(crate) fn metrics(&self) -> Option<&dyn MetricsSource> {
        self.0.metrics.as_deref()
    }

    pub(crate) fn key_guard(&self) -> Option<&dyn KeyGuard> {
        self.0.key_guard.as_deref()
    }

    pub(crate) fn audit_sink(&self) -> Option<&dyn AuditSink> {
        self.0.audit_sink.as_deref()
    }

    pub(crate) fn search_fallback(&self) -> SearchFallback {
        self.0.search_fallback
    }

    /// The description of the API, made at the first call.
    pub(crate) fn document(&self) -> &Document {
        self.0.document.get_or_init(Document::new)
    }
}
