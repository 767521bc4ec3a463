//! What only the inside can bring about: a full database, and the plans of the statements.

use std::sync::Arc;

use mairust_core::{MailboxId, TenantId};
use tempfile::TempDir;

use super::SqlStorage;
use super::driver::{Columns, Dialect, Query, Scope};
use super::message::{select, select_named};
use super::queue::{next_destinations, take_jobs};
use crate::backend::StorageBackend;
use crate::conformance::sample::{NOW, accept, alice, entry, id, kind};
use crate::error::StoreErrorKind;
use crate::message::{Folder, MessagePosition, MessageQuery};
use crate::sql::statement;

#[tokio::test]
async fn a_full_database_says_so_and_recovers() {
    let directory = TempDir::new().unwrap();
    let (sqlite, bodies) = (directory.path().join("mail.db"), directory.path().join("mail"));
    let storage = Arc::new(SqlStorage::sqlite(sqlite).fs_bodies(bodies).open().await.unwrap());
    let backend: Arc<dyn StorageBackend> = Arc::clone(&storage) as _;
    let alice = alice(&backend, "a.example").await;
    let (small, mut large) = (entry(&alice, "x"), entry(&alice, "y"));
    large.messages[0].content.preview = "y".repeat(2_000_000);
    let (first, second) = (id(&small), id(&large));
    pages(&storage, "PRAGMA max_page_count = 100").await;
    for answer in backend.messages().accept(vec![small, large.clone()]).await {
        assert_eq!(kind(answer), StoreErrorKind::Full);
    }
    pages(&storage, "PRAGMA max_page_count = 100000").await;
    // The bodies of the first try are not in the way.
    accept(&backend, large).await.unwrap();
    assert!(backend.messages().get(alice.tenant, first).await.unwrap().is_none());
    assert!(backend.messages().get(alice.tenant, second).await.unwrap().is_some());
}

#[tokio::test]
async fn lists_and_leases_read_an_index_in_order() {
    let directory = TempDir::new().unwrap();
    let (sqlite, bodies) = (directory.path().join("mail.db"), directory.path().join("mail"));
    let storage = SqlStorage::sqlite(sqlite).fs_bodies(bodies).open().await.unwrap();
    let (tenant, mailbox) = (TenantId::new(NOW), Some(MailboxId::new(NOW)));
    let after = Some(MessagePosition { received_at: NOW, id: mairust_core::MessageId::new(NOW) });
    let queries = [
        (MessageQuery { after, ..MessageQuery::default() }, "messages_by_time"),
        (MessageQuery { folder: Some(Folder::Inbox), ..MessageQuery::default() }, "messages_by_time"),
        (MessageQuery { mailbox, after, ..MessageQuery::default() }, "messages_by_mailbox"),
        (MessageQuery { mailbox, folder: Some(Folder::Inbox), after, ..MessageQuery::default() }, "messages_by_folder"),
    ];
    let deleted = MessageQuery { deleted: true, after, ..MessageQuery::default() };
    for (query, index) in queries.into_iter().chain([(deleted, "messages_deleted")]) {
        let plan = plan(&storage, select(Dialect::Sqlite, tenant, &query).text()).await;
        assert!(plan.contains(index) && !plan.contains("TEMP B-TREE FOR ORDER BY"), "{query:?}: {plan}");
    }
    let ids: Vec<_> = (0..200).map(|_| mairust_core::MessageId::new(NOW)).collect();
    let plan_of_named = plan(&storage, select_named(Dialect::Sqlite, tenant, &ids).text()).await;
    assert!(plan_of_named.contains("sqlite_autoindex_messages_1 (tenant_id=? AND id=?)"), "{plan_of_named}");
}

#[tokio::test]
async fn cleaning_up_reads_indexes_in_order() {
    let directory = TempDir::new().unwrap();
    let (sqlite, bodies) = (directory.path().join("mail.db"), directory.path().join("mail"));
    let storage = SqlStorage::sqlite(sqlite).fs_bodies(bodies).open().await.unwrap();
    let statements = [
        (statement::lifecycle::due(Dialect::Sqlite), "messages_to_purge"),
        (statement::lifecycle::IS_NAMED, "messages_by_time"),
        (statement::lifecycle::MOVE_OBJECT, "messages_by_time"),
        (statement::lifecycle::begin_removals(Dialect::Sqlite), "object_removals_due"),
        (statement::lifecycle::TENANTS_TO_CLEAN, "messages_to_purge"),
        (statement::lifecycle::TENANTS_TO_CLEAN, "object_removals_due"),
    ];
    for (statement, index) in statements {
        let plan = plan(&storage, statement).await;
        assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{statement}: {plan}");
        // All tenants are looked at, and all that was found.
        let plan = plan.replace("SCAN CONSTANT ROW", "").replace("SCAN t ", "").replace("SCAN due", "");
        assert!(!plan.contains("SCAN"), "{statement}: {plan}");
    }
}

