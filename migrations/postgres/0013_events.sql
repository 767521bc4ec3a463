-- What happened to mail, and addresses elsewhere that are told of it.

-- Where the events of a tenant end, and where they begin.
CREATE TABLE event_heads (
    tenant_id uuid NOT NULL PRIMARY KEY REFERENCES tenants (id),
    -- Of the last event.
    position bigint NOT NULL,
    -- Of the last event that was removed because it is old; 0 if none was.
    dropped bigint NOT NULL DEFAULT 0
);

CREATE TABLE events (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    -- Counts from 1, in the order in which events became visible.
    position bigint NOT NULL,
    id uuid NOT NULL,
    kind text COLLATE "C" NOT NULL,
    occurred_at timestamptz NOT NULL,
    -- Whoever knows the kind knows the form.
    data json NOT NULL,
    PRIMARY KEY (tenant_id, position),
    UNIQUE (tenant_id, id)
);

-- The keys that requests are signed with are secrets of the tenant, of the kind `webhook`, named by the id.
CREATE TABLE webhooks (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL,
    url text COLLATE "C" NOT NULL,
    description text COLLATE "C" NOT NULL,
    -- A list of kinds of events; empty for all of them.
    kinds json NOT NULL,
    enabled boolean NOT NULL DEFAULT true,
    -- Is there exactly while it is not enabled.
    disabled_because text COLLATE "C",
    -- Of the last event for which deliveries were made.
    position bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CHECK (enabled = (disabled_because IS NULL))
);

CREATE TABLE webhook_deliveries (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    webhook_id uuid NOT NULL,
    -- The event; no reference, for events are removed before their deliveries.
    event_id uuid NOT NULL,
    position bigint NOT NULL,
    kind text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (state IN ('delivered', 'failed', 'pending')),
    -- Attempts since it was begun, or begun again.
    tries bigint NOT NULL DEFAULT 0,
    -- The last ones.
    attempts json NOT NULL,
    next_attempt_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks (tenant_id, id)
);

CREATE INDEX webhook_deliveries_by_webhook ON webhook_deliveries (tenant_id, webhook_id, id);

CALL mairust_wall('event_heads');
CALL mairust_wall('events');
CALL mairust_wall('webhooks');
CALL mairust_wall('webhook_deliveries');
