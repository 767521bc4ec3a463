//! API keys.

use mairust_core::{ApiKeyId, TenantId};
use sqlx::sqlite::SqliteRow;

use crate::directory::{ApiKey, NewApiKey};
use crate::error::StoreError;
use crate::sql;
use crate::sqlite::Parts;
use crate::sqlite::row::{Columns, failed};

pub(super) async fn create(parts: &Parts, tenant: TenantId, new: NewApiKey) -> Result<ApiKey, StoreError> {
    let now = parts.clock.now();
    let NewApiKey { key_id, name, secret_hash, scopes } = new;
    let key = ApiKey { id: ApiKeyId::new(now), tenant, key_id, name, secret_hash, scopes };
    sqlx::query(sql::directory::INSERT_API_KEY)
        .bind(&tenant.as_bytes()[..])
        .bind(&key.id.as_bytes()[..])
        .bind(key.key_id.as_str())
        .bind(key.name.as_str())
        .bind(&key.secret_hash[..])
        .bind(sql::codec::texts_to_json(key.scopes.iter().map(String::as_str)))
        .bind(now.as_micros())
        .execute(&parts.writer)
        .await
        .map_err(failed("create API key", &key.key_id))?;
    Ok(key)
}

pub(super) async fn by_key_id(parts: &Parts, key_id: &str) -> Result<Option<ApiKey>, StoreError> {
    let found = sqlx::query(sql::directory::API_KEY).bind(key_id).fetch_optional(&parts.reader).await;
    found.map_err(failed("read API key", key_id))?.as_ref().map(api_key).transpose()
}

fn api_key(row: &SqliteRow) -> Result<ApiKey, StoreError> {
    let columns = Columns::new("read API key", row);
    Ok(ApiKey {
        id: ApiKeyId::from_bytes(columns.bytes("id")?),
        tenant: TenantId::from_bytes(columns.bytes("tenant_id")?),
        key_id: columns.value("key_id")?,
        name: columns.value("name")?,
        secret_hash: columns.bytes("secret_hash")?,
        scopes: columns.parsed("scopes", sql::codec::texts_from_json)?,
    })
}
