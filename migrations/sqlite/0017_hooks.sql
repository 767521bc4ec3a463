-- Hooks that tenants have bound, and what calls of hooks came to.

-- Grows by one with each change of any binding, in the same transaction: whoever runs hooks sees by it whether those
-- that it knows are still the right ones. Without a row, nothing was ever bound.
CREATE TABLE hook_revisions (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The keys that requests are signed with are secrets of the tenant, of the kind `hook`, named by the id.
CREATE TABLE hook_bindings (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    id BLOB NOT NULL CHECK (length(id) = 16),
    -- The name of the program.
    plugin_id TEXT NOT NULL,
    -- JSON; whoever runs hooks knows the form.
    settings TEXT NOT NULL,
    enabled INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    -- Is there exactly while it is not enabled.
    disabled_because TEXT,
    -- Counts changes, from 1.
    generation INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, plugin_id),
    CHECK ((enabled = 0) = (disabled_because IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE hook_invocations (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    -- `inv_` and a ULID: in the order of their times.
    id TEXT NOT NULL,
    -- The name of the hook, and its binding if a tenant has bound it; no reference, for what it did stays when it goes.
    binding TEXT NOT NULL,
    hook_id BLOB,
    point TEXT NOT NULL,
    outcome TEXT NOT NULL,
    -- The message, if it was stored by then; no reference, for messages go, too.
    message_id BLOB,
    -- JSON: what else there is to tell.
    facts TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX hook_invocations_by_binding ON hook_invocations (tenant_id, binding, id);
CREATE INDEX hook_invocations_by_message ON hook_invocations (tenant_id, message_id, id);
