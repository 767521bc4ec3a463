//! Who waits for changes, in this process and in others that share the database.
//!
//! In PostgreSQL a change is told to all by NOTIFY; a message names the process that sends it, and
//! what changed: a tenant, or nothing for the queue. SQLite has one server process; jobs that another
//! process adds, a tool, are noticed within a second.

use std::sync::Arc;
use std::time::Duration;

use mairust_core::TenantId;
use sqlx::postgres::PgListener;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::driver::{Dialect, Query, Transaction};
use crate::change::{ChangeCounter, TenantCounters};

/// Counters of changes.
#[derive(Debug)]
pub(super) struct Changes {
    /// Tells this process from others.
    process: Uuid,
    pub(super) messages: TenantCounters,
    pub(super) queue: ChangeCounter,
    /// Of all tenants.
    pub(super) events: ChangeCounter,
    /// Of this process only: who accepts a message indexes it.
    pub(super) search: ChangeCounter,
}

/// What changed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    /// Messages of a tenant, or what there is to tell about them.
    Messages(TenantId),
    /// Jobs were added or given back.
    Queue,
}

/// Passes on what other processes changed; ends when dropped.
#[derive(Debug)]
pub(super) struct Listener(JoinHandle<()>);

/// The name under which changes are told.
pub(super) const CHANNEL: &str = "mairust";

/// The pause before a lost connection is tried again.
const LISTEN_PAUSE: Duration = Duration::from_secs(1);

impl Changes {
    pub(super) fn new() -> Self {
        let (messages, queue) = (TenantCounters::default(), ChangeCounter::default());
        let (events, search) = (ChangeCounter::default(), ChangeCounter::default());
        Self { process: Uuid::new_v4(), messages, queue, events, search }
    }

    /// Wakes who waits in this process.
    pub(super) fn announce(&self, change: Change) {
        match change {
            Change::Messages(tenant) => {
                self.messages.bump(tenant);
                self.events.bump();
            }
            Change::Queue => self.queue.bump(),
        }
    }

    /// Tells other processes, once the transaction is committed.
    pub(super) async fn tell(&self, transaction: &mut Transaction, change: Change) -> Result<(), sqlx::Error> {
        match transaction.dialect() {
            Dialect::Postgres => transaction.execute(self.message(change)).await.map(drop),
            Dialect::Sqlite => Ok(()),
        }
    }

    /// The statements that tell other processes, once they are committed; SQLite has none.
    pub(super) fn messages(&self, dialect: Dialect, changes: &[Change]) -> Vec<Query> {
        let told = dialect.pick(&[][..], changes);
        told.iter().map(|change| self.message(*change)).collect()
    }

    /// The statement that tells other processes in PostgreSQL.
    pub(super) fn message(&self, change: Change) -> Query {
        let text = match change {
            Change::Messages(tenant) => format!("{} {tenant}", self.process),
            Change::Queue => self.process.to_string(),
        };
        Query::new("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(text)
    }

    fn hear(&self, message: &str) {
        let (process, tenant) = message.split_once(' ').unwrap_or((message, ""));
        if process == self.process.to_string() {
            return;
        }
        match tenant.parse() {
            Ok(tenant) => self.announce(Change::Messages(tenant)),
            Err(_) => self.announce(Change::Queue),
        }
    }
}

impl Listener {
    pub(super) fn start(mut listening: PgListener, changes: Arc<Changes>) -> Self {
        Self(tokio::spawn(async move {
            loop {
                match listening.try_recv().await {
                    Ok(Some(notification)) => changes.hear(notification.payload()),
                    // The connection was lost and made anew: anything may have changed in between.
                    Ok(None) => {
                        changes.messages.bump_all();
                        changes.events.bump();
                        changes.queue.bump();
                    }
                    Err(error) => {
                        tracing::warn!(component = "store", %error, "no notifications from the database");
                        tokio::time::sleep(LISTEN_PAUSE).await;
                    }
                }
            }
        }))
    }

    /// Gives the connection back. Nothing is heard from then on.
    pub(super) fn stop(&self) {
        self.0.abort();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}
