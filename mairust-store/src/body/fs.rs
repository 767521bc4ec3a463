//! Bodies as files: one file per object, durable before its name is told.
//!
//! An object is written to `tmp/`, synced, given its name (which fails if the name is taken), and the
//! directories that hold the new names are synced, each once per batch. Where there are many, the
//! whole file system is synced at once instead of each file (`syncfs`).

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use aws_lc_rs::digest;
use futures::future::join_all;
use mairust_core::{Body, BodySource};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::{BodyStore, NewObject, StoredObject, check_key, interrupted, io_error, to_array};
use crate::error::{StoreError, StoreErrorKind};

#[cfg(test)]
mod tests;
mod walk;

/// A [`BodyStore`] in a directory. `Ok` from [`put`](BodyStore::put) means that the file, its name
/// and the directories above it were synced.
#[derive(Debug)]
pub struct FsBodies(Arc<Directory>);

#[derive(Debug)]
struct Directory {
    base: PathBuf,
    temporary: PathBuf,
    /// Directories whose own names were synced since the store was opened.
    settled: Mutex<HashSet<PathBuf>>,
    /// Whether files and directories are synced.
    sync: bool,
    fsyncs: AtomicU64,
    /// The number of the sync that fails.
    #[cfg(test)]
    broken_sync: AtomicU64,
    /// Held shared, so that nobody else who opens the store empties `tmp/` under our hands.
    _lock: File,
}

/// A file in `tmp/`; removed when dropped, unless it got its name.
#[derive(Debug)]
struct Temporary {
    path: PathBuf,
    named: bool,
    key: String,
    object: StoredObject,
}

/// How files are synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sync {
    /// Each for itself.
    Each,
    /// All of a batch when the last one is written.
    Together,
}

/// An object that has its name, which is not durable yet.
struct Linked {
    path: PathBuf,
    object: StoredObject,
}

#[derive(Debug)]
struct FileSource {
    file: File,
    len: u64,
}

/// How many objects of a batch are written at the same time, where each waits for the disk. Those
/// that wait together are written one after the other, for files that come into one directory keep
/// each other waiting.
const LANES: usize = 4;
/// From so many files or directories on, the whole file system is synced instead of each.
const SYNC_TOGETHER: usize = 8;
/// Files up to this size are read when they are opened.
const READ_AT_ONCE: u64 = 64 * 1024;
/// How many directories are remembered as settled before all are forgotten and synced again.
const SETTLED_MAX: usize = 65_536;

impl FsBodies {
    /// Opens the store in `base`, which is made if it is not there (blocking). What an earlier
    /// run left in `tmp/` is removed, unless another process has the store open.
    ///
    /// # Errors
    /// When the directory can't be made, read or synced.
    pub fn open(base: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::open_with(base, true)
    }

    /// As [`open`](Self::open); `sync` tells whether files and directories are synced, without
    /// which a loss of power may undo the last moments.
    pub(crate) fn open_with(base: impl Into<PathBuf>, sync: bool) -> Result<Self, StoreError> {
        let base = base.into();
        let open = |base: &Path| -> io::Result<(PathBuf, File)> {
            let base = make_base(base)?;
            let temporary = base.join("tmp");
            make_directory(&temporary)?;
            let lock =
                OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(base.join(".lock"))?;
            if lock.try_lock().is_ok() {
                empty(&temporary)?;
                lock.unlock()?;
            }
            lock.lock_shared()?;
            Ok((base, lock))
        };
        let (base, lock) = open(&base).map_err(|error| io_error("open bodies", &base.display(), error))?;
        let temporary = base.join("tmp");
        let (settled, fsyncs) = (Mutex::default(), AtomicU64::new(0));
        Ok(Self(Arc::new(Directory {
            base,
            temporary,
            settled,
            sync,
            fsyncs,
            #[cfg(test)]
            broken_sync: AtomicU64::new(0),
            _lock: lock,
        })))
    }

    /// Number of fsyncs of files and directories so far, for metrics.
    pub fn fsyncs(&self) -> u64 {
        self.0.fsyncs.load(Ordering::Relaxed)
    }

    async fn write(&self, objects: Vec<NewObject>) -> Vec<Result<Temporary, StoreError>> {
        let lost = || Err(StoreError::new(StoreErrorKind::Unavailable, "put body", "the writer was interrupted"));
        let mut written: Vec<_> = objects.iter().map(|_| lost()).collect();
        let (sync, count) =
            if objects.len() < SYNC_TOGETHER { (Sync::Each, objects.len().min(LANES)) } else { (Sync::Together, 1) };
        let mut lanes: Vec<Vec<(usize, NewObject)>> = Vec::new();
        lanes.resize_with(count, Vec::new);
        for (index, object) in objects.into_iter().enumerate() {
            lanes[index % count].push((index, object));
        }
        let work = lanes.into_iter().map(|lane| {
            let directory = Arc::clone(&self.0);
            spawn_blocking(move || -> Vec<_> {
                lane.into_iter().map(|(index, object)| (index, directory.write(object, sync))).collect()
            })
        });
        for (index, result) in join_all(work).await.into_iter().flatten().flatten() {
            written[index] = result;
        }
        written
    }
}

