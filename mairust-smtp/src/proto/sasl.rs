//! AUTH PLAIN, LOGIN and SCRAM-SHA-256 (RFC 4954, RFC 4616, RFC 7677).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mairust_core::{EnhancedCode, Reply, ScramVerifier, Secret};
use zeroize::Zeroizing;

use super::scram::{Challenged, ClientFirst};

/// Name and password.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The authentication identity.
    pub user: String,
    /// The password.
    pub password: Secret<String>,
}

/// The mechanisms that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mechanism {
    Login,
    Plain,
    ScramSha256,
}

/// What the next line of the client is.
#[derive(Debug)]
pub(crate) enum Exchange {
    /// The password of LOGIN.
    LoginPassword { user: String },
    /// The name of LOGIN.
    LoginUser,
    /// The message of PLAIN.
    Plain,
    /// The empty line that ends a successful SCRAM exchange.
    ScramEnd { user: String },
    /// The first message of SCRAM.
    ScramFirst,
    /// The last message of SCRAM.
    ScramLast(Challenged),
}

/// What follows from a line of the client.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Another line is needed; send this after 334.
    Challenge(Exchange, String),
    /// The exchange is complete.
    Credentials(Credentials),
    /// The client proved that it knows this user's password.
    Proved(String),
    /// The exchange failed.
    Refused(Reply),
    /// The client did not know this user's password.
    Unproved(String),
    /// The verifier of a user is needed.
    Verifier(ClientFirst),
}

impl Exchange {
    /// Begins an exchange, with the initial response if there was one.
    pub(crate) fn start(mechanism: Mechanism, initial: Option<&str>) -> Outcome {
        let (exchange, challenge) = match mechanism {
            Mechanism::Login => (Self::LoginUser, "VXNlcm5hbWU6"),
            Mechanism::Plain => (Self::Plain, ""),
            Mechanism::ScramSha256 => (Self::ScramFirst, ""),
        };
        match initial {
            None => Outcome::Challenge(exchange, challenge.to_owned()),
            // RFC 4954 §4: a single equals sign is an empty initial response.
            Some("=") => exchange.response(b""),
            Some(initial) => exchange.response(initial.as_bytes()),
        }
    }

    /// Goes on with a line of the client.
    pub(crate) fn response(self, line: &[u8]) -> Outcome {
        if line == b"*" {
            return Outcome::Refused(Reply::new(501, EnhancedCode(5, 0, 0), "Authentication cancelled"));
        }
        let Some(decoded) = decode(line) else { return undecodable() };
        match self {
            Self::LoginPassword { user } => Outcome::Credentials(Credentials { user, password: secret(&decoded) }),
            Self::LoginUser => {
                Outcome::Challenge(Self::LoginPassword { user: decoded.as_str().to_owned() }, "UGFzc3dvcmQ6".to_owned())
            }
            Self::Plain => plain(&decoded),
            Self::ScramEnd { user } if decoded.is_empty() => Outcome::Proved(user),
            Self::ScramEnd { .. } => undecodable(),
            Self::ScramFirst => ClientFirst::parse(&decoded).map_or_else(undecodable, Outcome::Verifier),
            Self::ScramLast(challenged) => match challenged.finish(&decoded) {
                None => undecodable(),
                Some(answered) => match answered.signature {
                    Some(signature) => {
                        Outcome::Challenge(Self::ScramEnd { user: answered.user }, STANDARD.encode(signature))
                    }
                    None => Outcome::Unproved(answered.user),
                },
            },
        }
    }

    /// Goes on with a SCRAM exchange whose verifier was found.
    pub(crate) fn challenge(first: ClientFirst, verifier: ScramVerifier, nonce: &str) -> Outcome {
        let (challenged, message) = first.challenge(verifier, nonce);
        Outcome::Challenge(Self::ScramLast(challenged), STANDARD.encode(message))
    }
}

