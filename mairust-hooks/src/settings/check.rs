//! What settings can't be.

use std::time::Duration;

use super::{HookSettings, HookTransport, SettingsError};
use crate::binding::{OnFailure, RecipientFilter};
use crate::endpoint::{EndpointUrl, EndpointUrlError};
use crate::handler::HookPoint;
use crate::http::check_port;
use crate::protocol::{BodyGrant, Decide, Mode};

/// The highest priority there is a number for.
const MAX_PRIORITY: u16 = 1_000;

/// The shortest time for a call: with less, it is not made.
const LEAST_TIMEOUT: Duration = Duration::from_millis(100);

/// The shortest and the longest time for a result that is told later.
const LEAST_RESULT_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_RESULT_TIMEOUT: Duration = Duration::from_secs(86_400);

/// The most calls at the same time.
const MAX_INFLIGHT: u32 = 1_000;

/// The longest version in octets.
const MAX_VERSION: usize = 64;

/// The longest pattern of recipients in octets.
const MAX_PATTERN: usize = 2_000;

/// The most arguments of a command, the program itself among them.
const MAX_ARGUMENTS: usize = 64;

impl HookPoint {
    /// How long a call may take at most: 3 s at `pre_receive`, 5 s at `pre_send`, 300 s where nobody waits.
    pub fn max_timeout(self) -> Duration {
        Duration::from_secs(match self {
            Self::PreReceive => 3,
            Self::PreSend => 5,
            Self::PostReceive => 300,
        })
    }
}

impl HookSettings {
    /// What is wrong about the settings. `allow_private` says whether hooks may be at private addresses, whatever each
    /// of them says.
    pub(super) fn check(&self, allow_private: bool) -> Vec<SettingsError> {
        let mut errors = self.transport.check(allow_private);
        self.check_place(&mut errors);
        self.check_failures(&mut errors);
        self.check_grants(&mut errors);
        errors
    }

    /// What only whoever runs the server may set, and who sets it now: programs that this server starts, private
    /// addresses, refusing mail for good, and being asked before the policy. As long as it stays as it was before,
    /// anybody may change the rest; but what was given to one endpoint is not given to another.
    pub fn for_the_host(&self, before: Option<&Self>) -> Vec<SettingsError> {
        let is_new = |has: fn(&Self) -> bool| has(self) && !before.is_some_and(has);
        let rejects = |settings: &Self| settings.grants.decide.contains(&Decide::Reject);
        let is_process = |settings: &Self| matches!(settings.transport, HookTransport::Process { .. });
        let is_private = |settings: &Self| match settings.transport {
            HookTransport::Http { private_address, .. } => private_address,
            HookTransport::Process { .. } => false,
        };
        let moved = before.is_some_and(|before| before.transport != self.transport);
        let mut errors = Vec::new();
        if is_process(self) && (before.is_none() || moved) {
            errors.push(SettingsError::new("/transport", "only whoever runs the server says which programs it starts"));
        }
        if is_new(is_private) {
            let message = "only whoever runs the server gives leave for private addresses";
            errors.push(SettingsError::new("/transport/private_address", message));
        }
        if is_new(|settings| settings.before_policy) {
            let message = "only whoever runs the server has a hook asked before the policy";
            errors.push(SettingsError::new("/before_policy", message));
        }
        if is_new(rejects) {
            let message = "only whoever runs the server lets a hook refuse mail for good";
            errors.push(SettingsError::new("/grants/decide", message));
        }
        if errors.is_empty() && moved && (self.before_policy || rejects(self) || is_private(self)) {
            let message = "what whoever runs the server has granted holds for the endpoint as it was";
            errors.push(SettingsError::new("/transport", message));
        }
        errors
    }

    fn check_place(&self, errors: &mut Vec<SettingsError>) {
        let mut wrong = |path: &str, message: String| errors.push(SettingsError::new(path, message));
        if self.version.len() > MAX_VERSION || !self.version.bytes().all(|octet| octet.is_ascii_graphic()) {
            wrong("/version", format!("must be up to {MAX_VERSION} visible ASCII characters"));
        }
        if self.points.is_empty() {
            wrong("/points", format!("must name one of {}", HookPoint::ALL.map(HookPoint::as_str).join(", ")));
        }
        for (index, point) in self.points.iter().enumerate().filter(|(at, point)| self.points[..*at].contains(point)) {
            wrong(&format!("/points/{index}"), format!("{} is there twice", point.as_str()));
        }
        if self.priority > MAX_PRIORITY {
            wrong("/priority", format!("must be a number from 0 to {MAX_PRIORITY}"));
        }
        let most = self.points.iter().map(|point| (point.max_timeout(), point)).min();
        let timeout = self.timeout_ms.map(Duration::from_millis);
        if let (Some(timeout), Some((most, point))) = (timeout, most)
            && !(LEAST_TIMEOUT..=most).contains(&timeout)
        {
            let (least, most) = (LEAST_TIMEOUT.as_millis(), most.as_millis());
            wrong("/timeout_ms", format!("must be from {least} to {most} at {}", point.as_str()));
        }
        let results = LEAST_RESULT_TIMEOUT.as_millis()..=MAX_RESULT_TIMEOUT.as_millis();
        if self.result_timeout_ms.is_some_and(|timeout| !results.contains(&timeout.into())) {
            wrong("/result_timeout_ms", format!("must be from {} to {}", results.start(), results.end()));
        }
        if self.max_inflight.is_some_and(|calls| !(1..=MAX_INFLIGHT).contains(&calls)) {
            wrong("/max_inflight", format!("must be from 1 to {MAX_INFLIGHT}"));
        }
        if !matches!(self.mode, Mode::Enforce | Mode::Shadow) {
            wrong("/mode", "must be enforce or shadow".to_owned());
        }
        let pattern = self.recipients.as_deref();
        if let Some(Err(error)) = pattern.filter(|pattern| pattern.len() <= MAX_PATTERN).map(RecipientFilter::parse) {
            wrong("/recipients", format!("is no regular expression: {error}"));
        } else if pattern.is_some_and(|pattern| pattern.len() > MAX_PATTERN) {
            wrong("/recipients", format!("is longer than {MAX_PATTERN} octets"));
        }
        for (path, is_set) in [("/before_policy", self.before_policy), ("/include_internal", self.include_internal)] {
            if is_set && !self.points.contains(&HookPoint::PreSend) {
                wrong(path, "is about pre_send, where the hook is not called".to_owned());
            }
        }
    }

