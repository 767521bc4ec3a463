//! Tokens of calls: `mrc_` and 256 random bits. Only their hashes are kept: nobody guesses 256 bits, so that a slow hash
//! would add nothing.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mairust_core::Secret;

const PREFIX: &str = "mrc_";

/// The token of a call.
#[derive(Debug)]
pub(super) struct Token(Secret<String>);

/// What is kept of a token: its SHA-256.
pub(super) type TokenHash = [u8; 32];

impl Token {
    pub(super) fn random() -> Self {
        let octets: [u8; 32] = rand::random();
        Self(Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(octets))))
    }

    pub(super) fn expose(&self) -> &str {
        self.0.expose()
    }

    pub(super) fn hash(&self) -> TokenHash {
        hash(self.expose())
    }

    /// The hash of what may be a token.
    pub(super) fn hash_of(text: &str) -> Option<TokenHash> {
        let secret = text.strip_prefix(PREFIX)?;
        let is_one = URL_SAFE_NO_PAD.decode(secret).is_ok_and(|octets| octets.len() == 32);
        is_one.then(|| hash(text))
    }
}

fn hash(text: &str) -> TokenHash {
    digest(&SHA256, text.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 octets")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_hash() {
        let token = Token::random();
        assert_eq!(Token::hash_of(token.expose()), Some(token.hash()));
        assert_ne!(Token::random().hash(), token.hash());
        assert!(!format!("{token:?}").contains(token.expose()));
        for other in ["", "mrc_", "mrk_a_b", &format!("{}A", token.expose()), &token.expose().replace("mrc", "mrk")] {
            assert_eq!(Token::hash_of(other), None, "{other}");
        }
    }
}
