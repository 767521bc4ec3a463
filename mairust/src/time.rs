//! Waiting, by the clock that a server goes by: with a timer where that is the system's.

use std::time::Duration;

use mairust_core::{Clock, Timestamp};

/// Waits until it is `at`. Safe to drop.
pub(crate) async fn sleep_until(clock: &dyn Clock, at: Timestamp) {
    match clock.reach(at) {
        Some(reached) => reached.await,
        None => tokio::time::sleep(at.since(clock.now())).await,
    }
}

/// Waits so long, also when the system's clock is set meanwhile. Safe to drop.
pub(crate) async fn sleep(clock: &dyn Clock, duration: Duration) {
    match clock.reach(clock.now().plus(duration)) {
        Some(reached) => reached.await,
        None => tokio::time::sleep(duration).await,
    }
}
