-- Worlds: named chunks that point at objects, which lie in the object store.

-- The row outlives the lease: the epoch must go on growing, and goes on being the current one after a release.
CREATE TABLE worlds (
    world_id    TEXT PRIMARY KEY,
    -- NULL: released.
    server_id   TEXT,
    -- Which of that server's openings it is held under.
    opening     BIGINT NOT NULL,
    epoch       BIGINT NOT NULL,
    -- Of the last commit of this epoch.
    sequence    BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    version     BIGINT NOT NULL,
    created_at  BIGINT NOT NULL
);
CREATE INDEX worlds_server ON worlds (server_id);

-- What the object store holds. A location is used once: what is sent again lies elsewhere, so that removing an object
-- nobody refers to can never hit one that was sent a moment ago.
CREATE TABLE world_objects (
    hash         TEXT PRIMARY KEY,
    location     TEXT NOT NULL UNIQUE,
    stored_bytes BIGINT NOT NULL,
    -- When it was last sent or said to be here already.
    wanted_at    BIGINT NOT NULL
);
CREATE INDEX world_objects_wanted ON world_objects (wanted_at);

CREATE TABLE world_chunks (
    world_id   TEXT NOT NULL REFERENCES worlds (world_id),
    name       TEXT NOT NULL,
    hash       TEXT NOT NULL REFERENCES world_objects (hash),
    bytes      BIGINT NOT NULL,
    version    BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (world_id, name)
);
CREATE INDEX world_chunks_hash ON world_chunks (hash);

-- The results of commits, for those that are repeated.
CREATE TABLE world_commits (
    world_id     TEXT NOT NULL REFERENCES worlds (world_id),
    epoch        BIGINT NOT NULL,
    sequence     BIGINT NOT NULL,
    content_hash TEXT NOT NULL,
    version      BIGINT NOT NULL,
    committed_at BIGINT NOT NULL,
    PRIMARY KEY (world_id, epoch, sequence)
);
CREATE INDEX world_commits_age ON world_commits (committed_at);
