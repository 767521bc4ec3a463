-- Bodies that were accepted and wait for their place in the body store. Numbers are never used twice,
-- so that a row which was read is not mistaken for another.
CREATE TABLE spooled_bodies (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    object_key TEXT NOT NULL,
    spooled_at INTEGER NOT NULL,
    data BLOB NOT NULL,
    UNIQUE (tenant_id, object_key)
) STRICT;

-- Tells the transaction that brought a message from others.
ALTER TABLE messages ADD COLUMN fingerprint BLOB;