    fn check_failures(&self, errors: &mut Vec<SettingsError>) {
        for (path, chosen) in [("/on_failure", self.on_failure), ("/on_open", self.on_open)] {
            match chosen {
                Some(OnFailure::Allow) if self.required => {
                    let message =
                        "a required hook can't let mail pass without it: required and allow contradict each other";
                    errors.push(SettingsError::new(path, message));
                }
                Some(OnFailure::Reject) if !self.i_know_this_bounces_mail => {
                    let message = "reject loses mail to its recipients whenever the hook is down; \
                        say i_know_this_bounces_mail if that is what you want, or use tempfail or quarantine";
                    errors.push(SettingsError::new(path, message));
                }
                _ => {}
            }
        }
        if self.catch_up == Some(true) && (self.required || !self.points.contains(&HookPoint::PreReceive)) {
            let message = "is about mail that passes pre_receive without the hook, and there is none";
            errors.push(SettingsError::new("/catch_up", message));
        }
    }

    fn check_grants(&self, errors: &mut Vec<SettingsError>) {
        let grants = &self.grants;
        let writes = [("tags", grants.write_tags), ("flags", grants.write_flags), ("metadata", grants.write_metadata)];
        for (what, _) in writes.into_iter().filter(|(_, is_granted)| *is_granted && !grants.read_headers) {
            let message = format!("E_PERM_DEP: write_{what} needs read_headers");
            errors.push(SettingsError::new(format!("/grants/write_{what}"), message));
        }
        if grants.move_message && !(grants.read_headers && grants.read_body >= BodyGrant::Preview) {
            let message = "E_PERM_DEP: move_message needs read_headers, and read_body preview or full";
            errors.push(SettingsError::new("/grants/move_message", message));
        }
        if !(4_096..=16_384).contains(&grants.preview_bytes) {
            errors.push(SettingsError::new("/grants/preview_bytes", "must be from 4096 to 16384"));
        }
        for (list, needs, is_granted) in [
            ("read_headers_only", "read_headers", grants.read_headers_only.is_none() || grants.read_headers),
            ("add_headers_only", "add_headers", grants.add_headers_only.is_none() || grants.add_headers),
        ] {
            if !is_granted {
                let message = format!("E_PERM_DEP: {list} needs {needs}");
                errors.push(SettingsError::new(format!("/grants/{list}"), message));
            }
        }
    }
}

impl HookTransport {
    fn check(&self, allow_private: bool) -> Vec<SettingsError> {
        let mut errors = Vec::new();
        let mut wrong = |path: &str, message: String| errors.push(SettingsError::new(path, message));
        match self {
            Self::Http { endpoint, health_endpoint, private_address, .. } => {
                let allow = allow_private || *private_address;
                let checked = |url: &str| EndpointUrl::parse(url).and_then(|url| url.check(allow).map(|()| url));
                let endpoint = checked(endpoint);
                match &endpoint {
                    Err(error) => wrong("/transport/endpoint", refused(*error)),
                    Ok(endpoint) => {
                        if let Err(error) = check_port(endpoint, allow) {
                            wrong("/transport/endpoint", error.to_string());
                        }
                    }
                }
                match (health_endpoint.as_deref().map(checked), &endpoint) {
                    (Some(Err(error)), _) => wrong("/transport/health_endpoint", refused(error)),
                    (Some(Ok(health)), Ok(endpoint)) if !health.is_same_origin(endpoint) => {
                        let message = "must be at the same scheme, host and port as the endpoint".to_owned();
                        wrong("/transport/health_endpoint", message);
                    }
                    _ => {}
                }
            }
            Self::Process { command, directory, .. } => {
                let is_odd = |text: &String| text.contains('\0');
                match command.first() {
                    None => wrong("/transport/command", "must name a program".to_owned()),
                    Some(program) if program.is_empty() => {
                        wrong("/transport/command", "must name a program".to_owned());
                    }
                    Some(program) if !program.starts_with('/') && directory.is_none() => {
                        let message = "the program must be an absolute path, or lie in the directory that is named";
                        wrong("/transport/command", message.to_owned());
                    }
                    Some(_) => {}
                }
                if command.len() > MAX_ARGUMENTS || command.iter().any(is_odd) {
                    let message = format!("must be up to {MAX_ARGUMENTS} texts without NUL");
                    wrong("/transport/command", message);
                }
                if directory.as_ref().is_some_and(|path| !path.starts_with('/') || is_odd(path)) {
                    wrong("/transport/directory", "must be an absolute path".to_owned());
                }
            }
        }
        errors
    }
}

/// What it says about URLs that lead to private addresses.
pub const NO_LEAVE: &str = "for which this hook has no leave";

/// Why a URL is none for a hook.
fn refused(error: EndpointUrlError) -> String {
    match error {
        EndpointUrlError::Insecure => format!("http is for private addresses, {NO_LEAVE}; write https://"),
        EndpointUrlError::Private => format!("the address is a private one, {NO_LEAVE}"),
        other => other.to_string(),
    }
}
