//! Settings of a server and of its listeners.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use mairust_core::{Domain, IpNetwork, Rate};

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Service {
    /// Mail from a server of ours in front of this one, by LMTP (RFC 2033): never port 25, and
    /// never reachable for strangers.
    Lmtp,
    /// Mail from other servers (port 25): no AUTH.
    Mx,
    /// Mail from users (port 587): STARTTLS, then AUTH, then mail (RFC 6409).
    Submission,
    /// Mail from users under TLS from the first byte (port 465, RFC 8314).
    Submissions,
}

impl Service {
    /// For logs, metrics and timelines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lmtp => "lmtp",
            Self::Mx => "mx",
            Self::Submission => "submission",
            Self::Submissions => "submissions",
        }
    }
}

/// What a listener is for, and what stands in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerConfig {
    /// What it is for.
    pub service: Service,
    /// Whether connections come through a proxy.
    pub proxy_protocol: ProxyProtocol,
}

/// Whether connections come through a proxy that says whose they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Clients connect themselves.
    Never,
    /// Each connection begins with a header of the PROXY protocol, version 1 or 2, and comes from
    /// one of [`ServerConfig::proxies`]; others are dropped.
    Required,
}

/// What is done to a client that speaks before it is greeted (RFC 5321 §4.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlyTalkers {
    /// It is noted in the log and served.
    Note,
    /// Its greeting is 554 5.5.1.
    Refuse,
}

/// Settings of a server; the same for all its listeners.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerConfig {
    /// The name in the greeting and in Received fields.
    pub hostname: Domain,
    /// The largest message in bytes, advertised by SIZE (RFC 1870). Default 25 MiB, as large mail
    /// services allow.
    pub max_message_size: u64,
    /// Recipients per message; further ones get 452 4.5.3. Default 100, the least that RFC 5321
    /// §4.5.3.1.8 allows.
    pub max_recipients: usize,
    /// How many sessions there may be, and how fast clients may go.
    pub admission: AdmissionConfig,
    /// Messages (MAIL commands) in a session; the next one gets 421. Default 1,000.
    pub max_messages: u32,
    /// Commands in a session since its last message; then it is ended with 421. Default 2,000:
    /// enough for every recipient that may be tried, and little for a client that only talks.
    pub max_commands: u32,
    /// Errors in a session before it is ended with 421. Default 20.
    pub max_errors: u32,
    /// Failed logins in a session before it is ended with 421. Default 3.
    pub max_failed_logins: u32,
    /// Wait before the answer to a failed login, times the number of them in the session.
    /// Default 1 second: nothing for a person, much for a program that guesses.
    pub login_delay: Duration,
    /// Longest time for a whole command line, however slowly it comes, for a reply to be taken, and
    /// for the next bytes of a message. Default 5 minutes, RFC 5321 §4.5.3.2.7.
    pub idle_timeout: Duration,
    /// Longest time for a TLS handshake, and for the header of the PROXY protocol. Default
    /// 30 seconds: no client has to think about them.
    pub handshake_timeout: Duration,
    /// Longest time from DATA to its end, however busy. Default 30 minutes.
    pub data_deadline: Duration,
    /// Wait before the greeting on [`Service::Mx`], to find clients that don't wait for it; trusted
    /// ones are greeted at once. Default zero: no wait, and nobody is found.
    pub greeting_delay: Duration,
    /// What is done to clients that don't wait for the greeting. Default [`EarlyTalkers::Refuse`].
    pub early_talkers: EarlyTalkers,
    /// Whose headers of the PROXY protocol are believed. Default nobody's.
    pub proxies: Vec<IpNetwork>,
    /// Who may name another client by XCLIENT. Default nobody.
    pub xclient_from: Vec<IpNetwork>,
    /// How much of a message stays in memory before it goes to a file. Default 256 KiB.
    pub spool_threshold: usize,
    /// Where the files go. Default: the system's folder for temporary files.
    pub spool_dir: std::path::PathBuf,
    /// Certificates and TLS settings; without it STARTTLS and with it AUTH are not offered.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// How many sessions there may be at a time, and how fast clients may go. A client is an IPv4
/// address or an IPv6 /64.
///
/// Who comes in spite of a limit of sessions or connections is greeted with 421 and may come back;
/// under implicit TLS, where nothing can be said before a costly handshake, the connection is
/// closed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AdmissionConfig {
    /// Sessions of all listeners. Default 1,500.
    pub max_sessions: usize,
    /// Sessions of one listener. Default 1,000: less than all, so that who fills one listener
    /// leaves room on the others.
    pub max_sessions_per_listener: usize,
    /// Sessions of one client. Default 50, as Postfix has it.
    pub max_sessions_per_client: usize,
    /// Sessions of an IPv4 /24 or an IPv6 /64. Default 100.
    pub max_sessions_per_network: usize,
    /// Connections of one client; `None` for any number. Default 300 a minute.
    pub connection_rate: Option<Rate>,
    /// Messages of one client; further ones get 450 4.7.1. `None` for any number. Default 600 a
    /// minute.
    pub message_rate: Option<Rate>,
    /// Recipients of one client, accepted or not; further ones get 450 4.7.1. `None` for any
    /// number. Default 6,000 a minute.
    pub recipient_rate: Option<Rate>,
    /// Clients to whom only the limits of all sessions and of a listener apply. Default: this
    /// machine.
    pub trusted: Vec<IpNetwork>,
}

impl ServerConfig {
    /// The defaults, under this host name.
    pub fn new(hostname: Domain) -> Self {
        Self {
            hostname,
            max_message_size: 25 << 20,
            max_recipients: 100,
            admission: AdmissionConfig::default(),
            max_messages: 1_000,
            max_commands: 2_000,
            max_errors: 20,
            max_failed_logins: 3,
            login_delay: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(300),
            handshake_timeout: Duration::from_secs(30),
            data_deadline: Duration::from_secs(1_800),
            greeting_delay: Duration::ZERO,
            early_talkers: EarlyTalkers::Refuse,
            proxies: Vec::new(),
            xclient_from: Vec::new(),
            spool_threshold: 256 << 10,
            spool_dir: std::env::temp_dir(),
            tls: None,
        }
    }
}

impl AdmissionConfig {
    /// Whether an address is exempt from the limits of one client.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self {
            max_sessions: 1_500,
            max_sessions_per_listener: 1_000,
            max_sessions_per_client: 50,
            max_sessions_per_network: 100,
            connection_rate: Some(Rate::new(300, minute)),
            message_rate: Some(Rate::new(600, minute)),
            recipient_rate: Some(Rate::new(6_000, minute)),
            trusted: vec![IpNetwork::of(Ipv4Addr::LOCALHOST.into(), 8), IpNetwork::of(Ipv6Addr::LOCALHOST.into(), 128)],
        }
    }
}

impl From<Service> for ListenerConfig {
    /// A listener to which clients connect themselves.
    fn from(service: Service) -> Self {
        Self { service, proxy_protocol: ProxyProtocol::Never }
    }
}
