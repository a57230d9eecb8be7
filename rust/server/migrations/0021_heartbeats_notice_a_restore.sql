-- Sequence of the heartbeat that found the database older than what its server had been told, because a backup was restored; 0
-- once a reply that says so has arrived.
ALTER TABLE servers ADD COLUMN rolled_back_at BIGINT NOT NULL DEFAULT 0;
