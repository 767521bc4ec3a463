//! The resolved configuration: plain types, every default applied.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mairust_core::{ByteSize, Domain, EmailAddress, IpNetwork, Rate, ScanAction, Secret, SenderLists};
use mairust_hooks::Budgets;
use mairust_hooks::scan::RuleSettings;
use mairust_hooks::scan::rspamd::RspamdSettings;
use mairust_smtp::dns::TrustAnchors;
use mairust_smtp::tls::CertificatePair;
use mairust_store::{DiskFloor, Durability, S3Settings, SpoolSettings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::raw::RawConfig;
use super::resolve::settle;
use crate::{Authentication, CrossTenant, DomainLimit, Scoring, SendingLimits, TenantHookSettings, WebhookSettings};

/// The configuration of the `mairust` binary.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Who this server is, and where it keeps things.
    pub server: ServerSettings,
    /// Receiving mail.
    pub smtp: SmtpSettings,
    /// Keeping spam out.
    pub spam: SpamSettings,
    /// Certificates and keys, the most important first; empty: a self-signed certificate is made
    /// at start.
    pub tls: Vec<TlsFiles>,
    /// Who guesses passwords and API keys.
    pub login: LoginSettings,
    /// How senders are verified; `None`: not at all.
    pub authentication: Option<Authentication>,
    /// Servers for DNS; empty: those of the operating system.
    pub dns_servers: Vec<SocketAddr>,
    /// File with keys that signatures of DNS may lead to, beside those of the root.
    pub dns_trust_anchors: Option<PathBuf>,
    /// REST API and administration.
    pub http: HttpSettings,
    /// What is known about messages, users and jobs.
    pub database: DatabaseSettings,
    /// How long the database is waited for.
    pub database_timeout: Duration,
    /// The bytes of messages.
    pub storage: StorageSettings,
    /// What an accepted message survives.
    pub durability: Durability,
    /// How messages wait in the database for their place in the storage.
    pub spool: SpoolSettings,
    /// How much room there must be on the disk for more mail.
    pub disk_floor: DiskFloor,
    /// Mailboxes of users.
    pub mailboxes: MailboxSettings,
    /// Whether new messages are encrypted before they are written.
    pub client_side_encryption: bool,
    /// Finding messages by what they say.
    pub search: SearchSettings,
    /// Where the master key is.
    pub master_key: MasterKey,
    /// Keys that were the master key before.
    pub former_master_keys: Vec<Secret<[u8; 32]>>,
    /// How long entries of the audit log are kept.
    pub audit_retention: Duration,
    /// For how many days deleted messages are kept.
    pub deleted_messages_days: u32,
    /// For how many days events are kept.
    pub events_days: u32,
    /// For how many days it is kept what calls of hooks came to.
    pub hook_calls_days: u32,
    /// Which hooks tenants may bind.
    pub hooks: TenantHookSettings,
    /// How long all hooks of a stage together may hold a message up.
    pub hook_budgets: Budgets,
    /// Telling programs elsewhere of events.
    pub webhooks: WebhookSettings,
    /// For how many days keys are kept that sign mail no more.
    pub retired_dkim_keys_days: u32,
    /// Who may send how much, and to whom nothing is sent.
    pub policy: PolicySettings,
    /// Sending mail to other servers.
    pub delivery: DeliverySettings,
    /// The log.
    pub log: LogSettings,
    /// Time for what is under way when the server is told to stop.
    pub drain: Duration,
    /// What works but should be changed, such as a secret that everybody may read.
    pub warnings: Vec<Problem>,
}

/// Who this server is, and where it keeps things.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerSettings {
    /// The name in greetings and in `Received` fields.
    pub hostname: Domain,
    /// The folder for everything that is kept.
    pub data_dir: PathBuf,
    /// Who gets mail to `postmaster` where nobody has that address; `None`: the oldest user.
    pub postmaster: Option<EmailAddress>,
}

