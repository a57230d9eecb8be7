-- Game servers that the backend starts: a row is there before anything is started for it.
CREATE TABLE allocations (
    allocation_id TEXT PRIMARY KEY,
    -- game/environment
    scope TEXT NOT NULL,
    -- requested, starting, ready, failed or ended.
    status TEXT NOT NULL,
    -- 1: started ahead of time, and nobody's yet.
    spare BIGINT NOT NULL,
    -- The player whose request it is for. NULL: a spare.
    creator TEXT,
    -- JSON.
    room TEXT NOT NULL,
    password_hash TEXT,
    -- SHA-256 of what quick play looks for: requests with the same one share a room that starts. NULL: a room of its own.
    quick_play_key TEXT,
    max_players BIGINT NOT NULL,
    -- The host that starts it. NULL: not chosen yet.
    host TEXT,
    server_id TEXT,
    reason TEXT NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL,
    -- Of the start.
    deadline BIGINT NOT NULL,
    -- Since when nobody is in the room or on the way to it.
    empty_since BIGINT,
    ended_at BIGINT
);
CREATE INDEX allocations_open ON allocations (scope, status) WHERE ended_at IS NULL;
CREATE INDEX allocations_creator ON allocations (creator) WHERE ended_at IS NULL AND creator IS NOT NULL;
CREATE INDEX allocations_ended ON allocations (ended_at) WHERE ended_at IS NOT NULL;

-- Players who wait for a room, or waited a while ago.
CREATE TABLE room_requests (
    scope TEXT NOT NULL,
    player_id TEXT NOT NULL,
    -- Chosen by the client.
    request_id TEXT NOT NULL,
    -- SHA-256 of what was requested.
    request_hash TEXT NOT NULL,
    allocation_id TEXT,
    seats BIGINT NOT NULL,
    -- When it was repeated last.
    polled_at BIGINT NOT NULL,
    PRIMARY KEY (scope, player_id, request_id)
);
CREATE INDEX room_requests_allocation ON room_requests (allocation_id) WHERE allocation_id IS NOT NULL;
CREATE INDEX room_requests_polled ON room_requests (polled_at);

-- JSON: the room that a server was started for, until the server has taken it over. Empty: a spare that is nobody's yet.
ALTER TABLE servers ADD COLUMN assigned_room TEXT;
