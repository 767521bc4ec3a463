//! Addresses to which tenants send nothing.

use async_trait::async_trait;
use mairust_core::{EmailAddress, SuppressionId, TenantId, Timestamp};

use super::driver::{Columns, Query, Row, Scope, failed};
use super::storage::Parts;
use crate::error::{StoreError, StoreErrorKind};
use crate::message::Page;
use crate::sql::statement;
use crate::suppression::{NewSuppression, Suppression, SuppressionReason, Suppressions};

#[async_trait]
impl Suppressions for Parts {
    async fn add(&self, tenant: TenantId, new: NewSuppression) -> Result<Suppression, StoreError> {
        const ADD: &str = "add suppression";
        new.check()?;
        match self.database.execute(tenant, insert(tenant, &new)).await.map_err(failed(ADD, &new.address))? {
            0 => Err(StoreError::new(StoreErrorKind::AlreadyExists, ADD, &new.address)),
            _ => Ok(new.into()),
        }
    }

    async fn get(&self, tenant: TenantId, id: SuppressionId) -> Result<Option<Suppression>, StoreError> {
        let mut query = of_tenant(tenant);
        query.push(" AND id = ").push_bind(id.as_bytes());
        let found = self.database.fetch_optional(tenant, query).await.map_err(failed("read suppression", id))?;
        found.as_ref().map(suppression).transpose()
    }

    async fn which(
        &self,
        tenant: TenantId,
        addresses: &[EmailAddress],
        now: Timestamp,
    ) -> Result<Vec<Suppression>, StoreError> {
        if addresses.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = of_tenant(tenant);
        query.push(" AND lookup_key IN (");
        for (index, address) in addresses.iter().enumerate() {
            query.push(if index == 0 { "" } else { ", " }).push_bind(address.lookup_key());
        }
        query.push(")");
        let rows = self.database.look_up(tenant, query).await.map_err(failed("look up suppressions", tenant))?;
        let found: Vec<_> = rows.iter().map(suppression).collect::<Result<_, _>>()?;
        Ok(found.into_iter().filter(|entry| entry.holds(now)).collect())
    }

    async fn list(
        &self,
        tenant: TenantId,
        after: Option<SuppressionId>,
        limit: u32,
    ) -> Result<Page<Suppression>, StoreError> {
        let mut query = of_tenant(tenant);
        if let Some(after) = after {
            query.push(" AND id > ").push_bind(after.as_bytes());
        }
        // One more, to know whether there are more.
        query.push(" ORDER BY id LIMIT ").push_bind(u64::from(limit) + 1);
        let rows = self.database.fetch_all(tenant, query).await.map_err(failed("list suppressions", tenant))?;
        let mut items: Vec<_> = rows.iter().map(suppression).collect::<Result<_, _>>()?;
        let has_more = items.len() > limit as usize;
        items.truncate(limit as usize);
        Ok(Page { items, has_more })
    }

    async fn remove(&self, tenant: TenantId, id: SuppressionId) -> Result<(), StoreError> {
        const REMOVE: &str = "remove suppression";
        let query = Query::new(statement::policy::DELETE_SUPPRESSION).bind(tenant.as_bytes()).bind(id.as_bytes());
        match self.database.execute(tenant, query).await.map_err(failed(REMOVE, id))? {
            0 => Err(StoreError::new(StoreErrorKind::NotFound, REMOVE, id)),
            _ => Ok(()),
        }
    }

    async fn forget_expired(&self, now: Timestamp, max: u32) -> Result<u32, StoreError> {
        let query = Query::new(statement::policy::FORGET_EXPIRED_SUPPRESSIONS).bind(now).bind(max);
        let done = self.database.execute(Scope::All, query).await.map_err(failed("forget suppressions", "delete"))?;
        Ok(u32::try_from(done).unwrap_or(max))
    }
}

/// The statements that add addresses, in one order: whoever adds the same ones does not wait for another that waits
/// for it.
pub(super) fn insert_suppressions(tenant: TenantId, new: &[NewSuppression]) -> Vec<Query> {
    let mut sorted: Vec<_> = new.iter().collect();
    sorted.sort_by_key(|new| new.address.lookup_key());
    sorted.into_iter().map(|new| insert(tenant, new)).collect()
}

fn insert(tenant: TenantId, new: &NewSuppression) -> Query {
    Query::new(statement::policy::INSERT_SUPPRESSION)
        .bind(tenant.as_bytes())
        .bind(new.id.as_bytes())
        .bind(new.address.to_string())
        .bind(new.address.lookup_key())
        .bind(new.reason.as_str())
        .bind(new.detail.as_deref())
        .bind(new.created_at)
        .bind(new.expires_at)
}

fn of_tenant(tenant: TenantId) -> Query {
    Query::new(statement::policy::SELECT_SUPPRESSIONS).bind(tenant.as_bytes())
}

fn suppression(row: &Row) -> Result<Suppression, StoreError> {
    let columns = Columns::new("read suppression", row);
    Ok(Suppression {
        id: SuppressionId::from_bytes(columns.id("id")?),
        address: columns.parsed("address", |text| EmailAddress::parse(text).ok())?,
        reason: columns.parsed("reason", SuppressionReason::parse)?,
        detail: columns.value("detail")?,
        created_at: columns.time("created_at")?,
        expires_at: columns.optional_time("expires_at")?,
    })
}
