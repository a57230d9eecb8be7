-- Indexes of the leases that are held: most are not, and a planner that counts them in takes an index for useless and reads
-- all leases in order to find the few of a server.
DROP INDEX player_leases_wanted;
CREATE INDEX player_leases_wanted ON player_leases (server_id, wanted_at) WHERE server_id IS NOT NULL;
DROP INDEX worlds_server;
CREATE INDEX worlds_server ON worlds (server_id) WHERE server_id IS NOT NULL;
