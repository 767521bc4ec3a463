//! The audit log in the hands of somebody who can write to the database.

use mairust_core::{Secret, Timestamp};
use mairust_store::audit::{Actor, AuditProblem};
use mairust_store::{AuditKey, AuditLogExt, NewAuditEvent, Owner, SqlStorage, StorageBackend};
use tempfile::TempDir;

use crate::sample::{NOW, open};
use crate::server::Database;

const OWNER: Owner = Owner::Installation;

#[tokio::test]
async fn tampering_is_found_where_it_was_done() {
    let altered = |sequence| AuditProblem::Altered { sequence };
    let cases: [(&[&str], Vec<AuditProblem>); 10] = [
        (&[], vec![]),
        (&["UPDATE audit_entries SET event_type = 'other' WHERE sequence = 2"], vec![altered(2)]),
        (&["UPDATE audit_entries SET actor_id = 'mallory' WHERE sequence = 5"], vec![altered(5)]),
        (&["UPDATE audit_entries SET after = '{\"n\": 2}' WHERE sequence = 2"], vec![altered(2)]),
        // The entry's own hash does not fit, and neither does the link of the next one to it.
        (&["UPDATE audit_entries SET hash = zeroblob(32) WHERE sequence = 2"], vec![altered(2), altered(3)]),
        (&["DELETE FROM audit_entries WHERE sequence IN (2, 3)"], vec![AuditProblem::Missing { from: 2, to: 3 }]),
        (&["DELETE FROM audit_entries WHERE sequence = 1"], vec![AuditProblem::Missing { from: 1, to: 1 }]),
        (&["DELETE FROM audit_entries WHERE sequence > 3"], vec![AuditProblem::Truncated { from: 4, to: 5 }]),
        (&["DELETE FROM audit_heads"], vec![AuditProblem::HeadMissing]),
        // The end is cut off, and the head made to fit: only the signature is not to be had.
        (
            &[
                "DELETE FROM audit_entries WHERE sequence > 3",
                "UPDATE audit_heads SET sequence = 3, hash = (SELECT hash FROM audit_entries WHERE sequence = 3)",
            ],
            vec![AuditProblem::HeadForged],
        ),
    ];
    for (statements, expected) in cases {
        let directory = TempDir::new().unwrap();
        let storage = open(directory.path()).await;
        storage.audit().append(OWNER, &key(), (1..=5).map(event).collect()).await.unwrap();
        let database = crate::sqlite::connect(directory.path());
        for statement in statements {
            assert!(database.execute(statement, ()).unwrap() > 0, "{statement}");
        }
        drop(database);
        let found = storage.audit().verify(OWNER, &key()).await.unwrap();
        assert_eq!(found.problems, expected, "{statements:?}");
        // Going on does not make it good.
        storage.audit().append(OWNER, &key(), vec![event(6)]).await.unwrap();
        let found = storage.audit().verify(OWNER, &key()).await.unwrap();
        assert_eq!(found.is_whole(), expected.is_empty(), "{statements:?}");
    }
}

#[tokio::test]
async fn two_processes_append_to_one_chain() {
    let directory = TempDir::new().unwrap();
    append_from_both(&open(directory.path()).await, &open(directory.path()).await).await;
    let database = Database::new().await;
    let open = || SqlStorage::postgres(&database.url).fs_bodies(directory.path()).max_connections(4).open();
    append_from_both(&open().await.unwrap(), &open().await.unwrap()).await;
}

async fn append_from_both(one: &SqlStorage, other: &SqlStorage) {
    let appends = (0..20).map(|number| {
        let storage = if number % 2 == 0 { one } else { other };
        async move { storage.audit().append(OWNER, &key(), vec![event(number)]).await.unwrap() }
    });
    futures::future::join_all(appends).await;
    let found = other.audit().verify(OWNER, &key()).await.unwrap();
    assert_eq!((found.problems.as_slice(), found.entries), (&[][..], 20));
}

fn event(number: u64) -> NewAuditEvent {
    let at = Timestamp::from_micros(NOW.as_micros() + i64::try_from(number).unwrap());
    NewAuditEvent {
        at,
        event_type: "test".to_owned(),
        actor: Actor::system(),
        target: None,
        before: None,
        after: Some(serde_json::json!({"n": number})),
        request_id: None,
    }
}

fn key() -> AuditKey {
    AuditKey::new(Secret::new([7; 32]))
}
