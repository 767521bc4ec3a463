-- What is needed to tell what happened to a message.

-- When the sender was told that the message is late; NULL as long as nobody was.
ALTER TABLE delivery_recipients ADD COLUMN delay_told_at INTEGER;
-- The notice that tells of it; no reference, for notices can be removed.
ALTER TABLE delivery_attempts ADD COLUMN notice_id BLOB;
-- JSON.
ALTER TABLE delivery_attempts ADD COLUMN facts TEXT;
-- JSON: how it came in.
ALTER TABLE messages ADD COLUMN arrival TEXT;
