-- Until when the backends of a game and environment could store heartbeats, to about 15 s: what had a lease then gets another one
-- when one of them starts. checked_at shows that the database can be written.
CREATE TABLE backend_served (
    scope      TEXT PRIMARY KEY,
    served_at  BIGINT NOT NULL,
    checked_at BIGINT NOT NULL
);
