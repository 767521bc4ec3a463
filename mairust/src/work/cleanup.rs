//! Cleaning up: purges messages that were deleted long enough ago, and removes what no message names any
//! more from the body store.
//!
//! It may run on several nodes at once, and be cut off at any moment: what was not done is found again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mairust_core::{Clock, TenantId};
use mairust_store::{Retention, StorageBackend, StoreError};

use crate::metrics::Metrics;

/// How often it is looked for something to do.
const EVERY: Duration = Duration::from_secs(10);
/// Messages that are purged by one transaction, and objects that are removed at a time.
const BATCH: u32 = 100;
/// Between two batches: a batch holds up whoever accepts mail for some milliseconds.
const PAUSE: Duration = Duration::from_millis(50);

/// Purges what was deleted.
#[derive(Debug)]
pub(crate) struct Cleaner {
    pub(crate) storage: Arc<dyn StorageBackend>,
    /// For how many days deleted messages are kept, unless a tenant says something else.
    pub(crate) days: u32,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Cleaner {
    /// Works until `stop`.
    pub(crate) async fn run(self, stop: impl Future<Output = ()> + Send) {
        let work = async {
            let mut failing = false;
            loop {
                match self.clean().await {
                    Ok(()) => failing = false,
                    Err(error) if !std::mem::replace(&mut failing, true) => {
                        let error = crate::error::chain(&error);
                        tracing::error!(component = "cleanup", error, "deleted messages can't be purged, trying again");
                    }
                    Err(_) => {}
                }
                tokio::time::sleep(EVERY).await;
            }
        };
        tokio::select! {
            () = stop => {}
            () = work => {}
        }
    }

    /// Does what there is to do, in turns between tenants.
    async fn clean(&self) -> Result<(), StoreError> {
        let retention = Retention { now: self.clock.now(), days: self.days };
        let mut tenants: BTreeSet<_> =
            self.storage.lifecycle().tenants_to_clean(retention).await?.into_iter().collect();
        let mut failure = None;
        while !tenants.is_empty() {
            for tenant in tenants.clone() {
                match self.clean_some(tenant, retention).await {
                    Ok(true) => {}
                    Ok(false) => drop(tenants.remove(&tenant)),
                    // One tenant's must not be in the way of others.
                    Err(error) => {
                        tenants.remove(&tenant);
                        failure = failure.or(Some(error));
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// One batch for a tenant; whether there may be more to do.
    async fn clean_some(&self, tenant: TenantId, retention: Retention) -> Result<bool, StoreError> {
        let lifecycle = self.storage.lifecycle();
        let purged = lifecycle.purge_deleted(tenant, retention, BATCH).await?;
        if purged > 0 {
            self.metrics.purged(purged);
            tracing::info!(component = "cleanup", tenant_id = %tenant, messages = purged, "purged");
        }
        let removed = lifecycle.remove_objects(tenant, BATCH).await?;
        self.metrics.objects_removed(removed);
        Ok(purged == BATCH || removed == BATCH)
    }
}
