//! Where webhooks and hooks listen.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use mairust_core::{Domain, is_public};

/// The URL of a webhook or a hook: `https://host/path?query`, or `http://` on a network of one's own.
///
/// It has no user, no password and no fragment, and nothing in it has to be escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointUrl {
    text: String,
    is_secure: bool,
    host: EndpointHost,
    port: u16,
    /// Where the path begins in the text.
    path: usize,
}

/// The host of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointHost {
    /// An address.
    Address(IpAddr),
    /// A name, as DNS knows it.
    Name(String),
}

/// Why a text is no URL of a webhook or a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointUrlError {
    /// It has another form.
    #[error("write https://host/path, with visible ASCII characters only, without a user, a password or a #fragment")]
    Form,
    /// It is longer than anybody needs.
    #[error("the URL is longer than {MAX_URL} octets")]
    Long,
    /// It is not encrypted, and private addresses are not allowed.
    #[error("http is for private addresses, which {PRIVATE}; write https://")]
    Insecure,
    /// Its address is a private one.
    #[error("the address is a private one, which {PRIVATE}")]
    Private,
}

/// Who may have private addresses.
const PRIVATE: &str = "webhooks.allow_private_addresses allows to webhooks and hooks.allow_private_addresses to hooks";

/// The longest URL in octets.
const MAX_URL: usize = 2_048;

impl EndpointHost {
    /// Whether it is this machine, as far as the name says.
    pub fn is_this_machine(&self) -> bool {
        match self {
            Self::Address(address) => mairust_core::is_this_machine(*address),
            Self::Name(name) => name == "localhost",
        }
    }
}

