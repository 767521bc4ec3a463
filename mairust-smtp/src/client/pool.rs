//! Connections that wait for another message, and how many there may be to one host.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connection::Conversation;
use super::peer::Endpoint;

/// The connections of a client. The busy and the idle ones to one address and port are never more
/// than the limit.
#[derive(Debug)]
pub(super) struct Pool {
    places: Mutex<HashMap<SocketAddr, Arc<Place>>>,
    limit: usize,
    idle_time: Duration,
}

/// All that is known of one address and port.
#[derive(Debug)]
struct Place {
    /// One permit for each connection that is not busy.
    turns: Arc<Semaphore>,
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    /// The oldest one first, each with a number of its own.
    connections: Vec<(u64, Conversation)>,
    next: u64,
}

/// The right to have one connection that is busy.
#[derive(Debug)]
pub(super) struct Turn {
    pool: Arc<Pool>,
    address: SocketAddr,
    place: Arc<Place>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Pool {
    pub(super) fn new(limit: usize, idle_time: Duration) -> Arc<Self> {
        Arc::new(Self { places: Mutex::default(), limit: limit.max(1), idle_time })
    }

    /// Waits until there may be one more busy connection to this address, in order of arrival.
    pub(super) async fn turn(self: &Arc<Self>, address: SocketAddr) -> Turn {
        let place = self.place(address);
        // From here on, the place is given back whatever becomes of this future.
        let mut turn = Turn { pool: Arc::clone(self), address, place: Arc::clone(&place), permit: None };
        turn.permit = Arc::clone(&place.turns).acquire_owned().await.ok();
        turn
    }

    fn place(&self, address: SocketAddr) -> Arc<Place> {
        let fresh = || Place { turns: Arc::new(Semaphore::new(self.limit)), idle: Mutex::default() };
        Arc::clone(self.places().entry(address).or_insert_with(|| Arc::new(fresh())))
    }

    /// Forgets a place that nobody uses any more, but for the caller and this pool.
    fn forget(&self, address: SocketAddr) {
        let mut places = self.places();
        let unused = |place: &Arc<Place>| Arc::strong_count(place) == 2 && place.idle().connections.is_empty();
        if places.get(&address).is_some_and(unused) {
            places.remove(&address);
        }
    }

    fn places(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, number: u64) -> Option<Conversation> {
        let connections = &mut self.idle().connections;
        let found = connections.iter().position(|(other, _)| *other == number)?;
        Some(connections.remove(found).1)
    }
}

impl Turn {
    /// The idle connection of this kind that was used last.
    pub(super) fn idle(&self, endpoint: &Endpoint) -> Option<Conversation> {
        let connections = &mut self.place.idle().connections;
        let found = connections.iter().rposition(|(_, connection)| connection.endpoint == *endpoint)?;
        Some(connections.remove(found).1)
    }

    /// Before a new connection is made: idle ones of other kinds make room.
    pub(super) fn make_room(&self) {
        let busy = self.pool.limit - self.place.turns.available_permits();
        let mut idle = self.place.idle();
        let surplus = (busy + idle.connections.len()).saturating_sub(self.pool.limit).min(idle.connections.len());
        idle.connections.drain(..surplus);
    }

    /// Keeps a connection for the next message, for a while.
    pub(super) async fn keep(self, connection: Conversation) {
        if self.pool.idle_time.is_zero() || !connection.takes_more() {
            return connection.quit().await;
        }
        let number = {
            let mut idle = self.place.idle();
            idle.next += 1;
            let number = idle.next;
            idle.connections.push((number, connection));
            number
        };
        let (pool, address, place) = (Arc::clone(&self.pool), self.address, Arc::clone(&self.place));
        tokio::spawn(async move {
            tokio::time::sleep(pool.idle_time).await;
            if let Some(connection) = place.take(number) {
                connection.quit().await;
            }
            pool.forget(address);
        });
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.pool.forget(self.address);
    }
}
