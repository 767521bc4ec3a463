-- What is kept of a password for SCRAM-SHA-256, in the form of RFC 5803. NULL for one that was set
-- before; it comes with the next login by which the password is known.
ALTER TABLE users ADD COLUMN scram TEXT;