/// Receiving mail.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SmtpSettings {
    /// At least one; no address twice, except with port 0.
    pub listeners: Vec<Listener>,
    /// The largest message that is accepted.
    pub max_message_size: ByteSize,
    /// Recipients per message.
    pub max_recipients: u32,
    /// What becomes of a message for recipients of several tenants.
    pub cross_tenant: CrossTenant,
    /// Time for a command, for a reply to be taken, and for the next bytes of a message.
    pub idle_timeout: Duration,
    /// What sessions and clients may do.
    pub limits: SmtpLimits,
    /// Whose headers of the PROXY protocol are believed; not empty if a listener requires them.
    pub proxies: Vec<IpNetwork>,
    /// Who may name another client by XCLIENT.
    pub xclient_from: Vec<IpNetwork>,
}

/// What sessions and clients may do. A client is an IPv4 address or an IPv6 /64.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SmtpLimits {
    /// Sessions of all listeners.
    pub max_sessions: u32,
    /// Sessions of one listener.
    pub max_sessions_per_listener: u32,
    /// Sessions of one client.
    pub max_sessions_per_client: u32,
    /// Sessions of an IPv4 /24 or an IPv6 /64.
    pub max_sessions_per_network: u32,
    /// Connections of one client.
    pub connection_rate: Option<Rate>,
    /// Messages of one client.
    pub message_rate: Option<Rate>,
    /// Recipients of one client.
    pub recipient_rate: Option<Rate>,
    /// Clients that are exempt from the limits of one client, and from the wait for a greeting.
    pub trusted: Vec<IpNetwork>,
    /// Messages in a session.
    pub max_messages: u32,
    /// Commands in a session since its last message.
    pub max_commands: u32,
    /// Errors in a session.
    pub max_errors: u32,
    /// Wait before the greeting of other servers.
    pub greeting_delay: Duration,
    /// What is done to clients that don't wait for it.
    pub early_talkers: EarlyTalkers,
    /// Time for a TLS handshake, and for the header of the PROXY protocol.
    pub handshake_timeout: Duration,
    /// Time for a whole message.
    pub data_deadline: Duration,
}

/// What is done to a client that speaks before it is greeted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum EarlyTalkers {
    /// It is noted in the log and served.
    Note,
    /// It is told 554 instead.
    Refuse,
}

/// An address that SMTP is spoken at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listener {
    /// Address and port; port 0 takes any free one.
    pub bind: SocketAddr,
    /// Who is expected there.
    pub kind: ListenerKind,
    /// Whether connections come through a proxy.
    pub proxy_protocol: ProxyProtocol,
}

impl Listener {
    /// A listener to which clients connect themselves.
    pub fn new(bind: SocketAddr, kind: ListenerKind) -> Self {
        Self { bind, kind, proxy_protocol: ProxyProtocol::Never }
    }
}

/// Whether connections come through a proxy that says whose they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ProxyProtocol {
    /// Clients connect themselves.
    #[default]
    Never,
    /// Each connection begins with a header of the PROXY protocol, version 1 or 2, from one of
    /// `smtp.proxies`; others are dropped.
    Required,
}

/// Who is expected at a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ListenerKind {
    /// A mail server of our own in front of this one, by LMTP (RFC 2033): what it brings is
    /// taken without sender authentication, so nobody else may reach it.
    Lmtp,
    /// Other mail servers (port 25).
    Mx,
    /// Users after STARTTLS and login (port 587).
    Submission,
    /// Users after login, TLS from the first byte (port 465).
    Submissions,
}

/// Keeping spam out.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SpamSettings {
    /// Who looks at mail from other servers.
    pub engine: SpamEngine,
    /// What the built-in engine goes by.
    pub rules: RuleSettings,
    /// Senders whose mail is taken or kept out, for all tenants.
    pub lists: SenderLists,
    /// What becomes of mail of a blocked sender.
    pub blocked: ScanAction,
    /// How rspamd is asked.
    pub rspamd: RspamdSettings,
    /// What is done when rspamd has no answer.
    pub on_failure: OnScanFailure,
}

/// Who looks at mail from other servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SpamEngine {
    /// Rules whose scores are added up.
    Builtin,
    /// Nobody; `allow` and `block` hold all the same.
    None,
    /// An rspamd server.
    Rspamd,
}

/// What is done when a spam engine has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OnScanFailure {
    /// The built-in engine stands in.
    Builtin,
    /// The message is refused with 451; the sender tries again.
    Tempfail,
}

