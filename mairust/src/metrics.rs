//! What the server counts. One registry for each server: two in one process do not mix.
//!
//! All names and their help texts stand in [`Metrics::new`]; `docs/metrics.md` is made from them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use mairust_core::{AuthResults, ScanReport, Timestamp};
use mairust_hooks::breaker::{BreakerState, Transition};
use mairust_hooks::{HealthStatus, HookObserver, HookPoint, HookRun, Observed, RunOutcome};
use mairust_http::MetricsSource;
use mairust_smtp::server::{Observer, Refusal, Service};
use mairust_store::{AttemptOutcome, InvariantReport, QueueStats, SpoolStatistics};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use crate::hooks::process::log::Ignored;

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge>;
type Histograms = Family<Labels, Histogram>;

/// Upper bounds of the latency histograms, in seconds.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// The counters of one server.
pub struct Metrics {
    registry: Registry,
    rows: Vec<(&'static str, &'static str, &'static str)>,
    sessions: Gauges,
    sessions_total: Counters,
    sessions_refused: Counters,
    early_talkers: Counters,
    logins: Counters,
    login_locks: Counters,
    audit_events: Counters,
    replies: Counters,
    messages: Counters,
    end_of_data: Histograms,
    authentication: Counters,
    hook_calls: Counters,
    hook_fail_open: Counters,
    hook_alerts: Counters,
    hook_health: Family<Labels, Gauge<f64, AtomicU64>>,
    breaker_transitions: Counters,
    hook_seconds: Histograms,
    plugin_restarts: Counters,
    plugin_callbacks: Counters,
    plugin_log_dropped: Counters,
    plugin_lines_ignored: Counters,
    py_stuck_threads: Gauge,
    /// Where hooks in Python count.
    py_threads: OnceLock<Arc<AtomicI64>>,
    policy_decisions: Counters,
    spam_scans: Counters,
    spam_scan_seconds: Histograms,
    deliveries: Counters,
    returned: Counters,
    webhooks: Counters,
    jobs: Gauges,
    oldest_job: Gauges,
    /// What was told last, so that a kind of which no job is left is told to be at 0.
    queue: Mutex<BTreeMap<String, QueueStats>>,
    leases_lost: Counter,
    storage_up: Gauges,
    deduplicated: Counter,
    spooled_bodies: Gauge,
    spooled_bytes: Gauge,
    oldest_spooled: Gauge,
    search_pending: Gauge,
    search_indexed: Counter,
    violations: Gauges,
    purged: Counter,
    objects_removed: Counter,
}

/// What became of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthOutcome {
    Failure,
    Locked,
    Success,
    Unavailable,
}

impl AuthOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Locked => "locked",
            Self::Success => "success",
            Self::Unavailable => "unavailable",
        }
    }
}

