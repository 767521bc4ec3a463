//! One signature over header fields, and over a body where it says so: the common part of DKIM
//! signatures (RFC 6376 §3.5) and of the two signatures of an ARC set (RFC 8617 §4.1).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mairust_core::{AuthOutcome, Domain, Timestamp};

use super::keys::{Algorithm, Failure, PublicKey};
use super::message::Message;
use super::tags::{Tags, words};
use crate::signed::{Canonicalization, Field};

/// Names in one `h=` list; nobody signs more.
const MAX_NAMES: usize = 1_000;

/// What every signature says.
#[derive(Debug, Clone)]
pub(super) struct Signature {
    pub(super) algorithm: Algorithm,
    pub(super) domain: String,
    pub(super) selector: String,
    bytes: Vec<u8>,
}

/// What a signature over a message says besides.
#[derive(Debug, Clone)]
pub(super) struct Coverage {
    header_form: Canonicalization,
    body_form: Canonicalization,
    body_hash: Vec<u8>,
    /// `l=`: how much of the body counts.
    length: Option<u64>,
    /// `h=`, in lower case.
    names: Vec<String>,
}

impl Signature {
    /// Reads `a=`, `b=`, `d=` and `s=`.
    pub(super) fn parse(tags: &Tags) -> Result<Self, Failure> {
        let algorithm = Algorithm::parse(required(tags, "a")?)
            .ok_or_else(|| Failure::permanent("a= names an unknown algorithm"))?;
        let name = |tag: &'static str| {
            let text = required(tags, tag)?;
            let ascii = super::ascii_domain(text).and_then(|text| Domain::parse(&text).ok());
            let host = ascii.filter(|name| !name.is_literal());
            host.map(|name| name.to_string()).ok_or_else(|| Failure::permanent(format!("{tag}= is no name")))
        };
        Ok(Self { algorithm, domain: name("d")?, selector: name("s")?, bytes: base64(tags, "b")? })
    }

    /// Whether the key signed these header fields together with the field of the signature, which
    /// comes last, without its `b=` value and without its final line end (RFC 6376 §3.7).
    pub(super) fn verify(
        &self,
        key: &PublicKey,
        mut signed: Vec<u8>,
        own_field: &Field,
        form: Canonicalization,
    ) -> Result<(), Failure> {
        form.add_field(&without_signature(&own_field.raw), &mut signed);
        if signed.ends_with(b"\r\n") {
            signed.truncate(signed.len() - 2);
        }
        key.verify(self.algorithm, &signed, &self.bytes)
    }
}

impl Coverage {
    /// Reads `bh=`, `c=`, `h=` and `l=`.
    pub(super) fn parse(tags: &Tags) -> Result<Self, Failure> {
        let (header_form, body_form) = Canonicalization::parse_pair(tags.get("c"))
            .ok_or_else(|| Failure::permanent("c= names an unknown form"))?;
        let names: Vec<String> = words(required(tags, "h")?).take(MAX_NAMES + 1).collect();
        if names.len() > MAX_NAMES || names.iter().any(String::is_empty) {
            return Err(Failure::permanent("h= is no list of header fields"));
        }
        let length = match tags.get("l") {
            None => None,
            Some(digits) => Some(digits.parse::<u64>().map_err(|_| Failure::permanent("l= is no number"))?),
        };
        Ok(Self { header_form, body_form, body_hash: base64(tags, "bh")?, length, names })
    }

    /// Whether a header field is among those that are signed.
    pub(super) fn covers(&self, name: &str) -> bool {
        self.names.iter().any(|covered| covered == name)
    }

    /// Whether the key signed this message: its body, and the header fields that `h=` names.
    pub(super) fn verify(
        &self,
        signature: &Signature,
        key: &PublicKey,
        message: &Message,
        own_position: usize,
    ) -> Result<(), Failure> {
        self.check_body(message)?;
        let signed = self.signed_fields(message, own_position);
        signature.verify(key, signed, &message.fields[own_position], self.header_form)
    }

