//! Bodies in S3: what the suite can't see, against a real server that is also stopped and started.

mod awkward;
mod suites;
mod weed;

use std::io;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mairust_core::{Body, BodySource, Clock, ManualClock, Secret, SystemClock};
use mairust_store::body::NewObject;
use mairust_store::{BodyStore, S3Bodies, S3Encryption, S3Settings, StoreError, StoreErrorKind};
use tempfile::TempDir;

use self::weed::{ACCESS_KEY, BUCKET, SECRET_KEY, Weed};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::test]
async fn large_objects_are_read_from_a_file_without_a_name() {
    let folder = TempDir::new().unwrap();
    let mut settings = weed::settings().await;
    settings.spool_dir = folder.path().to_owned();
    let bodies = S3Bodies::new(settings).unwrap();
    keep(&bodies, "t/m/small.eml", 1 << 20).await.unwrap();
    keep(&bodies, "t/m/large.eml", (1 << 20) + 1).await.unwrap();
    assert!(bodies.open("t/m/small.eml").await.unwrap().in_memory().is_some());
    let large = bodies.open("t/m/large.eml").await.unwrap();
    assert!(large.in_memory().is_none());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    folder.close().unwrap();
    assert_eq!(large.read_all().unwrap().len(), (1 << 20) + 1);
    assert_eq!(kind(bodies.open("t/m/large.eml").await), StoreErrorKind::NotFound, "there is no folder to read it to");
}

#[tokio::test]
async fn an_upload_that_fails_is_aborted() {
    let settings = weed::settings().await;
    let bodies = S3Bodies::new(settings.clone()).unwrap();
    let broken = Pattern { len: 30 << 20, readable: 20 << 20 };
    assert_eq!(kind(put(&bodies, "t/m/1.eml", broken).await), StoreErrorKind::Unavailable);
    wait_for(&settings, |uploads| uploads == 0).await;
    assert_eq!(kind(bodies.open("t/m/1.eml").await), StoreErrorKind::NotFound);
}

#[tokio::test]
async fn an_upload_is_aborted_when_its_call_is_dropped() {
    let settings = weed::settings().await;
    let bodies = Arc::new(S3Bodies::new(settings.clone()).unwrap());
    let writer = Arc::clone(&bodies);
    let call = tokio::spawn(async move { keep(&*writer, "t/m/1.eml", 200 << 20).await });
    wait_for(&settings, |uploads| uploads == 1).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    wait_for(&settings, |uploads| uploads == 0).await;
    assert_eq!(kind(bodies.open("t/m/1.eml").await), StoreErrorKind::NotFound);
}

#[tokio::test]
async fn what_a_crash_left_behind_is_swept_after_a_day() {
    let (settings, neighbour) = (weed::settings().await, weed::settings().await);
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let bodies = S3Bodies::with_clock(settings.clone(), clock.clone()).unwrap();
    for prefix in [&settings.prefix, &neighbour.prefix] {
        let path = format!("{}/t/m/1.eml?uploads=", prefix.as_ref().unwrap());
        assert!(ask(&settings, "POST", &path).contains("<UploadId>"));
    }
    assert_eq!(bodies.sweep().await.unwrap(), 0, "it may still be under way");
    clock.advance(DAY + Duration::from_secs(60));
    assert_eq!(bodies.sweep().await.unwrap(), 1);
    assert_eq!((uploads(&settings), uploads(&neighbour)), (0, 1));
}

#[tokio::test]
async fn a_check_sweeps() {
    let settings = weed::settings().await;
    let clock = Arc::new(ManualClock::at(SystemClock.now().plus(2 * DAY)));
    let bodies = S3Bodies::with_clock(settings.clone(), clock).unwrap();
    ask(&settings, "POST", &format!("{}/t/m/1.eml?uploads=", settings.prefix.as_ref().unwrap()));
    bodies.check().await.unwrap();
    wait_for(&settings, |uploads| uploads == 0).await;
}

