//! A hook over HTTP: where it is, and how both sides know each other.
//!
//! Deliberately absent: requests. Whoever has DNS, TLS and connections makes them.

use mairust_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::endpoint::{EndpointUrl, EndpointUrlError};
use crate::signature::SigningSecret;

/// The longest name of a program.
const MAX_NAME: usize = 128;

/// A hook over HTTP.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpHook {
    /// The name of the program, which is in requests, too: it must be the one that the program has for itself.
    pub plugin_id: String,
    /// Where requests are posted to.
    pub endpoint: EndpointUrl,
    /// Where it says whether it works; at the same scheme, host and port. Default none: it is not asked.
    pub health_endpoint: Option<EndpointUrl>,
    /// The keys that requests are signed with, the newest first.
    pub keys: Vec<HookKey>,
    /// Whether answers have to be signed. Default [`ResponseSignature::Prefer`].
    pub response_signature: ResponseSignature,
    /// Whether it may be at a private address and there without TLS, and at any port. Default no.
    pub allow_private: bool,
}

/// A key of a hook.
#[derive(Debug, Clone)]
pub struct HookKey {
    /// The key.
    pub secret: SigningSecret,
    /// Until when it is used beside a newer one; `None` as long as there is none.
    pub until: Option<Timestamp>,
}

/// Whether the answers of a hook have to be signed.
///
/// Without TLS, any program of the machine that gets hold of the port could answer instead of the hook.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ResponseSignature {
    /// Signatures are not looked at.
    Off,
    /// A signature that is there has to be right.
    #[default]
    Prefer,
    /// There has to be a signature, and it has to be right.
    Require,
}

/// Why a hook can't be asked over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpHookError {
    /// There is no key to sign requests with.
    #[error("there is no key to sign requests with")]
    NoKey,
    /// Its health is told elsewhere.
    #[error("health_endpoint must have the scheme, the host and the port of endpoint")]
    OtherOrigin,
    /// The name of the program can't stand in requests.
    #[error("the name of a hook has 1 to {MAX_NAME} visible ASCII characters")]
    PluginId,
    /// It is at a port where other services are.
    #[error("port {0} is not for hooks elsewhere: write 443, 8443, or one from 1024 on")]
    Port(u16),
    /// One of its URLs must not be asked.
    #[error(transparent)]
    Url(EndpointUrlError),
}

impl HttpHook {
    /// A hook with the defaults, whose requests are signed with this key.
    pub fn new(plugin_id: impl Into<String>, endpoint: EndpointUrl, secret: SigningSecret) -> Self {
        Self {
            plugin_id: plugin_id.into(),
            endpoint,
            health_endpoint: None,
            keys: vec![HookKey { secret, until: None }],
            response_signature: ResponseSignature::default(),
            allow_private: false,
        }
    }

    /// Refuses what could not be asked, or must not be, as far as the settings show it. Where a name leads shows only
    /// when it is asked for.
    ///
    /// # Errors
    /// What is wrong first.
    pub fn check(&self) -> Result<(), HttpHookError> {
        let is_visible = self.plugin_id.bytes().all(|octet| octet.is_ascii_graphic());
        if !is_visible || !(1..=MAX_NAME).contains(&self.plugin_id.len()) {
            return Err(HttpHookError::PluginId);
        }
        if self.keys.is_empty() {
            return Err(HttpHookError::NoKey);
        }
        self.endpoint.check(self.allow_private).map_err(HttpHookError::Url)?;
        check_port(&self.endpoint, self.allow_private)?;
        match &self.health_endpoint {
            Some(health) if !health.is_same_origin(&self.endpoint) => Err(HttpHookError::OtherOrigin),
            _ => Ok(()),
        }
    }

    /// The keys that are in use at this time.
    pub fn live_keys(&self, now: Timestamp) -> impl Iterator<Item = &SigningSecret> {
        self.keys.iter().filter(move |key| key.until.is_none_or(|until| now < until)).map(|key| &key.secret)
    }
}

