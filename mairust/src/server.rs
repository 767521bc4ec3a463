//! A server that runs: its listeners, its workers, and how they end.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use mairust_core::{Clock, Domain, Secret};
use mairust_hooks::{Binding, Budgets, HookRunner, PolicyEngine, Scanner};
use mairust_http::{ApiState, SearchFallback, ServerKey};
use mairust_smtp::client::Client;
use mairust_smtp::server::{ListenerConfig, ServerConfig, Service};
use mairust_store::{InvariantCheck, InvariantReport, Sealer, StorageBackend, invariant};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::audit::{AuditSettings, AuditTask};
use crate::error::{Error, Result};
use crate::hooks::{BoundHooks, CallbackBase, CallbackDesk, CallbackDoor, Handlers, TenantHookSettings};
use crate::http::{self, HttpLimits};
use crate::listen::{Bind, bind_all};
use crate::metrics::Metrics;
use crate::outbound::Outbound;
use crate::outgoing_http::HttpClient;
use crate::receipts::Receipts;
use crate::receive::login::Accounts;
use crate::receive::recipient::Recipients;
use crate::receive::tenants::CrossTenant;
use crate::receive::verify::Authenticator;
use crate::receive::{Memory, Receiver};
use crate::return_path::{ReturnPaths, TokenKey};
use crate::session::Sessions;
use crate::signing::Signing;
use crate::submit::{ApiSubmitter, Submissions};
use crate::suppress::Suppressing;
use crate::throttle::{LoginLimits, Throttle};
use crate::webhooks::{Dispatcher, Gate, Telling, WebhookClient};
use crate::work::cleanup::Cleaner;
use crate::work::index::Indexer;
use crate::work::{DeliverySettings, Workers};

/// How much mail is in memory for parsing at a time.
const PARSING_MEMORY_KIB: u32 = 32 << 10;

/// How long API requests may take to end after the signal to stop: enough for all but a client
/// that waits for mail, and that one asks again.
const HTTP_DRAIN: Duration = Duration::from_secs(5);

/// How long hooks have to end what they keep running.
const HOOKS_DRAIN: Duration = Duration::from_secs(10);

/// How often the depth of the queue is measured, how far the search index is behind, and whether the
/// storage can be used.
const QUEUE_MEASURED_EVERY: Duration = Duration::from_secs(10);

/// How long after a start the rules about accepted mail are audited for the first time.
const FIRST_AUDIT: Duration = Duration::from_secs(60);

/// How long after an audit the next one begins.
const AUDIT_EVERY: Duration = Duration::from_secs(3_600);

/// Between two pages of an audit: with a page of a thousand rows, a million rows take minutes, and
/// a small share of the database.
const AUDIT_PAUSE: Duration = Duration::from_millis(100);

/// A delivery may be this much older than it is tried for, before it is an anomaly.
pub(crate) const LATE: Duration = Duration::from_secs(86_400);

/// A mail server, put together and not started yet.
#[derive(Debug)]
pub struct Server(Parts);

