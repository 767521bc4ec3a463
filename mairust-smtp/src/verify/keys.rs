//! Public keys of signers, as they publish them in DNS (RFC 6376 §3.6, RFC 8463 §4).

use std::collections::{HashMap, HashSet};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{ED25519, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::future::join_all;
use futures::stream::{self, StreamExt};
use mairust_core::AuthOutcome;

use super::tags::{Tags, words};
use crate::dns::{ResolveError, Resolver};

/// Keys of seals that are asked for at the same time, for one message.
const CONCURRENT: usize = 8;

/// RFC 8301 §3.2: no shorter RSA key counts.
const SHORTEST_RSA_BYTES: usize = 1024 / 8;

/// Where a key is: selector and domain.
pub(super) type KeyName = (String, String);

/// The keys of one message, and why some are missing.
#[derive(Debug, Default)]
pub(super) struct Keys(HashMap<KeyName, Result<PublicKey, Failure>>);

/// A key that its owner has published.
#[derive(Debug, Clone)]
pub(super) struct PublicKey {
    material: Material,
    /// `t=s`: signs for its domain only, not for those below.
    pub(super) is_strict: bool,
}

#[derive(Debug, Clone)]
enum Material {
    Ed25519(Vec<u8>),
    Rsa(Vec<u8>),
}

/// How a signature is made (`a=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Ed25519Sha256,
    /// Never good enough (RFC 8301 §3.1).
    RsaSha1,
    RsaSha256,
}

/// Why something does not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) outcome: AuthOutcome,
    pub(super) reason: String,
}

impl Failure {
    pub(super) fn new(outcome: AuthOutcome, reason: impl Into<String>) -> Self {
        Self { outcome, reason: reason.into() }
    }

    pub(super) fn permanent(reason: impl Into<String>) -> Self {
        Self::new(AuthOutcome::PermError, reason)
    }

    pub(super) fn fail(reason: impl Into<String>) -> Self {
        Self::new(AuthOutcome::Fail, reason)
    }
}

impl Algorithm {
    pub(super) fn parse(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "ed25519-sha256" => Some(Self::Ed25519Sha256),
            "rsa-sha1" => Some(Self::RsaSha1),
            "rsa-sha256" => Some(Self::RsaSha256),
            _ => None,
        }
    }
}

impl Keys {
    /// Asks for keys, each once: for those of signatures all at the same time, so that a slow one
    /// of a stranger holds none up that counts, and for those of seals a few at a time.
    pub(super) async fn fetch(resolver: &dyn Resolver, signatures: Vec<KeyName>, seals: Vec<KeyName>) -> Self {
        let signatures: HashSet<KeyName> = signatures.into_iter().collect();
        let seals: HashSet<KeyName> = seals.into_iter().filter(|name| !signatures.contains(name)).collect();
        let fetch = |name: KeyName| async move {
            let key = PublicKey::fetch(resolver, &name).await;
            (name, key)
        };
        let (first, second) = tokio::join!(
            join_all(signatures.into_iter().map(fetch)),
            stream::iter(seals.into_iter().map(fetch)).buffer_unordered(CONCURRENT).collect::<Vec<_>>(),
        );
        Self(first.into_iter().chain(second).collect())
    }

    /// The key of this name.
    pub(super) fn get(&self, selector: &str, domain: &str) -> Result<&PublicKey, Failure> {
        match self.0.get(&(selector.to_owned(), domain.to_owned())) {
            Some(Ok(key)) => Ok(key),
            Some(Err(failure)) => Err(failure.clone()),
            None => Err(Failure::permanent("the key was not asked for")),
        }
    }
}

impl PublicKey {
    async fn fetch(resolver: &dyn Resolver, (selector, domain): &KeyName) -> Result<Self, Failure> {
        let name = format!("{selector}._domainkey.{domain}");
        let records = match resolver.txt(&name).await {
            Ok(records) => records,
            Err(ResolveError::Temporary(reason)) => {
                return Err(Failure::new(AuthOutcome::TempError, format!("{name}: {reason}")));
            }
            Err(_) => Vec::new(),
        };
        let candidates: Vec<Tags> = records
            .iter()
            .filter_map(|record| Tags::parse(&String::from_utf8_lossy(record)).ok())
            .filter(|tags| tags.get("p").is_some())
            .collect();
        match candidates.as_slice() {
            [] => Err(Failure::permanent(format!("no key at {name}"))),
            [tags] => Self::from_tags(tags),
            // RFC 6376 §3.6.2.2: undefined, so whichever came first must not decide.
            _ => Err(Failure::permanent(format!("more than one key at {name}"))),
        }
    }

