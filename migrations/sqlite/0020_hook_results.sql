-- Calls of hooks that programs have taken, to tell the result later.
CREATE TABLE hook_results (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    -- The job that waits; no reference, for it may be over before the row is.
    job_id BLOB NOT NULL CHECK (length(job_id) = 16),
    -- The binding and the message; no references, for both go, too.
    hook_id BLOB NOT NULL,
    message_id BLOB NOT NULL,
    -- SHA-256 of the token that the result is told with.
    token_hash BLOB NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    attempt INTEGER NOT NULL,
    accepted_at INTEGER NOT NULL,
    -- When the result has to be there, and how far that can be put off.
    result_by INTEGER NOT NULL,
    latest INTEGER NOT NULL,
    -- Until when the token is good.
    expires_at INTEGER NOT NULL,
    -- JSON, once it is there; whoever runs hooks knows the form.
    result TEXT,
    PRIMARY KEY (tenant_id, job_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX hook_results_by_expiry ON hook_results (expires_at);
