//! Room on the disk: mail is refused before nothing is left for what was accepted already.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::body::{interrupted, io_error};
use crate::error::{StoreError, StoreErrorKind};

/// What must be free on the file systems of the database and of bodies in files. With less, messages
/// are not accepted and jobs are not leased: both fail with `Full`, until there is room again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskFloor {
    /// Bytes. Default 0: they don't matter.
    pub min_free: u64,
    /// Files that may still be made. Default 0: they don't matter. File systems that don't count
    /// them always have enough.
    pub min_free_files: u64,
}

/// The file systems that are looked at.
#[derive(Debug)]
pub(crate) struct Disk {
    floor: DiskFloor,
    folders: Vec<PathBuf>,
    known: Mutex<Known>,
}

/// What was found when the file systems were looked at last.
#[derive(Debug, Default)]
struct Known {
    at: Option<Instant>,
    /// What there is too little of.
    shortage: Option<String>,
}

/// The file systems are looked at once in this time.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

impl DiskFloor {
    /// A floor of `bytes` and `files`.
    pub fn new(bytes: u64, files: u64) -> Self {
        Self { min_free: bytes, min_free_files: files }
    }

    /// What there is too little of on the file system of `folder`.
    fn shortage(self, folder: &Path) -> Result<Option<String>, StoreError> {
        let found =
            rustix::fs::statvfs(folder).map_err(|error| io_error("look at disk", &folder.display(), error.into()))?;
        let (bytes, files) = (found.f_bavail.saturating_mul(found.f_frsize), found.f_favail);
        let short = |free: u64, what: &str, floor: u64| {
            format!("{}: {free} {what} are free, and {floor} must be", folder.display())
        };
        Ok(if bytes < self.min_free {
            Some(short(bytes, "bytes", self.min_free))
        } else if found.f_files > 0 && files < self.min_free_files {
            Some(short(files, "files", self.min_free_files))
        } else {
            None
        })
    }
}

impl Disk {
    /// Looks at the file systems of these folders, which exist.
    pub(crate) fn new(floor: DiskFloor, folders: Vec<PathBuf>) -> Self {
        Self { floor, folders, known: Mutex::default() }
    }

    /// Whether there is anything to look at.
    pub(crate) fn is_watched(&self) -> bool {
        !self.folders.is_empty() && self.floor != DiskFloor::default()
    }

    /// Whether there is room for more.
    ///
    /// # Errors
    /// `Full` if not; otherwise when a file system can't be looked at.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        if !self.is_watched() {
            return Ok(());
        }
        if self.is_due() {
            let (floor, folders) = (self.floor, self.folders.clone());
            let look = move || folders.iter().find_map(|folder| floor.shortage(folder).transpose()).transpose();
            let looked = tokio::task::spawn_blocking(look).await;
            self.learn(looked.map_err(|error| interrupted("look at disk", error))??);
        }
        match &self.known().shortage {
            Some(shortage) => Err(StoreError::new(StoreErrorKind::Full, "check disk", shortage)),
            None => Ok(()),
        }
    }

    /// Whether it is time to look; whoever comes meanwhile goes by what was found before.
    fn is_due(&self) -> bool {
        let mut known = self.known();
        let due = known.at.is_none_or(|at| at.elapsed() >= LOOK_PERIOD);
        if due {
            known.at = Some(Instant::now());
        }
        due
    }

    fn learn(&self, shortage: Option<String>) {
        let mut known = self.known();
        match (&known.shortage, &shortage) {
            (None, Some(shortage)) => {
                tracing::error!(component = "store", shortage, "the disk is nearly full, no mail is taken or sent");
            }
            (Some(_), None) => tracing::info!(component = "store", "there is room on the disk again"),
            _ => {}
        }
        known.shortage = shortage;
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
