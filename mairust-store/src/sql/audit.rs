//! The audit log. Whoever writes to a chain holds its head until the transaction ends.

use async_trait::async_trait;
use mairust_core::{AuditId, Timestamp};

use super::driver::{Columns, Query, Row, Scope, Transaction, failed};
use super::storage::Parts;
use crate::audit::chain::Chain;
use crate::audit::{
    Actor, AuditDrop, AuditEntry, AuditHead, AuditKey, AuditLog, AuditOrder, AuditQuery, NewAuditEvent, Target,
};
use crate::error::{StoreError, StoreErrorKind};
use crate::message::Page;
use crate::owner::Owner;
use crate::sql::statement;

const APPEND: &str = "append to audit log";
const DROP: &str = "drop from audit log";

#[async_trait]
impl AuditLog for Parts {
    async fn append(
        &self,
        owner: Owner,
        key: &AuditKey,
        events: Vec<NewAuditEvent>,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        owner.check(APPEND)?;
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let mut transaction = self.database.begin(owner).await.map_err(failed(APPEND, owner))?;
        let beginning = Chain::resume(owner, key, None, None).into_head(key);
        let begin = with_head(statement::audit::BEGIN_CHAIN, owner, &beginning).bind(owner.tenant().is_none());
        transaction.execute(begin).await.map_err(failed(APPEND, owner))?;
        let Some(mut chain) = hold(APPEND, &mut transaction, owner, key).await? else {
            return Err(StoreError::new(StoreErrorKind::NotFound, APPEND, owner));
        };
        let entries = chain.extend(events);
        for entry in &entries {
            insert(APPEND, &mut transaction, entry).await?;
        }
        let head = with_head(statement::audit::MOVE_HEAD, owner, &chain.into_head(key));
        transaction.execute(head).await.map_err(failed(APPEND, owner))?;
        transaction.commit().await.map_err(failed(APPEND, owner))?;
        Ok(entries)
    }

    async fn entry(&self, owner: Owner, id: AuditId) -> Result<Option<AuditEntry>, StoreError> {
        let mut query = Query::new(statement::audit::SELECT_ENTRIES);
        query.push_bind(owner.as_bytes()).push(" AND id = ").push_bind(id.as_bytes());
        let found = self.database.fetch_optional(owner, query).await.map_err(failed("read audit entry", id))?;
        found.as_ref().map(entry).transpose()
    }

    async fn list(&self, owner: Owner, query: &AuditQuery) -> Result<Page<AuditEntry>, StoreError> {
        let rows = self.database.fetch_all(owner, select(owner, query)).await;
        let rows = rows.map_err(failed("list audit entries", owner))?;
        let mut items = rows.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
        let has_more = items.len() > query.limit as usize;
        items.truncate(query.limit as usize);
        Ok(Page { items, has_more })
    }

    async fn head(&self, owner: Owner) -> Result<Option<AuditHead>, StoreError> {
        let query = Query::new(statement::audit::HEAD).bind(owner.as_bytes());
        let found = self.database.fetch_optional(owner, query).await.map_err(failed("read audit head", owner))?;
        found.as_ref().map(head).transpose()
    }

    async fn drop_old(&self, owner: Owner, key: &AuditKey, drop: AuditDrop) -> Result<u64, StoreError> {
        let mut transaction = self.database.begin(owner).await.map_err(failed(DROP, owner))?;
        let Some(mut chain) = hold(DROP, &mut transaction, owner, key).await? else { return Ok(0) };
        let query = Query::new(statement::audit::FIRST_ENTRIES).bind(owner.as_bytes()).bind(drop.max);
        let rows = transaction.fetch_all(query).await.map_err(failed(DROP, owner))?;
        let (mut count, mut last) = (0, None);
        for row in &rows {
            let columns = Columns::new(DROP, row);
            let at: Timestamp = columns.time("at")?;
            if at >= drop.before {
                break;
            }
            count += 1;
            last = Some((columns.number("sequence")?, columns.bytes("hash")?));
        }
        let Some((sequence, hash)) = last else { return Ok(0) };
        let delete = Query::new(statement::audit::DELETE_ENTRIES).bind(owner.as_bytes()).bind(sequence);
        transaction.execute(delete).await.map_err(failed(DROP, owner))?;
        chain.drop_up_to(sequence, hash, count);
        if let Some(notice) = chain.admit_broken(drop.now) {
            insert(DROP, &mut transaction, &notice).await?;
        }
        let head = with_head(statement::audit::MOVE_HEAD, owner, &chain.into_head(key));
        transaction.execute(head).await.map_err(failed(DROP, owner))?;
        transaction.commit().await.map_err(failed(DROP, owner))?;
        Ok(count)
    }

    async fn owners(&self) -> Result<Vec<Owner>, StoreError> {
        let rows = self.database.fetch_all(Scope::All, Query::new(statement::audit::OWNERS)).await;
        let rows = rows.map_err(failed("list audit chains", "read"))?;
        let owner = |row| Columns::new("list audit chains", row).id("tenant_id").map(Owner::from_bytes);
        rows.iter().map(owner).collect()
    }
}

