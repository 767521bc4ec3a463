//! The only place that loops over hooks.

use std::collections::HashMap;
use std::fmt;
use std::future::pending;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use mairust_core::{Clock, EmailAddress, Mail, SystemClock, TenantId, Timestamp};
use tokio::time::Instant;

use crate::binding::Binding;
use crate::breaker::BreakerState;
use crate::call::{Bound, Called};
use crate::handler::{HealthReport, HookCall, HookError, HookPoint};
use crate::observer::{HookObserver, TenantHook};
use crate::protocol::request::SessionOrigin;
use crate::protocol::{Answer, InvocationId, MailFacts, Merged, Mode, merge};
use crate::run::{HookRun, RunOutcome};

/// Longer than any call takes.
const LONG: Duration = Duration::from_secs(86_400);

/// Runs hooks in their order: those of the server, for mail of every tenant, and those that tenants have bound.
pub struct HookRunner {
    own: Vec<Arc<Bound>>,
    /// The hooks for mail of tenants that have bound none.
    bare: Hooks,
    tenants: RwLock<HashMap<TenantId, Hooks>>,
    shared: Arc<Shared>,
}

/// The hooks for mail of one tenant, as they are bound now: what is bound or let go later changes nothing here.
#[derive(Clone)]
pub struct Hooks {
    /// Sorted by priority, then name.
    bound: Arc<[Arc<Bound>]>,
    shared: Arc<Shared>,
}

/// What all have in common.
struct Shared {
    budgets: Budgets,
    clock: Arc<dyn Clock>,
    observers: Vec<Arc<dyn HookObserver>>,
}

/// How long all hooks of a stage together may hold a message up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budgets {
    /// At `pre_receive`. Default 8 s.
    pub pre_receive: Duration,
    /// At `pre_send`, before and after the policy together. Default 10 s.
    pub pre_send: Duration,
}

/// A hook that a tenant has bound.
#[derive(Debug, Clone)]
pub struct TenantBinding {
    /// Which one it is.
    pub hook: TenantHook,
    /// The hook in its place.
    pub binding: Binding,
}

/// What a hook said about itself.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Checked {
    /// Its name.
    pub hook: String,
    /// Which of a tenant it is; `None` if it is one of the server's own.
    pub of_tenant: Option<TenantHook>,
    /// What it said.
    pub report: HealthReport,
}

/// What the hooks of a stage came to.
#[derive(Debug)]
pub struct Asked {
    /// What all of them together say and want.
    pub merged: Merged,
    /// What each call came to, in order.
    pub runs: Vec<HookRun>,
}

/// The hooks of a stage were not asked to the end, since whoever was waiting for them has gone.
#[derive(Debug)]
pub struct Abandoned {
    /// What the calls came to that were made until then, in order.
    pub runs: Vec<HookRun>,
}

/// A message that comes to a point where hooks are asked and somebody waits.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Where it is.
    pub point: HookPoint,
    /// The message.
    pub mail: Mail,
    /// What else is known about it.
    pub facts: Arc<MailFacts>,
    /// What becomes of the answers.
    pub mode: Mode,
    /// When all of it has to be over.
    pub deadline: Instant,
    /// At `pre_send`: whether those are asked that are asked before the policy, or the others.
    pub before_policy: bool,
}

impl Default for Budgets {
    fn default() -> Self {
        Self { pre_receive: Duration::from_secs(8), pre_send: Duration::from_secs(10) }
    }
}

impl HookRunner {
    /// A runner for these hooks of the server.
    pub fn new(bindings: Vec<Binding>, budgets: Budgets) -> Self {
        let bound = |binding: Binding| Arc::new(Bound::new(binding, None, Timestamp::default()));
        let shared = Shared { budgets, clock: Arc::new(SystemClock), observers: Vec::new() };
        let mut own: Vec<_> = bindings.into_iter().map(bound).collect();
        own.sort_by(|a, b| a.order().cmp(&b.order()));
        Self::of_parts(own, shared)
    }

    fn of_parts(own: Vec<Arc<Bound>>, shared: Shared) -> Self {
        let shared = Arc::new(shared);
        let bare = Hooks { bound: own.clone().into(), shared: shared.clone() };
        Self { own, bare, tenants: RwLock::default(), shared }
    }

