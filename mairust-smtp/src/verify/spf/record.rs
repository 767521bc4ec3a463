//! What an SPF record says (RFC 7208 §4.6, §5, §6). A syntax error anywhere makes the whole record
//! one, whatever comes before it.

use std::net::{Ipv4Addr, Ipv6Addr};

use mairust_core::AuthOutcome;

use super::macros::MacroString;

/// A record, checked for syntax.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) directives: Vec<Directive>,
    pub(super) redirect: Option<MacroString>,
    pub(super) explanation: Option<MacroString>,
}

/// A mechanism, and what follows when it matches.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) outcome: AuthOutcome,
    pub(super) mechanism: Mechanism,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mechanism {
    A(Hosts),
    All,
    Exists(MacroString),
    Include(MacroString),
    Ip4(Ipv4Addr, u8),
    Ip6(Ipv6Addr, u8),
    Mx(Hosts),
    Ptr(Option<MacroString>),
}

/// A domain, the evaluated one if none is named, and how much of an address must match.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hosts {
    pub(super) domain: Option<MacroString>,
    pub(super) prefix4: u8,
    pub(super) prefix6: u8,
}

/// Whether a TXT record is an SPF record at all, whatever its terms are worth.
pub(super) fn is_spf(text: &[u8]) -> bool {
    let version = text.get(..VERSION.len()).is_some_and(|start| start.eq_ignore_ascii_case(VERSION));
    version && matches!(text.get(VERSION.len()), None | Some(b' '))
}

const VERSION: &[u8] = b"v=spf1";

impl Record {
    /// Reads an SPF record.
    ///
    /// # Errors
    /// With the term that breaks the syntax.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let text = text.get(VERSION.len()..).unwrap_or_default();
        if !text.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err("the record is not printable ASCII".to_owned());
        }
        let text = String::from_utf8_lossy(text);
        let mut record = Self { directives: Vec::new(), redirect: None, explanation: None };
        for term in text.split(' ').filter(|term| !term.is_empty()) {
            record.add(term).ok_or_else(|| format!("syntax error at {term}"))?;
        }
        Ok(record)
    }

    fn add(&mut self, term: &str) -> Option<()> {
        let end = term.find([':', '/', '=']).unwrap_or(term.len());
        let (name, rest) = term.split_at(end);
        if let Some(value) = rest.strip_prefix('=') {
            return self.add_modifier(name, value);
        }
        let (outcome, name) = match name.as_bytes().first()? {
            b'+' => (AuthOutcome::Pass, &name[1..]),
            b'-' => (AuthOutcome::Fail, &name[1..]),
            b'~' => (AuthOutcome::SoftFail, &name[1..]),
            b'?' => (AuthOutcome::Neutral, &name[1..]),
            _ => (AuthOutcome::Pass, name),
        };
        self.directives.push(Directive { outcome, mechanism: Mechanism::parse(name, rest)? });
        Some(())
    }

    fn add_modifier(&mut self, name: &str, value: &str) -> Option<()> {
        let slot = match name.to_ascii_lowercase().as_str() {
            "redirect" => &mut self.redirect,
            "exp" => &mut self.explanation,
            _ => {
                let starts = name.starts_with(|c: char| c.is_ascii_alphabetic());
                let valid = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
                return (starts && valid).then(|| MacroString::unknown(value)).flatten().map(drop);
            }
        };
        // §6: each at most once.
        let first = slot.is_none();
        *slot = Some(MacroString::domain(value)?);
        first.then_some(())
    }
}

