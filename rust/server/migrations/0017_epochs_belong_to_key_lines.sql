-- A lease belongs to the line of server keys that got it, as long as saves under its epoch can come.

-- SHA-256 of the first key of the holder's line. NULL: given by an earlier build to a server that has released it.
ALTER TABLE player_leases ADD COLUMN key_hash TEXT;
-- The epoch before this one and whose it was, for former_leases. 0: the holder asked again, and nothing ended.
ALTER TABLE player_leases ADD COLUMN former_epoch BIGINT NOT NULL DEFAULT 0;
ALTER TABLE player_leases ADD COLUMN former_key_hash TEXT;
-- Epochs up to here were given by an earlier build, which did not note to whom.
ALTER TABLE player_leases ADD COLUMN unbound_until BIGINT NOT NULL DEFAULT 0;

UPDATE player_leases SET unbound_until = epoch, key_hash =
    (SELECT s.key_hash FROM servers s WHERE s.server_id = player_leases.server_id);

-- Whose the epochs were that are over: a server that is back, or its successor, sends what was saved under them.
CREATE TABLE former_leases (
    player_id TEXT NOT NULL,
    epoch     BIGINT NOT NULL,
    key_hash  TEXT NOT NULL,
    ended_at  BIGINT NOT NULL,
    PRIMARY KEY (player_id, epoch)
);
CREATE INDEX former_leases_ended ON former_leases (ended_at);

-- The age of conflicts that nobody has resolved.
CREATE INDEX save_conflicts_received ON save_conflicts (received_at) WHERE resolved_at IS NULL;

ALTER TABLE worlds ADD COLUMN key_hash TEXT;
UPDATE worlds SET key_hash = (SELECT s.key_hash FROM servers s WHERE s.server_id = worlds.server_id);

-- The Idempotency-Key of a server's last registration: a repetition of it that arrives after the server has left does not
-- list it again.
ALTER TABLE servers ADD COLUMN registered_with TEXT;

-- The latest time of the database's clock that the sweep saw: by it, a clock that was set back is noticed.
CREATE TABLE clock_seen (
    id      BIGINT PRIMARY KEY,
    seen_at BIGINT NOT NULL
);