#[tokio::test]
async fn a_wrong_key_is_no_missing_object() {
    let mut settings = weed::settings().await;
    settings.secret_access_key = Secret::new("somebody else's".replace(' ', "-"));
    let bodies = S3Bodies::new(settings).unwrap();
    refuses(&bodies, "refuses access; check the keys").await;
}

#[tokio::test]
async fn a_missing_bucket_is_no_missing_object() {
    let mut settings = weed::settings().await;
    settings.bucket = "not-there".to_owned();
    let bodies = S3Bodies::new(settings).unwrap();
    refuses(&bodies, "bucket not-there at http://127.0.0.1").await;
}

#[tokio::test]
async fn sse_kms_needs_a_key() {
    let mut settings = weed::settings().await;
    settings.encryption = S3Encryption::SseKms { key_id: String::new() };
    assert_eq!(kind(S3Bodies::new(settings).map(drop)), StoreErrorKind::Invalid);
}

#[tokio::test]
async fn an_order_that_is_not_that_of_bytes_is_an_error() {
    let bodies = S3Bodies::new(weed::settings().await).unwrap();
    for key in ["a-b/m/1.eml", "a/m/1.eml"] {
        keep(&bodies, key, 10).await.unwrap();
    }
    // SeaweedFS lists the directory `a` before `a-b`, but `-` comes before `/`.
    assert_eq!(kind(bodies.list(None, 10).await), StoreErrorKind::Invalid);
}

#[tokio::test]
async fn a_server_that_hangs_is_unavailable_until_it_goes_on() {
    let weed = Weed::start().await;
    let bodies = S3Bodies::new(impatient(weed.settings())).unwrap();
    keep(&bodies, "t/m/1.eml", 10).await.unwrap();
    weed.signal("STOP");
    assert_eq!(kind(keep(&bodies, "t/m/2.eml", 10).await), StoreErrorKind::Unavailable);
    assert_eq!(kind(keep(&bodies, "t/m/3.eml", 12 << 20).await), StoreErrorKind::Unavailable);
    refuses(&bodies, "").await;
    weed.signal("CONT");
    keeps_again(&bodies, "t/m/4.eml").await;
    assert_eq!(bodies.open("t/m/1.eml").await.unwrap().len(), 10);
    bodies.check().await.unwrap();
}

#[tokio::test]
async fn a_batch_against_a_server_that_hangs_takes_one_deadline() {
    let weed = Weed::start().await;
    let bodies = S3Bodies::new(impatient(weed.settings())).unwrap();
    keep(&bodies, "t/m/0.eml", 10).await.unwrap();
    weed.signal("STOP");
    // One after the other they would take more than an hour, longer than any runner of tests waits.
    let objects = (1..4000).map(|number| object(&format!("t/m/{number}.eml"), Pattern::of(10)));
    let answers = bodies.put(objects.collect()).await;
    assert!(answers.into_iter().all(|answer| kind(answer) == StoreErrorKind::Unavailable));
}

#[tokio::test]
async fn a_server_that_is_gone_is_unavailable_until_it_is_back() {
    let weed = Weed::start().await;
    let bodies = S3Bodies::new(weed.settings()).unwrap();
    keep(&bodies, "t/m/1.eml", 10).await.unwrap();
    keep(&bodies, "t/m/2.eml", 12 << 20).await.unwrap();
    weed.signal("KILL");
    refuses(&bodies, "can't be used").await;
    weed.restart().await;
    for (key, len) in [("t/m/1.eml", 10), ("t/m/2.eml", 12 << 20)] {
        assert_eq!(bodies.open(key).await.unwrap().len(), len, "{key}");
    }
    keeps_again(&bodies, "t/m/3.eml").await;
}

#[tokio::test]
async fn a_server_that_comes_later_is_found() {
    let weed = Weed::start().await;
    weed.signal("KILL");
    let bodies = S3Bodies::new(weed.settings()).unwrap();
    refuses(&bodies, "").await;
    weed.restart().await;
    keeps_again(&bodies, "t/m/1.eml").await;
    assert_eq!(kind(keep(&bodies, "t/m/1.eml", 10).await), StoreErrorKind::AlreadyExists);
}

