//! What a running server puts into the audit log: logins, content that was read, its own start and
//! end.
//!
//! Nobody waits for the audit log: events go to a bounded queue, and one task writes what has
//! gathered there. Events that come again within ten minutes, such as the attempts of somebody who
//! guesses passwords, are counted and become one entry; so is, within a minute, mail that a hook did not see. While the storage is down events wait; what
//! does not fit any more is told to the log and counted as lost. Each entry also goes to the log,
//! under the target `audit`.
//!
//! Deliberately absent: changes of the directory, which are recorded by whoever makes them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mairust_core::{Clock, MessageId, RecentMap, TenantId, Timestamp};
use mairust_store::audit::{Actor, AuditDrop, Target};
use mairust_store::{
    AuditEntry, AuditKey, MessageRow, NewAuditEvent, Owner, StorageBackend, Suppression, Suspension, User, Webhook,
};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::metrics::Metrics;

mod hooks;
mod repeats;
mod sink;

use repeats::Repeats;

/// Events that wait to be written. Some minutes of a busy server.
const QUEUE: usize = 10_000;
/// Events that are written together.
const BATCH: usize = 500;
/// How often what was counted is looked at.
const TICK: Duration = Duration::from_secs(60);
/// How long to wait after the storage failed.
const RETRY: Duration = Duration::from_secs(1);
/// How often old entries are dropped, and how many at a time.
const DROP_EVERY: Duration = Duration::from_secs(60 * 60);
const DROP_AT_ONCE: u32 = 1_000;
/// How long the last events may take when the server ends.
const END: Duration = Duration::from_secs(5);
/// For how long a key that reads a message again makes no further entry.
const VIEWED_AGAIN: Duration = Duration::from_secs(60 * 60);
/// Messages that are remembered as read.
const VIEWED: usize = 16_384;
/// Kinds of failed logins that are told apart within ten minutes; the others are counted together.
const FAILURES: usize = 1_000;
/// Kinds of logins that are told apart within ten minutes.
const LOGINS: usize = 100_000;
/// For how long failed logins, and logins, are counted before their number is recorded.
const LOGINS_EVERY: Duration = Duration::from_secs(600);
/// The same for mail that passed without a hook.
const SKIPPED_EVERY: Duration = Duration::from_secs(60);
/// Hooks that are told apart by that.
const SKIPPED: usize = 10_000;
/// The longest name that is kept of those that strangers give.
const MAX_NAME: usize = 320;

/// How the audit log is kept.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AuditSettings {
    /// How long entries are kept. Default 180 days.
    pub retention: Duration,
    /// What the entry about the start says about the configuration, for example a hash of it.
    pub configuration: Option<String>,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self { retention: Duration::from_secs(180 * 24 * 60 * 60), configuration: None }
    }
}

/// Takes events, for the queue or to be counted.
#[derive(Debug)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Record>,
    failures: Mutex<Repeats>,
    logins: Mutex<Repeats>,
    skipped: Mutex<Repeats>,
    viewed: Mutex<RecentMap<(String, MessageId), Timestamp>>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// An event, and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) owner: Owner,
    pub(crate) event: NewAuditEvent,
}

/// The recorder, and the task that writes.
#[derive(Debug)]
pub(crate) struct AuditTask {
    recorder: Arc<Recorder>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

struct Writer {
    queue: mpsc::Receiver<Record>,
    recorder: Arc<Recorder>,
    storage: Arc<dyn StorageBackend>,
    key: AuditKey,
    retention: Duration,
    waiting: Vec<Record>,
    /// Whether the storage failed the last time.
    failing: bool,
    next_drop: Timestamp,
}

impl AuditTask {
    /// Records the start of the server, and goes on to record.
    pub(crate) fn start(
        storage: Arc<dyn StorageBackend>,
        key: AuditKey,
        settings: &AuditSettings,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE);
        let recorder = Arc::new(Recorder {
            queue: sender,
            failures: Mutex::new(Repeats::new(FAILURES, LOGINS_EVERY)),
            logins: Mutex::new(Repeats::new(LOGINS, LOGINS_EVERY)),
            skipped: Mutex::new(Repeats::new(SKIPPED, SKIPPED_EVERY)),
            viewed: Mutex::new(RecentMap::new(VIEWED)),
            clock,
            metrics,
        });
        let after = json!({"version": env!("CARGO_PKG_VERSION"), "configuration": settings.configuration});
        recorder.server("server.started", Some(after));
        let next_drop = recorder.clock.now();
        let writer = Writer {
            queue,
            recorder: recorder.clone(),
            storage,
            key,
            retention: settings.retention,
            waiting: Vec::new(),
            failing: false,
            next_drop,
        };
        let (stop, stopped) = oneshot::channel();
        Self { recorder, stop, task: tokio::spawn(writer.run(stopped)) }
    }

