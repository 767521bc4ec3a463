-- Settings and sealed secrets, and the audit log. `tenant_id` is a tenant's, or zeros for what belongs
-- to the installation itself; so it refers to nothing, and entries outlive their tenant.

CREATE TABLE settings (
    tenant_id uuid NOT NULL,
    key text COLLATE "C" NOT NULL,
    value json NOT NULL,
    -- A random number, another one with each change.
    version bigint NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, key)
);

CREATE TABLE secrets (
    tenant_id uuid NOT NULL,
    kind text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    -- Encrypted under a key that the database does not have.
    sealed bytea NOT NULL,
    version bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, kind, name)
);

CREATE TABLE audit_entries (
    tenant_id uuid NOT NULL,
    sequence bigint NOT NULL,
    id uuid NOT NULL,
    at timestamptz NOT NULL,
    event_type text COLLATE "C" NOT NULL,
    actor_kind text COLLATE "C" NOT NULL,
    actor_id text COLLATE "C",
    actor_ip text COLLATE "C",
    target_kind text COLLATE "C",
    target_id text COLLATE "C",
    -- JSON, byte for byte what the hash is over.
    before text COLLATE "C",
    after text COLLATE "C",
    request_id text COLLATE "C",
    hash bytea NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (tenant_id, sequence),
    UNIQUE (tenant_id, id)
);

-- Where each chain of entries begins and ends, signed.
CREATE TABLE audit_heads (
    tenant_id uuid NOT NULL PRIMARY KEY,
    dropped bigint NOT NULL,
    dropped_hash bytea NOT NULL CHECK (length(dropped_hash) = 32),
    sequence bigint NOT NULL,
    hash bytea NOT NULL CHECK (length(hash) = 32),
    signature bytea NOT NULL CHECK (length(signature) = 32)
);

CALL mairust_wall('settings');
CALL mairust_wall('secrets');
CALL mairust_wall('audit_entries');
CALL mairust_wall('audit_heads');
