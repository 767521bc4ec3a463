//! PostgreSQL: for servers of more than one machine.
//!
//! Two pools. One sees only the rows of the tenants that a transaction names, by row-level
//! security; the other, for what is done for all tenants, sees everything.

use std::str::FromStr;
use std::time::Duration;

use mairust_core::Secret;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgPool};

use super::changes::CHANNEL;
use super::driver::{Database, failed};
use super::migrations::{self, MigrationStatus};
use crate::durability::Durability;
use crate::error::{StoreError, StoreErrorKind};

/// What [`open`] gives.
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) listening: PgListener,
}

/// How long is waited.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// For a connection.
    pub(super) connect: Duration,
    /// For the end of a statement.
    pub(super) statement: Duration,
}

/// A connection that was idle for longer is asked whether it still works before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);
pub(super) async fn open(
    url: &Secret<String>,
    connections: u32,
    durability: Durability,
    times: Times,
) -> Result<Opened, StoreError> {
    let (options, deadline) = (options(url, durability, times.statement)?, times.connect);
    let share = (connections / 4).max(2);
    let all = connect(options.clone().options([("mairust.tenants", "*")]), share, deadline).await?;
    migrations::run_postgres(&all).await?;
    warn_of_superuser(&all).await?;
    let scoped = options.options([("mairust.tenants", "")]);
    let scoped = connect(scoped, connections.saturating_sub(share).max(2), deadline).await?;
    let mut listening = PgListener::connect_with(&all).await.map_err(failed("open storage", "listen"))?;
    listening.listen(CHANNEL).await.map_err(failed("open storage", "listen"))?;
    Ok(Opened { database: Database::postgres(scoped, all, times.statement), listening })
}

/// Applies what migrations are missing.
pub(super) async fn migrate(url: &Secret<String>, deadline: Duration) -> Result<MigrationStatus, StoreError> {
    let options = options(url, Durability::PowerSafe, deadline)?.options([("mairust.tenants", "*")]);
    let pool = connect(options, 1, deadline).await?;
    let status = migrations::run_postgres(&pool).await;
    pool.close().await;
    status
}

/// Which migrations there are.
pub(super) async fn migration_status(url: &Secret<String>, deadline: Duration) -> Result<MigrationStatus, StoreError> {
    let options = options(url, Durability::PowerSafe, deadline)?;
    let mut connection = options.connect().await.map_err(failed("migrate", "connect"))?;
    let status = migrations::status_postgres(&mut connection).await;
    // Nothing was changed; whether the server hears the farewell does not matter.
    drop(connection.close().await);
    status
}

fn options(url: &Secret<String>, durability: Durability, deadline: Duration) -> Result<PgConnectOptions, StoreError> {
    let invalid = |error: sqlx::Error| {
        StoreError::new(StoreErrorKind::Invalid, "open storage", "the URL of the database can't be read")
            .with_source(error)
    };
    let timeout = deadline.as_millis().to_string();
    // What is committed without waiting for the disk can be lost when PostgreSQL crashes.
    let commit = if durability == Durability::Relaxed { "off" } else { "on" };
    Ok(PgConnectOptions::from_str(url.expose())
        .map_err(invalid)?
        .application_name("mairust")
        .options([
            ("statement_timeout", timeout.as_str()),
            ("lock_timeout", timeout.as_str()),
            ("idle_in_transaction_session_timeout", timeout.as_str()),
            ("synchronous_commit", commit),
        ])
        .disable_statement_logging())
}

async fn connect(options: PgConnectOptions, connections: u32, deadline: Duration) -> Result<PgPool, StoreError> {
    let host = format!("{}:{}", options.get_host(), options.get_port());
    PgPoolOptions::new()
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(deadline)
        .test_before_acquire(false)
        .before_acquire(|connection, idle| {
            Box::pin(async move {
                if idle.idle_for > TRUSTED_IDLE { connection.ping().await.map(|()| true) } else { Ok(true) }
            })
        })
        .connect_with(options)
        .await
        .map_err(failed("open storage", host))
}

async fn warn_of_superuser(pool: &PgPool) -> Result<(), StoreError> {
    let asked = sqlx::query_scalar("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user");
    let above: bool = asked.fetch_one(pool).await.map_err(failed("open storage", "read the role"))?;
    if above {
        tracing::warn!(
            component = "store",
            "the role of the database is above row-level security; use one that is neither SUPERUSER nor BYPASSRLS"
        );
    }
    Ok(())
}