/// What a server is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) hostname: Domain,
    pub(crate) storage: Arc<dyn StorageBackend>,
    pub(crate) listeners: Vec<(ListenerConfig, Bind)>,
    pub(crate) http: Option<Bind>,
    pub(crate) http_limits: HttpLimits,
    pub(crate) login_limits: LoginLimits,
    pub(crate) smtp: ServerConfig,
    pub(crate) authenticator: Option<Authenticator>,
    pub(crate) client: Client,
    pub(crate) hooks: Vec<Binding>,
    pub(crate) python_threads: Option<Arc<AtomicI64>>,
    pub(crate) hook_budgets: Budgets,
    pub(crate) scanner: Option<Arc<dyn Scanner>>,
    pub(crate) policy: Arc<dyn PolicyEngine>,
    pub(crate) delivery: DeliverySettings,
    pub(crate) outbound: Outbound,
    pub(crate) recipients: Recipients,
    pub(crate) server_key: Option<ServerKey>,
    pub(crate) sealer: Option<Sealer>,
    pub(crate) audit: AuditSettings,
    pub(crate) deleted_messages_days: u32,
    pub(crate) events_days: u32,
    pub(crate) hook_calls_days: u32,
    pub(crate) tenant_hooks: TenantHookSettings,
    pub(crate) http_client: HttpClient,
    pub(crate) webhooks: WebhookClient,
    pub(crate) allow_private_webhooks: bool,
    pub(crate) retired_dkim_keys_days: u32,
    pub(crate) search_fallback: SearchFallback,
    pub(crate) cross_tenant: CrossTenant,
    pub(crate) drain: Duration,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Parts {
    fn bound_hooks(&self, metrics: Arc<Metrics>) -> BoundHooks {
        let runner = HookRunner::new(self.hooks.clone(), self.hook_budgets)
            .with_clock(self.clock.clone())
            .with_observer(metrics.clone());
        let desk = CallbackDesk::new(self.storage.clone(), self.clock.clone(), metrics.clone());
        let handlers = Handlers {
            callbacks: Arc::new(desk),
            storage: self.storage.clone(),
            sealer: self.sealer.clone(),
            http: self.http_client.clone(),
            allow_private: self.tenant_hooks.allow_private_addresses,
            clock: self.clock.clone(),
            metrics,
        };
        BoundHooks::new(runner, self.storage.clone(), handlers)
    }

    fn submissions(&self, metrics: Arc<Metrics>) -> Submissions {
        let signing = Signing::new(self.storage.clone(), self.sealer.clone(), self.clock.clone());
        Submissions {
            hostname: self.hostname.clone(),
            storage: self.storage.clone(),
            hooks: Arc::new(self.bound_hooks(metrics.clone())),
            policy: self.policy.clone(),
            recipients: Arc::new(self.recipients.clone()),
            outbound: self.outbound,
            memory: Memory::new(PARSING_MEMORY_KIB),
            receipts: Arc::new(Receipts::new()),
            signing: Arc::new(signing),
            max_future_release: self.delivery.max_future_release,
            recorder: None,
            metrics,
            clock: self.clock.clone(),
        }
    }
}

/// A server that listens and works.
#[derive(Debug)]
pub struct RunningServer {
    addresses: Addresses,
    stop: watch::Sender<bool>,
    tasks: JoinSet<Result<()>>,
    hooks: Arc<BoundHooks>,
    drain: Duration,
    audit: Option<AuditTask>,
}

/// Where a server listens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Addresses {
    /// SMTP listeners, in the order in which they were added.
    pub smtp: Vec<(Service, SocketAddr)>,
    /// The REST API.
    pub http: Option<SocketAddr>,
}

