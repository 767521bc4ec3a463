//! Addresses as SMTP writes them (RFC 5321 §4.1.2), internationalised ones too (RFC 6531 §3.3).

use std::fmt;
use std::str::FromStr;

use icu_normalizer::ComposingNormalizer;

use crate::domain::{Domain, DomainError};

/// The part before the `@`, unquoted: what the words mean, not how they are written. It may hold
/// characters outside of ASCII (RFC 6531 §3.3).
///
/// Never holds control characters, so that writing it out again can't smuggle anything in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalPart(String);

/// `local@domain`: where mail goes. RFC 5321 calls this a mailbox; here a mailbox is the store
/// behind an address.
///
/// `Display` quotes the local part where needed, so that the text can stand in a command.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EmailAddress {
    local: LocalPart,
    domain: Domain,
}

/// The argument of MAIL FROM: an address, or `<>` for mail that must not be answered
/// (RFC 5321 §4.5.5).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// A sender that takes notices about its mail.
    Address(EmailAddress),
    /// `<>`.
    Null,
}

/// The argument of RCPT TO: an address, or the bare `<postmaster>` (RFC 5321 §4.1.1.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ForwardPath {
    /// Somebody at a domain.
    Address(EmailAddress),
    /// `<postmaster>` without a domain: whoever runs this server.
    Postmaster,
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The part behind the last `@` is no domain.
    #[error("{0}")]
    Domain(#[from] DomainError),
    /// The part before the `@` breaks the grammar or is over 64 octets.
    #[error("the part before the @ is not a valid local part")]
    LocalPart,
    /// There is no `@`.
    #[error("an address has the form local@domain")]
    MissingAt,
}

impl LocalPart {
    /// Parses a dot-string or a quoted string.
    ///
    /// # Errors
    /// [`AddressError::LocalPart`] when it is neither, or longer than 64 octets (RFC 5321 §4.5.3.1.1).
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() || text.len() > 64 {
            return Err(AddressError::LocalPart);
        }
        match text.strip_prefix('"') {
            Some(rest) => unquote(rest).map(Self),
            None if is_dot_string(text) => Ok(Self(text.to_owned())),
            None => Err(AddressError::LocalPart),
        }
    }

    /// The meaning, without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same with a `+tag` at its end taken off (RFC 5233); `None` if there is no tag.
    pub fn without_tag(&self) -> Option<Self> {
        let (name, _) = self.0.split_once('+')?;
        (!name.is_empty()).then(|| Self(name.to_owned()))
    }

    /// The form in which local parts are compared: in lower case, composed (Unicode NFC).
    fn folded(&self) -> Self {
        let lower = self.0.to_lowercase();
        Self(if lower.is_ascii() { lower } else { ComposingNormalizer::new_nfc().normalize(&lower).into_owned() })
    }
}

impl EmailAddress {
    /// Parses `local@domain`, without angle brackets.
    ///
    /// # Errors
    /// When the text is no address.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let at = text.rfind('@').ok_or(AddressError::MissingAt)?;
        Ok(Self { local: LocalPart::parse(&text[..at])?, domain: Domain::parse(&text[at + 1..])? })
    }

    /// Puts an address together from its parts.
    pub fn new(local: LocalPart, domain: Domain) -> Self {
        Self { local, domain }
    }

    /// The part before the `@`.
    pub fn local(&self) -> &LocalPart {
        &self.local
    }

    /// The part behind the `@`.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The form by which addresses are looked up: everything in lower case, the domain with
    /// A-labels, the local part composed (Unicode NFC).
    ///
    /// RFC 5321 lets a host tell local parts apart by case; MaiRust, like all servers in wide
    /// use, does not.
    pub fn lookup_key(&self) -> String {
        format!("{}@{}", self.local.folded().0, self.domain)
    }

    /// An address that is equal to that of all others with the same lookup key.
    pub(crate) fn folded(&self) -> Self {
        Self { local: self.local.folded(), domain: self.domain.clone() }
    }

    /// Whether only a server with SMTPUTF8 can take mail for it: the local part holds characters
    /// outside of ASCII (RFC 6531 §3.2). A domain has a form in ASCII always.
    pub fn is_international(&self) -> bool {
        !self.local.0.is_ascii()
    }
}

