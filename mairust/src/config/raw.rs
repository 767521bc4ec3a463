//! The configuration as it is written: serde structs that are also the source of the JSON schema,
//! the annotated example and the reference. The doc comments are what operators read there.
//!
//! A key without a default is an `Option`; no struct is flattened, since that would switch off the
//! refusal of unknown keys.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use mairust_core::{ByteSize, Domain, EmailAddress, IpNetwork, Rate, Secret};
use mairust_store::S3Settings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::delivery::RawDelivery;
use super::hooks::RawHooks;
use super::model::{AuthenticationMode, EarlyTalkers, ListenerKind, LogFormat, LogLevel, ProxyProtocol};
use super::policy::{RawException, RawPolicy};
use super::s3::{RawAddressing, RawEncryption};
use super::secret::SecretRef;
use super::spam::{RawRule, RawSpam, example_password};
use super::text::{AddressText, DurationText, EmailText, HostText, NetworkText, RateText, SecretText, SizeText, Text};
use crate::{Authentication, CrossTenant, Enforcement};

/// Configuration of the MaiRust mail server.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawConfig {
    /// Who this server is, and where it keeps things.
    pub(super) server: RawServer,
    /// Receiving mail.
    pub(super) smtp: RawSmtp,
    /// Keeping spam out: a look at each message from other servers, before it is taken.
    pub(super) spam: RawSpam,
    /// Who mail from other servers really comes from: SPF, DKIM, DMARC and ARC. The results stand in
    /// the header field `Authentication-Results`.
    pub(super) authentication: RawAuthentication,
    /// DNS, for deliveries and about senders.
    pub(super) dns: RawDns,
    /// Certificate of this server. Without one, a self-signed certificate is made at start: other
    /// servers accept it, mail programs of users ask.
    pub(super) tls: RawTls,
    /// Who guesses passwords and API keys. The limits hold for SMTP and the REST API together. A
    /// client is an IPv4 address or an IPv6 /64.
    pub(super) login: RawLogin,
    /// REST API and administration.
    pub(super) http: RawHttp,
    /// What is known about messages, users and jobs.
    pub(super) database: RawDatabase,
    /// The bytes of messages.
    pub(super) storage: RawStorage,
    /// Mailboxes of users.
    pub(super) mailboxes: RawMailboxes,
    /// Finding messages by what they say.
    pub(super) search: RawSearch,
    /// Asking programs elsewhere about mail: `mairust hook add`.
    pub(super) hooks: RawHooks,
    /// Telling programs elsewhere what happens, by HTTP: `mairust webhook add`.
    pub(super) webhooks: RawWebhooks,
    /// Secrets. Each may be `env:NAME`, `file:/path`, or the secret itself with at least 32
    /// characters.
    pub(super) secrets: RawSecrets,
    /// Who may send how much: users by SMTP, and applications by the REST API. Mail from other servers does not count.
    pub(super) policy: RawPolicy,
    /// Sending mail to other servers.
    pub(super) delivery: RawDelivery,
    /// The log.
    pub(super) log: RawLog,
    /// How long things are kept.
    pub(super) retention: RawRetention,
    /// Stopping the server.
    pub(super) shutdown: RawShutdown,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawServer {
    /// The public host name of this server, in greetings and `Received` fields. Required: other
    /// servers look it up, and no guess would be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hostname: Option<HostText>,
    /// The folder for everything that is kept. Default: the place of the Linux file hierarchy.
    #[schemars(length(min = 1))]
    pub(super) data_dir: PathBuf,
    /// An address of this server whose owner gets mail to `postmaster`, which every server has to
    /// take, where nobody has that address. Without it: the user of the domain's tenant who was added first, or the one of the tenant
    /// `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) postmaster: Option<EmailText>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawSmtp {
    /// The addresses that are listened at. Default: the three ports of a mail server, IPv4.
    pub(super) listeners: Vec<RawListener>,
    /// The largest message that is accepted, at least 64KiB (RFC 5321 section 4.5.3.1.7). The
    /// default is what the large mail services accept.
    pub(super) max_message_size: SizeText,
    /// Recipients per message. The default is what RFC 5321 section 4.5.3.1.8 asks for.
    #[schemars(range(min = 1))]
    pub(super) max_recipients: u32,
    /// What becomes of a message from another server for recipients of several tenants. By LMTP each recipient is
    /// answered for itself, and this says nothing.
    pub(super) cross_tenant: CrossTenant,
    /// Time for a whole command line, however slowly it comes, for a reply to be taken, and for the
    /// next bytes of a message. The default is what RFC 5321 section 4.5.3.2.7 asks for.
    pub(super) idle_timeout: DurationText,
    /// What sessions and clients may do.
    pub(super) limits: RawSmtpLimits,
    /// Networks of proxies, whose headers of the PROXY protocol are believed on listeners that
    /// require one.
    pub(super) proxies: Vec<NetworkText>,
    /// Networks of gateways that may name another client by XCLIENT.
    pub(super) xclient_from: Vec<NetworkText>,
}

