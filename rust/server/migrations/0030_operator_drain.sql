-- When the operator asked a server to drain and leave; NULL: not. Registering anew ends it.
ALTER TABLE servers ADD COLUMN drain_requested_at BIGINT;
