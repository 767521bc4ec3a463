//! Statements about tenants, domains and their keys, users, addresses, aliases, rules about senders and API keys.

pub(crate) const INSERT_TENANT: &str = "INSERT INTO tenants (id, name, any_sender, created_at) VALUES ($1, $2, $3, $4)";

pub(crate) const INSERT_FORWARDS: &str = "INSERT INTO forwards (tenant_id, mailbox_id) VALUES ($1, $2)";

/// Conditions are to be appended.
pub(crate) const SELECT_TENANTS: &str = "\
    SELECT t.id, t.name, t.any_sender, t.enabled, t.legal_hold, t.deleted_messages_days, f.mailbox_id AS forwards_id \
    FROM tenants t JOIN forwards f ON f.tenant_id = t.id ";

/// $4 tells whether the days become $5; otherwise NULL changes nothing.
pub(crate) const CHANGE_TENANT: &str = "\
    UPDATE tenants SET enabled = coalesce($2, enabled), legal_hold = coalesce($3, legal_hold), \
        deleted_messages_days = CASE WHEN $4 THEN $5 ELSE deleted_messages_days END \
    WHERE id = $1";

pub(crate) const INSERT_DOMAIN: &str = "INSERT INTO domains (tenant_id, id, name, created_at) VALUES ($1, $2, $3, $4)";

pub(crate) const INSERT_DOMAIN_ALIAS: &str =
    "INSERT INTO domain_aliases (tenant_id, domain_id, target_id) VALUES ($1, $2, $3)";

/// Conditions are to be appended.
pub(crate) const SELECT_DOMAINS: &str = "\
    SELECT d.tenant_id, d.id, d.name, d.enabled, d.catch_all, p.name AS alias_of \
    FROM domains d \
    LEFT JOIN domain_aliases l ON l.tenant_id = d.tenant_id AND l.domain_id = d.id \
    LEFT JOIN domains p ON p.tenant_id = l.tenant_id AND p.id = l.target_id ";

/// $4 tells whether the catch-all becomes $5; otherwise NULL changes nothing.
pub(crate) const CHANGE_DOMAIN: &str = "\
    UPDATE domains SET enabled = coalesce($3, enabled), catch_all = CASE WHEN $4 THEN $5 ELSE catch_all END \
    WHERE tenant_id = $1 AND name = $2";

/// PostgreSQL only. Held until the end of the transaction.
pub(crate) const LOCK_NAMES: &str = "SELECT pg_advisory_xact_lock(hashtext('mairust names'))";

/// Whether a user, an alias or a login has this name: whoever logs in gives any of them.
pub(crate) const NAME_TAKEN: &str = "\
    SELECT EXISTS (SELECT 1 FROM addresses WHERE lookup_key = $1) \
        OR EXISTS (SELECT 1 FROM aliases WHERE lookup_key = $1) \
        OR EXISTS (SELECT 1 FROM users WHERE login = $1) AS taken";

pub(crate) const INSERT_MAILBOX: &str =
    "INSERT INTO mailboxes (tenant_id, id, name, created_at) VALUES ($1, $2, $3, $4)";

pub(crate) const INSERT_FOLDER: &str =
    "INSERT INTO folders (tenant_id, id, mailbox_id, name, uidvalidity) VALUES ($1, $2, $3, $4, $5)";

pub(crate) const INSERT_USER: &str = "\
    INSERT INTO users (tenant_id, id, login, password_hash, scram, address_id, created_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7)";

pub(crate) const INSERT_ADDRESS: &str = "\
    INSERT INTO addresses (tenant_id, id, domain_id, lookup_key, address, mailbox_id, user_id) \
    VALUES ($1, $2, $3, $4, $5, $6, $7)";

