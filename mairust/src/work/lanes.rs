//! How many jobs of each destination are being done, so that a host that keeps silent can't keep all workers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mairust_store::LaneBounds;

/// The destinations of the jobs that are being done. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Lanes(Arc<Mutex<LaneBounds>>);

/// A job that is being done; it has ended when this is dropped.
#[derive(Debug)]
pub(super) struct Busy {
    lanes: Lanes,
    destination: String,
}

impl Lanes {
    /// So many jobs for each destination.
    pub(super) fn new(bound: usize) -> Self {
        Self(Arc::new(Mutex::new(LaneBounds::new(u32::try_from(bound).unwrap_or(u32::MAX)))))
    }

    /// What there is room for.
    pub(super) fn bounds(&self) -> LaneBounds {
        self.lock().clone()
    }

    /// Whether a destination has no room left.
    pub(super) fn are_full(&self) -> bool {
        self.lock().full() > 0
    }

    /// Counts a job that is begun.
    pub(super) fn begin(&self, destination: Option<&str>) -> Busy {
        let destination = destination.unwrap_or_default().to_owned();
        self.lock().begin(&destination);
        Busy { lanes: self.clone(), destination }
    }

    fn lock(&self) -> MutexGuard<'_, LaneBounds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.lanes.lock().end(&self.destination);
    }
}
