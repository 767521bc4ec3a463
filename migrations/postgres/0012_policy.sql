-- What keeps tenants from sending too much, and to whom they send nothing.

ALTER TABLE users
    -- When an administrator took the right to send from a user; NULL as long as nobody has.
    ADD COLUMN sending_suspended_at timestamptz,
    ADD COLUMN sending_suspended_because text COLLATE "C";

-- What is left of limits (token buckets). One that is full has no row.
CREATE TABLE allowances (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    -- Whose it is; whoever asks for it knows the form.
    scope text COLLATE "C" NOT NULL,
    -- The time in which an empty one is full again, in milliseconds.
    per_ms bigint NOT NULL,
    -- When it is full again, if nothing is taken out before.
    full_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, scope, per_ms)
);

CREATE INDEX allowances_full ON allowances (full_at);

CALL mairust_wall('allowances');

-- Addresses to which a tenant sends nothing.
CREATE TABLE suppressions (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL,
    address text COLLATE "C" NOT NULL,
    lookup_key text COLLATE "C" NOT NULL,
    reason text COLLATE "C" NOT NULL CHECK (reason IN ('bounce', 'complaint', 'manual')),
    detail text COLLATE "C",
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, lookup_key)
);

CREATE INDEX suppressions_expired ON suppressions (expires_at) WHERE expires_at IS NOT NULL;

CALL mairust_wall('suppressions');