#[async_trait]
impl BodyStore for FsBodies {
    async fn put(&self, objects: Vec<NewObject>) -> Vec<Result<StoredObject, StoreError>> {
        let count = objects.len();
        let written = self.write(objects).await;
        let directory = Arc::clone(&self.0);
        spawn_blocking(move || directory.publish(written)).await.unwrap_or_else(|_| {
            let lost = || StoreError::new(StoreErrorKind::Unavailable, "put body", "the writer was interrupted");
            (0..count).map(|_| Err(lost())).collect()
        })
    }

    async fn open(&self, key: &str) -> Result<Body, StoreError> {
        check_key("open body", key)?;
        let path = self.0.base.join(key);
        let open = move || {
            let file = File::open(path)?;
            let len = file.metadata()?.len();
            let body = Body::from_source(Arc::new(FileSource { file, len }));
            if len <= READ_AT_ONCE { body.read_all().map(Body::from) } else { Ok(body) }
        };
        let opened = spawn_blocking(open).await.map_err(|error| interrupted("open body", error))?;
        opened.map_err(|error| io_error("open body", &key, error))
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_key("delete body", key)?;
        let path = self.0.base.join(key);
        let removed = spawn_blocking(move || fs::remove_file(path)).await;
        match removed.map_err(|error| interrupted("delete body", error))? {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("delete body", &key, error)),
            _ => Ok(()),
        }
    }

    async fn list(&self, after: Option<&str>, limit: u32) -> Result<Vec<String>, StoreError> {
        let (directory, after) = (Arc::clone(&self.0), after.map(str::to_owned));
        let walk = move || walk::keys(&directory.base, after.as_deref(), limit as usize);
        let walked = spawn_blocking(walk).await.map_err(|error| interrupted("list bodies", error))?;
        walked.map_err(|error| io_error("list bodies", &self.0.base.display(), error))
    }

    async fn check(&self) -> Result<(), StoreError> {
        let directory = Arc::clone(&self.0);
        let probe = move || {
            let path = directory.temporary.join(Uuid::new_v4().to_string());
            let written = create(&path).and_then(|mut file| file.write_all(b"probe"));
            let removed = fs::remove_file(&path);
            written.and(removed)
        };
        let probed = spawn_blocking(probe).await.map_err(|error| interrupted("check bodies", error))?;
        probed.map_err(|error| io_error("check bodies", &self.0.base.display(), error))
    }
}

impl Directory {
    /// Writes an object to `tmp/` and syncs it.
    fn write(&self, object: NewObject, sync: Sync) -> Result<Temporary, StoreError> {
        check_key("put body", &object.key)?;
        let NewObject { key, prefix, body } = object;
        let path = self.temporary.join(Uuid::new_v4().to_string());
        // Made before the file, so that the file is removed whatever happens from here on.
        let mut temporary = Temporary { path, named: false, key, object: StoredObject { size: 0, sha256: [0; 32] } };
        match self.fill(&temporary.path, &prefix, &body, sync) {
            Ok(object) => temporary.object = object,
            Err(error) => return Err(io_error("put body", &temporary.key, error)),
        }
        Ok(temporary)
    }

    fn fill(&self, path: &Path, prefix: &[u8], body: &Body, sync: Sync) -> io::Result<StoredObject> {
        let mut file = create(path)?;
        let mut context = digest::Context::new(&digest::SHA256);
        let mut size = prefix.len() as u64;
        context.update(prefix);
        match body.in_memory() {
            Some(bytes) => {
                context.update(bytes);
                size += bytes.len() as u64;
                write_both(&mut file, prefix, bytes)?;
            }
            None => {
                file.write_all(prefix)?;
                size += copy(&mut body.reader(), &mut file, &mut context)?;
            }
        }
        if sync == Sync::Each {
            self.sync(&file)?;
        }
        Ok(StoredObject { size, sha256: to_array(&context.finish()) })
    }

    /// Gives written objects their names and makes the names durable.
    fn publish(&self, written: Vec<Result<Temporary, StoreError>>) -> Vec<Result<StoredObject, StoreError>> {
        if written.len() >= SYNC_TOGETHER
            && let Err(error) = self.sync_all()
        {
            let error = |_| Err(io_error("sync bodies", &self.base.display(), copy_of(&error)));
            return written.into_iter().map(error).collect();
        }
        let mut unsynced = BTreeSet::new();
        let linked: Vec<_> = written.into_iter().map(|temporary| self.link(temporary?, &mut unsynced)).collect();
        let sync = |directory: &PathBuf| File::open(directory).and_then(|opened| self.sync(&opened)).err();
        let failed: Vec<_> = if unsynced.len() < SYNC_TOGETHER {
            unsynced.iter().filter_map(|path| sync(path).map(|error| (path.clone(), error))).collect()
        } else {
            self.sync_all().err().map(|error| (self.base.clone(), error)).into_iter().collect()
        };
        let settled: Vec<_> = linked.into_iter().map(|linked| settle(linked, &failed)).collect();
        if failed.is_empty() {
            self.remember(&unsynced);
        }
        settled
    }

