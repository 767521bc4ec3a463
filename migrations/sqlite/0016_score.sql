-- Suspensions that end by themselves.
ALTER TABLE users ADD COLUMN sending_suspended_until INTEGER;
