//! Bodies in S3: one object of a bucket for each.
//!
//! Objects are written with a condition (`If-None-Match: *`), so that the server refuses to overwrite
//! one. A server that takes the condition and writes all the same is found out at the first put, by
//! writing a probe twice; from then on each object is looked for before it is written. Then two
//! servers that write the same key at the same instant could overwrite one another; keys are made of
//! message ids, which no two servers share. An upload in parts is conditional when it is completed.
//!
//! Deliberately absent: roles of machines and other keys that are fetched from somewhere (the keys
//! are settings), encryption on our side, versions and locks of objects.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use mairust_core::{Body, Clock, SystemClock};
use object_store::ObjectStoreExt;
use tokio::time::Instant;

use super::{BodyStore, NewObject, StoredObject, check_key, is_key};
use crate::error::{StoreError, StoreErrorKind};

mod client;
mod download;
mod settings;
mod sweep;
mod turns;
mod upload;

pub use settings::{S3Addressing, S3Encryption, S3Settings, S3SettingsError};

use client::{Call, Client};
use download::Downloader;
use sweep::Due;
use turns::Turns;
use upload::Uploader;

/// A [`BodyStore`] in a bucket of S3, or of a server that speaks its protocol. `Ok` from
/// [`put`](BodyStore::put) means that the server has taken the object.
///
/// Whatever the server does, a call ends: with `Unavailable` after [`S3Settings::deadline`] at the
/// latest, and that anew for each part of a large object. Nothing is remembered of an outage; the
/// next call asks again.
#[derive(Debug)]
pub struct S3Bodies {
    client: Arc<Client>,
    uploader: Uploader,
    downloader: Downloader,
    turns: Turns,
    clock: Arc<dyn Clock>,
    sweep_due: Due,
}

/// Objects of one call that are written at the same time.
const PUTS_AT_ONCE: usize = 32;
/// Keys that S3 tells at once.
const LARGEST_PAGE: usize = 1000;

impl S3Bodies {
    /// A store in this bucket, which is not asked for anything yet: a server that is down now may be
    /// up when the first message comes.
    ///
    /// # Errors
    /// `Invalid` if the settings can't be used, or if this machine has no certificates of
    /// authorities, without which no server can be trusted.
    pub fn new(settings: S3Settings) -> Result<Self, StoreError> {
        Self::with_clock(settings, Arc::new(SystemClock))
    }

    /// The same by another clock, which says when unfinished uploads are old.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn with_clock(settings: S3Settings, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let client = Arc::new(Client::new(settings)?);
        let (uploader, downloader) = (Uploader::new(Arc::clone(&client)), Downloader::new(Arc::clone(&client)));
        Ok(Self { client, uploader, downloader, turns: Turns::default(), clock, sweep_due: Due::default() })
    }

    /// Aborts uploads in parts under our prefix that began more than a day ago, which a crash left
    /// behind; returns how many. [`check`](BodyStore::check) does it once a day by itself.
    ///
    /// # Errors
    /// When the server can't list or abort them.
    pub async fn sweep(&self) -> Result<u64, StoreError> {
        sweep::sweep(&self.client, self.clock.now()).await
    }

    async fn put_one(&self, object: NewObject, until: Instant) -> Result<StoredObject, StoreError> {
        check_key("put body", &object.key)?;
        let key = object.key.clone();
        let turn = tokio::time::timeout_at(until, self.turns.wait(&key)).await;
        let _turn = turn.map_err(|_| self.client.late(Call { operation: "put body", what: &key }))?;
        self.uploader.put(object, until).await
    }

    fn sweep_if_due(&self) {
        let now = self.clock.now();
        if !self.sweep_due.claim(now) {
            return;
        }
        let client = Arc::clone(&self.client);
        tokio::spawn(async move {
            if let Err(error) = sweep::sweep(&client, now).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "unfinished uploads could not be swept");
            }
        });
    }
}

#[async_trait]
impl BodyStore for S3Bodies {
    async fn put(&self, objects: Vec<NewObject>) -> Vec<Result<StoredObject, StoreError>> {
        let until = self.client.deadline();
        let puts: Vec<_> = objects.into_iter().map(|object| self.put_one(object, until)).collect();
        stream::iter(puts).buffered(PUTS_AT_ONCE).collect().await
    }

    async fn open(&self, key: &str) -> Result<Body, StoreError> {
        check_key("open body", key)?;
        self.downloader.open(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_key("delete body", key)?;
        let (client, call) = (&self.client, Call { operation: "delete body", what: key });
        let path = client.path(key);
        match client.within(client.deadline(), call, client.store.delete(&path)).await {
            // S3 does not tell; some servers do.
            Err(error) if error.kind() == StoreErrorKind::NotFound => Ok(()),
            deleted => deleted,
        }
    }

    /// The order is the server's. Some walk directories instead of comparing bytes, which makes no
    /// difference to keys of messages, whose segments are equally long; where it does make one, the
    /// call fails.
    async fn list(&self, after: Option<&str>, limit: u32) -> Result<Vec<String>, StoreError> {
        let (client, call) = (&self.client, Call { operation: "list bodies", what: after.unwrap_or("all") });
        let limit = limit as usize;
        let (mut keys, mut after) = (Vec::new(), after.map(str::to_owned));
        while keys.len() < limit {
            let page = client.page(after.as_deref(), (limit - keys.len()).min(LARGEST_PAGE));
            let page = client.within(client.deadline(), call, page).await?;
            let is_last = page.page_token.is_none();
            for object in page.result.objects {
                let Some(key) = client.key(&object.location) else { continue };
                if after.as_ref().is_some_and(|after| key <= *after) {
                    return Err(call.failed(StoreErrorKind::Invalid, "the server does not list keys in byte order"));
                }
                if is_key(&key) {
                    keys.push(key.clone());
                }
                after = Some(key);
            }
            if is_last {
                break;
            }
        }
        Ok(keys)
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.client.probe().await?;
        self.sweep_if_due();
        Ok(())
    }
}
