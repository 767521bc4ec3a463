-- Messages that the search index does not know yet.
CREATE TABLE search_pending (
    number INTEGER PRIMARY KEY,
    tenant_id BLOB NOT NULL,
    message_id BLOB NOT NULL,
    claimed_until INTEGER
) STRICT;

-- How far the search index is made. No row: not known. One row without a message: it is whole, but for
-- what is pending. With a message: it is being made again, and notes were written up to this one.
CREATE TABLE search_state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    tenant_id BLOB,
    message_id BLOB
) STRICT;
