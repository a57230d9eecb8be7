-- A key gives the session that its request began, until that session or the account's credentials change.

-- They opened the account for a day, whatever happened to it meanwhile.
DELETE FROM idempotency_keys;

ALTER TABLE idempotency_keys ADD COLUMN session_id TEXT NOT NULL DEFAULT '';
-- Set when a credential of the account changed: the key is not good any more.
ALTER TABLE idempotency_keys ADD COLUMN ended_at BIGINT;

CREATE INDEX idempotency_keys_player ON idempotency_keys (player_id);
