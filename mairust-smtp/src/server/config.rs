//! Settings of a listener.

use std::sync::Arc;
use std::time::Duration;

use mairust_core::Domain;

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
    /// Sessions per listener; when full, a client is greeted with 421. Default 1,000.
    pub max_sessions: usize,
    /// Errors in a session before it is ended with 421. Default 20.
    pub max_errors: u32,
    /// Longest wait for the next bytes of a command or of a message. Default 5 minutes, RFC 5321
    /// §4.5.3.2.7.
    pub idle_timeout: Duration,
    /// Longest time from DATA to its end, however busy. Default 30 minutes.
    pub data_deadline: Duration,
    /// How much of a message stays in memory before it goes to a file. Default 256 KiB.
    pub spool_threshold: usize,
    /// Where the files go. Default: the system's folder for temporary files.
    pub spool_dir: std::path::PathBuf,
    /// Certificates and TLS settings; without it STARTTLS and with it AUTH are not offered.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl ServerConfig {
    /// The defaults, under this host name.
    pub fn new(hostname: Domain) -> Self {
        Self {
            hostname,
            max_message_size: 25 << 20,
            max_recipients: 100,
            max_sessions: 1_000,
            max_errors: 20,
            idle_timeout: Duration::from_secs(300),
            data_deadline: Duration::from_secs(1_800),
            spool_threshold: 256 << 10,
            spool_dir: std::env::temp_dir(),
            tls: None,
        }
    }
}
