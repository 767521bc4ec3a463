CREATE TABLE addresses (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    id BLOB NOT NULL CHECK (length(id) = 16),
    domain_id BLOB NOT NULL,
    lookup_key TEXT NOT NULL UNIQUE,
    address TEXT NOT NULL,
    mailbox_id BLOB NOT NULL,
    user_id BLOB NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, domain_id) REFERENCES domains (tenant_id, id),
    FOREIGN KEY (tenant_id, mailbox_id) REFERENCES mailboxes (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id)
) STRICT;

CREATE TABLE aliases (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    id BLOB NOT NULL CHECK (length(id) = 16),
    domain_id BLOB NOT NULL,
    lookup_key TEXT NOT NULL UNIQUE,
    address TEXT NOT NULL,
    -- A JSON array of addresses.
    targets TEXT NOT NULL,
    enabled INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, domain_id) REFERENCES domains (tenant_id, id)
) STRICT;

CREATE TABLE allowances (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    -- Whose it is; whoever asks for it knows the form.
    scope TEXT NOT NULL,
    -- The time in which an empty one is full again, in milliseconds.
    per_ms INTEGER NOT NULL,
    -- When it is full again, if nothing is taken out before.
    full_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, scope, per_ms)
) STRICT, WITHOUT ROWID;

CREATE INDEX allowances_full ON allowances (full_at);

CREATE TABLE api_keys (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    id BLOB NOT NULL CHECK (length(id) = 16),
    key_id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    secret_hash BLOB NOT NULL CHECK (length(secret_hash) = 32),
    scopes TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id)
) STRICT;

CREATE TABLE audit_entries (
    tenant_id BLOB NOT NULL CHECK (length(tenant_id) = 16),
    sequence INTEGER NOT NULL,
    id BLOB NOT NULL CHECK (length(id) = 16),
    at INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_id TEXT,
    actor_ip TEXT,
    target_kind TEXT,
    target_id TEXT,
    -- JSON, byte for byte what the hash is over.
    before TEXT,
    after TEXT,
    request_id TEXT,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (tenant_id, sequence),
    UNIQUE (tenant_id, id)
) STRICT;

CREATE TABLE audit_heads (
    tenant_id BLOB NOT NULL PRIMARY KEY CHECK (length(tenant_id) = 16),
    dropped INTEGER NOT NULL,
    dropped_hash BLOB NOT NULL CHECK (length(dropped_hash) = 32),
    sequence INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    signature BLOB NOT NULL CHECK (length(signature) = 32)
) STRICT, WITHOUT ROWID;

CREATE TABLE delivery_attempts (
    id INTEGER PRIMARY KEY,
    tenant_id BLOB NOT NULL,
    message_id BLOB NOT NULL,
    recipient_id BLOB NOT NULL,
    at INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    host TEXT,
    result TEXT NOT NULL, notice_id BLOB, facts TEXT,
    FOREIGN KEY (tenant_id, message_id) REFERENCES messages (tenant_id, id),
    FOREIGN KEY (tenant_id, recipient_id) REFERENCES delivery_recipients (tenant_id, id)
) STRICT;

CREATE UNIQUE INDEX delivery_attempts_begun ON delivery_attempts (tenant_id, recipient_id) WHERE outcome = 'begun';

CREATE INDEX delivery_attempts_by_message ON delivery_attempts (tenant_id, message_id, at, id);

CREATE TABLE delivery_recipients (
    tenant_id BLOB NOT NULL,
    id BLOB NOT NULL CHECK (length(id) = 16),
    message_id BLOB NOT NULL,
    address TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    last_result TEXT,
    updated_at INTEGER NOT NULL, dsn_notify TEXT, dsn_orcpt TEXT, delay_told_at INTEGER,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, message_id) REFERENCES messages (tenant_id, id)
) STRICT;

CREATE INDEX delivery_recipients_by_message ON delivery_recipients (tenant_id, message_id, id);

CREATE INDEX delivery_recipients_waiting ON delivery_recipients (tenant_id, id)
WHERE state IN ('deferred', 'in_doubt', 'pending');

