//! The hooks that are bound now: those of the server, and those of tenants, which are looked at again when they change.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use mairust_core::{HookId, TenantId};
use mairust_hooks::{Binding, HookRun, HookRunner, HookSettings, TenantBinding, TenantHook};
use mairust_store::{HookBinding, StorageBackend, StoreError};
use tokio::sync::Mutex;

use super::alerts::Alerts;
use super::calls::{About, CallLog};
use super::handlers::{Handlers, Unusable};
use super::watch::HookWatch;

/// Nothing was read yet.
const UNREAD: u64 = u64::MAX;

/// The hooks that are bound now.
pub(crate) struct BoundHooks {
    runner: HookRunner,
    storage: Arc<dyn StorageBackend>,
    handlers: Handlers,
    /// The revision of the store that the runner has.
    revision: AtomicU64,
    /// What was bound by then, by its key. Whoever binds holds this.
    bindings: Mutex<HashMap<String, Binding>>,
    ids: RwLock<HashMap<(TenantId, String), HookId>>,
    calls: CallLog,
    watch: Arc<HookWatch>,
}

impl BoundHooks {
    pub(crate) fn new(runner: HookRunner, storage: Arc<dyn StorageBackend>, handlers: Handlers) -> Self {
        let alerts = Alerts::new(storage.clone(), handlers.metrics.clone(), handlers.clock.clone());
        let (calls, watch) = (CallLog::new(storage.clone()), Arc::new(HookWatch::new(alerts)));
        let runner = runner.with_observer(watch.clone());
        let (revision, bindings, ids) = (AtomicU64::new(UNREAD), Mutex::default(), RwLock::default());
        Self { runner, storage, handlers, revision, bindings, ids, calls, watch }
    }

    /// The runner, with what tenants have bound by now.
    ///
    /// # Errors
    /// When the store can't tell. Nobody knows then whether mail may pass.
    pub(crate) async fn current(&self) -> Result<&HookRunner, StoreError> {
        let revision = self.storage.hooks().revision().await?;
        if self.revision.load(Ordering::Acquire) != revision {
            let mut known = self.bindings.lock().await;
            if self.revision.load(Ordering::Acquire) != revision {
                *known = self.bind(&known).await?;
                // What changes from here on has another revision.
                self.revision.store(revision, Ordering::Release);
            }
        }
        Ok(&self.runner)
    }

    /// The runner, with what tenants had bound when [`current`](Self::current) was asked last.
    pub(crate) fn runner(&self) -> &HookRunner {
        &self.runner
    }

    /// Ends what hooks keep running, and writes down what they came to.
    pub(crate) async fn close(&self) {
        self.runner.close().await;
        self.calls.write().await;
        if !self.watch.alerts().write().await {
            tracing::error!(component = "hooks", "not all alerts about hooks are events: the storage is down");
        }
    }

    pub(crate) fn handlers(&self) -> &Handlers {
        &self.handlers
    }

    pub(crate) fn storage(&self) -> &Arc<dyn StorageBackend> {
        &self.storage
    }

    pub(crate) fn calls(&self) -> &CallLog {
        &self.calls
    }

    pub(crate) fn watch(&self) -> &HookWatch {
        &self.watch
    }

    /// The binding of a hook of a tenant; `None` if it is one of the server's own.
    pub(crate) fn id(&self, tenant: TenantId, hook: &str) -> Option<HookId> {
        let ids = self.ids.read().unwrap_or_else(PoisonError::into_inner);
        ids.get(&(tenant, hook.to_owned())).copied()
    }

    /// Has it written down what calls came to.
    pub(crate) fn note(&self, runs: &[HookRun], about: &About<'_>) {
        // Most mail passes no hook: nobody is woken for it.
        if runs.is_empty() {
            return;
        }
        self.calls.note(runs.iter().map(|run| about.invocation(run, self.id(about.tenant, &run.hook))));
    }

    /// Binds what is enabled. What is known stays as it is, so that processes go on and breakers keep their state.
    async fn bind(&self, known: &HashMap<String, Binding>) -> Result<HashMap<String, Binding>, StoreError> {
        let (mut bound, mut ids) = (HashMap::new(), HashMap::new());
        let mut of_tenants = Vec::new();
        for hook in self.storage.hooks().enabled().await? {
            let (tenant, key) = (hook.tenant, hook.key());
            let binding = match known.get(&key) {
                Some(binding) => binding.clone(),
                None => self.make(&hook).await,
            };
            ids.insert((tenant, hook.plugin_id), hook.id);
            let of_tenant = TenantHook { tenant, id: hook.id, key: key.clone() };
            of_tenants.push(TenantBinding { hook: of_tenant, binding: binding.clone() });
            bound.insert(key, binding);
        }
        self.runner.bind(of_tenants);
        *self.ids.write().unwrap_or_else(PoisonError::into_inner) = ids;
        Ok(bound)
    }

    /// A hook in its place. One that can't be called fails whenever it is, so that its settings say what becomes of mail.
    async fn make(&self, hook: &HookBinding) -> Binding {
        let told = |reason: &str| {
            let HookBinding { id, tenant, plugin_id, .. } = hook;
            tracing::error!(component = "hooks", hook = plugin_id, hook_id = %id, tenant_id = %tenant, reason, "a hook can't be called");
        };
        let settings = match HookSettings::kept(&hook.settings) {
            Ok(settings) => settings,
            Err(reason) => {
                told(&reason);
                // Nobody knows whether mail may pass without it.
                return Binding::new(Arc::new(Unusable::everywhere(&hook.plugin_id, reason))).required();
            }
        };
        let made = match self.handlers.remote(hook, &settings).await {
            Ok(remote) => settings.bind(Arc::new(remote)),
            Err(reason) => Err(reason),
        };
        made.unwrap_or_else(|reason| {
            told(&reason);
            let unusable = Arc::new(Unusable::new(&hook.plugin_id, settings.points.clone(), reason));
            let mut everybody = settings;
            everybody.recipients = None;
            everybody.bind(unusable).expect("there is no pattern that could be wrong")
        })
    }
}

impl fmt::Debug for BoundHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundHooks").field("runner", &self.runner).finish_non_exhaustive()
    }
}
