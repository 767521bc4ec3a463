//! Macro strings (RFC 7208 §7): parsing, and expansion from values that are known.

use std::net::IpAddr;

/// A text with macros in it, checked for syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MacroString(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// `%%`, `%_`, `%-`: what they stand for.
    Escape(&'static str),
    Macro(Macro),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Macro {
    /// In lower case.
    letter: char,
    /// Written in upper case: the value is escaped for a URL.
    escaped: bool,
    /// How many parts are kept, from the right.
    parts: Option<usize>,
    reversed: bool,
    /// Empty: split at dots.
    delimiters: String,
}

/// What the macros of one check stand for.
#[derive(Debug)]
pub(super) struct Values<'a> {
    /// The address of the client.
    pub(super) ip: IpAddr,
    /// The local part of the sender.
    pub(super) local: &'a str,
    /// The domain of the sender.
    pub(super) sender_domain: &'a str,
    /// The domain whose record is evaluated.
    pub(super) domain: &'a str,
    /// The argument of HELO.
    pub(super) helo: &'a str,
    /// The validated name of the client, `unknown` if there is none. Needed only if
    /// [`MacroString::needs_client_name`].
    pub(super) client_name: &'a str,
    /// Our host name; used in explanations only.
    pub(super) receiver: &'a str,
    /// Seconds since 1970; used in explanations only.
    pub(super) now: u64,
}

impl MacroString {
    /// A domain-spec: must end in a macro or in a top label (§7.1).
    pub(super) fn domain(text: &str) -> Option<Self> {
        let parsed = Self::parse(text, "slodiphv", |byte| byte.is_ascii_graphic())?;
        let ends_well = match parsed.0.last()? {
            Piece::Literal(literal) => ends_in_top_label(literal),
            Piece::Escape(_) | Piece::Macro(_) => true,
        };
        ends_well.then_some(parsed)
    }

    /// The value of a modifier that nobody knows: only its syntax counts.
    pub(super) fn unknown(text: &str) -> Option<Self> {
        Self::parse(text, "slodiphvcrt", |byte| byte.is_ascii_graphic())
    }

    /// The text of an explanation, which may have spaces and three more macros.
    pub(super) fn explanation(text: &str) -> Option<Self> {
        Self::parse(text, "slodiphvcrt", |byte| matches!(byte, b' '..=b'~'))
    }

    fn parse(text: &str, letters: &str, is_literal: impl Fn(u8) -> bool) -> Option<Self> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (literal, behind) = rest.split_at(rest.find('%').unwrap_or(rest.len()));
            if !literal.bytes().all(&is_literal) {
                return None;
            }
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.to_owned()));
            }
            rest = behind;
            let Some(behind) = rest.strip_prefix('%') else { break };
            let (piece, length) = match behind.bytes().next()? {
                b'%' => (Piece::Escape("%"), 1),
                b'_' => (Piece::Escape(" "), 1),
                b'-' => (Piece::Escape("%20"), 1),
                b'{' => {
                    let inner = &behind[1..behind.find('}')?];
                    (Piece::Macro(Macro::parse(inner, letters)?), inner.len() + 2)
                }
                _ => return None,
            };
            pieces.push(piece);
            rest = &behind[length..];
        }
        Some(Self(pieces))
    }

    /// Whether the validated name of the client occurs, which takes DNS to find out.
    pub(super) fn needs_client_name(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Macro(Macro { letter: 'p', .. })))
    }

    /// The text with every macro replaced.
    pub(super) fn expand(&self, values: &Values<'_>) -> String {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Escape(character) => text.push_str(character),
                Piece::Macro(wanted) => text.push_str(&wanted.expand(values)),
            }
        }
        text
    }

    /// The text with every macro replaced, as a domain: without its final dot, and cut at the left
    /// until it is no longer than a domain can be (§7.3).
    pub(super) fn expand_domain(&self, values: &Values<'_>) -> String {
        const LONGEST: usize = 253;
        let text = self.expand(values);
        let mut domain = text.strip_suffix('.').unwrap_or(&text);
        while domain.len() > LONGEST {
            match domain.split_once('.') {
                Some((_, behind)) => domain = behind,
                None => break,
            }
        }
        domain.to_owned()
    }
}

impl Macro {
    fn parse(inner: &str, letters: &str) -> Option<Self> {
        let written = inner.chars().next()?;
        let letter = written.to_ascii_lowercase();
        if !letters.contains(letter) {
            return None;
        }
        let rest = &inner[1..];
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let parts = match &rest[..digits] {
            "" => None,
            number => Some(number.parse::<usize>().unwrap_or(usize::MAX)).filter(|parts| *parts > 0).map(Some)?,
        };
        let rest = &rest[digits..];
        let unreversed = rest.strip_prefix(['r', 'R']);
        let delimiters = unreversed.unwrap_or(rest);
        delimiters.bytes().all(|byte| b".-+,/_=".contains(&byte)).then(|| Self {
            letter,
            escaped: written.is_ascii_uppercase(),
            parts,
            reversed: unreversed.is_some(),
            delimiters: delimiters.to_owned(),
        })
    }

