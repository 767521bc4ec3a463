-- A queue that is taken from in turns, and what is needed to see whether all mail is taken care of.

ALTER TABLE jobs
    -- Empty for work that leads nowhere else.
    ADD COLUMN destination text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN priority text COLLATE "C" NOT NULL DEFAULT 'normal',
    -- The message that it is about; no reference, for messages can be removed before their jobs.
    ADD COLUMN message_id uuid,
    -- `not_before` and the handicap of the priority.
    ADD COLUMN rank timestamptz;
DROP INDEX jobs_due;
ALTER TABLE jobs
    DROP CONSTRAINT jobs_state_check,
    -- `waiting` until its time has come, then `ready` to be taken.
    ADD CONSTRAINT jobs_state_check CHECK (state IN ('buried', 'leased', 'ready', 'waiting')),
    DROP CONSTRAINT jobs_check,
    -- The token stays when the lease has ended, until the job is taken again, given back or given up.
    ADD CONSTRAINT jobs_check CHECK ((state = 'leased') = (lease_until IS NOT NULL));
UPDATE jobs SET state = CASE state WHEN 'ready' THEN 'waiting' ELSE state END,
    destination = coalesce(payload ->> 'domain', ''),
    message_id = CASE WHEN kind IN ('deliver', 'post_receive') THEN (payload ->> 'message')::uuid END,
    rank = not_before + interval '24 hours';
ALTER TABLE jobs ALTER COLUMN rank SET NOT NULL;

-- Whose turn it is.
CREATE INDEX jobs_ready ON jobs (tenant_id, destination, rank, id) WHERE state = 'ready';
-- What becomes ready next: jobs that wait by their time, jobs that are leased by the end of the lease.
CREATE INDEX jobs_asleep ON jobs (coalesce(lease_until, not_before), id) WHERE state IN ('leased', 'waiting');
-- How much there is to do.
CREATE INDEX jobs_by_kind ON jobs (kind, state, coalesce(lease_until, not_before));
CREATE INDEX jobs_by_message ON jobs (tenant_id, message_id) WHERE message_id IS NOT NULL;

CREATE INDEX delivery_recipients_waiting ON delivery_recipients (tenant_id, id) WHERE state IN ('deferred', 'pending');
CREATE INDEX messages_queued ON messages (tenant_id, id) WHERE status = 'queued';

-- Rows come and go all the time: what is dead must not lie in the way of who looks for the next job.
ALTER TABLE jobs SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);