    fn from_tags(tags: &Tags) -> Result<Self, Failure> {
        match (tags.get("v"), tags.first()) {
            (None, _) | (Some("DKIM1"), Some(("v", _))) => {}
            _ => return Err(Failure::permanent("the key record has an unknown version")),
        }
        let lists = |tag: &str, wanted: &[&str]| {
            tags.get(tag).is_none_or(|value| words(value).any(|word| wanted.contains(&word.as_str())))
        };
        if !lists("h", &["sha256"]) {
            return Err(Failure::permanent("the key is not for SHA-256"));
        }
        if !lists("s", &["*", "email"]) {
            return Err(Failure::permanent("the key is not for e-mail"));
        }
        let encoded = tags.compact("p").unwrap_or_default();
        if encoded.is_empty() {
            return Err(Failure::permanent("the key is revoked"));
        }
        let bytes = STANDARD.decode(encoded).map_err(|_| Failure::permanent("the key is not valid base64"))?;
        let material = match tags.get("k").unwrap_or("rsa").to_ascii_lowercase().as_str() {
            "rsa" => Material::Rsa(bytes),
            "ed25519" if bytes.len() == 32 => Material::Ed25519(bytes),
            "ed25519" => return Err(Failure::permanent("the key has the wrong length")),
            _ => return Err(Failure::permanent("the key is of an unknown kind")),
        };
        let is_strict = tags.get("t").is_some_and(|flags| words(flags).any(|flag| flag == "s"));
        Ok(Self { material, is_strict })
    }

    /// Whether this key has signed.
    pub(super) fn verify(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> Result<(), Failure> {
        let wrong = |_| Failure::fail("the signature did not verify");
        match (algorithm, &self.material) {
            (Algorithm::RsaSha256, Material::Rsa(der)) => {
                let key = rsa::PublicKey::from_der(der).map_err(|_| Failure::permanent("the key is not an RSA key"))?;
                if key.modulus_len() < SHORTEST_RSA_BYTES {
                    return Err(Failure::new(AuthOutcome::Policy, "the key is shorter than 1024 bits"));
                }
                UnparsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, der)
                    .verify(signed, signature)
                    .map_err(wrong)
            }
            (Algorithm::Ed25519Sha256, Material::Ed25519(bytes)) => {
                // RFC 8463 §3: what is signed is the hash.
                let hash = digest(&SHA256, signed);
                UnparsedPublicKey::new(&ED25519, bytes).verify(hash.as_ref(), signature).map_err(wrong)
            }
            (Algorithm::RsaSha1, _) => Err(Failure::new(AuthOutcome::Policy, "rsa-sha1 is not good enough")),
            _ => Err(Failure::permanent("key and signature are of different kinds")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::FakeResolver;

    async fn fetch(records: &[&str]) -> Result<PublicKey, Failure> {
        let texts = records.iter().map(|text| text.as_bytes().to_vec()).collect();
        let resolver = FakeResolver::new().with_txt("s._domainkey.a.example", Ok(texts));
        PublicKey::fetch(&resolver, &("s".to_owned(), "a.example".to_owned())).await
    }

    #[tokio::test]
    async fn takes_one_key_and_what_it_says() {
        let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        assert!(!fetch(&[&format!("v=DKIM1; k=ed25519; p={key}"), "unrelated"]).await.unwrap().is_strict);
        assert!(fetch(&[&format!("k=ed25519; t=y:s; h=sha1:sha256; s=email; p={key}")]).await.unwrap().is_strict);
        for (records, reason) in [
            (vec![], "no key"),
            (vec!["v=spf1 -all"], "no key"),
            (vec!["p=", "p="], "more than one"),
            (vec!["v=DKIM1; p="], "revoked"),
            (vec!["p=AAAA; v=DKIM1"], "version"),
            (vec!["v=DKIM2; p=AAAA"], "version"),
            (vec!["h=sha1; p=AAAA"], "SHA-256"),
            (vec!["s=other; p=AAAA"], "e-mail"),
            (vec!["p=!"], "base64"),
            (vec!["k=dsa; p=AAAA"], "kind"),
            (vec!["k=ed25519; p=AAAA"], "length"),
        ] {
            let failure = fetch(&records).await.unwrap_err();
            assert_eq!(failure.outcome, AuthOutcome::PermError);
            assert!(failure.reason.contains(reason), "{records:?}: {}", failure.reason);
        }
    }

    #[tokio::test]
    async fn dns_that_is_down_is_temporary() {
        let resolver = FakeResolver::new().with_failure("s._domainkey.a.example");
        let name = ("s".to_owned(), "a.example".to_owned());
        let keys = Keys::fetch(&resolver, vec![name.clone(), name.clone()], vec![name]).await;
        assert_eq!(keys.get("s", "a.example").unwrap_err().outcome, AuthOutcome::TempError);
        assert_eq!(keys.get("t", "a.example").unwrap_err().outcome, AuthOutcome::PermError);
    }

    #[test]
    fn garbage_is_no_key() {
        let key = |material| PublicKey { material, is_strict: false };
        let outcome = |key: &PublicKey, algorithm| key.verify(algorithm, b"x", b"y").unwrap_err().outcome;
        let rsa = key(Material::Rsa(vec![1, 2, 3]));
        assert_eq!(outcome(&rsa, Algorithm::RsaSha256), AuthOutcome::PermError);
        assert_eq!(outcome(&rsa, Algorithm::Ed25519Sha256), AuthOutcome::PermError);
        assert_eq!(outcome(&rsa, Algorithm::RsaSha1), AuthOutcome::Policy);
        assert_eq!(outcome(&key(Material::Ed25519(vec![0; 32])), Algorithm::Ed25519Sha256), AuthOutcome::Fail);
    }
}
