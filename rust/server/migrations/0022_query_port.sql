-- UDP port on which a server answers queries without the backend; NULL if it answers none.
ALTER TABLE servers ADD COLUMN query_port BIGINT;
