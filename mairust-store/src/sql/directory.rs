//! Statements about tenants, domains, users, addresses and API keys.

pub(crate) const INSERT_TENANT: &str = "INSERT INTO tenants (id, name, any_sender, created_at) VALUES ($1, $2, $3, $4)";

pub(crate) const TENANT_BY_NAME: &str = "SELECT id, name, any_sender FROM tenants WHERE name = $1";

pub(crate) const TENANT_BY_ID: &str = "SELECT id, name, any_sender FROM tenants WHERE id = $1";

pub(crate) const INSERT_DOMAIN: &str = "INSERT INTO domains (tenant_id, id, name, created_at) VALUES ($1, $2, $3, $4)";

pub(crate) const DOMAIN_BY_NAME: &str = "SELECT tenant_id, id, name FROM domains WHERE name = $1";

pub(crate) const DOMAIN_OF_TENANT: &str = "SELECT id FROM domains WHERE tenant_id = $1 AND name = $2";

/// Addresses and logins are one space of names: whoever logs in gives either.
pub(crate) const NAME_TAKEN: &str = "\
    SELECT EXISTS (SELECT 1 FROM addresses WHERE lookup_key = $1 OR lookup_key = $2) \
        OR EXISTS (SELECT 1 FROM users WHERE login = $1 OR login = $2)";

pub(crate) const INSERT_MAILBOX: &str =
    "INSERT INTO mailboxes (tenant_id, id, name, created_at) VALUES ($1, $2, $3, $4)";

pub(crate) const INSERT_FOLDER: &str =
    "INSERT INTO folders (tenant_id, id, mailbox_id, name, uidvalidity) VALUES ($1, $2, $3, $4, $5)";

pub(crate) const INSERT_USER: &str = "\
    INSERT INTO users (tenant_id, id, login, password_hash, address_id, created_at) VALUES ($1, $2, $3, $4, $5, $6)";

pub(crate) const INSERT_ADDRESS: &str = "\
    INSERT INTO addresses (tenant_id, id, domain_id, lookup_key, address, mailbox_id, user_id) \
    VALUES ($1, $2, $3, $4, $5, $6, $7)";

pub(crate) const USER_BY_ADDRESS: &str = "\
    SELECT u.tenant_id, u.id, p.address, p.mailbox_id, u.created_at \
    FROM addresses a \
    JOIN users u ON u.tenant_id = a.tenant_id AND u.id = a.user_id \
    JOIN addresses p ON p.tenant_id = u.tenant_id AND p.id = u.address_id \
    WHERE a.lookup_key = $2 AND a.tenant_id = $1";

pub(crate) const LOGIN_BY_ADDRESS: &str = "\
    SELECT u.tenant_id, u.id, p.address, p.mailbox_id, u.created_at, u.password_hash \
    FROM addresses a \
    JOIN users u ON u.tenant_id = a.tenant_id AND u.id = a.user_id \
    JOIN addresses p ON p.tenant_id = u.tenant_id AND p.id = u.address_id \
    WHERE a.lookup_key = $1";

pub(crate) const LOGIN_BY_NAME: &str = "\
    SELECT u.tenant_id, u.id, p.address, p.mailbox_id, u.created_at, u.password_hash \
    FROM users u \
    JOIN addresses p ON p.tenant_id = u.tenant_id AND p.id = u.address_id \
    WHERE u.login = $1";

pub(crate) const SET_PASSWORD: &str = "UPDATE users SET password_hash = $3 WHERE tenant_id = $1 AND id = $2";

pub(crate) const RESOLVE: &str = "\
    SELECT a.tenant_id, a.mailbox_id FROM domains d \
    LEFT JOIN addresses a ON a.lookup_key = $2 AND a.tenant_id = d.tenant_id \
    WHERE d.name = $1";

pub(crate) const MAY_SEND_AS: &str = "\
    SELECT t.any_sender = 1 \
        OR EXISTS (SELECT 1 FROM addresses a WHERE a.lookup_key = $3 AND a.tenant_id = $1 AND a.user_id = $2) \
    FROM users u JOIN tenants t ON t.id = u.tenant_id \
    WHERE u.tenant_id = $1 AND u.id = $2";

pub(crate) const INSERT_API_KEY: &str = "\
    INSERT INTO api_keys (tenant_id, id, key_id, name, secret_hash, scopes, created_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7)";

pub(crate) const API_KEY: &str =
    "SELECT tenant_id, id, key_id, name, secret_hash, scopes FROM api_keys WHERE key_id = $1";
