//! Private keys, and what is published of them.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mairust_core::{DkimAlgorithm, Secret};

use super::SignError;

/// A private key. Shows nothing of itself but its kind.
pub struct SigningKey(Material);

enum Material {
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl SigningKey {
    /// Makes a new key: Ed25519, or RSA of 2,048 bits, which takes up to a second of pure arithmetic.
    ///
    /// # Errors
    /// [`SignError::Key`] when the system has no random numbers.
    pub fn generate(algorithm: DkimAlgorithm) -> Result<Self, SignError> {
        let failed = |_| SignError::Key("it can't be made");
        let material = match algorithm {
            DkimAlgorithm::Ed25519 => Material::Ed25519(Ed25519KeyPair::generate().map_err(failed)?),
            DkimAlgorithm::Rsa => Material::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?)),
            _ => return Err(SignError::Key("the algorithm is not known")),
        };
        Ok(Self(material))
    }

    /// The key in these octets, as [`to_pkcs8`](Self::to_pkcs8) gives them. RSA keys have 2,048 bits or more.
    ///
    /// # Errors
    /// [`SignError::Key`] when it is no key of this kind.
    pub fn from_pkcs8(algorithm: DkimAlgorithm, pkcs8: &[u8]) -> Result<Self, SignError> {
        let rejected = |_| SignError::Key("it is no key of this kind");
        let material = match algorithm {
            DkimAlgorithm::Ed25519 => {
                Material::Ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(rejected)?)
            }
            DkimAlgorithm::Rsa => Material::Rsa(Box::new(RsaKeyPair::from_pkcs8(pkcs8).map_err(rejected)?)),
            _ => return Err(SignError::Key("the algorithm is not known")),
        };
        Ok(Self(material))
    }

    /// The private key, to be kept (PKCS #8).
    ///
    /// # Errors
    /// [`SignError::Key`] when it can't be written.
    pub fn to_pkcs8(&self) -> Result<Secret<Vec<u8>>, SignError> {
        let failed = |_| SignError::Key("it can't be written");
        let octets = match &self.0 {
            Material::Ed25519(key) => key.to_pkcs8v1().map_err(failed)?.as_ref().to_vec(),
            Material::Rsa(key) => AsDer::<Pkcs8V1Der<'_>>::as_der(&**key).map_err(failed)?.as_ref().to_vec(),
        };
        Ok(Secret::new(octets))
    }

    /// Which kind of key it is.
    pub fn algorithm(&self) -> DkimAlgorithm {
        match &self.0 {
            Material::Ed25519(_) => DkimAlgorithm::Ed25519,
            Material::Rsa(_) => DkimAlgorithm::Rsa,
        }
    }

    /// The public key as it is published: 32 octets of Ed25519 (RFC 8463 §4.2), the SubjectPublicKeyInfo of
    /// RSA (RFC 6376 §3.6.1).
    ///
    /// # Errors
    /// [`SignError::Key`] when it can't be written.
    pub fn public_key(&self) -> Result<Vec<u8>, SignError> {
        match &self.0 {
            Material::Ed25519(key) => Ok(key.public_key().as_ref().to_vec()),
            Material::Rsa(key) => {
                let der = AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key());
                Ok(der.map_err(|_| SignError::Key("it can't be written"))?.as_ref().to_vec())
            }
        }
    }

    /// The TXT record that publishes the key.
    ///
    /// # Errors
    /// [`SignError::Key`] when it can't be written.
    pub fn record(&self) -> Result<String, SignError> {
        Ok(key_record(self.algorithm(), &self.public_key()?))
    }

    /// Signs octets.
    pub(super) fn sign(&self, signed: &[u8]) -> Result<Vec<u8>, SignError> {
        let failed = |_| SignError::Key("it does not sign");
        match &self.0 {
            // RFC 8463 §3: what is signed is the hash.
            Material::Ed25519(key) => {
                Ok(key.try_sign(digest(&SHA256, signed).as_ref()).map_err(failed)?.as_ref().to_vec())
            }
            Material::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed, &mut signature).map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

/// The TXT record that publishes a key (RFC 6376 §3.6.1).
pub fn key_record(algorithm: DkimAlgorithm, public_key: &[u8]) -> String {
    format!("v=DKIM1; k={algorithm}; p={}", STANDARD.encode(public_key))
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.algorithm())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_kept_is_the_same() {
        for algorithm in DkimAlgorithm::ALL {
            let key = SigningKey::generate(algorithm).unwrap();
            let kept = key.to_pkcs8().unwrap();
            let again = SigningKey::from_pkcs8(algorithm, kept.expose()).unwrap();
            assert_eq!(again.public_key().unwrap(), key.public_key().unwrap());
            assert_eq!(again.sign(b"x").unwrap(), key.sign(b"x").unwrap());
            assert_eq!(format!("{key:?}"), format!("SigningKey({algorithm})"));
            let other = DkimAlgorithm::ALL.into_iter().find(|other| *other != algorithm).unwrap();
            assert!(SigningKey::from_pkcs8(other, kept.expose()).is_err());
        }
    }
}
