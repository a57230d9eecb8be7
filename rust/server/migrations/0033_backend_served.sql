-- Until when a backend could store heartbeats, to about 15 s: what had a lease then gets another one when a backend starts.
CREATE TABLE backend_served (
    id        BIGINT PRIMARY KEY,
    served_at BIGINT NOT NULL
);
