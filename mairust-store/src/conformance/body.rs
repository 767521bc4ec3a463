//! Cases for [`BodyStore`].

#![expect(clippy::unwrap_used, reason = "a case that fails panics")]

use std::io;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest;
use bytes::Bytes;
use mairust_core::{Body, BodySource};

use super::sample::kind;
use crate::body::{BodyStore, NewObject};
use crate::error::StoreErrorKind;

/// Size, checksum and bytes of what was put, for several objects at once.
pub async fn reads_back_what_was_put(store: Arc<dyn BodyStore>) {
    store.check().await.unwrap();
    let bodies: Vec<_> = (0..9).map(|number| vec![number; usize::from(number) * 1000]).collect();
    let objects =
        bodies.iter().enumerate().map(|(number, body)| object(&format!("t/m{}/{number}.eml", number % 3), body));
    let answers = store.put(objects.collect()).await;
    assert_eq!(answers.len(), 9);
    for (number, (answer, body)) in answers.into_iter().zip(bodies).enumerate() {
        let (stored, expected) = (answer.unwrap(), [b"prefix\r\n".as_slice(), &body].concat());
        assert_eq!(stored.size, expected.len() as u64);
        assert_eq!(stored.sha256, digest::digest(&digest::SHA256, &expected).as_ref());
        let opened = store.open(&format!("t/m{}/{number}.eml", number % 3)).await.unwrap();
        assert_eq!((opened.len(), opened.read_all().unwrap()), (stored.size, Bytes::from(expected)));
    }
    assert!(store.put(Vec::new()).await.is_empty());
}

/// Neither a second call nor a second object of the same call changes what is there.
pub async fn never_overwrites(store: Arc<dyn BodyStore>) {
    let answers = store.put(vec![object("a/b/c.eml", b"first"), object("a/b/d.eml", b"other")]).await;
    assert!(answers.iter().all(Result::is_ok));
    for answer in store.put(vec![object("a/b/c.eml", b"second"), object("a/b/c.eml", b"third")]).await {
        assert_eq!(kind(answer), StoreErrorKind::AlreadyExists);
    }
    assert_eq!(store.open("a/b/c.eml").await.unwrap().read_all().unwrap(), "prefix\r\nfirst");
    let twins = store.put(vec![object("a/b/e.eml", b"twin"), object("a/b/e.eml", b"twin")]).await;
    assert_eq!(twins.iter().filter(|answer| answer.is_ok()).count(), 1);
}

/// No key leads out of the store or into its own files.
pub async fn refuses_odd_keys(store: Arc<dyn BodyStore>) {
    let odd = [
        "",
        ".eml",
        "a",
        "a/b",
        "../a.eml",
        "a/../b.eml",
        "/a.eml",
        "a//b.eml",
        "a/.eml",
        "a.b/c.eml",
        "a/b.eml/c",
        "a\\b.eml",
        "a/b.eml.eml",
        "a/\0.eml",
        "ü.eml",
        "tmp/a.eml",
        ".lock",
        "a/ b.eml",
    ];
    for key in odd {
        assert_eq!(kind(store.put(vec![object(key, b"x")]).await.remove(0)), StoreErrorKind::Invalid, "{key:?}");
        assert_eq!(kind(store.open(key).await), StoreErrorKind::Invalid, "{key:?}");
        assert_eq!(kind(store.delete(key).await), StoreErrorKind::Invalid, "{key:?}");
    }
}

/// What was deleted is gone, deleting it again is fine, and the key is free.
pub async fn deletes(store: Arc<dyn BodyStore>) {
    store.put(vec![object("a/b/c.eml", b"x")]).await.remove(0).unwrap();
    for _ in 0..2 {
        store.delete("a/b/c.eml").await.unwrap();
        assert_eq!(kind(store.open("a/b/c.eml").await), StoreErrorKind::NotFound);
    }
    store.delete("never/there.eml").await.unwrap();
    store.put(vec![object("a/b/c.eml", b"y")]).await.remove(0).unwrap();
    assert_eq!(store.open("a/b/c.eml").await.unwrap().read_all().unwrap(), "prefix\r\ny");
}

