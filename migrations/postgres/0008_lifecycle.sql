-- What becomes of messages after they were accepted: they are deleted, restored, held, archived, purged.

ALTER TABLE messages
    -- Since then it is hidden, until it is restored or purged.
    ADD COLUMN deleted_at timestamptz,
    -- What is on legal hold is not purged: a message, all of a mailbox, all of a tenant.
    ADD COLUMN legal_hold boolean NOT NULL DEFAULT false;
ALTER TABLE mailboxes ADD COLUMN legal_hold boolean NOT NULL DEFAULT false;
ALTER TABLE tenants
    ADD COLUMN legal_hold boolean NOT NULL DEFAULT false,
    -- For how many days deleted messages are kept; NULL is the default of the server.
    ADD COLUMN deleted_messages_days bigint CHECK (deleted_messages_days >= 0);

CREATE INDEX messages_deleted ON messages (tenant_id, received_at, id) WHERE deleted_at IS NOT NULL;
CREATE INDEX messages_to_purge ON messages (tenant_id, deleted_at, id)
WHERE deleted_at IS NOT NULL AND NOT legal_hold;

-- Objects that are to be removed from the body store.
CREATE TABLE object_removals (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    object_key text COLLATE "C" NOT NULL,
    due_at timestamptz NOT NULL,
    -- Once it was, no message may be given this object any more.
    begun boolean NOT NULL DEFAULT false,
    -- Whether to do it once more later, for somebody may be about to write the object.
    again boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, object_key)
);

CREATE INDEX object_removals_due ON object_removals (tenant_id, due_at);

CALL mairust_wall('object_removals');
