-- What becomes of messages after they were accepted: they are deleted, restored, held, archived, purged.

-- Since then it is hidden, until it is restored or purged.
ALTER TABLE messages ADD COLUMN deleted_at INTEGER;
-- What is on legal hold is not purged: a message, all of a mailbox, all of a tenant.
ALTER TABLE messages ADD COLUMN legal_hold INTEGER NOT NULL DEFAULT 0 CHECK (legal_hold IN (0, 1));
ALTER TABLE mailboxes ADD COLUMN legal_hold INTEGER NOT NULL DEFAULT 0 CHECK (legal_hold IN (0, 1));
ALTER TABLE tenants ADD COLUMN legal_hold INTEGER NOT NULL DEFAULT 0 CHECK (legal_hold IN (0, 1));
-- For how many days deleted messages are kept; NULL is the default of the server.
ALTER TABLE tenants ADD COLUMN deleted_messages_days INTEGER CHECK (deleted_messages_days >= 0);

CREATE INDEX messages_deleted ON messages (tenant_id, received_at, id) WHERE deleted_at IS NOT NULL;
CREATE INDEX messages_to_purge ON messages (tenant_id, deleted_at, id)
WHERE deleted_at IS NOT NULL AND NOT legal_hold;

-- Objects that are to be removed from the body store.
CREATE TABLE object_removals (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    object_key TEXT NOT NULL,
    due_at INTEGER NOT NULL,
    -- Once it was, no message may be given this object any more.
    begun INTEGER NOT NULL DEFAULT 0 CHECK (begun IN (0, 1)),
    -- Whether to do it once more later, for somebody may be about to write the object.
    again INTEGER NOT NULL DEFAULT 0 CHECK (again IN (0, 1)),
    PRIMARY KEY (tenant_id, object_key)
) STRICT, WITHOUT ROWID;

CREATE INDEX object_removals_due ON object_removals (tenant_id, due_at);