    pub(crate) fn recorder(&self) -> Arc<Recorder> {
        self.recorder.clone()
    }

    /// Records the end of the server, and writes what is left.
    pub(crate) async fn end(self) {
        self.recorder.server("server.stopped", None);
        // The task may have ended by itself.
        let _ = self.stop.send(());
        if tokio::time::timeout(END, self.task).await.is_err() {
            tracing::error!(component = "audit", "the last events could not be written in time");
        }
    }
}

impl Recorder {
    /// A user logged in by SMTP.
    pub(crate) fn logged_in(&self, client: IpAddr, user: &User) {
        let actor = Actor { kind: "user".to_owned(), id: Some(user.id.to_string()), ip: Some(client) };
        let after = json!({"protocol": "smtp", "address": user.address.to_string()});
        let event = self.event("login.succeeded", actor, after);
        self.count(&self.logins, Record { owner: user.tenant.into(), event });
    }

    /// Somebody did not log in by SMTP. `tenant` is whose the name is, if it is anybody's.
    pub(crate) fn login_failed(&self, client: IpAddr, name: &str, tenant: Option<TenantId>, reason: &str) {
        let actor = Actor { kind: "anonymous".to_owned(), id: Some(shortened(name)), ip: Some(client) };
        let event = self.event("login.failed", actor, json!({"protocol": "smtp", "reason": reason}));
        self.count(&self.failures, Record { owner: tenant.map_or(Owner::Installation, Owner::from), event });
    }

    /// An address came on the suppression list of a tenant, since its server says that it does not exist.
    pub(crate) fn suppressed(&self, tenant: TenantId, suppression: &Suppression) {
        let event = NewAuditEvent {
            target: Some(Target { kind: "suppression".to_owned(), id: suppression.address.to_string() }),
            ..self.event("suppression.added", Actor::system(), of_suppression(suppression))
        };
        self.record(Record { owner: tenant.into(), event });
    }

    /// The policy took the right to send from a user.
    pub(crate) fn sending_suspended(&self, user: &User, suspension: &Suspension) {
        let after = json!({
            "address": user.address.to_string(),
            "reason": suspension.reason,
            "until": suspension.until.map(Timestamp::to_rfc3339),
        });
        let event = NewAuditEvent {
            target: Some(Target { kind: "user".to_owned(), id: user.id.to_string() }),
            ..self.event("user.sending_suspended", Actor::system(), after)
        };
        self.record(Record { owner: user.tenant.into(), event });
    }

    /// A webhook is told of nothing any more.
    pub(crate) fn webhook_disabled(&self, webhook: &Webhook, reason: &str) {
        let event = NewAuditEvent {
            target: Some(Target { kind: "webhook".to_owned(), id: webhook.id.to_string() }),
            ..self.event("webhook.disabled", Actor::system(), json!({"reason": reason}))
        };
        self.record(Record { owner: webhook.tenant.into(), event });
    }

    fn server(&self, event_type: &str, after: Option<serde_json::Value>) {
        let event = NewAuditEvent { after, ..self.event(event_type, Actor::system(), json!(null)) };
        self.record(Record { owner: Owner::Installation, event });
    }

    fn event(&self, event_type: &str, actor: Actor, after: serde_json::Value) -> NewAuditEvent {
        NewAuditEvent {
            at: self.clock.now(),
            event_type: event_type.to_owned(),
            actor,
            target: None,
            before: None,
            after: Some(after),
            request_id: None,
        }
    }

    /// Records the first event of its kind, and counts the others.
    fn count(&self, repeats: &Mutex<Repeats>, record: Record) {
        let now = self.clock.now();
        let first = repeats.lock().unwrap_or_else(PoisonError::into_inner).admit(record, now);
        if let Some(record) = first {
            self.record(record);
        }
    }

    fn record(&self, record: Record) {
        if let Err(error) = self.queue.try_send(record) {
            let record = error.into_inner();
            tracing::error!(component = "audit", ?record, "an event was lost: too many wait to be written");
            self.metrics.audited("lost", 1);
        }
    }

    /// What was counted for long enough; everything if the server ends.
    fn counted(&self, until: Timestamp) -> Vec<Record> {
        let take = |repeats: &Mutex<Repeats>| {
            repeats.lock().unwrap_or_else(PoisonError::into_inner).take_due(until, self.clock.now())
        };
        [&self.failures, &self.logins, &self.skipped].into_iter().flat_map(take).collect()
    }
}

