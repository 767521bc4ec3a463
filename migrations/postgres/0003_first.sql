-- What SQLite has after its first three migrations, in the types of PostgreSQL.
-- Tables that a tenant owns have its id first in their keys and indexes. Texts are compared byte by
-- byte, as in SQLite.

CREATE TABLE tenants (
    id uuid NOT NULL PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    any_sender boolean NOT NULL,
    created_at timestamptz NOT NULL,
    enabled boolean NOT NULL DEFAULT true
);

CREATE TABLE domains (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL,
    name text COLLATE "C" NOT NULL UNIQUE,
    created_at timestamptz NOT NULL,
    enabled boolean NOT NULL DEFAULT true,
    -- An address.
    catch_all text COLLATE "C",
    PRIMARY KEY (tenant_id, id)
);

-- Domains whose addresses are those of another domain of the same tenant.
CREATE TABLE domain_aliases (
    tenant_id uuid NOT NULL,
    domain_id uuid NOT NULL,
    target_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, domain_id),
    FOREIGN KEY (tenant_id, domain_id) REFERENCES domains (tenant_id, id),
    FOREIGN KEY (tenant_id, target_id) REFERENCES domains (tenant_id, id)
);

CREATE TABLE mailboxes (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL,
    name text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    -- Bytes; NULL is the default of the server, -1 is no limit.
    quota bigint CHECK (quota >= -1),
    -- The size of all its messages in bytes.
    used bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, id)
);

-- The mailbox of what a tenant sends on for its aliases and catch-alls.
CREATE TABLE forwards (
    tenant_id uuid NOT NULL PRIMARY KEY REFERENCES tenants (id),
    mailbox_id uuid NOT NULL,
    FOREIGN KEY (tenant_id, mailbox_id) REFERENCES mailboxes (tenant_id, id)
);

CREATE TABLE users (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL,
    login text COLLATE "C" UNIQUE,
    password_hash text COLLATE "C" NOT NULL,
    address_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    enabled boolean NOT NULL DEFAULT true,
    -- A SCRAM-SHA-256 verifier, in the form of RFC 5803.
    scram text COLLATE "C",
    PRIMARY KEY (tenant_id, id)
);

CREATE TABLE addresses (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL,
    domain_id uuid NOT NULL,
    lookup_key text COLLATE "C" NOT NULL UNIQUE,
    address text COLLATE "C" NOT NULL,
    mailbox_id uuid NOT NULL,
    user_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, domain_id) REFERENCES domains (tenant_id, id),
    FOREIGN KEY (tenant_id, mailbox_id) REFERENCES mailboxes (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id)
);

-- A user and its address name each other; both are made in one transaction.
ALTER TABLE users ADD FOREIGN KEY (tenant_id, address_id) REFERENCES addresses (tenant_id, id)
    DEFERRABLE INITIALLY DEFERRED;

-- Addresses that lead to others. Their names are one space with those of `addresses` and the logins
-- of `users`: whoever adds one looks at all three in the same transaction, under a lock.
CREATE TABLE aliases (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL,
    domain_id uuid NOT NULL,
    lookup_key text COLLATE "C" NOT NULL UNIQUE,
    address text COLLATE "C" NOT NULL,
    -- An array of addresses.
    targets json NOT NULL,
    enabled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, domain_id) REFERENCES domains (tenant_id, id)
);

CREATE TABLE sender_rules (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    pattern text COLLATE "C" NOT NULL,
    action text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, pattern)
);

CREATE TABLE folders (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    mailbox_id uuid NOT NULL,
    name text COLLATE "C" NOT NULL,
    uidvalidity bigint NOT NULL,
    uidnext bigint NOT NULL DEFAULT 1,
    modseq bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, mailbox_id, name),
    FOREIGN KEY (tenant_id, mailbox_id) REFERENCES mailboxes (tenant_id, id)
);

CREATE TABLE messages (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    mailbox_id uuid NOT NULL,
    folder_id uuid NOT NULL,
    uid bigint NOT NULL,
    modseq bigint NOT NULL,
    direction text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    -- NULL is the null reverse-path.
    sender text COLLATE "C",
    address text COLLATE "C" NOT NULL,
    object_key text COLLATE "C" NOT NULL,
    size bigint NOT NULL,
    sha256 bytea NOT NULL CHECK (length(sha256) = 32),
    subject text COLLATE "C",
    from_list json NOT NULL,
    to_list json NOT NULL,
    cc_list json NOT NULL,
    date timestamptz,
    received_at timestamptz NOT NULL,
    internet_message_id text COLLATE "C",
    refs json NOT NULL,
    thread_id uuid NOT NULL,
    attachments bigint NOT NULL,
    flags json NOT NULL DEFAULT '[]',
    -- What is searched, in lower case.
    from_text text COLLATE "C" NOT NULL,
    to_text text COLLATE "C" NOT NULL,
    subject_text text COLLATE "C" NOT NULL,
    preview text COLLATE "C" NOT NULL,
    -- What the sender asks about notices (RFC 3461), as it was written in the commands.
    dsn_ret text COLLATE "C",
    dsn_envid text COLLATE "C",
    -- JSON, opaque here.
    auth_results text COLLATE "C",
    -- Both are there or neither.
    spam_score double precision,
    spam_verdict text COLLATE "C",
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, folder_id, uid),
    FOREIGN KEY (tenant_id, mailbox_id) REFERENCES mailboxes (tenant_id, id),
    FOREIGN KEY (tenant_id, folder_id) REFERENCES folders (tenant_id, id)
);

