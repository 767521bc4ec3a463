//! The suites on every backend, and what is particular to one of them.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod audit;
mod backup;
mod bodies;
mod consistency;
mod disk;
mod group_commit;
mod lifecycle;
mod postgres;
mod rich;
#[cfg(feature = "s3")]
mod s3;
mod sample;
mod search;
mod server;
mod sqlite;
mod unreliable;

use std::sync::Arc;

use mairust_core::{Secret, SystemClock};
use mairust_store::{EncryptedBodies, FsBodies, LocalKeys, MemoryBodies, MemoryStorage, SqlStorage};
use tempfile::TempDir;

use server::Database;

mod memory {
    use super::in_memory;
    mairust_store::conformance_tests!(in_memory);
}

mod sql {
    use super::in_sqlite;
    mairust_store::conformance_tests!(in_sqlite);
}

mod postgresql {
    use super::in_postgres;
    mairust_store::conformance_tests!(in_postgres);
}

mod memory_bodies {
    use super::bodies_in_memory;
    mairust_store::body_conformance_tests!(bodies_in_memory);
}

mod fs_bodies {
    use super::bodies_in_files;
    mairust_store::body_conformance_tests!(bodies_in_files);
}

mod encrypted_memory_bodies {
    use super::bodies_encrypted_in_memory;
    mairust_store::body_conformance_tests!(bodies_encrypted_in_memory);
}

mod encrypted_fs_bodies {
    use super::bodies_encrypted_in_files;
    mairust_store::body_conformance_tests!(bodies_encrypted_in_files);
}

async fn in_memory() -> (MemoryStorage, ()) {
    (MemoryStorage::new(Arc::new(SystemClock)), ())
}

async fn in_sqlite() -> (SqlStorage, TempDir) {
    let directory = TempDir::new().unwrap();
    (sample::open_with_search(directory.path()).await, directory)
}

async fn in_postgres() -> (SqlStorage, (Database, TempDir)) {
    let (database, directory) = (Database::new().await, TempDir::new().unwrap());
    let storage =
        SqlStorage::postgres(&database.url).fs_bodies(directory.path()).max_connections(4).with_search().open().await;
    (storage.unwrap(), (database, directory))
}

async fn bodies_in_memory() -> (MemoryBodies, ()) {
    (MemoryBodies::default(), ())
}

async fn bodies_in_files() -> (FsBodies, TempDir) {
    let directory = TempDir::new().unwrap();
    (FsBodies::open(directory.path()).unwrap(), directory)
}

async fn bodies_encrypted_in_memory() -> (EncryptedBodies<MemoryBodies>, ()) {
    (EncryptedBodies::new(MemoryBodies::default(), body_keys()), ())
}

async fn bodies_encrypted_in_files() -> (EncryptedBodies<FsBodies>, TempDir) {
    let directory = TempDir::new().unwrap();
    (EncryptedBodies::new(FsBodies::open(directory.path()).unwrap(), body_keys()), directory)
}

fn body_keys() -> Arc<LocalKeys> {
    Arc::new(LocalKeys::new(&Secret::new([7; 32])))
}
