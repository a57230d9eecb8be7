-- Tokens that ended before their time, for game servers that verify tokens themselves.
CREATE TABLE revocations (
    revocation_id TEXT PRIMARY KEY,
    player_id     TEXT NOT NULL REFERENCES players (player_id),
    reason        TEXT NOT NULL,
    -- Milliseconds since 1970.
    revoked_at    BIGINT NOT NULL
);
CREATE INDEX revocations_age ON revocations (revoked_at, revocation_id);
