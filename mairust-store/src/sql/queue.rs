//! The queue.
//!
//! Whose turn it is stands in no table: due jobs lie in an index by tenant, destination and rank,
//! and whoever takes some walks in that index from where it stopped before, one step for each
//! tenant and destination, over however many jobs.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{JobId, TenantId, Timestamp};
use uuid::Uuid;

use super::changes::Change;
use super::driver::{Columns, Dialect, Json, Query, Rows, Scope, failed};
use super::finish::Ending;
use super::storage::Parts;
use crate::error::StoreError;
use crate::queue::{
    DestinationStats, FencingToken, HoldReason, LaneBounds, Lease, NewJob, Priority, QueueAction, QueueBackend,
    QueueChange, QueueFilter, QueueItem, QueuePosition, QueueStats,
};
use crate::sql::statement;

/// How many jobs are taken by one statement.
const AT_ONCE: u32 = 64;
/// How many jobs become ready by one statement: after an outage all wait for it, and it holds up
/// those who write.
const WAKE_AT_ONCE: u32 = 500;

/// A tenant and a destination that have a turn; no destination is the empty name.
type Lane = (TenantId, String);

#[async_trait]
impl QueueBackend for Parts {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<(), StoreError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let mut transaction = self.database.begin(Scope::All).await.map_err(failed("enqueue", "begin"))?;
        for query in insert_jobs(&jobs, self.clock.now()) {
            transaction.execute(query).await.map_err(failed("enqueue", "add jobs"))?;
        }
        self.changes.tell(&mut transaction, Change::Queue).await.map_err(failed("enqueue", "notify"))?;
        transaction.commit().await.map_err(failed("enqueue", "commit"))?;
        self.changes.announce(Change::Queue);
        Ok(())
    }

    async fn lease_within(
        &self,
        now: Timestamp,
        max: u32,
        ttl: Duration,
        bounds: &LaneBounds,
    ) -> Result<Vec<Lease>, StoreError> {
        // What is done leaves something to keep, and most of it makes new mail.
        self.disk.check().await?;
        let wake = Query::new(statement::queue::wake_jobs(self.database.dialect())).bind(now).bind(WAKE_AT_ONCE);
        self.database.execute(Scope::All, wake).await.map_err(failed("lease", "wake jobs"))?;
        let (mut leases, mut bounds) = (Vec::new(), bounds.clone());
        while let room @ 1.. = max.saturating_sub(u32::try_from(leases.len()).unwrap_or(max)) {
            match self.take_turns(now, room.min(AT_ONCE), now.plus(ttl), &bounds).await {
                // There is nothing that is due and has room, or other processes took it.
                Ok(taken) if taken.is_empty() => break,
                Ok(taken) => {
                    taken.iter().for_each(|lease| bounds.begin(lease.destination.as_deref().unwrap_or_default()));
                    leases.extend(taken);
                }
                // What was taken must not wait until its lease ends.
                Err(error) if !leases.is_empty() => {
                    tracing::warn!(component = "store", %error, "fewer jobs were taken than could be");
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(leases)
    }

    async fn extend(&self, lease: &Lease, until: Timestamp) -> Result<bool, StoreError> {
        let query = leased(statement::queue::EXTEND_LEASE, lease).bind(until);
        let done = self.database.execute(Scope::All, query).await.map_err(failed("extend", lease.job))?;
        Ok(done > 0)
    }

    async fn complete(&self, lease: &Lease) -> Result<bool, StoreError> {
        self.finish("complete", complete_job(lease), Ending::Over).await
    }

    async fn retry(&self, lease: &Lease, at: Timestamp, reason: &str) -> Result<bool, StoreError> {
        let rank = at.plus(lease.priority.handicap());
        let query = leased(statement::queue::RETRY_JOB, lease).bind(at).bind(rank).bind(reason);
        self.finish("retry", query, Ending::GivenBack).await
    }

    async fn bury(&self, lease: &Lease, reason: &str) -> Result<bool, StoreError> {
        self.finish("bury", leased(statement::queue::BURY_JOB, lease).bind(reason), Ending::Over).await
    }

    async fn park(&self, lease: &Lease, because: HoldReason, reason: &str) -> Result<bool, StoreError> {
        let query = leased(statement::queue::PARK_JOB, lease).bind(because.as_str()).bind(reason);
        self.finish("park", query, Ending::Over).await
    }

    async fn items(
        &self,
        tenant: TenantId,
        filter: &QueueFilter,
        after: Option<QueuePosition>,
        limit: u32,
    ) -> Result<Vec<QueueItem>, StoreError> {
        self.find_items(tenant, filter, after, limit).await
    }

    async fn change(
        &self,
        tenant: TenantId,
        filter: &QueueFilter,
        action: &QueueAction,
        now: Timestamp,
        after: Option<QueuePosition>,
        limit: u32,
    ) -> Result<QueueChange, StoreError> {
        self.change_items(tenant, (filter, action), now, after, limit).await
    }

    async fn retry_buried(&self, tenant: TenantId, jobs: &[JobId], now: Timestamp) -> Result<u32, StoreError> {
        self.retry_buried_jobs(tenant, jobs, now).await
    }

    async fn destinations(
        &self,
        tenant: TenantId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<DestinationStats>, StoreError> {
        self.count_destinations(tenant, now, limit).await
    }

    async fn stats(&self, now: Timestamp) -> Result<BTreeMap<String, QueueStats>, StoreError> {
        let kinds = u64::try_from(QueueStats::KINDS).unwrap_or(u64::MAX);
        let query = Query::new(statement::queue::COUNT_JOBS).bind(now).bind(kinds).bind(QueueStats::BOUND);
        let rows = self.database.fetch_all(Scope::All, query).await.map_err(failed("count jobs", "read"))?;
        rows.iter().map(|row| counts(&Columns::new("count jobs", row))).collect()
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let found = self.database.fetch_one(Scope::All, Query::new(statement::queue::NEXT_DUE)).await;
        let row = found.map_err(failed("find next job", "read"))?;
        Columns::new("find next job", &row).optional_time("due")
    }

    fn version(&self) -> u64 {
        self.changes.queue.version()
    }

    async fn changed(&self, seen: u64) -> u64 {
        self.changes.queue.changed(seen).await
    }
}

impl Parts {
    /// Who has the next turns, in order; who has several is there several times.
    async fn next_lanes(&self, now: Timestamp, max: u32, bounds: &LaneBounds) -> Result<Vec<Lane>, StoreError> {
        let mut last = self.turns.lock().unwrap_or_else(PoisonError::into_inner).tenant();
        let mut seen = HashSet::new();
        loop {
            let tenants = self.next_tenants(last, now, max).await?;
            let lanes = self.lanes_of(&tenants, now, max, bounds).await?;
            let all_are_new = tenants.iter().all(|tenant| seen.insert(*tenant));
            if !lanes.is_empty() || !all_are_new || tenants.len() < max as usize {
                return Ok(lanes);
            }
            // There is room for none of what these have.
            last = tenants.last().copied();
        }
    }

    /// The turns of these tenants, as far as there is room.
    async fn lanes_of(
        &self,
        tenants: &[TenantId],
        now: Timestamp,
        max: u32,
        bounds: &LaneBounds,
    ) -> Result<Vec<Lane>, StoreError> {
        if tenants.is_empty() {
            return Ok(Vec::new());
        }
        // Destinations without room take steps in the ring, but have no turns.
        let shares = self.shares(tenants, max, bounds.full());
        let query = next_destinations(self.database.dialect(), &shares, now);
        let rows = self.database.fetch_all(Scope::All, query).await.map_err(failed("lease", "find destinations"))?;
        let (mut lanes, mut bounds) = (Vec::new(), bounds.clone());
        for row in &rows {
            let columns = Columns::new("lease", row);
            let (tenant, destination): (_, String) =
                (TenantId::from_bytes(columns.id("tenant_id")?), columns.value("destination")?);
            if lanes.len() < max as usize && bounds.room(&destination) > 0 {
                bounds.begin(&destination);
                lanes.push((tenant, destination));
            }
        }
        Ok(lanes)
    }

    /// The tenants that have something due, from the one behind `last`, going round.
    async fn next_tenants(
        &self,
        last: Option<TenantId>,
        now: Timestamp,
        max: u32,
    ) -> Result<Vec<TenantId>, StoreError> {
        let mut tenants = match last {
            Some(last) => self.tenants_behind(last, now, max).await?,
            None => Vec::new(),
        };
        let room = max.saturating_sub(u32::try_from(tenants.len()).unwrap_or(max));
        if room > 0 {
            let from_the_beginning = self.tenants_behind(TenantId::from_bytes([0; 16]), now, room).await?;
            tenants.extend(from_the_beginning.into_iter().filter(|tenant| last.is_none_or(|last| *tenant <= last)));
        }
        Ok(tenants)
    }

    async fn tenants_behind(&self, last: TenantId, now: Timestamp, max: u32) -> Result<Vec<TenantId>, StoreError> {
        let query = Query::new(statement::queue::NEXT_TENANTS).bind(last.as_bytes()).bind(now).bind(max);
        let rows = self.database.fetch_all(Scope::All, query).await.map_err(failed("lease", "find tenants"))?;
        rows.iter().map(|row| Columns::new("lease", row).id("tenant_id").map(TenantId::from_bytes)).collect()
    }

    /// How many steps each tenant takes, its share of the turns and `more`, and which of its destinations was
    /// served last.
    fn shares(&self, tenants: &[TenantId], max: u32, more: u32) -> Vec<(Lane, u32)> {
        let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let count = u32::try_from(tenants.len()).unwrap_or(u32::MAX);
        let share = |(place, tenant): (u32, &TenantId)| {
            let last = turns.destination(*tenant).unwrap_or_default().to_owned();
            ((*tenant, last), max / count + u32::from(place < max % count) + more)
        };
        (0..count).zip(tenants).map(share).collect()
    }

    async fn take_turns(
        &self,
        now: Timestamp,
        max: u32,
        until: Timestamp,
        bounds: &LaneBounds,
    ) -> Result<Vec<Lease>, StoreError> {
        let lanes = self.next_lanes(now, max, bounds).await?;
        self.take(&lanes, now, until).await
    }

    /// Takes a job for each turn, as far as there are some.
    async fn take(&self, lanes: &[Lane], now: Timestamp, until: Timestamp) -> Result<Vec<Lease>, StoreError> {
        if lanes.is_empty() {
            return Ok(Vec::new());
        }
        let nonce = rand::random();
        let query = take_jobs(self.database.dialect(), lanes, now, until, nonce);
        // With the lease, a loss of power ends whoever has it.
        let rows = self.database.fetch_changed_lazily(Scope::All, query).await.map_err(failed("lease", "take jobs"))?;
        let mut taken: HashMap<Lane, Vec<(Timestamp, Lease)>> = HashMap::new();
        for row in &rows {
            match lease(&Columns::new("lease", row), until, nonce) {
                Ok((lane, rank, lease)) => taken.entry(lane).or_default().push((rank, lease)),
                // The others must not wait for it; it stays, and shows up again when its lease ends.
                Err(error) => tracing::error!(component = "store", %error, "a job can't be read"),
            }
        }
        let mut taken: HashMap<_, _> = taken.into_iter().map(|(lane, leases)| (lane, in_order(leases))).collect();
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let mut leases = Vec::with_capacity(rows.len());
        for lane in lanes {
            if let Some(lease) = taken.get_mut(lane).and_then(VecDeque::pop_front) {
                turns.served(lane.0, &lane.1);
                leases.push(lease);
            }
        }
        Ok(leases)
    }
}

/// The statements that add jobs. A job is ready at once if its time has come by the clock by which it
/// is made.
pub(super) fn insert_jobs<'a>(jobs: impl IntoIterator<Item = &'a NewJob>, now: Timestamp) -> Vec<Query> {
    let mut inserts = Rows::to_insert(statement::queue::INSERT_JOBS, 12);
    for job in jobs {
        inserts
            .bind(job.id.as_bytes())
            .bind(job.tenant.as_bytes())
            .bind(job.kind.as_str())
            .bind(Json(job.payload.clone()))
            .bind(match job.held {
                Some(_) => "held",
                None if job.not_before <= now => "ready",
                None => "waiting",
            })
            .bind(job.destination.as_deref().unwrap_or_default())
            .bind(job.priority.as_str())
            .bind(job.message.map(|message| Uuid::from_bytes(*message.as_bytes())))
            .bind(job.not_before)
            .bind(job.rank())
            .bind(job.made_at(now))
            .bind(job.held.map(HoldReason::as_str));
    }
    inserts.queries()
}

/// The statement that walks through the destinations of tenants.
pub(super) fn next_destinations(dialect: Dialect, shares: &[(Lane, u32)], now: Timestamp) -> Query {
    // The time is $1, so that the fixed part of the text can name it.
    let mut query = Query::new(statement::queue::SHARES).bind(now);
    for (place, ((tenant, last), turns)) in shares.iter().enumerate() {
        query.push(if place == 0 { "(" } else { ", (" }).push(place).push(", ");
        query.push_bind(tenant.as_bytes()).push(", ").push_bind(last.as_str());
        query.push(", ").push(turns).push(")");
    }
    query.push(statement::queue::next_destinations(dialect));
    query
}

/// The statement that takes a job for each turn.
pub(super) fn take_jobs(dialect: Dialect, lanes: &[Lane], now: Timestamp, until: Timestamp, nonce: [u8; 16]) -> Query {
    let mut turns: BTreeMap<&Lane, u32> = BTreeMap::new();
    for lane in lanes {
        *turns.entry(lane).or_default() += 1;
    }
    let mut query = Query::new(statement::queue::TAKE_JOBS).bind(until).bind(&nonce[..]);
    for (index, ((tenant, destination), count)) in turns.into_iter().enumerate() {
        query.push(if index == 0 { "" } else { " UNION ALL " });
        query.push("SELECT * FROM (SELECT id FROM jobs WHERE state = 'ready' AND tenant_id = ");
        query.push_bind(tenant.as_bytes()).push(" AND destination = ").push_bind(destination.as_str());
        query.push(" AND not_before <= ").push_bind(now).push(" ORDER BY rank, id LIMIT ").push(count);
        query.push(statement::queue::without_waiting(dialect)).push(") lane").push(index);
    }
    query.push(statement::queue::TAKEN);
    query
}

/// The statement that ends a job for good, unless the lease was lost.
pub(super) fn complete_job(lease: &Lease) -> Query {
    leased(statement::queue::COMPLETE_JOB, lease)
}

fn leased(statement: &'static str, lease: &Lease) -> Query {
    let token = &lease.token;
    Query::new(statement).bind(lease.job.as_bytes()).bind(token.attempt()).bind(&token.nonce()[..])
}

fn in_order(mut leases: Vec<(Timestamp, Lease)>) -> VecDeque<Lease> {
    // RETURNING promises no order.
    leases.sort_unstable_by_key(|(rank, lease)| (*rank, lease.job));
    leases.into_iter().map(|(_, lease)| lease).collect()
}

/// A lease, its rank, and whose turn it was.
fn lease(columns: &Columns<'_>, until: Timestamp, nonce: [u8; 16]) -> Result<(Lane, Timestamp, Lease), StoreError> {
    let tenant = TenantId::from_bytes(columns.id("tenant_id")?);
    let destination: String = columns.value("destination")?;
    let attempts = columns.number("attempts")?;
    let lease = Lease {
        job: JobId::from_bytes(columns.id("id")?),
        tenant,
        kind: columns.value("kind")?,
        // Whoever leases it buries it.
        payload: columns.json("payload").ok(),
        priority: columns.parsed("priority", Priority::parse)?,
        destination: Some(destination.clone()).filter(|destination| !destination.is_empty()),
        attempts,
        give_up: columns.value("give_up")?,
        route: columns.value("route")?,
        created_at: columns.time("created_at")?,
        until,
        token: FencingToken::new(attempts, nonce),
    };
    Ok(((tenant, destination), columns.time("rank")?, lease))
}

fn counts(columns: &Columns<'_>) -> Result<(String, QueueStats), StoreError> {
    let stats = QueueStats {
        ready: columns.number("ready")?,
        waiting: columns.number("waiting")?,
        leased: columns.number("leased")?,
        held: columns.number("held")?,
        buried: columns.number("buried")?,
        oldest_due: columns.optional_time("oldest_due")?,
    };
    Ok((columns.value("kind")?, stats))
}
