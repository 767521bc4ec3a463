//! Asks hooks from time to time how they do.

use std::collections::HashMap;
use std::time::Duration;

use mairust_core::TenantId;
use mairust_hooks::{Checked, HealthReport, HealthStatus};
use mairust_store::NewHookHealth;

use super::bound::BoundHooks;
use crate::time::sleep;

/// How often hooks are asked, more or less.
const EVERY: Duration = Duration::from_secs(30);

/// What hooks said last. Those of two tenants may have the same name.
type Known = HashMap<(Option<TenantId>, String), HealthStatus>;

impl BoundHooks {
    /// Asks again and again. What changes is logged; breakers and metrics know it all, and the store the last results.
    pub(crate) async fn check_again_and_again(&self) {
        let mut known = Known::new();
        loop {
            let reports = match self.current().await {
                Ok(runner) => runner.check().await,
                Err(error) => {
                    let error = crate::error::chain(&error);
                    tracing::warn!(component = "hooks", error, "what hooks are bound can't be found out");
                    Vec::new()
                }
            };
            known = self.told(&reports, &known);
            self.keep(reports).await;
            // Not all servers at the same moment.
            sleep(&*self.handlers().clock, EVERY.mul_f64(0.9 + 0.2 * rand::random::<f64>())).await;
        }
    }

    /// Tells the log and metrics what hooks said; what is known by that.
    fn told(&self, reports: &[Checked], known: &Known) -> Known {
        let metrics = &self.handlers().metrics;
        let mut seen = Known::new();
        for Checked { hook, of_tenant, report: HealthReport { status, details }, .. } in reports {
            let key = (of_tenant.as_ref().map(|of_tenant| of_tenant.tenant), hook.clone());
            let before = known.get(&key).copied().unwrap_or(HealthStatus::Ok);
            if before != *status {
                let status = status.as_str();
                tracing::warn!(component = "hooks", hook, status, details, "a hook says how it does");
            }
            metrics.hook_checked(hook, *status);
            seen.insert(key, *status);
        }
        let is_gone = |hook: &String| seen.keys().all(|(_, other)| other != hook);
        known.keys().map(|(_, hook)| hook).filter(|hook| is_gone(hook)).for_each(|hook| metrics.hook_forgotten(hook));
        seen
    }

    /// Has it written down what hooks of tenants said.
    async fn keep(&self, reports: Vec<Checked>) {
        let at = self.handlers().clock.now();
        let of_tenants = reports.into_iter().filter_map(|Checked { of_tenant, report, .. }| {
            let (of_tenant, status) = (of_tenant?, report.status.as_str().to_owned());
            Some(NewHookHealth { tenant: of_tenant.tenant, hook: of_tenant.id, at, status, details: report.details })
        });
        let results: Vec<_> = of_tenants.collect();
        if results.is_empty() {
            return;
        }
        if let Err(error) = self.storage().hooks().record_health(results).await {
            let error = crate::error::chain(&error);
            tracing::warn!(component = "hooks", error, "how hooks do is not written down");
        }
    }
}
