-- 1: a player hosts the room, and the address is that of a relay.
ALTER TABLE servers ADD COLUMN relay BIGINT NOT NULL DEFAULT 0;
