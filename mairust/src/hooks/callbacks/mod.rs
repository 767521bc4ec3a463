//! The callback API, as far as calls of hooks go: which calls programs may ask about, and what comes of it.
//!
//! A call is open in memory while it goes on, and for a while after it if nobody waited for it: [`live`]. One that a
//! program has taken to tell the result later stands in the store until its token is not good any more, so that a
//! restart changes nothing: the job of the call waits for the result there, and takes it up. [`asked`] is what programs
//! may do by then.

mod asked;
mod live;
mod token;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{Clock, HookId, TenantId, is_this_machine};
use mairust_hooks::protocol::{Callback, Mode};
use mairust_hooks::{Callbacks, EndpointUrl, HookCall, HookError, HookSettings, OpenCallback};
use mairust_http::{CallFacts, CallbackApi, OpenCall};
use mairust_store::{AwaitedResult, StorageBackend, StoreError};
use serde_json::json;
use tokio::time::Instant;

use self::asked::{Asked, Place};
use self::live::{Known, LiveCall, LiveCalls};
use self::token::Token;
use super::process::log::PluginLog;
use crate::audit::Recorder;
use crate::error::chain;
use crate::metrics::Metrics;

/// Where the API is below the address of the server.
const BASE: &str = "/api/plugin/v1";

/// How much longer than the call the token of one is good that nobody waited for.
const GRACE: Duration = Duration::from_secs(300);

/// How long the token is good of a call whose result comes later.
const ACCEPTED: Duration = Duration::from_secs(86_400);

/// The callback API.
pub(crate) struct CallbackDesk {
    storage: Arc<dyn StorageBackend>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    served: OnceLock<Served>,
    live: LiveCalls,
    logs: Mutex<HashMap<(TenantId, String), Arc<PluginLog>>>,
}

/// How the API is served.
struct Served {
    base: CallbackBase,
    recorder: Option<Arc<Recorder>>,
}

/// Where programs find the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallbackBase {
    /// Its address, without a final `/`.
    pub(crate) url: String,
    /// Whether only programs of this machine find it there.
    pub(crate) is_local: bool,
}

/// The callback API, as those who serve it see it.
#[derive(Debug, Clone)]
pub(crate) struct CallbackDoor(pub(crate) Arc<CallbackDesk>);

/// The callback API for the calls of one hook.
#[derive(Debug)]
struct Bound {
    desk: Arc<CallbackDesk>,
    tenant: TenantId,
    hook: HookId,
    result_timeout: Duration,
    /// Whether the program is on this machine.
    is_local: bool,
}

/// The callback API, open for one call.
#[derive(Debug)]
struct Opened {
    desk: Arc<CallbackDesk>,
    call: Arc<LiveCall>,
    token: Token,
    base: String,
    result_timeout: Duration,
}

impl CallbackBase {
    /// Of an API that listens at this address, and is reached by this URL if somebody says so; `None` if nobody knows
    /// how it is reached.
    pub(crate) fn of(url: Option<&EndpointUrl>, address: SocketAddr) -> Option<Self> {
        match url {
            Some(url) => {
                let is_local = url.host().is_this_machine();
                Some(Self { url: format!("{}{BASE}", url.as_str().trim_end_matches('/')), is_local })
            }
            None if address.ip().is_unspecified() => None,
            None => Some(Self { url: format!("http://{address}{BASE}"), is_local: is_this_machine(address.ip()) }),
        }
    }
}

impl CallbackDesk {
    pub(crate) fn new(storage: Arc<dyn StorageBackend>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let (served, live, logs) = (OnceLock::new(), LiveCalls::default(), Mutex::default());
        Self { storage, clock, metrics, served, live, logs }
    }

    /// From now on the API can be reached. Before that, programs are told of none.
    pub(crate) fn serve(&self, base: CallbackBase, recorder: Option<Arc<Recorder>>) {
        // A server is started once.
        let _ = self.served.set(Served { base, recorder });
    }

    /// The API for a hook of a tenant.
    pub(crate) fn bound(
        self: &Arc<Self>,
        (tenant, hook): (TenantId, HookId),
        settings: &HookSettings,
    ) -> Arc<dyn Callbacks> {
        let (result_timeout, is_local) = (settings.result_timeout(), settings.transport.is_local());
        Arc::new(Bound { desk: self.clone(), tenant, hook, result_timeout, is_local })
    }

    fn recorder(&self) -> Option<&Recorder> {
        self.served.get()?.recorder.as_deref()
    }

    fn log(&self, tenant: TenantId, plugin: &str) -> Arc<PluginLog> {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || PluginLog::new(plugin.to_owned(), self.clock.clone(), self.metrics.clone());
        logs.entry((tenant, plugin.to_owned())).or_insert_with(|| Arc::new(new())).clone()
    }

