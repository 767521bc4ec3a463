//! Mail domains: host names and address literals.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};

/// The domain part of an address or the argument of EHLO: a host name in lower case, or an
/// address literal such as `[192.0.2.1]` (RFC 5321 §4.1.2, §4.1.3).
///
/// An internationalised name may be written in either form; inside it is the one of DNS, with
/// A-labels (RFC 5890 §2.3.2.1). So two domains are equal when they name the same place:
/// `例え.jp` and `xn--r8jz45g.jp` are, and case does not count.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(String);

/// Why a text is not a [`Domain`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DomainError {
    /// A character that no host name may hold.
    #[error("a domain may hold letters, digits, hyphens and dots only")]
    Character,
    /// Characters outside of ASCII that make no valid U-label (RFC 5891).
    #[error("a domain holds characters that no internationalised name may hold")]
    International,
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
    /// Parses a host name, with A-labels or U-labels, or an address literal.
    ///
    /// # Errors
    /// When the text is neither.
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        if let Some(literal) = text.strip_prefix('[') {
            return Self::parse_literal(text, literal);
        }
        let name = to_a_labels(text.strip_suffix('.').unwrap_or(text))?;
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

    /// The text form: a host name in lower case with A-labels, or a bracketed literal.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form for people: U-labels in place of A-labels. A name with a label that is no
    /// valid A-label stays as it is, so that [`parse`](Self::parse) reads back the same domain.
    pub fn to_unicode(&self) -> Cow<'_, str> {
        if !self.0.contains("xn--") {
            return Cow::Borrowed(&self.0);
        }
        match Uts46::new().to_unicode(self.0.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Check) {
            (name, Ok(())) => name,
            (_, Err(_)) => Cow::Borrowed(&self.0),
        }
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

/// The name with A-labels in place of U-labels; a name in ASCII stays as it is.
fn to_a_labels(name: &str) -> Result<Cow<'_, str>, DomainError> {
    if name.is_ascii() {
        return Ok(Cow::Borrowed(name));
    }
    Uts46::new()
        .to_ascii(name.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Check, DnsLength::Ignore)
        .map_err(|_| DomainError::International)
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
        for text in [
            "",
            ".",
            "a..b",
            "-a.b",
            "a-.b",
            "a b",
            "a\r\nb",
            "日 本.jp",
            "日本\u{2028}.jp",
            "[1.2.3]",
            "[IPv6:zz]",
            "[1.2.3.4",
        ] {
            assert!(Domain::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Domain::parse(&"a".repeat(64)), Err(DomainError::Length));
    }

    #[test]
    fn both_forms_of_a_name_are_one() {
        let domain = Domain::parse("例え。JP").unwrap();
        assert_eq!(domain.as_str(), "xn--r8jz45g.jp");
        assert_eq!(domain, Domain::parse("XN--R8JZ45G.jp").unwrap());
        assert_eq!(domain, Domain::parse("例え.jp.").unwrap());
        assert_eq!(domain.to_unicode(), "例え.jp");
        assert_eq!(Domain::parse("xn--zz--.jp"), Err(DomainError::Character));
        assert_eq!(Domain::parse("xn--0.jp").unwrap().to_unicode(), "xn--0.jp");
        assert_eq!(Domain::parse(&format!("{}.jp", "あ".repeat(64))), Err(DomainError::Length));
    }

    #[test]
    fn the_form_for_people_reads_back() {
        // The second is made of hyphens where no U-label may have them, the third of an A-label beside such a label.
        for text in ["xn--r8jz45g.jp", "xn--4xn--44j", "ab--c.xn--r8jz45g"] {
            let domain = Domain::parse(text).unwrap();
            assert_eq!(Domain::parse(&domain.to_unicode()), Ok(domain), "{text}");
        }
    }

    #[test]
    fn takes_address_literals() {
        assert!(Domain::parse("[127.0.0.1]").unwrap().is_literal());
        assert!(Domain::parse("[IPv6:::1]").unwrap().is_literal());
    }
}
