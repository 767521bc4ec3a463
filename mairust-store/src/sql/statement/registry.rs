//! Statements about settings and sealed secrets.

pub(crate) const SETTING: &str =
    "SELECT key, value, version, updated_at FROM settings WHERE tenant_id = $1 AND key = $2";

pub(crate) const SETTINGS: &str =
    "SELECT key, value, version, updated_at FROM settings WHERE tenant_id = $1 ORDER BY key";

macro_rules! insert_setting {
    ($conflict:literal) => {
        concat!(
            "INSERT INTO settings (tenant_id, key, value, version, updated_at) \
            SELECT $1, $2, $3, $4, $5 WHERE $6 OR EXISTS (SELECT 1 FROM tenants WHERE id = $1)",
            $conflict
        )
    };
}

/// Nothing happens unless $6, or there is such a tenant.
pub(crate) const INSERT_SETTING: &str = insert_setting!("");

/// As above; one that is there gives way.
pub(crate) const SET_SETTING: &str = insert_setting!(
    " ON CONFLICT (tenant_id, key) DO UPDATE SET \
        value = excluded.value, version = excluded.version, updated_at = excluded.updated_at"
);

/// Only a setting of the version $6.
pub(crate) const CHANGE_SETTING: &str =
    "UPDATE settings SET value = $3, version = $4, updated_at = $5 WHERE tenant_id = $1 AND key = $2 AND version = $6";

pub(crate) const DELETE_SETTING: &str = "DELETE FROM settings WHERE tenant_id = $1 AND key = $2";

/// Only a setting of the version $3.
pub(crate) const DELETE_SETTING_VERSION: &str =
    "DELETE FROM settings WHERE tenant_id = $1 AND key = $2 AND version = $3";

/// Conditions are to be appended.
pub(crate) const SELECT_SECRETS: &str =
    "SELECT tenant_id, kind, name, sealed, version, created_at, updated_at FROM secrets ";

macro_rules! insert_secret {
    ($conflict:literal) => {
        concat!(
            "INSERT INTO secrets (tenant_id, kind, name, sealed, version, created_at, updated_at) \
            SELECT $1, $2, $3, $4, $5, $6, $6 WHERE $7 OR EXISTS (SELECT 1 FROM tenants WHERE id = $1)",
            $conflict,
            " RETURNING created_at"
        )
    };
}

/// Nothing happens unless $7, or there is such a tenant.
pub(crate) const INSERT_SECRET: &str = insert_secret!("");

/// As above; one that is there gives way.
pub(crate) const SET_SECRET: &str = insert_secret!(
    " ON CONFLICT (tenant_id, kind, name) DO UPDATE SET \
        sealed = excluded.sealed, version = excluded.version, updated_at = excluded.updated_at"
);

/// Only a secret of the version $7.
pub(crate) const CHANGE_SECRET: &str = "\
    UPDATE secrets SET sealed = $4, version = $5, updated_at = $6 \
    WHERE tenant_id = $1 AND kind = $2 AND name = $3 AND version = $7 RETURNING created_at";

pub(crate) const DELETE_SECRET: &str = "DELETE FROM secrets WHERE tenant_id = $1 AND kind = $2 AND name = $3";
