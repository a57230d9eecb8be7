-- Keys of the operator's own tools, for the routes under /v1/admin.
CREATE TABLE admin_keys (
    key_hash     TEXT PRIMARY KEY,
    key_id       TEXT NOT NULL UNIQUE,
    label        TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    last_used_at BIGINT,
    revoked_at   BIGINT
);