impl ReversePath {
    /// The address, unless this is `<>`.
    pub fn address(&self) -> Option<&EmailAddress> {
        match self {
            Self::Address(address) => Some(address),
            Self::Null => None,
        }
    }
}

impl fmt::Display for LocalPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.0) {
            return f.write_str(&self.0);
        }
        f.write_str("\"")?;
        for character in self.0.chars() {
            if matches!(character, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{character}")?;
        }
        f.write_str("\"")
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

/// With the angle brackets of the command.
impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "<{address}>"),
            Self::Null => f.write_str("<>"),
        }
    }
}

/// With the angle brackets of the command.
impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "<{address}>"),
            Self::Postmaster => f.write_str("<postmaster>"),
        }
    }
}

impl FromStr for EmailAddress {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// RFC 5321 §4.1.2 Dot-string.
fn is_dot_string(text: &str) -> bool {
    text.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

/// RFC 5322 §3.2.3 atext, extended by RFC 6531 §3.3.
fn is_atext(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(character) || is_international(character)
}

/// UTF8-non-ascii of RFC 6532 §3.1, without what controls how a text is written or shown.
fn is_international(character: char) -> bool {
    let hidden =
        matches!(character, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffd}');
    !character.is_ascii() && !character.is_control() && !character.is_whitespace() && !hidden
}

/// The inside of a quoted string, whose opening quote is already gone.
fn unquote(rest: &str) -> Result<String, AddressError> {
    let mut text = String::new();
    let mut characters = rest.chars();
    loop {
        let character = match characters.next() {
            Some('"') if characters.as_str().is_empty() && !text.is_empty() => return Ok(text),
            Some('\\') => characters.next(),
            Some('"') | None => None,
            other => other,
        };
        match character {
            Some(character) if matches!(character, ' '..='~') || is_international(character) => text.push(character),
            _ => return Err(AddressError::LocalPart),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_local_part_survives_the_way_out() {
        let address = EmailAddress::parse(r#""a> SIZE=1"@x.org"#).unwrap();
        assert_eq!(address.local().as_str(), "a> SIZE=1");
        assert_eq!(address.to_string(), r#""a> SIZE=1"@x.org"#);
        assert_eq!(EmailAddress::parse(r#""a.b"@x.org"#).unwrap().to_string(), "a.b@x.org");
    }

    #[test]
    fn refuses_control_characters_and_broken_grammar() {
        for text in [
            "a",
            "@b",
            "a@",
            "a b@c.d",
            "a..b@c.d",
            ".a@c.d",
            "\"a\r\"@c.d",
            "\"a@c.d",
            "\"\"@c.d",
            "a@b@c.d",
            "a\u{85}@c.d",
            "a\u{3000}b@c.d",
            "a\u{202e}b@c.d",
        ] {
            assert!(EmailAddress::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn lookup_folds_case() {
        assert_eq!(EmailAddress::parse("Alice@Example.COM").unwrap().lookup_key(), "alice@example.com");
    }

    #[test]
    fn international_addresses_have_one_key() {
        let address = EmailAddress::parse("佐藤@例え.jp").unwrap();
        assert!(address.is_international());
        assert_eq!(address.to_string(), "佐藤@xn--r8jz45g.jp");
        let (composed, apart) =
            (EmailAddress::parse("Émile@a.fr").unwrap(), EmailAddress::parse("e\u{301}mile@a.fr").unwrap());
        assert_eq!(composed.lookup_key(), apart.lookup_key());
        assert!(!EmailAddress::parse("sato@例え.jp").unwrap().is_international());
    }

    #[test]
    fn a_tag_comes_off() {
        let local = |text| LocalPart::parse(text).unwrap();
        assert_eq!(local("ann+news+x").without_tag(), Some(local("ann")));
        assert_eq!(local("ann").without_tag(), None);
        assert_eq!(local("+news").without_tag(), None);
    }
}