impl Server {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(parts)
    }

    /// Takes mail to be sent without a server that runs: one that runs on the same storage sends it, or the next one
    /// that does.
    pub(crate) fn submissions(&self) -> Submissions {
        self.0.submissions(Arc::new(Metrics::new()))
    }

    /// Starts, runs until `stop` is ready, then ends what was begun: no new sessions, sessions in
    /// the middle of a message and jobs may finish, bounded by the drain time.
    ///
    /// # Errors
    /// When it can't listen, or a listener fails.
    pub async fn run_until(self, stop: impl Future<Output = ()> + Send) -> Result<()> {
        self.start().await?.run_until(stop).await
    }

    /// Starts to listen and to work. Returns when all listeners are bound.
    ///
    /// # Errors
    /// With every address that can't be bound.
    pub async fn start(self) -> Result<RunningServer> {
        let parts = self.0;
        let metrics = Arc::new(Metrics::new());
        metrics.watch_python(parts.python_threads.clone());
        let mut submissions = parts.submissions(metrics.clone());
        let (sockets, http) = bind_all(parts.listeners, parts.http)?;
        let throttle = Arc::new(Throttle::new(parts.login_limits, parts.clock.clone(), metrics.clone()));
        // Without a key that stays, names that nobody has look new after each start.
        let nobody = parts.server_key.as_ref().map_or_else(
            || Secret::new(rand::random()),
            |key| key.secret_for("SCRAM verifiers of names that nobody has"),
        );
        let audit = parts.server_key.as_ref().map(|key| {
            let (storage, clock) = (parts.storage.clone(), parts.clock.clone());
            AuditTask::start(storage, key.audit_key(), &parts.audit, clock, metrics.clone())
        });
        let recorder = audit.as_ref().map(AuditTask::recorder);
        let suppressing = Arc::new(Suppressing {
            storage: parts.storage.clone(),
            enabled: parts.delivery.suppress_bounced,
            recorder: recorder.clone(),
        });
        let return_paths = parts.server_key.as_ref().map(|key| {
            Arc::new(ReturnPaths {
                key: TokenKey::new(key.secret_for("return paths")),
                storage: parts.storage.clone(),
                suppressing: suppressing.clone(),
                policy: parts.policy.clone(),
                metrics: metrics.clone(),
                clock: parts.clock.clone(),
            })
        });
        let recipients = Arc::new(Recipients { return_paths: return_paths.clone(), ..parts.recipients });
        submissions.recorder.clone_from(&recorder);
        if let Some(recorder) = &recorder {
            submissions.hooks.watch().record(recorder.clone());
        }
        submissions.recipients = recipients.clone();
        let submissions = Arc::new(submissions);
        let Submissions { hooks, memory, receipts, signing, .. } = &*submissions;
        if let Err(error) = receipts.recall(parts.storage.messages(), parts.clock.now()).await {
            let error = crate::error::chain(&error);
            tracing::warn!(component = "server", error, "what was accepted before the start is not known");
        }
        let sessions = Sessions {
            accounts: Accounts::new(parts.storage.clone(), throttle.clone(), metrics.clone(), nobody)
                .with_audit(recorder.clone()),
            recipients: recipients.clone(),
            cross_tenant: parts.cross_tenant,
            receiver: Receiver {
                hostname: parts.hostname.clone(),
                storage: parts.storage.clone(),
                hooks: hooks.clone(),
                outbound: parts.outbound,
                authenticator: parts.authenticator,
                memory: memory.clone(),
                scanner: parts.scanner,
                metrics: metrics.clone(),
                receipts: receipts.clone(),
                return_paths: return_paths.clone(),
                clock: parts.clock.clone(),
            },
            submissions: submissions.clone(),
            receipts: receipts.clone(),
        };
        let smtp = mairust_smtp::server::Server::new(parts.smtp, Arc::new(sessions))
            .with_observer(metrics.clone())
            .with_clock(parts.clock.clone());
        let max_age = parts.delivery.retry.give_up_after.saturating_add(LATE);
        let own: Vec<SocketAddr> = sockets.iter().filter_map(|(_, socket)| socket.local_addr().ok()).collect();
        let telling =
            Telling { client: parts.webhooks, gate: Gate::new(parts.delivery.workers), sealer: parts.sealer.clone() };
        let workers = Arc::new(Workers {
            hostname: parts.hostname,
            storage: parts.storage.clone(),
            hooks: hooks.clone(),
            client: parts.client.listening_at(own),
            recipients: recipients.clone(),
            outbound: parts.outbound,
            signing: signing.clone(),
            policy: parts.policy,
            lanes: parts.delivery.lanes(parts.clock.clone()),
            settings: parts.delivery,
            suppressing,
            return_paths,
            recorder: recorder.clone(),
            telling,
            metrics: metrics.clone(),
            clock: parts.clock.clone(),
        });
        let mut running = RunningServer {
            addresses: Addresses::default(),
            stop: watch::Sender::new(false),
            tasks: JoinSet::new(),
            hooks: hooks.clone(),
            drain: parts.drain,
            audit,
        };
        if sockets.iter().any(|(listener, _)| listener.service == Service::Mx) {
            recipients.check_postmaster().await;
        }
        for (listener, socket) in sockets {
            running.serve_smtp(&smtp, listener, socket)?;
        }
        if let (Some(socket), Some(server_key)) = (http, parts.server_key) {
            let submitter = Arc::new(ApiSubmitter(submissions.clone()));
            let mut state = ApiState::new(parts.storage.clone(), submitter, server_key, parts.clock.clone())
                .with_metrics(metrics.clone())
                .with_key_guard(throttle)
                .with_search_fallback(parts.search_fallback);
            let desk = hooks.handlers().callbacks.clone();
            state = state.with_callbacks(Arc::new(CallbackDoor(desk.clone())));
            let address =
                socket.local_addr().map_err(|error| Error::new("a listener has no address").with_source(error))?;
            if let Some(base) = CallbackBase::of(parts.tenant_hooks.callback_url.as_ref(), address) {
                desk.serve(base, recorder.clone());
            }
            if let Some(recorder) = recorder {
                state = state.with_audit_sink(recorder);
            }
            if let Some(sealer) = parts.sealer {
                state = state
                    .with_webhooks(sealer.clone(), parts.allow_private_webhooks)
                    .with_hooks(sealer, parts.tenant_hooks.allow_private_addresses)
                    .with_hook_control(hooks.clone());
            }
            running.serve_http(state, parts.http_limits, socket)?;
        }
        let stopped = running.stopped();
        running.tasks.spawn(async move {
            workers.run(stopped).await;
            Ok(())
        });
        let (calls, stopped) = (hooks.clone(), running.stopped());
        running.tasks.spawn(async move {
            calls.calls().run(stopped).await;
            Ok(())
        });
        let (watched, stopped) = (hooks.clone(), running.stopped());
        running.tasks.spawn(async move {
            watched.watch().alerts().run(stopped).await;
            Ok(())
        });
        let (checked, stopped) = (hooks.clone(), running.stopped());
        running.tasks.spawn(async move {
            tokio::select! {
                () = checked.check_again_and_again() => {}
                () = stopped => {}
            }
            Ok(())
        });
        let dispatcher = Dispatcher { storage: parts.storage.clone(), clock: parts.clock.clone() };
        let stopped = running.stopped();
        running.tasks.spawn(async move {
            dispatcher.run(stopped).await;
            Ok(())
        });
        let indexer = Indexer { storage: parts.storage.clone(), metrics: metrics.clone(), clock: parts.clock.clone() };
        let stopped = running.stopped();
        running.tasks.spawn(async move {
            indexer.run(stopped).await;
            Ok(())
        });
        let cleaner = Cleaner {
            storage: parts.storage.clone(),
            days: parts.deleted_messages_days,
            key_days: parts.retired_dkim_keys_days,
            event_days: parts.events_days,
            hook_call_days: parts.hook_calls_days,
            metrics: metrics.clone(),
            clock: parts.clock.clone(),
        };
        let stopped = running.stopped();
        running.tasks.spawn(async move {
            cleaner.run(stopped).await;
            Ok(())
        });
        running.measure(parts.storage.clone(), metrics.clone(), parts.clock.clone());
        running.audit(parts.storage, metrics, parts.clock, max_age);
        Ok(running)
    }
}

