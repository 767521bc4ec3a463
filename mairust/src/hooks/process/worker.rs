//! A process that is asked about all messages, and started again when it ends.

use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mairust_core::{Clock, Timestamp};
use mairust_hooks::{FailureKind, HealthReport, HookError, Outgoing};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::ProcessHook;
use super::child::{Child, Pipes};
use super::frames::{self, PROTOCOL, ToWorker};
use super::link::{Broken, HEALTH_TIMEOUT, Link, Outbox};
use super::log::{PluginLog, Source};
use super::oneshot::ended_by_itself;
use super::restarts::{Next, Restarts};
use crate::metrics::Metrics;
use crate::time;

/// How long a worker has to be ready.
const READY_WITHIN: Duration = Duration::from_secs(5);
/// How long a worker has to end that is told to.
const GRACE: Duration = Duration::from_secs(5);
/// How long a worker has to end that has closed one of its pipes.
const LAST_BREATH: Duration = Duration::from_secs(1);
/// How long what it wrote is read once its group is killed: whoever left the group may hold its pipes.
const DRAINED_WITHIN: Duration = Duration::from_secs(1);

/// A worker, as calls see it. Dropped, it is told to end.
#[derive(Debug)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    state: watch::Receiver<State>,
    stop: watch::Sender<bool>,
}

struct Shared {
    hook: ProcessHook,
    settings: Mutex<Settings>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    log: Arc<PluginLog>,
}

/// What a worker is told about its settings.
#[derive(Debug)]
struct Settings {
    config_rev: u64,
    config: Map<String, Value>,
    /// Who was told.
    link: Option<Arc<Link>>,
}

/// How it is with the worker.
#[derive(Debug, Clone)]
enum State {
    /// It was told to end, and has ended.
    Closed,
    /// It ended too often, and is not started any more.
    Failed(String),
    Ready(Arc<Link>),
    Starting,
    /// It has ended, and is started again at this time.
    Waiting(Timestamp, String),
}

/// How a process ended.
enum End {
    Crashed(String),
    Stopped,
}

/// What a process does that ends it.
enum Event {
    Broken(Broken),
    Exited,
    NotReady,
    Silent,
    Stopped,
}

impl Worker {
    /// Starts it.
    pub(super) fn start(hook: ProcessHook, clock: Arc<dyn Clock>, metrics: Arc<Metrics>, log: Arc<PluginLog>) -> Self {
        let settings = Settings { config_rev: hook.config_rev, config: hook.config.clone(), link: None };
        let shared = Arc::new(Shared { hook, settings: Mutex::new(settings), clock, metrics, log });
        let (sender, state) = watch::channel(State::Starting);
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(shared.clone().run(sender, stopped));
        Self { shared, state, stop }
    }

    /// Asks it; while it is being started again, as long as the deadline lets it.
    pub(super) async fn ask(&self, request: Outgoing) -> Result<Vec<u8>, HookError> {
        let line = Bytes::from(frames::call(&request.id, &request.body));
        loop {
            let link = self.ready(request.deadline).await?;
            if let Some(answer) = link.ask(request.id.as_str(), &line, request.deadline).await {
                return answer;
            }
        }
    }

    /// Asks it how it does, once it has been started.
    pub(super) async fn health(&self) -> HealthReport {
        match self.ready(Instant::now() + HEALTH_TIMEOUT).await {
            Ok(link) => link.check().await,
            Err(error) => HealthReport::error(error),
        }
    }

    /// Tells it of new settings.
    pub(super) fn configure(&self, config_rev: u64, config: Map<String, Value>) {
        let mut settings = self.shared.settings();
        if let Some(link) = &settings.link {
            link.tell(&ToWorker::Config { config_rev, config: &config });
        }
        (settings.config_rev, settings.config) = (config_rev, config);
    }

    /// Tells it to end, and waits until it has.
    pub(super) async fn close(&self) {
        self.stop.send_replace(true);
        // An error says that the task has ended.
        let _ = self.state.clone().wait_for(|state| matches!(state, State::Closed)).await;
    }

    /// The process to ask. Waits for one that is being started, if it may be there before the deadline.
    async fn ready(&self, deadline: Instant) -> Result<Arc<Link>, HookError> {
        let mut state = self.state.clone();
        loop {
            let (kind, why) = match &*state.borrow_and_update() {
                State::Closed => return Err(HookError::new("the worker is told to end")),
                State::Failed(why) => return Err(HookError::of(FailureKind::CrashLoop, why)),
                State::Ready(link) => return Ok(link.clone()),
                State::Starting => (FailureKind::Timeout, "the worker was not ready in time".to_owned()),
                State::Waiting(until, why) => {
                    let wait = until.since(self.shared.clock.now());
                    if wait >= deadline.saturating_duration_since(Instant::now()) {
                        return Err(HookError::new(why));
                    }
                    (FailureKind::Crash, why.clone())
                }
            };
            match timeout_at(deadline, state.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(HookError::new("the server ends")),
                Err(_) => return Err(HookError::of(kind, why)),
            }
        }
    }
}