/// What sessions and clients may do. A client is an IPv4 address or an IPv6 /64. Who comes in spite
/// of a limit of sessions or connections is told to come back (421).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawSmtpLimits {
    /// Sessions of all listeners at the same time. The default is far above what a small server
    /// sees; each takes a file, so the limit of open files must be above this and
    /// `http.max_connections` together.
    #[schemars(range(min = 1))]
    pub(super) max_sessions: u32,
    /// Sessions of one listener. Less than all, so that who fills one leaves room on the others.
    #[schemars(range(min = 1))]
    pub(super) max_sessions_per_listener: u32,
    /// Sessions of one client. The default is that of Postfix.
    #[schemars(range(min = 1))]
    pub(super) max_sessions_per_client: u32,
    /// Sessions of an IPv4 /24 or an IPv6 /64. The default is room for the farms of large senders.
    #[schemars(range(min = 1))]
    pub(super) max_sessions_per_network: u32,
    /// Connections of one client. The default is above what a server does that keeps its
    /// connections.
    pub(super) connection_rate: RateText,
    /// Messages of one client; further ones get 450. The default is ten a second.
    pub(super) message_rate: RateText,
    /// Recipients of one client, accepted or not; further ones get 450. The default is ten for each
    /// message; who tries out addresses needs more.
    pub(super) recipient_rate: RateText,
    /// Clients to whom only `max_sessions` and `max_sessions_per_listener` apply, and who are greeted
    /// at once. Default: this machine.
    pub(super) trusted: Vec<NetworkText>,
    /// Messages (MAIL commands) in a session; then 421. The default is that of Exim.
    #[schemars(range(min = 1))]
    pub(super) max_messages: u32,
    /// Commands in a session since its last message; then 421. The default is enough for all
    /// recipients that may be tried.
    #[schemars(range(min = 10))]
    pub(super) max_commands: u32,
    /// Errors in a session; then 421. The default is that of Postfix.
    #[schemars(range(min = 1))]
    pub(super) max_errors: u32,
    /// Wait before the greeting on listeners of the kind `mx`, to find clients that don't wait for
    /// it: mostly malware. `0s` for none. The default is short: such a program does not wait at all,
    /// and a mail server waits for minutes.
    pub(super) greeting_delay: DurationText,
    /// What is done to clients that speak before they are greeted. RFC 5321 section 4.3.1
    /// wants clients to wait.
    pub(super) early_talkers: EarlyTalkers,
    /// Time for a TLS handshake, and for the header of the PROXY protocol. No client has to think
    /// about them.
    pub(super) handshake_timeout: DurationText,
    /// Time for a whole message, however busy. The default lets 25MiB through at 120 kbit/s.
    pub(super) data_deadline: DurationText,
}

