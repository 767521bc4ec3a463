//! A hook in its place: when it is called, for how long, and what becomes of mail without its answer.

use std::sync::Arc;
use std::time::Duration;

use mairust_core::EmailAddress;
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::breaker::BreakerSettings;
use crate::handler::{HookHandler, HookPoint};
use crate::protocol::Mode;

/// A hook in its place.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Binding {
    /// The hook.
    pub handler: Arc<dyn HookHandler>,
    /// Lower runs first; equals run at the same time. Default 100.
    pub priority: u16,
    /// How long one call may take. `None`, the default, is what [`HookPoint::timeout`] says.
    pub timeout: Option<Duration>,
    /// Whether no mail is to pass that this hook has not seen. Default no.
    pub required: bool,
    /// What becomes of a message when the hook fails. Default [`OnFailure::Allow`], which a required hook can't have.
    pub on_failure: OnFailure,
    /// What becomes of a message while the hook is not called, since too many calls failed; `None`, the default, is
    /// what becomes of it when the hook fails.
    pub on_open: Option<OnFailure>,
    /// Calls at the same time, at each point. Who finds so many waits, within its own time. `None`, the default, is
    /// what [`HookPoint::max_inflight`] says.
    pub max_inflight: Option<usize>,
    /// Whether what it says counts ([`Mode::Enforce`], the default), or is only written down ([`Mode::Shadow`]).
    pub mode: Mode,
    /// Whether it is asked at `pre_send` before the policy judges what a message looks like. Limits come first all the
    /// same. Default no.
    pub before_policy: bool,
    /// Whether it is asked at `pre_send` about mail of the server itself, too, such as notices about deliveries. It may
    /// add to it, and neither refuses it nor holds it up, whatever it says or fails at. Default no.
    pub include_internal: bool,
    /// Whether it is asked at `pre_receive` later, once it answers again, about mail that passed without it. Default no.
    pub catch_up: bool,
    /// The recipients that it is called for; all, if there is none.
    pub recipients: Option<RecipientFilter>,
    /// What somebody wants of its breakers.
    pub circuit: Circuit,
    /// When `pre_receive` is not called any more. Default [`BreakerSettings::pre_receive`].
    pub pre_receive_breaker: BreakerSettings,
    /// When the other points are not called any more. Default [`BreakerSettings::patient`].
    pub other_breakers: BreakerSettings,
}

/// What becomes of a message when a hook fails, takes too long or panics, or is not called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnFailure {
    /// Go on without it.
    Allow,
    /// Take the message into quarantine; at `pre_send`, hold it.
    Quarantine,
    /// Refuse the message for good. Mail is lost to its recipients by that whenever the hook is down.
    Reject,
    /// Refuse the message by a temporary failure.
    Tempfail,
}

/// What somebody wants of the breakers of a hook.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Circuit {
    /// They open and close by themselves.
    #[default]
    Automatic,
    /// They count, and never open.
    Disabled,
    /// They stay open: the hook is not called.
    ForcedOpen,
}

/// The recipients that a hook is called for: a regular expression for whole addresses, whatever their case.
#[derive(Debug, Clone)]
pub struct RecipientFilter {
    pattern: String,
    regex: Regex,
}

impl Binding {
    /// A hook with the defaults.
    pub fn new(handler: Arc<dyn HookHandler>) -> Self {
        Self {
            handler,
            priority: 100,
            timeout: None,
            required: false,
            on_failure: OnFailure::Allow,
            on_open: None,
            max_inflight: None,
            mode: Mode::Enforce,
            before_policy: false,
            include_internal: false,
            catch_up: false,
            recipients: None,
            circuit: Circuit::Automatic,
            pre_receive_breaker: BreakerSettings::pre_receive(),
            other_breakers: BreakerSettings::patient(),
        }
    }

    /// The same hook, without which no mail is to pass: while it does not answer, mail is refused by a temporary
    /// failure.
    #[must_use]
    pub fn required(mut self) -> Self {
        (self.required, self.on_failure) = (true, OnFailure::Tempfail);
        self
    }

    /// Whether it is called for a message to these addresses.
    pub fn is_for(&self, recipients: &[EmailAddress]) -> bool {
        self.recipients.as_ref().is_none_or(|filter| recipients.iter().any(|address| filter.matches(address)))
    }
}

impl HookPoint {
    /// How long a call may take if nothing else is said: 2 s, and 30 s where nobody waits.
    pub fn timeout(self) -> Duration {
        Duration::from_secs(if self.is_async() { 30 } else { 2 })
    }

    /// How many calls of one hook go on at the same time if nothing else is said: 16, and 4 where nobody waits.
    pub fn max_inflight(self) -> usize {
        if self.is_async() { 4 } else { 16 }
    }
}

impl OnFailure {
    const ALL: [Self; 4] = [Self::Allow, Self::Quarantine, Self::Reject, Self::Tempfail];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
            Self::Tempfail => "tempfail",
        }
    }

    /// The one of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }
}

impl Circuit {
    const ALL: [Self; 3] = [Self::Automatic, Self::Disabled, Self::ForcedOpen];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::Disabled => "disabled",
            Self::ForcedOpen => "forced_open",
        }
    }

    /// The one of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }
}

impl RecipientFilter {
    /// Octets that a compiled pattern may take.
    const SIZE: usize = 256 << 10;

    /// Reads a regular expression, which has to match whole addresses.
    ///
    /// # Errors
    /// When it is none, or too large; says what is wrong with it.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        let regex =
            RegexBuilder::new(&format!("^(?:{pattern})$")).case_insensitive(true).size_limit(Self::SIZE).build();
        Ok(Self { pattern: pattern.to_owned(), regex: regex.map_err(|error| error.to_string())? })
    }

    /// Whether the address is meant.
    pub fn matches(&self, address: &EmailAddress) -> bool {
        self.regex.is_match(&address.to_string())
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }
}