impl Shared {
    async fn run(self: Arc<Self>, state: watch::Sender<State>, mut stop: watch::Receiver<bool>) {
        let (mut restarts, plugin) = (Restarts::default(), self.log.plugin());
        loop {
            let (link, outbox) = Link::new();
            let why = match self.process(&link, outbox, &state, &mut stop).await {
                End::Crashed(why) => why,
                End::Stopped => {
                    state.send_replace(State::Closed);
                    return link.end("the worker is told to end");
                }
            };
            let now = self.clock.now();
            let lived = link.ready_at().map_or(Duration::ZERO, |since| now.since(since));
            match restarts.crashed(lived, now) {
                Next::After(wait) => {
                    tracing::warn!(component = "plugin", plugin, reason = why, ?wait, "a worker is started again");
                    let text = format!("{why}; it is started again {wait:?} later");
                    state.send_replace(State::Waiting(now.plus(wait), text));
                    link.end(&why);
                    tokio::select! {
                        () = time::sleep(&*self.clock, wait) => self.metrics.plugin_restarted(plugin),
                        () = stopped(&mut stop) => {}
                    }
                    state.send_replace(State::Starting);
                }
                Next::Never => {
                    tracing::error!(
                        component = "plugin",
                        plugin,
                        reason = why,
                        "a worker ended too often and is given up"
                    );
                    let text = format!("the worker ended too often and is not started any more; the last time {why}");
                    state.send_replace(State::Failed(text));
                    link.end(&why);
                    stopped(&mut stop).await;
                    state.send_replace(State::Closed);
                    return;
                }
            }
        }
    }

    /// Starts one process, and serves it to its end.
    async fn process(
        &self,
        link: &Arc<Link>,
        outbox: Outbox,
        state: &watch::Sender<State>,
        stop: &mut watch::Receiver<bool>,
    ) -> End {
        // An error says that nobody is left to ask it.
        if *stop.borrow() || stop.has_changed().is_err() {
            return End::Stopped;
        }
        let (mut child, pipes) = match Child::spawn(&self.hook) {
            Ok(spawned) => spawned,
            Err(error) => return End::Crashed(error),
        };
        self.greet(link);
        let mut traffic = self.traffic(link, outbox, pipes, child.pid(), state.clone());
        let event = watch(&mut child, link, &mut traffic, stop).await;
        let why = match &event {
            Event::Broken(Broken::Closed(pipe)) => {
                let ended = timeout(LAST_BREATH, child.exited()).await;
                ended.err().map(|_| format!("the worker closed its standard {pipe}"))
            }
            Event::Broken(Broken::Wrong(why)) => Some(why.clone()),
            Event::Exited => None,
            Event::NotReady => Some(format!("the worker was not ready within {READY_WITHIN:?}")),
            Event::Silent => Some("the worker said nothing for twice the time that a call had".to_owned()),
            Event::Stopped => {
                link.tell(&ToWorker::shutdown(GRACE));
                link.hang_up();
                let _ = timeout(GRACE, child.exited()).await;
                None
            }
        };
        link.hang_up();
        child.kill();
        let status = child.reap().await;
        // What it wrote before it ended counts.
        let _ = timeout(DRAINED_WITHIN, async { while traffic.join_next().await.is_some() {} }).await;
        traffic.shutdown().await;
        match (event, status) {
            (Event::Stopped, _) => End::Stopped,
            (_, Ok(status)) => End::Crashed(why.unwrap_or_else(|| ended_by_itself(status))),
            (_, Err(error)) => End::Crashed(why.unwrap_or_else(|| format!("the process ended: {error}"))),
        }
    }

    /// The first frame.
    fn greet(&self, link: &Arc<Link>) {
        let mut settings = self.settings();
        link.tell(&ToWorker::Hello {
            protocol: PROTOCOL,
            mairust: env!("CARGO_PKG_VERSION"),
            plugin_id: &self.hook.plugin_id,
            config: &settings.config,
            granted: &self.hook.granted,
            max_inflight: self.hook.max_inflight,
        });
        settings.link = Some(link.clone());
    }

    /// What goes to a process and comes from it. Tells why the process is of no use any more, if it is not.
    fn traffic(
        &self,
        link: &Arc<Link>,
        outbox: Outbox,
        pipes: Pipes,
        pid: u32,
        state: watch::Sender<State>,
    ) -> JoinSet<Option<Broken>> {
        let (most, mut traffic) = (self.hook.max_inflight, JoinSet::new());
        let (writer, reader, log) = (link.clone(), link.clone(), self.log.clone());
        traffic.spawn(async move {
            let broken = writer.write(pipes.stdin, outbox).await;
            broken.err().map(|_| Broken::Closed("input"))
        });
        traffic.spawn(async move {
            let ready = || {
                tracing::info!(component = "plugin", plugin = log.plugin(), pid, "a worker is ready");
                state.send_replace(State::Ready(reader.clone()));
            };
            let source = Source { stream: "stdout", pid: Some(pid), invocation: None };
            Some(reader.read(pipes.stdout, most, &log, source, ready).await)
        });
        let log = self.log.clone();
        traffic.spawn(async move {
            log.copy(pipes.stderr, Source { stream: "stderr", pid: Some(pid), invocation: None }).await;
            None
        });
        traffic
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for what ends a process.
async fn watch(
    child: &mut Child,
    link: &Link,
    traffic: &mut JoinSet<Option<Broken>>,
    stop: &mut watch::Receiver<bool>,
) -> Event {
    let ready_by = Instant::now() + READY_WITHIN;
    loop {
        let not_ready = async {
            sleep_until(ready_by).await;
            if link.ready_at().is_some() {
                pending::<()>().await;
            }
        };
        tokio::select! {
            () = child.exited() => return Event::Exited,
            () = not_ready => return Event::NotReady,
            () = link.falls_silent() => return Event::Silent,
            () = stopped(stop) => return Event::Stopped,
            Some(ended) = traffic.join_next() => match ended {
                Ok(Some(broken)) => return Event::Broken(broken),
                Ok(None) => {}
                Err(error) => return Event::Broken(Broken::Wrong(error.to_string())),
            },
        }
    }
}

/// Waits until the worker is told to end, or nobody is left to ask it.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("hook", &self.hook).finish_non_exhaustive()
    }
}
