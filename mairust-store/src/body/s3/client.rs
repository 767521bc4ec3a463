//! Requests to a bucket: within a deadline, and with errors that say what to do.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::header::{HeaderValue, IF_NONE_MATCH};
use http::{Method, StatusCode};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use uuid::Uuid;

use super::settings::{S3Addressing, S3Encryption, S3Settings};
use crate::error::{StoreError, StoreErrorKind};

/// A bucket.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) store: AmazonS3,
    /// The client below `store`, for requests that it has no call for.
    pub(super) http: HttpClient,
    pub(super) settings: S3Settings,
    refused: Arc<AtomicBool>,
    overwriting: OnceCell<Overwriting>,
}

/// Who sees to it that no object is overwritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overwriting {
    /// We do, by looking first: the server writes whatever the condition.
    CheckedByUs,
    /// The server does, by `If-None-Match: *`.
    RefusedByServer,
}

/// The HTTP client below `object_store`. That has conditional puts, but completes uploads in parts
/// without a condition: here it is added.
#[derive(Debug)]
struct Conditional {
    client: HttpClient,
    /// Whether the server said that it knows no conditions.
    refused: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Connected(HttpClient);

/// The client's name of the setting that it has no method for.
const ENCRYPTION_SETTING: &str = "aws_server_side_encryption";
/// Time for a probe of the server's health.
const PROBE_TIME: Duration = Duration::from_secs(5);
/// The type of all objects (RFC 2046 §5.2.1).
const CONTENT_TYPE: &str = "message/rfc822";

impl Client {
    /// A client. It connects when there is something to ask.
    pub(super) fn new(settings: S3Settings) -> Result<Self, StoreError> {
        let invalid = |context: String| StoreError::new(StoreErrorKind::Invalid, "open bodies", context);
        if let Some(fault) = settings.faults().first() {
            return Err(invalid(format!("{}: {fault}", fault.setting())));
        }
        let options = client_options(&settings);
        let unusable = |error: Error| invalid("the HTTP client can't be made".to_owned()).with_source(error);
        let client = ReqwestConnector::default().connect(&options).map_err(unusable)?;
        let refused = Arc::new(AtomicBool::new(false));
        let http = HttpClient::new(Conditional { client, refused: Arc::clone(&refused) });
        let builder = builder(&settings).map_err(unusable)?.with_client_options(options);
        let store = builder.with_http_connector(Connected(http.clone())).build().map_err(unusable)?;
        Ok(Self { store, http, settings, refused, overwriting: OnceCell::new() })
    }

    /// Where an object is.
    pub(super) fn path(&self, key: &str) -> Path {
        Path::from(self.settings.place(key))
    }

    /// The key of what is at a place of the bucket; none for what is not ours.
    pub(super) fn key(&self, path: &Path) -> Option<String> {
        path.as_ref().strip_prefix(self.settings.place("").as_str()).map(str::to_owned)
    }

    /// The time by which a request that is made now has an answer.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.settings.deadline
    }

    /// A page of what is in the bucket.
    pub(super) async fn page(&self, after: Option<&str>, limit: usize) -> Result<PaginatedListResult, Error> {
        let offset = after.map(|after| self.settings.place(after));
        let options = PaginatedListOptions { offset, max_keys: Some(limit), ..PaginatedListOptions::default() };
        let prefix = self.settings.prefix.as_ref().map(|prefix| format!("{prefix}/"));
        self.store.list_paginated(prefix.as_deref(), options).await
    }

