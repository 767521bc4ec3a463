//! Bodies in memory: for tests and for servers that keep nothing.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use mairust_core::Body;

use super::{BodyStore, NewObject, StoredObject, check_key, interrupted, io_error, to_array};
use crate::error::{StoreError, StoreErrorKind};

/// A [`BodyStore`] whose objects end with it.
#[derive(Default)]
pub struct MemoryBodies(Mutex<BTreeMap<String, Bytes>>);

impl MemoryBodies {
    async fn put_one(&self, object: NewObject) -> Result<StoredObject, StoreError> {
        check_key("put body", &object.key)?;
        let NewObject { key, prefix, body } = object;
        let body = match body.in_memory() {
            Some(bytes) => bytes.clone(),
            None => read_elsewhere(body, &key).await?,
        };
        let bytes = joined(&prefix, body);
        let stored =
            StoredObject { size: bytes.len() as u64, sha256: to_array(&digest::digest(&digest::SHA256, &bytes)) };
        match self.objects().entry(key) {
            Entry::Occupied(taken) => Err(StoreError::new(StoreErrorKind::AlreadyExists, "put body", taken.key())),
            Entry::Vacant(free) => {
                free.insert(bytes);
                Ok(stored)
            }
        }
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl BodyStore for MemoryBodies {
    async fn put(&self, objects: Vec<NewObject>) -> Vec<Result<StoredObject, StoreError>> {
        let mut answers = Vec::with_capacity(objects.len());
        for object in objects {
            answers.push(self.put_one(object).await);
        }
        answers
    }

    async fn open(&self, key: &str) -> Result<Body, StoreError> {
        check_key("open body", key)?;
        let found = self.objects().get(key).cloned();
        found.map(Body::from).ok_or_else(|| StoreError::new(StoreErrorKind::NotFound, "open body", key))
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_key("delete body", key)?;
        self.objects().remove(key);
        Ok(())
    }

    async fn list(&self, after: Option<&str>, limit: u32) -> Result<Vec<String>, StoreError> {
        let behind = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let objects = self.objects();
        Ok(objects.range::<str, _>(behind).take(limit as usize).map(|(key, _)| key.clone()).collect())
    }

    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl fmt::Debug for MemoryBodies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBodies").field("objects", &self.objects().len()).finish()
    }
}

async fn read_elsewhere(body: Body, key: &str) -> Result<Bytes, StoreError> {
    let read = tokio::task::spawn_blocking(move || body.read_all()).await;
    read.map_err(|error| interrupted("put body", error))?.map_err(|error| io_error("put body", &key, error))
}

fn joined(prefix: &Bytes, body: Bytes) -> Bytes {
    if prefix.is_empty() {
        return body;
    }
    let mut bytes = BytesMut::with_capacity(prefix.len() + body.len());
    bytes.extend_from_slice(prefix);
    bytes.extend_from_slice(&body);
    bytes.freeze()
}
