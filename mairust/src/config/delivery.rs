//! The section `delivery`: how it is written, and what of it fits together.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use mairust_core::{Domain, Rate, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{DeliverySettings, InDoubt, Relay, RelayLogin, RelayProtocol, RelayTls, ReturnPath};
use super::raw::{minutes, seconds};
use super::resolve::Judge;
use super::secret::SecretRef;
use super::text::{DurationText, HostText, IpText, RateText, RelayText, SecretText, Text};
use crate::DomainLimit;

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawDelivery {
    /// Host and port that all outgoing mail goes to. Without it, mail goes to the mail exchangers
    /// of each domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) relay: Option<RelayText>,
    /// What the relay speaks.
    pub(super) relay_protocol: RelayProtocol,
    /// How mail to the relay is encrypted.
    pub(super) relay_tls: RelayTls,
    /// The name to log in with at the relay, by AUTH PLAIN or LOGIN. It needs `relay_tls: starttls`
    /// or `implicit`, so that nobody else gets the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) relay_user: Option<String>,
    /// The password that goes with it: `env:NAME`, `file:/path`, or itself with at least 32
    /// characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) relay_password: Option<SecretText>,
    /// The port of mail exchangers. Anything but 25 is for tests.
    #[schemars(range(min = 1))]
    pub(super) mx_port: u16,
    /// Whether mail exchangers and hosts of MTA-STS policies may be at loopback addresses. DNS that
    /// leads there is a mistake or an attack; `true` is for tests. A relay may be anywhere.
    pub(super) allow_loopback: bool,
    /// Whether hosts are obeyed that say, by TLSA records in signed DNS (DANE, RFC 7672), which certificates they have.
    /// It needs name servers that pass on the records of DNSSEC, which those of some networks do not: with them, mail
    /// waits for want of a proof. So the default is off.
    pub(super) dane: bool,
    /// Whether domains are obeyed that say, by MTA-STS (RFC 8461), that their mail must go under TLS
    /// to hosts which prove who they are.
    pub(super) mta_sts: bool,
    /// The port of the hosts that MTA-STS policies come from. Anything but 443 is for tests.
    #[schemars(range(min = 1))]
    pub(super) mta_sts_port: u16,
    /// PEM file with certificates of authorities that are believed beside those that Mozilla
    /// believes, where TLS has to be verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls_roots: Option<PathBuf>,
    /// IP addresses of this machine that deliveries come from: for each connection one of the right
    /// family, at random. Where there is none, the operating system picks one.
    pub(super) source_addresses: Vec<IpText>,
    /// Connections to one address of a host at a time; deliveries that find so many wait. To one domain go twice as
    /// many at a time, but never more than four fifths of `workers`, so that a host that keeps silent does not keep
    /// all of them. The default is what large providers put up with.
    #[schemars(range(min = 1))]
    pub(super) max_connections_per_host: u32,
    /// Deliveries to one domain within a time, for example `600/1m`, or `none`; each is one message. Every server
    /// counts for itself. Domains whose hosts say that they get too much (421, or words such as "too many" in a
    /// temporary refusal) get half as much at the same time, whatever is written here, and more again with what they
    /// take.
    pub(super) rate_per_domain: RateText,
    /// Domains with limits of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) domains: Option<Vec<RawDomainLimit>>,
    /// Deliveries at the same time. The default suits a small machine; deliveries mostly wait.
    #[schemars(range(min = 1))]
    pub(super) workers: u32,
    /// Deliveries and other jobs that are started in the first second after a start or after an
    /// outage of the database, when many are overdue. In each further second twice as many may
    /// start; 0 is no bound. The default is over within seconds, and no stampede.
    pub(super) ramp_up: u32,
    /// The wait before the second attempt; it doubles from there. The default passes greylisting
    /// soon.
    pub(super) retry_first: DurationText,
    /// The longest wait between two attempts. The default notices within half a working day that
    /// a host is back.
    pub(super) retry_max: DurationText,
    /// Undelivered mail goes back to its sender after this time. The default is what RFC 5321
    /// section 4.5.4.1 asks for.
    pub(super) give_up_after: DurationText,
    /// The sender of mail that is still undelivered after this time is told so, once for each
    /// recipient; 0s is never. The default is when people begin to wonder.
    pub(super) delay_notice_after: DurationText,
    /// How far ahead the time may lie at which submitted mail is to be sent (`send_at`, FUTURERELEASE); 0s takes no
    /// mail that is to wait. The default is as long as people plan a mailing.
    pub(super) max_future_release: DurationText,
    /// How long a worker owns a delivery without renewing its claim, at least 1s. After a crash,
    /// deliveries go on after this time.
    pub(super) lease: DurationText,
    /// What becomes of a delivery that broke off between the end of the message and the answer to it, by a crash
    /// or a lost connection, so that nobody knows whether the recipients have it.
    pub(super) in_doubt: InDoubt,
    /// The sender that other servers are told (MAIL FROM), to whom they send back what they can't deliver after they
    /// took it.
    pub(super) return_path: ReturnPath,
    /// Time to connect to one address of a host. The default outlasts three lost packets.
    pub(super) connect_timeout: DurationText,
}

