//! How a tenant has bound a hook, as it is written down: one form for the store, the command line and the REST API.
//!
//! Settings are read by [`HookSettings::read`] and [`HookSettings::patched`], which say all that is wrong at once; what
//! only whoever runs the server may set is told by [`HookSettings::for_the_host`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::binding::{Binding, Circuit, OnFailure, RecipientFilter};
use crate::handler::{HookHandler, HookPoint};
use crate::http::ResponseSignature;
use crate::protocol::request::Plugin;
use crate::protocol::{Decide, Grants, Mode};

mod check;
mod read;
mod transport;

pub use check::NO_LEAVE;
pub use transport::{HookTransport, ProcessMode};

/// How long it is waited for a result that is told later, if nothing else is said.
const RESULT_TIMEOUT: Duration = Duration::from_secs(300);

/// How a hook is bound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HookSettings {
    /// The version of the program, as it is told to it. Default `0.0.0`.
    pub version: String,
    /// Where it is called; at least one point.
    pub points: Vec<HookPoint>,
    /// How it is reached. Has no default.
    pub transport: HookTransport,
    /// Lower runs first; equals run at the same time. From 0 to 1000, default 100.
    pub priority: u16,
    /// How long one call may take, in milliseconds; null for what [`HookPoint::timeout`] says.
    pub timeout_ms: Option<u64>,
    /// How long it is waited for a result that it tells later, in milliseconds, from when it has taken the call; null
    /// for 300 s. Each word of progress adds as much, up to twice as much in all.
    pub result_timeout_ms: Option<u64>,
    /// Whether no mail is to pass that it has not seen. Default no.
    pub required: bool,
    /// What becomes of a message when it fails; null for `allow`, or `tempfail` if it is required.
    pub on_failure: Option<OnFailure>,
    /// What becomes of a message while it is not called, since too many calls failed; null for what becomes of it when
    /// the hook fails.
    pub on_open: Option<OnFailure>,
    /// Whether somebody knows that mail is lost to its recipients whenever the hook is down: `reject` in `on_failure`
    /// and `on_open` needs it.
    pub i_know_this_bounces_mail: bool,
    /// Calls at the same time, at each point; null for what [`HookPoint::max_inflight`] says.
    pub max_inflight: Option<u32>,
    /// Whether what it says counts (`enforce`, the default), or is only written down (`shadow`).
    pub mode: Mode,
    /// Whether it is asked at `pre_send` before the policy judges what a message looks like. Default no.
    pub before_policy: bool,
    /// Whether it is asked at `pre_send` about mail of the server itself, too, such as notices about deliveries, which it
    /// can't hold up or refuse. Default no.
    pub include_internal: bool,
    /// Whether it is asked at `pre_receive` later about mail that passed without it; null for yes if it is not required
    /// and may decide `quarantine`.
    pub catch_up: Option<bool>,
    /// The recipients that it is called for: a regular expression for whole addresses; null for all.
    pub recipients: Option<String>,
    /// What somebody wants of its breakers. Default `automatic`.
    pub circuit: Circuit,
    /// What it may see and do. Default: the envelope, and no more.
    pub grants: Grants,
    /// Settings of its own, as they are told to it.
    pub config: Map<String, Value>,
}

/// Something that is wrong about settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    /// Where, as a JSON pointer: `/grants/write_tags`.
    pub path: String,
    /// What, for people.
    pub message: String,
}

impl HookSettings {
    /// Has this handler called as the settings say.
    ///
    /// # Errors
    /// When the pattern of recipients is none.
    pub fn bind(&self, handler: Arc<dyn HookHandler>) -> Result<Binding, String> {
        let recipients = self.recipients.as_deref().map(RecipientFilter::parse).transpose()?;
        Ok(Binding {
            priority: self.priority,
            timeout: self.timeout_ms.map(Duration::from_millis),
            required: self.required,
            on_failure: self.on_failure(),
            on_open: self.on_open,
            max_inflight: self.max_inflight.map(|calls| calls as usize),
            mode: self.mode,
            before_policy: self.before_policy,
            include_internal: self.include_internal,
            catch_up: self.catch_up(),
            recipients,
            circuit: self.circuit,
            ..Binding::new(handler)
        })
    }

    /// What the program is told about itself.
    pub fn plugin(&self, id: &str, config_rev: u64) -> Plugin {
        Plugin { id: id.to_owned(), version: self.version.clone(), config_rev, config: self.config.clone() }
    }

    /// What becomes of a message when the hook fails.
    pub fn on_failure(&self) -> OnFailure {
        self.on_failure.unwrap_or(if self.required { OnFailure::Tempfail } else { OnFailure::Allow })
    }

    /// Whether it is asked later about mail that passed without it.
    pub fn catch_up(&self) -> bool {
        let may_quarantine = self.grants.decide.contains(&Decide::Quarantine);
        let default = !self.required && self.points.contains(&HookPoint::PreReceive) && may_quarantine;
        self.catch_up.unwrap_or(default)
    }

    /// Whether answers have to be signed. By default they have to if no mail passes without the hook and what it says
    /// comes unencrypted, for then whoever gets hold of its port could let mail pass.
    pub fn response_signature(&self) -> ResponseSignature {
        match &self.transport {
            HookTransport::Http { response_signature: Some(wanted), .. } => *wanted,
            HookTransport::Http { endpoint, .. } if self.required && endpoint.starts_with("http://") => {
                ResponseSignature::Require
            }
            HookTransport::Http { .. } => ResponseSignature::Prefer,
            HookTransport::Process { .. } => ResponseSignature::Off,
        }
    }

    /// How long it is waited for a result that it tells later.
    pub fn result_timeout(&self) -> Duration {
        self.result_timeout_ms.map_or(RESULT_TIMEOUT, Duration::from_millis)
    }

    /// As JSON, with all there is.
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl Default for HookSettings {
    fn default() -> Self {
        Self {
            version: "0.0.0".to_owned(),
            points: Vec::new(),
            transport: HookTransport::default(),
            priority: 100,
            timeout_ms: None,
            result_timeout_ms: None,
            required: false,
            on_failure: None,
            on_open: None,
            i_know_this_bounces_mail: false,
            max_inflight: None,
            mode: Mode::Enforce,
            before_policy: false,
            include_internal: false,
            catch_up: None,
            recipients: None,
            circuit: Circuit::Automatic,
            grants: Grants::default(),
            config: Map::new(),
        }
    }
}

impl SettingsError {
    fn new(path: impl Into<String>, message: impl fmt::Display) -> Self {
        Self { path: path.into(), message: message.to_string() }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.trim_start_matches('/').replace('/', "."), self.message)
    }
}

impl std::error::Error for SettingsError {}

#[cfg(test)]
mod tests;
