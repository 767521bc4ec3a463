-- What is kept of a password besides its hash: a SCRAM-SHA-256 verifier, in the form of RFC 5803.
-- NULL where the password was set before; the next login by PLAIN or LOGIN brings it.
ALTER TABLE users ADD COLUMN scram TEXT;
