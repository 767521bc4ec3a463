-- What hooks keep with messages, each under its own name.
CREATE TABLE message_metadata (
    tenant_id uuid NOT NULL,
    message_id uuid NOT NULL,
    owner text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    value json NOT NULL,
    PRIMARY KEY (tenant_id, message_id, owner, key),
    FOREIGN KEY (tenant_id, message_id) REFERENCES messages (tenant_id, id)
);

CALL mairust_wall('message_metadata');
