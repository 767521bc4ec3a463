//! What is particular to PostgreSQL: row-level security, notifications, lost connections.

use std::collections::BTreeSet;

use mairust_store::{SqlStorage, StorageBackend};
use sqlx::{AssertSqlSafe, Row};
use tempfile::TempDir;

use crate::sample::{alice, entry, id};
use crate::server::Database;

#[tokio::test]
async fn has_the_tables_columns_and_indexes_of_sqlite() {
    let (database, directory) = (Database::new().await, TempDir::new().unwrap());
    SqlStorage::postgres(&database.url).migrate().await.unwrap();
    let mut postgres = database.superuser().await;
    // The search index of SQLite has a file of its own.
    let columns = "SELECT table_name || '.' || column_name FROM information_schema.columns \
        WHERE table_schema = 'public' AND table_name NOT LIKE '\\_sqlx%' AND table_name <> 'search_documents'";
    // Indexes that have no name of their own are those of constraints.
    let indexes = "SELECT indexname::text FROM pg_indexes WHERE schemaname = 'public' AND tablename NOT LIKE '\\_sqlx%' \
        AND tablename <> 'search_documents' \
        AND indexname !~ '_(pkey|key)$'";
    let mut there = BTreeSet::new();
    for statement in [columns, indexes] {
        there.extend(sqlx::query_scalar::<_, String>(statement).fetch_all(&mut postgres).await.unwrap());
    }
    SqlStorage::sqlite(directory.path().join("mail.db")).migrate().await.unwrap();
    let sqlite = crate::sqlite::connect(directory.path());
    let columns = "SELECT m.name || '.' || c.name FROM sqlite_schema m, pragma_table_info(m.name) c \
        WHERE m.type = 'table' AND m.name NOT LIKE '\\_sqlx%' ESCAPE '\\' AND m.name NOT LIKE 'sqlite%'";
    let indexes = "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL";
    let mut here = BTreeSet::new();
    for statement in [columns, indexes] {
        here.extend(crate::sqlite::texts(&sqlite, statement));
    }
    assert_eq!(there, here);
}

#[tokio::test]
async fn every_table_of_tenants_is_behind_the_wall() {
    let database = Database::new().await;
    SqlStorage::postgres(&database.url).migrate().await.unwrap();
    // The search index is not: an index of words can't be used behind it.
    let open = "SELECT c.relname::text FROM pg_class c \
        WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND c.relname NOT LIKE '\\_sqlx%' \
        AND c.relname <> 'search_documents' \
        AND NOT (c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (SELECT 1 FROM pg_policy WHERE polrelid = c.oid))";
    let open: Vec<String> = sqlx::query_scalar(open).fetch_all(&mut database.superuser().await).await.unwrap();
    assert!(open.is_empty(), "{open:?}");
}

#[tokio::test]
async fn a_connection_sees_only_the_tenants_that_it_names() {
    let (database, directory) = (Database::new().await, TempDir::new().unwrap());
    let storage = SqlStorage::postgres(&database.url).fs_bodies(directory.path()).open().await.unwrap();
    let alice = alice(&storage).await;
    let entry = entry(&alice, "x");
    let id = id(&entry);
    storage.messages().accept(vec![entry]).await.remove(0).unwrap();
    let mut owner = <sqlx::PgConnection as sqlx::Connection>::connect(&database.url).await.unwrap();
    let other = mairust_core::TenantId::new(crate::sample::NOW);
    for (tenants, expected) in
        [(String::new(), 0), (other.to_string(), 0), (format!("{other},{}", alice.tenant), 1), ("*".to_owned(), 1)]
    {
        let set = AssertSqlSafe(format!("SET mairust.tenants = '{tenants}'"));
        sqlx::query(set).execute(&mut owner).await.unwrap();
        let rows = sqlx::query("SELECT id FROM messages").fetch_all(&mut owner).await.unwrap();
        assert_eq!(rows.len(), expected, "{tenants}");
        assert!(rows.iter().all(|row| row.get::<uuid::Uuid, _>(0).as_bytes() == id.as_bytes()));
        let stolen = sqlx::query("UPDATE messages SET address = 'x'").execute(&mut owner).await.unwrap();
        assert_eq!(stolen.rows_affected(), expected as u64, "{tenants}");
    }
}

#[tokio::test]
async fn what_another_process_does_wakes_who_waits() {
    let (database, directory) = (Database::new().await, TempDir::new().unwrap());
    let open = || SqlStorage::postgres(&database.url).fs_bodies(directory.path()).max_connections(4).open();
    let (one, other) = (open().await.unwrap(), open().await.unwrap());
    let alice = alice(&one).await;
    let (queue, messages) = (one.queue().version(), one.messages().version(alice.tenant));
    let mut accepted = entry(&alice, "x");
    accepted.jobs = vec![crate::sample::job(alice.tenant)];
    other.messages().accept(vec![accepted]).await.remove(0).unwrap();
    assert!(one.queue().changed(queue).await > queue);
    assert!(one.messages().changed(alice.tenant, messages).await > messages);
}

#[tokio::test]
async fn lost_connections_are_made_anew() {
    let (database, directory) = (Database::new().await, TempDir::new().unwrap());
    let storage = SqlStorage::postgres(&database.url).fs_bodies(directory.path()).max_connections(4).open();
    let storage = storage.await.unwrap();
    let alice = alice(&storage).await;
    // Nobody hears of connections that were cut while they were not used: there is nothing to lose.
    for _ in 0..3 {
        assert!(cut(&database).await >= 2);
        assert!(storage.directory().user_by_address(alice.tenant, &alice.address).await.unwrap().is_some());
        assert!(storage.directory().tenant_by_name("example").await.unwrap().is_some());
        assert!(cut(&database).await >= 2);
        storage.messages().accept(vec![entry(&alice, "x")]).await.remove(0).unwrap();
        assert!(storage.health().await.iter().all(|(_, state)| state.is_ok()));
    }
}

/// Cuts all connections to a database, and waits until they are gone; how many there were.
async fn cut(database: &Database) -> usize {
    let mut superuser = database.superuser().await;
    let cut = "WITH others AS MATERIALIZED (SELECT pid FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid()) \
        SELECT pid FROM others WHERE pg_terminate_backend(pid)";
    let cut: Vec<i32> = sqlx::query_scalar(cut).fetch_all(&mut superuser).await.unwrap();
    let left = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY($1)";
    while sqlx::query_scalar::<_, i64>(left).bind(&cut).fetch_one(&mut superuser).await.unwrap() > 0 {}
    cut.len()
}

#[tokio::test]
async fn a_storage_that_is_closed_lets_go_of_the_database() {
    let (database, directory) = (Database::new().await, TempDir::new().unwrap());
    let storage = SqlStorage::postgres(&database.url).fs_bodies(directory.path()).open().await.unwrap();
    let alice = alice(&storage).await;
    storage.close().await;
    let gone = storage.messages().accept(vec![entry(&alice, "x")]).await.remove(0).unwrap_err();
    assert_eq!(gone.kind(), mairust_store::StoreErrorKind::Unavailable);
}
