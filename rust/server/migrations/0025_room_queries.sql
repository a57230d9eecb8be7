-- What room lists filter and sort by. Each index serves a filter together with the order by name, and the order by its column.
-- Heartbeats repeat these columns; PostgreSQL enters a row anew only where one has changed.
CREATE INDEX servers_map ON servers (map, name, server_id);
CREATE INDEX servers_mode ON servers (mode, name, server_id);
CREATE INDEX servers_region ON servers (region, name, server_id);
CREATE INDEX servers_version ON servers (version, name, server_id);
CREATE INDEX servers_max_players ON servers (max_players, server_id);

-- The attributes of rooms once more, as they are compared: one of the three values is set.
CREATE TABLE room_attributes (
    server_id      TEXT NOT NULL REFERENCES servers (server_id) ON DELETE CASCADE,
    attribute_name TEXT NOT NULL,
    number_value   DOUBLE PRECISION,
    text_value     TEXT,
    flag_value     BIGINT,
    PRIMARY KEY (server_id, attribute_name)
);
