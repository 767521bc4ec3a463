//! Signatures of requests to programs elsewhere: HMAC-SHA256 over the id of the request, the time and the body.
//!
//! Answers of hooks are signed as well, so that not every program that gets hold of a port can decide about mail.
//!
//! The value of a request is written in two ways: as [Standard Webhooks](https://www.standardwebhooks.com) have it, so that
//! any library for these verifies it, and in hexadecimal digits under a name of our own.

use std::fmt;

use aws_lc_rs::{constant_time, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mairust_core::Timestamp;

/// What the text form of a key begins with.
const PREFIX: &str = "whsec_";

/// Octets of a key that is made here.
const LENGTH: usize = 32;

/// Octets that a key may have: what Standard Webhooks allow.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;

/// A key that requests are signed with.
#[derive(Clone)]
pub struct SigningSecret {
    octets: Vec<u8>,
    key: hmac::Key,
}

/// A request that is to be signed.
#[derive(Debug, Clone, Copy)]
pub struct Signable<'a> {
    /// The id of the request: letters, digits, `_` and `-`. It stays the same however often it is tried.
    pub id: &'a str,
    /// When it is sent, this time.
    pub at: Timestamp,
    /// The body, octet by octet.
    pub body: &'a [u8],
}

/// What a request carries so that its receiver can tell who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestSignature {
    /// `X-MaiRust-Timestamp` and `webhook-timestamp`: seconds since 1970.
    pub timestamp: String,
    /// `X-MaiRust-Signature`: `sha256=<hex>`, separated by `, ` if there are several.
    pub hex: String,
    /// `webhook-signature`: `v1,<base64>`, separated by spaces if there are several.
    pub standard: String,
}

/// An answer whose signature is to be made or verified.
#[derive(Debug, Clone, Copy)]
pub struct SignableResponse<'a> {
    /// The id of the request.
    pub id: &'a str,
    /// When the request was sent, as it said: seconds since 1970.
    pub timestamp: &'a str,
    /// The body of the answer, octet by octet.
    pub body: &'a [u8],
}

impl SigningSecret {
    /// A new key of 256 bits.
    pub fn random() -> Self {
        let mut octets = vec![0; LENGTH];
        aws_lc_rs::rand::fill(&mut octets).expect("the system gives random octets");
        Self::of(octets)
    }

    /// The key with these octets; `None` if there are too few or too many.
    pub fn from_bytes(octets: &[u8]) -> Option<Self> {
        LENGTHS.contains(&octets.len()).then(|| Self::of(octets.to_vec()))
    }

    /// Reads the form that [`reveal`](Self::reveal) writes.
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_bytes(&STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?)
    }

    /// The octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.octets
    }

    /// The form for people: `whsec_` and base64.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.octets))
    }

    /// The code that proves who wrote these parts, one after the other.
    fn mac(&self, parts: &[&[u8]]) -> hmac::Tag {
        let mut mac = hmac::Context::with_key(&self.key);
        for part in parts {
            mac.update(part);
        }
        mac.sign()
    }

    fn of(octets: Vec<u8>) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &octets);
        Self { octets, key }
    }
}

impl Signable<'_> {
    /// Signs with each of these keys: the newest first, and those before it as long as receivers may know only them.
    pub fn sign<'k>(&self, keys: impl IntoIterator<Item = &'k SigningSecret>) -> RequestSignature {
        let (seconds, _) = self.at.to_unix();
        let timestamp = seconds.to_string();
        let (mut hex, mut standard) = (Vec::new(), Vec::new());
        for key in keys {
            // The id has no dot, so what is signed can be read in one way only.
            let tag = key.mac(&[self.id.as_bytes(), b".", timestamp.as_bytes(), b".", self.body]);
            hex.push(in_hex(&tag));
            standard.push(format!("v1,{}", STANDARD.encode(tag.as_ref())));
        }
        RequestSignature { timestamp, hex: hex.join(", "), standard: standard.join(" ") }
    }
}

