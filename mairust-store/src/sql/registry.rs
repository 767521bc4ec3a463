//! Settings and sealed secrets.

use async_trait::async_trait;
use mairust_core::Timestamp;
use serde_json::Value;

use super::driver::{Columns, Json, Query, Row, Scope, failed};
use super::storage::Parts;
use crate::error::{StoreError, StoreErrorKind};
use crate::owner::Owner;
use crate::registry::{Expected, Registry, SecretRow, Setting, Version, check_names, check_size};
use crate::seal::{SealedPlace, SealedRecord};
use crate::sql::statement;

#[async_trait]
impl Registry for Parts {
    async fn setting(&self, owner: Owner, key: &str) -> Result<Option<Setting>, StoreError> {
        let query = Query::new(statement::registry::SETTING).bind(owner.as_bytes()).bind(key);
        let found = self.database.look_up(owner, query).await.map_err(failed("read setting", key))?;
        found.first().map(setting).transpose()
    }

    async fn settings(&self, owner: Owner) -> Result<Vec<Setting>, StoreError> {
        let query = Query::new(statement::registry::SETTINGS).bind(owner.as_bytes());
        let rows = self.database.fetch_all(owner, query).await.map_err(failed("list settings", owner))?;
        rows.iter().map(setting).collect()
    }

    async fn put_setting(
        &self,
        owner: Owner,
        key: &str,
        value: &Value,
        expected: Expected,
    ) -> Result<Setting, StoreError> {
        const PUT: &str = "put setting";
        check_names(PUT, &[key])?;
        check_size(PUT, value.to_string().len())?;
        owner.check(PUT)?;
        let (version, updated_at) = (Version::random(), self.clock.now());
        let query = |text| {
            let query = Query::new(text).bind(owner.as_bytes()).bind(key).bind(Json(value.clone()));
            query.bind(version.as_number()).bind(updated_at)
        };
        let query = match expected {
            Expected::Absent => query(statement::registry::INSERT_SETTING).bind(owner.tenant().is_none()),
            Expected::Any => query(statement::registry::SET_SETTING).bind(owner.tenant().is_none()),
            Expected::Version(version) => query(statement::registry::CHANGE_SETTING).bind(version.as_number()),
        };
        match self.database.execute(owner, query).await.map_err(failed(PUT, key))? {
            0 => Err(self.unexpected_setting(PUT, owner, key, expected).await?),
            _ => Ok(Setting { key: key.to_owned(), value: value.clone(), version, updated_at }),
        }
    }

    async fn delete_setting(&self, owner: Owner, key: &str, expected: Expected) -> Result<(), StoreError> {
        const DELETE: &str = "delete setting";
        let query = |text| Query::new(text).bind(owner.as_bytes()).bind(key);
        let query = match expected {
            Expected::Absent => return Err(self.unexpected_setting(DELETE, owner, key, expected).await?),
            Expected::Any => query(statement::registry::DELETE_SETTING),
            Expected::Version(version) => query(statement::registry::DELETE_SETTING_VERSION).bind(version.as_number()),
        };
        match self.database.execute(owner, query).await.map_err(failed(DELETE, key))? {
            0 => Err(self.unexpected_setting(DELETE, owner, key, expected).await?),
            _ => Ok(()),
        }
    }

    async fn secret(&self, owner: Owner, kind: &str, name: &str) -> Result<Option<SecretRow>, StoreError> {
        let mut query = Query::new(statement::registry::SELECT_SECRETS);
        query.push("WHERE tenant_id = ").push_bind(owner.as_bytes()).push(" AND kind = ").push_bind(kind);
        query.push(" AND name = ").push_bind(name);
        let found = self.database.fetch_optional(owner, query).await.map_err(failed("read secret", name))?;
        found.as_ref().map(secret).transpose()
    }

    async fn secrets(&self, owner: Owner, kind: &str) -> Result<Vec<SecretRow>, StoreError> {
        let mut query = Query::new(statement::registry::SELECT_SECRETS);
        query.push("WHERE tenant_id = ").push_bind(owner.as_bytes()).push(" AND kind = ").push_bind(kind);
        query.push(" ORDER BY name");
        let rows = self.database.fetch_all(owner, query).await.map_err(failed("list secrets", kind))?;
        rows.iter().map(secret).collect()
    }

