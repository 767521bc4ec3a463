//! Whom to trust and whom to keep out: lists of senders.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::address::EmailAddress;
use crate::domain::Domain;
use crate::mail::Mail;

/// Whose mail a list is about: `alice@example.com`, `example.com`, `*.example.com`, `192.0.2.7` or
/// `2001:db8::/32`.
///
/// A domain does not stand for those below it, and `*.example.com` does not stand for
/// `example.com`. Addresses and domains are compared with MAIL FROM and with each address in From,
/// networks with the client. Anybody can write anything into the first two: a network is the
/// safer thing to trust.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SenderPattern(Kind);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    /// Folded, as addresses are compared.
    Address(EmailAddress),
    Domain(Domain),
    /// Everything below a domain.
    Below(Domain),
    /// An address whose bits behind the prefix are zero, and the length of the prefix.
    Network(IpAddr, u8),
}

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write an address, a domain, *.domain, an IP address or a network such as 192.0.2.0/24")]
pub struct SenderPatternError;

/// Senders whose mail is taken, and senders whose mail is kept out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SenderLists {
    /// Mail of these is taken, whatever a scanner thinks of it.
    pub allow: Vec<SenderPattern>,
    /// Mail of these is kept out, unless it is in `allow`: so a list can block a domain, and allow
    /// one address in it.
    pub block: Vec<SenderPattern>,
}

/// What lists say about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListVerdict {
    /// It is to be taken.
    Allowed,
    /// It is to be kept out.
    Blocked,
    /// Nothing.
    Unlisted,
}

impl SenderPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// When the text has none of the forms.
    pub fn parse(text: &str) -> Result<Self, SenderPatternError> {
        // What is written out must read back as the same: `192.0.2.7.` would be an address then, and
        // in lower case a local part may get too long.
        let reads_back = |kind: &Kind| Kind::read(&Self(kind.clone()).to_string()).as_ref() == Some(kind);
        Kind::read(text).filter(reads_back).map(Self).ok_or(SenderPatternError)
    }

    /// Whether a message comes from there.
    pub fn matches(&self, mail: &Mail) -> bool {
        Sender::of(mail).is(self)
    }
}

impl Kind {
    fn read(text: &str) -> Option<Self> {
        let host = |text: &str| Domain::parse(text).ok().filter(|domain| !domain.is_literal());
        if let Some(network) = parse_network(text) {
            Some(network)
        } else if let Some(domain) = text.strip_prefix("*.") {
            host(domain).map(Self::Below)
        } else if text.contains('@') {
            // A local part may hold a star, but who writes one here means something else.
            let address = EmailAddress::parse(text).ok().filter(|address| !address.local().as_str().contains('*'));
            address.map(|address| Self::Address(address.folded()))
        } else {
            host(text).map(Self::Domain)
        }
    }
}

impl SenderLists {
    /// Whether there is nothing on them.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.block.is_empty()
    }

    /// What they say about a message.
    pub fn judge(&self, mail: &Mail) -> ListVerdict {
        if self.is_empty() {
            return ListVerdict::Unlisted;
        }
        let sender = Sender::of(mail);
        let on = |list: &[SenderPattern]| list.iter().any(|pattern| sender.is(pattern));
        if on(&self.allow) {
            ListVerdict::Allowed
        } else if on(&self.block) {
            ListVerdict::Blocked
        } else {
            ListVerdict::Unlisted
        }
    }
}

/// Who sends a message, as far as patterns know.
struct Sender {
    client: Option<IpAddr>,
    addresses: Vec<EmailAddress>,
}

impl Sender {
    fn of(mail: &Mail) -> Self {
        let from = mail.content().from.iter().filter_map(|from| EmailAddress::parse(&from.address).ok());
        Self {
            client: mail.origin().client.map(|client| client.to_canonical()),
            addresses: mail.envelope().sender.address().cloned().into_iter().chain(from).collect(),
        }
    }

    fn is(&self, pattern: &SenderPattern) -> bool {
        let any = |fits: &dyn Fn(&EmailAddress) -> bool| self.addresses.iter().any(fits);
        match &pattern.0 {
            Kind::Address(wanted) => any(&|address| address.folded() == *wanted),
            Kind::Domain(domain) => any(&|address| address.domain() == domain),
            Kind::Below(domain) => any(&|address| is_below(address.domain(), domain)),
            Kind::Network(network, prefix) => self.client.is_some_and(|client| mask(client, *prefix) == *network),
        }
    }
}

fn is_below(domain: &Domain, parent: &Domain) -> bool {
    domain.as_str().strip_suffix(parent.as_str()).is_some_and(|front| front.ends_with('.'))
}

fn parse_network(text: &str) -> Option<Kind> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        Some(_) => return None,
        None => longest,
    };
    (prefix <= longest).then(|| Kind::Network(mask(address, prefix), prefix))
}

