//! Cleaning up: purges messages that were deleted long enough ago, removes what no message names any more
//! from the body store, and forgets old events and calls of hooks, keys that have signed no mail for long enough,
//! limits that are full again, suppressions that hold no more, and results of hooks that nobody asks about.
//!
//! It may run on several nodes at once, and be cut off at any moment: what was not done is found again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mairust_core::{Clock, TenantId, Timestamp};
use mairust_store::{Retention, StorageBackend, StoreError, StoreErrorKind};

use crate::metrics::Metrics;
use crate::signing;

/// How often it is looked for something to do.
const EVERY: Duration = Duration::from_secs(10);
/// Messages that are purged by one transaction, and objects that are removed at a time.
const BATCH: u32 = 100;
/// Small rows that are forgotten by one statement.
const FORGOTTEN_AT_ONCE: u32 = 1_000;
/// Between two batches: a batch holds up whoever accepts mail for some milliseconds.
const PAUSE: Duration = Duration::from_millis(50);

/// Purges what was deleted.
#[derive(Debug)]
pub(crate) struct Cleaner {
    pub(crate) storage: Arc<dyn StorageBackend>,
    /// For how many days deleted messages are kept, unless a tenant says something else.
    pub(crate) days: u32,
    /// For how many days keys are kept that sign no more.
    pub(crate) key_days: u32,
    /// For how many days events are kept.
    pub(crate) event_days: u32,
    /// For how many days it is kept what calls of hooks came to.
    pub(crate) hook_call_days: u32,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What is done for one tenant after the other.
#[derive(Debug, Clone, Copy)]
enum Step {
    ForgetEvents(Timestamp),
    ForgetHookCalls(Timestamp),
    Purge(Retention),
    RemoveObjects,
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
                        tracing::error!(
                            component = "cleanup",
                            error,
                            "not all that was deleted can be removed, trying again"
                        );
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

    /// Does what there is to do: all that needs the database only before what needs the body store.
    async fn clean(&self) -> Result<(), StoreError> {
        let retention = Retention { now: self.clock.now(), days: self.days };
        let tenants: BTreeSet<_> = self.storage.lifecycle().tenants_to_clean(retention).await?.into_iter().collect();
        let mut outcome = self.forget_keys().await;
        outcome = outcome.and(self.forget_expired().await);
        let before = self.clock.now().minus(days(self.event_days));
        outcome = outcome.and(match self.storage.events().tenants_to_purge(before).await {
            Ok(with_events) => self.in_turns(with_events.into_iter().collect(), Step::ForgetEvents(before)).await,
            Err(error) => Err(error),
        });
        let before = self.clock.now().minus(days(self.hook_call_days));
        outcome = outcome.and(match self.storage.hooks().tenants_to_forget(before).await {
            Ok(with_calls) => self.in_turns(with_calls.into_iter().collect(), Step::ForgetHookCalls(before)).await,
            Err(error) => Err(error),
        });
        for step in [Step::Purge(retention), Step::RemoveObjects] {
            outcome = outcome.and(self.in_turns(tenants.clone(), step).await);
        }
        outcome
    }

    /// Forgets limits that nothing was taken from for long enough, suppressions that hold no more, and results of hooks
    /// that nobody asks about.
    async fn forget_expired(&self) -> Result<(), StoreError> {
        // What is left over is forgotten the next time: there is no hurry.
        let now = self.clock.now();
        self.storage.allowances().forget_full(now, FORGOTTEN_AT_ONCE).await?;
        self.storage.suppressions().forget_expired(now, FORGOTTEN_AT_ONCE).await?;
        self.storage.hooks().forget_expired(now, FORGOTTEN_AT_ONCE).await?;
        Ok(())
    }

    /// Removes keys that retired long enough ago: the row first, so that a key that is there can always sign.
    async fn forget_keys(&self) -> Result<(), StoreError> {
        let directory = self.storage.directory();
        for key in directory.retired_dkim_keys(self.clock.now().minus(days(self.key_days))).await? {
            match signing::remove_key(self.storage.as_ref(), &key).await {
                Ok(()) => tracing::info!(
                    component = "cleanup",
                    tenant_id = %key.tenant,
                    domain = key.domain.as_str(),
                    selector = key.selector,
                    "a retired DKIM key was removed; its record need not be published any more"
                ),
                // It signs again, or somebody else was faster.
                Err(error) if matches!(error.kind(), StoreErrorKind::Conflict | StoreErrorKind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// One batch for each tenant, until none has more. While the database or the body store is down, it
    /// would be for the others, too.
    async fn in_turns(&self, mut tenants: BTreeSet<TenantId>, step: Step) -> Result<(), StoreError> {
        let mut outcome = Ok(());
        while !tenants.is_empty() {
            for tenant in tenants.clone() {
                match self.batch(tenant, step).await {
                    Ok(done) if done >= BATCH => {}
                    Ok(_) => drop(tenants.remove(&tenant)),
                    Err(error) if error.is_temporary() => return Err(error),
                    Err(error) => {
                        tenants.remove(&tenant);
                        outcome = outcome.and(Err(error));
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        outcome
    }

    /// One batch for a tenant; how much there was to do.
    async fn batch(&self, tenant: TenantId, step: Step) -> Result<u32, StoreError> {
        let lifecycle = self.storage.lifecycle();
        match step {
            Step::ForgetEvents(before) => self.storage.events().purge(tenant, before, BATCH).await,
            Step::ForgetHookCalls(before) => self.storage.hooks().forget(tenant, before, BATCH).await,
            Step::Purge(retention) => {
                let purged = lifecycle.purge_deleted(tenant, retention, BATCH).await?;
                if purged > 0 {
                    self.metrics.purged(purged);
                    tracing::info!(component = "cleanup", tenant_id = %tenant, messages = purged, "purged");
                }
                Ok(purged)
            }
            Step::RemoveObjects => {
                let removed = lifecycle.remove_objects(tenant, BATCH).await?;
                self.metrics.objects_removed(removed);
                Ok(removed)
            }
        }
    }
}

fn days(count: u32) -> Duration {
    Duration::from_secs(u64::from(count) * 24 * 60 * 60)
}
