-- What a heartbeat changes may stand in no index: PostgreSQL would have to enter the whole row anew into all of them, and
-- to clean up after it. So the order by players stands beside the servers, and is written when their number has changed.
-- Its columns have names of their own, for it is joined with servers.
CREATE TABLE server_players (
    listed_id    TEXT PRIMARY KEY REFERENCES servers (server_id) ON DELETE CASCADE,
    player_count BIGINT NOT NULL
);
INSERT INTO server_players (listed_id, player_count) SELECT server_id, players FROM servers;
CREATE INDEX server_players_order ON server_players (player_count, listed_id);
DROP INDEX servers_players;

-- What the last heartbeat found in players, by which it tells whether it changed them.
ALTER TABLE servers ADD COLUMN players_before BIGINT;