impl Default for RawDelivery {
    fn default() -> Self {
        Self {
            relay: None,
            relay_protocol: RelayProtocol::Smtp,
            relay_tls: RelayTls::Opportunistic,
            relay_user: None,
            relay_password: None,
            mx_port: 25,
            allow_loopback: false,
            dane: false,
            mta_sts: true,
            mta_sts_port: 443,
            tls_roots: None,
            source_addresses: Vec::new(),
            max_connections_per_host: 20,
            rate_per_domain: Text(None),
            domains: None,
            workers: 50,
            ramp_up: 100,
            retry_first: minutes(2),
            retry_max: minutes(4 * 60),
            give_up_after: minutes(5 * 24 * 60),
            delay_notice_after: minutes(4 * 60),
            max_future_release: minutes(30 * 24 * 60),
            lease: seconds(60),
            in_doubt: InDoubt::Resend,
            return_path: ReturnPath::Sender,
            connect_timeout: seconds(30),
        }
    }
}

/// A domain with limits of its own.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDomainLimit {
    /// The domain.
    pub(super) domain: HostText,
    /// Deliveries within a time. Without it: `rate_per_domain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rate: Option<RateText>,
    /// Deliveries at the same time; never more than to others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub(super) deliveries: Option<u32>,
}

impl RawDomainLimit {
    fn settle(self) -> DomainLimit {
        let mut limit = DomainLimit::new(self.domain.0);
        limit.rate = self.rate.and_then(|rate| rate.0);
        limit.deliveries = self.deliveries;
        limit
    }

    /// For the example.
    fn example(domain: HostText) -> Self {
        let rate = Some(Text(Some(Rate::new(100, Duration::from_secs(60)))));
        Self { domain, rate, deliveries: Some(5) }
    }
}

impl RawDelivery {
    /// A value for the keys that have no default.
    pub(super) fn example() -> Self {
        Self {
            relay: Some(Text(Relay { host: "smtp.example.com".to_owned(), port: 25 })),
            relay_user: Some("mail.example.com".to_owned()),
            relay_password: Some(Text(SecretRef::File("/etc/mairust/relay-password".into()))),
            tls_roots: Some("/etc/mairust/tls/authorities.pem".into()),
            domains: Domain::parse("provider.example").ok().map(|domain| vec![RawDomainLimit::example(Text(domain))]),
            ..Self::default()
        }
    }

    /// Applies the defaults. The login is read elsewhere.
    pub(super) fn settle(self) -> DeliverySettings {
        DeliverySettings {
            relay: self.relay.map(|relay| relay.0),
            relay_protocol: self.relay_protocol,
            relay_tls: self.relay_tls,
            relay_login: None,
            mx_port: self.mx_port,
            allow_loopback: self.allow_loopback,
            dane: self.dane,
            mta_sts: self.mta_sts,
            mta_sts_port: self.mta_sts_port,
            tls_roots: self.tls_roots,
            source_addresses: self.source_addresses.into_iter().map(|address| address.0).collect(),
            max_connections_per_host: self.max_connections_per_host,
            rate_per_domain: self.rate_per_domain.0,
            domains: self.domains.unwrap_or_default().into_iter().map(RawDomainLimit::settle).collect(),
            workers: self.workers,
            ramp_up: self.ramp_up,
            retry_first: self.retry_first.0,
            retry_max: self.retry_max.0,
            give_up_after: self.give_up_after.0,
            delay_notice_after: self.delay_notice_after.0,
            max_future_release: self.max_future_release.0,
            lease: self.lease.0,
            in_doubt: self.in_doubt,
            return_path: self.return_path,
            connect_timeout: self.connect_timeout.0,
        }
    }
}