/// Whether senders are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AuthenticationMode {
    /// No: for servers behind another one that does it.
    Off,
    /// All mail from other servers.
    Verify,
}

/// Files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFiles {
    /// PEM file with the certificate and its chain, the server's own first.
    pub cert: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Reads both files; on failure, which one and why.
    pub(crate) fn read(&self) -> Result<CertificatePair, (PathBuf, io::Error)> {
        let read = |file: &Path| std::fs::read(file).map_err(|error| (file.to_owned(), error));
        Ok(CertificatePair { certificate: read(&self.cert)?, key: Secret::new(read(&self.key)?) })
    }
}

/// REST API and administration.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpSettings {
    /// The address that is listened at.
    pub bind: SocketAddr,
    /// Connections at the same time.
    pub max_connections: u32,
    /// Time for the head of a request.
    pub header_timeout: Duration,
}

/// Who guesses passwords and API keys.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LoginSettings {
    /// Failures of one client with one account.
    pub max_failures: u32,
    /// Failures of one client with any account or API key.
    pub max_failures_per_client: u32,
    /// How long it has to wait then.
    pub lock_time: Duration,
    /// Failures in one SMTP session.
    pub max_failures_per_session: u32,
    /// Wait before the answer to a failure, times their number in the session.
    pub delay: Duration,
    /// Clients that are not limited for all accounts together.
    pub trusted: Vec<IpNetwork>,
}

/// What is known about messages, users and jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DatabaseSettings {
    /// A PostgreSQL server.
    Postgres {
        /// Where it is, as whom to log in, and the name of the database.
        url: Secret<String>,
        /// Connections of this server.
        max_connections: u32,
    },
    /// One SQLite file.
    Sqlite {
        /// The file; made at first start.
        path: PathBuf,
    },
}

/// The bytes of messages.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageSettings {
    /// Files under one folder.
    Fs {
        /// The folder; made at first start.
        base_path: PathBuf,
    },
    /// A bucket.
    S3(Box<S3Settings>),
}

/// Mailboxes of users.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MailboxSettings {
    /// How much a mailbox may hold that has no limit of its own; `None`: no limit.
    pub quota: Option<ByteSize>,
}

/// Finding messages by what they say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SearchSettings {
    /// Whether an index is kept.
    pub enabled: bool,
    /// Whether rows are read while the index does not answer.
    pub fallback: bool,
}

/// The key under which secrets are sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MasterKey {
    /// The configuration names it, and it has been read.
    Given(Secret<[u8; 32]>),
    /// It is kept in this file, and made there at first start: base64 of 32 bytes, for
    /// [`decode_master_key`](super::decode_master_key).
    KeptIn(PathBuf),
}

/// Who may send how much, and to whom nothing is sent.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PolicySettings {
    /// How much users, domains and tenants may send.
    pub limits: SendingLimits,
    /// How submitted mail is looked at for signs of abuse; `None` for not at all.
    pub scoring: Option<Scoring>,
    /// Whether addresses that do not exist come on the suppression list.
    pub suppress_bounced: bool,
}