    fn expand(&self, values: &Values<'_>) -> String {
        let value = self.value(values);
        let is_delimiter = |c: char| if self.delimiters.is_empty() { c == '.' } else { self.delimiters.contains(c) };
        let mut parts: Vec<&str> = value.split(is_delimiter).collect();
        if self.reversed {
            parts.reverse();
        }
        let dropped = parts.len().saturating_sub(self.parts.unwrap_or(usize::MAX));
        let text = parts[dropped..].join(".");
        if self.escaped { url_escaped(&text) } else { text }
    }

    fn value(&self, values: &Values<'_>) -> String {
        match self.letter {
            's' => format!("{}@{}", values.local, values.sender_domain),
            'l' => values.local.to_owned(),
            'o' => values.sender_domain.to_owned(),
            'd' => values.domain.to_owned(),
            'i' => dotted(values.ip),
            'p' => values.client_name.to_owned(),
            'v' => if values.ip.is_ipv4() { "in-addr" } else { "ip6" }.to_owned(),
            'h' => values.helo.to_owned(),
            'c' => values.ip.to_string(),
            'r' => values.receiver.to_owned(),
            't' => values.now.to_string(),
            // Parsing lets no other letter through.
            _ => String::new(),
        }
    }
}

/// The address in parts: octets for IPv4, nibbles for IPv6.
fn dotted(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().flat_map(|octet| [octet >> 4, octet & 15]);
            nibbles.map(|nibble| format!("{nibble:X}")).collect::<Vec<_>>().join(".")
        }
    }
}

fn url_escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        // RFC 3986 §2.3 unreserved.
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
        escaped
    })
}

/// §7.1: `"." toplabel [ "." ]`, where a top label is not all digits.
fn ends_in_top_label(literal: &str) -> bool {
    let text = literal.strip_suffix('.').unwrap_or(literal);
    let Some((_, label)) = text.rsplit_once('.') else { return false };
    let allowed = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let hyphens_inside = !label.starts_with('-') && !label.ends_with('-');
    !label.is_empty() && allowed && hyphens_inside && !label.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of the examples in RFC 7208 §7.4.
    fn values(ip: &str) -> Values<'static> {
        Values {
            ip: ip.parse().unwrap(),
            local: "strong-bad",
            sender_domain: "email.example.com",
            domain: "email.example.com",
            helo: "mx.example.org",
            client_name: "unknown",
            receiver: "mx.receiver.example",
            now: 1_763_780_646,
        }
    }

    #[test]
    fn expands_the_examples_of_the_rfc() {
        let values = values("192.0.2.3");
        for (text, expanded) in [
            ("%{s}", "strong-bad@email.example.com"),
            ("%{d4}", "email.example.com"),
            ("%{d2}", "example.com"),
            ("%{d1}", "com"),
            ("%{dr}", "com.example.email"),
            ("%{d2r}", "example.email"),
            ("%{l-}", "strong.bad"),
            ("%{lr-}", "bad.strong"),
            ("%{l1r-}", "strong"),
            ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
            ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
            ("%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"),
            ("%%%_%-x.example", "% %20x.example"),
        ] {
            assert_eq!(MacroString::domain(text).unwrap().expand(&values), expanded, "{text}");
        }
        let text = MacroString::explanation("%{C} at %{r} %{t}: %{S}").unwrap().expand(&values);
        assert_eq!(text, "192.0.2.3 at mx.receiver.example 1763780646: strong-bad%40email.example.com");
    }

    #[test]
    fn expands_ipv6_by_nibbles() {
        let text = MacroString::domain("%{ir}.%{v}.example").unwrap().expand(&values("2001:db8::cb01"));
        assert_eq!(text, "1.0.B.C.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.B.D.0.1.0.0.2.ip6.example");
    }

    #[test]
    fn refuses_what_is_no_macro_string() {
        for text in ["", "%", "%{", "%{}", "%{a}", "%{d0}", "%{d2x}", "%(d)", "%{c}", "%{t}.example", "a b.example"] {
            assert_eq!(MacroString::domain(text), None, "{text}");
        }
        for text in ["example", "a.123", "a.-b", "a.b-", "a..", "%{d}com", "a.b/c"] {
            assert_eq!(MacroString::domain(text), None, "{text}");
        }
    }

    #[test]
    fn a_long_domain_is_cut_at_the_left() {
        let text = format!("{}.{}.example", "a".repeat(63), vec!["b".repeat(63); 3].join("."));
        let domain = MacroString::domain(&text).unwrap().expand_domain(&values("192.0.2.3"));
        assert!(domain.starts_with('b') && domain.len() <= 253, "{domain}");
    }
}
