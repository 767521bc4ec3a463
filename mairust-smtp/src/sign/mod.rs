//! DKIM signing (RFC 6376, 8301, 8463): a domain takes responsibility for a message.
//!
//! A [`Signer`] is a domain with one of its keys. It signs a [`Signable`]: the header fields of a message
//! that matter, and the hash of its body, which is read once, in pieces, however many signers there are.
//! What is signed must be what is sent, byte for byte; only white space may change on the way
//! (`c=relaxed/relaxed`).
//!
//! Fields that a stranger could add to change what people see are signed once more often than they are
//! there, so that adding one breaks the signature (RFC 6376 §8.15): From, Reply-To, To, Cc, Subject, Date,
//! Message-ID and those that say how the body is to be read. Those that mailing lists add are not.
//!
//! ```
//! use mairust_core::{Body, DkimAlgorithm, Domain, Timestamp};
//! use mairust_smtp::sign::{Signable, Signer, SigningKey};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let signer = Signer::new(Domain::parse("example.com")?, "s1", SigningKey::generate(DkimAlgorithm::Ed25519)?)?;
//! let body = Body::from(b"From: alice@example.com\r\n\r\nHello\r\n".to_vec());
//! let field = signer.sign(&Signable::read(b"", &body)?, Timestamp::from_unix(1_763_780_646), None)?;
//! assert!(field.starts_with("DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; d=example.com; s=s1;"));
//! // To be published at s1._domainkey.example.com:
//! assert!(signer.key().record()?.starts_with("v=DKIM1; k=ed25519; p="));
//! # Ok(())
//! # }
//! ```
//!
//! Deliberately absent: where keys are kept, and who signs what.

use std::io;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mairust_core::{Domain, Timestamp};

mod key;
mod message;

pub use key::{SigningKey, key_record};
pub use message::Signable;

use crate::signed::Canonicalization;

/// Where a line of the field is folded.
const LINE: usize = 76;

/// Why a message was not signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// There are more or larger header fields than a signature should cover.
    #[error("the header section is too large to be signed")]
    HeaderTooLarge,
    /// It is not a key of the kind, or can't be used.
    #[error("the key can't be used: {0}")]
    Key(&'static str),
    /// Domain or selector can't stand in a signature.
    #[error("{0:?} can't stand in a signature")]
    Name(String),
    /// The message can't be read.
    #[error("the message can't be read")]
    Read(#[from] io::Error),
}

/// A domain and one of its keys.
#[derive(Debug)]
pub struct Signer {
    domain: Domain,
    selector: String,
    key: SigningKey,
}

impl Signer {
    /// Signs for `domain` with the key that is published under this selector.
    ///
    /// # Errors
    /// [`SignError::Name`] if the domain is an address literal, or the selector is no name in DNS.
    pub fn new(domain: Domain, selector: impl Into<String>, key: SigningKey) -> Result<Self, SignError> {
        let selector = selector.into();
        if domain.is_literal() {
            return Err(SignError::Name(domain.to_string()));
        }
        match Domain::parse(&selector) {
            Ok(name) if name.as_str() == selector && !name.is_literal() => Ok(Self { domain, selector, key }),
            _ => Err(SignError::Name(selector)),
        }
    }

    /// The domain that takes responsibility (`d=`).
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Where the key is published below `_domainkey` (`s=`).
    pub fn selector(&self) -> &str {
        &self.selector
    }

    /// The key.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The DKIM-Signature field for a message, with its final CRLF, to be put in front of it. `at` is told
    /// as the time of signing; `lifetime` is how long the signature counts, or for ever.
    ///
    /// # Errors
    /// [`SignError::Key`] when the key can't be used.
    pub fn sign(&self, message: &Signable, at: Timestamp, lifetime: Option<Duration>) -> Result<String, SignError> {
        let unsigned = self.unsigned(message, at, lifetime);
        let mut signed = message.signed_fields();
        Canonicalization::Relaxed.add_field(format!("{unsigned}\r\n").as_bytes(), &mut signed);
        // §3.7: the field of the signature itself comes without its final line end.
        signed.truncate(signed.len() - 2);
        let signature = STANDARD.encode(self.key.sign(&signed)?);
        Ok(format!("{unsigned}{}\r\n", folded(&signature)))
    }

    /// The field up to the value of its last tag.
    fn unsigned(&self, message: &Signable, at: Timestamp, lifetime: Option<Duration>) -> String {
        let seconds = |time: Timestamp| time.to_unix().0;
        let expires = lifetime.map(|lifetime| format!(" x={};", seconds(at.plus(lifetime)))).unwrap_or_default();
        format!(
            "DKIM-Signature: v=1; a={}-sha256; c=relaxed/relaxed; d={}; s={};\r\n\tt={};{expires}\r\n\th={};\r\n\tbh={};\r\n\tb=",
            self.key.algorithm(),
            self.domain,
            self.selector,
            seconds(at),
            folded_names(&message.names()),
            STANDARD.encode(message.body_hash()),
        )
    }
}

/// Text without spaces that may be folded anywhere, on lines that are short enough.
fn folded(text: &str) -> String {
    let mut lines = String::with_capacity(text.len() + text.len() / 16);
    for (index, character) in text.chars().enumerate() {
        if index > 0 && index % (LINE - 4) == 0 {
            lines.push_str("\r\n\t ");
        }
        lines.push(character);
    }
    lines
}

/// A list of names, folded behind colons.
fn folded_names(names: &[&str]) -> String {
    let mut list = String::new();
    let mut width = 0;
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            list.push(':');
            if width + name.len() > LINE - 4 {
                list.push_str("\r\n\t ");
                width = 0;
            }
        }
        list.push_str(name);
        width += name.len() + 1;
    }
    list
}

#[cfg(test)]
mod tests {
    use mairust_core::{Body, DkimAlgorithm};

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix(1_763_780_646);

    fn signer(algorithm: DkimAlgorithm) -> Signer {
        let key = SigningKey::generate(algorithm).unwrap();
        Signer::new(Domain::parse("example.com").unwrap(), "s1", key).unwrap()
    }

    #[test]
    fn lines_of_the_field_are_short() {
        let header = "To: a@b.c\r\n".repeat(300);
        let message = Body::from(format!("From: a@b.c\r\n{header}\r\nx\r\n").into_bytes());
        let field = signer(DkimAlgorithm::Rsa);
        let field = field.sign(&Signable::read(b"", &message).unwrap(), NOW, Some(Duration::from_secs(10))).unwrap();
        assert!(field.contains("t=1763780646; x=1763780656;"), "{field}");
        let lines: Vec<_> = field.strip_suffix("\r\n").unwrap().split("\r\n").collect();
        assert!(lines.iter().all(|line| line.len() <= 100), "{field}");
        assert!(lines[1..].iter().all(|line| line.starts_with('\t')), "{field}");
    }

    #[test]
    fn names_are_names_in_dns() {
        let key = || SigningKey::generate(DkimAlgorithm::Ed25519).unwrap();
        let domain = |text| Domain::parse(text).unwrap();
        for selector in ["", "a b", "a;b", "S1", "[192.0.2.1]"] {
            assert!(Signer::new(domain("example.com"), selector, key()).is_err(), "{selector}");
        }
        assert!(Signer::new(domain("[192.0.2.1]"), "s1", key()).is_err());
        assert!(Signer::new(domain("example.com"), "s1.mail", key()).is_ok());
    }
}
