-- Bodies that were accepted and wait for their place in the body store.
CREATE TABLE spooled_bodies (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    object_key text COLLATE "C" NOT NULL,
    spooled_at timestamptz NOT NULL,
    data bytea NOT NULL,
    UNIQUE (tenant_id, object_key)
);
-- Stored aside and as they are: most of them do not shrink, and none stays for long.
ALTER TABLE spooled_bodies ALTER COLUMN data SET STORAGE EXTERNAL;
CALL mairust_wall('spooled_bodies');

-- Tells the transaction that brought a message from others.
ALTER TABLE messages ADD COLUMN fingerprint bytea;