    fn link(&self, mut temporary: Temporary, unsynced: &mut BTreeSet<PathBuf>) -> Result<Linked, StoreError> {
        let path = self.base.join(&temporary.key);
        let mut link = || {
            let directory = path.parent().unwrap_or(&self.base);
            self.make_directories(directory, unsynced)?;
            // Also if the name is taken: whoever took it may not have synced it yet.
            unsynced.insert(directory.to_owned());
            give_name(&mut temporary, &path)
        };
        let made: io::Result<()> = link();
        made.map_err(|error| io_error("put body", &temporary.key, error))?;
        Ok(Linked { path, object: temporary.object })
    }

    /// Makes the directories from the base down to `directory`. The parent of each that is not
    /// known to be settled is to be synced, even if somebody else has just made it: that one may
    /// not have synced it yet.
    fn make_directories(&self, directory: &Path, unsynced: &mut BTreeSet<PathBuf>) -> io::Result<()> {
        let unsettled: Vec<_> = {
            let settled = self.settled();
            let below_base = directory.ancestors().take_while(|path| *path != self.base);
            below_base.take_while(|path| !settled.contains(*path)).collect()
        };
        for path in unsettled.into_iter().rev() {
            make_directory(path)?;
            unsynced.extend(path.parent().map(Path::to_owned));
        }
        Ok(())
    }

    fn remember(&self, synced: &BTreeSet<PathBuf>) {
        let mut settled = self.settled();
        if settled.len() > SETTLED_MAX {
            settled.clear();
        }
        // A directory was synced only after all above it were made and put on the same list.
        settled.extend(synced.iter().filter(|path| **path != self.base).cloned());
    }

    fn settled(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Syncs the whole file system; since Linux 5.8 it tells when something could not be written.
    fn sync_all(&self) -> io::Result<()> {
        if !self.sync {
            return Ok(());
        }
        self.count_sync()?;
        Ok(rustix::fs::syncfs(File::open(&self.base)?)?)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if !self.sync {
            return Ok(());
        }
        self.count_sync()?;
        file.sync_all()
    }

    /// Counts a sync; tests have one fail here.
    fn count_sync(&self) -> io::Result<()> {
        match self.fsyncs.fetch_add(1, Ordering::Relaxed) + 1 {
            #[cfg(test)]
            number if number == self.broken_sync.load(Ordering::Relaxed) => {
                Err(io::Error::other("the disk did not take it"))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.named
            && let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "a temporary file could not be removed");
        }
    }
}

impl BodySource for FileSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}

/// An object counts as kept only if every directory above it was synced.
fn settle(linked: Result<Linked, StoreError>, failed: &[(PathBuf, io::Error)]) -> Result<StoredObject, StoreError> {
    let linked = match (linked, failed) {
        (Ok(linked), _) => linked,
        // Whoever made it may not have synced its name either.
        (Err(error), [(directory, cause), ..]) if error.kind() == StoreErrorKind::AlreadyExists => {
            return Err(io_error("sync directory", &directory.display(), copy_of(cause)));
        }
        (Err(error), _) => return Err(error),
    };
    let Some((directory, error)) = failed.iter().find(|(directory, _)| linked.path.starts_with(directory)) else {
        return Ok(linked.object);
    };
    // The name may or may not be durable; without a row nobody reads the object.
    drop(fs::remove_file(&linked.path));
    Err(io_error("sync directory", &directory.display(), copy_of(error)))
}

/// Gives a file its name, unless that is taken.
fn give_name(temporary: &mut Temporary, path: &Path) -> io::Result<()> {
    match renameat_with(CWD, &temporary.path, CWD, path, RenameFlags::NOREPLACE) {
        // Not every file system can refuse to replace; the second name is removed with the temporary file.
        Err(Errno::INVAL | Errno::NOSYS) => fs::hard_link(&temporary.path, path),
        Err(error) => Err(error.into()),
        Ok(()) => {
            temporary.named = true;
            Ok(())
        }
    }
}

fn copy_of(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn make_base(base: &Path) -> io::Result<PathBuf> {
    let made = !base.exists();
    DirBuilder::new().recursive(true).mode(0o700).create(base)?;
    let base = base.canonicalize()?;
    if made && let Some(parent) = base.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(base)
}

fn make_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn empty(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}

/// Small messages take one system call.
fn write_both(file: &mut File, prefix: &[u8], body: &[u8]) -> io::Result<()> {
    let written = file.write_vectored(&[io::IoSlice::new(prefix), io::IoSlice::new(body)])?;
    if let Some(rest) = prefix.get(written..) {
        file.write_all(rest)?;
    }
    file.write_all(&body[written.saturating_sub(prefix.len())..])
}

fn copy(reader: &mut impl Read, file: &mut File, context: &mut digest::Context) -> io::Result<u64> {
    let mut buffer = vec![0; 64 * 1024];
    let mut size = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(size),
            Ok(count) => {
                context.update(&buffer[..count]);
                file.write_all(&buffer[..count])?;
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
