//! Hooks that tenants have bound, and what calls of hooks came to.
//!
//! The keys that requests are signed with are secrets of the [registry](crate::Registry), see [`keys`].
//! Deliberately absent: what settings mean, which is up to whoever runs hooks.

use std::fmt;

use async_trait::async_trait;
use mairust_core::{HookId, JobId, TenantId, Timestamp};
use serde_json::Value;

use crate::error::{StoreError, StoreErrorKind};
use crate::message::Page;

mod awaited;
mod health;
mod invocation;
pub mod keys;
mod shared;

pub use awaited::AwaitedResult;
pub use health::{HEALTH_RESULTS, HookHealth, HookHealthResult, NewHookHealth};
pub use invocation::{HookActionReport, HookInvocation, HookInvocationQuery, HookReport};

/// The kind of secret that the keys of hooks are, each named by the id of its binding.
pub const HOOK_SECRET: &str = "hook";

/// The longest name of a program in octets.
pub const MAX_PLUGIN_ID: usize = 128;

/// The longest settings in octets, as JSON.
pub const MAX_HOOK_SETTINGS: usize = 65_536;

/// The most hooks of a tenant.
pub const MAX_HOOKS: u32 = 50;

/// A hook that is to be bound.
#[derive(Debug, Clone, PartialEq)]
pub struct NewHookBinding {
    /// Its id.
    pub id: HookId,
    /// The name of the program: labels of letters a to z, digits and hyphens, with dots between them.
    pub plugin_id: String,
    /// How it is bound: an object, opaque to the store.
    pub settings: Value,
    /// Whether it is called.
    pub state: HookState,
}

/// A hook that a tenant has bound.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HookBinding {
    /// Its id.
    pub id: HookId,
    /// Whose mail it sees.
    pub tenant: TenantId,
    /// The name of the program, unique in the tenant.
    pub plugin_id: String,
    /// How it is bound: an object, opaque to the store.
    pub settings: Value,
    /// Whether it is called.
    pub state: HookState,
    /// Counts changes of any kind, from 1.
    pub generation: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

/// Whether a hook is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookState {
    /// It is not, for this reason.
    Disabled(String),
    /// It is.
    Enabled,
}

/// What is to be changed about a hook; `None` leaves it as it is. With nothing to change it counts as changed all the
/// same, so that whoever runs hooks begins anew with this one.
#[derive(Debug, Clone, Default)]
pub struct HookChange {
    /// How it is bound.
    pub settings: Option<Value>,
    /// Whether it is called.
    pub state: Option<HookState>,
    /// The generation that it must have for that.
    pub expected: Option<u64>,
}

/// Hooks and what they did. Methods that change something happen whole or not at all, also when they are dropped;
/// all but [`record`](Self::record) and [`record_health`](Self::record_health) are durable on return. Times of change are taken from the backend's clock.
#[async_trait]
pub trait HookStore: fmt::Debug + Send + Sync + 'static {
    /// A number that grows with each change of any hook of any tenant. One read of one row.
    async fn revision(&self) -> Result<u64, StoreError>;

    /// The hooks of all tenants that are enabled.
    async fn enabled(&self) -> Result<Vec<HookBinding>, StoreError>;

    /// Binds a hook.
    ///
    /// # Errors
    /// `NotFound` if there is no such tenant, `AlreadyExists` if it has a hook of this name, `Conflict` if it has
    /// [`MAX_HOOKS`] already, `Invalid` for an odd name or settings that are no object or too long.
    async fn create(&self, tenant: TenantId, new: NewHookBinding) -> Result<HookBinding, StoreError>;

    /// The hooks of a tenant, oldest first.
    async fn list(&self, tenant: TenantId) -> Result<Vec<HookBinding>, StoreError>;

    /// A hook; `None` if the tenant has no such one.
    async fn get(&self, tenant: TenantId, id: HookId) -> Result<Option<HookBinding>, StoreError>;

    /// Changes a hook; what it is then.
    ///
    /// # Errors
    /// `NotFound` if the tenant has no such one, `Conflict` if it has another generation than what was expected,
    /// `Invalid` for settings that are no object or too long.
    async fn change(&self, tenant: TenantId, id: HookId, change: &HookChange) -> Result<HookBinding, StoreError>;

    /// Removes a hook. What it did is kept.
    ///
    /// # Errors
    /// `NotFound` if the tenant has no such one, `Conflict` if it has another generation than what was expected.
    async fn delete(&self, tenant: TenantId, id: HookId, expected: Option<u64>) -> Result<(), StoreError>;

    /// Writes down what calls came to; one that is known by its id is replaced. A loss of power may undo it: nothing
    /// waits for the disk.
    ///
    /// # Errors
    /// `NotFound` if there is no such tenant.
    async fn record(&self, invocations: Vec<HookInvocation>) -> Result<(), StoreError>;

    /// What a call came to; `None` if the tenant has no such one.
    async fn invocation(&self, tenant: TenantId, id: &str) -> Result<Option<HookInvocation>, StoreError>;

    /// What calls came to, newest first.
    async fn invocations(
        &self,
        tenant: TenantId,
        query: &HookInvocationQuery,
    ) -> Result<Page<HookInvocation>, StoreError>;

    /// Writes down how hooks said that they do, all in one statement; the last [`HEALTH_RESULTS`] of each are kept, on
    /// whichever node they were asked for. What is said of hooks that are gone is passed over. A loss of power may undo
    /// it: nothing waits for the disk.
    async fn record_health(&self, results: Vec<NewHookHealth>) -> Result<(), StoreError>;

    /// How hooks of a tenant do that were asked: this one, or all.
    async fn health(&self, tenant: TenantId, hook: Option<HookId>) -> Result<Vec<HookHealth>, StoreError>;

    /// Keeps in mind that the result of a call comes later. What was known of the same job is replaced.
    ///
    /// # Errors
    /// `NotFound` if there is no such tenant.
    async fn await_result(&self, awaited: AwaitedResult) -> Result<(), StoreError>;

    /// The result that a job waits for; `None` if it waits for none.
    async fn awaited(&self, tenant: TenantId, job: JobId) -> Result<Option<AwaitedResult>, StoreError>;

    /// The result that is told with the token of this hash; `None` if there is none. Looks at all tenants.
    async fn awaited_with(&self, token_hash: &[u8; 32]) -> Result<Option<AwaitedResult>, StoreError>;

    /// Waits longer for a result, at most until the [`latest`](AwaitedResult::latest) moment; `false` if nothing is to
    /// be waited for any more.
    async fn put_off(&self, tenant: TenantId, job: JobId, until: Timestamp) -> Result<bool, StoreError>;

    /// Keeps a result, and makes the job that waits for it due at once; `false` if there is one already, or if none is
    /// awaited.
    async fn settle(&self, tenant: TenantId, job: JobId, result: Value, now: Timestamp) -> Result<bool, StoreError>;

    /// Makes a job due at once if it waits for a result that is there: it may have come while the job was being done.
    async fn wake_settled(&self, tenant: TenantId, job: JobId, now: Timestamp) -> Result<(), StoreError>;

    /// Forgets that a job waits for a result, and its token with it. Nothing happens if it does not.
    async fn forget_awaited(&self, tenant: TenantId, job: JobId) -> Result<(), StoreError>;

    /// Forgets results whose token is not good any more at this moment, at most `max`; how many. Looks at all tenants.
    async fn forget_expired(&self, now: Timestamp, max: u32) -> Result<u32, StoreError>;

    /// Tenants that have calls from before this moment.
    async fn tenants_to_forget(&self, before: Timestamp) -> Result<Vec<TenantId>, StoreError>;

    /// Forgets calls of a tenant from before this moment, at most `max`; how many.
    async fn forget(&self, tenant: TenantId, before: Timestamp, max: u32) -> Result<u32, StoreError>;
}