/// Users with their primary addresses. Conditions are to be appended.
pub(crate) const SELECT_USERS: &str = "\
    SELECT u.tenant_id, u.id, u.password_hash, u.scram, u.created_at, u.enabled, t.enabled AS tenant_enabled, \
        p.address, p.mailbox_id, m.quota, m.used, m.legal_hold, \
        u.sending_suspended_at, u.sending_suspended_because, u.sending_suspended_until \
    FROM users u \
    JOIN tenants t ON t.id = u.tenant_id \
    JOIN addresses p ON p.tenant_id = u.tenant_id AND p.id = u.address_id \
    JOIN mailboxes m ON m.tenant_id = p.tenant_id AND m.id = p.mailbox_id ";

/// $4 tells whether the suspension becomes $5, $6 and $7; otherwise NULL changes nothing.
pub(crate) const CHANGE_USER: &str = "\
    UPDATE users SET enabled = coalesce($3, enabled), \
        sending_suspended_at = CASE WHEN $4 THEN $5 ELSE sending_suspended_at END, \
        sending_suspended_because = CASE WHEN $4 THEN $6 ELSE sending_suspended_because END, \
        sending_suspended_until = CASE WHEN $4 THEN $7 ELSE sending_suspended_until END \
    WHERE tenant_id = $1 AND id = $2";

pub(crate) const SET_QUOTA: &str = "\
    UPDATE mailboxes SET quota = $3 \
    WHERE tenant_id = $1 AND id IN (SELECT mailbox_id FROM addresses WHERE tenant_id = $1 AND user_id = $2)";

pub(crate) const SET_LEGAL_HOLD: &str = "\
    UPDATE mailboxes SET legal_hold = $3 \
    WHERE tenant_id = $1 AND id IN (SELECT mailbox_id FROM addresses WHERE tenant_id = $1 AND user_id = $2)";

pub(crate) const SET_PASSWORD: &str =
    "UPDATE users SET password_hash = $3, scram = $4 WHERE tenant_id = $1 AND id = $2";

pub(crate) const SET_SCRAM: &str =
    "UPDATE users SET scram = $4 WHERE tenant_id = $1 AND id = $2 AND password_hash = $3 AND scram IS NULL";

/// The domain $1, which looks its addresses up at itself or at the domain that it is an alias of, and
/// beside it the user or alias whose local part is $2 or, if there is none, $3. The columns of the one are
/// NULL for the other.
pub(crate) const RESOLVE: &str = "\
    WITH domain AS ( \
        SELECT p.tenant_id, p.name, p.catch_all, t.enabled AND d.enabled AND p.enabled AS domain_enabled, \
            f.mailbox_id AS forwards_id \
        FROM domains d \
        JOIN tenants t ON t.id = d.tenant_id \
        JOIN forwards f ON f.tenant_id = d.tenant_id \
        LEFT JOIN domain_aliases l ON l.tenant_id = d.tenant_id AND l.domain_id = d.id \
        JOIN domains p ON p.tenant_id = d.tenant_id AND p.id = coalesce(l.target_id, d.id) \
        WHERE d.name = $1 \
    ), found AS ( \
        SELECT a.lookup_key, u.enabled, a.address, a.user_id, a.mailbox_id, m.quota, m.used, NULL AS targets \
        FROM domain \
        JOIN addresses a ON a.lookup_key IN ($2 || '@' || domain.name, $3 || '@' || domain.name) \
            AND a.tenant_id = domain.tenant_id \
        JOIN users u ON u.tenant_id = a.tenant_id AND u.id = a.user_id \
        JOIN mailboxes m ON m.tenant_id = a.tenant_id AND m.id = a.mailbox_id \
        UNION ALL \
        SELECT s.lookup_key, s.enabled, NULL, NULL, NULL, NULL, NULL, s.targets \
        FROM domain \
        JOIN aliases s ON s.lookup_key IN ($2 || '@' || domain.name, $3 || '@' || domain.name) \
            AND s.tenant_id = domain.tenant_id \
    ) \
    SELECT domain.tenant_id, domain.catch_all, domain.domain_enabled, domain.forwards_id, found.* \
    FROM domain LEFT JOIN found ON TRUE \
    ORDER BY CASE found.lookup_key WHEN $2 || '@' || domain.name THEN 0 ELSE 1 END LIMIT 1";