CREATE TABLE dkim_keys (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    id BLOB NOT NULL CHECK (length(id) = 16),
    domain_id BLOB NOT NULL,
    selector TEXT NOT NULL,
    algorithm TEXT NOT NULL CHECK (algorithm IN ('ed25519', 'rsa')),
    -- As it is published.
    public_key BLOB NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('active', 'pending', 'retired')),
    created_at INTEGER NOT NULL,
    activated_at INTEGER,
    retired_at INTEGER,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, domain_id, selector),
    FOREIGN KEY (tenant_id, domain_id) REFERENCES domains (tenant_id, id)
) STRICT;

CREATE UNIQUE INDEX dkim_keys_active ON dkim_keys (tenant_id, domain_id, algorithm) WHERE state = 'active';

CREATE INDEX dkim_keys_retired ON dkim_keys (retired_at) WHERE state = 'retired';

CREATE TABLE domain_aliases (
    tenant_id BLOB NOT NULL,
    domain_id BLOB NOT NULL,
    target_id BLOB NOT NULL,
    PRIMARY KEY (tenant_id, domain_id),
    FOREIGN KEY (tenant_id, domain_id) REFERENCES domains (tenant_id, id),
    FOREIGN KEY (tenant_id, target_id) REFERENCES domains (tenant_id, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE domains (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    id BLOB NOT NULL CHECK (length(id) = 16),
    name TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL, enabled INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)), catch_all TEXT,
    PRIMARY KEY (tenant_id, id)
) STRICT;

