-- Places in rooms that are kept for players who have a ticket, until their server counts them. Expired rows count for nothing.
CREATE TABLE seats (
    -- Id (jti) of the ticket; an id of its own for a place that a party has and nobody has claimed.
    seat_id    TEXT PRIMARY KEY,
    server_id  TEXT NOT NULL REFERENCES servers (server_id) ON DELETE CASCADE,
    -- NULL: of a party, not claimed yet.
    player_id  TEXT,
    -- SHA-256 of the party's code. NULL: the player came alone.
    party_hash TEXT,
    -- Who reserved it for the party.
    leader_id  TEXT,
    expires_at BIGINT NOT NULL
);
CREATE INDEX seats_server ON seats (server_id, expires_at);
CREATE INDEX seats_player ON seats (player_id) WHERE player_id IS NOT NULL;
CREATE INDEX seats_party ON seats (party_hash) WHERE party_hash IS NOT NULL;
CREATE INDEX seats_leader ON seats (leader_id) WHERE leader_id IS NOT NULL;
CREATE INDEX seats_expiry ON seats (expires_at);