CREATE INDEX messages_by_time ON messages (tenant_id, received_at, id);
CREATE INDEX messages_by_mailbox ON messages (tenant_id, mailbox_id, received_at, id);
CREATE INDEX messages_by_folder ON messages (tenant_id, folder_id, received_at, id);
CREATE INDEX messages_by_internet_message_id ON messages (tenant_id, mailbox_id, internet_message_id)
WHERE internet_message_id IS NOT NULL;

CREATE TABLE message_tags (
    tenant_id uuid NOT NULL,
    message_id uuid NOT NULL,
    tag text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, message_id, tag),
    FOREIGN KEY (tenant_id, message_id) REFERENCES messages (tenant_id, id)
);

CREATE TABLE delivery_recipients (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    message_id uuid NOT NULL,
    address text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    attempts bigint NOT NULL DEFAULT 0,
    last_result text COLLATE "C",
    updated_at timestamptz NOT NULL,
    dsn_notify text COLLATE "C",
    dsn_orcpt text COLLATE "C",
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, message_id) REFERENCES messages (tenant_id, id)
);

CREATE INDEX delivery_recipients_by_message ON delivery_recipients (tenant_id, message_id, id);

CREATE TABLE delivery_attempts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id uuid NOT NULL,
    message_id uuid NOT NULL,
    recipient_id uuid NOT NULL,
    at timestamptz NOT NULL,
    outcome text COLLATE "C" NOT NULL,
    host text COLLATE "C",
    result text COLLATE "C" NOT NULL,
    FOREIGN KEY (tenant_id, message_id) REFERENCES messages (tenant_id, id),
    FOREIGN KEY (tenant_id, recipient_id) REFERENCES delivery_recipients (tenant_id, id)
);

CREATE INDEX delivery_attempts_by_message ON delivery_attempts (tenant_id, message_id, at, id);

CREATE TABLE jobs (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    kind text COLLATE "C" NOT NULL,
    -- `json` keeps the text as it is; `jsonb` would refuse \u0000.
    payload json NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (state IN ('buried', 'leased', 'ready')),
    attempts bigint NOT NULL DEFAULT 0,
    not_before timestamptz NOT NULL,
    -- Both are there exactly while the job is leased.
    lease_until timestamptz,
    lease_token bytea,
    last_error text COLLATE "C",
    created_at timestamptz NOT NULL,
    CHECK ((state = 'leased') = (lease_until IS NOT NULL) AND (state = 'leased') = (lease_token IS NOT NULL))
);

-- What can be taken next: jobs that wait by their time, jobs that are leased by the end of the lease.
CREATE INDEX jobs_due ON jobs (coalesce(lease_until, not_before), id) WHERE state <> 'buried';

CREATE TABLE api_keys (
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    id uuid NOT NULL,
    key_id text COLLATE "C" NOT NULL UNIQUE,
    name text COLLATE "C" NOT NULL,
    secret_hash bytea NOT NULL CHECK (length(secret_hash) = 32),
    scopes json NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

-- The second wall between tenants. The setting `mairust.tenants` names whose rows a connection sees:
-- ids with commas between them, or `*`; nothing otherwise. Asked for once in a statement, not for
-- each row.
CREATE FUNCTION mairust_sees_all() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT current_setting('mairust.tenants', true) = '*' $$;

CREATE FUNCTION mairust_tenants() RETURNS uuid[] LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT CASE WHEN mairust_sees_all() THEN '{}'
    ELSE string_to_array(coalesce(current_setting('mairust.tenants', true), ''), ',')::uuid[] END $$;

-- For a table with a column `tenant_id`: whoever owns the table is held by the wall as well.
CREATE PROCEDURE mairust_wall(name text) LANGUAGE plpgsql
AS $$
BEGIN
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format('CREATE POLICY tenant ON %I USING ((SELECT mairust_sees_all()) '
        'OR tenant_id = ANY ((SELECT mairust_tenants())::uuid[]))', name);
END
$$;

CALL mairust_wall('domains');
CALL mairust_wall('domain_aliases');
CALL mairust_wall('mailboxes');
CALL mairust_wall('forwards');
CALL mairust_wall('users');
CALL mairust_wall('addresses');
CALL mairust_wall('aliases');
CALL mairust_wall('sender_rules');
CALL mairust_wall('folders');
CALL mairust_wall('messages');
CALL mairust_wall('message_tags');
CALL mairust_wall('delivery_recipients');
CALL mairust_wall('delivery_attempts');
CALL mairust_wall('jobs');
CALL mairust_wall('api_keys');
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON tenants USING ((SELECT mairust_sees_all()) OR id = ANY ((SELECT mairust_tenants())::uuid[]));