/// An address that SMTP is spoken at.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListener {
    /// IP address and port. Quote IPv6: `"[::]:25"`. Port 0 takes any free one.
    pub(super) bind: AddressText,
    /// Who is expected there.
    pub(super) kind: ListenerKind,
    /// Whether connections come through a proxy. Without it: `never`.
    #[serde(default)]
    pub(super) proxy_protocol: ProxyProtocol,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawAuthentication {
    /// Whether senders are verified.
    pub(super) mode: AuthenticationMode,
    /// The name that results are told under. Without it: `server.hostname`. Servers that share
    /// mailboxes may share a name; what strangers write under it is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) authserv_id: Option<HostText>,
    /// Time for all questions to DNS about one message, at least 100ms. What is not answered then
    /// is a temporary error, never a failure. The default lets slow name servers answer.
    pub(super) timeout: DurationText,
    /// What is done when DMARC fails and the domain of From asks to refuse. The default keeps what
    /// mailing lists and forwarding have broken.
    pub(super) dmarc_reject: Enforcement,
    /// What is done when DMARC fails and the domain of From asks for quarantine.
    pub(super) dmarc_quarantine: Enforcement,
    /// What is done when SPF fails and DMARC does not pass. The default lets forwarded mail pass.
    pub(super) spf_fail: Enforcement,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawDns {
    /// Name servers, as IP address and port. Default: those of the operating system.
    pub(super) servers: Vec<AddressText>,
    /// File with DNSKEY records, as in a zone file, which signatures may lead to beside the keys of the root. Of a zone
    /// other than the root, all keys have to be there. Needs `delivery.dane`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trust_anchors: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawTls {
    /// PEM file with the certificate and its chain, the server's own first. Needs `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub(super) cert: Option<PathBuf>,
    /// PEM file with the private key. Needs `cert`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub(super) key: Option<PathBuf>,
    /// Further certificates. A client gets the one that is valid for the name it asks for (SNI),
    /// or else the first. All files are read again on SIGHUP, and within a minute after they
    /// change; sessions go on meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) additional: Option<Vec<RawCertificate>>,
}

/// A certificate and its key.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCertificate {
    /// PEM file with the certificate and its chain.
    #[schemars(length(min = 1))]
    pub(super) cert: PathBuf,
    /// PEM file with the private key.
    #[schemars(length(min = 1))]
    pub(super) key: PathBuf,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawHttp {
    /// IP address and port. The default is reachable from this machine only: put a reverse proxy
    /// with TLS in front.
    pub(super) bind: AddressText,
    /// Connections at the same time; further ones wait. Each takes a file.
    #[schemars(range(min = 1))]
    pub(super) max_connections: u32,
    /// Time for the head of a request, and for the next request on a connection; then the
    /// connection is closed.
    pub(super) header_timeout: DurationText,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLogin {
    /// Failures of one client with one account within `lock_time`; then the account is locked for
    /// this client, and for no other.
    #[schemars(range(min = 1))]
    pub(super) max_failures: u32,
    /// Failures of one client with any account or API key within `lock_time`; then the client is
    /// locked for all. The default is room for the mistakes of an office behind one address.
    #[schemars(range(min = 1))]
    pub(super) max_failures_per_client: u32,
    /// How long a lock holds. While it does, passwords and API keys are not even looked at.
    pub(super) lock_time: DurationText,
    /// Failures in an SMTP session; then 421.
    #[schemars(range(min = 1))]
    pub(super) max_failures_per_session: u32,
    /// Wait before the answer to a failure in an SMTP session, times their number.
    pub(super) delay: DurationText,
    /// Clients to whom `max_failures_per_client` does not apply: hosts behind which there are many
    /// people, such as a webmail or the reverse proxy of the REST API. Default: this machine.
    pub(super) trusted: Vec<NetworkText>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawDatabase {
    /// The kind of database.
    pub(super) backend: RawDatabaseBackend,
    /// SQLite: the database file. Without it: `mairust.db` in `server.data_dir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub(super) path: Option<PathBuf>,
    /// PostgreSQL: `postgres://user:password@host:port/database`, or where that is kept. The role
    /// owns its tables and should be no superuser.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<SecretText>,
    /// PostgreSQL: connections of this server.
    #[schemars(range(min = 4))]
    pub(super) max_connections: u32,
    /// How long to wait for the database before a message is answered 451, and a request 503.
    pub(super) timeout: DurationText,
}

/// The kind of database.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawDatabaseBackend {
    /// A PostgreSQL server, 14 or newer.
    Postgres,
    /// One SQLite file.
    Sqlite,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawStorage {
    /// The kind of storage.
    pub(super) backend: RawStorageBackend,
    /// Settings of the backend.
    pub(super) options: RawStorageOptions,
    /// What a message survives once it was answered 250, of messages and of the database.
    pub(super) durability: RawDurability,
    /// What is done with messages while the storage is down: they are refused with 451, or kept in
    /// the database as long as there is room.
    pub(super) when_bodies_down: RawWhenBodiesDown,
    /// Messages up to this size are accepted into the database, where one sync to disk is enough for
    /// many of them, and moved to the storage afterwards. Larger ones go there first.
    pub(super) spool_message: SizeText,
    /// When messages of this size in all wait in the database, no more are accepted.
    pub(super) spool_max: SizeText,
    /// What must be free on the disks of the database file and of messages in files. With less, mail
    /// is answered 452, the API takes no mail, and none is sent, until there is room again. `0B` takes
    /// mail as long as anything fits. The default leaves room to accept what is on its way, and to
    /// tidy up.
    pub(super) min_free: SizeText,
    /// How many files it must be possible to make on those disks (inodes); 0 for any number.
    pub(super) min_free_files: u32,
    /// Whether messages are encrypted (AES-256-GCM) before they are written, so that whoever keeps
    /// the files can't read them. What was written before stays as it is, and stays readable, also
    /// after this is turned off. They go to the storage first, whatever `spool_message` says. The
    /// database holds subjects, addresses and the beginnings of texts all the same, and with
    /// `search.enabled` the words of texts.
    pub(super) client_side_encryption: bool,
}

/// What is done with messages while the storage is down.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawWhenBodiesDown {
    /// They are refused with 451.
    Refuse,
    /// They are kept in the database.
    Spool,
}

/// What an accepted message survives.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawDurability {
    /// Crashes; a loss of power may undo the last moments.
    CrashSafe,
    /// A loss of power: everything is synced to disk before the answer.
    PowerSafe,
    /// A proper stop, and nothing else: for tests.
    Relaxed,
}

/// The kind of storage.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawStorageBackend {
    /// Files under one folder.
    Fs,
    /// A bucket of AWS S3, or of a server that speaks its protocol: MinIO, Garage, Ceph, SeaweedFS.
    S3,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawStorageOptions {
    /// Files: the folder of the messages. Without it: `mail` in `server.data_dir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub(super) base_path: Option<PathBuf>,
    /// S3: the bucket. It must exist; its keys need to read, write, delete and list.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "mairust-text"))]
    pub(super) bucket: Option<String>,
    /// S3: the region that requests are signed for. Servers other than AWS mostly take the default.
    #[schemars(extend("format" = "mairust-text"))]
    pub(super) region: String,
    /// S3: the URL of the server. Without it: AWS. With `http://`, messages cross the network as they
    /// are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "mairust-text"))]
    pub(super) endpoint: Option<String>,
    /// S3: where the bucket stands in a URL.
    pub(super) addressing: RawAddressing,
    /// S3: stands before the keys of all messages, so that a bucket can be shared.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "mairust-text"))]
    pub(super) prefix: Option<String>,
    /// S3: the id of the key of access, as `env:NAME` or `file:/path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) access_key_id: Option<SecretText>,
    /// S3: the key of access.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret_access_key: Option<SecretText>,
    /// S3: the token that belongs to keys which hold for a while only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session_token: Option<SecretText>,
    /// S3: how the server encrypts what it keeps. Not every server can: `none` then.
    pub(super) encryption: RawEncryption,
    /// S3: the key for `sse-kms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "mairust-text"))]
    pub(super) kms_key_id: Option<String>,
    /// S3: larger messages are written in parts; 5MiB to 64MiB.
    pub(super) multipart_threshold: SizeText,
    /// S3: size of a part; 5MiB to 64MiB. Up to eight of the default size are in memory.
    pub(super) multipart_chunk: SizeText,
    /// S3: time for one attempt at a request.
    pub(super) request_timeout: DurationText,
    /// S3: how often a request is tried again.
    pub(super) max_retries: u32,
    /// S3: time for a request with all its attempts; then a message is answered 451, and a request
    /// for a message 503.
    pub(super) deadline: DurationText,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawMailboxes {
    /// How much a mailbox may hold; `mairust user set-quota` gives one a limit of its own. A full
    /// mailbox is said at RCPT TO, so messages that are on their way just then still come in.
    /// Without it: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) quota: Option<SizeText>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawSearch {
    /// Whether an index is kept: beside an SQLite file with `-search` behind its name, or in PostgreSQL.
    /// It takes about as much room as the texts of the messages. When it is switched on again, all
    /// messages are indexed.
    pub(super) enabled: bool,
    /// Whether a search reads rows while the index does not answer, the newest first and of the texts
    /// only their beginnings; the answer says so (`degraded`). Default: it answers 503.
    pub(super) fallback: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawWebhooks {
    /// Whether webhooks may be at private addresses: this machine, networks of one's own, neighbours on the link;
    /// there also without TLS. Whoever may make webhooks can then reach what this server can reach.
    pub(super) allow_private_addresses: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawSecrets {
    /// The key under which secrets are sealed, the one of API keys among them: base64 of 32 bytes,
    /// from `openssl rand -base64 32`. Without it, one is made at first start and kept in
    /// `master.key` in `server.data_dir`. Keep a copy: without it, no API key works any more, and
    /// encrypted messages can't be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) master_key: Option<SecretText>,
    /// Keys that were `master_key` before. What is sealed under them can still be opened, until
    /// `mairust keys rotate` has sealed all of it under the present one.
    pub(super) former_master_keys: Vec<SecretText>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRetention {
    /// Days for which entries of the audit log are kept.
    #[schemars(range(min = 1))]
    pub(super) audit_days: u32,
    /// Days for which deleted messages can be restored, before they are removed for good; 0 removes them
    /// within a minute. Tenants may have a number of their own: `mairust tenant set`.
    #[schemars(range(max = 36500))]
    pub(super) deleted_messages_days: u32,
    /// Days for which events are kept, and what became of telling webhooks of them. At least 3: so long a webhook is
    /// tried.
    #[schemars(range(min = 3, max = 36500))]
    pub(super) events_days: u32,
    /// Days for which it is kept what calls of hooks came to: `mairust hook explain`.
    #[schemars(range(min = 1, max = 36500))]
    pub(super) hook_calls_days: u32,
    /// Days for which DKIM keys are kept that sign no more. Their records should stay published as long:
    /// mail may be on its way that they have signed.
    #[schemars(range(max = 36500))]
    pub(super) retired_dkim_keys_days: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLog {
    /// How a line looks. The default suits log collectors.
    pub(super) format: LogFormat,
    /// What is written: this and everything more serious.
    pub(super) level: LogLevel,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawShutdown {
    /// Time for sessions and deliveries under way when the server is told to stop. The default is
    /// what service managers wait.
    pub(super) drain: DurationText,
}

impl RawConfig {
    /// A value for every key, defaults where there are some: for the example and the reference.
    pub(super) fn example() -> Self {
        let mut raw = Self::default();
        raw.server.hostname = Domain::parse("mail.example.com").ok().map(Text);
        raw.spam.rules = Some(RawRule::examples());
        raw.spam.rspamd.password = Some(example_password());
        raw.server.postmaster = EmailAddress::parse("admin@example.com").ok().map(Text);
        raw.mailboxes.quota = Some(Text(ByteSize(5 << 30)));
        raw.authentication.authserv_id = raw.server.hostname.clone();
        raw.tls.cert = Some("/etc/mairust/tls/fullchain.pem".into());
        raw.tls.key = Some("/etc/mairust/tls/privkey.pem".into());
        raw.tls.additional = Some(vec![RawCertificate {
            cert: "/etc/mairust/tls/other.pem".into(),
            key: "/etc/mairust/tls/other.key".into(),
        }]);
        raw.database.path = Some(raw.server.data_dir.join("mairust.db"));
        raw.database.url = Some(Text(SecretRef::Environment("MAIRUST_DATABASE_URL".to_owned())));
        raw.storage.options = RawStorageOptions::example(raw.server.data_dir.join("mail"));
        raw.secrets.master_key = Some(Text(SecretRef::File("/etc/mairust/master.key".into())));
        raw.policy.exceptions = EmailAddress::parse("newsletter@example.com")
            .ok()
            .map(|address| vec![RawException::example(Text(address))]);
        raw.policy.patterns = Some(vec!["your mailbox is almost full".to_owned()]);
        raw.dns.trust_anchors = Some("/etc/mairust/trust-anchors".into());
        raw.delivery = RawDelivery::example();
        raw
    }
}

impl RawStorageOptions {
    fn example(base_path: PathBuf) -> Self {
        let variable = |name: &str| Some(Text(SecretRef::Environment(name.to_owned())));
        Self {
            base_path: Some(base_path),
            bucket: Some("mail".to_owned()),
            endpoint: Some("https://s3.example.com".to_owned()),
            prefix: Some("mairust".to_owned()),
            access_key_id: variable("AWS_ACCESS_KEY_ID"),
            secret_access_key: variable("AWS_SECRET_ACCESS_KEY"),
            session_token: variable("AWS_SESSION_TOKEN"),
            kms_key_id: Some("alias/mail".to_owned()),
            ..Self::default()
        }
    }
}

impl Default for RawSearch {
    fn default() -> Self {
        Self { enabled: true, fallback: false }
    }
}

impl Default for RawServer {
    fn default() -> Self {
        Self { hostname: None, data_dir: "/var/lib/mairust".into(), postmaster: None }
    }
}

impl Default for RawSmtp {
    fn default() -> Self {
        let listener = |port, kind| RawListener {
            bind: Text(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
            kind,
            proxy_protocol: ProxyProtocol::Never,
        };
        Self {
            listeners: vec![
                listener(25, ListenerKind::Mx),
                listener(587, ListenerKind::Submission),
                listener(465, ListenerKind::Submissions),
            ],
            max_message_size: Text(ByteSize(25 << 20)),
            max_recipients: 100,
            cross_tenant: CrossTenant::Defer,
            idle_timeout: minutes(5),
            limits: RawSmtpLimits::default(),
            proxies: Vec::new(),
            xclient_from: Vec::new(),
        }
    }
}

impl Default for RawSmtpLimits {
    fn default() -> Self {
        let a_minute = |count| Text(Some(Rate::new(count, Duration::from_secs(60))));
        Self {
            max_sessions: 1500,
            max_sessions_per_listener: 1000,
            max_sessions_per_client: 50,
            max_sessions_per_network: 100,
            connection_rate: a_minute(300),
            message_rate: a_minute(600),
            recipient_rate: a_minute(6000),
            trusted: this_machine(),
            max_messages: 1000,
            max_commands: 2000,
            max_errors: 20,
            greeting_delay: seconds(1),
            early_talkers: EarlyTalkers::Refuse,
            handshake_timeout: seconds(30),
            data_deadline: minutes(30),
        }
    }
}

impl Default for RawLogin {
    fn default() -> Self {
        Self {
            max_failures: 5,
            max_failures_per_client: 50,
            lock_time: minutes(15),
            max_failures_per_session: 3,
            delay: seconds(1),
            trusted: this_machine(),
        }
    }
}

impl Default for RawAuthentication {
    fn default() -> Self {
        let Authentication { timeout, dmarc_reject, dmarc_quarantine, spf_fail, .. } = Authentication::default();
        let mode = AuthenticationMode::Verify;
        Self { mode, authserv_id: None, timeout: Text(timeout), dmarc_reject, dmarc_quarantine, spf_fail }
    }
}

impl Default for RawHttp {
    fn default() -> Self {
        Self {
            bind: Text(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))),
            max_connections: 500,
            header_timeout: seconds(10),
        }
    }
}

impl Default for RawDatabase {
    fn default() -> Self {
        Self { backend: RawDatabaseBackend::Sqlite, path: None, url: None, max_connections: 20, timeout: seconds(10) }
    }
}

impl Default for RawStorage {
    fn default() -> Self {
        Self {
            backend: RawStorageBackend::Fs,
            options: RawStorageOptions::default(),
            durability: RawDurability::PowerSafe,
            when_bodies_down: RawWhenBodiesDown::Refuse,
            spool_message: Text(ByteSize(256 << 10)),
            spool_max: Text(ByteSize(1 << 30)),
            min_free: Text(ByteSize(256 << 20)),
            min_free_files: 1_000,
            client_side_encryption: false,
        }
    }
}

impl Default for RawStorageOptions {
    fn default() -> Self {
        let s3 = S3Settings::new("", Secret::default(), Secret::default());
        Self {
            base_path: None,
            bucket: None,
            region: s3.region,
            endpoint: None,
            addressing: RawAddressing::default(),
            prefix: None,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            encryption: RawEncryption::default(),
            kms_key_id: None,
            multipart_threshold: Text(s3.multipart_threshold),
            multipart_chunk: Text(s3.multipart_chunk),
            request_timeout: Text(s3.request_timeout),
            max_retries: s3.max_retries,
            deadline: Text(s3.deadline),
        }
    }
}

impl Default for RawLog {
    fn default() -> Self {
        Self { format: LogFormat::Json, level: LogLevel::Info }
    }
}

impl Default for RawRetention {
    fn default() -> Self {
        Self {
            audit_days: 180,
            deleted_messages_days: 30,
            events_days: 30,
            hook_calls_days: 30,
            retired_dkim_keys_days: 7,
        }
    }
}

impl Default for RawShutdown {
    fn default() -> Self {
        Self { drain: seconds(30) }
    }
}

fn this_machine() -> Vec<NetworkText> {
    vec![Text(IpNetwork::of(Ipv4Addr::LOCALHOST.into(), 8)), Text(IpNetwork::of(Ipv6Addr::LOCALHOST.into(), 128))]
}

pub(super) fn seconds(count: u64) -> DurationText {
    Text(Duration::from_secs(count))
}

pub(super) fn minutes(count: u64) -> DurationText {
    seconds(count * 60)
}
