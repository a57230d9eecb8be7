-- Server keys have an id to name them by, a scope, and an end.

ALTER TABLE server_keys ADD COLUMN key_id TEXT NOT NULL DEFAULT '';
-- The first key of the line: what servers registered under it stays theirs when the key is rotated.
ALTER TABLE server_keys ADD COLUMN owner TEXT NOT NULL DEFAULT '';
-- NULL: made before keys had a scope; the backend that starts next on this database takes it over.
ALTER TABLE server_keys ADD COLUMN game TEXT;
ALTER TABLE server_keys ADD COLUMN environment TEXT;
ALTER TABLE server_keys ADD COLUMN label TEXT NOT NULL DEFAULT '';
-- Set by a rotation: the end of the old key's grace.
ALTER TABLE server_keys ADD COLUMN expires_at BIGINT;
ALTER TABLE server_keys ADD COLUMN last_used_at BIGINT;

UPDATE server_keys SET key_id = 'key_' || substr(key_hash, 1, 12), owner = key_hash;

CREATE UNIQUE INDEX server_keys_id ON server_keys (key_id);
