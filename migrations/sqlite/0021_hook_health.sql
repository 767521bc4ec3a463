-- How hooks said that they do: the last results of each.
CREATE TABLE hook_health (
    tenant_id BLOB NOT NULL,
    hook_id BLOB NOT NULL,
    -- Results are counted from 1; each takes the place of one that is so old that it is not kept any more.
    place INTEGER NOT NULL,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    status TEXT NOT NULL,
    details TEXT NOT NULL,
    -- When the status became what it is.
    since INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, hook_id, place),
    FOREIGN KEY (tenant_id, hook_id) REFERENCES hook_bindings (tenant_id, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