    async fn put_secret(
        &self,
        place: SealedPlace<'_>,
        sealed: &SealedRecord,
        expected: Expected,
    ) -> Result<SecretRow, StoreError> {
        const PUT: &str = "put secret";
        let SealedPlace { owner, kind, name } = place;
        check_names(PUT, &[kind, name])?;
        check_size(PUT, sealed.as_bytes().len())?;
        owner.check(PUT)?;
        let (version, now) = (Version::random(), self.clock.now());
        let query = |text| {
            let query = Query::new(text).bind(owner.as_bytes()).bind(kind).bind(name).bind(sealed.as_bytes());
            query.bind(version.as_number()).bind(now)
        };
        let query = match expected {
            Expected::Absent => query(statement::registry::INSERT_SECRET).bind(owner.tenant().is_none()),
            Expected::Any => query(statement::registry::SET_SECRET).bind(owner.tenant().is_none()),
            Expected::Version(version) => query(statement::registry::CHANGE_SECRET).bind(version.as_number()),
        };
        let rows = self.database.fetch_changed(owner, query).await.map_err(failed(PUT, name))?;
        let Some(row) = rows.first() else {
            let found = self.secret(owner, kind, name).await?.map(|row| row.version);
            return Err(unexpected(PUT, name, expected, found));
        };
        let created_at: Timestamp = Columns::new(PUT, row).time("created_at")?;
        let (kind, name, sealed) = (kind.to_owned(), name.to_owned(), sealed.clone());
        Ok(SecretRow { owner, kind, name, sealed, version, created_at, updated_at: now })
    }

    async fn delete_secret(&self, place: SealedPlace<'_>) -> Result<(), StoreError> {
        let SealedPlace { owner, kind, name } = place;
        let query = Query::new(statement::registry::DELETE_SECRET).bind(owner.as_bytes()).bind(kind).bind(name);
        match self.database.execute(owner, query).await.map_err(failed("delete secret", name))? {
            0 => Err(StoreError::new(StoreErrorKind::NotFound, "delete secret", name)),
            _ => Ok(()),
        }
    }

    async fn all_secrets(&self, after: Option<SealedPlace<'_>>, limit: u32) -> Result<Vec<SecretRow>, StoreError> {
        let mut query = Query::new(statement::registry::SELECT_SECRETS);
        if let Some(after) = after {
            query.push("WHERE (tenant_id, kind, name) > (").push_bind(after.owner.as_bytes());
            query.push(", ").push_bind(after.kind).push(", ").push_bind(after.name).push(") ");
        }
        query.push("ORDER BY tenant_id, kind, name LIMIT ").push_bind(limit);
        let rows = self.database.fetch_all(Scope::All, query).await.map_err(failed("list secrets", "read"))?;
        rows.iter().map(secret).collect()
    }
}

impl Parts {
    /// Why nothing was done about a setting.
    async fn unexpected_setting(
        &self,
        operation: &'static str,
        owner: Owner,
        key: &str,
        expected: Expected,
    ) -> Result<StoreError, StoreError> {
        let found = self.setting(owner, key).await?.map(|setting| setting.version);
        Ok(unexpected(operation, key, expected, found))
    }
}

/// Why nothing was done. What is as expected by now was not so then.
fn unexpected(operation: &'static str, name: &str, expected: Expected, found: Option<Version>) -> StoreError {
    match (expected, found) {
        (Expected::Version(_), Some(_)) => StoreError::new(StoreErrorKind::Conflict, operation, name),
        (Expected::Absent, Some(_)) => StoreError::new(StoreErrorKind::AlreadyExists, operation, name),
        _ => StoreError::new(StoreErrorKind::NotFound, operation, name),
    }
}

fn setting(row: &Row) -> Result<Setting, StoreError> {
    let columns = Columns::new("read setting", row);
    Ok(Setting {
        key: columns.value("key")?,
        value: columns.json("value")?,
        version: Version::from_number(columns.value("version")?),
        updated_at: columns.time("updated_at")?,
    })
}

fn secret(row: &Row) -> Result<SecretRow, StoreError> {
    let columns = Columns::new("read secret", row);
    Ok(SecretRow {
        owner: Owner::from_bytes(columns.id("tenant_id")?),
        kind: columns.value("kind")?,
        name: columns.value("name")?,
        sealed: SealedRecord::from_bytes(columns.value("sealed")?),
        version: Version::from_number(columns.value("version")?),
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
    })
}
