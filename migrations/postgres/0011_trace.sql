-- What is needed to tell what happened to a message.

-- When the sender was told that the message is late; NULL as long as nobody was.
ALTER TABLE delivery_recipients ADD COLUMN delay_told_at timestamptz;
ALTER TABLE delivery_attempts
    -- The notice that tells of it; no reference, for notices can be removed.
    ADD COLUMN notice_id uuid,
    -- JSON, as it was written.
    ADD COLUMN facts text COLLATE "C";
-- JSON, as it was written: how it came in.
ALTER TABLE messages ADD COLUMN arrival text COLLATE "C";
