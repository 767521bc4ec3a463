-- What happened to mail, and addresses elsewhere that are told of it.

-- Where the events of a tenant end, and where they begin.
CREATE TABLE event_heads (
    tenant_id BLOB NOT NULL PRIMARY KEY REFERENCES tenants (id),
    -- Of the last event.
    position INTEGER NOT NULL,
    -- Of the last event that was removed because it is old; 0 if none was.
    dropped INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    -- Counts from 1, in the order in which events became visible.
    position INTEGER NOT NULL,
    id BLOB NOT NULL CHECK (length(id) = 16),
    kind TEXT NOT NULL,
    occurred_at INTEGER NOT NULL,
    -- JSON; whoever knows the kind knows the form.
    data TEXT NOT NULL,
    PRIMARY KEY (tenant_id, position),
    UNIQUE (tenant_id, id)
) STRICT, WITHOUT ROWID;

-- The keys that requests are signed with are secrets of the tenant, of the kind `webhook`, named by the id.
CREATE TABLE webhooks (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    id BLOB NOT NULL CHECK (length(id) = 16),
    url TEXT NOT NULL,
    description TEXT NOT NULL,
    -- JSON: a list of kinds of events; empty for all of them.
    kinds TEXT NOT NULL,
    enabled INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    -- Is there exactly while it is not enabled.
    disabled_because TEXT,
    -- Of the last event for which deliveries were made.
    position INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CHECK ((enabled = 0) = (disabled_because IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE webhook_deliveries (
    tenant_id BLOB NOT NULL,
    id BLOB NOT NULL CHECK (length(id) = 16),
    webhook_id BLOB NOT NULL,
    -- The event; no reference, for events are removed before their deliveries.
    event_id BLOB NOT NULL,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('delivered', 'failed', 'pending')),
    -- Attempts since it was begun, or begun again.
    tries INTEGER NOT NULL DEFAULT 0,
    -- JSON: the last ones.
    attempts TEXT NOT NULL,
    next_attempt_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks (tenant_id, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX webhook_deliveries_by_webhook ON webhook_deliveries (tenant_id, webhook_id, id);
