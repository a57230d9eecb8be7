-- Tickets that wait for a match, and those that ended a while ago.
CREATE TABLE matchmaking_tickets (
    ticket_id TEXT PRIMARY KEY,
    -- game/environment
    scope TEXT NOT NULL,
    matchmaker TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    -- A player's id, or `key:` and the hash of a server key.
    creator TEXT NOT NULL,
    -- SHA-256 of the idempotency key and the body.
    request_key TEXT,
    party_size BIGINT NOT NULL,
    -- JSON.
    players TEXT NOT NULL,
    -- The running game that wants players.
    backfill_server_id TEXT,
    match_id TEXT,
    server_id TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    matched_at BIGINT,
    ended_at BIGINT
);
CREATE INDEX matchmaking_tickets_open ON matchmaking_tickets (scope, matchmaker, status) WHERE ended_at IS NULL;
CREATE INDEX matchmaking_tickets_ended ON matchmaking_tickets (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX matchmaking_tickets_match ON matchmaking_tickets (match_id) WHERE match_id IS NOT NULL;
CREATE INDEX matchmaking_tickets_matched ON matchmaking_tickets (scope, matchmaker, matched_at) WHERE matched_at IS NOT NULL;
CREATE UNIQUE INDEX matchmaking_tickets_request ON matchmaking_tickets (creator, request_key) WHERE request_key IS NOT NULL;

-- Who waits: a player has one open ticket.
CREATE TABLE matchmaking_players (
    scope TEXT NOT NULL,
    player_id TEXT NOT NULL,
    ticket_id TEXT NOT NULL,
    -- 1 or 0; NULL: no answer yet.
    accepted BIGINT,
    PRIMARY KEY (scope, player_id)
);
CREATE INDEX matchmaking_players_ticket ON matchmaking_players (ticket_id);

-- Matches that wait for answers or for a room, and the seats of those that have one, until the players are there.
CREATE TABLE matchmaking_matches (
    match_id TEXT PRIMARY KEY,
    scope TEXT NOT NULL,
    matchmaker TEXT NOT NULL,
    status TEXT NOT NULL,
    -- JSON.
    details TEXT NOT NULL,
    tickets BIGINT NOT NULL,
    seats BIGINT NOT NULL,
    server_id TEXT,
    deadline BIGINT NOT NULL
);
CREATE INDEX matchmaking_matches_status ON matchmaking_matches (scope, matchmaker, status);

-- The replica that forms the matches of a matchmaker.
CREATE TABLE matchmaking_leases (
    queue TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    lease_until BIGINT NOT NULL
);
