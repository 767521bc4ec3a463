//! Asks hooks from time to time how they do.

use std::collections::HashMap;
use std::time::Duration;

use mairust_hooks::HealthStatus;

use super::bound::BoundHooks;
use crate::time::sleep;

/// How often hooks are asked, more or less.
const EVERY: Duration = Duration::from_secs(30);

impl BoundHooks {
    /// Asks again and again. What changes is logged; breakers and metrics know it all.
    pub(crate) async fn check_again_and_again(&self) {
        let mut known: HashMap<String, HealthStatus> = HashMap::new();
        let (clock, metrics) = (self.handlers().clock.clone(), self.handlers().metrics.clone());
        loop {
            let reports = match self.current().await {
                Ok(runner) => runner.check().await,
                Err(error) => {
                    let error = crate::error::chain(&error);
                    tracing::warn!(component = "hooks", error, "what hooks are bound can't be found out");
                    Vec::new()
                }
            };
            let mut seen = HashMap::new();
            for (hook, report) in reports {
                let (status, details) = (report.status, report.details);
                if known.get(&hook).is_some_and(|before| *before != status)
                    || (status != HealthStatus::Ok && !known.contains_key(&hook))
                {
                    tracing::warn!(
                        component = "hooks",
                        hook,
                        status = status.as_str(),
                        details,
                        "a hook says how it does"
                    );
                }
                metrics.hook_checked(&hook, status);
                seen.insert(hook, status);
            }
            known.keys().filter(|hook| !seen.contains_key(*hook)).for_each(|hook| metrics.hook_forgotten(hook));
            known = seen;
            // Not all servers at the same moment.
            sleep(&*clock, EVERY.mul_f64(0.9 + 0.2 * rand::random::<f64>())).await;
        }
    }
}