impl Writer {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut tick = tokio::time::interval(TICK);
        loop {
            let may_take = self.waiting.len() < QUEUE;
            tokio::select! {
                _ = &mut stopped => break,
                _ = self.queue.recv_many(&mut self.waiting, BATCH), if may_take => {}
                _ = tick.tick() => {
                    let now = self.recorder.clock.now();
                    self.waiting.extend(self.recorder.counted(now));
                    self.drop_old(now).await;
                }
                () = tokio::time::sleep(RETRY), if self.failing => {}
            }
            self.write().await;
        }
        while let Ok(record) = self.queue.try_recv() {
            self.waiting.push(record);
        }
        self.waiting.extend(self.recorder.counted(Timestamp::from_micros(i64::MAX)));
        self.write().await;
        if !self.waiting.is_empty() {
            let events = &self.waiting;
            tracing::error!(component = "audit", ?events, "events were lost: the storage is down");
        }
    }

    /// Writes what waits. What can't be written now is left.
    async fn write(&mut self) {
        let mut chains: BTreeMap<Owner, Vec<NewAuditEvent>> = BTreeMap::new();
        for record in self.waiting.drain(..) {
            chains.entry(record.owner).or_default().push(record.event);
        }
        let failed_before = std::mem::take(&mut self.failing);
        for (owner, events) in chains {
            match self.storage.audit().append(owner, &self.key, events.clone()).await {
                Ok(entries) => {
                    self.recorder.metrics.audited("recorded", entries.len());
                    entries.iter().for_each(tell);
                }
                Err(error) if error.is_temporary() => {
                    if !failed_before && !self.failing {
                        let error = crate::error::chain(&error);
                        tracing::warn!(component = "audit", error, "events wait for the storage");
                    }
                    self.failing = true;
                    self.waiting.extend(events.into_iter().map(|event| Record { owner, event }));
                }
                Err(error) => {
                    let error = crate::error::chain(&error);
                    tracing::error!(component = "audit", error, ?events, "events were lost");
                    self.recorder.metrics.audited("lost", events.len());
                }
            }
        }
    }

    async fn drop_old(&mut self, now: Timestamp) {
        if now < self.next_drop {
            return;
        }
        self.next_drop = now.plus(DROP_EVERY);
        let micros = i64::try_from(self.retention.as_micros()).unwrap_or(i64::MAX);
        let before = Timestamp::from_micros(now.as_micros().saturating_sub(micros));
        let dropped = async {
            for owner in self.storage.audit().owners().await? {
                let drop = AuditDrop { before, max: DROP_AT_ONCE, now };
                while self.storage.audit().drop_old(owner, &self.key, drop).await? == u64::from(DROP_AT_ONCE) {}
            }
            Ok::<_, mairust_store::StoreError>(())
        };
        if let Err(error) = dropped.await {
            tracing::warn!(
                component = "audit",
                error = crate::error::chain(&error),
                "old entries could not be dropped"
            );
        }
    }
}

/// Tells the log stream of an entry.
fn tell(entry: &AuditEntry) {
    let json = entry.to_json();
    tracing::info!(
        target: "audit",
        component = "audit",
        owner = %entry.owner,
        sequence = entry.sequence,
        hash = json["hash"].as_str(),
        event_type = entry.event_type,
        entry = %json,
        "recorded"
    );
}

/// What the audit log says about a message: enough to tell it from others, nothing of what it says.
pub(crate) fn of_message(row: &MessageRow) -> serde_json::Value {
    json!({
        "mailbox_id": row.mailbox.to_string(),
        "received_at": row.received_at.to_rfc3339(),
        "size": row.size,
        "deleted_at": row.deleted_at.map(Timestamp::to_rfc3339),
        "legal_hold": row.legal_hold,
        "archived": row.is_archived(),
    })
}

/// A suppression, as the audit log and the command line show it.
pub(crate) fn of_suppression(suppression: &Suppression) -> serde_json::Value {
    json!({
        "id": suppression.id.to_string(),
        "address": suppression.address.to_string(),
        "reason": suppression.reason.as_str(),
        "detail": suppression.detail,
        "created_at": suppression.created_at.to_rfc3339(),
        "expires_at": suppression.expires_at.map(Timestamp::to_rfc3339),
    })
}

fn shortened(name: &str) -> String {
    name[..name.floor_char_boundary(MAX_NAME)].to_owned()
}
