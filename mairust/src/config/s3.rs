//! Storage in S3: the words of the configuration, and what they mean to the store.

use std::net::IpAddr;

use mairust_core::Secret;
use mairust_store::{S3Addressing, S3Encryption, S3Settings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::raw::RawStorageOptions;

/// Where the bucket stands in a URL.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawAddressing {
    /// `https://server/bucket/key`.
    #[default]
    Path,
    /// `https://bucket.server/key`.
    VirtualHost,
}

/// How the server encrypts what it keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawEncryption {
    /// As the bucket is set up.
    None,
    /// With `kms_key_id`, a key of the key management service.
    SseKms,
    /// With keys of the server's own.
    #[default]
    SseS3,
}

/// The keys of access, fetched.
pub(super) struct Keys {
    pub(super) access_key_id: Secret<String>,
    pub(super) secret_access_key: Secret<String>,
    pub(super) session_token: Option<Secret<String>>,
}

/// The settings of a bucket.
pub(super) fn settings(bucket: &str, keys: Keys, options: &RawStorageOptions) -> S3Settings {
    let mut settings = S3Settings::new(bucket, keys.access_key_id, keys.secret_access_key);
    settings.session_token = keys.session_token;
    settings.region.clone_from(&options.region);
    settings.endpoint.clone_from(&options.endpoint);
    settings.prefix.clone_from(&options.prefix);
    settings.addressing = match options.addressing {
        RawAddressing::Path => S3Addressing::Path,
        RawAddressing::VirtualHost => S3Addressing::VirtualHost,
    };
    settings.encryption = match options.encryption {
        RawEncryption::None => S3Encryption::None,
        RawEncryption::SseKms => S3Encryption::SseKms { key_id: options.kms_key_id.clone().unwrap_or_default() },
        RawEncryption::SseS3 => S3Encryption::SseS3,
    };
    settings.multipart_threshold = options.multipart_threshold.0;
    settings.multipart_chunk = options.multipart_chunk.0;
    settings.request_timeout = options.request_timeout.0;
    settings.max_retries = options.max_retries;
    settings.deadline = options.deadline.0;
    settings
}

/// Whether messages leave this machine as they are.
pub(super) fn is_readable_on_the_way(endpoint: &str) -> bool {
    let Some(server) = endpoint.strip_prefix("http://") else { return false };
    let server = server.trim_end_matches('/');
    let host = match server.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => server.split(':').next().unwrap_or_default(),
    };
    host != "localhost" && !host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_may_be_spoken_to_without_tls() {
        for endpoint in ["https://s3.example.com", "http://127.0.0.1:8333", "http://[::1]:9000/", "http://localhost"] {
            assert!(!is_readable_on_the_way(endpoint), "{endpoint}");
        }
        for endpoint in ["http://s3.example.com", "http://192.0.2.1:9000", "http://[2001:db8::1]"] {
            assert!(is_readable_on_the_way(endpoint), "{endpoint}");
        }
    }
}
