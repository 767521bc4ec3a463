-- Keys that sign outgoing mail for a domain. The private keys are secrets of the tenant, of the kind
-- `dkim`, named by the id.

CREATE TABLE dkim_keys (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL,
    domain_id uuid NOT NULL,
    selector text COLLATE "C" NOT NULL,
    algorithm text COLLATE "C" NOT NULL CHECK (algorithm IN ('ed25519', 'rsa')),
    -- As it is published.
    public_key bytea NOT NULL,
    state text COLLATE "C" NOT NULL DEFAULT 'pending' CHECK (state IN ('active', 'pending', 'retired')),
    created_at timestamptz NOT NULL,
    activated_at timestamptz,
    retired_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, domain_id, selector),
    FOREIGN KEY (tenant_id, domain_id) REFERENCES domains (tenant_id, id)
);

-- Each domain signs with one key of a kind at a time.
CREATE UNIQUE INDEX dkim_keys_active ON dkim_keys (tenant_id, domain_id, algorithm) WHERE state = 'active';
CREATE INDEX dkim_keys_retired ON dkim_keys (retired_at) WHERE state = 'retired';

CALL mairust_wall('dkim_keys');
