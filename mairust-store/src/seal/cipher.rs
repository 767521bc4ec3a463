//! Authenticated encryption: the algorithms, and their one form of a sealed text.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{hmac, rand};
use mairust_core::Secret;

/// Octets of a nonce.
pub(crate) const NONCE: usize = 12;
/// Octets by which what is encrypted is longer.
pub(crate) const TAG: usize = 16;

/// With what something is encrypted. Both take keys of 256 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Algorithm {
    /// AES-256-GCM, the default: processors of servers have instructions for it.
    #[default]
    Aes256Gcm,
    /// ChaCha20-Poly1305 (RFC 8439), for processors without them.
    ChaCha20Poly1305,
}

/// A key, ready for use.
#[derive(Debug)]
pub(crate) struct Cipher(LessSafeKey);

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Aes256Gcm, Self::ChaCha20Poly1305];

    /// As shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "aes-256-gcm",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
        }
    }

    /// As stored.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Aes256Gcm => 1,
            Self::ChaCha20Poly1305 => 2,
        }
    }

    /// The algorithm of this number.
    pub(crate) fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.number() == number)
    }

    fn of_library(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes256Gcm => &aead::AES_256_GCM,
            Self::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }
}

impl Cipher {
    pub(crate) fn new(algorithm: Algorithm, key: &Secret<[u8; 32]>) -> Self {
        let key = UnboundKey::new(algorithm.of_library(), key.expose()).expect("both algorithms take 32 octets");
        Self(LessSafeKey::new(key))
    }

    /// Encrypts in place, the tag behind. A nonce may be used once with a key.
    pub(crate) fn seal_with(&self, nonce: [u8; NONCE], bound_to: &[u8], text: &mut Vec<u8>) {
        let sealed = self.0.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound_to), text);
        sealed.expect("texts are far shorter than the limit of the algorithm");
    }

    /// Decrypts in place, and cuts the tag off; `None` if it is not what was encrypted.
    pub(crate) fn open_with(&self, nonce: [u8; NONCE], bound_to: &[u8], sealed: &mut Vec<u8>) -> Option<()> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let length = self.0.open_in_place(nonce, Aad::from(bound_to), sealed).ok()?.len();
        sealed.truncate(length);
        Some(())
    }

    /// A random nonce, then the text, encrypted and bound to `bound_to`.
    pub(crate) fn seal(&self, bound_to: &[u8], text: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE] = random();
        // Room for the tag, so that no copy of the text stays behind.
        let mut sealed = Vec::with_capacity(text.len() + TAG);
        sealed.extend_from_slice(text);
        self.seal_with(nonce, bound_to, &mut sealed);
        [nonce.as_slice(), &sealed].concat()
    }

    /// What [`seal`](Self::seal) was given; `None` if it was something else.
    pub(crate) fn open(&self, bound_to: &[u8], sealed: &[u8]) -> Option<Secret<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>()?;
        let mut text = sealed.to_vec();
        self.open_with(*nonce, bound_to, &mut text)?;
        Some(Secret::new(text))
    }
}

/// A key for one purpose, always the same; it tells nothing about `key`, nor about the keys for
/// other purposes.
pub(crate) fn derive(key: &Secret<[u8; 32]>, purpose: &str) -> Secret<[u8; 32]> {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.expose()), purpose.as_bytes());
    let mut derived = [0; 32];
    derived.copy_from_slice(tag.as_ref());
    Secret::new(derived)
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the generator of aws-lc aborts rather than fails");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::of_number(algorithm.number()), Some(algorithm));
            let cipher = Cipher::new(algorithm, &Secret::new([7; 32]));
            let sealed = cipher.seal(b"place", b"secret");
            assert_eq!(cipher.open(b"place", &sealed).unwrap().expose(), b"secret");
            assert!(cipher.open(b"elsewhere", &sealed).is_none());
            assert!(Cipher::new(algorithm, &Secret::new([8; 32])).open(b"place", &sealed).is_none());
            for index in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[index] ^= 1;
                assert!(cipher.open(b"place", &changed).is_none(), "octet {index}");
                assert!(cipher.open(b"place", &sealed[..index]).is_none(), "{index} octets");
            }
            assert_ne!(cipher.seal(b"place", b"secret"), sealed, "nonces are random");
        }
    }
}