impl Metrics {
    /// Counters at zero.
    pub fn new() -> Self {
        let mut table = Table::default();
        let counters = Counters::default;
        Self {
            sessions: table.add("smtp_sessions", "gauge", "SMTP sessions open now, by service", Gauges::default()),
            sessions_total: table.add(
                "smtp_sessions_opened",
                "counter",
                "SMTP sessions opened, by service",
                counters(),
            ),
            sessions_refused: table.add(
                "smtp_sessions_refused",
                "counter",
                "Clients sent away before they had a session, by service and reason",
                counters(),
            ),
            early_talkers: table.add(
                "smtp_early_talkers",
                "counter",
                "Clients that spoke before they were greeted, by service",
                counters(),
            ),
            logins: table.add(
                "auth_attempts",
                "counter",
                "Logins by password (smtp) and refused API keys (api), by protocol and outcome",
                counters(),
            ),
            login_locks: table.add(
                "auth_locks",
                "counter",
                "Locks after too many failed logins, of an account for one client or of a client, by kind",
                counters(),
            ),
            audit_events: table.add(
                "audit_events",
                "counter",
                "Events for the audit log, by outcome: recorded, or lost because it could not be written to",
                counters(),
            ),
            replies: table.add("smtp_replies", "counter", "SMTP replies sent, by service and code", counters()),
            messages: table.add(
                "smtp_messages",
                "counter",
                "Messages that came to their end, by service and reply code",
                counters(),
            ),
            end_of_data: table.add(
                "smtp_end_of_data_seconds",
                "histogram",
                "Time from the final dot to the reply, by service",
                histograms(),
            ),
            authentication: table.add(
                "authentication_results",
                "counter",
                "Results of sender authentication, by method and result",
                counters(),
            ),
            hook_calls: table.add("hook_calls", "counter", "Calls of hooks, by point, hook and outcome", counters()),
            hook_health: table.add(
                "hook_health",
                "gauge",
                "What hooks say about themselves, by hook: 1 if they work, 0.5 if not as they should, 0 if they don't",
                Family::default(),
            ),
            hook_fail_open: table.add(
                "hook_fail_open",
                "counter",
                "Messages that went on although a hook did not answer, by hook and outcome",
                counters(),
            ),
            hook_alerts: table.add(
                "hook_alerts",
                "counter",
                "What somebody is to look at about hooks, by hook and reason; once an hour for each",
                counters(),
            ),
            breaker_transitions: table.add(
                "hook_breaker_transitions",
                "counter",
                "Changes of the circuit breakers of hooks, by point, hook, state and reason",
                counters(),
            ),
            hook_seconds: table.add("hook_seconds", "histogram", "Time of calls of hooks, by point and hook", histograms()),
            plugin_restarts: table.add(
                "plugin_restarts",
                "counter",
                "Starts of workers that had ended by themselves, by plugin",
                counters(),
            ),
            plugin_callbacks: table.add(
                "plugin_callback_requests",
                "counter",
                "Requests of plugins to the callback API, by plugin, route and HTTP status",
                counters(),
            ),
            plugin_log_dropped: table.add(
                "plugin_log_dropped",
                "counter",
                "Lines of plugins that are not in the log, because there were too many, by plugin",
                counters(),
            ),
            plugin_lines_ignored: table.add(
                "plugin_lines_ignored",
                "counter",
                "Lines of workers that were passed over, by plugin and reason: late (nobody waited any more), text, \
                 unknown, unreadable",
                counters(),
            ),
            policy_decisions: table.add(
                "policy_decisions",
                "counter",
                "Decisions about mail that users and applications submit, by decision (allow, reject, tempfail) and reason",
                counters(),
            ),
            spam_scans: table.add(
                "spam_scans",
                "counter",
                "Scans for spam, by engine and outcome: an action, or failed",
                counters(),
            ),
            spam_scan_seconds: table.add(
                "spam_scan_seconds",
                "histogram",
                "Time of scans for spam, by the engine that made the report",
                histograms(),
            ),
            deliveries: table.add(
                "delivery_attempts",
                "counter",
                "Delivery attempts for one recipient, by outcome",
                counters(),
            ),
            returned: table.add(
                "returned_messages",
                "counter",
                "Messages that came back to return paths, by result: bounced, known (the same once more), no_failure, \
                 no_report, or forged: refused at an address that was not made here",
                counters(),
            ),
            webhooks: table.add(
                "webhook_deliveries",
                "counter",
                "Attempts to tell a webhook of an event, by outcome",
                counters(),
            ),
            jobs: table.add(
                "queue_jobs",
                "gauge",
                "Jobs in the queue, by kind and state; 10000 stands for that many or more",
                Gauges::default(),
            ),
            oldest_job: table.add(
                "queue_oldest_seconds",
                "gauge",
                "How long the job has been due that has been due the longest, by kind",
                Gauges::default(),
            ),
            queue: Mutex::default(),
            storage_up: table.add(
                "storage_up",
                "gauge",
                "Whether a part of the storage can be used (1) or not (0): the database, the store of bodies, \
                 room on the disk",
                Gauges::default(),
            ),
            leases_lost: table.add(
                "queue_leases_lost",
                "counter",
                "Leases that ended while their job was being done",
                Counter::default(),
            ),
            deduplicated: table.add(
                "receive_deduplicated",
                "counter",
                "Messages that came again, because their client had not heard that they were accepted",
                Counter::default(),
            ),
            py_stuck_threads: table.add(
                "py_stuck_threads",
                "gauge",
                "Threads that are blocked by hooks in Python which nobody waits for any more",
                Gauge::default(),
            ),
            py_threads: OnceLock::new(),
            spooled_bodies: table.add(
                "storage_spooled_bodies",
                "gauge",
                "Bodies that wait in the database for their place in the store of bodies",
                Gauge::default(),
            ),
            spooled_bytes: table.add(
                "storage_spooled_bytes",
                "gauge",
                "Bytes of those bodies; `storage.spool_max` is the most before mail is refused",
                Gauge::default(),
            ),
            oldest_spooled: table.add(
                "storage_spool_oldest_seconds",
                "gauge",
                "For how long the oldest of those bodies has waited; a few seconds, unless the store of bodies is down",
                Gauge::default(),
            ),
            search_pending: table.add(
                "search_pending",
                "gauge",
                "Messages that the search index does not know yet",
                Gauge::default(),
            ),
            search_indexed: table.add(
                "search_indexed",
                "counter",
                "Messages that were brought into the search index",
                Counter::default(),
            ),
            violations: table.add(
                "queue_invariant_violations",
                "gauge",
                "Rows that broke a rule about accepted mail at the last audit, by rule",
                Gauges::default(),
            ),
            purged: table.add(
                "messages_purged",
                "counter",
                "Messages that were removed for good, some time after they were deleted",
                Counter::default(),
            ),
            objects_removed: table.add(
                "objects_removed",
                "counter",
                "Removals of objects from the body store that no message has any more; twice if one may have been on its way there",
                Counter::default(),
            ),
            registry: table.registry,
            rows: table.rows,
        }
    }

