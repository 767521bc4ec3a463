//! Addresses that only this server can make, one for each recipient of an outgoing message.
//!
//! `bounces+TOKEN@domain`: the token is the id of the recipient and the beginning of an HMAC over it and the domain.
//! Letters are in lower case, and read in any, since some hosts change it.

use aws_lc_rs::{constant_time, hmac};
use data_encoding::BASE32_NOPAD;
use mairust_core::{Domain, EmailAddress, LocalPart, RecipientId, Secret};

/// What local parts begin with.
const PREFIX: &str = "bounces+";

/// Octets of the id of a recipient.
const ID: usize = 16;

/// Octets that are kept of the HMAC: 112 bits. With the id they fill whole letters (RFC 4648 §6).
const MAC: usize = 14;

/// Makes tokens, and knows those that it has made.
#[derive(Debug)]
pub(crate) struct TokenKey(Secret<[u8; 32]>);

/// What an address says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// It has the form, but nobody here has made it.
    Forged,
    /// It is an address as any other.
    None,
    /// Mail for this recipient comes back.
    Of(RecipientId),
}

impl TokenKey {
    pub(crate) fn new(key: Secret<[u8; 32]>) -> Self {
        Self(key)
    }

    /// The address to which mail for a recipient comes back.
    pub(crate) fn address(&self, recipient: RecipientId, domain: &Domain) -> EmailAddress {
        let mut octets = [0; ID + MAC];
        octets[..ID].copy_from_slice(recipient.as_bytes());
        octets[ID..].copy_from_slice(&self.mac(recipient, domain));
        let local = LocalPart::parse(&format!("{PREFIX}{}", BASE32_NOPAD.encode(&octets).to_ascii_lowercase()));
        EmailAddress::new(local.expect("letters and digits are a local part of less than 64 octets"), domain.clone())
    }

    /// What an address says.
    pub(crate) fn read(&self, address: &EmailAddress) -> Token {
        let local = address.local().as_str();
        let Some((prefix, letters)) = local.split_at_checked(PREFIX.len()) else { return Token::None };
        let Ok(octets) = BASE32_NOPAD.decode(letters.to_ascii_uppercase().as_bytes()) else { return Token::None };
        let Some((id, mac)) = octets.split_first_chunk::<ID>() else { return Token::None };
        if mac.len() != MAC || !prefix.eq_ignore_ascii_case(PREFIX) {
            return Token::None;
        }
        let recipient = RecipientId::from_bytes(*id);
        match constant_time::verify_slices_are_equal(&self.mac(recipient, address.domain()), mac) {
            Ok(()) => Token::Of(recipient),
            Err(_) => Token::Forged,
        }
    }

    fn mac(&self, recipient: RecipientId, domain: &Domain) -> [u8; MAC] {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, self.0.expose()));
        context.update(recipient.as_bytes());
        context.update(domain.as_str().as_bytes());
        let mut mac = [0; MAC];
        mac.copy_from_slice(&context.sign().as_ref()[..MAC]);
        mac
    }
}

#[cfg(test)]
mod tests {
    use mairust_core::Timestamp;

    use super::*;

    fn key(octet: u8) -> TokenKey {
        TokenKey::new(Secret::new([octet; 32]))
    }

    fn domain() -> Domain {
        Domain::parse("here.example").unwrap()
    }

    #[test]
    fn addresses_read_back_in_any_case() {
        for octets in [[0; 16], [255; 16], *RecipientId::new(Timestamp::from_unix(1_763_780_646)).as_bytes()] {
            let recipient = RecipientId::from_bytes(octets);
            let address = key(1).address(recipient, &domain());
            let local = address.local().as_str();
            assert!(local.len() <= 64, "RFC 5321 §4.5.3.1.1: {local}");
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            assert!(local.strip_prefix("bounces+").unwrap().bytes().all(plain), "{local}");
            assert_eq!(key(1).read(&address), Token::Of(recipient));
            let upper = EmailAddress::parse(&address.to_string().to_uppercase()).unwrap();
            assert_eq!(key(1).read(&upper), Token::Of(recipient));
        }
    }

    #[test]
    fn nobody_else_makes_them() {
        let recipient = RecipientId::new(Timestamp::from_unix(1_763_780_646));
        let address = key(1).address(recipient, &domain());
        assert_eq!(key(2).read(&address), Token::Forged);
        let moved = EmailAddress::new(address.local().clone(), Domain::parse("there.example").unwrap());
        assert_eq!(key(1).read(&moved), Token::Forged, "a token is of one domain");
        let local = address.local().as_str();
        for place in PREFIX.len()..local.len() {
            let mut changed = local.as_bytes().to_vec();
            changed[place] = if changed[place] == b'a' { b'b' } else { b'a' };
            let changed = LocalPart::parse(std::str::from_utf8(&changed).unwrap()).unwrap();
            let read = key(1).read(&EmailAddress::new(changed, domain()));
            assert_eq!(read, Token::Forged, "letter {place}");
        }
    }

    #[test]
    fn others_are_as_any_other() {
        let token = "a".repeat((ID + MAC) * 8 / 5);
        for local in ["bounces", "bounces+", "bounces+tag", "alice", "é", "bouncesé+x"] {
            let address = EmailAddress::new(LocalPart::parse(local).unwrap(), domain());
            assert_eq!(key(1).read(&address), Token::None, "{local}");
        }
        for local in [
            format!("bounces+{}", &token[1..]),
            format!("bounces+{token}a"),
            format!("bounces+{}1", &token[1..]),
            format!("bouncer+{token}"),
            format!("x-bounces+{}", &token[2..]),
        ] {
            let address = EmailAddress::new(LocalPart::parse(&local).unwrap(), domain());
            assert_eq!(key(1).read(&address), Token::None, "{local}");
        }
    }
}
