//! From what is written down about a hook to what can be called.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::Clock;
use mairust_hooks::{
    Answer, EndpointUrl, FailureKind, HookCall, HookError, HookHandler, HookKey, HookPoint, HookSettings,
    HookTransport, HttpHook, Remote, SigningSecret, Transport,
};
use mairust_store::hook::keys;
use mairust_store::{HookBinding, Sealer, StorageBackend};

use super::callbacks::CallbackDesk;
use super::http::HttpTransport;
use super::process::{ProcessHook, ProcessTransport};
use crate::error::chain;
use crate::metrics::Metrics;
use crate::outgoing_http::HttpClient;

/// Calls of a program at the same time, if nothing else is said.
const MAX_INFLIGHT: usize = 16;

/// What it takes to call what tenants have bound.
pub(crate) struct Handlers {
    pub(crate) storage: Arc<dyn StorageBackend>,
    /// Without it there are no keys: nothing can be asked over HTTP.
    pub(crate) sealer: Option<Sealer>,
    pub(crate) http: HttpClient,
    /// Whether hooks may be at private addresses, whatever each of them says.
    pub(crate) allow_private: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) callbacks: Arc<CallbackDesk>,
}

impl Handlers {
    /// The program that a hook leads to.
    ///
    /// # Errors
    /// Why it can't be called, for people.
    pub(crate) async fn remote(&self, hook: &HookBinding, settings: &HookSettings) -> Result<Remote, String> {
        let transport: Arc<dyn Transport> = match &settings.transport {
            HookTransport::Http { endpoint, health_endpoint, private_address, .. } => {
                let parse = |url: &str| EndpointUrl::parse(url).map_err(|error| error.to_string());
                let HookKeys(keys) = self.keys(hook).await?;
                let first = keys.first().ok_or("there is no key to sign requests with")?;
                let mut http = HttpHook::new(&hook.plugin_id, parse(endpoint)?, first.secret.clone());
                http.health_endpoint = health_endpoint.as_deref().map(parse).transpose()?;
                http.keys = keys;
                http.response_signature = settings.response_signature();
                http.allow_private = self.allow_private || *private_address;
                let made = HttpTransport::new(http, self.http.clone(), self.clock.clone());
                Arc::new(made.map_err(|error| error.to_string())?)
            }
            HookTransport::Process { command, directory, mode } => {
                let (program, arguments) = command.split_first().ok_or("there is no command")?;
                let directory = directory.as_ref().map_or_else(|| beside(program), PathBuf::from);
                let mut process = ProcessHook::new(&hook.plugin_id, program, directory);
                process.arguments = arguments.iter().map(Into::into).collect();
                process.mode = *mode;
                process.max_inflight = settings.max_inflight.map_or(MAX_INFLIGHT, |calls| calls as usize);
                process.config_rev = hook.generation;
                process.config = settings.config.clone();
                process.granted = settings.grants.clone();
                Arc::new(ProcessTransport::start(process, self.clock.clone(), self.metrics.clone()))
            }
            other => return Err(format!("there is no transport {}", other.kind())),
        };
        let plugin = settings.plugin(&hook.plugin_id, hook.generation);
        // What is bound has no manifest: it asked for what it was granted.
        let (declared, granted) = (settings.grants.clone(), settings.grants.clone());
        let callbacks = self.callbacks.bound((hook.tenant, hook.id), settings);
        Ok(Remote::new(plugin, settings.points.clone(), declared, granted, transport).with_callbacks(callbacks))
    }

    async fn keys(&self, hook: &HookBinding) -> Result<HookKeys, String> {
        let sealer = self.sealer.as_ref().ok_or("this server has no master key, so requests can't be signed")?;
        let keys = keys::keys(&*self.storage, sealer, hook.tenant, hook.id).await.map_err(|error| chain(&error))?;
        let key = |octets: &[u8; 32], until| SigningSecret::from_bytes(octets).map(|secret| HookKey { secret, until });
        let previous = keys.previous.as_ref().and_then(|(octets, until)| key(octets.expose(), Some(*until)));
        Ok(HookKeys(key(keys.current.expose(), None).into_iter().chain(previous).collect()))
    }
}

/// The keys of a hook, the newest first.
struct HookKeys(Vec<HookKey>);

/// The directory of a program.
fn beside(program: &str) -> PathBuf {
    let parent = Path::new(program).parent().filter(|parent| parent.is_absolute());
    parent.map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}

/// A hook that can't be called.
#[derive(Debug)]
pub(super) struct Unusable {
    name: String,
    points: Vec<HookPoint>,
    reason: String,
}

impl Unusable {
    pub(super) fn new(name: &str, points: Vec<HookPoint>, reason: String) -> Self {
        Self { name: name.to_owned(), points, reason }
    }

    pub(super) fn everywhere(name: &str, reason: String) -> Self {
        Self::new(name, HookPoint::ALL.to_vec(), reason)
    }
}

#[async_trait]
impl HookHandler for Unusable {
    fn name(&self) -> &str {
        &self.name
    }

    fn points(&self) -> &[HookPoint] {
        &self.points
    }

    async fn call(&self, _: &HookCall) -> Result<Answer, HookError> {
        Err(HookError::of(FailureKind::Connect, &self.reason))
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handlers").field("allow_private", &self.allow_private).finish_non_exhaustive()
    }
}
