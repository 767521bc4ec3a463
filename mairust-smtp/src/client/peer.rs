//! Whom a message is given to, and on what terms.

use std::net::SocketAddr;

use mairust_core::{Domain, Secret};

use super::dane::DanePolicy;
use super::report::AttemptFacts;

/// Where a message goes next.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route {
    /// To the mail exchangers of a domain (RFC 5321 §5.1), on this port.
    Mx {
        /// The domain of the recipients.
        domain: Domain,
        /// 25 outside of tests.
        port: u16,
    },
    /// To one host, whatever the domain.
    Relay(Relay),
}

/// A host that takes mail for other domains, or keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Relay {
    /// A name or an IP address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What is spoken there. Default SMTP.
    pub protocol: Protocol,
    /// How TLS is used. Default opportunistic.
    pub tls: RelayTls,
    /// Whom to log in as; only under [`RelayTls::StartTls`] or [`RelayTls::Implicit`], for anything
    /// else would show the password to whoever stands in between.
    pub login: Option<Login>,
}

/// What is spoken to a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// SMTP (RFC 5321).
    #[default]
    Smtp,
    /// LMTP (RFC 2033): the host answers for each recipient.
    Lmtp,
}

/// How TLS is used with a relay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelayTls {
    /// Not at all.
    None,
    /// STARTTLS where it is offered, with any certificate.
    #[default]
    Opportunistic,
    /// STARTTLS, and a certificate of the host.
    StartTls,
    /// TLS from the first byte (RFC 8314), and a certificate of the host.
    Implicit,
}

/// A name and a password for AUTH.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Secret<String>,
}

/// What is demanded of TLS with one host.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsPolicy {
    /// It is not used.
    Off,
    /// It is used where it is offered and works, with any certificate (RFC 7435).
    Opportunistic,
    /// Nothing is sent without it, and the certificate is of one of these names or IP addresses.
    Require {
        /// At least one.
        names: Vec<String>,
    },
    /// Nothing is sent without it, and any certificate will do: who says that there is TLS did not say which.
    Encrypt,
    /// Nothing is sent without it, and the certificate is one that DNS names (RFC 7672).
    Dane(DanePolicy),
}

/// What decided about TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsRule {
    /// Nothing: TLS is opportunistic.
    Opportunistic,
    /// The settings of a relay.
    Relay,
    /// The TLSA records of the host (RFC 7672).
    Dane,
    /// The MTA-STS policy of the domain (RFC 8461), in the mode `enforce`.
    MtaStsEnforce,
    /// The sender: REQUIRETLS (RFC 8689).
    RequireTls,
    /// The MTA-STS policy of the domain, in the mode `testing`: it is looked at, nothing more.
    MtaStsTesting,
}

impl Relay {
    /// A host to which SMTP is spoken, under TLS where it is offered.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, protocol: Protocol::Smtp, tls: RelayTls::Opportunistic, login: None }
    }
}

impl Login {
    /// This name with this password.
    pub fn new(user: impl Into<String>, password: Secret<String>) -> Self {
        Self { user: user.into(), password }
    }
}

impl TlsRule {
    /// For logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opportunistic => "opportunistic",
            Self::Relay => "relay",
            Self::Dane => "dane",
            Self::MtaStsEnforce => "mta-sts enforce",
            Self::RequireTls => "requiretls",
            Self::MtaStsTesting => "mta-sts testing",
        }
    }
}

/// On what terms a host is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) protocol: Protocol,
    /// TLS begins with the first byte.
    pub(super) implicit_tls: bool,
    pub(super) tls: TlsPolicy,
    pub(super) rule: TlsRule,
    pub(super) login: Option<Login>,
}

impl Terms {
    /// Of a host that DNS names, without a policy.
    pub(super) fn opportunistic() -> Self {
        Self {
            protocol: Protocol::Smtp,
            implicit_tls: false,
            tls: TlsPolicy::Opportunistic,
            rule: TlsRule::Opportunistic,
            login: None,
        }
    }

    pub(super) fn of_relay(relay: &Relay) -> Self {
        let required = || TlsPolicy::Require { names: vec![relay.host.clone()] };
        let (tls, rule) = match relay.tls {
            RelayTls::None => (TlsPolicy::Off, TlsRule::Relay),
            RelayTls::Opportunistic => (TlsPolicy::Opportunistic, TlsRule::Opportunistic),
            RelayTls::StartTls | RelayTls::Implicit => (required(), TlsRule::Relay),
        };
        let implicit_tls = relay.tls == RelayTls::Implicit;
        Self { protocol: relay.protocol, implicit_tls, tls, rule, login: relay.login.clone() }
    }

    /// The same, but with TLS that proves that this is the host: for mail that is sent with REQUIRETLS to somebody
    /// whose name can be believed (RFC 8689 §4.2.1); LMTP sends nothing on. `None` if there is to be no TLS at all.
    pub(super) fn proving(self, host: &str) -> Option<Self> {
        if self.is_verifying() || self.protocol == Protocol::Lmtp {
            return Some(self);
        }
        let tls = TlsPolicy::Require { names: vec![host.to_owned()] };
        (self.tls != TlsPolicy::Off).then_some(Self { tls, rule: TlsRule::RequireTls, ..self })
    }

    /// Whether the host has to prove who it is.
    pub(super) fn is_verifying(&self) -> bool {
        matches!(self.tls, TlsPolicy::Require { .. } | TlsPolicy::Dane(_))
    }

    /// Whether mail rather waits than goes in plain text.
    pub(super) fn requires_tls(&self) -> bool {
        match self.tls {
            TlsPolicy::Off | TlsPolicy::Opportunistic => false,
            TlsPolicy::Encrypt | TlsPolicy::Require { .. } | TlsPolicy::Dane(_) => true,
        }
    }
}

/// One address of a host, and the terms: connections to equal ones can stand in for one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    pub(super) terms: Terms,
}

impl Endpoint {
    /// For reports: `name[address]:port`.
    pub(super) fn label(&self) -> String {
        format!("{}[{}]:{}", self.name, self.address.ip(), self.address.port())
    }

    /// What is known before anybody has connected.
    pub(super) fn facts(&self) -> AttemptFacts {
        AttemptFacts {
            host: Some(self.name.clone()),
            address: Some(self.address),
            rule: Some(self.terms.rule),
            ..AttemptFacts::default()
        }
    }
}
