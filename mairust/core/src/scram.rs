//! What is kept of a password for SCRAM-SHA-256 (RFC 5802, RFC 7677).
//!
//! Whoever steals it can't log in with it, but can guess passwords: it is as secret as a
//! password hash. Deliberately absent: the exchange, which belongs to a protocol.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::secret::Secret;

/// Rounds of PBKDF2 for new verifiers: several times what RFC 7677 §4 asks for, and some
/// milliseconds of work for each login of a client that does not cache.
const ITERATIONS: u32 = 15_000;

/// Rounds that are read back; more would be an attack on the clients.
const MAX_ITERATIONS: u32 = 1_000_000;

/// Salt, rounds and keys of one password. `Display` and `FromStr` use the form of RFC 5803.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

/// The text is no verifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a SCRAM-SHA-256 verifier")]
pub struct InvalidVerifier;

impl ScramVerifier {
    /// Makes a verifier of a password (some milliseconds of work).
    pub fn derive(password: &Secret<String>, salt: [u8; 16]) -> Self {
        let prepared = stringprep::saslprep(password.expose());
        // A password that SASLprep refuses is used as it is: clients do the same.
        let prepared = prepared.as_deref().unwrap_or(password.expose());
        let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(prepared.as_bytes(), &salt, ITERATIONS);
        let stored_key = Sha256::digest(hmac(&salted, b"Client Key")).into();
        Self { iterations: ITERATIONS, salt: salt.to_vec(), stored_key, server_key: hmac(&salted, b"Server Key") }
    }

    /// A verifier that no password fits, the same each time for this name: so that an exchange
    /// with a name that nobody has looks like any other. `secret` must stay the same and unknown.
    pub fn for_nobody(name: &str, secret: &[u8; 32]) -> Self {
        let (salt, stored_key) = (hmac(secret, format!("salt {name}").as_bytes()), hmac(secret, name.as_bytes()));
        // No key is known whose hash this is.
        Self { iterations: ITERATIONS, salt: salt[..16].to_vec(), stored_key, server_key: hmac(secret, b"server") }
    }

    /// Rounds of PBKDF2.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// The salt.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Whether a client's proof over this AuthMessage shows that it knows the password
    /// (RFC 5802 §3). Takes the same time for every proof.
    pub fn accepts(&self, auth_message: &[u8], proof: &[u8; 32]) -> bool {
        let signature = hmac(&self.stored_key, auth_message);
        let key: [u8; 32] = std::array::from_fn(|index| proof[index] ^ signature[index]);
        Sha256::digest(key).as_slice().ct_eq(&self.stored_key).into()
    }

    /// What shows the client that the server knows the verifier.
    pub fn server_signature(&self, auth_message: &[u8]) -> [u8; 32] {
        hmac(&self.server_key, auth_message)
    }
}

impl fmt::Display for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|bytes| STANDARD.encode(bytes));
        write!(f, "SCRAM-SHA-256${}:{salt}${stored}:{server}", self.iterations)
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramVerifier(***)")
    }
}

impl FromStr for ScramVerifier {
    type Err = InvalidVerifier;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (rounds, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
            let (iterations, salt) = rounds.split_once(':')?;
            let (stored, server) = keys.split_once(':')?;
            let key = |text: &str| STANDARD.decode(text).ok()?.try_into().ok();
            Some(Self {
                iterations: iterations.parse().ok().filter(|count| (1..=MAX_ITERATIONS).contains(count))?,
                salt: STANDARD.decode(salt).ok()?,
                stored_key: key(stored)?,
                server_key: key(server)?,
            })
        };
        parse().ok_or(InvalidVerifier)
    }
}

fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677 §3, whose password is "pencil".
    #[test]
    fn agrees_with_the_rfc() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(b"pencil", &salt, 4_096);
        let verifier = ScramVerifier {
            iterations: 4_096,
            salt,
            stored_key: Sha256::digest(hmac(&salted, b"Client Key")).into(),
            server_key: hmac(&salted, b"Server Key"),
        };
        let auth_message = b"n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let proof = STANDARD.decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").unwrap();
        assert!(verifier.accepts(auth_message, &proof.try_into().unwrap()));
        assert!(!verifier.accepts(auth_message, &[0; 32]));
        let signature = STANDARD.encode(verifier.server_signature(auth_message));
        assert_eq!(signature, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert_eq!(verifier.to_string().parse::<ScramVerifier>().unwrap(), verifier);
    }

    #[test]
    fn nobody_has_a_verifier_of_his_own() {
        let nobody = |name| ScramVerifier::for_nobody(name, &[7; 32]);
        assert_eq!(nobody("ann"), nobody("ann"));
        assert_ne!(nobody("ann").salt(), nobody("bob").salt());
        let derived = ScramVerifier::derive(&Secret::new("correct horse".to_owned()), [1; 16]);
        assert_eq!((nobody("ann").iterations(), nobody("ann").salt().len()), (derived.iterations(), 16));
        assert_eq!(format!("{derived:?}"), "ScramVerifier(***)");
    }

    #[test]
    fn refuses_what_is_no_verifier() {
        for text in ["", "SCRAM-SHA-256$4096:c2FsdA==$AAAA:AAAA", "SCRAM-SHA-1$1:a$b:c", "SCRAM-SHA-256$0:$:"] {
            assert!(text.parse::<ScramVerifier>().is_err(), "{text}");
        }
    }
}
