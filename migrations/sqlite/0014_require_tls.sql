-- What the sender of a message wants of TLS on its further way; NULL is nothing in particular.
ALTER TABLE messages ADD COLUMN tls TEXT CHECK (tls IN ('relaxed', 'required'));