    /// Whether the server answers and lets us in.
    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        let until = Instant::now() + self.settings.deadline.min(PROBE_TIME);
        self.within(until, Call { operation: "check bodies", what: "list" }, self.page(None, 1)).await.map(drop)
    }

    /// Fails if there is an object.
    pub(super) async fn refuse_existing(&self, path: &Path, call: Call<'_>, until: Instant) -> Result<(), StoreError> {
        match self.within(until, call, self.store.head(path)).await {
            Ok(_) => Err(call.failed(StoreErrorKind::AlreadyExists, "there is one already")),
            Err(error) if error.kind() == StoreErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Who sees to it that no object is overwritten: found out at the first put.
    pub(super) async fn overwriting(&self, until: Instant) -> Result<Overwriting, StoreError> {
        self.overwriting.get_or_try_init(|| self.try_conditions(until)).await.copied()
    }

    /// Writes an object twice that is no body, and removes it again.
    async fn try_conditions(&self, until: Instant) -> Result<Overwriting, StoreError> {
        let path = Path::from(self.settings.place(&format!("tmp/{}", Uuid::new_v4())));
        let call = Call { operation: "put body", what: "probe" };
        let options = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let create =
            || self.within(until, call, self.store.put_opts(&path, PutPayload::from_static(b"probe"), options()));
        match create().await {
            Err(_) if self.knows_no_conditions() => return Ok(self.without_conditions()),
            created => created?,
        };
        let again = create().await.map_err(|error| error.kind());
        let removed = self.within(until, call, self.store.delete(&path)).await;
        if let Err(error) = removed {
            tracing::warn!(%error, path = path.as_ref(), "a probe could not be removed");
        }
        match again {
            Err(StoreErrorKind::AlreadyExists) => Ok(Overwriting::RefusedByServer),
            Ok(_) => Ok(self.without_conditions()),
            Err(_) => Err(call.failed(StoreErrorKind::Unavailable, "the server does not answer as it should")),
        }
    }

    fn knows_no_conditions(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    fn without_conditions(&self) -> Overwriting {
        tracing::warn!(
            bucket = self.settings.bucket,
            "the S3 server writes whatever the condition; each object is looked for before it is written"
        );
        Overwriting::CheckedByUs
    }

    /// Runs a request until it has an answer or its time is over.
    pub(super) async fn within<T>(
        &self,
        until: Instant,
        call: Call<'_>,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout_at(until, request).await {
            Ok(answer) => answer.map_err(|error| self.explain(call, error)),
            Err(_) => Err(self.late(call)),
        }
    }

    /// A request had no answer in its time.
    pub(super) fn late(&self, call: Call<'_>) -> StoreError {
        call.failed(StoreErrorKind::Unavailable, format_args!("{} does not answer in time", self.bucket()))
    }

    /// What an error means, as far as somebody can act on it.
    pub(super) fn explain(&self, call: Call<'_>, error: Error) -> StoreError {
        let (bucket, text) = (self.bucket(), error.to_string());
        let says = |code| text.contains(code);
        let (kind, meaning) = match &error {
            // Somebody writes it just now: it is not there yet, and may never be.
            Error::AlreadyExists { .. } if says("409 Conflict") => {
                (StoreErrorKind::Unavailable, "it is being written already".to_owned())
            }
            Error::AlreadyExists { .. } | Error::Precondition { .. } => {
                (StoreErrorKind::AlreadyExists, "there is one already".to_owned())
            }
            _ if says("<Code>NoSuchBucket</Code>") => (StoreErrorKind::Unavailable, format!("{bucket} is not there")),
            Error::NotFound { .. } if !says("<Code>NoSuchUpload</Code>") => {
                (StoreErrorKind::NotFound, "there is none".to_owned())
            }
            // Some calls of the client tell no more than text.
            _ if says("401 Unauthorized") || says("403 Forbidden") => {
                let advice = "check the keys, their rights and the clock of this machine";
                (StoreErrorKind::Unavailable, format!("{bucket} refuses access; {advice}"))
            }
            _ => (StoreErrorKind::Unavailable, format!("{bucket} can't be used")),
        };
        call.failed(kind, meaning).with_source(error)
    }

    fn bucket(&self) -> String {
        let server = self.settings.endpoint.as_deref().unwrap_or("AWS");
        format!("bucket {} at {server}", self.settings.bucket)
    }
}

/// What a request is for, as it stands in errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) operation: &'static str,
    /// The key of an object, or whatever else it is about.
    pub(super) what: &'a str,
}

impl Call<'_> {
    pub(super) fn failed(self, kind: StoreErrorKind, meaning: impl fmt::Display) -> StoreError {
        StoreError::new(kind, self.operation, format_args!("{}: {meaning}", self.what))
    }
}

#[async_trait]
impl HttpService for Conditional {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if completes_upload(&request) && !self.refused.load(Ordering::Relaxed) {
            request.headers_mut().insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        let has_condition = request.headers().contains_key(IF_NONE_MATCH);
        let response = self.client.execute(request).await?;
        if has_condition && response.status() == StatusCode::NOT_IMPLEMENTED {
            self.refused.store(true, Ordering::Relaxed);
        }
        Ok(response)
    }
}

impl HttpConnector for Connected {
    fn connect(&self, _: &ClientOptions) -> Result<HttpClient, Error> {
        Ok(self.0.clone())
    }
}

/// CompleteMultipartUpload: the one POST that names an upload.
fn completes_upload(request: &HttpRequest) -> bool {
    let query = request.uri().query().unwrap_or_default();
    request.method() == Method::POST && query.split('&').any(|pair| pair.starts_with("uploadId="))
}

/// The time for a whole answer is not limited, since objects may be large: that for each piece is.
fn client_options(settings: &S3Settings) -> ClientOptions {
    let is_plain = settings.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    ClientOptions::new()
        .with_allow_http(is_plain)
        .with_default_content_type(CONTENT_TYPE)
        .with_timeout_disabled()
        .with_read_timeout(settings.request_timeout)
        .with_connect_timeout(settings.request_timeout)
}

fn builder(settings: &S3Settings) -> Result<AmazonS3Builder, Error> {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(50),
        max_backoff: Duration::from_secs(2),
        ..BackoffConfig::default()
    };
    let max_retries = usize::try_from(settings.max_retries).unwrap_or(usize::MAX);
    let retry = RetryConfig { backoff, max_retries, retry_timeout: settings.deadline };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&settings.bucket)
        .with_region(&settings.region)
        .with_access_key_id(settings.access_key_id.expose())
        .with_secret_access_key(settings.secret_access_key.expose())
        .with_virtual_hosted_style_request(settings.addressing == S3Addressing::VirtualHost)
        // DeleteObjects is not known everywhere.
        .with_disable_bulk_delete(true)
        .with_retry(retry);
    if let Some(token) = &settings.session_token {
        builder = builder.with_token(token.expose());
    }
    if let Some(server) = settings.server() {
        builder = builder.with_endpoint(server);
    }
    Ok(match &settings.encryption {
        S3Encryption::None => builder,
        S3Encryption::SseKms { key_id } => builder.with_sse_kms_encryption(key_id),
        S3Encryption::SseS3 => builder.with_config(ENCRYPTION_SETTING.parse()?, "AES256"),
    })
}
