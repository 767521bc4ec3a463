-- Deliveries that are held, given up or sent another way by an operator, and attempts whose end is not known.

ALTER TABLE jobs
    -- Is there exactly while the job is held.
    ADD COLUMN held_because text COLLATE "C",
    -- Whether whoever takes it is to give it up instead of doing it.
    ADD COLUMN give_up boolean NOT NULL DEFAULT false,
    -- The way that it is to go instead of the usual one; whoever does it knows the form.
    ADD COLUMN route text COLLATE "C",
    DROP CONSTRAINT jobs_state_check,
    -- `waiting` until its time has come, then `ready` to be taken; `held` until somebody releases it.
    ADD CONSTRAINT jobs_state_check CHECK (state IN ('buried', 'held', 'leased', 'ready', 'waiting')),
    ADD CONSTRAINT jobs_held_check CHECK ((state = 'held') = (held_because IS NOT NULL));

-- What is done for a message, and the jobs of a tenant in the order of their messages.
DROP INDEX jobs_by_message;
CREATE INDEX jobs_by_message ON jobs (tenant_id, message_id, id) WHERE message_id IS NOT NULL;

DROP INDEX delivery_recipients_waiting;
CREATE INDEX delivery_recipients_waiting ON delivery_recipients (tenant_id, id)
WHERE state IN ('deferred', 'in_doubt', 'pending');

-- Attempts whose result is not known yet: one for each recipient.
CREATE UNIQUE INDEX delivery_attempts_begun ON delivery_attempts (tenant_id, recipient_id) WHERE outcome = 'begun';
