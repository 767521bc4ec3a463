//! API keys.

use mairust_core::{ApiKeyId, TenantId};

use crate::directory::{ApiKey, NewApiKey};
use crate::error::StoreError;
use crate::sql::driver::{Columns, Query, Row, Scope, failed};
use crate::sql::storage::Parts;
use crate::sql::{codec, statement};

pub(super) async fn create(parts: &Parts, tenant: TenantId, new: NewApiKey) -> Result<ApiKey, StoreError> {
    let now = parts.clock.now();
    let NewApiKey { key_id, name, secret_hash, scopes } = new;
    let key = ApiKey { id: ApiKeyId::new(now), tenant, key_id, name, secret_hash, scopes };
    parts
        .database
        .execute(
            tenant,
            Query::new(statement::directory::INSERT_API_KEY)
                .bind(tenant.as_bytes())
                .bind(key.id.as_bytes())
                .bind(key.key_id.as_str())
                .bind(key.name.as_str())
                .bind(&key.secret_hash[..])
                .bind(codec::texts(key.scopes.iter().map(String::as_str)))
                .bind(now),
        )
        .await
        .map_err(failed("create API key", &key.key_id))?;
    Ok(key)
}

pub(super) async fn by_key_id(parts: &Parts, key_id: &str) -> Result<Option<ApiKey>, StoreError> {
    let found = parts.database.fetch_optional(Scope::All, Query::new(statement::directory::API_KEY).bind(key_id)).await;
    found.map_err(failed("read API key", key_id))?.as_ref().map(api_key).transpose()
}

fn api_key(row: &Row) -> Result<ApiKey, StoreError> {
    let columns = Columns::new("read API key", row);
    Ok(ApiKey {
        id: ApiKeyId::from_bytes(columns.id("id")?),
        tenant: TenantId::from_bytes(columns.id("tenant_id")?),
        key_id: columns.value("key_id")?,
        name: columns.value("name")?,
        secret_hash: columns.bytes("secret_hash")?,
        scopes: columns.json("scopes")?,
    })
}
