//! Bodies in files: what the suite can't see.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use mairust_store::body::NewObject;
use mairust_store::{BodyStore, FsBodies};
use tempfile::TempDir;

#[tokio::test]
async fn leftovers_are_removed_when_the_store_is_opened() {
    let directory = TempDir::new().unwrap();
    drop(FsBodies::open(directory.path()).unwrap());
    fs::write(directory.path().join("tmp/leftover"), b"half a message").unwrap();
    drop(FsBodies::open(directory.path()).unwrap());
    assert_eq!(files(&directory.path().join("tmp")), 0);
}

#[tokio::test]
async fn a_second_opener_leaves_the_files_of_the_first_alone() {
    let directory = TempDir::new().unwrap();
    let first = FsBodies::open(directory.path()).unwrap();
    fs::write(directory.path().join("tmp/being-written"), b"half a message").unwrap();
    let second = FsBodies::open(directory.path()).unwrap();
    assert_eq!(files(&directory.path().join("tmp")), 1);
    assert!(first.put(vec![object("a/b/1.eml")]).await[0].is_ok());
    assert!(second.put(vec![object("a/b/1.eml")]).await[0].is_err());
}

#[tokio::test]
async fn a_directory_is_synced_once_per_batch() {
    let directory = TempDir::new().unwrap();
    let bodies = FsBodies::open(directory.path()).unwrap();
    let put = |keys: [&str; 3]| bodies.put(keys.map(object).into());
    assert!(put(["t/m/1.eml", "t/m/2.eml", "t/m/3.eml"]).await.iter().all(Result::is_ok));
    // Three files, and the directories that hold `t`, `m` and the files.
    assert_eq!(bodies.fsyncs(), 6);
    assert!(put(["t/m/4.eml", "t/m/5.eml", "t/m/6.eml"]).await.iter().all(Result::is_ok));
    assert_eq!(bodies.fsyncs(), 6 + 4);
    assert!(put(["t/n/1.eml", "t/m/7.eml", "t/m/8.eml"]).await.iter().all(Result::is_ok));
    assert_eq!(bodies.fsyncs(), 10 + 3 + 3);
    assert_eq!(files(&directory.path().join("tmp")), 0);
}

#[tokio::test]
async fn a_store_that_can_not_be_written_says_so() {
    let directory = TempDir::new().unwrap();
    let bodies = FsBodies::open(directory.path().join("mail")).unwrap();
    assert!(bodies.check().await.is_ok());
    fs::remove_dir_all(directory.path().join("mail")).unwrap();
    assert!(bodies.check().await.is_err());
    assert!(bodies.put(vec![object("a/b/1.eml")]).await[0].is_err());
}

fn object(key: &str) -> NewObject {
    NewObject { key: key.to_owned(), prefix: Bytes::from_static(b"a"), body: b"b".to_vec().into() }
}

fn files(directory: &Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}