#[tokio::test]
async fn the_queue_reads_indexes_in_order() {
    let directory = TempDir::new().unwrap();
    let (sqlite, bodies) = (directory.path().join("mail.db"), directory.path().join("mail"));
    let storage = SqlStorage::sqlite(sqlite).fs_bodies(bodies).open().await.unwrap();
    let lanes: Vec<_> = ["a.example", "b.example"].map(|name| (TenantId::new(NOW), name.to_owned())).into();
    let shares: Vec<_> = lanes.iter().map(|lane| (lane.clone(), 3)).collect();
    let statements = [
        (statement::queue::wake_jobs(Dialect::Sqlite).to_owned(), "jobs_asleep"),
        (statement::queue::NEXT_TENANTS.to_owned(), "jobs_ready"),
        (next_destinations(Dialect::Sqlite, &shares, NOW).text().to_owned(), "jobs_ready"),
        (take_jobs(Dialect::Sqlite, &lanes, NOW, NOW, [0; 16]).text().to_owned(), "jobs_ready"),
        (statement::queue::NEXT_DUE.to_owned(), "jobs_asleep"),
        (statement::queue::COUNT_JOBS.to_owned(), "jobs_by_kind"),
    ];
    for (statement, index) in statements {
        let plan = plan(&storage, &statement).await;
        let steps = plan.lines().filter(|step| step.contains("jobs") || step.contains(" j "));
        assert!(plan.contains(index), "{statement}: {plan}");
        for step in steps {
            assert!(step.contains("INDEX") || step.contains("PRIMARY KEY"), "{step} in {statement}: {plan}");
        }
        // What a walk found is put in order, a few rows; the jobs themselves never are.
        let sorts = plan.matches("TEMP B-TREE").count();
        assert!(sorts <= usize::from(index == "jobs_ready"), "{statement}: {plan}");
    }
}

#[tokio::test]
async fn addresses_are_looked_up_by_indexes() {
    let directory = TempDir::new().unwrap();
    let (sqlite, bodies) = (directory.path().join("mail.db"), directory.path().join("mail"));
    let storage = SqlStorage::sqlite(sqlite).fs_bodies(bodies).open().await.unwrap();
    let with_row = |(head, tail): (&str, &str), values| {
        let row: Vec<_> = (1..=values).map(|number| format!("${number}")).collect();
        format!("{head}({}){tail}", row.join(", "))
    };
    let take_places = with_row(statement::message::TAKE_PLACES, 4);
    let insert = with_row(statement::message::INSERT_MESSAGES, 35);
    let add_to_use = with_row(statement::message::ADD_TO_USE, 3);
    for statement in [statement::directory::RESOLVE, &take_places, &insert, &add_to_use] {
        let plan = plan(&storage, statement).await;
        // These are what the statement itself made.
        let made = ["SCAN CONSTANT ROW", "SCAN domain\n", "SCAN found LEFT-JOIN\n", "SCAN v"];
        let tables = made.iter().fold(plan.clone(), |plan, step| plan.replace(step, ""));
        assert!(tables.contains("SEARCH") && !tables.contains("SCAN"), "{statement}: {plan}");
    }
}

#[tokio::test]
async fn a_check_and_a_backup_read_indexes_in_order() {
    let directory = TempDir::new().unwrap();
    let (sqlite, bodies) = (directory.path().join("mail.db"), directory.path().join("mail"));
    let storage = SqlStorage::sqlite(sqlite).fs_bodies(bodies).open().await.unwrap();
    for statement in [statement::consistency::BODIES, statement::consistency::OBJECTS] {
        let plan = plan(&storage, statement).await;
        assert!(plan.contains("SEARCH m USING INDEX sqlite_autoindex_messages_1"), "{statement}: {plan}");
        assert!(plan.contains("messages_by_time (tenant_id=? AND received_at=? AND id<?)"), "{statement}: {plan}");
        assert!(!plan.contains("TEMP B-TREE") && !plan.contains("SCAN"), "{statement}: {plan}");
    }
    let of_object = plan(&storage, statement::consistency::MESSAGES_OF_OBJECT).await;
    assert!(of_object.contains("messages_by_time (tenant_id=? AND received_at=?)"), "{of_object}");
    for statement in [statement::consistency::MAILBOX_USE, statement::consistency::FOLDER_COUNTERS] {
        let plan = plan(&storage, statement).await;
        assert!(plan.contains("SEARCH m USING") && !plan.contains("SCAN m"), "{statement}: {plan}");
    }
}

async fn pages(storage: &SqlStorage, pragma: &'static str) {
    storage.parts.database.fetch_changed(Scope::All, Query::new(pragma)).await.unwrap();
}

async fn plan(storage: &SqlStorage, statement: &str) -> String {
    let mut explain = Query::new("EXPLAIN QUERY PLAN ");
    explain.push(statement);
    let rows = storage.parts.database.fetch_all(Scope::All, explain).await.unwrap();
    rows.iter().map(|row| Columns::new("plan", row).value::<String>("detail").unwrap() + "\n").collect()
}
