//! Token buckets. Whoever takes from some holds their rows until the transaction ends.

use std::collections::BTreeMap;

use async_trait::async_trait;
use mairust_core::{TenantId, Timestamp};

use super::driver::{Columns, Query, Row, Rows, Scope, Transaction, failed};
use super::storage::Parts;
use crate::allowance::{Allowance, Allowances, BucketKey, Taken, by_bucket, spend_all, take_all};
use crate::error::StoreError;
use crate::sql::statement;

const TAKE: &str = "take allowance";

#[async_trait]
impl Allowances for Parts {
    async fn take(
        &self,
        tenant: TenantId,
        wanted: &[Allowance],
        amount: u32,
        now: Timestamp,
    ) -> Result<Taken, StoreError> {
        let buckets = by_bucket(wanted)?;
        // What a loss of power gives back is the least of what is lost then.
        let mut transaction = self.database.begin_lazy(tenant).await.map_err(failed(TAKE, tenant))?;
        let asked = buckets.keys().map(|key| (key, now));
        let mut full_at = self.lock(&mut transaction, tenant, asked).await?;
        let taken = take_all(&buckets, &mut full_at, amount, now);
        if taken == Taken::All {
            self.keep(transaction, tenant, &full_at).await?;
        }
        Ok(taken)
    }

    async fn spend(
        &self,
        tenant: TenantId,
        spent: &[(Allowance, u32)],
        now: Timestamp,
    ) -> Result<Vec<f64>, StoreError> {
        let buckets = by_bucket(spent.iter().map(|(allowance, _)| allowance))?;
        let mut transaction = self.database.begin_lazy(tenant).await.map_err(failed(TAKE, tenant))?;
        let asked = buckets.keys().map(|key| (key, now));
        let mut full_at = self.lock(&mut transaction, tenant, asked).await?;
        let missed = spend_all(spent, &mut full_at, now);
        if !full_at.is_empty() {
            self.keep(transaction, tenant, &full_at).await?;
        }
        Ok(missed)
    }

    async fn forget_full(&self, now: Timestamp, max: u32) -> Result<u32, StoreError> {
        let query = Query::new(statement::policy::FORGET_FULL_ALLOWANCES).bind(now).bind(max);
        let done = self.database.execute(Scope::All, query).await.map_err(failed("forget allowances", "delete"))?;
        Ok(u32::try_from(done).unwrap_or(max))
    }
}

impl Parts {
    /// When these buckets are full, for nobody else to take from before the transaction ends.
    async fn lock(
        &self,
        transaction: &mut Transaction,
        tenant: TenantId,
        asked: impl Iterator<Item = (&BucketKey, Timestamp)>,
    ) -> Result<BTreeMap<BucketKey, Timestamp>, StoreError> {
        let mut full_at = BTreeMap::new();
        for query in rows(statement::policy::LOCK_ALLOWANCES, tenant, asked) {
            let found = self.database.within(transaction.fetch_all(query)).await.map_err(failed(TAKE, tenant))?;
            for row in &found {
                full_at.extend([bucket(row)?]);
            }
        }
        Ok(full_at)
    }

    /// Keeps buckets that are locked as they are now.
    async fn keep(
        &self,
        transaction: Transaction,
        tenant: TenantId,
        full_at: &BTreeMap<BucketKey, Timestamp>,
    ) -> Result<(), StoreError> {
        let kept = full_at.iter().map(|(key, at)| (key, *at));
        let queries = rows(statement::policy::SET_ALLOWANCES, tenant, kept);
        self.database.within(transaction.execute_and_commit(queries)).await.map_err(failed(TAKE, tenant))
    }
}

fn rows<'a>(
    (head, tail): (&'static str, &'static str),
    tenant: TenantId,
    buckets: impl Iterator<Item = (&'a BucketKey, Timestamp)>,
) -> Vec<Query> {
    let mut rows = Rows::new(head, 4, tail);
    for ((scope, per_ms), full_at) in buckets {
        rows.bind(tenant.as_bytes()).bind(scope.as_str()).bind(*per_ms).bind(full_at);
    }
    rows.queries()
}

fn bucket(row: &Row) -> Result<(BucketKey, Timestamp), StoreError> {
    let columns = Columns::new(TAKE, row);
    Ok(((columns.value("scope")?, columns.number("per_ms")?), columns.time("full_at")?))
}
