-- How hooks said that they do: the last results of each.
CREATE TABLE hook_health (
    tenant_id uuid NOT NULL,
    hook_id uuid NOT NULL,
    -- Results are counted from 1; each takes the place of one that is so old that it is not kept any more.
    place bigint NOT NULL,
    number bigint NOT NULL,
    at timestamptz NOT NULL,
    status text COLLATE "C" NOT NULL,
    details text COLLATE "C" NOT NULL,
    -- When the status became what it is.
    since timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, hook_id, place),
    FOREIGN KEY (tenant_id, hook_id) REFERENCES hook_bindings (tenant_id, id) ON DELETE CASCADE
);

CALL mairust_wall('hook_health');