/// The chain as it is, for nobody else to write to before the transaction ends; `None` if there is
/// none.
async fn hold(
    operation: &'static str,
    transaction: &mut Transaction,
    owner: Owner,
    key: &AuditKey,
) -> Result<Option<Chain>, StoreError> {
    let lock = Query::new(statement::audit::lock_head(transaction.dialect())).bind(owner.as_bytes());
    let found = transaction.fetch_optional(lock).await.map_err(failed(operation, owner))?;
    let Some(row) = found else { return Ok(None) };
    let query = Query::new(statement::audit::LAST_ENTRY).bind(owner.as_bytes());
    let last = transaction.fetch_optional(query).await.map_err(failed(operation, owner))?;
    let last = match &last {
        Some(row) => {
            let columns = Columns::new(operation, row);
            Some((columns.number("sequence")?, columns.bytes("hash")?))
        }
        None => None,
    };
    Ok(Some(Chain::resume(owner, key, Some(head(&row)?), last)))
}

async fn insert(operation: &'static str, transaction: &mut Transaction, entry: &AuditEntry) -> Result<(), StoreError> {
    let query = Query::new(statement::audit::INSERT_ENTRY)
        .bind(entry.owner.as_bytes())
        .bind(entry.sequence)
        .bind(entry.id.as_bytes())
        .bind(entry.at)
        .bind(entry.event_type.as_str())
        .bind(entry.actor.kind.as_str())
        .bind(entry.actor.id.as_deref())
        .bind(entry.actor.ip.map(|ip| ip.to_string()))
        .bind(entry.target.as_ref().map(|target| target.kind.as_str()))
        .bind(entry.target.as_ref().map(|target| target.id.as_str()))
        .bind(entry.before.as_deref())
        .bind(entry.after.as_deref())
        .bind(entry.request_id.as_deref())
        .bind(&entry.hash);
    transaction.execute(query).await.map_err(failed(operation, entry.owner)).map(drop)
}

fn with_head(statement: &'static str, owner: Owner, head: &AuditHead) -> Query {
    Query::new(statement)
        .bind(owner.as_bytes())
        .bind(head.dropped)
        .bind(&head.dropped_hash)
        .bind(head.sequence)
        .bind(&head.hash)
        .bind(&head.signature)
}

fn select(owner: Owner, wanted: &AuditQuery) -> Query {
    let mut query = Query::new(statement::audit::SELECT_ENTRIES);
    query.push_bind(owner.as_bytes());
    let texts = [("event_type", &wanted.event_type), ("actor_id", &wanted.actor), ("target_id", &wanted.target)];
    for (column, text) in texts {
        if let Some(text) = text {
            query.push(format_args!(" AND {column} = ")).push_bind(text.as_str());
        }
    }
    if let Some(since) = wanted.since {
        query.push(" AND at >= ").push_bind(since);
    }
    if let Some(until) = wanted.until {
        query.push(" AND at < ").push_bind(until);
    }
    let (comparison, order) = match wanted.order {
        AuditOrder::NewestFirst => ("<", "DESC"),
        AuditOrder::OldestFirst => (">", "ASC"),
    };
    if let Some(after) = wanted.after {
        query.push(format_args!(" AND sequence {comparison} ")).push_bind(after);
    }
    // One more, to know whether there are more.
    query.push(format_args!(" ORDER BY sequence {order} LIMIT ")).push_bind(u64::from(wanted.limit) + 1);
    query
}

fn head(row: &Row) -> Result<AuditHead, StoreError> {
    let columns = Columns::new("read audit head", row);
    Ok(AuditHead {
        dropped: columns.number("dropped")?,
        dropped_hash: columns.bytes("dropped_hash")?,
        sequence: columns.number("sequence")?,
        hash: columns.bytes("hash")?,
        signature: columns.bytes("signature")?,
    })
}

fn entry(row: &Row) -> Result<AuditEntry, StoreError> {
    let columns = Columns::new("read audit entry", row);
    let target_kind: Option<String> = columns.value("target_kind")?;
    let target_id: Option<String> = columns.value("target_id")?;
    Ok(AuditEntry {
        id: AuditId::from_bytes(columns.id("id")?),
        owner: Owner::from_bytes(columns.id("tenant_id")?),
        sequence: columns.number("sequence")?,
        at: columns.time("at")?,
        event_type: columns.value("event_type")?,
        actor: Actor {
            kind: columns.value("actor_kind")?,
            id: columns.value("actor_id")?,
            ip: columns.optional("actor_ip", |text| text.parse().ok())?,
        },
        target: target_kind.zip(target_id).map(|(kind, id)| Target { kind, id }),
        before: columns.value("before")?,
        after: columns.value("after")?,
        request_id: columns.value("request_id")?,
        hash: columns.bytes("hash")?,
    })
}
