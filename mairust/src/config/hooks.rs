//! Asking programs elsewhere about mail: the words of the configuration, and what they mean to the server.

use std::time::Duration;

use mairust_hooks::{Budgets, EndpointUrl};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{DurationText, Text, UrlText};
use crate::TenantHookSettings;

/// The longest time for all hooks of a stage together: somebody waits.
pub(super) const MAX_BUDGET: Duration = Duration::from_secs(30);

/// The shortest: with less, no hook is called.
pub(super) const LEAST_BUDGET: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawHooks {
    /// Whether hooks of tenants may be at private addresses: this machine, networks of one's own, neighbours on the
    /// link; there also without TLS. Whoever may bind hooks can then reach what this server can reach. Without it, each
    /// needs leave of its own: `mairust hook add --private-address`.
    pub(super) allow_private_addresses: bool,
    /// Where hooks reach this server when they ask for more about a message or tell a result later:
    /// `https://mail.example.com`. Without it, hooks of this machine may use `http.bind`, if that is one address, and
    /// others can't call back.
    #[schemars(extend("examples" = ["https://mail.example.com"]))]
    pub(super) callback_url: Option<UrlText>,
    /// How long all hooks together may hold up a message from another server, up to 30 s.
    pub(super) pre_receive_budget: DurationText,
    /// How long all hooks together may hold up a message that is sent, up to 30 s.
    pub(super) pre_send_budget: DurationText,
}

impl RawHooks {
    /// What tenants may bind, and how long that may take.
    pub(super) fn settle(self) -> (TenantHookSettings, Budgets) {
        let settings = TenantHookSettings {
            allow_private_addresses: self.allow_private_addresses,
            callback_url: self.callback_url.map(|url| url.0),
        };
        (settings, Budgets { pre_receive: self.pre_receive_budget.0, pre_send: self.pre_send_budget.0 })
    }
}

impl Default for RawHooks {
    fn default() -> Self {
        let Budgets { pre_receive, pre_send } = Budgets::default();
        Self {
            allow_private_addresses: false,
            callback_url: None::<Text<EndpointUrl>>,
            pre_receive_budget: Text(pre_receive),
            pre_send_budget: Text(pre_send),
        }
    }
}
