-- What keeps tenants from sending too much, and to whom they send nothing.

-- When an administrator took the right to send from a user; NULL as long as nobody has.
ALTER TABLE users ADD COLUMN sending_suspended_at INTEGER;
ALTER TABLE users ADD COLUMN sending_suspended_because TEXT;

-- What is left of limits (token buckets). One that is full has no row.
CREATE TABLE allowances (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    -- Whose it is; whoever asks for it knows the form.
    scope TEXT NOT NULL,
    -- The time in which an empty one is full again, in milliseconds.
    per_ms INTEGER NOT NULL,
    -- When it is full again, if nothing is taken out before.
    full_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, scope, per_ms)
) STRICT, WITHOUT ROWID;

CREATE INDEX allowances_full ON allowances (full_at);

-- Addresses to which a tenant sends nothing.
CREATE TABLE suppressions (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    id BLOB NOT NULL CHECK (length(id) = 16),
    address TEXT NOT NULL,
    lookup_key TEXT NOT NULL,
    reason TEXT NOT NULL CHECK (reason IN ('bounce', 'complaint', 'manual')),
    detail TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, lookup_key)
) STRICT;

CREATE INDEX suppressions_expired ON suppressions (expires_at) WHERE expires_at IS NOT NULL;
