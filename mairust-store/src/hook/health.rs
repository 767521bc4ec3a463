//! How hooks say that they do.

use mairust_core::{HookId, TenantId, Timestamp};

/// Results of each hook that are kept.
pub const HEALTH_RESULTS: u32 = 20;

/// The longest details in octets: longer ones are cut.
const MAX_DETAILS: usize = 1_024;

/// What a hook said about itself, to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewHookHealth {
    /// Whose mail it sees.
    pub tenant: TenantId,
    /// The hook.
    pub hook: HookId,
    /// When it was asked.
    pub at: Timestamp,
    /// What it said, for example `ok`.
    pub status: String,
    /// The same, for people; up to 1 KiB.
    pub details: String,
}

/// How a hook does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookHealth {
    /// The hook.
    pub hook: HookId,
    /// What it said last, for example `ok`.
    pub status: String,
    /// Since when it has said that.
    pub since: Timestamp,
    /// What it said, newest first: the last [`HEALTH_RESULTS`].
    pub results: Vec<HookHealthResult>,
}

/// What a hook said about itself once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookHealthResult {
    /// When it was asked.
    pub at: Timestamp,
    /// What it said.
    pub status: String,
    /// The same, for people.
    pub details: String,
}

impl NewHookHealth {
    /// Makes of it what can be kept: on one line, and not too long.
    pub(crate) fn cut(mut self) -> Self {
        for text in [&mut self.status, &mut self.details] {
            *text = text.replace(char::is_control, " ");
            text.truncate(text.floor_char_boundary(MAX_DETAILS));
        }
        self
    }
}