pub(crate) const INSERT_ALIAS: &str = "\
    INSERT INTO aliases (tenant_id, id, domain_id, lookup_key, address, targets, created_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7)";

pub(crate) const ALIASES: &str =
    "SELECT tenant_id, id, address, targets, enabled FROM aliases WHERE tenant_id = $1 ORDER BY id";

/// NULL changes nothing.
pub(crate) const CHANGE_ALIAS: &str = "\
    UPDATE aliases SET enabled = coalesce($3, enabled), targets = coalesce($4, targets) \
    WHERE tenant_id = $1 AND lookup_key = $2";

pub(crate) const DELETE_ALIAS: &str = "DELETE FROM aliases WHERE tenant_id = $1 AND lookup_key = $2";

pub(crate) const SET_SENDER_RULE: &str = "\
    INSERT INTO sender_rules (tenant_id, pattern, action, created_at) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (tenant_id, pattern) DO UPDATE SET action = excluded.action";

pub(crate) const SENDER_RULES: &str =
    "SELECT pattern, action FROM sender_rules WHERE tenant_id = $1 ORDER BY pattern LIMIT $2";

pub(crate) const DELETE_SENDER_RULE: &str = "DELETE FROM sender_rules WHERE tenant_id = $1 AND pattern = $2";

pub(crate) const INSERT_API_KEY: &str = "\
    INSERT INTO api_keys (tenant_id, id, key_id, name, secret_hash, scopes, created_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7)";

pub(crate) const API_KEY: &str = "\
    SELECT k.tenant_id, k.id, k.key_id, k.name, k.secret_hash, k.scopes \
    FROM api_keys k JOIN tenants t ON t.id = k.tenant_id \
    WHERE k.key_id = $1 AND t.enabled";

/// Nothing is inserted if the tenant has no domain of the name $3.
pub(crate) const INSERT_DKIM_KEY: &str = "\
    INSERT INTO dkim_keys (tenant_id, id, domain_id, selector, algorithm, public_key, created_at) \
    SELECT d.tenant_id, $2, d.id, $4, $5, $6, $7 FROM domains d WHERE d.tenant_id = $1 AND d.name = $3";

/// Conditions are to be appended.
pub(crate) const SELECT_DKIM_KEYS: &str = "\
    SELECT k.tenant_id, k.id, d.name AS domain, k.selector, k.algorithm, k.public_key, k.state, k.created_at, \
        k.activated_at, k.retired_at \
    FROM dkim_keys k JOIN domains d ON d.tenant_id = k.tenant_id AND d.id = k.domain_id ";

/// Those that sign in the place of the key $2.
pub(crate) const RETIRE_DKIM_KEYS: &str = "\
    UPDATE dkim_keys SET state = 'retired', retired_at = $3 \
    WHERE tenant_id = $1 AND id <> $2 AND state = 'active' AND (domain_id, algorithm) = \
        (SELECT k.domain_id, k.algorithm FROM dkim_keys k WHERE k.tenant_id = $1 AND k.id = $2)";

pub(crate) const ACTIVATE_DKIM_KEY: &str = "\
    UPDATE dkim_keys SET state = 'active', retired_at = NULL, \
        activated_at = CASE WHEN state = 'active' THEN activated_at ELSE $3 END \
    WHERE tenant_id = $1 AND id = $2";

pub(crate) const RETIRE_DKIM_KEY: &str = "\
    UPDATE dkim_keys SET state = 'retired', retired_at = $3 WHERE tenant_id = $1 AND id = $2 AND state = 'active'";

pub(crate) const DELETE_DKIM_KEY: &str = "DELETE FROM dkim_keys WHERE tenant_id = $1 AND id = $2 AND state <> 'active'";