/// Refuses ports where other services are, unless whoever runs the server gave leave for private addresses.
pub(crate) fn check_port(endpoint: &EndpointUrl, allow_private: bool) -> Result<(), HttpHookError> {
    match endpoint.port() {
        443 | 8_443 | 1_024.. => Ok(()),
        _ if allow_private => Ok(()),
        port => Err(HttpHookError::Port(port)),
    }
}

impl ResponseSignature {
    const ALL: [Self; 3] = [Self::Off, Self::Prefer, Self::Require];

    /// What is right for a hook at this place: it is `require` if no mail passes without the hook and there is no TLS
    /// that shows who answers.
    pub fn usual(required: bool, endpoint: &EndpointUrl) -> Self {
        if required && !endpoint.is_secure() { Self::Require } else { Self::Prefer }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Prefer => "prefer",
            Self::Require => "require",
        }
    }

    /// The one of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(endpoint: &str) -> HttpHook {
        let secret = SigningSecret::from_bytes(&[1; 32]).unwrap();
        HttpHook::new("com.example.filter", EndpointUrl::parse(endpoint).unwrap(), secret)
    }

    #[test]
    fn refuses_what_must_not_be_asked() {
        let check = |endpoint, allow| HttpHook { allow_private: allow, ..hook(endpoint) }.check();
        for fine in ["https://hooks.example/", "https://hooks.example:8443/", "https://hooks.example:1024/"] {
            assert_eq!(check(fine, false), Ok(()), "{fine}");
        }
        assert_eq!(check("https://hooks.example:25/", false), Err(HttpHookError::Port(25)));
        assert_eq!(check("https://hooks.example:25/", true), Ok(()));
        assert_eq!(check("http://hooks.example/", false), Err(HttpHookError::Url(EndpointUrlError::Insecure)));
        assert_eq!(check("https://[::1]/", false), Err(HttpHookError::Url(EndpointUrlError::Private)));
        let keyless = HttpHook { keys: Vec::new(), ..hook("https://hooks.example/") };
        assert_eq!(keyless.check(), Err(HttpHookError::NoKey));
        for odd in ["", "a b", "a\r\nX: y", "ä", &"x".repeat(129)] {
            let odd = HttpHook { plugin_id: odd.to_owned(), ..hook("https://hooks.example/") };
            assert_eq!(odd.check(), Err(HttpHookError::PluginId), "{}", odd.plugin_id);
        }
    }

    #[test]
    fn health_is_told_at_the_same_place() {
        for (health, wanted) in [
            ("https://hooks.example/health", Ok(())),
            ("https://hooks.example:443/", Ok(())),
            ("https://hooks.example:8443/health", Err(HttpHookError::OtherOrigin)),
            ("https://other.example/health", Err(HttpHookError::OtherOrigin)),
        ] {
            let health_endpoint = Some(EndpointUrl::parse(health).unwrap());
            assert_eq!(HttpHook { health_endpoint, ..hook("https://hooks.example/in") }.check(), wanted, "{health}");
        }
    }

    #[test]
    fn a_key_is_used_until_it_is_not() {
        let (mut hook, end) = (hook("https://hooks.example/"), Timestamp::from_unix(1_000));
        hook.keys.push(HookKey { secret: SigningSecret::from_bytes(&[2; 32]).unwrap(), until: Some(end) });
        assert_eq!(hook.live_keys(Timestamp::from_unix(999)).count(), 2);
        assert_eq!(hook.live_keys(end).map(SigningSecret::as_bytes).collect::<Vec<_>>(), [[1; 32]]);
    }

    #[test]
    fn signatures_are_required_where_nothing_else_shows_who_answers() {
        let usual = |required, url| ResponseSignature::usual(required, &EndpointUrl::parse(url).unwrap());
        assert_eq!(usual(true, "http://127.0.0.1:8081/"), ResponseSignature::Require);
        assert_eq!(usual(true, "https://hooks.example/"), ResponseSignature::Prefer);
        assert_eq!(usual(false, "http://127.0.0.1:8081/"), ResponseSignature::Prefer);
        for one in ResponseSignature::ALL {
            assert_eq!(ResponseSignature::parse(one.as_str()), Some(one));
        }
    }
}