/// Every call fails with `Unavailable`, with this in its words.
async fn refuses(bodies: &S3Bodies, words: &str) {
    let put = keep(bodies, "t/m/9.eml", 10).await.map(drop);
    let large = keep(bodies, "t/m/8.eml", 12 << 20).await.map(drop);
    let calls = [
        put,
        large,
        bodies.open("t/m/1.eml").await.map(drop),
        bodies.list(None, 10).await.map(drop),
        bodies.check().await,
        bodies.sweep().await.map(drop),
    ];
    for (index, answer) in calls.into_iter().enumerate() {
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "call {index}: {error}");
        assert!(error.to_string().contains(words), "call {index}: {error}");
        assert!(!format!("{error:?}").contains(SECRET_KEY), "call {index}");
    }
}

fn impatient(mut settings: S3Settings) -> S3Settings {
    settings.request_timeout = Duration::from_millis(500);
    settings.deadline = Duration::from_secs(1);
    settings
}

/// A server that has just been started answers before it can keep anything.
async fn keeps_again(bodies: &impl BodyStore, key: &str) {
    let mut kept = keep(bodies, key, 10).await;
    for _ in 0..10 {
        match &kept {
            Err(error) if error.kind() == StoreErrorKind::Unavailable => kept = keep(bodies, key, 10).await,
            // Written by the try before, whose answer came too late.
            Err(error) if error.kind() == StoreErrorKind::AlreadyExists => return,
            _ => break,
        }
    }
    kept.unwrap();
}

async fn keep(bodies: &impl BodyStore, key: &str, len: u64) -> Result<u64, StoreError> {
    put(bodies, key, Pattern::of(len)).await
}

async fn put(bodies: &impl BodyStore, key: &str, source: Pattern) -> Result<u64, StoreError> {
    bodies.put(vec![object(key, source)]).await.remove(0).map(|stored| stored.size)
}

fn object(key: &str, source: Pattern) -> NewObject {
    NewObject { key: key.to_owned(), prefix: Bytes::new(), body: Body::from_source(Arc::new(source)) }
}

fn kind<T: std::fmt::Debug>(result: Result<T, StoreError>) -> StoreErrorKind {
    result.unwrap_err().kind()
}

/// Waits until there are so many unfinished uploads under the prefix.
async fn wait_for(settings: &S3Settings, is_right: impl Fn(usize) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_right(uploads(settings)) {
        assert!(Instant::now() < deadline, "{} uploads", uploads(settings));
        tokio::task::yield_now().await;
    }
}

fn uploads(settings: &S3Settings) -> usize {
    let answer = ask(settings, "GET", &format!("?prefix={}&uploads=", settings.prefix.as_ref().unwrap()));
    answer.matches("<UploadId>").count()
}

/// A signed request by a client that we did not write.
fn ask(settings: &S3Settings, method: &str, path: &str) -> String {
    let url = format!("{}/{BUCKET}/{path}", settings.endpoint.as_ref().unwrap());
    let user = format!("{ACCESS_KEY}:{SECRET_KEY}");
    let curl = ["--silent", "--show-error", "--fail-with-body", "--aws-sigv4", "aws:amz:us-east-1:s3"];
    let curl = Command::new("curl").args(curl).args(["--user", &user, "--request", method, &url]).output().unwrap();
    assert!(curl.status.success(), "{url}: {}", String::from_utf8_lossy(&[curl.stdout, curl.stderr].concat()));
    String::from_utf8(curl.stdout).unwrap()
}

/// Bytes that are made when they are read; from `readable` on, reading fails.
#[derive(Debug)]
struct Pattern {
    len: u64,
    readable: u64,
}

impl Pattern {
    fn of(len: u64) -> Self {
        Self { len, readable: u64::MAX }
    }
}

impl BodySource for Pattern {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if offset >= self.readable {
            return Err(io::Error::other("the source can't be read"));
        }
        let count = usize::try_from(self.len.saturating_sub(offset)).unwrap().min(buffer.len()).min(64 << 10);
        buffer[..count].fill(b'x');
        Ok(count)
    }
}