/// Sending mail to other servers.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeliverySettings {
    /// All outgoing mail goes to this host; `None`: to the mail exchangers of each domain.
    pub relay: Option<Relay>,
    /// What the relay speaks.
    pub relay_protocol: RelayProtocol,
    /// How mail to the relay is encrypted.
    pub relay_tls: RelayTls,
    /// Whom to log in as at the relay.
    pub relay_login: Option<RelayLogin>,
    /// The port of mail exchangers.
    pub mx_port: u16,
    /// Whether mail exchangers and hosts of MTA-STS policies may be at loopback addresses.
    pub allow_loopback: bool,
    /// Whether TLSA records of mail exchangers are obeyed.
    pub dane: bool,
    /// Whether MTA-STS policies are obeyed.
    pub mta_sts: bool,
    /// The port of the hosts that MTA-STS policies come from.
    pub mta_sts_port: u16,
    /// PEM file with certificates of authorities that are believed beside the built-in ones.
    pub tls_roots: Option<PathBuf>,
    /// Addresses of this machine that deliveries come from; empty: the operating system picks one.
    pub source_addresses: Vec<IpAddr>,
    /// Connections to one address of a host at a time.
    pub max_connections_per_host: u32,
    /// Deliveries to one domain within a time.
    pub rate_per_domain: Option<Rate>,
    /// Domains with limits of their own.
    pub domains: Vec<DomainLimit>,
    /// Deliveries at the same time.
    pub workers: u32,
    /// Jobs that are started in the first second after a start or an outage, twice as many in each
    /// further one; 0 for no bound.
    pub ramp_up: u32,
    /// The wait before the second attempt.
    pub retry_first: Duration,
    /// The longest wait between attempts; at least `retry_first`.
    pub retry_max: Duration,
    /// Undelivered mail goes back to its sender after this time.
    pub give_up_after: Duration,
    /// Its sender is told after this time that it is late; zero is never.
    pub delay_notice_after: Duration,
    /// How far ahead the time may lie at which submitted mail is to be sent; zero for none.
    pub max_future_release: Duration,
    /// How long a worker owns a job without renewing its claim.
    pub lease: Duration,
    /// What becomes of a delivery whose end is not known.
    pub in_doubt: InDoubt,
    /// MAIL FROM.
    pub return_path: ReturnPath,
    /// Time to connect to one address.
    pub connect_timeout: Duration,
}

/// A host that takes all outgoing mail.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Relay {
    /// A host name or an IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// What a relay speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RelayProtocol {
    /// LMTP (RFC 2033), as mail stores do: it answers for each recipient.
    Lmtp,
    /// SMTP.
    Smtp,
}

/// How mail to a relay is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RelayTls {
    /// TLS from the first byte (port 465), and the relay must prove that it has the name that is
    /// written here; otherwise mail waits.
    Implicit,
    /// Not at all.
    None,
    /// STARTTLS where the relay offers it, with any certificate.
    Opportunistic,
    /// STARTTLS, and the relay must prove that it has the name that is written here; otherwise mail
    /// waits.
    Starttls,
}

/// What becomes of a delivery whose end is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum InDoubt {
    /// It is held until it is released or cancelled: `mairust queue`.
    Hold,
    /// It is tried again: recipients may get the message twice.
    Resend,
}

/// MAIL FROM of mail to other servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ReturnPath {
    /// The sender, as submitted.
    Sender,
    /// An address of this server for each recipient, `bounces+…` at the sender's domain: a report that comes back
    /// later makes the recipient `bounced`, as a refusal does. The MX of the domain must lead here. Each recipient
    /// gets a transaction of their own.
    Verp,
}

/// Whom to log in as at a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayLogin {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Secret<String>,
}

/// The log.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LogSettings {
    /// How a line looks.
    pub format: LogFormat,
    /// What is written.
    pub level: LogLevel,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LogFormat {
    /// One JSON object a line, for programs.
    Json,
    /// Words, for people.
    Text,
}

/// What is written to the log: this and everything more serious.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LogLevel {
    /// What needs a person.
    Error,
    /// What a person should see some day.
    Warn,
    /// One line for each event of the mail's life.
    Info,
    /// Each step, for finding a fault.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The level's name, as `tracing` reads it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Config {
    /// The defaults for a server of this name that keeps everything in this folder, without a file
    /// and without the environment. All fields may be changed afterwards.
    pub fn new(hostname: Domain, data_dir: &Path) -> Self {
        let mut raw = RawConfig::default();
        raw.server.data_dir = data_dir.to_owned();
        settle(raw, hostname, None)
    }

    /// The keys that signatures of DNS may lead to. Blocks on the file system.
    ///
    /// # Errors
    /// When the file of [`dns_trust_anchors`](Self::dns_trust_anchors) can't be read, or holds something else: which
    /// file, and why.
    pub fn trust_anchors(&self) -> Result<TrustAnchors, String> {
        let anchors = TrustAnchors::built_in();
        let Some(file) = &self.dns_trust_anchors else { return Ok(anchors) };
        let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        anchors.with_records(&text).map_err(|error| format!("{}: {error}", file.display()))
    }
}
