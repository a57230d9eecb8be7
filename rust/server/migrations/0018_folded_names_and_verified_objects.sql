-- The name as it is searched: case folded by the backend, for LOWER of SQLite knows ASCII alone. '': written by an earlier
-- build, and folded by the next start.
ALTER TABLE servers ADD COLUMN name_folded TEXT NOT NULL DEFAULT '';

-- Whether the backend has read the object and found the content that its hash names. 0: written by an earlier build, which
-- believed what was sent to a signed address. Such an object is asked for again, and replaced.
ALTER TABLE world_objects ADD COLUMN verified BIGINT NOT NULL DEFAULT 0;
