//! Bodies that were accepted lie in the database first, in the transaction that accepts them, so that
//! one sync makes many messages durable. A task moves them to the body store, in the order in which
//! they came, and frees the database of them. Whoever reads a body finds it in either place.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mairust_core::{Body, Timestamp};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::driver::{Columns, Query, Scope, failed};
use super::statement;
use super::storage::Parts;
use crate::body::{BodyStore, NewObject, digest_of_all, verify};
use crate::disk::Disk;
use crate::error::{StoreError, StoreErrorKind};

/// How bodies are spooled.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SpoolSettings {
    /// Bodies up to this many bytes are accepted into the database and moved afterwards; larger ones
    /// go straight to the body store. 0: all do. Default 256 KiB.
    pub max_body: u64,
    /// When more bytes than this wait, no message is accepted. Default 1 GiB.
    pub max_bytes: u64,
    /// What is done with messages while the body store is down.
    pub when_bodies_down: WhenBodiesDown,
}

/// What is done with messages while the body store is down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenBodiesDown {
    /// They are refused.
    #[default]
    Refuse,
    /// They are accepted as long as there is room in the database.
    Spool,
}

/// What waits, and whether more may come.
#[derive(Debug)]
pub(super) struct Spool {
    settings: SpoolSettings,
    bodies: AtomicU64,
    bytes: AtomicU64,
    moved: AtomicU64,
    /// When the one that waited longest was accepted, when they were counted last.
    oldest: Mutex<Option<Timestamp>>,
    wake: Notify,
    /// Held by who moves.
    turn: tokio::sync::Mutex<()>,
    /// When the body store was last asked, and why it can't be used.
    asked: Mutex<Option<(Instant, Option<String>)>>,
    failing: AtomicBool,
}

/// How much waits for its place in the body store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpoolStatistics {
    /// Bodies that wait.
    pub bodies: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bodies that were moved since the storage was opened.
    pub moved: u64,
    /// When the one was accepted that had waited longest when they were counted last: after each attempt
    /// to move them.
    pub oldest: Option<Timestamp>,
}

/// Moves bodies until dropped.
#[derive(Debug)]
pub(super) struct Mover(JoinHandle<()>);

/// A body that waits.
struct Waiting {
    seq: i64,
    key: String,
    data: Bytes,
}

/// The body store is asked once in this time whether it works.
const ASK_PERIOD: Duration = Duration::from_secs(1);
/// How many bodies, and about how many bytes of them, are moved at once.
const BATCH: u32 = 128;
const BATCH_BYTES: i64 = 4 * 1024 * 1024;
/// Bodies are moved when none came for so long …
const QUIET: Duration = Duration::from_millis(250);
/// … or when so many bytes of them wait, or the first of them has waited for so long. Moving takes
/// time of processor and disk from those who wait for their answer.
const LOUD_BYTES: u64 = 256 * 1024 * 1024;
const LOUD_TIME: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// Another process may have left something, or the notice about it was lost.
const LOOK_PERIOD: Duration = Duration::from_secs(30);

impl Default for SpoolSettings {
    fn default() -> Self {
        Self { max_body: 256 * 1024, max_bytes: 1 << 30, when_bodies_down: WhenBodiesDown::Refuse }
    }
}

impl Spool {
    pub(super) fn new(settings: SpoolSettings) -> Self {
        Self {
            settings,
            bodies: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            oldest: Mutex::default(),
            wake: Notify::new(),
            turn: tokio::sync::Mutex::new(()),
            asked: Mutex::new(None),
            failing: AtomicBool::new(false),
        }
    }

    /// Whether an object of this size is accepted into the database.
    pub(super) fn takes(&self, size: u64) -> bool {
        size <= self.settings.max_body
    }

