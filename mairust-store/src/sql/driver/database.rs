//! The database: whom to ask, and for whose data.

use std::fmt::Write;
use std::future::Future;
use std::io;
use std::time::Duration;

use mairust_core::TenantId;
use sqlx::{AssertSqlSafe, PgPool};

use super::row::{Row, failed};
use super::sqlite::{Connections, Lookups};
use super::{Dialect, Query, Transaction};
use crate::error::StoreError;
use crate::owner::Owner;
use crate::sql::migrations::{self, MigrationStatus};

/// Whose rows a statement is about. PostgreSQL shows it no others, whatever it asks for
/// (row-level security); in SQLite the statements alone see to it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scope<'a> {
    /// Everybody's: how a tenant is found, and work that is done for all.
    All,
    /// One tenant's.
    Tenant(TenantId),
    /// These tenants'.
    Tenants(&'a [TenantId]),
}

/// Connections to a database.
#[derive(Debug)]
pub(crate) struct Database {
    pools: Pools,
    /// How long a statement, or waiting for a connection, may take.
    deadline: Duration,
}

#[derive(Debug)]
enum Pools {
    Postgres {
        /// Connections that see what `mairust.tenants` names: nothing, unless a transaction says whose.
        scoped: PgPool,
        /// Connections that see everybody's rows.
        all: PgPool,
    },
    Sqlite {
        /// One connection: SQLite has one writer at a time, and many that wait collapse.
        writer: Connections,
        /// The writer for what need not survive a loss of power; used by who has the other one.
        lazy: Connections,
        reader: Connections,
        lookups: Option<Box<Lookups>>,
    },
}

impl From<TenantId> for Scope<'_> {
    fn from(tenant: TenantId) -> Self {
        Self::Tenant(tenant)
    }
}

/// Rows of the installation have zeros where a tenant's id stands otherwise.
impl From<Owner> for Scope<'_> {
    fn from(owner: Owner) -> Self {
        Self::Tenant(TenantId::from_bytes(*owner.as_bytes()))
    }
}

impl Database {
    pub(crate) fn postgres(scoped: PgPool, all: PgPool, deadline: Duration) -> Self {
        Self { pools: Pools::Postgres { scoped, all }, deadline }
    }

    pub(crate) fn sqlite(writer: Connections, lazy: Connections, reader: Connections, deadline: Duration) -> Self {
        Self { pools: Pools::Sqlite { writer, lazy, reader, lookups: None }, deadline }
    }

    /// Has SQLite look up what is asked by [`look_up`](Self::look_up) on this connection.
    pub(crate) fn with_lookups(mut self, connection: Lookups) -> Self {
        if let Pools::Sqlite { lookups, .. } = &mut self.pools {
            *lookups = Some(Box::new(connection));
        }
        self
    }

    /// Lets statements take so long.
    pub(crate) fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    pub(crate) fn dialect(&self) -> Dialect {
        match &self.pools {
            Pools::Postgres { .. } => Dialect::Postgres,
            Pools::Sqlite { .. } => Dialect::Sqlite,
        }
    }

    /// All rows that a statement finds. It must not change anything.
    pub(crate) async fn fetch_all(&self, scope: impl Into<Scope<'_>>, query: Query) -> Result<Vec<Row>, sqlx::Error> {
        let scope = scope.into();
        self.within(async {
            match (&self.pools, scope) {
                (Pools::Sqlite { reader, .. }, _) => {
                    Ok(Row::all(reader.acquire().await?.fetch(vec![query], usize::MAX).await?))
                }
                (Pools::Postgres { scoped, all }, scope) => {
                    again(all, || fetch_postgres(scoped, all, scope, query.clone())).await
                }
            }
        })
        .await
    }

    /// All rows of a statement that finds a few of them by their keys, which are in memory anyway: SQLite does
    /// it at once on the thread of the caller, for handing it to another one takes longer.
    pub(crate) async fn look_up(&self, scope: impl Into<Scope<'_>>, query: Query) -> Result<Vec<Row>, sqlx::Error> {
        let Pools::Sqlite { lookups: Some(lookups), .. } = &self.pools else {
            return self.fetch_all(scope, query).await;
        };
        match lookups.fetch(query) {
            Ok(found) => found.map(Row::all),
            Err(query) => self.fetch_all(scope, query).await,
        }
    }