impl Mechanism {
    /// `rest` is empty or begins with `:` or `/`.
    fn parse(name: &str, rest: &str) -> Option<Self> {
        let argument = rest.strip_prefix(':');
        match name.to_ascii_lowercase().as_str() {
            "all" if rest.is_empty() => Some(Self::All),
            "include" => Some(Self::Include(MacroString::domain(argument?)?)),
            "exists" => Some(Self::Exists(MacroString::domain(argument?)?)),
            "a" => Some(Self::A(Hosts::parse(rest)?)),
            "mx" => Some(Self::Mx(Hosts::parse(rest)?)),
            "ptr" if rest.is_empty() => Some(Self::Ptr(None)),
            "ptr" => Some(Self::Ptr(Some(MacroString::domain(argument?)?))),
            "ip4" => {
                let (address, prefix) = split_prefix(argument?, 32)?;
                Some(Self::Ip4(address.parse().ok()?, prefix))
            }
            "ip6" => {
                let (address, prefix) = split_prefix(argument?, 128)?;
                Some(Self::Ip6(address.parse().ok()?, prefix))
            }
            _ => None,
        }
    }
}

impl Hosts {
    /// `[ ":" domain-spec ] [ "/" ip4-cidr-length ] [ "//" ip6-cidr-length ]`
    fn parse(rest: &str) -> Option<Self> {
        let (rest, prefix6) = take_prefix(rest, "//", 128)?;
        let (rest, prefix4) = take_prefix(rest, "/", 32)?;
        let domain = match rest.strip_prefix(':') {
            Some(domain) => Some(MacroString::domain(domain)?),
            None if rest.is_empty() => None,
            None => return None,
        };
        Some(Self { domain, prefix4, prefix6 })
    }
}

fn split_prefix(text: &str, longest: u8) -> Option<(&str, u8)> {
    match text.split_once('/') {
        Some((address, digits)) => Some((address, prefix_length(digits, longest)?)),
        None => Some((text, longest)),
    }
}

/// Cuts a prefix length off the end. A slash may also be part of a macro, so what is behind the
/// last one counts only if it consists of digits.
fn take_prefix<'a>(text: &'a str, mark: &str, longest: u8) -> Option<(&'a str, u8)> {
    match text.rsplit_once(mark) {
        Some((front, digits)) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some((front, prefix_length(digits, longest)?))
        }
        _ => Some((text, longest)),
    }
}

fn prefix_length(digits: &str, longest: u8) -> Option<u8> {
    let leading_zero = digits.len() > 1 && digits.starts_with('0');
    let only_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let length = digits.parse::<u8>().ok().filter(|length| *length <= longest);
    length.filter(|_| only_digits && !leading_zero)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_mechanism() {
        let text = b"v=spf1 A/24//64 mx:x.example -ip4:192.0.2.0/24 ?ip6:2001:db8::/32 ~ptr include:%{d1}.example \
            exists:%{l/}.example redirect=_spf.example exp=e.example x-unknown=%{s} all";
        let record = Record::parse(text).unwrap();
        assert_eq!(record.directives.len(), 8);
        assert_eq!(record.directives[0].mechanism, Mechanism::A(Hosts { domain: None, prefix4: 24, prefix6: 64 }));
        assert_eq!(record.directives[2].outcome, AuthOutcome::Fail);
        assert_eq!(record.directives[7].mechanism, Mechanism::All);
        assert!(record.redirect.is_some() && record.explanation.is_some());
    }

    #[test]
    fn an_error_anywhere_is_an_error() {
        for terms in [
            "-all moo",
            "-all all:x.example",
            "ip4:1.2.3 all",
            "ip4:192.0.2.1/33",
            "ip4:192.0.2.1/032",
            "ip6:192.0.2.1",
            "a/",
            "a//129",
            "a:/24",
            "include",
            "redirect=a.example redirect=a.example",
            "+redirect=a.example",
            "1x=a",
            "all\u{1}",
            "a:ü.example",
        ] {
            assert!(Record::parse(format!("v=spf1 {terms}").as_bytes()).is_err(), "{terms}");
        }
    }

    #[test]
    fn knows_its_records() {
        assert!(is_spf(b"v=spf1") && is_spf(b"V=SPF1 -all"));
        assert!(!is_spf(b"v=spf10 -all") && !is_spf(b"v=spf2") && !is_spf(b""));
    }
}