/// The others of a batch are kept.
pub async fn fails_a_bad_object_alone(store: Arc<dyn BodyStore>) {
    let unreadable = Body::from_source(Arc::new(Pattern { len: 100_000, readable: 70_000 }));
    let broken = NewObject { key: "a/b/broken.eml".to_owned(), prefix: Bytes::new(), body: unreadable };
    let answers =
        store.put(vec![object("a/b/1.eml", b"1"), object("../2.eml", b"2"), broken, object("a/b/3.eml", b"3")]).await;
    let kinds: Vec<_> = answers.into_iter().map(|answer| answer.err().map(|error| error.kind())).collect();
    assert_eq!(kinds, [None, Some(StoreErrorKind::Invalid), Some(StoreErrorKind::Unavailable), None]);
    assert_eq!(kind(store.open("a/b/broken.eml").await), StoreErrorKind::NotFound);
    assert_eq!(store.open("a/b/3.eml").await.unwrap().read_all().unwrap(), "prefix\r\n3");
}

/// A body that is not in memory, larger than any buffer.
pub async fn takes_bodies_from_elsewhere(store: Arc<dyn BodyStore>) {
    let object = object_of("a/b/c.eml", 3_000_001);
    let expected = object.body.read_all().unwrap();
    let stored = store.put(vec![object]).await.remove(0).unwrap();
    assert_eq!(stored.size, 3_000_001);
    assert_eq!(stored.sha256, digest::digest(&digest::SHA256, &expected).as_ref());
    let opened = store.open("a/b/c.eml").await.unwrap();
    let mut part = [0; 5];
    assert_eq!(opened.read_at(2_999_999, &mut part).unwrap(), 2);
    assert_eq!(part[..2], expected[2_999_999..]);
    assert_eq!(opened.read_all().unwrap(), expected);
}

/// A body that is larger than what stores keep in memory: whole, not overwritten, and not there at all
/// if it could not be read to its end.
pub async fn keeps_large_bodies_whole(store: Arc<dyn BodyStore>) {
    const LEN: u64 = (11 << 20) + 3;
    let object = object_of("a/b/c.eml", LEN);
    let expected = object.body.read_all().unwrap();
    let stored = store.put(vec![object.clone()]).await.remove(0).unwrap();
    assert_eq!(stored.size, LEN);
    assert_eq!(stored.sha256, digest::digest(&digest::SHA256, &expected).as_ref());
    assert!(store.open("a/b/c.eml").await.unwrap().read_all().unwrap() == expected);
    let other = NewObject { prefix: Bytes::from_static(b"other"), ..object };
    assert_eq!(kind(store.put(vec![other]).await.remove(0)), StoreErrorKind::AlreadyExists);
    assert_eq!(store.open("a/b/c.eml").await.unwrap().len(), LEN);
    let body = Body::from_source(Arc::new(Pattern { len: LEN, readable: LEN - 1 }));
    let broken = NewObject { key: "a/b/broken.eml".to_owned(), prefix: Bytes::new(), body };
    assert_eq!(kind(store.put(vec![broken]).await.remove(0)), StoreErrorKind::Unavailable);
    assert_eq!(kind(store.open("a/b/broken.eml").await), StoreErrorKind::NotFound);
}