    fn check_body(&self, message: &Message) -> Result<(), Failure> {
        let body =
            message.body(self.body_form).ok_or_else(|| Failure::permanent("the form of the body was not asked for"))?;
        match self.length {
            Some(length) if length > body.length => {
                return Err(Failure::fail("l= is longer than the body"));
            }
            // Whatever was appended would look as if it was signed (RFC 6376 §8.2).
            Some(length) if length < body.length => {
                return Err(Failure::new(AuthOutcome::Policy, "l= leaves a part of the body out"));
            }
            _ => {}
        }
        if self.body_hash != body.hash {
            return Err(Failure::fail("the body was changed"));
        }
        Ok(())
    }

    /// §5.4.2: each mention of a name takes the next field of that name, from the bottom up; a
    /// mention without a field takes nothing, so that none can be added.
    fn signed_fields(&self, message: &Message, own_position: usize) -> Vec<u8> {
        let mut left: std::collections::HashMap<&str, Vec<usize>> = std::collections::HashMap::new();
        for (position, field) in message.fields.iter().enumerate() {
            if position != own_position {
                left.entry(field.name.as_str()).or_default().push(position);
            }
        }
        let mut signed = Vec::new();
        for name in &self.names {
            if let Some(position) = left.get_mut(name.as_str()).and_then(Vec::pop) {
                self.header_form.add_field(&message.fields[position].raw, &mut signed);
            }
        }
        signed
    }
}

/// The value of a tag that must be there.
pub(super) fn required<'a>(tags: &'a Tags, tag: &str) -> Result<&'a str, Failure> {
    let value = tags.get(tag).filter(|value| !value.is_empty());
    value.ok_or_else(|| Failure::permanent(format!("{tag}= is missing")))
}

/// A time of a signature, in seconds.
pub(super) fn time(tags: &Tags, tag: &str) -> Result<Option<Timestamp>, Failure> {
    let Some(digits) = tags.get(tag) else { return Ok(None) };
    let valid = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !valid {
        return Err(Failure::permanent(format!("{tag}= is no time")));
    }
    // Digits that do not fit are a time that never comes.
    Ok(Some(Timestamp::from_unix(digits.parse().unwrap_or(i64::MAX))))
}

fn base64(tags: &Tags, tag: &str) -> Result<Vec<u8>, Failure> {
    required(tags, tag)?;
    let encoded = tags.compact(tag).unwrap_or_default();
    STANDARD.decode(encoded).map_err(|_| Failure::permanent(format!("{tag}= is not valid base64")))
}

/// The field with an empty `b=` tag.
fn without_signature(raw: &[u8]) -> Vec<u8> {
    let start = raw.iter().position(|byte| *byte == b':').map_or(0, |colon| colon + 1);
    let mut kept = raw[..start].to_vec();
    for (index, tag) in raw[start..].split(|byte| *byte == b';').enumerate() {
        if index > 0 {
            kept.push(b';');
        }
        match tag.iter().position(|byte| *byte == b'=') {
            Some(equals) if tag[..equals].trim_ascii() == b"b" => {
                kept.extend_from_slice(&tag[..=equals]);
                // What follows the value, if it is the last one, is the end of the line.
                if tag.ends_with(b"\r\n") {
                    kept.extend_from_slice(b"\r\n");
                }
            }
            _ => kept.extend_from_slice(tag),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_value_of_b_is_cut() {
        for (raw, kept) in [
            ("DKIM-Signature: v=1; bh=x; b=ab\r\n\tcd; s=b\r\n", "DKIM-Signature: v=1; bh=x; b=; s=b\r\n"),
            ("X: b = abc\r\n", "X: b =\r\n"),
            ("X: bb=1;\r\n b=2;\r\n", "X: bb=1;\r\n b=;\r\n"),
        ] {
            assert_eq!(without_signature(raw.as_bytes()), kept.as_bytes(), "{raw:?}");
        }
    }

    #[test]
    fn times_are_digits() {
        let time = |text: &str| time(&Tags::parse(text).unwrap(), "x");
        assert_eq!(time("x=10").unwrap(), Some(Timestamp::from_unix(10)));
        assert_eq!(time("y=10").unwrap(), None);
        assert!(time("x=99999999999999999999999").unwrap() > Some(Timestamp::from_unix(1 << 40)));
        for text in ["x=", "x=-1", "x=1a"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
