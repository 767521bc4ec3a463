-- What hooks keep with messages, each under its own name.
CREATE TABLE message_metadata (
    tenant_id BLOB NOT NULL,
    message_id BLOB NOT NULL,
    owner TEXT NOT NULL,
    key TEXT NOT NULL,
    -- JSON.
    value TEXT NOT NULL,
    PRIMARY KEY (tenant_id, message_id, owner, key),
    FOREIGN KEY (tenant_id, message_id) REFERENCES messages (tenant_id, id)
) STRICT, WITHOUT ROWID;
