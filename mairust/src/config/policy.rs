//! The section `policy`: how it is written, and what of it fits together.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::PolicySettings;
use super::resolve::Judge;
use super::text::EmailText;
use crate::{SendingException, SendingLimits};

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawPolicy {
    /// Whether the limits hold. Users whose sending is suspended, and recipients on the suppression list, are refused
    /// either way.
    pub(super) enabled: bool,
    /// Recipients to whom one user may send within an hour; 0 is no limit. What was not used comes back evenly. The
    /// default is more than people write, and little for somebody who has stolen a password.
    pub(super) user_hourly: u32,
    /// Recipients to whom one user may send within a day; 0 is no limit.
    pub(super) user_daily: u32,
    /// Recipients to whom all users of one domain may send within an hour; 0 is no limit.
    pub(super) domain_hourly: u32,
    /// Recipients to whom all users of one tenant may send within an hour; 0 is no limit.
    pub(super) tenant_hourly: u32,
    /// Accounts with limits of their own instead, such as those of newsletters. What they send does not count for
    /// their domain and their tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exceptions: Option<Vec<RawException>>,
    /// Whether an address comes on the suppression list of the tenant when its server refuses mail for it as one that
    /// does not exist (5.1.1, 5.1.2, 5.1.6, 5.1.10).
    pub(super) suppress_bounced: bool,
}

/// An account with limits of its own.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawException {
    /// The address of a user; for mail of API keys from an address that no user has, that address.
    pub(super) address: EmailText,
    /// Recipients within an hour. Without it: no limit.
    #[serde(default)]
    pub(super) hourly: u32,
    /// Recipients within a day. Without it: no limit.
    #[serde(default)]
    pub(super) daily: u32,
}

impl Default for RawPolicy {
    fn default() -> Self {
        let SendingLimits { user_hourly, user_daily, domain_hourly, tenant_hourly, .. } = SendingLimits::default();
        let (enabled, exceptions, suppress_bounced) = (true, None, true);
        Self { enabled, user_hourly, user_daily, domain_hourly, tenant_hourly, exceptions, suppress_bounced }
    }
}

impl RawPolicy {
    /// What the section means.
    pub(super) fn settle(self) -> PolicySettings {
        let mut limits = SendingLimits::none();
        if self.enabled {
            limits.user_hourly = self.user_hourly;
            limits.user_daily = self.user_daily;
            limits.domain_hourly = self.domain_hourly;
            limits.tenant_hourly = self.tenant_hourly;
            limits.exceptions = self.exceptions.unwrap_or_default().into_iter().map(RawException::settle).collect();
        }
        PolicySettings { limits, suppress_bounced: self.suppress_bounced }
    }
}

impl RawException {
    fn settle(self) -> SendingException {
        SendingException { address: self.address.0, hourly: self.hourly, daily: self.daily }
    }

    /// For the example.
    pub(super) fn example(address: EmailText) -> Self {
        Self { address, hourly: 0, daily: 50_000 }
    }
}

impl Judge {
    pub(super) fn policy(&mut self, policy: &RawPolicy) {
        if policy.user_daily > 0 && policy.user_daily < policy.user_hourly {
            let message = "this is less than policy.user_hourly";
            self.report("policy.user_daily", message, "write the same or more, or 0");
        }
        let mut seen: HashMap<String, usize> = HashMap::new();
        for (index, exception) in policy.exceptions.iter().flatten().enumerate() {
            let path = format!("policy.exceptions[{index}]");
            if let Some(first) = seen.insert(exception.address.0.lookup_key(), index) {
                let message = format!("policy.exceptions[{first}] has this address already");
                self.report(&format!("{path}.address"), &message, "remove one of them");
            }
            if exception.daily > 0 && exception.daily < exception.hourly {
                self.report(&format!("{path}.daily"), "this is less than hourly", "write the same or more, or 0");
            }
        }
    }
}
