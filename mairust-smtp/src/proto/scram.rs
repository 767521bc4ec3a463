//! The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding.
//!
//! Deliberately absent: where the verifier comes from, and randomness for the nonce.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mairust_core::ScramVerifier;

/// The client's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientFirst {
    /// Who wants to log in.
    pub(crate) user: String,
    /// The header about channel binding, which the last message repeats.
    header: String,
    /// The message without that header.
    bare: String,
    nonce: String,
}

/// An exchange in which the client was challenged.
#[derive(Debug)]
pub(crate) struct Challenged {
    user: String,
    header: String,
    nonce: String,
    /// The two messages so far, as they are part of what is signed.
    signed: String,
    verifier: ScramVerifier,
}

/// What the client's last message means.
#[derive(Debug)]
pub(crate) struct Answered {
    /// Who it is.
    pub(crate) user: String,
    /// What proves the server to the client; `None` if the client did not know the password.
    pub(crate) signature: Option<String>,
}

impl ClientFirst {
    /// Reads a message; `None` if it is not well-formed, asks for channel binding, or wants to
    /// act for somebody else.
    pub(crate) fn parse(message: &str) -> Option<Self> {
        let (flag, rest) = message.split_once(',')?;
        let (acting_as, bare) = rest.split_once(',')?;
        if !matches!(flag, "n" | "y") {
            return None;
        }
        let mut attributes = bare.split(',');
        let user = unescape(attributes.next()?.strip_prefix("n=")?)?;
        let nonce = attributes.next()?.strip_prefix("r=").filter(|nonce| is_nonce(nonce))?;
        // Nobody may act for somebody else (CVE-2023-27582).
        let same = acting_as.is_empty() || acting_as.strip_prefix("a=").and_then(unescape).as_ref() == Some(&user);
        (same && !user.is_empty()).then(|| Self {
            user,
            header: format!("{flag},{acting_as},"),
            bare: bare.to_owned(),
            nonce: nonce.to_owned(),
        })
    }

    /// The server's first message. `nonce` is random and printable, without commas.
    pub(crate) fn challenge(self, verifier: ScramVerifier, nonce: &str) -> (Challenged, String) {
        let nonce = format!("{}{nonce}", self.nonce);
        let message = format!("r={nonce},s={},i={}", STANDARD.encode(verifier.salt()), verifier.iterations());
        let signed = format!("{},{message}", self.bare);
        (Challenged { user: self.user, header: self.header, nonce, signed, verifier }, message)
    }
}

impl Challenged {
    /// Reads the client's last message; `None` if it is not well-formed or belongs to another
    /// exchange.
    pub(crate) fn finish(self, message: &str) -> Option<Answered> {
        let (without_proof, proof) = message.rsplit_once(",p=")?;
        let proof: [u8; 32] = STANDARD.decode(proof).ok()?.try_into().ok()?;
        let mut attributes = without_proof.split(',');
        let binding = STANDARD.decode(attributes.next()?.strip_prefix("c=")?).ok()?;
        let nonce = attributes.next()?.strip_prefix("r=")?;
        if binding != self.header.as_bytes() || nonce != self.nonce {
            return None;
        }
        let signed = format!("{},{without_proof}", self.signed);
        let accepted = self.verifier.accepts(signed.as_bytes(), &proof);
        let signature = || format!("v={}", STANDARD.encode(self.verifier.server_signature(signed.as_bytes())));
        Some(Answered { user: self.user, signature: accepted.then(signature) })
    }
}

/// RFC 5802 §5.1: a comma is `=2C`, an equals sign `=3D`.
fn unescape(name: &str) -> Option<String> {
    let mut parts = name.split('=');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        let (character, rest) = match part.split_at_checked(2)? {
            ("2C", rest) => (',', rest),
            ("3D", rest) => ('=', rest),
            _ => return None,
        };
        plain.push(character);
        plain.push_str(rest);
    }
    Some(plain)
}

/// RFC 5802 §7: printable characters other than the comma.
fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677 §3.
    const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
        WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    fn exchange(last: &str) -> Option<Answered> {
        let first = ClientFirst::parse("n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        let (challenged, message) = first.challenge(VERIFIER.parse().unwrap(), "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
        assert_eq!(message, "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        challenged.finish(last)
    }

    #[test]
    fn the_exchange_of_the_rfc() {
        let nonce = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let answered = exchange(&format!("c=biws,{nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")).unwrap();
        assert_eq!(answered.user, "user");
        assert_eq!(answered.signature.as_deref(), Some("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
        let wrong = STANDARD.encode([7; 32]);
        assert_eq!(exchange(&format!("c=biws,{nonce},p={wrong}")).unwrap().signature, None);
        for broken in ["c=biws,p=", &format!("c=biws,r=other,p={wrong}"), &format!("c=eSws,{nonce},p={wrong}"), ""] {
            assert!(exchange(broken).is_none(), "{broken}");
        }
    }

    #[test]
    fn names_and_flags() {
        assert_eq!(ClientFirst::parse("y,a=a=2Cb,n=a=2Cb,r=x").unwrap().user, "a,b");
        for broken in
            ["n,,n=,r=x", "p=tls-unique,,n=a,r=x", "n,a=bob,n=ann,r=x", "n,,n=a=2c,r=x", "n,,n=a,r=", "n,,", "x"]
        {
            assert_eq!(ClientFirst::parse(broken), None, "{broken}");
        }
    }
}
