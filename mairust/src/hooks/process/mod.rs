//! Programs of this host as hooks: asked over their standard input, answering on their standard output.
//!
//! [`ProcessMode::Worker`] keeps one process and asks it about all messages, by frames: one JSON object a line.
//! [`ProcessMode::Oneshot`] starts a process for each message, which reads one request and writes one answer.
//!
//! A process leads a group of its own. Whenever it ends, or is to end, what is left of its group is killed, and it is
//! waited for. Its environment has next to nothing of the server's. What it writes to standard error is logged.
//!
//! Who wants to read more of a message than the request has asks by the callback API.
//!
//! Deliberately absent: a sandbox.

mod child;
mod frames;
mod lines;
mod link;
pub(crate) mod log;
mod oneshot;
mod restarts;
mod worker;

use std::env::var_os;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::Clock;
use mairust_hooks::protocol::Grants;
use mairust_hooks::{HealthReport, HookError, Incoming, Outgoing, ProcessMode, Transport};
use serde_json::{Map, Value};

use self::log::PluginLog;
use self::worker::Worker;
use crate::metrics::Metrics;

/// Octets that an answer has at most.
const LONGEST_ANSWER: usize = 1 << 20;
/// Octets that a request has at most.
const LONGEST_REQUEST: usize = 5 << 20;

/// A program, and how it is run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProcessHook {
    /// The id of the plugin; logs and metrics name it.
    pub plugin_id: String,
    /// The program: an absolute path, or one within [`directory`](Self::directory). Neither a shell nor PATH is asked.
    pub program: PathBuf,
    /// Its arguments. Default none.
    pub arguments: Vec<OsString>,
    /// The directory that it runs in.
    pub directory: PathBuf,
    /// Its HOME, where it may keep something. Default the same as `directory`.
    pub data: PathBuf,
    /// Whether one process is asked about all messages. Default [`ProcessMode::Worker`].
    pub mode: ProcessMode,
    /// How many calls a worker has to answer at a time; it may say that it takes less. Default 4.
    pub max_inflight: usize,
    /// The number of its settings. Default 0.
    pub config_rev: u64,
    /// Its settings. Default none.
    pub config: Map<String, Value>,
    /// What it may see and do.
    pub granted: Grants,
}

impl ProcessHook {
    /// A worker that runs in this directory, is granted what needs no leave, and has no settings.
    pub fn new(plugin_id: impl Into<String>, program: impl Into<PathBuf>, directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        Self {
            plugin_id: plugin_id.into(),
            program: program.into(),
            arguments: Vec::new(),
            data: directory.clone(),
            directory,
            mode: ProcessMode::default(),
            max_inflight: 4,
            config_rev: 0,
            config: Map::new(),
            granted: Grants::default(),
        }
    }

    /// Where the program is.
    fn path(&self) -> PathBuf {
        self.directory.join(&self.program)
    }

    /// All of its environment.
    fn environment(&self) -> Vec<(&'static str, OsString)> {
        let ours = |name, otherwise: &str| (name, var_os(name).unwrap_or_else(|| otherwise.into()));
        let mut environment = vec![
            ours("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ours("LANG", "C.UTF-8"),
            ("HOME", self.data.clone().into()),
            ("MAIRUST_PROTOCOL", frames::PROTOCOL.to_string().into()),
            ("MAIRUST_PLUGIN_ID", self.plugin_id.clone().into()),
            ("PYTHONUNBUFFERED", "1".into()),
        ];
        environment.extend(var_os("TZ").map(|zone| ("TZ", zone)));
        environment
    }
}

/// A way to a program of this host.
///
/// Dropped, a worker is told to end, and killed if it does not.
#[derive(Debug)]
pub struct ProcessTransport(Kind);

#[derive(Debug)]
enum Kind {
    Oneshot(Arc<ProcessHook>, Arc<PluginLog>),
    Worker(Worker),
}

impl ProcessTransport {
    /// Starts the program if it is a worker. One that can't be started is logged, tried again, and fails what it is
    /// asked. It is restarted by this clock, and counted in these metrics.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(hook: ProcessHook, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let log = Arc::new(PluginLog::new(hook.plugin_id.clone(), clock.clone(), metrics.clone()));
        Self(match hook.mode {
            ProcessMode::Oneshot => Kind::Oneshot(Arc::new(hook), log),
            ProcessMode::Worker => Kind::Worker(Worker::start(hook, clock, metrics, log)),
        })
    }

    /// Tells a worker, and each that is started in its place, of new settings. A oneshot program finds them in each
    /// request, so there is nothing to tell.
    pub fn configure(&self, config_rev: u64, config: Map<String, Value>) {
        if let Kind::Worker(worker) = &self.0 {
            worker.configure(config_rev, config);
        }
    }
}

#[async_trait]
impl Transport for ProcessTransport {
    async fn exchange(&self, request: Outgoing) -> Result<Incoming, HookError> {
        if request.body.len() > LONGEST_REQUEST {
            let size = request.body.len();
            return Err(HookError::new(format_args!("the request has {size} octets; {LONGEST_REQUEST} are allowed")));
        }
        let answer = match &self.0 {
            Kind::Oneshot(hook, log) => oneshot::ask(hook, log, request).await?,
            Kind::Worker(worker) => worker.ask(request).await?,
        };
        Ok(Incoming::Answer(answer))
    }

    async fn health(&self) -> Option<HealthReport> {
        match &self.0 {
            Kind::Oneshot(..) => None,
            Kind::Worker(worker) => Some(worker.health().await),
        }
    }

    async fn close(&self) {
        if let Kind::Worker(worker) = &self.0 {
            worker.close().await;
        }
    }
}
