-- Room lists are read in their order, and end with the page: what one costs does not grow with the number of servers.
CREATE INDEX servers_name ON servers (name, server_id);
CREATE INDEX servers_players ON servers (players, server_id);
CREATE INDEX servers_created ON servers (created_at, server_id);

-- Every heartbeat had to move its entry, and nothing but the sweep looked it up.
DROP INDEX servers_lease;

-- What the sweep looks for every minute, while it keeps writers waiting.
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);
CREATE INDEX used_tickets_expiry ON used_tickets (expires_at);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
