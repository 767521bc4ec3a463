-- Keys that sign outgoing mail for a domain. The private keys are secrets of the tenant, of the kind
-- `dkim`, named by the id.

CREATE TABLE dkim_keys (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    id BLOB NOT NULL CHECK (length(id) = 16),
    domain_id BLOB NOT NULL,
    selector TEXT NOT NULL,
    algorithm TEXT NOT NULL CHECK (algorithm IN ('ed25519', 'rsa')),
    -- As it is published.
    public_key BLOB NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('active', 'pending', 'retired')),
    created_at INTEGER NOT NULL,
    activated_at INTEGER,
    retired_at INTEGER,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, domain_id, selector),
    FOREIGN KEY (tenant_id, domain_id) REFERENCES domains (tenant_id, id)
) STRICT;

-- Each domain signs with one key of a kind at a time.
CREATE UNIQUE INDEX dkim_keys_active ON dkim_keys (tenant_id, domain_id, algorithm) WHERE state = 'active';
CREATE INDEX dkim_keys_retired ON dkim_keys (retired_at) WHERE state = 'retired';
