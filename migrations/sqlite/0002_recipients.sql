-- Who takes mail and who does not: states, aliases, catch-alls, quotas, rules about senders; and
-- what is known about a message when it is taken.

ALTER TABLE tenants ADD COLUMN enabled INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1));

ALTER TABLE domains ADD COLUMN enabled INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1));
-- An address.
ALTER TABLE domains ADD COLUMN catch_all TEXT;

-- Domains whose addresses are those of another domain of the same tenant.
CREATE TABLE domain_aliases (
    tenant_id BLOB NOT NULL,
    domain_id BLOB NOT NULL,
    target_id BLOB NOT NULL,
    PRIMARY KEY (tenant_id, domain_id),
    FOREIGN KEY (tenant_id, domain_id) REFERENCES domains (tenant_id, id),
    FOREIGN KEY (tenant_id, target_id) REFERENCES domains (tenant_id, id)
) STRICT, WITHOUT ROWID;

ALTER TABLE users ADD COLUMN enabled INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1));

-- Bytes; NULL is the default of the server, -1 is no limit.
ALTER TABLE mailboxes ADD COLUMN quota INTEGER CHECK (quota >= -1);
-- The size of all its messages in bytes.
ALTER TABLE mailboxes ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
UPDATE mailboxes SET used = coalesce((
    SELECT sum(m.size) FROM messages m WHERE m.tenant_id = mailboxes.tenant_id AND m.mailbox_id = mailboxes.id), 0);

-- The mailbox of what a tenant sends on for its aliases and catch-alls.
CREATE TABLE forwards (
    tenant_id BLOB NOT NULL PRIMARY KEY REFERENCES tenants (id),
    mailbox_id BLOB NOT NULL,
    FOREIGN KEY (tenant_id, mailbox_id) REFERENCES mailboxes (tenant_id, id)
) STRICT, WITHOUT ROWID;
INSERT INTO mailboxes (tenant_id, id, name, created_at) SELECT id, randomblob(16), 'forwards', created_at FROM tenants;
INSERT INTO forwards (tenant_id, mailbox_id) SELECT tenant_id, id FROM mailboxes WHERE name = 'forwards';
INSERT INTO folders (tenant_id, id, mailbox_id, name, uidvalidity)
SELECT f.tenant_id, randomblob(16), f.mailbox_id, n.value, max(t.created_at / 1000000, 1)
FROM forwards f
JOIN tenants t ON t.id = f.tenant_id
JOIN json_each('["INBOX", "Junk", "Quarantine", "Sent", "Trash"]') n;

-- Addresses that lead to others. Their names are one space with those of `addresses` and the logins
-- of `users`: whoever adds one looks at all three in the same transaction.
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

CREATE TABLE sender_rules (
    tenant_id BLOB NOT NULL REFERENCES tenants (id),
    pattern TEXT NOT NULL,
    action TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, pattern)
) STRICT, WITHOUT ROWID;

-- What the sender asks about notices (RFC 3461), as it was written in the commands.
ALTER TABLE messages ADD COLUMN dsn_ret TEXT;
ALTER TABLE messages ADD COLUMN dsn_envid TEXT;
ALTER TABLE delivery_recipients ADD COLUMN dsn_notify TEXT;
ALTER TABLE delivery_recipients ADD COLUMN dsn_orcpt TEXT;

-- JSON.
ALTER TABLE messages ADD COLUMN auth_results TEXT;
-- Both are there or neither.
ALTER TABLE messages ADD COLUMN spam_score REAL;
ALTER TABLE messages ADD COLUMN spam_verdict TEXT;