    /// Has breakers open and close by this clock.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        let Shared { budgets, observers, .. } = &*self.shared;
        let shared = Shared { budgets: *budgets, observers: observers.clone(), clock };
        Self::of_parts(self.own, shared)
    }

    /// Tells this observer, too, about calls and breakers.
    #[must_use]
    pub fn with_observer(self, observer: Arc<dyn HookObserver>) -> Self {
        let Shared { budgets, clock, observers } = &*self.shared;
        let observers = observers.iter().cloned().chain([observer]).collect();
        let shared = Shared { budgets: *budgets, clock: clock.clone(), observers };
        Self::of_parts(self.own, shared)
    }

    /// Binds these hooks of tenants, and lets go of all others of tenants. A binding whose key is known keeps its
    /// breakers.
    pub fn bind(&self, bindings: Vec<TenantBinding>) {
        let now = self.shared.clock.now();
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        let known: HashMap<TenantHook, Arc<Bound>> = tenants
            .values()
            .flat_map(Hooks::of_tenant)
            .filter_map(|bound| Some((bound.of_tenant()?.clone(), bound.clone())))
            .collect();
        let mut bound: HashMap<TenantId, Vec<Arc<Bound>>> = HashMap::new();
        for TenantBinding { hook, binding } in bindings {
            let (tenant, kept) = (hook.tenant, known.get(&hook).cloned());
            let one = kept.unwrap_or_else(|| Arc::new(Bound::new(binding, Some(hook), now)));
            bound.entry(tenant).or_default().push(one);
        }
        *tenants = bound.into_iter().map(|(tenant, bound)| (tenant, self.hooks(bound))).collect();
    }

    /// The hooks for mail of this tenant.
    pub fn of(&self, tenant: TenantId) -> Hooks {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        tenants.get(&tenant).unwrap_or(&self.bare).clone()
    }

    /// The hooks that tenants have bound, each with its tenant.
    pub fn bound(&self) -> Vec<(TenantId, Hooks)> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        tenants.iter().map(|(tenant, hooks)| (*tenant, hooks.clone())).collect()
    }

    /// Asks all hooks how they do that can be asked, at the same time, and has their breakers know.
    pub async fn check(&self) -> Vec<Checked> {
        let of_tenants = self.bound().into_iter().flat_map(|(_, hooks)| hooks.of_tenant().cloned().collect::<Vec<_>>());
        let all: Vec<_> = self.own.iter().cloned().chain(of_tenants).collect();
        let reports = join_all(all.iter().map(|bound| self.bare.check(bound))).await;
        let of = |bound: &Bound, report| Checked {
            hook: bound.name().to_owned(),
            of_tenant: bound.of_tenant().cloned(),
            report,
        };
        all.iter().zip(reports).filter_map(|(bound, report)| Some(of(bound, report?))).collect()
    }

    /// Ends what hooks keep running, and waits for that. Nothing is to be asked any more.
    pub async fn close(&self) {
        let of_tenants = self.bound().into_iter().flat_map(|(_, hooks)| hooks.of_tenant().cloned().collect::<Vec<_>>());
        let all: Vec<_> = self.own.iter().cloned().chain(of_tenants).collect();
        join_all(all.iter().map(|bound| bound.binding().handler.close())).await;
    }

    /// The hooks of the server with these of a tenant.
    fn hooks(&self, of_tenant: Vec<Arc<Bound>>) -> Hooks {
        let mut bound: Vec<_> = self.own.iter().cloned().chain(of_tenant).collect();
        bound.sort_by(|a, b| a.order().cmp(&b.order()));
        Hooks { bound: bound.into(), shared: self.shared.clone() }
    }
}

impl Hooks {
    /// Whether any hook wants to be called there.
    pub fn has(&self, point: HookPoint) -> bool {
        self.bound.iter().any(|bound| bound.wants(point))
    }

    /// The names of the hooks that want to be called there for mail to these recipients, in order.
    pub fn names(&self, point: HookPoint, recipients: &[EmailAddress]) -> Vec<&str> {
        self.bound.iter().filter(|bound| bound.wants_for(point, recipients)).map(|bound| bound.name()).collect()
    }

    /// Whether any hook wants to see mail of the server itself to these recipients before it is signed.
    pub fn want_internal(&self, recipients: &[EmailAddress]) -> bool {
        let wants = |bound: &Bound| bound.wants_for(HookPoint::PreSend, recipients) && bound.binding().include_internal;
        self.bound.iter().any(|bound| wants(bound))
    }

    /// The state of the breaker of a hook at a point; `None` if there is no such hook.
    pub fn breaker(&self, hook: &str, point: HookPoint) -> Option<BreakerState> {
        self.find(hook, point).map(|bound| bound.breaker(point).state())
    }

    /// When a stage has to be over that begins now.
    pub fn deadline(&self, point: HookPoint) -> Instant {
        let Budgets { pre_receive, pre_send } = self.shared.budgets;
        Instant::now() + if point == HookPoint::PreSend { pre_send } else { pre_receive }
    }

