//! Bringing a database to the form that this version knows.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{SqlSafeStr, SqliteConnection, SqlitePool};

use super::row::failed;
use crate::error::{StoreError, StoreErrorKind};

/// Which migrations there are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationStatus {
    /// Numbers of the migrations that the database went through, ascending.
    pub applied: Vec<i64>,
    /// Numbers of the migrations that this version knows, ascending.
    pub known: Vec<i64>,
}

impl MigrationStatus {
    /// Numbers of the migrations that the database still has to go through, ascending.
    pub fn pending(&self) -> Vec<i64> {
        self.known.iter().filter(|version| !self.applied.contains(version)).copied().collect()
    }

    /// Refuses a database that a newer version has changed in a way that this one doesn't know.
    fn check(&self) -> Result<(), StoreError> {
        match self.applied.iter().find(|version| !self.known.contains(version)) {
            None => Ok(()),
            Some(version) => Err(StoreError::new(
                StoreErrorKind::Invalid,
                "migrate",
                format!("the database was made by a newer version: migration {version} is not known here"),
            )),
        }
    }
}

/// Applies what is missing, in one transaction.
pub(super) async fn run(writer: &SqlitePool) -> Result<MigrationStatus, StoreError> {
    // Immediate, so that two processes that start together do this one after the other.
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed("migrate", "begin"))?;
    status(&mut transaction).await?.check()?;
    migrator().run(&mut *transaction).await.map_err(|error| {
        StoreError::new(StoreErrorKind::Unavailable, "migrate", "a migration failed").with_source(error)
    })?;
    let status = status(&mut transaction).await?;
    transaction.commit().await.map_err(failed("migrate", "commit"))?;
    Ok(status)
}

/// Which migrations there are.
pub(super) async fn status(connection: &mut SqliteConnection) -> Result<MigrationStatus, StoreError> {
    let known = migrator().iter().map(|migration| migration.version).collect();
    let exists: bool = sqlx::query_scalar(TABLE_EXISTS)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed("migrate", "read the list of migrations"))?;
    let applied = if exists {
        let versions = sqlx::query_scalar(APPLIED).fetch_all(connection).await;
        versions.map_err(failed("migrate", "read the list of migrations"))?
    } else {
        Vec::new()
    };
    Ok(MigrationStatus { applied, known })
}

/// What a database is that no migration has touched.
pub(super) fn untouched() -> MigrationStatus {
    MigrationStatus { applied: Vec::new(), known: migrator().iter().map(|migration| migration.version).collect() }
}

fn migrator() -> Migrator {
    let migrations = MIGRATIONS.iter().map(|(version, name, sql)| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.collect())
}

/// Forward only; what was released is never changed.
const MIGRATIONS: &[(i64, &str, &str)] = &[(1, "first", include_str!("../../migrations/sqlite/0001_first.sql"))];

const TABLE_EXISTS: &str =
    "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations')";

const APPLIED: &str = "SELECT version FROM _sqlx_migrations ORDER BY version";
