//! What somebody is to look at about hooks: told once an hour for each hook and reason, however much mail shows it.
//!
//! All of it goes to the log as an error, and is counted. What is about a hook of a tenant is an event of it, too, so
//! that webhooks carry it. Nobody waits for that: a task writes what has gathered.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mairust_core::{Clock, Rate, RecentMap, TenantId, Timestamp};
use mairust_hooks::event::HookAlert;
use mairust_hooks::{HookPoint, Observed};
use mairust_store::{Acceptance, Allowance, StorageBackend, StoreError, Taken};
use tokio::sync::Notify;

use crate::acceptance::accept;
use crate::metrics::Metrics;
use crate::time::sleep;

/// How often the same is told.
const HOUR: Duration = Duration::from_secs(3_600);
/// Hooks and reasons that are remembered as told.
const TOLD: usize = 16_384;
/// So many wait to be written; what comes on top is in the log only.
const WAITING: usize = 1_000;
/// How long to wait after the storage failed.
const RETRY: Duration = Duration::from_secs(1);

/// Alerts that are to be written down, and those that were lately.
#[derive(Debug)]
pub(crate) struct Alerts {
    storage: Arc<dyn StorageBackend>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    /// By hook and reason.
    told: Mutex<RecentMap<(String, Reason), Timestamp>>,
    waiting: Mutex<VecDeque<Waiting>>,
    came: Notify,
}

/// Something that somebody is to look at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alert<'a> {
    pub(super) reason: Reason,
    pub(super) point: HookPoint,
    /// The reason, for people.
    pub(super) detail: &'a str,
    /// The call that showed it.
    pub(super) invocation: Option<&'a str>,
}

/// Why somebody is to look at a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reason {
    /// It does not know us.
    Auth,
    /// No mail passes without it, and it is left alone.
    BreakerOpen,
    /// It says that it is not there any more.
    Gone,
    /// It decides what it has no leave to decide.
    VerdictDenied,
}

#[derive(Debug)]
struct Waiting {
    tenant: TenantId,
    /// The leave to tell it, which all nodes share; `None` once it was given.
    leave: Option<Allowance>,
    alert: HookAlert,
    at: Timestamp,
}

impl Alerts {
    pub(super) fn new(storage: Arc<dyn StorageBackend>, metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Self {
        let (told, waiting) = (Mutex::new(RecentMap::new(TOLD)), Mutex::default());
        Self { storage, metrics, clock, told, waiting, came: Notify::new() }
    }

    /// Tells of something, unless it was told within the hour.
    pub(super) fn raise(&self, hook: &Observed<'_>, alert: Alert<'_>) {
        let now = self.clock.now();
        // After a change of the hook it is news.
        let key = hook.of_tenant.map_or(hook.name, |of_tenant| &of_tenant.key);
        if !self.is_news((key.to_owned(), alert.reason), now) {
            return;
        }
        let Alert { reason, point, detail, invocation } = alert;
        let (reason, point) = (reason.as_str(), point.as_str());
        self.metrics.hook_alerted(hook.name, reason);
        let (name, id) = (hook.name, hook.of_tenant.map(|of_tenant| of_tenant.id.to_string()));
        tracing::error!(
            component = "hooks",
            hook = name,
            hook_id = id,
            point,
            reason,
            detail,
            "a hook is to be looked at"
        );
        let Some((of_tenant, hook_id)) = hook.of_tenant.zip(id) else { return };
        let waiting = Waiting {
            tenant: of_tenant.tenant,
            leave: Some(Allowance { scope: format!("hook_alert:{key}:{reason}"), rate: Rate::new(1, HOUR) }),
            alert: HookAlert {
                hook_id,
                plugin_id: name.to_owned(),
                point: point.to_owned(),
                reason: reason.to_owned(),
                detail: detail.to_owned(),
                invocation_id: invocation.map(str::to_owned),
            },
            at: now,
        };
        let mut all = self.waiting();
        if all.len() < WAITING {
            all.push_back(waiting);
        }
        drop(all);
        self.came.notify_one();
    }

    /// Writes what comes, until it is to stop. What is left then is written by [`write`](Self::write).
    pub(crate) async fn run(&self, stopped: impl Future<Output = ()> + Send) {
        let mut stopped = pin!(stopped);
        let mut failing = false;
        loop {
            tokio::select! {
                biased;
                () = &mut stopped => return,
                () = self.came.notified() => {}
                () = sleep(&*self.clock, RETRY), if failing => {}
            }
            failing = !self.write().await;
        }
    }

    /// Writes all that waits; whether the storage took it.
    pub(crate) async fn write(&self) -> bool {
        while let Some(mut waiting) = self.next() {
            match self.tell(&mut waiting).await {
                Ok(()) => {}
                Err(error) if error.is_temporary() => {
                    self.waiting().push_front(waiting);
                    return false;
                }
                Err(error) => {
                    let error = crate::error::chain(&error);
                    tracing::error!(component = "hooks", error, ?waiting, "an event was lost");
                }
            }
        }
        true
    }

    async fn tell(&self, waiting: &mut Waiting) -> Result<(), StoreError> {
        let Waiting { tenant, leave, alert, at } = waiting;
        if let Some(allowance) = leave {
            let taken = self.storage.allowances().take(*tenant, std::slice::from_ref(allowance), 1, *at).await?;
            if taken != Taken::All {
                // Another node has told it.
                return Ok(());
            }
            *leave = None;
        }
        let mut acceptance = Acceptance::new(*tenant);
        acceptance.events.push(crate::events::alert(alert, *at));
        accept(&*self.storage, acceptance).await
    }

    fn is_news(&self, what: (String, Reason), now: Timestamp) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get_mut(&what).is_some_and(|at| now.since(*at) < HOUR) {
            return false;
        }
        *told.entry(what, || now) = now;
        true
    }

    fn next(&self) -> Option<Waiting> {
        self.waiting().pop_front()
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reason {
    /// For events, logs and metrics.
    fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::BreakerOpen => "breaker_open",
            Self::Gone => "gone",
            Self::VerdictDenied => "verdict_denied",
        }
    }
}
