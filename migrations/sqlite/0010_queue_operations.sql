-- Deliveries that are held, given up or sent another way by an operator, and attempts whose end is not known.

CREATE TABLE jobs_that_are_held (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    kind TEXT NOT NULL,
    payload TEXT NOT NULL,
    -- `waiting` until its time has come, then `ready` to be taken; `held` until somebody releases it.
    state TEXT NOT NULL CHECK (state IN ('buried', 'held', 'leased', 'ready', 'waiting')),
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
    -- Is there exactly while the job is held.
    held_because TEXT,
    -- Whether whoever takes it is to give it up instead of doing it.
    give_up INTEGER NOT NULL DEFAULT 0 CHECK (give_up IN (0, 1)),
    -- The way that it is to go instead of the usual one; whoever does it knows the form.
    route TEXT,
    CHECK ((state = 'leased') = (lease_until IS NOT NULL)),
    CHECK ((state = 'held') = (held_because IS NOT NULL))
) STRICT, WITHOUT ROWID;

INSERT INTO jobs_that_are_held (id, tenant_id, kind, payload, state, destination, priority, message_id, attempts,
    not_before, rank, lease_until, lease_token, last_error, created_at)
SELECT id, tenant_id, kind, payload, state, destination, priority, message_id, attempts, not_before, rank, lease_until,
    lease_token, last_error, created_at
FROM jobs;

DROP TABLE jobs;
ALTER TABLE jobs_that_are_held RENAME TO jobs;

-- Whose turn it is.
CREATE INDEX jobs_ready ON jobs (tenant_id, destination, rank, id) WHERE state = 'ready';
-- What becomes ready next: jobs that wait by their time, jobs that are leased by the end of the lease.
CREATE INDEX jobs_asleep ON jobs (coalesce(lease_until, not_before), id) WHERE state IN ('leased', 'waiting');
-- How much there is to do.
CREATE INDEX jobs_by_kind ON jobs (kind, state, coalesce(lease_until, not_before));
-- What is done for a message, and the jobs of a tenant in the order of their messages.
CREATE INDEX jobs_by_message ON jobs (tenant_id, message_id, id) WHERE message_id IS NOT NULL;

DROP INDEX delivery_recipients_waiting;
CREATE INDEX delivery_recipients_waiting ON delivery_recipients (tenant_id, id)
WHERE state IN ('deferred', 'in_doubt', 'pending');

-- Attempts whose result is not known yet: one for each recipient.
CREATE UNIQUE INDEX delivery_attempts_begun ON delivery_attempts (tenant_id, recipient_id) WHERE outcome = 'begun';
