//! Who hears what hooks do.

use mairust_core::{HookId, TenantId};

use crate::breaker::Transition;
use crate::handler::HookPoint;
use crate::run::HookRun;

/// Hears what hooks do. Nobody waits for it, so it must not block.
pub trait HookObserver: Send + Sync + 'static {
    /// A call of a hook has ended.
    fn called(&self, hook: &Observed<'_>, run: &HookRun);

    /// The breaker of a hook at a point has changed its state.
    fn breaker_changed(&self, hook: &Observed<'_>, point: HookPoint, change: &Transition);
}

/// The hook that an observer hears of.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Observed<'a> {
    /// Its name.
    pub name: &'a str,
    /// Which of a tenant it is; `None` if it is one of the server's own.
    pub of_tenant: Option<&'a TenantHook>,
    /// Whether no mail is to pass that it has not seen.
    pub required: bool,
}

/// Which hook of a tenant it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TenantHook {
    /// Whose mail it sees.
    pub tenant: TenantId,
    /// The binding.
    pub id: HookId,
    /// What tells this binding, in this state of its settings, from all others: as long as it stays the same, so do its
    /// breakers.
    pub key: String,
}
