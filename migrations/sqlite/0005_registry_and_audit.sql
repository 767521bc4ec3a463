-- Settings and sealed secrets, and the audit log. `tenant_id` is a tenant's, or zeros for what belongs
-- to the installation itself; so it refers to nothing, and entries outlive their tenant.

CREATE TABLE settings (
    tenant_id BLOB NOT NULL CHECK (length(tenant_id) = 16),
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    -- A random number, another one with each change.
    version INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE secrets (
    tenant_id BLOB NOT NULL CHECK (length(tenant_id) = 16),
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    -- Encrypted under a key that the database does not have.
    sealed BLOB NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, kind, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit_entries (
    tenant_id BLOB NOT NULL CHECK (length(tenant_id) = 16),
    sequence INTEGER NOT NULL,
    id BLOB NOT NULL CHECK (length(id) = 16),
    at INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_id TEXT,
    actor_ip TEXT,
    target_kind TEXT,
    target_id TEXT,
    -- JSON, byte for byte what the hash is over.
    before TEXT,
    after TEXT,
    request_id TEXT,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (tenant_id, sequence),
    UNIQUE (tenant_id, id)
) STRICT;

-- Where each chain of entries begins and ends, signed.
CREATE TABLE audit_heads (
    tenant_id BLOB NOT NULL PRIMARY KEY CHECK (length(tenant_id) = 16),
    dropped INTEGER NOT NULL,
    dropped_hash BLOB NOT NULL CHECK (length(dropped_hash) = 32),
    sequence INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    signature BLOB NOT NULL CHECK (length(signature) = 32)
) STRICT, WITHOUT ROWID;
