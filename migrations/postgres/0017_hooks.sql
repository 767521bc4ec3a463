-- Hooks that tenants have bound, and what calls of hooks came to.

-- Grows by one with each change of any binding, in the same transaction: whoever runs hooks sees by it whether those
-- that it knows are still the right ones. Without a row, nothing was ever bound.
CREATE TABLE hook_revisions (
    one bigint NOT NULL PRIMARY KEY CHECK (one = 1),
    revision bigint NOT NULL
);

-- The keys that requests are signed with are secrets of the tenant, of the kind `hook`, named by the id.
CREATE TABLE hook_bindings (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL,
    -- The name of the program.
    plugin_id text COLLATE "C" NOT NULL,
    -- Whoever runs hooks knows the form.
    settings json NOT NULL,
    enabled boolean NOT NULL DEFAULT true,
    -- Is there exactly while it is not enabled.
    disabled_because text COLLATE "C",
    -- Counts changes, from 1.
    generation bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, plugin_id),
    CHECK (enabled = (disabled_because IS NULL))
);

CREATE TABLE hook_invocations (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    -- `inv_` and a ULID: in the order of their times.
    id text COLLATE "C" NOT NULL,
    -- The name of the hook, and its binding if a tenant has bound it; no reference, for what it did stays when it goes.
    binding text COLLATE "C" NOT NULL,
    hook_id uuid,
    point text COLLATE "C" NOT NULL,
    outcome text COLLATE "C" NOT NULL,
    -- The message, if it was stored by then; no reference, for messages go, too.
    message_id uuid,
    -- What else there is to tell.
    facts json NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

CREATE INDEX hook_invocations_by_binding ON hook_invocations (tenant_id, binding, id);
CREATE INDEX hook_invocations_by_message ON hook_invocations (tenant_id, message_id, id);

CALL mairust_wall('hook_bindings');
CALL mairust_wall('hook_invocations');

-- A number that says nothing about anybody: whoever changes a binding has to count it up.
ALTER TABLE hook_revisions ENABLE ROW LEVEL SECURITY;
ALTER TABLE hook_revisions FORCE ROW LEVEL SECURITY;
CREATE POLICY everybody ON hook_revisions USING (true);