/// 535 5.7.8 (RFC 4954 §6).
pub(crate) fn wrong_credentials() -> Reply {
    Reply::new(535, EnhancedCode(5, 7, 8), "Authentication failed")
}

fn undecodable() -> Outcome {
    Outcome::Refused(Reply::new(501, EnhancedCode(5, 5, 2), "Cannot decode the response"))
}

/// RFC 4616 §2: `[authzid] NUL authcid NUL passwd`.
fn plain(message: &str) -> Outcome {
    let parts: Vec<&str> = message.split('\0').collect();
    let [acting_as, user, password] = parts[..] else { return undecodable() };
    // Nobody may act for somebody else (CVE-2023-27582).
    if user.is_empty() || !(acting_as.is_empty() || acting_as == user) {
        return Outcome::Refused(wrong_credentials());
    }
    Outcome::Credentials(Credentials { user: user.to_owned(), password: secret(password) })
}

fn decode(line: &[u8]) -> Option<Zeroizing<String>> {
    let mut decoded = Zeroizing::new(STANDARD.decode(line).ok()?);
    String::from_utf8(std::mem::take(&mut *decoded)).ok().map(Zeroizing::new)
}

fn secret(password: &str) -> Secret<String> {
    Secret::new(password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(outcome: &Outcome) -> String {
        match outcome {
            Outcome::Challenge(_, text) => format!("334 {text}"),
            Outcome::Credentials(found) => format!("{}:{}", found.user, found.password.expose()),
            Outcome::Proved(user) => format!("proved {user}"),
            Outcome::Unproved(user) => format!("unproved {user}"),
            Outcome::Verifier(first) => format!("verifier of {}", first.user),
            Outcome::Refused(reply) => format!("{} {}", reply.code(), reply.enhanced().unwrap()),
        }
    }

    fn plain_of(message: &str) -> String {
        code(&Exchange::start(Mechanism::Plain, Some(&STANDARD.encode(message))))
    }

    #[test]
    fn plain_takes_name_and_password() {
        assert_eq!(plain_of("\0ann\0se:cret"), "ann:se:cret");
        assert_eq!(plain_of("ann\0ann\0pw"), "ann:pw");
        assert_eq!(plain_of("bob\0ann\0pw"), "535 5.7.8");
        assert_eq!(plain_of("\0\0pw"), "535 5.7.8");
        assert_eq!(plain_of("ann"), "501 5.5.2");
        assert_eq!(plain_of("\0ann\0pw\0more"), "501 5.5.2");
        assert_eq!(code(&Exchange::start(Mechanism::Plain, None)), "334 ");
        assert_eq!(code(&Exchange::start(Mechanism::Plain, Some("="))), "501 5.5.2");
        assert_eq!(code(&Exchange::Plain.response(b"*")), "501 5.0.0");
        assert_eq!(code(&Exchange::Plain.response(b"not base64!")), "501 5.5.2");
        assert_eq!(code(&Exchange::Plain.response(b"/////w==")), "501 5.5.2");
    }

    #[test]
    fn login_asks_twice() {
        let first = Exchange::start(Mechanism::Login, None);
        assert_eq!(code(&first), "334 VXNlcm5hbWU6");
        let Outcome::Challenge(exchange, challenge) = Exchange::start(Mechanism::Login, Some("YW5u")) else {
            panic!("no challenge");
        };
        assert_eq!(challenge, "UGFzc3dvcmQ6");
        assert_eq!(code(&exchange.response(b"cHc=")), "ann:pw");
    }

    #[test]
    fn scram_asks_for_a_verifier() {
        let start = Exchange::start(Mechanism::ScramSha256, Some(&STANDARD.encode("n,,n=ann,r=abc")));
        assert_eq!(code(&start), "verifier of ann");
        assert_eq!(code(&Exchange::start(Mechanism::ScramSha256, None)), "334 ");
        assert_eq!(code(&Exchange::ScramFirst.response(b"eA==")), "501 5.5.2");
    }
}
