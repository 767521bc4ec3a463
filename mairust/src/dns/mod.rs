//! The DNS records that a domain needs, so that its mail arrives and is believed.
//!
//! They follow from what this server does: hosts and ports are those of its listeners, keys those that it
//! signs with. What it does not serve is not among them: no policy of MTA-STS (RFC 8461), no configuration
//! for mail programs beyond the SRV records of submission (RFC 6186).

use std::fmt;
use std::net::IpAddr;

use mairust_core::Domain;
use mairust_smtp::sign::key_record;
use mairust_store::DkimKey;

mod check;
mod zone;

pub(crate) use check::{Checked, Status, check};
pub(crate) use zone::zone;

/// What this server does for its domains.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    pub(crate) hostname: Domain,
    /// Whether other servers bring mail here.
    pub(crate) takes_mail: bool,
    /// The port at which users submit mail with STARTTLS.
    pub(crate) submission: Option<u16>,
    /// The port at which users submit mail under TLS.
    pub(crate) submissions: Option<u16>,
    /// The host that all outgoing mail goes by.
    pub(crate) relay: Option<String>,
}

/// A record that is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) purpose: Purpose,
    /// Without its final dot.
    pub(crate) name: String,
    pub(crate) data: Data,
}

/// What a record is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Dkim,
    Dmarc,
    Mx,
    Spf,
    Submission,
    Submissions,
    TlsReports,
}

/// What a record says; hosts without their final dots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Data {
    Mx { preference: u16, host: String },
    Srv { port: u16, host: String },
    Txt(String),
}

impl Purpose {
    /// As shown.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Dkim => "dkim",
            Self::Dmarc => "dmarc",
            Self::Mx => "mx",
            Self::Spf => "spf",
            Self::Submission => "submission",
            Self::Submissions => "submissions",
            Self::TlsReports => "tls-reports",
        }
    }
}

impl Data {
    /// The type of the record.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Mx { .. } => "MX",
            Self::Srv { .. } => "SRV",
            Self::Txt(_) => "TXT",
        }
    }
}

/// The data as people enter it into a form.
impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mx { preference, host } => write!(f, "{preference} {host}."),
            Self::Srv { port, host } => write!(f, "0 1 {port} {host}."),
            Self::Txt(text) => f.write_str(text),
        }
    }
}

/// The records of a domain, with all of its keys.
pub(crate) fn records(services: &Services, domain: &Domain, keys: &[DkimKey]) -> Vec<Record> {
    let host = || services.hostname.to_string();
    let at = |label: &str| format!("{label}.{domain}");
    let mut records = Vec::new();
    let mut add = |purpose, name, data| records.push(Record { purpose, name, data });
    if services.takes_mail {
        add(Purpose::Mx, domain.to_string(), Data::Mx { preference: 10, host: host() });
    }
    add(Purpose::Spf, domain.to_string(), Data::Txt(spf(services)));
    for key in keys {
        add(Purpose::Dkim, key_name(key), Data::Txt(key_record(key.algorithm, &key.public_key)));
    }
    let postmaster = format!("mailto:postmaster@{domain}");
    add(Purpose::Dmarc, at("_dmarc"), Data::Txt(format!("v=DMARC1; p=quarantine; rua={postmaster}")));
    add(Purpose::TlsReports, at("_smtp._tls"), Data::Txt(format!("v=TLSRPTv1; rua={postmaster}")));
    for (purpose, label, port) in [
        (Purpose::Submission, "_submission._tcp", services.submission),
        (Purpose::Submissions, "_submissions._tcp", services.submissions),
    ] {
        if let Some(port) = port {
            add(purpose, at(label), Data::Srv { port, host: host() });
        }
    }
    records
}

/// Where a key is published (RFC 6376 §3.6.2.1), without the final dot.
pub(crate) fn key_name(key: &DkimKey) -> String {
    format!("{}._domainkey.{}", key.selector, key.domain)
}

/// The hosts that send mail. What a relay sends with is known to its operator only, so that others are
/// not ruled out then.
fn spf(services: &Services) -> String {
    let own = if services.takes_mail { "mx".to_owned() } else { format!("a:{}", services.hostname) };
    let Some(relay) = &services.relay else { return format!("v=spf1 {own} -all") };
    let relay = match relay.parse::<IpAddr>() {
        Ok(address) if address.is_loopback() => String::new(),
        Ok(IpAddr::V4(address)) => format!(" ip4:{address}"),
        Ok(IpAddr::V6(address)) => format!(" ip6:{address}"),
        Err(_) => format!(" a:{relay}"),
    };
    format!("v=spf1 {own}{relay} ~all")
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn services() -> Services {
        Services {
            hostname: Domain::parse("mail.example.com").unwrap(),
            takes_mail: true,
            submission: Some(587),
            submissions: None,
            relay: None,
        }
    }

    #[test]
    fn records_follow_from_what_is_served() {
        let domain = Domain::parse("a.example").unwrap();
        let lines = |services: &Services| {
            let line = |record: Record| format!("{} {} {}", record.name, record.data.kind(), record.data);
            records(services, &domain, &[]).into_iter().map(line).collect::<Vec<_>>()
        };
        assert_eq!(
            lines(&services()),
            [
                "a.example MX 10 mail.example.com.",
                "a.example TXT v=spf1 mx -all",
                "_dmarc.a.example TXT v=DMARC1; p=quarantine; rua=mailto:postmaster@a.example",
                "_smtp._tls.a.example TXT v=TLSRPTv1; rua=mailto:postmaster@a.example",
                "_submission._tcp.a.example SRV 0 1 587 mail.example.com.",
            ]
        );
        let sender = Services { takes_mail: false, submission: None, submissions: Some(465), ..services() };
        let lines = lines(&sender);
        assert_eq!(lines[0], "a.example TXT v=spf1 a:mail.example.com -all");
        assert_eq!(lines[3], "_submissions._tcp.a.example SRV 0 1 465 mail.example.com.");
    }

    #[test]
    fn a_relay_sends_with_addresses_of_its_own() {
        for (relay, expected) in [
            ("smtp.relay.example", "v=spf1 mx a:smtp.relay.example ~all"),
            ("192.0.2.1", "v=spf1 mx ip4:192.0.2.1 ~all"),
            ("2001:db8::1", "v=spf1 mx ip6:2001:db8::1 ~all"),
            ("127.0.0.1", "v=spf1 mx ~all"),
        ] {
            assert_eq!(spf(&Services { relay: Some(relay.to_owned()), ..services() }), expected);
        }
    }
}
