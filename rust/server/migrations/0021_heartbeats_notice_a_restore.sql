-- Whether the last heartbeat found the database older than what its server had been told: a backup was restored.
ALTER TABLE servers ADD COLUMN rolled_back BIGINT NOT NULL DEFAULT 0;