impl RunningServer {
    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Runs until `stop` is ready, then ends what was begun, bounded by the drain time.
    ///
    /// # Errors
    /// When a listener fails; everything else is ended then, too.
    pub async fn run_until(mut self, stop: impl Future<Output = ()> + Send) -> Result<()> {
        tracing::info!(component = "server", addresses = ?self.addresses, "ready");
        let mut outcome = Ok(());
        tokio::select! {
            () = stop => tracing::info!(component = "server", "stopping, ending what was begun"),
            ended = self.tasks.join_next() => outcome = unexpected_end(ended),
        }
        self.stop.send_replace(true);
        let drained = tokio::time::timeout(self.drain, async { while self.tasks.join_next().await.is_some() {} });
        if drained.await.is_err() {
            tracing::warn!(component = "server", drain = ?self.drain, "not all sessions and jobs ended in time");
        }
        if tokio::time::timeout(HOOKS_DRAIN, self.hooks.close()).await.is_err() {
            tracing::warn!(component = "server", drain = ?HOOKS_DRAIN, "not all hooks ended in time");
        }
        if let Some(audit) = self.audit {
            audit.end().await;
        }
        tracing::info!(component = "server", "stopped");
        outcome
    }

    fn serve_smtp(
        &mut self,
        smtp: &mairust_smtp::server::Server,
        listener: ListenerConfig,
        socket: tokio::net::TcpListener,
    ) -> Result<()> {
        let address =
            socket.local_addr().map_err(|error| Error::new("a listener has no address").with_source(error))?;
        self.addresses.smtp.push((listener.service, address));
        let (smtp, stopped) = (smtp.clone(), self.stopped());
        self.tasks.spawn(async move {
            let ended = smtp.run(socket, listener, stopped).await;
            ended.map_err(|error| Error::new(format_args!("{address}: {error}")).with_source(error))
        });
        Ok(())
    }

