//! XCLIENT: what a proxy in front of the server knows of its client (Postfix, XCLIENT_README).
//!
//! Deliberately absent: LOGIN. Nobody is authenticated because a proxy says so.

use std::net::IpAddr;

use mairust_core::xtext;

/// The attributes that are taken, as EHLO announces them.
pub(crate) const ATTRIBUTES: &str = "NAME ADDR PORT PROTO HELO";

/// What a proxy says of its client; `None` where it says nothing, or that it does not know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientFacts {
    /// ADDR.
    pub address: Option<IpAddr>,
    /// PORT.
    pub port: Option<u16>,
    /// NAME: the host name of the client, as the proxy found it in DNS.
    pub name: Option<String>,
    /// HELO: what the client called itself.
    pub helo: Option<String>,
    /// PROTO: whether the client said EHLO; `None` if the proxy does not say.
    pub extended: Option<bool>,
}

/// Reads the argument of XCLIENT; `None` if it is not well-formed.
pub(crate) fn parse(text: &str) -> Option<ClientFacts> {
    let mut facts = ClientFacts::default();
    let mut attributes = text.split(' ').filter(|word| !word.is_empty()).peekable();
    attributes.peek()?;
    for attribute in attributes {
        let (name, value) = attribute.split_once('=')?;
        let value = xtext::decode(value)?;
        match name.to_ascii_uppercase().as_str() {
            "ADDR" => facts.address = known(&value, address)?,
            "HELO" => facts.helo = known(&value, word)?,
            "NAME" => facts.name = known(&value, word)?,
            "PORT" => facts.port = known(&value, |port| port.parse().ok())?,
            "PROTO" => facts.extended = known(&value, is_extended)?,
            _ => return None,
        }
    }
    Some(facts)
}

/// What a value says: `None` if it is malformed, `Some(None)` if the proxy does not know.
fn known<T>(value: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    match value {
        "[UNAVAILABLE]" | "[TEMPUNAVAIL]" => Some(None),
        value => parse(value).map(Some),
    }
}

fn address(text: &str) -> Option<IpAddr> {
    match text.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPV6:") => text[5..].parse().ok(),
        _ => text.parse().ok(),
    }
}

fn word(text: &str) -> Option<String> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| text.to_owned())
}

fn is_extended(protocol: &str) -> Option<bool> {
    match protocol {
        "ESMTP" => Some(true),
        "SMTP" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_a_proxy_says() {
        let facts = parse("NAME=spike.example ADDR=IPV6:2001:db8::1 PORT=2525 PROTO=ESMTP HELO=a+2Bb").unwrap();
        assert_eq!(facts.address, Some("2001:db8::1".parse().unwrap()));
        assert_eq!((facts.port, facts.extended, facts.helo.as_deref()), (Some(2525), Some(true), Some("a+b")));
        assert_eq!(parse("NAME=[UNAVAILABLE] ADDR=192.0.2.1").unwrap().name, None);
        for text in ["", "ADDR", "ADDR=x", "PORT=99999", "LOGIN=ann", "HELO=a+20b", "PROTO=HTTP"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
