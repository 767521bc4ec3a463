//! API keys: `mrk_<key id>_<43 base62>`.
//!
//! The secret part holds 256 random bits; the store keeps its HMAC-SHA256 under the server key. A slow
//! password hash would add nothing against guessing 256 bits.

use std::fmt;

use aws_lc_rs::{hmac, rand};
use mairust_core::Secret;
use mairust_store::{AuditKey, NewApiKey};

use crate::auth::scope::Scope;

const PREFIX: &str = "mrk_";
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const SECRET_LENGTH: usize = 43;
const KEY_ID_LENGTH: usize = 12;

/// The key under which API keys and cursors are made. All nodes of one server share it; whoever
/// changes it makes all API keys and cursors invalid. So it is best kept as a sealed secret, which
/// stays when the master key changes, see
/// [`RegistryExt::installation_key`](mairust_store::RegistryExt::installation_key).
#[derive(Debug, Clone)]
pub struct ServerKey(Secret<[u8; 32]>);

/// An API key as its owner holds it.
pub struct ApiKeyToken<'a> {
    key_id: &'a str,
    secret: &'a str,
}

impl ServerKey {
    /// A key of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Secret::new(bytes))
    }

    /// A secret for this purpose, always the same; it tells nothing about the key, nor about the
    /// secrets for other purposes.
    pub fn secret_for(&self, purpose: &str) -> Secret<[u8; 32]> {
        Secret::new(self.sign(format!("mairust secret for: {purpose}").as_bytes()))
    }

    /// The key under which the heads of the audit log are signed.
    pub fn audit_key(&self) -> AuditKey {
        AuditKey::new(self.secret_for("heads of the audit log"))
    }

    /// HMAC-SHA256 of `data`.
    pub(crate) fn sign(&self, data: &[u8]) -> [u8; 32] {
        let mut tag = [0; 32];
        tag.copy_from_slice(hmac::sign(&self.hmac(), data).as_ref());
        tag
    }

    /// Whether `tag` is the HMAC-SHA256 of `data`, in constant time.
    pub(crate) fn verify(&self, data: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.hmac(), data, tag).is_ok()
    }

    fn hmac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.0.expose())
    }
}

impl<'a> ApiKeyToken<'a> {
    /// Makes a new key with a random secret: the text for its owner, shown once, and what the
    /// store is to keep. `key_id` is its public part, for example from [`random_key_id`]: 1 to
    /// 64 ASCII letters, digits, `-` and `_`.
    pub fn issue(server: &ServerKey, key_id: &str, name: &str, scopes: &[Scope]) -> (Secret<String>, NewApiKey) {
        let secret = base62(random_bytes());
        let key = NewApiKey {
            key_id: key_id.to_owned(),
            name: name.to_owned(),
            secret_hash: server.sign(secret.as_bytes()),
            scopes: scopes.iter().map(ToString::to_string).collect(),
        };
        (Secret::new(format!("{PREFIX}{key_id}_{secret}")), key)
    }

    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (key_id, secret) = text.strip_prefix(PREFIX)?.rsplit_once('_')?;
        let named = (1..=64).contains(&key_id.len())
            && key_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        let filled = secret.len() == SECRET_LENGTH && secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (named && filled).then_some(Self { key_id, secret })
    }

    pub(crate) fn key_id(&self) -> &str {
        self.key_id
    }

    pub(crate) fn verify(&self, server: &ServerKey, secret_hash: &[u8; 32]) -> bool {
        server.verify(self.secret.as_bytes(), secret_hash)
    }
}

impl fmt::Debug for ApiKeyToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeyToken({})", self.key_id)
    }
}

/// The public part of an API key and the hash of its secret part, for who has kept the text of a
/// key and wants it to be known again; `None` if the text is no API key.
pub fn token_hash(server: &ServerKey, token: &str) -> Option<(String, [u8; 32])> {
    let token = ApiKeyToken::parse(token)?;
    Some((token.key_id.to_owned(), server.sign(token.secret.as_bytes())))
}

/// A random public part for an API key: 12 letters and digits.
pub fn random_key_id() -> String {
    base62(random_bytes()).split_off(SECRET_LENGTH - KEY_ID_LENGTH)
}

fn random_bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).expect("the generator of aws-lc aborts rather than fails");
    bytes
}

/// Writes 256 bits in base 62, most significant digit first; 43 digits are just enough.
fn base62(mut number: [u8; 32]) -> String {
    let mut digits = [0; SECRET_LENGTH];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0_usize;
        for byte in &mut number {
            let dividend = remainder * 256 + usize::from(*byte);
            *byte = u8::try_from(dividend / 62).expect("the remainder is below 62, so the quotient is below 256");
            remainder = dividend % 62;
        }
        *digit = BASE62[remainder];
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base62_fills_its_digits() {
        assert_eq!(base62([0; 32]), "0".repeat(43));
        assert_eq!(base62([255; 32]).len(), 43);
        let mut one = [0; 32];
        one[31] = 63;
        assert_eq!(base62(one), format!("{}11", "0".repeat(41)));
    }

    #[test]
    fn a_key_is_known_by_its_hash_under_the_same_server_key_only() {
        let server = ServerKey::new([7; 32]);
        let (text, kept) = ApiKeyToken::issue(&server, "dev_key", "tests", &Scope::send_only());
        let token = ApiKeyToken::parse(text.expose()).unwrap();
        assert_eq!(token.key_id(), "dev_key");
        assert!(token.verify(&server, &kept.secret_hash));
        assert!(!token.verify(&ServerKey::new([8; 32]), &kept.secret_hash));
        assert_eq!(token_hash(&server, text.expose()), Some(("dev_key".to_owned(), kept.secret_hash)));
        assert_eq!(kept.scopes, ["send:write", "sends:read"]);
    }

    #[test]
    fn other_texts_are_no_keys() {
        let secret = "a".repeat(43);
        let texts = [
            String::new(),
            "mrk_".to_owned(),
            format!("mrk__{secret}"),
            format!("mrk_id_{secret}a"),
            format!("mrk_i d_{secret}"),
            format!("key_id_{secret}"),
        ];
        for text in texts {
            assert!(ApiKeyToken::parse(&text).is_none(), "{text}");
        }
        assert_eq!(random_key_id().len(), 12);
        assert_ne!(random_key_id(), random_key_id());
    }
}