impl SignableResponse<'_> {
    /// `X-MaiRust-Response-Signature`, by this key: `sha256=<hex>`.
    pub fn sign(&self, key: &SigningSecret) -> String {
        let (id, timestamp) = (self.id.as_bytes(), self.timestamp.as_bytes());
        in_hex(&key.mac(&[b"resp.", id, b".", timestamp, b".", self.body]))
    }

    /// Whether this signature was made by one of these keys. How long that takes to find out does not tell where it
    /// differs.
    pub fn is_signed<'k>(&self, signature: &[u8], keys: impl IntoIterator<Item = &'k SigningSecret>) -> bool {
        let is_by = |key| constant_time::verify_slices_are_equal(self.sign(key).as_bytes(), signature).is_ok();
        keys.into_iter().fold(false, |found, key| is_by(key) | found)
    }
}

fn in_hex(tag: &hmac::Tag) -> String {
    let digits: String = tag.as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
    format!("sha256={digits}")
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of the specification; `tests/e2e/test_webhooks.py` computes the same with Python.
    #[test]
    fn signs_as_the_specification_says() {
        let secret = SigningSecret::from_bytes(&(0..32).collect::<Vec<u8>>()).unwrap();
        assert_eq!(secret.reveal(), "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        let old = SigningSecret::from_bytes(&[0xaa; 32]).unwrap();
        let body = br#"{"v":1,"hook":"pre_receive","plugin":{"id":"com.example.mairust.spam-filter"}}"#;
        let at = Timestamp::from_unix(1_705_312_800);
        let signable = Signable { id: "inv_01JABCDEFGHJKMNPQRSTVWXYZ0", at, body };
        let signed = signable.sign([&secret]);
        assert_eq!(signed.timestamp, "1705312800");
        assert_eq!(signed.hex, "sha256=5b793ad4b125134ab5f8d30ec2e41269fecd1b892c4035ce34b4a0e57305917f");
        assert_eq!(signed.standard, "v1,W3k61LElE0q1+NMOwuQSaf7NG4ksQDXONLSg5XMFkX8=");
        let both = signable.sign([&secret, &old]);
        let second = "sha256=8872836df88297e8cd9fd1219719f45b11eff514438c18ebebbd6dba0942d239";
        assert_eq!(both.hex, format!("{}, {second}", signed.hex));
        assert_eq!(both.standard.split(' ').count(), 2);
        assert!(both.standard.starts_with(&signed.standard));
    }

    /// The vector of the specification, and what is not it.
    #[test]
    fn answers_are_signed_as_the_specification_says() {
        let secret = SigningSecret::from_bytes(&(0..32).collect::<Vec<u8>>()).unwrap();
        let other = SigningSecret::from_bytes(&[0xaa; 32]).unwrap();
        let (id, timestamp) = ("inv_01JABCDEFGHJKMNPQRSTVWXYZ0", "1705312800");
        let answer = SignableResponse { id, timestamp, body: br#"{"v":1,"verdict":"allow"}"# };
        let signature = "sha256=fd0e84f01f3087351ea14c7b1d599ca82a067de528ea2db10b4d539e35ea0757";
        assert_eq!(answer.sign(&secret), signature);
        assert!(answer.is_signed(signature.as_bytes(), [&other, &secret]));
        assert!(!answer.is_signed(signature.as_bytes(), [&other]) && !answer.is_signed(signature.as_bytes(), []));
        for wrong in ["", "sha256=", &signature[7..], &signature.to_uppercase(), &signature[..70]] {
            assert!(!answer.is_signed(wrong.as_bytes(), [&secret]), "{wrong}");
        }
        for wrong in [
            SignableResponse { id: "inv_01JABCDEFGHJKMNPQRSTVWXYZ1", ..answer },
            SignableResponse { timestamp: "1705312801", ..answer },
            SignableResponse { body: br#"{"v":1,"verdict":"allow"} "#, ..answer },
        ] {
            assert!(!wrong.is_signed(signature.as_bytes(), [&secret]), "{wrong:?}");
        }
    }

    #[test]
    fn keys_read_back_and_are_not_shown() {
        let secret = SigningSecret::random();
        assert_eq!(SigningSecret::parse(&secret.reveal()).unwrap().as_bytes(), secret.as_bytes());
        assert_eq!(format!("{secret:?}"), "SigningSecret(..)");
        assert_ne!(secret.as_bytes(), SigningSecret::random().as_bytes());
        for odd in ["", "whsec_", "whsec_AAAA", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "whsec_!"] {
            assert!(SigningSecret::parse(odd).is_none(), "{odd}");
        }
    }
}
