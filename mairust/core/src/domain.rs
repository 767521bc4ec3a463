//! Mail domains: host names and address literals.

use std::fmt;
use std::str::FromStr;

/// The domain part of an address or the argument of EHLO: a host name in lower case, or an
/// address literal such as `[192.0.2.1]` (RFC 5321 §4.1.2, §4.1.3).
///
/// Two domains are equal when they name the same place: case is folded at parsing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(String);

/// Why a text is not a [`Domain`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DomainError {
    /// A character that no host name may hold.
    #[error("a domain may hold letters, digits, hyphens and dots only")]
    Character,
    /// An empty domain or an empty label.
    #[error("a domain needs non-empty labels between its dots")]
    Empty,
    /// The brackets hold no IP address.
    #[error("an address literal must hold an IPv4 address or `IPv6:` and an IPv6 address")]
    Literal,
    /// Over 253 octets, or a label over 63 octets.
    #[error("a domain has at most 253 octets, a label at most 63")]
    Length,
}

impl Domain {
    /// Parses a host name or an address literal.
    ///
    /// # Errors
    /// When the text is neither.
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        if let Some(literal) = text.strip_prefix('[') {
            return Self::parse_literal(text, literal);
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(DomainError::Empty);
        }
        if name.len() > 253 {
            return Err(DomainError::Length);
        }
        for label in name.split('.') {
            match label.len() {
                0 => return Err(DomainError::Empty),
                1..=63 => {}
                _ => return Err(DomainError::Length),
            }
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            if !label.bytes().all(allowed) || label.starts_with('-') || label.ends_with('-') {
                return Err(DomainError::Character);
            }
        }
        Ok(Self(name.to_ascii_lowercase()))
    }

    /// The text form: a host name in lower case, or a bracketed literal.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is an address literal.
    pub fn is_literal(&self) -> bool {
        self.0.starts_with('[')
    }

    fn parse_literal(text: &str, after_bracket: &str) -> Result<Self, DomainError> {
        let inner = after_bracket.strip_suffix(']').ok_or(DomainError::Literal)?;
        let valid = match inner.get(..5) {
            Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => inner[5..].parse::<std::net::Ipv6Addr>().is_ok(),
            _ => inner.parse::<std::net::Ipv4Addr>().is_ok(),
        };
        if valid { Ok(Self(text.to_ascii_lowercase())) } else { Err(DomainError::Literal) }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = DomainError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_case_and_drops_the_root_dot() {
        assert_eq!(Domain::parse("MX.Example.COM.").unwrap().as_str(), "mx.example.com");
    }

    #[test]
    fn refuses_what_no_host_is_called() {
        for text in ["", ".", "a..b", "-a.b", "a-.b", "a b", "a\r\nb", "日本.jp", "[1.2.3]", "[IPv6:zz]", "[1.2.3.4"]
        {
            assert!(Domain::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Domain::parse(&"a".repeat(64)), Err(DomainError::Length));
    }

    #[test]
    fn takes_address_literals() {
        assert!(Domain::parse("[127.0.0.1]").unwrap().is_literal());
        assert!(Domain::parse("[IPv6:::1]").unwrap().is_literal());
    }
}