    /// What is known of a call of a hook as it is bound now; `None` if it may not ask any more.
    async fn facts(&self, call: &Known) -> Result<Option<CallFacts>, StoreError> {
        let Some(hook) = self.storage.hooks().get(call.tenant, call.hook).await? else { return Ok(None) };
        // Whoever tries a hook out need not have it called.
        let may_ask = hook.state.is_enabled() || matches!(call.mode, Mode::Test | Mode::Replay);
        let Some(settings) = HookSettings::kept(&hook.settings).ok().filter(|_| may_ask) else { return Ok(None) };
        Ok(Some(CallFacts {
            tenant: call.tenant,
            hook: call.hook,
            plugin: settings.plugin(&hook.plugin_id, hook.generation),
            mode: if call.mode == Mode::Enforce { settings.mode } else { call.mode },
            granted: settings.grants,
            invocation: call.invocation.clone(),
            point: call.point,
            message: call.subject.message(),
            expires_at: call.expires_at,
        }))
    }
}

impl Callbacks for Bound {
    fn open(&self, call: &HookCall) -> Option<Box<dyn OpenCallback>> {
        let base = &self.desk.served.get()?.base;
        if base.is_local && !self.is_local {
            return None;
        }
        let now = self.desk.clock.now();
        let grace = if call.point.is_async() { GRACE } else { Duration::ZERO };
        let expires_at = now.plus(call.deadline.saturating_duration_since(Instant::now()) + grace);
        let token = Token::random();
        let call = Arc::new(LiveCall::new((self.tenant, self.hook), call, expires_at));
        self.desk.live.open(token.hash(), call.clone(), now);
        let (desk, base, result_timeout) = (self.desk.clone(), base.url.clone(), self.result_timeout);
        Some(Box::new(Opened { desk, call, token, base, result_timeout }))
    }
}

#[async_trait]
impl OpenCallback for Opened {
    fn callback(&self) -> Callback {
        Callback {
            base: self.base.clone(),
            token: self.token.expose().to_owned(),
            expires_at: self.call.known.expires_at.to_rfc3339(),
        }
    }

    fn message(&self) -> String {
        let Known { subject, invocation, .. } = &self.call.known;
        match subject.message() {
            Some(id) => format!("messages/{id}"),
            None => format!("messages/{invocation}"),
        }
    }

    async fn accepted(&self) -> Result<(), HookError> {
        // Nobody waits for what a hook says that is tried out.
        let known = &self.call.known;
        let (true, Some(message)) = (known.is_for_real(), known.subject.message()) else { return Ok(()) };
        let now = self.desk.clock.now();
        let most = (2 * self.result_timeout).min(ACCEPTED);
        let awaited = AwaitedResult {
            tenant: known.tenant,
            job: known.job(),
            hook: known.hook,
            message,
            token_hash: self.token.hash(),
            attempt: known.attempt,
            accepted_at: now,
            result_by: now.plus(self.result_timeout.min(most)),
            latest: now.plus(most),
            expires_at: now.plus(ACCEPTED),
            result: None,
        };
        let (hooks, job, tenant) = (self.desk.storage.hooks(), awaited.job, awaited.tenant);
        let lost = |error: StoreError| {
            HookError::new(format_args!("that it tells the result later can't be kept in mind: {}", chain(&error)))
        };
        hooks.await_result(awaited).await.map_err(lost)?;
        // From here on, the store knows of the call.
        let early = self.call.taken();
        self.desk.live.close(&self.token.hash());
        if let Some(result) = early {
            hooks.settle(tenant, job, json!(result), now).await.map_err(lost)?;
        }
        Ok(())
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.call.over();
        if !self.call.known.point.is_async() {
            self.desk.live.close(&self.token.hash());
        }
    }
}

#[async_trait]
impl CallbackApi for CallbackDoor {
    async fn find(&self, token: &str) -> Result<Option<Arc<dyn OpenCall>>, StoreError> {
        let Some(hash) = Token::hash_of(token) else { return Ok(None) };
        let desk = &self.0;
        let now = desk.clock.now();
        let (known, place) = match desk.live.find(&hash, now) {
            Some(call) => (call.known.clone(), Place::Live(call)),
            None => match desk.storage.hooks().awaited_with(&hash).await? {
                Some(awaited) if awaited.expires_at > now => (Known::awaited(&awaited), Place::Awaited),
                _ => return Ok(None),
            },
        };
        let facts = desk.facts(&known).await?;
        Ok(facts.map(|facts| Arc::new(Asked { desk: desk.clone(), facts, known, place }) as Arc<dyn OpenCall>))
    }

    fn answered(&self, plugin: &str, route: &str, status: u16) {
        self.0.metrics.callback_answered(plugin, route, status);
    }
}

impl fmt::Debug for CallbackDesk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackDesk").field("live", &self.live).finish_non_exhaustive()
    }
}
