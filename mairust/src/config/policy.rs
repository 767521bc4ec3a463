//! The section `policy`: how it is written, and what of it fits together.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::PolicySettings;
use super::resolve::Judge;
use super::text::{DurationText, EmailText, ScoreNumber, Text};
use crate::{Scoring, SendingException, SendingLimits};

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawPolicy {
    /// Whether the limits and the score hold. Users whose sending is suspended, and recipients on the suppression list, are refused
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
    /// Whether submitted mail gets a score of 0.4 × rate + 0.4 × content + 0.2 × history, each from 0 to 1. Rate:
    /// recipients within ten minutes as a part of `user_hourly`, or those of the message as a part of 100. Content:
    /// recipients of the same text within an hour as a part of `user_hourly`, or 1 for a text of `patterns`. History:
    /// what was refused within a day as a part of 20. Exceptions get no score.
    pub(super) score: bool,
    /// From which score on mail is sent slowly: ten minutes later, no more than `slow_hourly`, and after other mail.
    pub(super) slow_score: ScoreNumber,
    /// Recipients of one user within an hour to whom mail is sent that is sent slowly.
    pub(super) slow_hourly: u32,
    /// From which score on mail is refused, and sending is suspended for the user, who still gets mail.
    pub(super) suspend_score: ScoreNumber,
    /// How long such a suspension holds; `0s`: until `mairust user resume-sending`.
    pub(super) suspend_for: DurationText,
    /// Texts of known abuse in the subject or the first 4 KiB of the text, in upper or lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) patterns: Option<Vec<String>>,
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
        let scoring = Scoring::default();
        Self {
            enabled: true,
            user_hourly,
            user_daily,
            domain_hourly,
            tenant_hourly,
            exceptions: None,
            score: true,
            slow_score: ScoreNumber(scoring.slow_at),
            slow_hourly: scoring.slow_hourly,
            suspend_score: ScoreNumber(scoring.suspend_at),
            suspend_for: Text(scoring.suspend_for.unwrap_or_default()),
            patterns: None,
            suppress_bounced: true,
        }
    }
}

impl RawPolicy {
    /// What the section means.
    pub(super) fn settle(self) -> PolicySettings {
        let mut limits = SendingLimits::none();
        let scoring = (self.enabled && self.score).then(|| Scoring {
            slow_at: self.slow_score.0,
            suspend_at: self.suspend_score.0,
            slow_hourly: self.slow_hourly,
            suspend_for: Some(self.suspend_for.0).filter(|time| !time.is_zero()),
            patterns: self.patterns.unwrap_or_default(),
        });
        if self.enabled {
            limits.user_hourly = self.user_hourly;
            limits.user_daily = self.user_daily;
            limits.domain_hourly = self.domain_hourly;
            limits.tenant_hourly = self.tenant_hourly;
            limits.exceptions = self.exceptions.unwrap_or_default().into_iter().map(RawException::settle).collect();
        }
        PolicySettings { limits, scoring, suppress_bounced: self.suppress_bounced }
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
        if policy.slow_score.0 <= 0.0 || policy.slow_score.0 > 1.0 {
            self.report(
                "policy.slow_score",
                "this is no score of mail to slow down",
                "write a number up to 1, such as 0.5",
            );
        }
        if policy.suspend_score.0 < policy.slow_score.0 || policy.suspend_score.0 > 1.0 {
            let advice = "write a number from policy.slow_score to 1, such as 0.8";
            self.report("policy.suspend_score", "this is no score of mail to refuse", advice);
        }
        if policy.slow_hourly == 0 {
            self.report("policy.slow_hourly", "mail that is sent slowly would never leave", "write 1 or more");
        }
        for (index, pattern) in policy.patterns.iter().flatten().enumerate() {
            if pattern.trim().is_empty() {
                self.report(
                    &format!("policy.patterns[{index}]"),
                    "this is in every text",
                    "write a text, or remove it",
                );
            }
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
