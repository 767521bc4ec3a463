//! Every object has a message that points to it.
//!
//! The key of an object names the first message that pointed to it, so nearly all are found by their
//! ids. Where that message is gone, others of the same tenant are looked through for the object.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use mairust_core::{MessageId, TenantId, Timestamp};

use super::Work;
use crate::body::{ObjectName, elsewhere};
use crate::consistency::{Fault, Finding};
use crate::error::{StoreError, StoreErrorKind};
use crate::sql::driver::{Columns, Query, Scope, failed};
use crate::sql::statement;

/// How many keys are listed together: a file system reads a whole folder for each part of it.
const LISTED: u32 = 20_000;
/// How many ids or keys a statement has at most.
const NAMED: usize = 500;
/// How many bodies that wait are looked at together.
const SPOOLED: u32 = 1_000;

/// An object to which no message points.
struct Orphan {
    key: String,
    tenant: Option<TenantId>,
    /// Why it is not removed, if there is a reason.
    keep: Option<&'static str>,
}

/// Not made by this program, and so not its to remove.
const NAMELESS: &str = "its key names no message";
/// Of another database, or of one that was lost.
const FOREIGN: &str = "its tenant has no messages here: is this the right database?";
/// Of a database that was replaced by an older one.
const NEWER: &str = "it is newer than all messages of its tenant: was an older database restored?";

