//! How a bucket is reached.

use std::path::PathBuf;
use std::time::Duration;

use mairust_core::{ByteSize, Secret};

/// How a bucket is reached, and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct S3Settings {
    /// The bucket. It must exist.
    pub bucket: String,
    /// The region that requests are signed for. Default `us-east-1`, which servers other than AWS
    /// take mostly.
    pub region: String,
    /// The URL of the server, for example `https://s3.example.com:9000`. Default: AWS. With
    /// `http://`, messages cross the network as they are; keys do not.
    pub endpoint: Option<String>,
    /// Where the bucket stands in a URL.
    pub addressing: S3Addressing,
    /// Stands before each key, without `/` at its ends, so that a bucket can be shared. Default:
    /// nothing.
    pub prefix: Option<String>,
    /// Who asks.
    pub access_key_id: Secret<String>,
    /// What requests are signed with.
    pub secret_access_key: Secret<String>,
    /// Belongs to keys that hold for a while only.
    pub session_token: Option<Secret<String>>,
    /// How the server encrypts what it keeps. Default [`S3Encryption::SseS3`].
    pub encryption: S3Encryption,
    /// From this size on an object is written in parts. Default 8 MiB.
    pub multipart_threshold: ByteSize,
    /// Size of a part; objects of more than 10,000 of them have larger ones. Default 8 MiB.
    pub multipart_chunk: ByteSize,
    /// Time for one attempt at a request, from connecting to the answer, and for each further piece
    /// of an answer. Default 10 s.
    pub request_timeout: Duration,
    /// How often a request is tried again that the server could not take. Default 3 times.
    pub max_retries: u32,
    /// Time for a request with all its attempts; a small object is kept, or has failed, by then.
    /// Default 20 s.
    pub deadline: Duration,
    /// Where objects above 1 MiB are while they are read, in files without names. Default: the
    /// folder of the system for temporary files.
    pub spool_dir: PathBuf,
}

/// Where the bucket stands in a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum S3Addressing {
    /// `https://server/bucket/key`: all servers take it.
    #[default]
    Path,
    /// `https://bucket.server/key`.
    VirtualHost,
}

/// How the server encrypts what it keeps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum S3Encryption {
    /// As the bucket is set up.
    None,
    /// With a key of the key management service.
    SseKms {
        /// Which one.
        key_id: String,
    },
    /// With keys of the server's own.
    #[default]
    SseS3,
}

/// Why settings can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum S3SettingsError {
    /// A bucket has another form.
    #[error("a bucket is named by 3 to 63 lower case letters, digits, hyphens and dots")]
    Bucket,
    /// Parts would be refused, or would not fit into memory.
    #[error("a part has from 5MiB to 64MiB")]
    Chunk,
    /// A key of access is empty, or can't stand in a header field.
    #[error("a key of access is printable ASCII text")]
    Credentials,
    /// All attempts together have less time than one of them.
    #[error("the deadline is at least the time for one request")]
    Deadline,
    /// The URL has another form.
    #[error("write the URL of a server, for example https://s3.example.com")]
    Endpoint,
    /// The key is missing, or can't stand in a header field.
    #[error("SSE-KMS needs the id of a key")]
    KmsKey,
    /// A prefix has another form.
    #[error("a prefix is made of letters, digits and -._ in parts divided by /")]
    Prefix,
    /// A region has another form.
    #[error("a region is named by lower case letters, digits and hyphens")]
    Region,
    /// No request can be answered in so little time.
    #[error("a request has at least 100ms")]
    RequestTimeout,
    /// An object would be too large to be written at once.
    #[error("the threshold is from 5MiB to 64MiB")]
    Threshold,
}

/// S3 refuses smaller parts, except for the last one.
const SMALLEST_PART: u64 = 5 << 20;
/// What is written at once is in memory.
const LARGEST_PART: u64 = 64 << 20;

impl S3Settings {
    /// The defaults for a bucket of AWS.
    pub fn new(bucket: impl Into<String>, access_key_id: Secret<String>, secret_access_key: Secret<String>) -> Self {
        Self {
            bucket: bucket.into(),
            region: "us-east-1".to_owned(),
            endpoint: None,
            addressing: S3Addressing::default(),
            prefix: None,
            access_key_id,
            secret_access_key,
            session_token: None,
            encryption: S3Encryption::default(),
            multipart_threshold: ByteSize(8 << 20),
            multipart_chunk: ByteSize(8 << 20),
            request_timeout: Duration::from_secs(10),
            max_retries: 3,
            deadline: Duration::from_secs(20),
            spool_dir: std::env::temp_dir(),
        }
    }

    /// What is wrong with the settings, as far as it shows without asking the server.
    pub fn faults(&self) -> Vec<S3SettingsError> {
        let in_bounds = |size: ByteSize| (SMALLEST_PART..=LARGEST_PART).contains(&size.0);
        let credentials = [&self.access_key_id, &self.secret_access_key].into_iter().chain(&self.session_token);
        let rules = [
            (is_bucket(&self.bucket), S3SettingsError::Bucket),
            (is_name(&self.region, b"-"), S3SettingsError::Region),
            (self.endpoint.as_deref().is_none_or(is_endpoint), S3SettingsError::Endpoint),
            (self.prefix.as_deref().is_none_or(is_prefix), S3SettingsError::Prefix),
            (credentials.map(Secret::expose).all(|text| is_visible(text)), S3SettingsError::Credentials),
            (self.encryption.is_complete(), S3SettingsError::KmsKey),
            (in_bounds(self.multipart_threshold), S3SettingsError::Threshold),
            (in_bounds(self.multipart_chunk), S3SettingsError::Chunk),
            (self.request_timeout >= Duration::from_millis(100), S3SettingsError::RequestTimeout),
            (self.deadline >= self.request_timeout, S3SettingsError::Deadline),
        ];
        rules.into_iter().filter(|(is_kept, _)| !is_kept).map(|(_, fault)| fault).collect()
    }