CREATE TABLE event_heads (
    tenant_id BLOB NOT NULL PRIMARY KEY REFERENCES tenants (id),
    -- Of the last event.
    position INTEGER NOT NULL,
    -- Of the last event that was removed because it is old; 0 if none was.
    dropped INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    -- Counts from 1, in the order in which events became visible.
    position INTEGER NOT NULL,
    id BLOB NOT NULL CHECK (length(id) = 16),
    kind TEXT NOT NULL,
    occurred_at INTEGER NOT NULL,
    -- JSON; whoever knows the kind knows the form.
    data TEXT NOT NULL,
    PRIMARY KEY (tenant_id, position),
    UNIQUE (tenant_id, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE folders (
    tenant_id BLOB NOT NULL,
    id BLOB NOT NULL CHECK (length(id) = 16),
    mailbox_id BLOB NOT NULL,
    name TEXT NOT NULL,
    uidvalidity INTEGER NOT NULL,
    uidnext INTEGER NOT NULL DEFAULT 1,
    modseq INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, mailbox_id, name),
    FOREIGN KEY (tenant_id, mailbox_id) REFERENCES mailboxes (tenant_id, id)
) STRICT;

CREATE TABLE forwards (
    tenant_id BLOB NOT NULL PRIMARY KEY REFERENCES tenants (id),
    mailbox_id BLOB NOT NULL,
    FOREIGN KEY (tenant_id, mailbox_id) REFERENCES mailboxes (tenant_id, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE hook_bindings (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    id BLOB NOT NULL CHECK (length(id) = 16),
    -- The name of the program.
    plugin_id TEXT NOT NULL,
    -- JSON; whoever runs hooks knows the form.
    settings TEXT NOT NULL,
    enabled INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    -- Is there exactly while it is not enabled.
    disabled_because TEXT,
    -- Counts changes, from 1.
    generation INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, plugin_id),
    CHECK ((enabled = 0) = (disabled_because IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE hook_health (
    tenant_id BLOB NOT NULL,
    hook_id BLOB NOT NULL,
    -- Results are counted from 1; each takes the place of one that is so old that it is not kept any more.
    place INTEGER NOT NULL,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    status TEXT NOT NULL,
    details TEXT NOT NULL,
    -- When the status became what it is.
    since INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, hook_id, place),
    FOREIGN KEY (tenant_id, hook_id) REFERENCES hook_bindings (tenant_id, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE hook_invocations (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    -- `inv_` and a ULID: in the order of their times.
    id TEXT NOT NULL,
    -- The name of the hook, and its binding if a tenant has bound it; no reference, for what it did stays when it goes.
    binding TEXT NOT NULL,
    hook_id BLOB,
    point TEXT NOT NULL,
    outcome TEXT NOT NULL,
    -- The message, if it was stored by then; no reference, for messages go, too.
    message_id BLOB,
    -- JSON: what else there is to tell.
    facts TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX hook_invocations_by_binding ON hook_invocations (tenant_id, binding, id);

CREATE INDEX hook_invocations_by_message ON hook_invocations (tenant_id, message_id, id);

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

CREATE TABLE hook_revisions (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE "jobs" (
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

CREATE INDEX jobs_asleep ON jobs (coalesce(lease_until, not_before), id) WHERE state IN ('leased', 'waiting');

CREATE INDEX jobs_by_kind ON jobs (kind, state, coalesce(lease_until, not_before));

CREATE INDEX jobs_by_message ON jobs (tenant_id, message_id, id) WHERE message_id IS NOT NULL;

CREATE INDEX jobs_ready ON jobs (tenant_id, destination, rank, id) WHERE state = 'ready';

CREATE TABLE mailboxes (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    id BLOB NOT NULL CHECK (length(id) = 16),
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL, quota INTEGER CHECK (quota >= -1), used INTEGER NOT NULL DEFAULT 0, legal_hold INTEGER NOT NULL DEFAULT 0 CHECK (legal_hold IN (0, 1)),
    PRIMARY KEY (tenant_id, id)
) STRICT;

CREATE TABLE message_metadata (
    tenant_id BLOB NOT NULL,
    message_id BLOB NOT NULL,
    owner TEXT NOT NULL,
    key TEXT NOT NULL,
    -- JSON.
    value TEXT NOT NULL,
    PRIMARY KEY (tenant_id, message_id, owner, key),
    FOREIGN KEY (tenant_id, message_id) REFERENCES messages (tenant_id, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE message_tags (
    tenant_id BLOB NOT NULL,
    message_id BLOB NOT NULL,
    tag TEXT NOT NULL,
    PRIMARY KEY (tenant_id, message_id, tag),
    FOREIGN KEY (tenant_id, message_id) REFERENCES messages (tenant_id, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE messages (
    tenant_id BLOB NOT NULL,
    id BLOB NOT NULL CHECK (length(id) = 16),
    mailbox_id BLOB NOT NULL,
    folder_id BLOB NOT NULL,
    uid INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    direction TEXT NOT NULL,
    status TEXT NOT NULL,
    -- NULL is the null reverse-path.
    sender TEXT,
    address TEXT NOT NULL,
    object_key TEXT NOT NULL,
    size INTEGER NOT NULL,
    sha256 BLOB NOT NULL CHECK (length(sha256) = 32),
    subject TEXT,
    from_list TEXT NOT NULL,
    to_list TEXT NOT NULL,
    cc_list TEXT NOT NULL,
    date INTEGER,
    received_at INTEGER NOT NULL,
    internet_message_id TEXT,
    refs TEXT NOT NULL,
    thread_id BLOB NOT NULL,
    attachments INTEGER NOT NULL,
    flags TEXT NOT NULL DEFAULT '[]',
    -- What is searched, in lower case.
    from_text TEXT NOT NULL,
    to_text TEXT NOT NULL,
    subject_text TEXT NOT NULL,
    preview TEXT NOT NULL, dsn_ret TEXT, dsn_envid TEXT, auth_results TEXT, spam_score REAL, spam_verdict TEXT, fingerprint BLOB, deleted_at INTEGER, legal_hold INTEGER NOT NULL DEFAULT 0 CHECK (legal_hold IN (0, 1)), arrival TEXT, tls TEXT CHECK (tls IN ('relaxed', 'required')),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, folder_id, uid),
    FOREIGN KEY (tenant_id, mailbox_id) REFERENCES mailboxes (tenant_id, id),
    FOREIGN KEY (tenant_id, folder_id) REFERENCES folders (tenant_id, id)
) STRICT;

CREATE INDEX messages_by_folder ON messages (tenant_id, folder_id, received_at, id);

CREATE INDEX messages_by_internet_message_id ON messages (tenant_id, mailbox_id, internet_message_id)
WHERE internet_message_id IS NOT NULL;

CREATE INDEX messages_by_mailbox ON messages (tenant_id, mailbox_id, received_at, id);

CREATE INDEX messages_by_time ON messages (tenant_id, received_at, id);

CREATE INDEX messages_deleted ON messages (tenant_id, received_at, id) WHERE deleted_at IS NOT NULL;

CREATE INDEX messages_queued ON messages (tenant_id, id) WHERE status = 'queued';

CREATE INDEX messages_to_purge ON messages (tenant_id, deleted_at, id)
WHERE deleted_at IS NOT NULL AND NOT legal_hold;

CREATE TABLE object_removals (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    object_key TEXT NOT NULL,
    due_at INTEGER NOT NULL,
    -- Once it was, no message may be given this object any more.
    begun INTEGER NOT NULL DEFAULT 0 CHECK (begun IN (0, 1)),
    -- Whether to do it once more later, for somebody may be about to write the object.
    again INTEGER NOT NULL DEFAULT 0 CHECK (again IN (0, 1)),
    PRIMARY KEY (tenant_id, object_key)
) STRICT, WITHOUT ROWID;

CREATE INDEX object_removals_due ON object_removals (tenant_id, due_at);

CREATE TABLE search_pending (
    number INTEGER PRIMARY KEY,
    tenant_id BLOB NOT NULL,
    message_id BLOB NOT NULL,
    claimed_until INTEGER
) STRICT;

CREATE TABLE search_state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    tenant_id BLOB,
    message_id BLOB
) STRICT;

CREATE TABLE secrets (
    tenant_id BLOB NOT NULL CHECK (length(tenant_id) = 16),
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    -- Encrypted under a key that the database does not have.
    sealed BLOB NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, kind, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE sender_rules (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    pattern TEXT NOT NULL,
    action TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, pattern)
) STRICT, WITHOUT ROWID;

CREATE TABLE settings (
    tenant_id BLOB NOT NULL CHECK (length(tenant_id) = 16),
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    -- A random number, another one with each change.
    version INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE spooled_bodies (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    object_key TEXT NOT NULL,
    spooled_at INTEGER NOT NULL,
    data BLOB NOT NULL,
    UNIQUE (tenant_id, object_key)
) STRICT;

CREATE TABLE sqlite_sequence(name,seq);

CREATE TABLE suppressions (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    id BLOB NOT NULL CHECK (length(id) = 16),
    address TEXT NOT NULL,
    lookup_key TEXT NOT NULL,
    reason TEXT NOT NULL CHECK (reason IN ('bounce', 'complaint', 'manual')),
    detail TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, lookup_key)
) STRICT;

CREATE INDEX suppressions_expired ON suppressions (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE tenants (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name TEXT NOT NULL UNIQUE,
    any_sender INTEGER NOT NULL CHECK (any_sender IN (0, 1)),
    created_at INTEGER NOT NULL
, enabled INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)), legal_hold INTEGER NOT NULL DEFAULT 0 CHECK (legal_hold IN (0, 1)), deleted_messages_days INTEGER CHECK (deleted_messages_days >= 0)) STRICT;

CREATE TABLE users (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    id BLOB NOT NULL CHECK (length(id) = 16),
    login TEXT UNIQUE,
    password_hash TEXT NOT NULL,
    address_id BLOB NOT NULL,
    created_at INTEGER NOT NULL, enabled INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)), scram TEXT, sending_suspended_at INTEGER, sending_suspended_because TEXT, sending_suspended_until INTEGER,
    PRIMARY KEY (tenant_id, id),
    -- A user and its address name each other; both are made in one transaction.
    FOREIGN KEY (tenant_id, address_id) REFERENCES addresses (tenant_id, id) DEFERRABLE INITIALLY DEFERRED
) STRICT;

CREATE TABLE webhook_deliveries (
    tenant_id BLOB NOT NULL,
    id BLOB NOT NULL CHECK (length(id) = 16),
    webhook_id BLOB NOT NULL,
    -- The event; no reference, for events are removed before their deliveries.
    event_id BLOB NOT NULL,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('delivered', 'failed', 'pending')),
    -- Attempts since it was begun, or begun again.
    tries INTEGER NOT NULL DEFAULT 0,
    -- JSON: the last ones.
    attempts TEXT NOT NULL,
    next_attempt_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks (tenant_id, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX webhook_deliveries_by_webhook ON webhook_deliveries (tenant_id, webhook_id, id);

CREATE TABLE webhooks (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    id BLOB NOT NULL CHECK (length(id) = 16),
    url TEXT NOT NULL,
    description TEXT NOT NULL,
    -- JSON: a list of kinds of events; empty for all of them.
    kinds TEXT NOT NULL,
    enabled INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    -- Is there exactly while it is not enabled.
    disabled_because TEXT,
    -- Of the last event for which deliveries were made.
    position INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CHECK ((enabled = 0) = (disabled_because IS NOT NULL))
) STRICT, WITHOUT ROWID;
