//! Calls of hooks that were given up, made once more.

use mairust_core::{JobId, TenantId, Timestamp};
use mairust_hooks::protocol::InvocationId;
use mairust_store::{HookInvocation, HookInvocationQuery, StorageBackend, StoreError};

/// Calls that are looked at in one step.
const PAGE: u32 = 500;

/// Has calls made once more that were tried as often as it is tried, and given up: those that the query lets through,
/// whatever its limit. How many; what was done before an error is done.
///
/// # Errors
/// When the store fails.
pub async fn retry_given_up(
    storage: &dyn StorageBackend,
    tenant: TenantId,
    query: HookInvocationQuery,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let (mut query, mut retried) = (HookInvocationQuery { limit: PAGE, ..query }, 0);
    loop {
        let page = storage.hooks().invocations(tenant, &query).await?;
        let jobs: Vec<_> = page.items.iter().filter_map(job).collect();
        retried += u64::from(storage.queue().retry_buried(tenant, &jobs, now).await?);
        match page.items.last().filter(|_| page.has_more) {
            Some(last) => query.before = Some(last.id.clone()),
            None => return Ok(retried),
        }
    }
}

/// The job that made a call, if one did.
pub(crate) fn job(call: &HookInvocation) -> Option<JobId> {
    InvocationId::parse(&call.id).map(|id| JobId::from_bytes(id.to_bytes()))
}