    /// Asks all hooks that want to be called at a stage, group by group. A refusal ends it after its group; the
    /// strictest verdict wins.
    ///
    /// # Errors
    /// When `gone` ends before: whoever waits has gone. All calls are dropped then, and what would have become of the
    /// message is not known.
    pub async fn ask(&self, stage: &Stage, gone: impl Future<Output = ()>) -> Result<Asked, Abandoned> {
        let gone = gone.shared();
        let (mut answers, mut runs) = (Vec::new(), Vec::new());
        let wanted: Vec<&Arc<Bound>> = self.bound.iter().filter(|bound| stage.asks(bound)).collect();
        for group in wanted.chunk_by(|a, b| a.order().0 == b.order().0) {
            if gone.clone().now_or_never().is_some() {
                return Err(Abandoned { runs });
            }
            let calls = group.iter().map(|bound| {
                let call = self.request(stage, bound);
                bound.call(call, &*self.shared.clock, gone.clone())
            });
            let called = join_all(calls).await;
            for (bound, Called { answer, run, .. }) in group.iter().zip(called) {
                self.tell(bound, &run);
                if run.mode != Mode::Shadow {
                    answers.push((run.hook.clone(), answer));
                }
                runs.push(run);
            }
            if runs.iter().any(|run| run.outcome == RunOutcome::Cancelled) {
                return Err(Abandoned { runs });
            }
            if answers.iter().any(|(_, answer)| answer.verdict.reply().is_some()) {
                break;
            }
        }
        Ok(Asked { merged: merge(answers), runs })
    }

    /// Calls one hook; `None` if there is none of this name any more. One that is on trial is told so, unless the call
    /// has a mode of its own.
    pub async fn call(&self, hook: &str, mut call: HookCall) -> Option<Called> {
        let bound = self.find(hook, call.point)?;
        if call.mode == Mode::Enforce {
            call.mode = bound.binding().mode;
        }
        let called = bound.call(call, &*self.shared.clock, pending()).await;
        self.tell(bound, &called.run);
        Some(called)
    }

    /// The result of a call that a hook had taken, to tell it later; `None` if there is none of this name any more.
    pub fn settle(&self, hook: &str, mut call: HookCall, result: Result<Answer, HookError>) -> Option<Called> {
        let bound = self.find(hook, call.point)?;
        call.mode = bound.binding().mode;
        let called = bound.settle(call, result, &*self.shared.clock);
        self.tell(bound, &called.run);
        Some(called)
    }

    /// Those that the tenant has bound.
    fn of_tenant(&self) -> impl Iterator<Item = &Arc<Bound>> {
        self.bound.iter().filter(|bound| bound.of_tenant().is_some())
    }

    async fn check(&self, bound: &Bound) -> Option<HealthReport> {
        let report = bound.binding().handler.health().await?;
        for point in HookPoint::ALL.into_iter().filter(|point| bound.wants(*point)) {
            bound.breaker(point).checked(report.status, self.shared.clock.now());
            self.tell_changes(bound, point);
        }
        Some(report)
    }

    /// The call of a hook at a stage.
    fn request(&self, stage: &Stage, bound: &Bound) -> HookCall {
        let now = self.shared.clock.now();
        let is_on_trial = bound.binding().mode == Mode::Shadow;
        let (mode, deadline) = (if is_on_trial { Mode::Shadow } else { stage.mode }, stage.deadline);
        HookCall { mode, deadline, ..HookCall::new(stage.point, stage.mail.clone(), stage.facts.clone(), now) }
    }

    fn find(&self, hook: &str, point: HookPoint) -> Option<&Arc<Bound>> {
        self.bound.iter().find(|bound| bound.name() == hook && bound.wants(point))
    }

    fn tell(&self, bound: &Bound, run: &HookRun) {
        for observer in &self.shared.observers {
            observer.called(&bound.observed(), run);
        }
        self.tell_changes(bound, run.point);
    }

    fn tell_changes(&self, bound: &Bound, point: HookPoint) {
        for change in bound.breaker(point).take_transitions() {
            for observer in &self.shared.observers {
                observer.breaker_changed(&bound.observed(), point, &change);
            }
        }
    }
}

impl Stage {
    /// Of a message that comes to this point now, with as much time as the hooks get.
    pub fn new(point: HookPoint, mail: Mail, facts: Arc<MailFacts>) -> Self {
        let deadline = Instant::now() + LONG;
        Self { point, mail, facts, mode: Mode::Enforce, deadline, before_policy: false }
    }

    fn asks(&self, bound: &Bound) -> bool {
        let binding = bound.binding();
        let in_turn = match (self.point, self.facts.origin) {
            // No policy is asked about it.
            (HookPoint::PreSend, SessionOrigin::Internal) => binding.include_internal,
            (HookPoint::PreSend, _) => binding.before_policy == self.before_policy,
            _ => true,
        };
        in_turn && bound.wants_for(self.point, &self.mail.envelope().recipients)
    }
}

impl HookCall {
    /// A new call about a message, with as much time as the hook gets.
    pub fn new(point: HookPoint, mail: Mail, facts: Arc<MailFacts>, now: Timestamp) -> Self {
        let deadline = Instant::now() + LONG;
        Self {
            id: InvocationId::new(now),
            point,
            mode: Mode::Enforce,
            attempt: 1,
            occurred_at: now,
            deadline,
            mail,
            facts,
        }
    }
}

impl fmt::Debug for HookRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookRunner").field("own", &self.own).finish_non_exhaustive()
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").field("bound", &self.bound).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