    pub(super) fn statistics(&self) -> SpoolStatistics {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        SpoolStatistics {
            bodies: load(&self.bodies),
            bytes: load(&self.bytes),
            moved: load(&self.moved),
            oldest: *self.oldest.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Whether messages may be accepted.
    pub(super) async fn check(&self, bodies: &dyn BodyStore, disk: &Disk) -> Result<(), StoreError> {
        disk.check().await?;
        let unavailable = |why: String| Err(StoreError::new(StoreErrorKind::Unavailable, "accept", why));
        let waiting = self.bytes.load(Ordering::Relaxed);
        if waiting > self.settings.max_bytes {
            return unavailable(format!("{waiting} bytes of bodies wait for the body store"));
        }
        if self.settings.when_bodies_down == WhenBodiesDown::Spool {
            return Ok(());
        }
        let known = match &*self.asked() {
            Some((at, state)) if at.elapsed() < ASK_PERIOD => Some(state.clone()),
            _ => None,
        };
        let state = match known {
            Some(state) => state,
            None => {
                let state = bodies.check().await.err();
                if let Some(error) = &state
                    && error.kind() == StoreErrorKind::Full
                {
                    return Err(StoreError::new(StoreErrorKind::Full, "accept", error));
                }
                let state = state.map(|error| error.to_string());
                self.remember(state.clone());
                state
            }
        };
        state.map_or(Ok(()), |why| unavailable(format!("the body store is down: {why}")))
    }

    /// Counts bodies that were accepted, and has them moved.
    pub(super) fn added(&self, sizes: impl Iterator<Item = u64>) {
        for size in sizes {
            self.bodies.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(size, Ordering::Relaxed);
        }
        self.wake.notify_one();
    }

    /// Waits until it is a good moment to move what waits.
    async fn gather(&self) {
        let until = Instant::now() + LOUD_TIME;
        // Long before there are so many that no more may come.
        let loud = LOUD_BYTES.min(self.settings.max_bytes / 2);
        while self.bytes.load(Ordering::Relaxed) < loud && Instant::now() < until {
            if tokio::time::timeout(QUIET, self.wake.notified()).await.is_err() {
                return;
            }
        }
    }

    fn set_waiting(&self, bodies: u64, bytes: u64, oldest: Option<Timestamp>) {
        self.bodies.store(bodies, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
        *self.oldest.lock().unwrap_or_else(PoisonError::into_inner) = oldest;
    }

    fn removed(&self, size: u64) {
        let less = |number: &AtomicU64, by: u64| {
            // Counted by two processes, it may be less than it was.
            let _ = number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |value| Some(value.saturating_sub(by)));
        };
        less(&self.bodies, 1);
        less(&self.bytes, size);
    }

    fn remember(&self, state: Option<String>) {
        *self.asked() = Some((Instant::now(), state));
    }

    fn asked(&self) -> MutexGuard<'_, Option<(Instant, Option<String>)>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mover {
    pub(super) fn start(parts: &Arc<Parts>) -> Self {
        Self(tokio::spawn(run(Arc::downgrade(parts))))
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run(parts: Weak<Parts>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let Some(alive) = parts.upgrade() else { return };
        let rest = match alive.move_all().await {
            Ok(()) => {
                pause = FIRST_PAUSE;
                if alive.spool.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(component = "store", "bodies are moved to the body store again");
                }
                LOOK_PERIOD
            }
            Err(error) => {
                if !alive.spool.failing.swap(true, Ordering::Relaxed) {
                    let cause = &error as &(dyn std::error::Error + 'static);
                    tracing::error!(component = "store", error = cause, "bodies can't be moved to the body store");
                }
                let next = (pause * 2).min(LAST_PAUSE);
                std::mem::replace(&mut pause, next)
            }
        };
        // While it fails, more that waits is no reason to try earlier.
        if alive.spool.failing.load(Ordering::Relaxed) {
            tokio::time::sleep(rest).await;
        } else if tokio::time::timeout(rest, alive.spool.wake.notified()).await.is_ok() {
            alive.spool.gather().await;
        }
    }
}

impl Parts {
    /// Moves what waits. Goes past what can't be moved, and says so in the end.
    pub(super) async fn move_all(&self) -> Result<(), StoreError> {
        let _turn = self.spool.turn.lock().await;
        let (mut last, mut failure) = (0, None);
        loop {
            let waiting = self.waiting(last).await?;
            let Some(end) = waiting.last() else { break };
            last = end.seq;
            if let Err(error) = self.move_some(waiting).await {
                // The store is down, the rest would fare no better; or one object is odd.
                let down = error.is_temporary();
                failure = failure.or(Some(error));
                if down {
                    break;
                }
            }
        }
        self.recount().await?;
        failure.map_or(Ok(()), Err)
    }

    async fn waiting(&self, after: i64) -> Result<Vec<Waiting>, StoreError> {
        let query = Query::new(statement::spool::NEXT).bind(after).bind(BATCH_BYTES).bind(BATCH);
        let rows = self.database.fetch_all(Scope::All, query).await.map_err(failed("move bodies", "read"))?;
        let waiting = rows.iter().map(|row| {
            let columns = Columns::new("move bodies", row);
            let (seq, key) = (columns.value("seq")?, columns.value("object_key")?);
            Ok(Waiting { seq, key, data: columns.blob("data")? })
        });
        waiting.collect()
    }

    async fn move_some(&self, waiting: Vec<Waiting>) -> Result<(), StoreError> {
        let object = |body: &Waiting| NewObject {
            key: body.key.clone(),
            prefix: Bytes::new(),
            body: Body::from(body.data.clone()),
        };
        let answers = self.bodies.put(waiting.iter().map(object).collect()).await;
        let (mut there, mut failure) = (Vec::with_capacity(waiting.len()), None);
        for (body, answer) in waiting.into_iter().zip(answers) {
            match answer {
                Ok(_) => there.push(body),
                // Moved before, when the row could not be removed.
                Err(error) if error.kind() == StoreErrorKind::AlreadyExists => match self.is_there(&body).await {
                    Ok(()) => there.push(body),
                    Err(error) => failure = Some(error),
                },
                Err(error) => failure = Some(error),
            }
        }
        match &failure {
            Some(error) if error.is_temporary() => self.spool.remember(Some(error.to_string())),
            _ => self.spool.remember(None),
        }
        self.forget(there).await?;
        failure.map_or(Ok(()), Err)
    }

    /// Whether the body store has this very object.
    async fn is_there(&self, body: &Waiting) -> Result<(), StoreError> {
        let found = self.bodies.open(&body.key).await?;
        verify(found, digest_of_all(&body.data), body.key.clone()).await.map(drop)
    }

    /// Frees the database of what was moved. It does not matter if somebody else has done so.
    async fn forget(&self, moved: Vec<Waiting>) -> Result<(), StoreError> {
        if moved.is_empty() {
            return Ok(());
        }
        let mut query = Query::new(statement::spool::DELETE);
        for (index, body) in moved.iter().enumerate() {
            query.push(if index == 0 { "" } else { ", " }).push_bind(body.seq);
        }
        query.push(")");
        // A row that comes back is moved again, to where its body is already.
        let failed = || failed("move bodies", "remove");
        let transaction = self.database.begin_lazy(Scope::All).await.map_err(failed())?;
        self.database.within(transaction.execute_and_commit([query])).await.map_err(failed())?;
        for body in moved {
            self.spool.removed(body.data.len() as u64);
            self.spool.moved.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Counts what waits.
    pub(super) async fn recount(&self) -> Result<(), StoreError> {
        let row = self.database.fetch_one(Scope::All, Query::new(statement::spool::COUNT)).await;
        let row = row.map_err(failed("count spooled bodies", "read"))?;
        let columns = Columns::new("count spooled bodies", &row);
        let oldest = columns.optional_time("oldest")?;
        self.spool.set_waiting(columns.number("bodies")?, columns.number("bytes")?, oldest);
        Ok(())
    }
}
