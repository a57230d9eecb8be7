-- Leases of players end by themselves, and can be given back.

ALTER TABLE player_leases RENAME TO former_player_leases;

-- The row outlives the lease: the epoch must go on growing, and goes on being the current one after a release.
CREATE TABLE player_leases (
    player_id   TEXT PRIMARY KEY REFERENCES players (player_id),
    -- NULL: released.
    server_id   TEXT,
    epoch       BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    -- The holder that had let its lease run out, if this one was taken and not given.
    taken_from  TEXT,
    -- Who was last told to wait, and when.
    wanted_by   TEXT,
    wanted_at   BIGINT
);

INSERT INTO player_leases (player_id, server_id, epoch, lease_until)
SELECT player_id, server_id, epoch, 0 FROM former_player_leases;

DROP TABLE former_player_leases;

CREATE INDEX player_leases_wanted ON player_leases (server_id, wanted_at);

-- Set by the save that begins a new epoch of a document, for the row below; 0 otherwise.
ALTER TABLE documents ADD COLUMN former_epoch BIGINT NOT NULL DEFAULT 0;
ALTER TABLE documents ADD COLUMN former_sequence BIGINT NOT NULL DEFAULT 0;

-- How far each epoch of a document had come when it was over: a save of it that is repeated later is known as one.
CREATE TABLE former_epochs (
    player_id    TEXT NOT NULL,
    document_key TEXT NOT NULL,
    epoch        BIGINT NOT NULL,
    sequence     BIGINT NOT NULL,
    version      BIGINT NOT NULL,
    ended_at     BIGINT NOT NULL,
    PRIMARY KEY (player_id, document_key, epoch)
);
CREATE INDEX former_epochs_ended ON former_epochs (ended_at);

-- Saves that came under an epoch that was over. One row per document and epoch, for the newest of its saves covers the
-- others. No reference to players: what is saved for an account that is gone must be kept too.
CREATE TABLE save_conflicts (
    conflict_id  TEXT PRIMARY KEY,
    player_id    TEXT NOT NULL,
    document_key TEXT NOT NULL,
    epoch        BIGINT NOT NULL,
    sequence     BIGINT NOT NULL,
    server_id    TEXT NOT NULL,
    value        TEXT NOT NULL,
    received_at  BIGINT NOT NULL,
    -- The row stays for a while, so that a late repetition of the save does not bring the conflict back.
    resolved_at  BIGINT,
    UNIQUE (player_id, document_key, epoch)
);
CREATE INDEX save_conflicts_resolved ON save_conflicts (resolved_at);