impl Judge {
    pub(super) fn delivery(&mut self, delivery: &RawDelivery) {
        let second = Duration::from_secs(1);
        self.at_least("delivery.retry_first", delivery.retry_first.0, second);
        self.at_least("delivery.retry_max", delivery.retry_max.0, second);
        self.at_least("delivery.give_up_after", delivery.give_up_after.0, second);
        self.at_least("delivery.lease", delivery.lease.0, second);
        self.at_least("delivery.connect_timeout", delivery.connect_timeout.0, Duration::from_millis(1));
        if delivery.retry_max.0 < delivery.retry_first.0 && !self.already_wrong("delivery.retry_max") {
            let message = "this is more than delivery.retry_max";
            self.report("delivery.retry_first", message, "write the same or a shorter time");
        }
        for (index, address) in delivery.source_addresses.iter().enumerate() {
            if !may_be_a_source(address.0) {
                let path = format!("delivery.source_addresses[{index}]");
                self.report(&path, "no connection can come from this address", "write an address of this machine");
            }
        }
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for (index, limit) in delivery.domains.iter().flatten().enumerate() {
            let path = format!("delivery.domains[{index}]");
            if let Some(first) = seen.insert(limit.domain.0.as_str(), index) {
                let message = format!("delivery.domains[{first}] has this domain already");
                self.report(&format!("{path}.domain"), &message, "remove one of them");
            }
            if limit.rate.is_none() && limit.deliveries.is_none() {
                self.report(&path, "this sets no limit", "write rate or deliveries, or remove it");
            }
        }
        self.relay(delivery);
    }

    fn relay(&mut self, delivery: &RawDelivery) {
        const LOGIN: &str = "delivery.relay_user";
        let Some(relay) = &delivery.relay else {
            let default = RawDelivery::default();
            let useless = [
                ("relay_protocol", delivery.relay_protocol != default.relay_protocol),
                ("relay_tls", delivery.relay_tls != default.relay_tls),
                ("relay_user", delivery.relay_user.is_some()),
                ("relay_password", delivery.relay_password.is_some()),
            ];
            for (key, _) in useless.into_iter().filter(|(_, written)| *written) {
                self.report(
                    &format!("delivery.{key}"),
                    "there is no relay",
                    "write delivery.relay, or remove this key",
                );
            }
            return;
        };
        if delivery.relay_protocol == RelayProtocol::Lmtp && relay.0.port == 25 {
            // RFC 2033 §5.
            self.report("delivery.relay", "LMTP must not be spoken at port 25", "write another port, for example 24");
        }
        match (&delivery.relay_user, &delivery.relay_password) {
            (None, None) => return,
            (Some(_), None) => self.report("delivery.relay_password", "this key is missing", "a name needs a password"),
            (None, Some(_)) => self.report(LOGIN, "this key is missing", "a password needs a name"),
            (Some(_), Some(_)) => {}
        }
        if !matches!(delivery.relay_tls, RelayTls::Starttls | RelayTls::Implicit) {
            let advice = "write delivery.relay_tls: starttls, or implicit";
            self.report(LOGIN, "the password would cross the network as it is", advice);
        }
    }

    /// The login at the relay, if there is one.
    pub(super) fn relay_login(
        &mut self,
        delivery: &RawDelivery,
        variables: &BTreeMap<String, String>,
    ) -> Option<RelayLogin> {
        let (user, password) = (delivery.relay_user.as_ref()?, delivery.relay_password.as_ref()?);
        let password: Secret<String> = self.secret("delivery.relay_password", &password.0, variables)?;
        Some(RelayLogin { user: user.clone(), password })
    }
}

fn may_be_a_source(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}
