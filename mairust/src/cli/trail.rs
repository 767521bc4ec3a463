//! Puts what commands change into the audit log.
//!
//! An event is recorded after the change was made, and before the command answers. The key of the
//! log is fetched before, so that a command that can't record anything changes nothing. What fails
//! all the same is told, with the event, and the command fails.

use std::os::unix::fs::MetadataExt;

use mairust_core::{Clock, SystemClock};
use mairust_store::audit::{Actor, Target};
use mairust_store::{AuditKey, NewAuditEvent, Owner, SqlStorage, StorageBackend};
use serde_json::{Value, json};

use super::open;
use super::output::Failure;
use crate::config::Config;
use crate::error::chain;

/// Where a command records what it changes.
pub(super) struct Trail {
    owner: Owner,
    key: AuditKey,
}

/// What was changed: from what, to what; without secrets.
#[derive(Default)]
pub(super) struct Changed {
    pub(super) before: Option<Value>,
    pub(super) after: Option<Value>,
}

impl Changed {
    /// Something that was not there before.
    pub(super) fn made(after: Value) -> Self {
        Self { before: None, after: Some(after) }
    }

    /// Something that is gone.
    pub(super) fn removed(before: Value) -> Self {
        Self { before: Some(before), after: None }
    }

    /// Something that was there, and is now different.
    pub(super) fn from(before: Option<Value>, after: Value) -> Self {
        Self { before, after: Some(after) }
    }
}

impl Trail {
    /// The trail of a tenant, or of the installation.
    pub(super) async fn open(config: &Config, storage: &SqlStorage, owner: impl Into<Owner>) -> Result<Self, Failure> {
        let key = open::server_key(config, storage).await?.audit_key();
        Ok(Self { owner: owner.into(), key })
    }

    /// Records a change that was made.
    pub(super) async fn record(
        &self,
        storage: &SqlStorage,
        event_type: &str,
        target: (&str, &dyn std::fmt::Display),
        changed: Changed,
    ) -> Result<(), Failure> {
        let event = NewAuditEvent {
            at: SystemClock.now(),
            event_type: event_type.to_owned(),
            actor: operator(),
            target: Some(Target { kind: target.0.to_owned(), id: target.1.to_string() }),
            before: changed.before,
            after: changed.after,
            request_id: None,
        };
        let told = json!({"event_type": event_type, "target": target.1.to_string(), "after": event.after});
        match storage.audit().append(self.owner, &self.key, vec![event]).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::failed(format_args!(
                "it was done, but could not be put into the audit log: {}\n{told}",
                chain(&error)
            ))),
        }
    }
}

/// Who runs the command, as the system knows it: the owner of the process.
fn operator() -> Actor {
    let user = std::fs::metadata("/proc/self").map(|process| format!("uid {}", process.uid()));
    Actor { kind: "operator".to_owned(), id: user.ok(), ip: None }
}