    /// The first row that a statement finds. It must not change anything.
    pub(crate) async fn fetch_optional(
        &self,
        scope: impl Into<Scope<'_>>,
        query: Query,
    ) -> Result<Option<Row>, sqlx::Error> {
        let scope = scope.into();
        self.within(async {
            match (&self.pools, scope) {
                (Pools::Sqlite { reader, .. }, _) => {
                    Ok(reader.acquire().await?.fetch(vec![query], 1).await?.pop().map(Row::from))
                }
                (Pools::Postgres { all, .. }, Scope::All) => {
                    let fetch = || async { query.clone().postgres()?.fetch_optional(all).await };
                    Ok(again(all, fetch).await?.map(Row::from))
                }
                (Pools::Postgres { scoped, .. }, scope) => {
                    let fetch = || async {
                        let mut transaction = begin_scoped(scoped, scope).await?;
                        let row = transaction.fetch_optional(query.clone()).await?;
                        transaction.commit().await?;
                        Ok(row)
                    };
                    again(scoped, fetch).await
                }
            }
        })
        .await
    }

    /// The row of a statement that always finds one.
    pub(crate) async fn fetch_one(&self, scope: impl Into<Scope<'_>>, query: Query) -> Result<Row, sqlx::Error> {
        self.fetch_optional(scope, query).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// Runs one statement that changes something; how many rows it changed.
    pub(crate) async fn execute(&self, scope: impl Into<Scope<'_>>, query: Query) -> Result<u64, sqlx::Error> {
        let scope = scope.into();
        self.within(async {
            match (&self.pools, scope) {
                (Pools::Sqlite { writer, .. }, _) => writer.acquire().await?.execute(vec![query]).await,
                (Pools::Postgres { all, .. }, Scope::All) => Ok(query.postgres()?.execute(all).await?.rows_affected()),
                (Pools::Postgres { scoped, .. }, scope) => {
                    let mut transaction = begin_scoped(scoped, scope).await?;
                    let changed = transaction.execute(query).await?;
                    transaction.commit().await?;
                    Ok(changed)
                }
            }
        })
        .await
    }

    /// Runs one statement that changes something; the rows that it gives.
    pub(crate) async fn fetch_changed(
        &self,
        scope: impl Into<Scope<'_>>,
        query: Query,
    ) -> Result<Vec<Row>, sqlx::Error> {
        match &self.pools {
            Pools::Postgres { scoped, all } => self.within(fetch_postgres(scoped, all, scope.into(), query)).await,
            Pools::Sqlite { writer, .. } => {
                let changed = async { Ok(Row::all(writer.acquire().await?.fetch(vec![query], usize::MAX).await?)) };
                self.within(changed).await
            }
        }
    }

    /// The same for a change that SQLite need not wait for the disk for: a loss of power may undo it, as long as
    /// nothing was committed after it.
    pub(crate) async fn fetch_changed_lazily(
        &self,
        scope: impl Into<Scope<'_>>,
        query: Query,
    ) -> Result<Vec<Row>, sqlx::Error> {
        let Pools::Sqlite { writer, lazy, .. } = &self.pools else { return self.fetch_changed(scope, query).await };
        self.within(async {
            let _turn = writer.acquire().await?;
            Ok(Row::all(lazy.acquire().await?.fetch(vec![query], usize::MAX).await?))
        })
        .await
    }

    /// Which migrations there are.
    pub(crate) async fn migration_status(&self) -> Result<MigrationStatus, StoreError> {
        let connect = || failed("migrate", "connect");
        match &self.pools {
            Pools::Postgres { all, .. } => {
                migrations::status_postgres(&mut *all.acquire().await.map_err(connect())?).await
            }
            Pools::Sqlite { reader, .. } => migrations::status_sqlite(reader).await,
        }
    }

    /// Begins a transaction that is going to change something.
    pub(crate) async fn begin(&self, scope: impl Into<Scope<'_>>) -> Result<Transaction, sqlx::Error> {
        let scope = scope.into();
        self.within(async {
            match (&self.pools, scope) {
                (Pools::Sqlite { writer, .. }, _) => Ok(Transaction::sqlite(writer.acquire().await?)),
                (Pools::Postgres { all, .. }, Scope::All) => {
                    Ok(Transaction::Postgres(again(all, || all.begin()).await?))
                }
                (Pools::Postgres { scoped, .. }, scope) => begin_scoped(scoped, scope).await,
            }
        })
        .await
    }

    /// Begins a transaction that sees everybody's rows as they are now, whatever is changed meanwhile,
    /// and changes none of them.
    pub(crate) async fn begin_snapshot(&self) -> Result<Transaction, sqlx::Error> {
        self.within(async {
            match &self.pools {
                Pools::Sqlite { reader, .. } => Ok(Transaction::snapshot(reader.acquire().await?)),
                Pools::Postgres { all, .. } => {
                    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                    Ok(Transaction::Postgres(all.begin_with(begin).await?))
                }
            }
        })
        .await
    }

    /// Begins a transaction that a loss of power may undo, as long as nothing was committed after it: for
    /// what is done again then. It does not wait for the disk.
    pub(crate) async fn begin_lazy(&self, scope: impl Into<Scope<'_>>) -> Result<Transaction, sqlx::Error> {
        let Pools::Sqlite { writer, lazy, .. } = &self.pools else {
            let mut transaction = self.begin(scope).await?;
            transaction.execute(Query::new("SET LOCAL synchronous_commit = off")).await?;
            return Ok(transaction);
        };
        self.within(async {
            let turn = writer.acquire().await?;
            Ok(Transaction::lazy(lazy.acquire().await?, turn))
        })
        .await
    }

    /// Whether the database answers.
    pub(crate) async fn check(&self) -> Result<(), sqlx::Error> {
        self.fetch_one(Scope::All, Query::new("SELECT EXISTS (SELECT 1 FROM tenants)")).await.map(drop)
    }

    /// Runs `work` within the deadline.
    pub(crate) async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, sqlx::Error>> + Send,
    ) -> Result<T, sqlx::Error> {
        match tokio::time::timeout(self.deadline, work).await {
            Ok(result) => result,
            Err(_) => {
                let message = format!("the database did not answer within {:?}", self.deadline);
                Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, message)))
            }
        }
    }

    /// Waits for what is under way and closes all connections.
    pub(crate) async fn close(&self) {
        match &self.pools {
            Pools::Postgres { scoped, all } => {
                scoped.close().await;
                all.close().await;
            }
            Pools::Sqlite { writer, lazy, reader, lookups } => {
                lookups.iter().for_each(|lookups| lookups.close());
                reader.close().await;
                lazy.close().await;
                writer.close().await;
            }
        }
    }
}