impl HookBinding {
    /// A hook that was just bound.
    pub(crate) fn made(tenant: TenantId, new: NewHookBinding, now: Timestamp) -> Self {
        let NewHookBinding { id, plugin_id, settings, state } = new;
        Self { id, tenant, plugin_id, settings, state, generation: 1, created_at: now, updated_at: now }
    }

    /// What tells this hook, in this state, from all others.
    pub fn key(&self) -> String {
        format!("{}:{}", self.id, self.generation)
    }
}

impl HookState {
    /// Whether it is called.
    pub fn is_enabled(&self) -> bool {
        *self == Self::Enabled
    }

    /// Why it is not called.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Disabled(reason) => Some(reason),
            Self::Enabled => None,
        }
    }
}

impl NewHookBinding {
    /// Refuses what makes no sense in any backend.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if !is_plugin_id(&self.plugin_id) {
            return Err(StoreError::new(StoreErrorKind::Invalid, "bind hook", "the name is empty, too long or odd"));
        }
        check_settings("bind hook", &self.settings)
    }
}

impl HookChange {
    /// Refuses what makes no sense in any backend.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.settings.as_ref().map_or(Ok(()), |settings| check_settings("change hook", settings))
    }
}

/// Whether a text can be the name of a program: labels of letters a to z, digits and hyphens, with dots between them.
/// The first has no hyphen; none of them begins or ends with one.
pub fn is_plugin_id(text: &str) -> bool {
    let is_plain = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit();
    let mut labels = text.split('.').map(str::as_bytes);
    let first = labels.next().is_some_and(|label| !label.is_empty() && label.iter().all(|octet| is_plain(*octet)));
    let is_label = |label: &[u8]| {
        label.iter().all(|octet| is_plain(*octet) || *octet == b'-')
            && label.first().zip(label.last()).is_some_and(|(one, other)| is_plain(*one) && is_plain(*other))
    };
    text.len() <= MAX_PLUGIN_ID && first && labels.all(is_label)
}

fn check_settings(operation: &'static str, settings: &Value) -> Result<(), StoreError> {
    let invalid = |why| Err(StoreError::new(StoreErrorKind::Invalid, operation, why));
    match settings {
        Value::Object(_) if settings.to_string().len() <= MAX_HOOK_SETTINGS => Ok(()),
        Value::Object(_) => invalid("the settings are too long"),
        _ => invalid("the settings are no object"),
    }
}

/// The answer to one hook too many.
pub(crate) fn too_many() -> StoreError {
    StoreError::new(StoreErrorKind::Conflict, "bind hook", format!("there are {MAX_HOOKS} already"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_labels() {
        for good in ["echo", "com.example.mairust.spam-filter", "a.b-c", "1", &"a".repeat(128)] {
            assert!(is_plugin_id(good), "{good}");
        }
        for odd in ["", ".", "a.", ".a", "a..b", "a-b", "A", "a.-b", "a.b-", "a_b", "é", "a b", &"a".repeat(129)] {
            assert!(!is_plugin_id(odd), "{odd}");
        }
    }
}
