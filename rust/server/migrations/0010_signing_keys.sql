-- Several signing keys: one signs, others are published before they sign or after they did. Times are milliseconds since 1970.

CREATE TABLE signing_keys (
    kid        TEXT PRIMARY KEY,
    pkcs8      TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- From here on it signs, until a later one does.
    signs_from BIGINT NOT NULL,
    -- From here on it is no longer published: no token it signed is still good.
    retires_at BIGINT,
    revoked_at BIGINT
);
