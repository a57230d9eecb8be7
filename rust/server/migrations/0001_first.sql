-- One schema for SQLite and PostgreSQL. Times are milliseconds since 1970 by the database's clock.

CREATE TABLE players (
    player_id     TEXT PRIMARY KEY,
    display_name  TEXT NOT NULL,
    email         TEXT UNIQUE,
    password_hash TEXT,
    device_hash   TEXT UNIQUE,
    banned_at     BIGINT,
    created_at    BIGINT NOT NULL
);

CREATE TABLE sessions (
    session_id TEXT PRIMARY KEY,
    player_id  TEXT NOT NULL REFERENCES players (player_id),
    revoked_at BIGINT,
    created_at BIGINT NOT NULL
);

-- Only hashes. used_at is set when the token is traded; its successor is derived, never stored.
CREATE TABLE refresh_tokens (
    token_hash TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (session_id),
    expires_at BIGINT NOT NULL,
    used_at    BIGINT
);
CREATE INDEX refresh_tokens_expiry ON refresh_tokens (expires_at);

-- Which account a keyed request made, so that its repetition makes no second one.
CREATE TABLE idempotency_keys (
    key_hash     TEXT PRIMARY KEY,
    request_hash TEXT NOT NULL,
    player_id    TEXT NOT NULL,
    created_at   BIGINT NOT NULL
);

CREATE TABLE secrets (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE server_keys (
    key_hash   TEXT PRIMARY KEY,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);

-- A row outlives its lease, so that a server that comes back keeps its id.
CREATE TABLE servers (
    server_id          TEXT PRIMARY KEY,
    key_hash           TEXT NOT NULL,
    instance_id        TEXT NOT NULL,
    name               TEXT NOT NULL,
    address            TEXT NOT NULL,
    port               BIGINT NOT NULL,
    map                TEXT NOT NULL,
    mode               TEXT NOT NULL,
    region             TEXT NOT NULL,
    version            TEXT NOT NULL,
    tags               TEXT NOT NULL,
    players            BIGINT NOT NULL,
    max_players        BIGINT NOT NULL,
    status             TEXT NOT NULL,
    heartbeat_sequence BIGINT NOT NULL,
    created_at         BIGINT NOT NULL,
    lease_until        BIGINT NOT NULL,
    UNIQUE (key_hash, instance_id)
);
CREATE INDEX servers_lease ON servers (lease_until);

CREATE TABLE used_tickets (
    jti             TEXT PRIMARY KEY,
    idempotency_key TEXT NOT NULL,
    expires_at      BIGINT NOT NULL
);

CREATE TABLE player_leases (
    player_id TEXT PRIMARY KEY REFERENCES players (player_id),
    server_id TEXT NOT NULL,
    epoch     BIGINT NOT NULL
);

CREATE TABLE documents (
    player_id    TEXT NOT NULL REFERENCES players (player_id),
    document_key TEXT NOT NULL,
    version      BIGINT NOT NULL,
    value        TEXT NOT NULL,
    epoch        BIGINT NOT NULL,
    sequence     BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    PRIMARY KEY (player_id, document_key)
);
