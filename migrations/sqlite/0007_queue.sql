-- A queue that is taken from in turns, and what is needed to see whether all mail is taken care of.

CREATE TABLE jobs_in_turns (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    kind TEXT NOT NULL,
    payload TEXT NOT NULL,
    -- `waiting` until its time has come, then `ready` to be taken.
    state TEXT NOT NULL CHECK (state IN ('buried', 'leased', 'ready', 'waiting')),
    -- Empty for work that leads nowhere else.
    destination TEXT NOT NULL DEFAULT '',
    priority TEXT NOT NULL DEFAULT 'normal',
    -- The message that it is about; no reference, for messages can be removed before their jobs.
    message_id BLOB,
    attempts INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL,
    -- `not_before` and the handicap of the priority.
    rank INTEGER NOT NULL,
    -- Is there exactly while the job is leased.
    lease_until INTEGER,
    -- Stays when the lease has ended, until the job is taken again, given back or given up.
    lease_token BLOB,
    last_error TEXT,
    created_at INTEGER NOT NULL,
    CHECK ((state = 'leased') = (lease_until IS NOT NULL))
) STRICT, WITHOUT ROWID;

INSERT INTO jobs_in_turns (id, tenant_id, kind, payload, state, destination, message_id, attempts, not_before, rank,
    lease_until, lease_token, last_error, created_at)
SELECT id, tenant_id, kind, payload, CASE state WHEN 'ready' THEN 'waiting' ELSE state END,
    CASE WHEN json_valid(payload) THEN coalesce(payload ->> 'domain', '') ELSE '' END,
    CASE WHEN json_valid(payload) THEN unhex(replace(payload ->> 'message', '-', '')) END,
    attempts, not_before, not_before + 86400000000, lease_until, lease_token, last_error, created_at
FROM jobs;

DROP TABLE jobs;
ALTER TABLE jobs_in_turns RENAME TO jobs;

-- Whose turn it is.
CREATE INDEX jobs_ready ON jobs (tenant_id, destination, rank, id) WHERE state = 'ready';
-- What becomes ready next: jobs that wait by their time, jobs that are leased by the end of the lease.
CREATE INDEX jobs_asleep ON jobs (coalesce(lease_until, not_before), id) WHERE state IN ('leased', 'waiting');
-- How much there is to do.
CREATE INDEX jobs_by_kind ON jobs (kind, state, coalesce(lease_until, not_before));
CREATE INDEX jobs_by_message ON jobs (tenant_id, message_id) WHERE message_id IS NOT NULL;

CREATE INDEX delivery_recipients_waiting ON delivery_recipients (tenant_id, id) WHERE state IN ('deferred', 'pending');
CREATE INDEX messages_queued ON messages (tenant_id, id) WHERE status = 'queued';