impl Work<'_> {
    /// Looks up all objects. No number of them is known before.
    pub(super) async fn check_objects(&mut self) -> Result<(), StoreError> {
        self.observer.begins("objects", None);
        let mut after: Option<String> = None;
        loop {
            let keys = self.parts.stored.list(after.as_deref(), LISTED).await?;
            let Some(last) = keys.last() else { return Ok(()) };
            after = Some(last.clone());
            for orphan in self.orphans(&keys).await? {
                self.check_orphan(orphan).await?;
            }
            self.report.objects += keys.len() as u64;
            self.observer.advances(keys.len() as u64);
        }
    }

    /// Those of the keys to which no message points, but for young ones.
    async fn orphans(&self, keys: &[String]) -> Result<Vec<Orphan>, StoreError> {
        let mut orphans = Vec::new();
        let mut named: BTreeMap<TenantId, Vec<(MessageId, &str)>> = BTreeMap::new();
        for key in keys {
            match ObjectName::of(key) {
                Some(name) => named.entry(name.tenant).or_default().push((name.message, key)),
                None => orphans.push(Orphan { key: key.clone(), tenant: None, keep: Some(NAMELESS) }),
            }
        }
        let young = self.check.now.minus(self.check.grace);
        for (tenant, mut objects) in named {
            let known = self.known_by_id(tenant, &objects).await?;
            objects.retain(|(message, key)| !is_known(&known, key) && made_at(*message) < young);
            if objects.is_empty() {
                continue;
            }
            let known = self.known_by_key(tenant, &objects).await?;
            let newest = self.newest(tenant).await?;
            let unknown = objects.into_iter().filter(|(_, key)| !is_known(&known, key));
            orphans.extend(unknown.map(|(message, key)| {
                let keep = match newest {
                    None => Some(FOREIGN),
                    Some(newest) if made_at(message) > newest.plus(self.check.grace) => Some(NEWER),
                    Some(_) => None,
                };
                Orphan { key: key.to_owned(), tenant: Some(tenant), keep }
            }));
        }
        Ok(orphans)
    }

    /// When the last message of a tenant came in.
    async fn newest(&self, tenant: TenantId) -> Result<Option<Timestamp>, StoreError> {
        let query = Query::new(statement::consistency::NEWEST).bind(tenant.as_bytes());
        let row = self.parts.database.fetch_one(tenant, query).await.map_err(failed("check objects", "read"))?;
        Columns::new("check objects", &row).optional_time("newest")
    }

    /// The objects to which these messages point.
    async fn known_by_id(&self, tenant: TenantId, named: &[(MessageId, &str)]) -> Result<HashSet<String>, StoreError> {
        let mut known = HashSet::new();
        for named in named.chunks(NAMED) {
            let mut query = Query::new(statement::consistency::OBJECTS_OF_MESSAGES).bind(tenant.as_bytes());
            for (index, (message, _)) in named.iter().enumerate() {
                query.push(if index == 0 { "" } else { ", " }).push_bind(message.as_bytes());
            }
            known.extend(self.object_keys(tenant, query).await?);
        }
        Ok(known)
    }

    /// Those of the keys, and of the places where their objects may be moved, to which messages point, or
    /// that are noted to be removed anyway.
    async fn known_by_key(&self, tenant: TenantId, named: &[(MessageId, &str)]) -> Result<HashSet<String>, StoreError> {
        let mut known = HashSet::new();
        for named in named.chunks(NAMED / 2) {
            for statement in [statement::consistency::OBJECTS_TO_REMOVE, statement::consistency::KNOWN_OBJECTS] {
                let mut query = Query::new(statement).bind(tenant.as_bytes());
                let keys = named.iter().flat_map(|(_, key)| [(*key).to_owned(), elsewhere(key)]);
                for (index, key) in keys.enumerate() {
                    query.push(if index == 0 { "" } else { ", " }).push_bind(key);
                }
                known.extend(self.object_keys(tenant, query).await?);
            }
        }
        Ok(known)
    }

    async fn object_keys(&self, tenant: TenantId, mut query: Query) -> Result<Vec<String>, StoreError> {
        query.push(")");
        let rows = self.parts.database.fetch_all(tenant, query).await.map_err(failed("check objects", "read"))?;
        rows.iter().map(|row| Columns::new("check objects", row).value("object_key")).collect()
    }

    async fn check_orphan(&mut self, orphan: Orphan) -> Result<(), StoreError> {
        // It may have been removed since it was listed, with the message that pointed to it.
        match self.parts.stored.open(&orphan.key).await {
            Err(error) if error.kind() == StoreErrorKind::NotFound => return Ok(()),
            Err(error) if error.is_temporary() => return Err(error),
            _ => {}
        }
        let mut finding = orphan.finding(Fault::BodyOrphaned, "no message points to the object");
        if self.check.repair && orphan.keep.is_none() {
            self.parts.stored.delete(&orphan.key).await?;
            finding.repaired = true;
        }
        self.found(&finding);
        Ok(())
    }

    /// Looks up bodies that wait for their place for longer than they should.
    pub(super) async fn check_spool(&mut self) -> Result<(), StoreError> {
        self.observer.begins("spooled bodies", None);
        let mut after = 0_i64;
        loop {
            let since = self.check.now.minus(self.check.grace);
            let query = Query::new(statement::consistency::SPOOLED).bind(after).bind(since).bind(SPOOLED);
            let rows = self.parts.database.fetch_all(Scope::All, query).await.map_err(failed("check spool", "read"))?;
            let mut waiting = BTreeMap::new();
            for row in &rows {
                let columns = Columns::new("check spool", row);
                after = columns.value("seq")?;
                waiting.insert(columns.value::<String>("object_key")?, after);
            }
            if waiting.is_empty() {
                return Ok(());
            }
            let keys: Vec<_> = waiting.keys().cloned().collect();
            for orphan in self.orphans(&keys).await? {
                let mut finding = orphan.finding(Fault::SpooledOrphaned, "no message points to the body that waits");
                if self.check.repair && orphan.keep.is_none() {
                    let remove = Query::new(statement::consistency::REMOVE_SPOOLED).bind(waiting[&orphan.key]);
                    let removed = self.parts.database.execute(Scope::All, remove).await;
                    finding.repaired = removed.map_err(failed("check spool", "remove"))? > 0;
                }
                self.found(&finding);
            }
            self.observer.advances(rows.len() as u64);
        }
    }
}

impl Orphan {
    fn finding(&self, fault: Fault, detail: &str) -> Finding {
        let detail = match self.keep {
            None => detail.to_owned(),
            Some(why) => format!("{detail}; it is left alone, for {why}"),
        };
        let mut finding = Finding::new(fault, detail).about("object", &self.key);
        finding.tenant = self.tenant;
        finding
    }
}

/// One that is being put aside is there twice for a moment.
fn is_known(known: &HashSet<String>, key: &str) -> bool {
    known.contains(key) || known.contains(&elsewhere(key))
}

/// When an id was made: it begins with the milliseconds since 1970 (RFC 9562 §5.7).
fn made_at(message: MessageId) -> Timestamp {
    let millis = message.as_bytes()[..6].iter().fold(0_u64, |millis, byte| millis << 8 | u64::from(*byte));
    Timestamp::from_micros(0).plus(Duration::from_millis(millis))
}