    /// The state of all counters in the OpenMetrics text format.
    pub fn render(&self) -> String {
        if let Some(stuck) = self.py_threads.get() {
            self.py_stuck_threads.set(stuck.load(Ordering::Relaxed));
        }
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// Tells what hooks in Python count here.
    pub(crate) fn watch_python(&self, stuck: Option<Arc<AtomicI64>>) {
        if let Some(stuck) = stuck {
            // Watched once, when the server starts.
            let _ = self.py_threads.set(stuck);
        }
    }

    pub(crate) fn sender_verified(&self, results: &AuthResults) {
        for (method, outcome) in results.outcomes() {
            let labels = vec![("method", method.to_owned()), ("result", outcome.as_str().to_owned())];
            self.authentication.get_or_create(&labels).inc();
        }
    }

    pub(crate) fn scanned(&self, report: &ScanReport, took: Duration) {
        self.count_scan(&report.engine, report.action.as_str());
        self.spam_scan_seconds.get_or_create(&vec![("engine", report.engine.clone())]).observe(took.as_secs_f64());
    }

    /// `reason` is one of few words.
    pub(crate) fn policy_decided(&self, decision: &'static str, reason: &'static str) {
        let labels = vec![("decision", decision.to_owned()), ("reason", reason.to_owned())];
        self.policy_decisions.get_or_create(&labels).inc();
    }

    pub(crate) fn plugin_restarted(&self, plugin: &str) {
        self.plugin_restarts.get_or_create(&vec![("plugin", plugin.to_owned())]).inc();
    }

    pub(crate) fn callback_answered(&self, plugin: &str, route: &str, status: u16) {
        let labels = vec![("plugin", plugin.to_owned()), ("route", route.to_owned()), ("status", status.to_string())];
        self.plugin_callbacks.get_or_create(&labels).inc();
    }

    pub(crate) fn plugin_log_dropped(&self, plugin: &str) {
        self.plugin_log_dropped.get_or_create(&vec![("plugin", plugin.to_owned())]).inc();
    }

    pub(crate) fn plugin_line_ignored(&self, plugin: &str, why: Ignored) {
        let labels = vec![("plugin", plugin.to_owned()), ("reason", why.as_str().to_owned())];
        self.plugin_lines_ignored.get_or_create(&labels).inc();
    }

    pub(crate) fn scan_failed(&self, engine: &str) {
        self.count_scan(engine, "failed");
    }

    pub(crate) fn delivery_attempted(&self, outcome: AttemptOutcome) {
        self.deliveries.get_or_create(&vec![("outcome", outcome.as_str().to_owned())]).inc();
    }

    pub(crate) fn hook_checked(&self, hook: &str, status: HealthStatus) {
        let value = match status {
            HealthStatus::Ok => 1.0,
            HealthStatus::Degraded => 0.5,
            HealthStatus::Error => 0.0,
        };
        self.hook_health.get_or_create(&vec![("hook", hook.to_owned())]).set(value);
    }

    /// A hook is not there any more, or can't be asked.
    pub(crate) fn hook_forgotten(&self, hook: &str) {
        self.hook_health.remove(&vec![("hook", hook.to_owned())]);
    }

    /// `result` is one of few words.
    pub(crate) fn came_back(&self, result: &'static str) {
        self.returned.get_or_create(&vec![("result", result.to_owned())]).inc();
    }

    pub(crate) fn webhook_told(&self, outcome: &'static str) {
        self.webhooks.get_or_create(&vec![("outcome", outcome.to_owned())]).inc();
    }

    pub(crate) fn login_attempted(&self, protocol: &'static str, outcome: AuthOutcome) {
        let labels = vec![("protocol", protocol.to_owned()), ("outcome", outcome.as_str().to_owned())];
        self.logins.get_or_create(&labels).inc();
    }

    pub(crate) fn login_locked(&self, kind: &'static str) {
        self.login_locks.get_or_create(&vec![("kind", kind.to_owned())]).inc();
    }

    pub(crate) fn audited(&self, outcome: &'static str, count: usize) {
        self.audit_events.get_or_create(&vec![("outcome", outcome.to_owned())]).inc_by(count as u64);
    }

    pub(crate) fn lease_lost(&self) {
        self.leases_lost.inc();
    }

    pub(crate) fn deduplicated(&self) {
        self.deduplicated.inc();
    }

    /// How much there is to do at `now`.
    pub(crate) fn queue_is(&self, stats: BTreeMap<String, QueueStats>, now: Timestamp) {
        let mut told = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = std::mem::take(&mut *told).into_keys().filter(|kind| !stats.contains_key(kind));
        for kind in gone.collect::<Vec<_>>() {
            self.queue_of(&kind, &QueueStats::default(), now);
        }
        for (kind, stats) in &stats {
            self.queue_of(kind, stats, now);
        }
        *told = stats;
    }

    pub(crate) fn storage_is(&self, part: &'static str, up: bool) {
        self.storage_up.get_or_create(&vec![("part", part.to_owned())]).set(up.into());
    }

    fn queue_of(&self, kind: &str, stats: &QueueStats, now: Timestamp) {
        for (state, count) in [
            ("ready", stats.ready),
            ("waiting", stats.waiting),
            ("leased", stats.leased),
            ("held", stats.held),
            ("buried", stats.buried),
        ] {
            let labels = vec![("kind", kind.to_owned()), ("state", state.to_owned())];
            self.jobs.get_or_create(&labels).set(gauge(count));
        }
        let age = stats.oldest_due.map_or(0, |due| now.since(due).as_secs());
        self.oldest_job.get_or_create(&vec![("kind", kind.to_owned())]).set(gauge(age));
    }

    pub(crate) fn invariants_checked(&self, report: &InvariantReport) {
        for (invariant, count) in &report.counts {
            let labels = vec![("rule", invariant.as_str().to_owned())];
            self.violations.get_or_create(&labels).set(gauge(*count));
        }
    }

    /// What waits at `now` for its place in the store of bodies.
    pub(crate) fn spool_is(&self, spool: SpoolStatistics, now: Timestamp) {
        self.spooled_bodies.set(gauge(spool.bodies));
        self.spooled_bytes.set(gauge(spool.bytes));
        self.oldest_spooled.set(gauge(spool.oldest.map_or(0, |oldest| now.since(oldest).as_secs())));
    }

    pub(crate) fn search_pending_is(&self, pending: u64) {
        self.search_pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
    }

    pub(crate) fn indexed(&self, messages: u32) {
        self.search_indexed.inc_by(messages.into());
    }

    pub(crate) fn purged(&self, messages: u32) {
        self.purged.inc_by(messages.into());
    }

    pub(crate) fn objects_removed(&self, objects: u32) {
        self.objects_removed.inc_by(objects.into());
    }

    pub(crate) fn hook_alerted(&self, hook: &str, reason: &str) {
        let labels = vec![("hook", hook.to_owned()), ("reason", reason.to_owned())];
        self.hook_alerts.get_or_create(&labels).inc();
    }

    fn count_scan(&self, engine: &str, outcome: &str) {
        let labels = vec![("engine", engine.to_owned()), ("outcome", outcome.to_owned())];
        self.spam_scans.get_or_create(&labels).inc();
    }
}

impl HookObserver for Metrics {
    fn called(&self, _: &Observed<'_>, run: &HookRun) {
        let (point, hook, outcome) = (run.point.as_str(), &run.hook, run.outcome.as_str());
        let labels = |names: &[(&'static str, &str)]| {
            names.iter().map(|(name, value)| (*name, (*value).to_owned())).collect::<Vec<_>>()
        };
        self.hook_calls.get_or_create(&labels(&[("point", point), ("hook", hook), ("outcome", outcome)])).inc();
        if run.let_pass {
            self.hook_fail_open.get_or_create(&labels(&[("hook", hook), ("outcome", outcome)])).inc();
        }
        self.hook_seconds
            .get_or_create(&labels(&[("point", point), ("hook", hook)]))
            .observe(run.duration.as_secs_f64());
        if run.outcome.is_done() {
            tracing::debug!(component = "hooks", point, hook, invocation_id = %run.id, outcome, "a hook answered");
        } else if run.outcome == RunOutcome::Cancelled {
            tracing::info!(component = "hooks", point, hook, invocation_id = %run.id, outcome, "a client hung up while a hook was called");
        } else {
            let (why, let_pass) = (&run.outcome, run.let_pass);
            tracing::warn!(component = "hooks", point, hook, invocation_id = %run.id, outcome = %why, let_pass, "a hook did not answer");
        }
    }

    fn breaker_changed(&self, hook: &Observed<'_>, point: HookPoint, change: &Transition) {
        let hook = hook.name;
        let because = match change.to {
            BreakerState::Open { because, .. } => because.as_str(),
            _ => "none",
        };
        let (point, to) = (point.as_str(), change.to.as_str());
        tracing::warn!(
            component = "hooks",
            hook,
            point,
            from = change.from,
            to,
            because,
            "the circuit breaker changed"
        );
        let labels = [("point", point), ("hook", hook), ("to", to), ("reason", because)];
        let labels = labels.map(|(name, value)| (name, value.to_owned())).to_vec();
        self.breaker_transitions.get_or_create(&labels).inc();
    }
}

impl Observer for Metrics {
    fn session_opened(&self, service: Service) {
        self.sessions.get_or_create(&labels(service)).inc();
        self.sessions_total.get_or_create(&labels(service)).inc();
    }

