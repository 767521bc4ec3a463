-- Messages that the search index does not know yet.
CREATE TABLE search_pending (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id uuid NOT NULL,
    message_id uuid NOT NULL,
    claimed_until timestamptz
);

-- How far the search index is made. No row: not known. One row without a message: it is whole, but for
-- what is pending. With a message: it is being made again, and notes were written up to this one.
CREATE TABLE search_state (
    id bigint PRIMARY KEY CHECK (id = 1),
    tenant_id uuid,
    message_id uuid
);

-- The index itself; SQLite has it in a file of its own. It has no wall: PostgreSQL would not use an
-- index on words behind one. Nothing of it is shown but ids of messages, and those only together with
-- their rows, which have a wall.
CREATE TABLE search_documents (
    tenant_id uuid NOT NULL,
    message_id uuid NOT NULL,
    received_at timestamptz NOT NULL,
    -- In order, each with a letter in front that names its field, a space on both sides.
    words text COLLATE "C" NOT NULL,
    -- The same without order, and what is known of the message besides.
    lexemes tsvector NOT NULL,
    PRIMARY KEY (tenant_id, message_id)
);

CREATE INDEX search_documents_by_lexeme ON search_documents USING gin (lexemes);
CREATE INDEX search_documents_by_time ON search_documents (tenant_id, received_at, message_id);

CALL mairust_wall('search_pending');
CALL mairust_wall('search_state');
