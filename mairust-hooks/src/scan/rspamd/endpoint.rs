//! Where an rspamd server listens.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

use mairust_core::Domain;

/// Where an rspamd server listens: `http://host:port` or `unix:/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RspamdEndpoint {
    /// At a port.
    Tcp {
        /// A host name or an IP address, without brackets.
        host: String,
        /// The port of the normal worker, which is 11333 where nobody changed it.
        port: u16,
    },
    /// At a UNIX socket.
    Unix(PathBuf),
}

/// Why a text is no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write http://host:port, for example http://127.0.0.1:11333, or unix:/path")]
pub struct RspamdEndpointError;

/// The port of rspamd's normal worker.
const DEFAULT_PORT: u16 = 11333;

impl RspamdEndpoint {
    /// Parses an endpoint. Without a port it is 11333.
    ///
    /// # Errors
    /// When the text has another form; `https` is none, for rspamd does not speak it.
    pub fn parse(text: &str) -> Result<Self, RspamdEndpointError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(RspamdEndpointError) };
        }
        let authority = text.strip_prefix("http://").ok_or(RspamdEndpointError)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, rest) = match authority.strip_prefix('[') {
            Some(literal) => {
                let (address, rest) = literal.split_once(']').ok_or(RspamdEndpointError)?;
                (address.parse::<Ipv6Addr>().map_err(|_| RspamdEndpointError)?.to_string(), rest)
            }
            None => {
                let (name, rest) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
                (Domain::parse(name).map_err(|_| RspamdEndpointError)?.to_string(), rest)
            }
        };
        let port = match rest.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(RspamdEndpointError)?,
            None if rest.is_empty() => DEFAULT_PORT,
            None => return Err(RspamdEndpointError),
        };
        Ok(Self::Tcp { host, port })
    }

    /// The value of the Host field.
    pub(super) fn host(&self) -> String {
        match self {
            Self::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port } => format!("{host}:{port}"),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl fmt::Display for RspamdEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { .. } => write!(f, "http://{}", self.host()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for RspamdEndpoint {
    type Err = RspamdEndpointError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_read_back() {
        for text in ["http://127.0.0.1:11333", "http://rspamd:80", "http://[::1]:11333", "unix:/run/rspamd.sock"] {
            assert_eq!(RspamdEndpoint::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(RspamdEndpoint::parse("http://rspamd/").unwrap().to_string(), "http://rspamd:11333");
    }

    #[test]
    fn refuses_what_it_would_not_reach() {
        for text in [
            "",
            "rspamd",
            "127.0.0.1:11333",
            "https://rspamd",
            "http://",
            "http://a:0",
            "http://a:65536",
            "http://a:",
            "http://a/checkv2",
            "http://u@a",
            "http://[::1",
            "http://[::1]x",
            "http://a b",
            "unix:run",
            "unix:",
        ] {
            assert_eq!(RspamdEndpoint::parse(text), Err(RspamdEndpointError), "{text}");
        }
    }
}
