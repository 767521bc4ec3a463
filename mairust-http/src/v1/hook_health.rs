//! How hooks say that they do.

use mairust_store::{HookHealth, HookHealthResult};
use serde::Serialize;
use utoipa::ToSchema;

/// How a hook does.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HookHealthEntry {
    /// What it said last: `ok`, `degraded` or `error`.
    #[schema(example = "ok")]
    status: String,
    /// Since when it has said that.
    since: String,
    /// What it said, newest first: the last 20 times.
    results: Vec<HookHealthResultEntry>,
}

/// What a hook said about itself once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HookHealthResultEntry {
    at: String,
    status: String,
    /// The same, for people.
    details: String,
}

impl From<HookHealth> for HookHealthEntry {
    fn from(health: HookHealth) -> Self {
        let results = health.results.into_iter().map(HookHealthResultEntry::from).collect();
        Self { status: health.status, since: health.since.to_rfc3339(), results }
    }
}

impl From<HookHealthResult> for HookHealthResultEntry {
    fn from(result: HookHealthResult) -> Self {
        Self { at: result.at.to_rfc3339(), status: result.status, details: result.details }
    }
}