/// Sets the bits behind the prefix to zero.
fn mask(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

impl fmt::Display for SenderPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Address(address) => write!(f, "{address}"),
            Kind::Domain(domain) => write!(f, "{domain}"),
            Kind::Below(domain) => write!(f, "*.{domain}"),
            Kind::Network(IpAddr::V4(address), 32) => write!(f, "{address}"),
            Kind::Network(IpAddr::V6(address), 128) => write!(f, "{address}"),
            Kind::Network(address, prefix) => write!(f, "{address}/{prefix}"),
        }
    }
}

impl FromStr for SenderPattern {
    type Err = SenderPatternError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Content, Envelope, Origin, ReversePath, TenantId, Timestamp};

    use super::*;

    fn mail(sender: &str, from: &str, client: &str) -> Mail {
        let sender = EmailAddress::parse(sender).map_or(ReversePath::Null, ReversePath::Address);
        let origin = Origin { client: client.parse().ok(), ..Origin::default() };
        let content = Content::parse(format!("From: {from}\r\n\r\nx\r\n").as_bytes());
        let envelope = Envelope { sender, recipients: Vec::new() };
        Mail::new(TenantId::new(Timestamp::default()), envelope, origin, Vec::new().into(), content)
    }

    fn matches(pattern: &str, mail: &Mail) -> bool {
        SenderPattern::parse(pattern).unwrap().matches(mail)
    }

    #[test]
    fn addresses_and_domains_match_mail_from_and_from() {
        let bounce = mail("bounce@lists.example.com", "Bob <Bob@Example.org>, eve@x.test", "");
        for pattern in ["bob@example.org", "EXAMPLE.org", "lists.example.com", "*.example.com", "*.com", "eve@x.test"] {
            assert!(matches(pattern, &bounce), "{pattern}");
        }
        for pattern in ["example.com", "*.lists.example.com", "*.example.org", "mple.org", "alice@example.org"] {
            assert!(!matches(pattern, &bounce), "{pattern}");
        }
        assert!(!matches("*.ample.com", &bounce), "a label is matched as a whole");
        assert!(matches("x.test", &mail("<>", "a@x.test", "")), "a notice has no sender but a From");
    }

    #[test]
    fn networks_match_the_client() {
        let v4 = mail("", "", "192.0.2.130");
        assert!(matches("192.0.2.130", &v4) && matches("192.0.2.128/25", &v4) && matches("0.0.0.0/0", &v4));
        assert!(matches("192.0.2.255/25", &v4), "bits behind the prefix do not count");
        assert!(!matches("192.0.2.0/25", &v4) && !matches("::/0", &v4));
        assert!(matches("192.0.2.128/25", &mail("", "", "::ffff:192.0.2.130")));
        let v6 = mail("", "", "2001:db8:1::5");
        assert!(matches("2001:db8::/32", &v6) && matches("::/0", &v6) && !matches("2001:db8:2::/48", &v6));
        assert!(!matches("0.0.0.0/0", &mail("", "", "")), "mail without a client is from nowhere");
    }

    #[test]
    fn patterns_read_back() {
        for text in ["a@b.c", "b.c", "*.b.c", "192.0.2.7", "192.0.2.0/24", "2001:db8::/32", "::1"] {
            assert_eq!(SenderPattern::parse(text).unwrap().to_string(), text);
        }
        for text in [r#""a b"@x.org"#, r#""\"a\""@x.org"#] {
            let pattern = SenderPattern::parse(text).unwrap();
            assert_eq!(pattern.to_string(), text, "the quotes are part of it");
            assert_eq!(SenderPattern::parse(&pattern.to_string()), Ok(pattern));
        }
        assert!(SenderPattern::parse(&format!("{}@b.c", "İ".repeat(32))).is_err(), "96 octets in lower case");
        assert!(SenderPattern::parse("192.0.2.7.").is_err(), "an address without its last dot");
        for text in
            ["", "*", "*.", "@b.c", "a@", "a b", "192.0.2.0/33", "192.0.2.0/", "192.0.2.0/+8", "::/129", "*@b.c"]
        {
            assert_eq!(SenderPattern::parse(text), Err(SenderPatternError), "{text}");
        }
    }

    #[test]
    fn allowing_wins_over_blocking() {
        let lists = SenderLists {
            allow: vec![SenderPattern::parse("alice@example.com").unwrap()],
            block: vec![SenderPattern::parse("example.com").unwrap()],
        };
        assert_eq!(lists.judge(&mail("alice@example.com", "", "")), ListVerdict::Allowed);
        assert_eq!(lists.judge(&mail("eve@example.com", "", "")), ListVerdict::Blocked);
        assert_eq!(lists.judge(&mail("bob@example.org", "", "")), ListVerdict::Unlisted);
    }
}