impl EndpointUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// When it has another form or is too long.
    pub fn parse(text: &str) -> Result<Self, EndpointUrlError> {
        if text.len() > MAX_URL {
            return Err(EndpointUrlError::Long);
        }
        let (is_secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(EndpointUrlError::Form),
        };
        let odd = |octet: u8| !octet.is_ascii_graphic() || matches!(octet, b'#' | b'"' | b'<' | b'>' | b'\\');
        if rest.bytes().any(odd) {
            return Err(EndpointUrlError::Form);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, port) = host_and_port(&rest[..end]).ok_or(EndpointUrlError::Form)?;
        let port = port.unwrap_or(if is_secure { 443 } else { 80 });
        Ok(Self { text: text.to_owned(), is_secure, host, port, path: text.len() - rest.len() + end })
    }

    /// Refuses what must not be asked, as far as the URL shows it. Where a name leads shows only when it is
    /// asked for, see [`may_reach`](Self::may_reach).
    ///
    /// # Errors
    /// When it is not encrypted or its address is private, unless private addresses are allowed.
    pub fn check(&self, allow_private: bool) -> Result<(), EndpointUrlError> {
        match &self.host {
            _ if allow_private => Ok(()),
            _ if !self.is_secure => Err(EndpointUrlError::Insecure),
            EndpointHost::Address(address) if !is_public(*address) => Err(EndpointUrlError::Private),
            _ => Ok(()),
        }
    }

    /// Whether a request may go to this address of its host: a public one only if it is encrypted, a private one
    /// only if these are allowed.
    pub fn may_reach(&self, address: IpAddr, allow_private: bool) -> bool {
        if is_public(address) { self.is_secure } else { allow_private }
    }

    /// Whether it is `https`.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The host.
    pub fn host(&self) -> &EndpointHost {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The value of the Host field: without the port where it is the usual one.
    pub fn authority(&self) -> String {
        let usual = if self.is_secure { 443 } else { 80 };
        match (&self.host, self.port == usual) {
            (EndpointHost::Address(IpAddr::V6(address)), true) => format!("[{address}]"),
            (EndpointHost::Address(IpAddr::V6(address)), false) => format!("[{address}]:{}", self.port),
            (host, true) => host.to_string(),
            (host, false) => format!("{host}:{}", self.port),
        }
    }

    /// What is asked for: the path and the query.
    pub fn target(&self) -> String {
        match &self.text[self.path..] {
            path if path.starts_with('/') => path.to_owned(),
            query => format!("/{query}"),
        }
    }

    /// Whether scheme, host and port are the same.
    pub fn is_same_origin(&self, other: &Self) -> bool {
        (self.is_secure, &self.host, self.port) == (other.is_secure, &other.host, other.port)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// What stands between the scheme and the path.
fn host_and_port(authority: &str) -> Option<(EndpointHost, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(literal) => {
            let (address, port) = literal.split_once(']')?;
            (EndpointHost::Address(IpAddr::V6(address.parse().ok()?)), port)
        }
        None => {
            let (name, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            let host = match name.parse::<std::net::Ipv4Addr>() {
                Ok(address) => EndpointHost::Address(address.into()),
                Err(_) => EndpointHost::Name(Domain::parse(name).ok()?.as_str().to_owned()),
            };
            (host, port)
        }
    };
    let is_number = |port: &&str| !port.is_empty() && port.bytes().all(|octet| octet.is_ascii_digit());
    match port.strip_prefix(':') {
        None if port.is_empty() => Some((host, None)),
        Some(port) => Some((host, Some(Some(port).filter(is_number)?.parse().ok().filter(|port| *port != 0)?))),
        None => None,
    }
}

impl fmt::Display for EndpointHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for EndpointUrl {
    type Err = EndpointUrlError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_whom_to_ask_for_what() {
        for (text, authority, target, port) in [
            ("https://hooks.example", "hooks.example", "/", 443),
            ("https://Hooks.Example:443/a/b?c=d&e", "hooks.example", "/a/b?c=d&e", 443),
            ("https://hooks.example:8443?x=1", "hooks.example:8443", "/?x=1", 8_443),
            ("http://127.0.0.1:8080/in", "127.0.0.1:8080", "/in", 8_080),
            ("http://[::1]/", "[::1]", "/", 80),
            ("https://[2001:db8::1]:1/", "[2001:db8::1]:1", "/", 1),
        ] {
            let url = EndpointUrl::parse(text).unwrap();
            assert_eq!(
                (url.authority().as_str(), url.target().as_str(), url.port()),
                (authority, target, port),
                "{text}"
            );
            assert_eq!(url.to_string(), text);
        }
    }

    #[test]
    fn refuses_what_is_no_url() {
        for text in [
            "",
            "hooks.example",
            "ftp://a",
            "https://",
            "https:///x",
            "https://u:p@a/",
            "https://a:/",
            "https://a:0/",
            "https://a:65536/",
            "https://a:+1/",
            "https://a b/",
            "https://a/\r\nX: y",
            "https://a/é",
            "https://a/#f",
            "https://[::1/",
            "https://[x]/",
            "https://a\\@b/",
            "HTTPS://a/",
        ] {
            assert_eq!(EndpointUrl::parse(text), Err(EndpointUrlError::Form), "{text:?}");
        }
        assert_eq!(EndpointUrl::parse(&format!("https://a/{}", "x".repeat(2_048))), Err(EndpointUrlError::Long));
    }

    #[test]
    fn an_origin_is_a_scheme_a_host_and_a_port() {
        let same = |a: &str, b: &str| EndpointUrl::parse(a).unwrap().is_same_origin(&EndpointUrl::parse(b).unwrap());
        assert!(same("https://Hooks.Example/a", "https://hooks.example:443/b?c"));
        for other in ["http://hooks.example:443/a", "https://hooks.example:8443/a", "https://other.example/a"] {
            assert!(!same("https://hooks.example/a", other), "{other}");
        }
    }

    #[test]
    fn only_the_public_is_reached_unless_more_is_allowed() {
        let check = |text: &str, allow| EndpointUrl::parse(text).unwrap().check(allow);
        assert_eq!(check("https://hooks.example/", false), Ok(()));
        assert_eq!(check("https://192.0.43.8/", false), Ok(()));
        assert_eq!(check("http://hooks.example/", false), Err(EndpointUrlError::Insecure));
        for private in
            ["127.0.0.1", "10.1.2.3", "169.254.169.254", "[::1]", "[fe80::1]", "[::ffff:127.0.0.1]", "0.0.0.0"]
        {
            let text = format!("https://{private}/");
            assert_eq!((check(&text, false), check(&text, true)), (Err(EndpointUrlError::Private), Ok(())), "{text}");
        }
        let (secure, plain) = (EndpointUrl::parse("https://a/").unwrap(), EndpointUrl::parse("http://a/").unwrap());
        let (public, private): (IpAddr, IpAddr) = ("192.0.43.8".parse().unwrap(), "10.0.0.1".parse().unwrap());
        assert!(
            secure.may_reach(public, false) && !secure.may_reach(private, false) && secure.may_reach(private, true)
        );
        assert!(!plain.may_reach(public, true) && plain.may_reach(private, true) && !plain.may_reach(private, false));
    }
}