    fn serve_http(&mut self, state: ApiState, limits: HttpLimits, socket: tokio::net::TcpListener) -> Result<()> {
        let address =
            socket.local_addr().map_err(|error| Error::new("a listener has no address").with_source(error))?;
        self.addresses.http = Some(address);
        let stopped = self.stopped();
        let told = self.stopped();
        let streams = state.streams().clone();
        let cut_off = async move {
            told.await;
            streams.end();
            tokio::time::sleep(HTTP_DRAIN).await;
        };
        self.tasks.spawn(async move {
            tokio::select! {
                () = http::serve(socket, mairust_http::router(state), &limits, stopped) => {}
                () = cut_off => {}
            }
            Ok(())
        });
        Ok(())
    }

    fn measure(&mut self, storage: Arc<dyn StorageBackend>, metrics: Arc<Metrics>, clock: Arc<dyn Clock>) {
        let stopped = self.stopped();
        self.tasks.spawn(async move {
            tokio::pin!(stopped);
            loop {
                let now = clock.now();
                for (part, health) in storage.health().await {
                    metrics.storage_is(part, health.is_ok());
                }
                metrics.spool_is(storage.spool(), now);
                if let Ok(stats) = storage.queue().stats(now).await {
                    metrics.queue_is(stats, now);
                }
                if let Ok(pending) = storage.search_outbox().pending().await {
                    metrics.search_pending_is(pending);
                }
                tokio::select! {
                    () = &mut stopped => return Ok(()),
                    () = tokio::time::sleep(QUEUE_MEASURED_EVERY) => {}
                }
            }
        });
    }

    /// Looks from time to time whether every accepted recipient is still taken care of.
    fn audit(
        &mut self,
        storage: Arc<dyn StorageBackend>,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        max_age: Duration,
    ) {
        let stopped = self.stopped();
        self.tasks.spawn(async move {
            let audits = async {
                let mut pause = FIRST_AUDIT;
                loop {
                    crate::time::sleep(&*clock, pause).await;
                    pause = AUDIT_EVERY;
                    let check = InvariantCheck::new(clock.now()).max_age(max_age);
                    match invariant::audit(&storage, &check, AUDIT_PAUSE).await {
                        Ok(report) => tell(&report, &metrics),
                        Err(error) => tracing::warn!(
                            component = "auditor",
                            error = crate::error::chain(&error),
                            "the rules about accepted mail could not be audited"
                        ),
                    }
                }
            };
            tokio::select! {
                () = stopped => Ok(()),
                () = audits => Ok(()),
            }
        });
    }

    fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut receiver = self.stop.subscribe();
        async move {
            // An error means that the server is gone: stopped as well.
            let _ = receiver.wait_for(|stop| *stop).await;
        }
    }
}

/// Ready when the process is told to stop: SIGTERM, or Ctrl-C.
pub async fn shutdown_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        },
        Err(error) => {
            tracing::error!(component = "server", %error, "SIGTERM can't be caught, only Ctrl-C stops this server");
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

fn tell(report: &InvariantReport, metrics: &Metrics) {
    metrics.invariants_checked(report);
    for (invariant, count) in report.counts.iter().filter(|(_, count)| **count > 0) {
        let example = report.violations.iter().find(|violation| violation.invariant == *invariant);
        tracing::error!(
            component = "auditor",
            rule = invariant.as_str(),
            count,
            ?example,
            "rows break a rule about accepted mail"
        );
    }
}

/// A task that ends before it is told to has failed.
fn unexpected_end(ended: Option<Result<Result<()>, tokio::task::JoinError>>) -> Result<()> {
    let error = match ended {
        Some(Ok(Err(error))) => error,
        Some(Err(panic)) => Error::new("a part of the server ended abnormally").with_source(panic),
        Some(Ok(Ok(()))) | None => Error::new("a part of the server ended before it was told to"),
    };
    tracing::error!(component = "server", error = crate::error::chain(&error), "stopping because of a failure");
    Err(error)
}