/// All keys, each once, in order, whatever the size of a page.
pub async fn lists_keys_in_pages(store: Arc<dyn BodyStore>) {
    assert_eq!(store.list(None, 10).await.unwrap(), Vec::<String>::new());
    let mut keys: Vec<_> = (0..23).map(|number| format!("t{}/m{}/{number:02}.eml", number % 2, number % 3)).collect();
    let objects = keys.iter().map(|key| object(key, b"x")).collect();
    assert!(store.put(objects).await.iter().all(Result::is_ok));
    keys.sort();
    for limit in [1, 2, 5, 22, 23, 24, 5000] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.list(after.as_deref(), limit).await.unwrap();
            let last = (page.len() as u64) < u64::from(limit);
            found.extend(page);
            after = found.last().cloned();
            if last {
                break;
            }
        }
        assert_eq!(found, keys, "pages of {limit}");
    }
    assert_eq!(store.list(None, 0).await.unwrap(), Vec::<String>::new());
    // What is behind a key does not depend on whether there is such an object.
    assert_eq!(store.list(Some("t0/m9/00.eml"), 1).await.unwrap(), ["t1/m0/03.eml"]);
    assert_eq!(store.list(Some("u/m/00.eml"), 9).await.unwrap(), Vec::<String>::new());
    store.delete(&keys.remove(0)).await.unwrap();
    assert_eq!(store.list(None, 5000).await.unwrap(), keys);
}

/// An object under `archive/` is an object like any other.
pub async fn keeps_archived_objects(store: Arc<dyn BodyStore>) {
    let (live, archived) = ("t/m/1.eml", "archive/t/m/1.eml");
    let answers = store.put(vec![object(live, b"live"), object(archived, b"archived")]).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(store.open(archived).await.unwrap().read_all().unwrap(), "prefix\r\narchived");
    assert_eq!(store.list(None, 9).await.unwrap(), [archived, live]);
    store.delete(live).await.unwrap();
    assert_eq!(kind(store.open(live).await), StoreErrorKind::NotFound);
    assert_eq!(store.open(archived).await.unwrap().read_all().unwrap(), "prefix\r\narchived");
    store.delete(archived).await.unwrap();
    assert_eq!(store.list(None, 9).await.unwrap(), Vec::<String>::new());
}

/// Dropping a call leaves either the whole object or none, and the store as usable as before.
pub async fn keeps_whole_objects_when_dropped(store: Arc<dyn BodyStore>) {
    let size = 300_000;
    for (number, polls) in [0, 1, 2, 5, 20].into_iter().enumerate() {
        let key = format!("t/m/{number}.eml");
        let mut put = Box::pin(store.put(vec![object_of(&key, size)]));
        for _ in 0..polls {
            if futures::poll!(put.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(put);
        match store.open(&key).await {
            Ok(body) => assert_eq!(body.len(), size),
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::NotFound),
        }
        let again = store.put(vec![object_of(&format!("t/n/{number}.eml"), size)]).await;
        assert!(again.iter().all(Result::is_ok));
    }
}

fn object_of(key: &str, len: u64) -> NewObject {
    let body = Body::from_source(Arc::new(Pattern { len, readable: u64::MAX }));
    NewObject { key: key.to_owned(), prefix: Bytes::new(), body }
}

fn object(key: &str, body: &[u8]) -> NewObject {
    NewObject { key: key.to_owned(), prefix: Bytes::from_static(b"prefix\r\n"), body: body.to_vec().into() }
}

/// What a [`Pattern`] repeats.
const CYCLE: u64 = 251;
/// What a [`Pattern`] hands out at once.
const PIECE: usize = 64 << 10;
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| (0..CYCLE as u8).cycle().take(PIECE + CYCLE as usize).collect());

/// Bytes that are made when they are read; from `readable` on, reading fails.
#[derive(Debug)]
struct Pattern {
    len: u64,
    readable: u64,
}

impl BodySource for Pattern {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let end = self.len.min(offset.saturating_add(buffer.len().min(PIECE) as u64));
        if end > self.readable {
            return Err(io::Error::other("the source can't be read"));
        }
        let count = usize::try_from(end.saturating_sub(offset)).unwrap();
        let first = usize::try_from(offset % CYCLE).unwrap();
        buffer[..count].copy_from_slice(&BYTES[first..first + count]);
        Ok(count)
    }
}
