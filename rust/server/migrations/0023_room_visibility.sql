-- Who finds a room, what lets players in, and what a game adds to it.
ALTER TABLE servers ADD COLUMN visibility TEXT NOT NULL DEFAULT 'public';
-- argon2id. NULL: no password.
ALTER TABLE servers ADD COLUMN password_hash TEXT;
-- A JSON object of strings, numbers, true and false.
ALTER TABLE servers ADD COLUMN attributes TEXT NOT NULL DEFAULT '{}';
-- NULL: public rooms have none. Unique among all games of the database, so that an index can see to it.
ALTER TABLE servers ADD COLUMN invite_code TEXT;
CREATE UNIQUE INDEX servers_invite_code ON servers (invite_code) WHERE invite_code IS NOT NULL;