    /// The place of a key in the bucket.
    pub(super) fn place(&self, key: &str) -> String {
        match &self.prefix {
            Some(prefix) => format!("{prefix}/{key}"),
            None => key.to_owned(),
        }
    }

    /// The URL of the bucket's server, as the client wants it for this addressing.
    pub(super) fn server(&self) -> Option<String> {
        let endpoint = self.endpoint.as_deref()?.trim_end_matches('/');
        match (self.addressing, endpoint.split_once("://")) {
            (S3Addressing::VirtualHost, Some((scheme, host))) => Some(format!("{scheme}://{}.{host}", self.bucket)),
            _ => Some(endpoint.to_owned()),
        }
    }
}

impl S3Encryption {
    fn is_complete(&self) -> bool {
        match self {
            Self::SseKms { key_id } => is_visible(key_id),
            Self::None | Self::SseS3 => true,
        }
    }
}

impl S3SettingsError {
    /// The name of the setting that is wrong.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Bucket => "bucket",
            Self::Chunk => "multipart_chunk",
            Self::Credentials => "secret_access_key",
            Self::Deadline => "deadline",
            Self::Endpoint => "endpoint",
            Self::KmsKey => "kms_key_id",
            Self::Prefix => "prefix",
            Self::Region => "region",
            Self::RequestTimeout => "request_timeout",
            Self::Threshold => "multipart_threshold",
        }
    }
}

fn is_bucket(text: &str) -> bool {
    (3..=63).contains(&text.len())
        && is_name(text, b"-.")
        && !text.starts_with(['-', '.'])
        && !text.ends_with(['-', '.'])
}

fn is_name(text: &str, marks: &[u8]) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || marks.contains(&byte))
}

fn is_endpoint(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let Some(server) = rest.map(|rest| rest.strip_suffix('/').unwrap_or(rest)) else { return false };
    let is_server = |text: &str| !text.bytes().any(|byte| matches!(byte, b'/' | b'?' | b'#' | b'@' | b'\\'));
    let authority: Result<http::uri::Authority, _> = server.parse();
    is_server(server) && authority.is_ok_and(|authority| !authority.host().is_empty())
}

fn is_prefix(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.bytes().all(|byte| byte == b'.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    text.split('/').all(is_part)
}

fn is_visible(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> S3Settings {
        S3Settings::new("mail", Secret::new("id".to_owned()), Secret::new("hunter2".to_owned()))
    }

    fn with(change: impl FnOnce(&mut S3Settings)) -> Vec<S3SettingsError> {
        let mut settings = settings();
        change(&mut settings);
        settings.faults()
    }

    #[test]
    fn what_can_not_work_is_refused() {
        assert_eq!(settings().faults(), []);
        for bucket in ["", "ab", "Mail", "-ail", "mail.", "ma/il", &"m".repeat(64)] {
            assert_eq!(with(|it| it.bucket = bucket.to_owned()), [S3SettingsError::Bucket], "{bucket}");
        }
        for endpoint in ["", "s3", "ftp://a", "https://", "https://a/b", "https://a?b", "https://u:p@a", "http://a b"] {
            assert_eq!(with(|it| it.endpoint = Some(endpoint.to_owned())), [S3SettingsError::Endpoint], "{endpoint}");
        }
        for endpoint in ["http://127.0.0.1:8333", "https://s3.example.com/", "https://[::1]:9000"] {
            assert_eq!(with(|it| it.endpoint = Some(endpoint.to_owned())), [], "{endpoint}");
        }
        for prefix in ["", "/a", "a/", "a//b", "../a", "a b", "ü"] {
            assert_eq!(with(|it| it.prefix = Some(prefix.to_owned())), [S3SettingsError::Prefix], "{prefix}");
        }
        assert_eq!(with(|it| it.region = String::new()), [S3SettingsError::Region]);
        assert_eq!(with(|it| it.access_key_id = Secret::default()), [S3SettingsError::Credentials]);
        assert_eq!(with(|it| it.session_token = Some(Secret::new("a\nb".into()))), [S3SettingsError::Credentials]);
        let nameless = S3Encryption::SseKms { key_id: String::new() };
        assert_eq!(with(|it| it.encryption = nameless), [S3SettingsError::KmsKey]);
        assert_eq!(with(|it| it.multipart_chunk.0 = 5 << 19), [S3SettingsError::Chunk]);
        assert_eq!(with(|it| it.multipart_threshold.0 = 5 << 30), [S3SettingsError::Threshold]);
        assert_eq!(with(|it| it.request_timeout = Duration::ZERO), [S3SettingsError::RequestTimeout]);
        assert_eq!(with(|it| it.deadline = Duration::from_secs(1)), [S3SettingsError::Deadline]);
    }

    #[test]
    fn keys_do_not_show() {
        let shown = format!("{:?}", settings());
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_virtual_host_is_named_like_the_bucket() {
        let mut settings = settings();
        assert_eq!(settings.server(), None);
        settings.endpoint = Some("https://s3.example.com:9000/".to_owned());
        assert_eq!(settings.server().as_deref(), Some("https://s3.example.com:9000"));
        settings.addressing = S3Addressing::VirtualHost;
        assert_eq!(settings.server().as_deref(), Some("https://mail.s3.example.com:9000"));
    }
}