/// Begins a transaction that sees the rows of these tenants only.
async fn begin_scoped(pool: &PgPool, scope: Scope<'_>) -> Result<Transaction, sqlx::Error> {
    let mut statement = "BEGIN; SET LOCAL mairust.tenants = '".to_owned();
    let tenants = match &scope {
        Scope::All => &[],
        Scope::Tenant(tenant) => std::slice::from_ref(tenant),
        Scope::Tenants(tenants) => *tenants,
    };
    for (index, tenant) in tenants.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a String never fails; an id is hexadecimal digits and hyphens.
        let _ = write!(statement, "{comma}{tenant}");
    }
    statement.push('\'');
    Ok(Transaction::Postgres(again(pool, || pool.begin_with(AssertSqlSafe(statement.clone()))).await?))
}

async fn fetch_postgres(
    scoped: &PgPool,
    all: &PgPool,
    scope: Scope<'_>,
    query: Query,
) -> Result<Vec<Row>, sqlx::Error> {
    if let Scope::All = scope {
        return Ok(Row::all(query.postgres()?.fetch_all(all).await?));
    }
    let mut transaction = begin_scoped(scoped, scope).await?;
    let rows = transaction.fetch_all(query).await?;
    transaction.commit().await?;
    Ok(rows)
}

/// Does what changes nothing; once more for each connection that was cut, which shows only when it is
/// used.
async fn again<T, F>(pool: &PgPool, work: impl Fn() -> F) -> Result<T, sqlx::Error>
where
    F: Future<Output = Result<T, sqlx::Error>>,
{
    let mut connections = pool.size();
    loop {
        match work().await {
            Err(error) if connections > 0 && is_cut(&error) => connections -= 1,
            done => return done,
        }
    }
}

/// Whether a connection was lost, other than by waiting too long.
fn is_cut(error: &sqlx::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error {
        sqlx::Error::Io(error) => {
            matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
        }
        // admin_shutdown, crash_shutdown: said by the server before it closes the connection.
        sqlx::Error::Database(error) => matches!(error.code().as_deref(), Some("57P01" | "57P02")),
        _ => false,
    }
}