    fn session_closed(&self, service: Service) {
        self.sessions.get_or_create(&labels(service)).dec();
    }

    fn session_refused(&self, service: Service, refusal: Refusal) {
        let mut labels = labels(service);
        labels.push(("reason", refusal.as_str().to_owned()));
        self.sessions_refused.get_or_create(&labels).inc();
    }

    fn early_talker(&self, service: Service) {
        self.early_talkers.get_or_create(&labels(service)).inc();
    }

    fn reply(&self, service: Service, code: u16) {
        self.replies.get_or_create(&with_code(service, code)).inc();
    }

    fn message(&self, service: Service, code: u16, took: Duration) {
        self.messages.get_or_create(&with_code(service, code)).inc();
        self.end_of_data.get_or_create(&labels(service)).observe(took.as_secs_f64());
    }
}

impl MetricsSource for Metrics {
    fn render(&self) -> String {
        Self::render(self)
    }
}

fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn labels(service: Service) -> Labels {
    vec![("service", service.as_str().to_owned())]
}

fn with_code(service: Service, code: u16) -> Labels {
    let mut labels = labels(service);
    labels.push(("code", code.to_string()));
    labels
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Metrics with their names and meanings.
struct Table {
    registry: Registry,
    /// Name, type, meaning.
    rows: Vec<(&'static str, &'static str, &'static str)>,
}

impl Table {
    fn add<M: Metric + Clone>(&mut self, name: &'static str, kind: &'static str, help: &'static str, metric: M) -> M {
        self.registry.register(name, help, metric.clone());
        self.rows.push((name, kind, help));
        metric
    }
}

impl Default for Table {
    fn default() -> Self {
        Self { registry: Registry::with_prefix("mairust"), rows: Vec::new() }
    }
}

fn histograms() -> Histograms {
    Histograms::new_with_constructor(|| Histogram::new(SECONDS))
}

/// What the metrics are called and mean, as Markdown.
pub fn reference_markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\nServed at `GET /metrics` to API keys with the scope `metrics:read`. \
         Times are in seconds.\n\n| name | type | meaning |\n|---|---|---|\n",
    );
    for (name, kind, help) in Metrics::new().rows {
        let suffix = if kind == "counter" { "_total" } else { "" };
        text.push_str(&format!("| `mairust_{name}{suffix}` | {kind} | {help} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_lists_every_metric() {
        let text = reference_markdown();
        for name in ["smtp_messages_total", "hook_calls_total", "queue_jobs", "hook_seconds"] {
            assert!(text.contains(&format!("| `mairust_{name}` |")), "{name} in\n{text}");
        }
    }

    #[test]
    fn a_kind_without_jobs_is_told_once_more() {
        let (metrics, now) = (Metrics::new(), Timestamp::from_unix(1_000));
        let mut stats = QueueStats::default();
        (stats.ready, stats.oldest_due) = (3, Some(Timestamp::from_unix(990)));
        metrics.queue_is(BTreeMap::from([("deliver".to_owned(), stats)]), now);
        let text = metrics.render();
        assert!(text.contains("mairust_queue_jobs{kind=\"deliver\",state=\"ready\"} 3"), "{text}");
        assert!(text.contains("mairust_queue_oldest_seconds{kind=\"deliver\"} 10"), "{text}");
        metrics.queue_is(BTreeMap::new(), now);
        let text = metrics.render();
        assert!(text.contains("mairust_queue_jobs{kind=\"deliver\",state=\"ready\"} 0"), "{text}");
        assert!(text.contains("mairust_queue_oldest_seconds{kind=\"deliver\"} 0"), "{text}");
    }
}
