-- Calls of hooks that programs have taken, to tell the result later.
CREATE TABLE hook_results (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    -- The job that waits; no reference, for it may be over before the row is.
    job_id uuid NOT NULL,
    -- The binding and the message; no references, for both go, too.
    hook_id uuid NOT NULL,
    message_id uuid NOT NULL,
    -- SHA-256 of the token that the result is told with.
    token_hash bytea NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    attempt bigint NOT NULL,
    accepted_at timestamptz NOT NULL,
    -- When the result has to be there, and how far that can be put off.
    result_by timestamptz NOT NULL,
    latest timestamptz NOT NULL,
    -- Until when the token is good.
    expires_at timestamptz NOT NULL,
    -- Once it is there; whoever runs hooks knows the form.
    result json,
    PRIMARY KEY (tenant_id, job_id)
);

CREATE INDEX hook_results_by_expiry ON hook_results (expires_at);

CALL mairust_wall('hook_results');
